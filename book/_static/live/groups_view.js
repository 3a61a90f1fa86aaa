// The figure "Labels that group themselves": VOC2007 or COCO2014, regrouped while tau and the
// number of groups change.

import { h, list, slider } from "./dom.js";
import { createClerk, newestOnly } from "./engine.js";
import { fetchOrFail } from "./weights.js";

const NAMES = { voc2007: "VOC2007", coco2014: "COCO2014" };
const VIEWS = {
  co: ["CO groups", "classes seen together"],
  dc: ["DC groups", "classes that exclude each other"],
};
const MOST_GROUPS = 8;
const CAPTION =
  "M\u207a, the CO affinity, classes in the order of their CO groups: the stronger the colour, " +
  "the more often two classes are seen together.";

/** Draw the figure; see live.js. */
export async function draw({ model, el, base }) {
  const [ask, labels] = await Promise.all([createClerk(base), loadLabels(`${base}labels.json`)]);
  const settings = { data: "voc2007", tau: 2, nGroups: 5 };
  let before = null; // groups before the last change, to say who moved
  let repaint = () => {}; // in the colours of the page's theme
  const boards = Object.fromEntries(
    Object.entries(VIEWS).map(([view, words]) => [view, createBoard(view, ...words)]),
  );
  const picture = h("canvas.live-affinity", { role: "img" });
  const caption = h("figcaption", {}, CAPTION);
  picture.addEventListener("pointermove", ({ offsetX, offsetY }) => {
    const pair = picture.pairAt?.(offsetX / picture.clientWidth, offsetY / picture.clientHeight);
    caption.textContent = pair || CAPTION;
  });
  picture.addEventListener("pointerleave", () => (caption.textContent = CAPTION));
  const spoken = h("p.live-spoken.live-shown", { role: "status" });
  const request = newestOnly(ask, onAnswer);

  const choices = Object.entries(NAMES).map(([data, name]) =>
    h("button", { type: "button", onclick: () => change({ data }) }, name),
  );
  const tau = slider({
    label: "\u03c4",
    min: 1,
    max: 5,
    step: 0.1,
    value: settings.tau,
    write: (value) => value.toFixed(1),
    oninput: (value) => change({ tau: value }),
  });
  tau.input.setAttribute("aria-label", "tau, the root that tempers the counts");
  const count = slider({
    label: "Groups",
    min: 2,
    max: MOST_GROUPS,
    step: 1,
    value: settings.nGroups,
    oninput: (value) => change({ nGroups: value }),
  });
  el.replaceChildren(
    h(
      "div.live-controls",
      {},
      h("div.live-buttons", { role: "group", "aria-label": "Data set" }, ...choices),
      tau.element,
      count.element,
    ),
    h(
      "div.live-columns.live-grouping",
      {},
      h("figure.live-left", {}, picture, caption),
      h("div.live-right", {}, boards.co.element, boards.dc.element),
    ),
    spoken,
  );
  new MutationObserver(() => repaint()).observe(document.documentElement, {
    attributeFilter: ["data-theme"],
  });
  const first = new Promise((resolve) => (onAnswer.first = resolve));
  change({});
  await first;

  function change(fields) {
    if (fields.data && fields.data !== settings.data) before = null;
    Object.assign(settings, fields);
    choices.forEach((button, i) =>
      button.setAttribute("aria-pressed", String(Object.keys(NAMES)[i] === settings.data)),
    );
    const { counts } = labels[settings.data];
    request({ counts, tau: settings.tau, nGroups: settings.nGroups, data: settings.data });
  }

  function onAnswer({ co, dc, affinity }, { data, tau: usedTau, nGroups }) {
    const found = { co, dc };
    const { names } = labels[data];
    const moved = {};
    for (const view of Object.keys(VIEWS)) {
      if (before) found[view] = likeBefore(found[view], before[view]);
      moved[view] = names.filter((_, k) => before && before[view][k] !== found[view][k]);
      boards[view].update(found[view], names, moved[view]);
    }
    repaint = () => paint(picture, affinity, found.co, names);
    repaint();
    picture.setAttribute("aria-label", `Affinities of the ${names.length} classes`);
    const both = [...new Set([...moved.co, ...moved.dc])];
    const who = before ? ` ${moves(both)}` : "";
    spoken.textContent =
      `${NAMES[data]}, \u03c4 = ${usedTau.toFixed(1)}: ${names.length} classes in ${nGroups} ` +
      `groups per view.${who}`;
    before = found;
    model.set("answer", { co, dc, data, tau: usedTau, nGroups });
    model.save_changes?.();
    onAnswer.first();
  }
}

