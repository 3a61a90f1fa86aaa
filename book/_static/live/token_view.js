// The figure "A token on its way to a probability": the tokens of a class's group, its gate, the
// adapters, the logit, step by step, with the numbers of a scene (chapter 4).

import { h, number, percent, show } from "./dom.js";
import { createEngine, newestOnly } from "./engine.js";
import { SIZE, decode, draw as drawScene, encode, loadHandwriting } from "./scene.js";
import { FRONT_PAGE } from "./steps.js";
import { sigmoid } from "./tensor.js";

const STAGES = [
  {
    title: "The tokens",
    text: (about) =>
      `The last block leaves one token h for each prompt. Class ${about.name} reads the tokens ` +
      `of its ${about.VIEW} group {${about.members}}, ${about.E} of them: its experts. A cell is ` +
      `one of the ${about.width} numbers of a token, blue below zero, red above.`,
  },
  {
    title: "The gate",
    text: (about) =>
      `Class ${about.name} has a vector u for each expert. Its product with the raw token is a ` +
      "score s; the softmax of the scores weighs the experts.",
  },
  {
    title: "The adapters",
    text: () =>
      "Each token passes its own small adapter and is added to what comes out: " +
      "z = h + W\u2082 GELU(W\u2081 h + b\u2081) + b\u2082.",
  },
  {
    title: "What each expert says",
    text: (about) =>
      `One vector w, the classifier of class ${about.name}, reads every adapted token: w \u00b7 z.`,
  },
  {
    title: "The mixture",
    text: (about) =>
      `The gate's weights mix the experts' answers, and a bias b is added: the ${about.VIEW} logit.`,
  },
  {
    title: "Two views, one probability",
    text: () => "The other view does the same with its own group. The mean of both is the answer.",
  },
];

