// Ten classes, two models: a row per class, which is also the button that chooses the class.

import { h, percent } from "./dom.js";

/**
 * @param {string[]} classNames
 * @param {string[]} models at most two names; the first is drawn larger
 * @param {(index: number) => void} onChoose
 */
export function createBars(classNames, models, onChoose) {
  const rows = classNames.map((name, k) => {
    const bars = models.map((_, m) => h(`div.live-bar.live-model${m}`));
    const numbers = models.map((_, m) => h(`span.live-number.live-model${m}`));
    const element = h(
      "button.live-row",
      { type: "button", onclick: () => onChoose(k) },
      h("span.live-name", {}, name),
      h("span.live-track", {}, ...bars),
      h("span.live-numbers", {}, ...numbers),
    );
    return { element, bars, numbers };
  });
  const legend = h(
    "p.live-legend",
    { "aria-hidden": "true" },
    ...models.map((name, m) => h(`span.live-key.live-model${m}`, {}, name)),
    h("span.live-key.live-false", {}, "reported, not there"),
    h("span.live-key.live-there", {}, "in the scene"),
  );
  const element = h(
    "div.live-bars",
    { role: "group", "aria-label": "Probability of every class. Choose one to see its reasons." },
    ...rows.map((row) => row.element),
  );

  /**
   * @param {Object<string, object>} results by model name
   * @param {Set<number>} present classes in the scene
   * @param {number} chosen
   */
  function update(results, present, chosen) {
    rows.forEach(({ element: row, bars, numbers }, k) => {
      const said = models.map((name) => results[name].probabilities[k]);
      const there = present.has(k);
      said.forEach((probability, m) => {
        bars[m].style.width = `${100 * probability}%`;
        bars[m].classList.toggle("live-false", !there && probability >= 0.5);
        numbers[m].textContent = percent(probability);
      });
      row.classList.toggle("live-present", there);
      row.setAttribute("aria-pressed", String(k === chosen));
      const spoken = models.map((name, m) => `${name} ${percent(said[m])}`).join(", ");
      const where = there ? "in the scene" : "not in the scene";
      row.setAttribute("aria-label", `${classNames[k]}: ${spoken}; ${where}`);
    });
  }

  return { element: h("div", {}, legend, element), update };
}