async function loadLabels(address) {
  const response = await fetchOrFail(address, "The label counts");
  const found = await response.json();
  return Object.fromEntries(
    Object.entries(found).map(([data, { class_names, counts }]) => [
      data,
      { names: class_names, counts: counts.map((row) => row.split(" ").map(Number)) },
    ]),
  );
}

function moves(names) {
  if (!names.length) return "Nobody moved.";
  if (names.length > 6) return `${names.length} classes moved.`;
  return `Moved: ${list(names)}.`;
}

/** One view: a box per group, a chip per class. */
function createBoard(view, title, explanation) {
  const boxes = h("div.live-boxes");
  const element = h(
    `section.live-board.live-${view}`,
    { "aria-label": title },
    h("h3", {}, title, h("small", {}, ` ${explanation}`)),
    boxes,
  );
  const chips = new Map();

  function update(groups, names, moved) {
    const old = new Map([...chips].map(([name, chip]) => [name, chip.getBoundingClientRect()]));
    chips.clear();
    const numbers = [...new Set(groups)].sort((a, b) => a - b);
    boxes.replaceChildren(
      ...numbers.map((number) => {
        const members = names.filter((_, k) => groups[k] === number);
        const box = h(`ul.live-box.live-colour${number % 8}`, {
          "aria-label": `Group of ${members.length}`,
        });
        members.forEach((name) => {
          const chip = h("li", {}, name);
          if (moved.includes(name)) chip.classList.add("live-moved");
          chips.set(name, chip);
          box.append(chip);
        });
        return box;
      }),
    );
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    for (const [name, chip] of chips) fly(chip, old.get(name));
  }

  return { element, update };
}

/** Let an element arrive from where it was. */
function fly(element, from) {
  if (!from) return;
  const to = element.getBoundingClientRect();
  const [x, y] = [from.left - to.left, from.top - to.top];
  if (x || y) {
    element.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], {
      duration: 350,
      easing: "ease-out",
    });
  }
}

/**
 * Groups renumbered so that each keeps the number (the colour, the place) of the earlier group
 * that it shares most classes with.
 */
function likeBefore(groups, earlier) {
  const shared = [];
  const count = Math.max(...groups) + 1;
  for (let g = 0; g < count; g++) {
    for (let e = 0; e < MOST_GROUPS; e++) {
      const n = groups.filter((group, k) => group === g && earlier[k] === e).length;
      shared.push([n, g, e]);
    }
  }
  shared.sort((a, b) => b[0] - a[0]);
  const [numbers, taken] = [new Map(), new Set()];
  for (const [, g, e] of shared) {
    if (numbers.has(g) || taken.has(e)) continue;
    numbers.set(g, e);
    taken.add(e);
  }
  return groups.map((group) => numbers.get(group));
}

/** The affinities as a picture, one pixel a pair, classes sorted by group, groups outlined. */
function paint(canvas, affinity, groups, names) {
  const order = groups.map((_, k) => k).sort((a, b) => groups[a] - groups[b] || a - b);
  const n = order.length;
  const cell = Math.max(4, Math.floor(480 / n));
  canvas.width = canvas.height = n * cell;
  const context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const [ground, ink] = ["--live-low", "--live-high"].map((name) =>
    style.getPropertyValue(name).trim(),
  );
  context.fillStyle = ground;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = ink;
  order.forEach((i, row) =>
    order.forEach((j, column) => {
      context.globalAlpha = affinity[i][j];
      context.fillRect(column * cell, row * cell, cell, cell);
    }),
  );
  canvas.pairAt = (x, y) => {
    const [i, j] = [order[Math.floor(y * n)], order[Math.floor(x * n)]];
    if (i === undefined || j === undefined || i === j) return "";
    return `M\u207a of ${names[i]} and ${names[j]}: ${affinity[i][j].toFixed(2)}`;
  };
  context.globalAlpha = 1;
  context.strokeStyle = style.getPropertyValue("--live-accent").trim();
  context.lineWidth = 2;
  for (let start = 0; start < n;) {
    let end = start;
    while (end < n && groups[order[end]] === groups[order[start]]) end++;
    const side = (end - start) * cell - 2;
    context.strokeRect(start * cell + 1, start * cell + 1, side, side);
    start = end;
  }
}
