// The guided steps above the scene.

import { h } from "./dom.js";
import { STEPS } from "./steps.js";

/** @param {(step: object|null) => void} onStep called with a step, or null for one's own play */
export function createGuide(onStep) {
  let at = 0;
  const dots = STEPS.map((step, i) =>
    h("button.live-dot", { type: "button", onclick: () => go(i) }, String(i + 1)),
  );
  const title = h("h3");
  const text = h("p");
  const next = h("button.live-primary", {
    type: "button",
    onclick: () => go(at === STEPS.length - 1 ? null : at + 1),
  });
  const element = h(
    "section.live-guide",
    { "aria-label": "Guided steps" },
    h("div.live-dots", { role: "group", "aria-label": "Steps" }, ...dots),
    h("div.live-step", {}, title, text),
    next,
  );

  function go(i) {
    show(i);
    onStep(i === null ? null : STEPS[i]);
  }

  /** Show a step; null shows the invitation to play. */
  function show(i) {
    at = i ?? -1;
    title.textContent = i === null ? "Now you" : STEPS[i].title;
    text.textContent =
      i === null
        ? "Drag digits into the scene, move them, pull their corner, drag them off its edge. " +
          "Can you make a model report a digit that is not there?"
        : STEPS[i].text;
    const after = i === null ? STEPS[0] : STEPS[i + 1];
    next.textContent = after ? after.action : "Play on your own";
    dots.forEach((dot, j) => {
      dot.setAttribute("aria-current", j === i ? "step" : "false");
      dot.setAttribute("aria-label", `Step ${j + 1}: ${STEPS[j].title}`);
    });
  }

  return { element, show };
}
