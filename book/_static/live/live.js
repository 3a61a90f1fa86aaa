// The live figures of the book as one module in anywidget's form, so that the same file serves
// a page of the book, a page of its own (index.html) and a notebook:
//
//   import anywidget, traitlets
//   class Live(anywidget.AnyWidget):
//       _esm = "https://.../_static/live/live.js"
//       figure = traitlets.Unicode("scene").tag(sync=True)   # or "groups", "token"
//
// The model's fields: `figure`; `base`, the address of this folder, where the module cannot know
// it itself; `scene`, the text of a scene (scene.js), kept up to date; `answer`, what the models
// last said.

const FIGURES = { scene: "scene_view.js", groups: "groups_view.js", token: "token_view.js" };

/** Draw a figure in `el`. Returns what removes its listeners. */
async function render({ model, el }) {
  const base = new URL(model.get("base") || new URL(".", import.meta.url), document.baseURI).href;
  el.classList.add("live");
  try {
    await styled(base);
    const file = FIGURES[model.get("figure") || "scene"];
    const view = await import(`${base}${file}`);
    const stop = await view.draw({ model, el, base });
    el.dataset.state = "ready";
    return stop;
  } catch (error) {
    const { LoadError } = await import(`${base}weights.js`);
    el.dataset.state = "failed";
    const sentence = document.createElement("p");
    sentence.className = "live-problem";
    sentence.setAttribute("role", "alert");
    sentence.textContent =
      error instanceof LoadError
        ? error.message
        : "This figure needs a browser from 2022 or later: update yours, or read on.";
    el.prepend(sentence);
    if (!(error instanceof LoadError)) console.warn(error);
    return undefined;
  }
}

/** Load the style sheet once per document, and wait for it. */
function styled(base) {
  const address = `${base}live.css`;
  if (document.querySelector(`link[href="${address}"]`)) return Promise.resolve();
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = address;
  return new Promise((resolve) => {
    link.onload = link.onerror = resolve;
    document.head.append(link);
  });
}

export default { render };
