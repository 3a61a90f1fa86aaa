// A classic script for pages: replaces each still picture in <div class="mlvpt-live"> by its live
// figure. Without scripts, or from a file without a server, the picture stays.

(() => {
  if (window.mlvptLive) return; // a page may hold several figures, each with this script
  const base = new URL(".", document.currentScript.src).href;
  window.mlvptLive = base;

  /** The smallest model that anywidget's form asks for. */
  function pageModel(fields) {
    const listeners = {};
    return {
      get: (key) => fields[key],
      set: (key, value) => {
        fields[key] = value;
        (listeners[`change:${key}`] || []).forEach((listener) => listener());
      },
      on: (event, listener) => (listeners[event] ??= []).push(listener),
      off: () => {},
      save_changes: () => {},
    };
  }

  async function start(place) {
    if (location.protocol === "file:") {
      const note = document.createElement("p");
      note.textContent =
        "This figure comes alive on a web server: run python -m http.server in the folder of " +
        "these pages, and open the address that it names.";
      place.append(note);
      return;
    }
    const still = [...place.childNodes];
    const el = document.createElement("div");
    const scene = new URLSearchParams(location.search).get("scene");
    const figure = place.dataset.figure || "scene";
    const model = pageModel({ figure, base, scene: figure === "scene" ? scene : null });
    place.model = model;
    place.append(el);
    const { default: widget } = await import(`${base}live.js`);
    await widget.render({ model, el });
    if (el.dataset.state === "ready") still.forEach((node) => node.remove());
  }

  /** Figures load when they come near the window. */
  function startAll() {
    const watcher = new IntersectionObserver(
      (entries) => {
        for (const { isIntersecting, target } of entries) {
          if (!isIntersecting) continue;
          watcher.unobserve(target);
          start(target);
        }
      },
      { rootMargin: "600px" },
    );
    document.querySelectorAll(".mlvpt-live").forEach((place) => watcher.observe(place));
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", startAll);
  else startAll();
})();
