// Building a page without a framework.

/**
 * An element.
 *
 * @param {string} tag name, with classes after dots: "div.live-bar"
 * @param {object} attributes `on...` are listeners, `style` an object of properties
 * @param {...(Node|string)} children
 */
export function h(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") Object.assign(element.style, value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** A slider with its name before it and its value behind it. */
export function slider({ label, min, max, step, value, write = String, oninput }) {
  const output = h("output", {}, write(value));
  const input = h("input", {
    type: "range",
    min,
    max,
    step,
    value,
    oninput: () => {
      output.textContent = write(+input.value);
      oninput(+input.value);
    },
  });
  const element = h("label.live-slider", {}, h("span", {}, label), input, output);
  const set = (next) => {
    input.value = next;
    output.textContent = write(next);
  };
  return { element, input, set };
}

/** A number of two digits, with a real minus sign. */
export function number(value, digits = 2) {
  return value.toFixed(digits).replace("-", "\u2212");
}

export const percent = (probability) => `${Math.round(100 * probability)}%`;

/** "1, 2 and 4" */
export function list(words) {
  if (words.length < 2) return words.join("");
  return `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`;
}

/** Put RGB pixels (height, width, 3) on a canvas of that size. */
export function show(canvas, pixels) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < canvas.width * canvas.height; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = pixels[3 * i + c];
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}