/** Draw the figure; see live.js. */
export async function draw({ model, el, base }) {
  const [engine, pool] = await Promise.all([
    createEngine(base),
    loadHandwriting(`${base}digits.json`),
  ]);
  const { manifest } = engine;
  const mlvpt = manifest.models.find(({ method }) => method === "mlvpt");
  const views = Object.keys(mlvpt.groups);
  const names = manifest.class_names;
  const full = (model.get("scene") && decode(model.get("scene"), pool)) || decode(FRONT_PAGE, pool);
  const state = { k: 0, view: views[0], stage: 0, hidden: new Set() };
  let result = null;

  const picture = h("canvas.live-thumb", { width: SIZE, height: SIZE, role: "img" });
  const title = h("h3");
  const text = h("p");
  const table = h("div.live-walk");
  const sum = h("p.live-equation", { role: "status" });
  const choose = (label, options, pick, isOn) =>
    h(
      "div.live-buttons",
      { role: "group", "aria-label": label },
      h("span.live-about", {}, label),
      ...options.map(([value, words]) => {
        const button = h("button", { type: "button", onclick: () => pick(value) }, words);
        marks.push(() => button.setAttribute("aria-pressed", String(isOn(value))));
        return button;
      }),
    );
  const marks = [];
  const classes = choose(
    "Class",
    names.map((name, k) => [k, name]),
    (k) => set({ k }),
    (k) => k === state.k,
  );
  const sides = choose(
    "View",
    views.map((view) => [view, view.toUpperCase()]),
    (view) => set({ view }),
    (view) => view === state.view,
  );
  const shown = choose(
    "In the scene",
    full.items.map((item, i) => [i, String(item.digit)]).sort((a, b) => a[1] - b[1]),
    (i) => {
      if (!state.hidden.delete(i)) state.hidden.add(i);
      ask();
    },
    (i) => !state.hidden.has(i),
  );
  const back = h("button", { type: "button", onclick: () => step(-1) }, "Back");
  const next = h("button.live-primary", { type: "button", onclick: () => step(1) }, "Next");
  el.replaceChildren(
    h("div.live-walk-head", {}, picture, h("div", {}, shown, classes, sides)),
    h("div.live-step", {}, title, text),
    table,
    sum,
    h("div.live-buttons", { role: "group", "aria-label": "Steps" }, back, next),
  );

  const request = newestOnly(engine.run, (answer) => {
    result = answer.results[mlvpt.name];
    model.set("answer", { ...answer, scene: encode(scene()) });
    model.save_changes?.();
    refresh();
    request.first();
  });
  const first = new Promise((resolve) => (request.first = resolve));
  ask();
  await first;

  function scene() {
    return { ...full, items: full.items.filter((_, i) => !state.hidden.has(i)) };
  }

  function ask() {
    const pixels = drawScene(scene(), pool);
    show(picture, pixels);
    const digits = scene().items.map(({ digit }) => digit);
    picture.setAttribute("aria-label", `The scene, with ${digits.join(", ") || "no digit"}`);
    request(pixels);
  }

  function set(fields) {
    Object.assign(state, fields);
    refresh();
  }

  function step(by) {
    set({ stage: Math.min(STAGES.length - 1, Math.max(0, state.stage + by)) });
  }

  function refresh() {
    marks.forEach((mark) => mark());
    const { k, view, stage } = state;
    const found = result.views[view];
    const group = mlvpt.groups[view][k];
    const E = mlvpt.experts_per_group;
    const { width } = manifest.backbone;
    const about = {
      name: names[k],
      VIEW: view.toUpperCase(),
      E,
      width,
      members: names.filter((_, j) => mlvpt.groups[view][j] === group).join(", "),
    };
    title.textContent = `${stage + 1} of ${STAGES.length}. ${STAGES[stage].title}`;
    text.textContent = STAGES[stage].text(about);
    back.disabled = stage === 0;
    next.disabled = stage === STAGES.length - 1;
    table.replaceChildren(
      ...Array.from({ length: E }, (_, e) => {
        const token = (group * E + e) * width;
        const at = k * E + e;
        const cells = [
          strip("h", found.tokens.subarray(token, token + width), true),
          fact(stage >= 1, stage === 1, "s = u \u00b7 h", number(found.scores[at])),
          gate(stage >= 1, stage === 1, found.gates[at]),
          strip("z", found.adapted.subarray(token, token + width), stage >= 2, stage === 2),
          fact(stage >= 3, stage === 3, "w \u00b7 z", number(found.expertLogits[at])),
        ];
        return h("div.live-expert", {}, h("h4", {}, `Expert ${e + 1}`), ...cells);
      }),
    );
    const part = (v) => {
      const { gates, expertLogits, bias, logits } = result.views[v];
      const terms = Array.from(
        { length: E },
        (_, e) => `${number(gates[k * E + e])} \u00d7 ${signed(expertLogits[k * E + e])}`,
      );
      return `${v.toUpperCase()} logit = ${terms.join(" + ")} + ${signed(bias[k])} = ${number(logits[k])}`;
    };
    const lines = [];
    if (stage === 4) lines.push(part(view));
    if (stage === 5) {
      lines.push(...views.map(part));
      const mean = result.logits[k];
      const logits = views.map((v) => signed(result.views[v].logits[k])).join(" + ");
      lines.push(
        `Prediction = (${logits}) / ${views.length} = ${number(mean)}`,
        `Probability of ${names[k]} = sigmoid(${number(mean)}) = ${percent(sigmoid(mean))}`,
      );
    }
    sum.replaceChildren(...lines.map((line) => h("span", {}, line)));
  }
}

const signed = (value) => (value < 0 ? `(${number(value)})` : number(value));

/** A number with its formula; hidden until its step comes. */
function fact(known, isNew, formula, value) {
  return h(
    `div.live-fact${isNew ? ".live-new" : ""}`,
    {},
    h("small", {}, formula),
    h("strong", {}, known ? value : "\u00b7"),
  );
}

function gate(known, isNew, value) {
  const bar = h("span.live-weight", {}, h("span", { style: { width: `${100 * value}%` } }));
  return h(
    `div.live-fact${isNew ? ".live-new" : ""}`,
    {},
    h("small", {}, "softmax"),
    h("strong", {}, known ? percent(value) : "\u00b7"),
    known ? bar : "",
  );
}

/** A vector as a strip of coloured cells. */
function strip(name, values, known, isNew = false) {
  const columns = 24;
  const rows = values.length / columns;
  const canvas = h("canvas", { width: columns, height: rows, role: "img" });
  canvas.setAttribute("aria-label", `The ${values.length} numbers of ${name}`);
  const context = canvas.getContext("2d");
  values.forEach((value, i) => {
    const strength = Math.min(1, Math.abs(value) / 3);
    context.fillStyle = value < 0 ? `rgb(1 115 178 / ${strength})` : `rgb(213 62 42 / ${strength})`;
    if (known) context.fillRect(i % columns, Math.floor(i / columns), 1, 1);
  });
  return h(`div.live-strip${isNew ? ".live-new" : ""}`, {}, h("small", {}, name), canvas);
}
