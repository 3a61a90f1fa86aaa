// The picture one can touch: a canvas, and over it one button per digit, so that pointers, keys
// and screen readers all find the same thing.

import { h, show } from "./dom.js";
import { SIZE, draw, newItem, tidy } from "./scene.js";

const OUTSIDE = 3; // pixels beyond the edge at which a digit is let go

/**
 * @param {object} options
 * @param {object} options.pool handwriting
 * @param {(scene: object, selected: number|null, done: boolean) => void} options.onChange a new
 *   scene; `done` is false while a pointer is still moving
 * @returns {{element: HTMLElement, update: Function, addDigit: Function, paletteFor: Function}}
 */
export function createStage({ pool, onChange }) {
  const canvas = h("canvas", { width: SIZE, height: SIZE, "aria-hidden": "true" });
  const element = h(
    "div.live-stage",
    {
      role: "group",
      "aria-label":
        "The scene. Tab to a digit: arrow keys move it, plus and minus resize it, comma and " +
        "full stop turn it, Delete removes it.",
      onpointerdown: (event) => event.target === canvas && onChange(scene, null, true),
    },
    canvas,
  );
  const buttons = [];
  let scene = null;
  let selected = null;

  /** Show a scene. Returns its pixels. */
  function update(next, nextSelected) {
    scene = next;
    selected = nextSelected;
    const pixels = draw(scene, pool);
    show(canvas, pixels);
    while (buttons.length < scene.items.length) buttons.push(itemButton(buttons.length));
    while (buttons.length > scene.items.length) buttons.pop().remove();
    scene.items.forEach((item, i) => {
      const button = buttons[i];
      const [width, height] = [item.height * item.aspect * 0.8, item.height * 0.8];
      Object.assign(button.style, {
        left: `${(100 * (item.x - width / 2)) / SIZE}%`,
        top: `${(100 * (item.y - height / 2)) / SIZE}%`,
        width: `${(100 * width) / SIZE}%`,
        height: `${(100 * height) / SIZE}%`,
        transform: `rotate(${item.angle}rad)`,
      });
      button.dataset.digit = item.digit;
      button.setAttribute("aria-pressed", String(i === selected));
      button.setAttribute(
        "aria-label",
        `Digit ${item.digit}, column ${Math.round(item.x)}, row ${Math.round(item.y)} of ${SIZE}`,
      );
    });
    return pixels;
  }

  function change(i, fields, done = true) {
    const items = scene.items.slice();
    items[i] = tidy({ ...items[i], ...fields });
    onChange({ ...scene, items }, i, done);
  }

  function remove(i) {
    const items = scene.items.filter((_, j) => j !== i);
    onChange({ ...scene, items }, null, true);
    (
      buttons[Math.min(i, items.length - 1)] || element.parentElement.querySelector("button")
    )?.focus();
  }

  function itemButton(i) {
    const handle = h("span.live-handle", { "aria-hidden": "true" });
    const button = h("button.live-item", { type: "button" }, handle);
    button.addEventListener("focus", () => selected !== i && onChange(scene, i, true));
    button.addEventListener("keydown", (event) => onKey(event, i));
    button.addEventListener("pointerdown", (event) => {
      event.preventDefault(); // no text selection, no native drag
      button.focus({ preventScroll: true });
      const item = scene.items[i];
      const from = place(event);
      if (event.target === handle) {
        const reach = Math.hypot(from.x - item.x, from.y - item.y);
        follow(event, button, (at, done) => {
          const factor = Math.hypot(at.x - item.x, at.y - item.y) / reach;
          change(i, { height: item.height * factor }, done);
        });
      } else {
        follow(event, button, (at, done) => {
          const away = isAway(at);
          button.classList.toggle("live-away", away && !done);
          if (away && done) remove(i);
          else change(i, { x: item.x + at.x - from.x, y: item.y + at.y - from.y }, done);
        });
      }
    });
    element.append(button);
    return button;
  }

  function onKey(event, i) {
    const item = scene.items[i];
    const step = event.shiftKey ? 4 : 1;
    const keys = {
      ArrowLeft: { x: item.x - step },
      ArrowRight: { x: item.x + step },
      ArrowUp: { y: item.y - step },
      ArrowDown: { y: item.y + step },
      "+": { height: item.height + 1 },
      "=": { height: item.height + 1 },
      "-": { height: item.height - 1 },
      ",": { angle: item.angle - 0.1 },
      ".": { angle: item.angle + 0.1 },
    };
    if (event.key in keys) change(i, keys[event.key]);
    else if (event.key === "Delete" || event.key === "Backspace") remove(i);
    else if (event.key === "Escape") onChange(scene, null, true);
    else return;
    event.preventDefault();
  }

  /** Where a pointer is, in pixels of the scene. */
  function place(event) {
    const box = canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * SIZE,
      y: ((event.clientY - box.top) / box.height) * SIZE,
    };
  }

  const isAway = ({ x, y }) =>
    x < -OUTSIDE || y < -OUTSIDE || x > SIZE + OUTSIDE || y > SIZE + OUTSIDE;

  /** Call `onMove(place, done)` until the pointer is lifted. */
  function follow(event, target, onMove) {
    target.setPointerCapture?.(event.pointerId);
    const move = (next) => next.pointerId === event.pointerId && onMove(place(next), false);
    const end = (next) => {
      if (next.pointerId !== event.pointerId) return;
      target.removeEventListener("pointermove", move);
      target.removeEventListener("pointerup", end);
      target.removeEventListener("pointercancel", end);
      onMove(place(next), true);
    };
    target.addEventListener("pointermove", move);
    target.addEventListener("pointerup", end);
    target.addEventListener("pointercancel", end);
  }

  /** Put a digit where there is most room. */
  function addDigit(digit) {
    let best = { gap: -1 };
    for (let x = 10; x <= 38; x += 7) {
      for (let y = 10; y <= 38; y += 7) {
        const gaps = scene.items.map((item) => Math.hypot(item.x - x, item.y - y));
        const gap = Math.min(99, ...gaps) - 0.01 * Math.hypot(x - 24, y - 24);
        if (gap > best.gap) best = { x, y, gap };
      }
    }
    insert(digit, best, true);
  }

  function insert(digit, { x, y }, done) {
    const image = Math.floor(Math.random() * pool.byDigit[digit].length);
    const item = tidy(newItem(scene, digit, image, x, y));
    onChange({ ...scene, items: [...scene.items, item] }, scene.items.length, done);
  }

  /** A digit of the palette: click to add it, or drag it into the scene. */
  function paletteButton(digit) {
    const face = h("canvas", { width: 40, height: 40, "aria-hidden": "true" });
    const label = `Add a ${digit}`;
    const button = h("button", { type: "button", "aria-label": label, title: label }, face);
    let dragged = false;
    button.addEventListener("click", () => {
      if (!dragged) addDigit(digit);
      dragged = false;
    });
    button.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      const before = scene;
      const start = { x: event.clientX, y: event.clientY };
      const ghost = h("canvas.live-ghost", { width: 40, height: 40 });
      const image = Math.floor(Math.random() * pool.byDigit[digit].length);
      dragged = false;
      const carry = (next) => {
        dragged ||= Math.hypot(next.clientX - start.x, next.clientY - start.y) > 6;
        if (!dragged) return;
        const at = place(next);
        const inside = at.x > 0 && at.y > 0 && at.x < SIZE && at.y < SIZE;
        ghost.hidden = inside;
        Object.assign(ghost.style, { left: `${next.clientX}px`, top: `${next.clientY}px` });
        if (!ghost.isConnected) {
          ghost.getContext("2d").drawImage(face, 0, 0);
          element.append(ghost);
        }
        const item = tidy(newItem(before, digit, image, at.x, at.y));
        if (inside) {
          onChange({ ...before, items: [...before.items, item] }, before.items.length, false);
        } else if (scene !== before) onChange(before, null, false);
      };
      const end = () => {
        button.removeEventListener("pointermove", carry);
        ghost.remove();
        if (dragged) onChange(scene, selected, true);
      };
      button.setPointerCapture?.(event.pointerId);
      button.addEventListener("pointermove", carry);
      button.addEventListener("pointerup", end, { once: true });
      button.addEventListener("pointercancel", end, { once: true });
    });
    return { button, face };
  }

  /** The ten digits to add. */
  function palette(paintFace) {
    const keys = Array.from({ length: 10 }, (_, digit) => paletteButton(digit));
    keys.forEach(({ face }, digit) => paintFace(face, digit));
    const row = h("div.live-palette", { role: "group", "aria-label": "Digits to add" });
    row.append(...keys.map(({ button }) => button));
    return row;
  }

  return { element, update, addDigit, palette, change, remove };
}
