// Why a class has its probability: its group in each view, where the group's prompts look, how
// its gate weighs the experts, and the two logits whose mean decides.

import { h, number, percent, show } from "./dom.js";
import { SIZE } from "./scene.js";
import { sigmoid } from "./tensor.js";

const VIEWS = {
  co: "CO group, seen together",
  dc: "DC group, told apart",
};

/** @param {object} manifest as exported @param {object} model its ML-VPT entry */
export function createReasons(manifest, model) {
  const names = manifest.class_names;
  const heading = h("h3");
  const equation = h("p.live-equation");
  const cards = Object.keys(model.groups).map((view) => {
    const group = h("p.live-group");
    const picture = h("canvas.live-attention", { width: SIZE, height: SIZE, role: "img" });
    const gates = h("div.live-gates", { role: "img" });
    const logit = h("strong");
    const element = h(
      `section.live-view.live-${view}`,
      {},
      h("h4", {}, VIEWS[view]),
      group,
      h(
        "div.live-view-body",
        {},
        picture,
        h("div", {}, h("p", {}, "logit ", logit), h("small", {}, "gate"), gates),
      ),
    );
    return { view, element, group, picture, gates, logit };
  });
  const element = h(
    "section.live-reasons",
    { "aria-label": "Reasons for the chosen class" },
    heading,
    h("div.live-views", {}, ...cards.map((card) => card.element)),
    equation,
  );

  /**
   * @param {object} result of ML-VPT
   * @param {number} k the chosen class
   * @param {Uint8Array} pixels (48, 48, 3)
   */
  function update(result, k, pixels) {
    const probability = result.probabilities[k];
    heading.textContent = `Why ${percent(probability)} for ${names[k]}? ML-VPT's reasons`;
    const logits = cards.map((card) => {
      const found = result.views[card.view];
      const group = model.groups[card.view][k];
      const members = names.filter((_, j) => model.groups[card.view][j] === group);
      card.group.textContent = `{${members.join(", ")}}`;
      card.logit.textContent = number(found.logits[k]);
      showAttention(card.picture, pixels, found.attention, group, manifest);
      card.picture.setAttribute("aria-label", whereItLooks(found.attention, group, manifest));
      const E = model.experts_per_group;
      const gates = [...found.gates.subarray(k * E, k * E + E)];
      card.gates.replaceChildren(
        ...gates.map((gate) =>
          h("span", { style: { flexGrow: gate } }, gate > 0.34 ? `${percent(gate)}` : ""),
        ),
      );
      card.gates.setAttribute(
        "aria-label",
        `The gate gives ${gates.map((gate, e) => `expert ${e + 1} ${percent(gate)}`).join(", ")}`,
      );
      return found.logits[k];
    });
    const mean = logits.reduce((a, b) => a + b, 0) / logits.length;
    const sum = logits.map((value) => (value < 0 ? `(${number(value)})` : number(value)));
    equation.textContent =
      `Prediction: (${sum.join(" + ")}) / ${logits.length} = ${number(mean)}, ` +
      `and its sigmoid is ${percent(sigmoid(mean))}.`;
  }

  return { element, update };
}

/** The scene in grey, lit where the prompts of a group look. */
function showAttention(canvas, pixels, attention, group, manifest) {
  const [ph, pw] = manifest.backbone.patch_size;
  const columns = SIZE / pw;
  const n = columns * (SIZE / ph);
  const map = attention.subarray(group * n, (group + 1) * n);
  const most = Math.max(...map);
  const lit = new Uint8Array(pixels.length);
  for (let i = 0; i < SIZE * SIZE; i++) {
    const patch = Math.floor(Math.floor(i / SIZE) / ph) * columns + Math.floor((i % SIZE) / pw);
    const share = map[patch] / most;
    const grey = (pixels[3 * i] + pixels[3 * i + 1] + pixels[3 * i + 2]) / 3;
    const shown = grey * (0.45 + 0.55 * share);
    lit[3 * i] = Math.min(255, shown + 110 * share ** 1.5);
    lit[3 * i + 1] = Math.min(255, shown + 60 * share ** 1.5);
    lit[3 * i + 2] = shown * (1 - 0.35 * share);
  }
  show(canvas, lit);
}

function whereItLooks(attention, group, manifest) {
  const columns = SIZE / manifest.backbone.patch_size[1];
  const n = columns * (SIZE / manifest.backbone.patch_size[0]);
  const map = [...attention.subarray(group * n, (group + 1) * n)];
  const best = map.indexOf(Math.max(...map));
  const total = map.reduce((a, b) => a + b, 0);
  return (
    `Attention of the group's prompts: most, ${percent(map[best] / total)}, on the patch in ` +
    `row ${Math.floor(best / columns) + 1}, column ${(best % columns) + 1} of ${columns}`
  );
}
