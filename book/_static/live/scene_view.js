// The figure "A scene you can touch": puts its parts together and keeps the scene.

import { createBars } from "./bars.js";
import { h, list, percent, slider } from "./dom.js";
import { createEngine, newestOnly } from "./engine.js";
import { createGuide } from "./guide.js";
import { createReasons } from "./reasons.js";
import {
  CONTEXTS,
  LOOK_ALIKES,
  MOST_CLUTTER,
  MOST_NOISE,
  decode,
  emptyScene,
  encode,
  enlarge,
  loadHandwriting,
  randomScene,
} from "./scene.js";
import { createStage } from "./stage.js";
import { FRONT_PAGE } from "./steps.js";

/** Draw the figure; see live.js. */
export async function draw({ model, el, base }) {
  const [engine, pool] = await Promise.all([
    createEngine(base),
    loadHandwriting(`${base}digits.json`),
  ]);
  const { manifest } = engine;
  const mlvpt = manifest.models.find(({ method }) => method === "mlvpt");
  const names = manifest.models.map(({ name }) => name);

  let scene = decode(FRONT_PAGE, pool);
  let selected = null;
  let chosen = 0;
  let answer = null;
  let pixels = null;
  const past = [];
  const times = [];

  const stage = createStage({ pool, onChange: change });
  const bars = createBars(manifest.class_names, names, (k) => {
    chosen = k;
    refresh();
  });
  const reasons = createReasons(manifest, mlvpt);
  const guide = createGuide(onStep);
  const spoken = h("p.live-spoken", { role: "status" });
  const speed = h("p.live-speed");
  const tools = createTools();
  const ask = (question) => engine.run(question.pixels);
  const request = newestOnly(ask, (next, question) => {
    answer = next;
    refresh();
    clock(answer.milliseconds);
    model.set("answer", { ...answer, scene: question.scene }); // not the scene of this moment
    model.save_changes?.();
  });

  el.replaceChildren(
    guide.element,
    h(
      "div.live-columns",
      {},
      h("div.live-left", {}, stage.element, stage.palette(paintFace), tools.element),
      h("div.live-right", {}, bars.element, tools.partners, reasons.element, speed),
    ),
    spoken,
  );

  const given = model.get("scene") && decode(model.get("scene"), pool);
  if (given) {
    guide.show(null);
    show(given);
  } else {
    guide.show(0);
    show(scene);
  }
  const waits = new Promise((resolve) => {
    model.on?.("change:answer", resolve);
  });
  model.on?.("change:scene", () => {
    const next = decode(model.get("scene"), pool);
    if (next && encode(next) !== encode(scene)) show(next);
  });
  await Promise.race([waits, new Promise((resolve) => setTimeout(resolve, 5000))]);

  /** A change by hand. While a pointer moves, nothing is kept for undo. */
  function change(next, nextSelected, done) {
    if (next !== scene && !change.before) change.before = scene;
    if (done && change.before) {
      if (encode(change.before) !== encode(next)) past.push(change.before);
      change.before = null;
    }
    show(next, nextSelected);
  }

  /** Show a scene and ask the models about it. */
  function show(next, nextSelected = null) {
    scene = next;
    selected = nextSelected;
    pixels = stage.update(scene, selected);
    tools.update();
    model.set("scene", encode(scene));
    request({ pixels, scene: model.get("scene") });
  }

  /** The median of the last passes; the first ones, before the browser has compiled, do not count. */
  function clock(milliseconds) {
    times.push(milliseconds);
    if (times.length < 8) return;
    const last = times.slice(-21).sort((a, b) => a - b);
    const median = last[Math.floor(last.length / 2)].toFixed(0);
    speed.textContent = `Both models: ${median} ms in your browser.`;
  }

  function refresh() {
    if (!answer) return;
    bars.update(answer.results, present(), chosen);
    reasons.update(answer.results[mlvpt.name], chosen, pixels);
    tools.update();
    clearTimeout(refresh.timer);
    refresh.timer = setTimeout(speak, 700); // once the hand rests
  }

  /** For those who do not see the bars. */
  function speak() {
    const sentences = names.map((name) => {
      const said = answer.results[name].probabilities
        .map((p, k) => [p, k])
        .filter(([p]) => p >= 0.5)
        .map(([p, k]) => `${manifest.class_names[k]} at ${percent(p)}`);
      return `${name} reports ${list(said) || "nothing"}.`;
    });
    const there = list([...present()].sort().map(String));
    spoken.textContent = `The scene shows ${there || "no digit"}. ${sentences.join(" ")}`;
  }

  function present() {
    return new Set(scene.items.map((item) => item.digit));
  }

  function onStep(step) {
    const front = decode(FRONT_PAGE, pool);
    if (step === null) return;
    chosen = 0;
    past.push(scene);
    const items = front.items.filter((item) => item.digit !== step.remove);
    const place = items.findIndex((item) => item.digit === step.select);
    show({ ...front, items }, place < 0 ? null : place);
  }

  function paintFace(face, digit) {
    const ink = enlarge(pool.byDigit[digit][3], 8);
    const context = face.getContext("2d");
    const image = context.createImageData(40, 40);
    ink.forEach((value, i) => {
      image.data[4 * i + 3] = 255 * value;
    });
    context.putImageData(image, 0, 0);
  }

  /** What can be done to the scene, and to the selected digit. */
  function createTools() {
    const button = (label, title, onclick) =>
      h("button", { type: "button", title, onclick }, label);
    const item = () => scene.items[selected];
    const hand = button("Another hand", "Write the digit in another handwriting", () => {
      const { digit, image } = item();
      stage.change(selected, { image: (image + 1) % pool.byDigit[digit].length });
    });
    const swap = button("Swap", "Replace the digit by its look-alike", () => {
      const digit = LOOK_ALIKES[item().digit];
      stage.change(selected, { digit, image: item().image % pool.byDigit[digit].length });
    });
    const larger = button("+", "Larger", () =>
      stage.change(selected, { height: item().height + 1.5 }),
    );
    const smaller = button("\u2212", "Smaller", () =>
      stage.change(selected, { height: item().height - 1.5 }),
    );
    const erase = button("Erase", "Take the digit out of the scene", () => stage.remove(selected));
    larger.setAttribute("aria-label", "Larger");
    smaller.setAttribute("aria-label", "Smaller");
    const about = h("span.live-about");
    const own = [smaller, larger, hand, swap, erase];
    const clutter = slider({
      label: "Clutter",
      min: 0,
      max: MOST_CLUTTER,
      step: 1,
      value: 0,
      oninput: (value) => change({ ...scene, clutter: value }, selected, true),
    });
    const noise = slider({
      label: "Noise",
      min: 0,
      max: MOST_NOISE,
      step: 0.01,
      value: 0,
      write: (value) => value.toFixed(2),
      oninput: (value) => change({ ...scene, noise: value }, selected, true),
    });
    const undo = button("Undo", "Take the last change back", () => show(past.pop()));
    const clear = button("Empty", "Remove every digit", () => {
      guide.show(null);
      change({ ...emptyScene(scene.seed), clutter: scene.clutter, noise: scene.noise }, null, true);
    });
    const other = button("New scene", "Draw a scene as the data set does", () => {
      guide.show(null);
      change(randomScene(Math.floor(Math.random() * 1e6), pool), null, true);
    });
    const link = button("Copy link", "A link that shows this scene", copyLink);
    const address = h("input.live-link", {
      type: "text",
      readonly: true,
      hidden: true,
      "aria-label": "Link to this scene",
    });
    const partners = h("div.live-partners", { role: "group", "aria-label": "Try" });

    async function copyLink() {
      const url = new URL(location.href);
      url.searchParams.set("scene", encode(scene));
      url.hash = "";
      address.value = url.href;
      try {
        await navigator.clipboard.writeText(url.href);
        link.textContent = "Copied";
        setTimeout(() => (link.textContent = "Copy link"), 1500);
      } catch {
        address.hidden = false; // no clipboard here: the reader copies it
        address.select();
      }
    }

    function update() {
      const current = item();
      own.forEach((each) => (each.disabled = !current));
      swap.disabled = !current || !(current.digit in LOOK_ALIKES);
      swap.textContent =
        current && current.digit in LOOK_ALIKES ? `Swap for ${LOOK_ALIKES[current.digit]}` : "Swap";
      about.textContent = current ? `Selected: ${current.digit}` : "Select a digit, or drag one in";
      undo.disabled = past.length === 0;
      clear.disabled = scene.items.length === 0;
      clutter.set(scene.clutter);
      noise.set(scene.noise);
      updatePartners();
    }

    /** The experiments that the chosen class suggests, as buttons. */
    function updatePartners() {
      const context = CONTEXTS.find((members) => members.includes(chosen));
      const buttons = [];
      scene.items.forEach(({ digit }, i) => {
        if (digit === chosen || !context.includes(digit)) return;
        const title = `${digit} is a partner of ${chosen}: they are often seen together`;
        const label = `Remove partner ${digit}`;
        buttons.push(button(label, title, () => change(without(i), null, true)));
      });
      const mine = scene.items.findIndex(({ digit }) => digit === chosen);
      if (mine >= 0 && chosen in LOOK_ALIKES) {
        const digit = LOOK_ALIKES[chosen];
        const label = `Swap ${chosen} for its look-alike ${digit}`;
        buttons.push(
          button(label, `${chosen} and ${digit} exclude each other in training`, () => {
            const image = scene.items[mine].image % pool.byDigit[digit].length;
            stage.change(mine, { digit, image });
          }),
        );
      }
      const key = scene.items.map(({ digit }) => digit).join() + chosen;
      if (partners.dataset.key === key) return;
      partners.dataset.key = key;
      partners.replaceChildren(
        ...(buttons.length
          ? buttons
          : [h("span.live-about", {}, `No partner of ${chosen} is in the scene.`)]),
      );
    }

    const without = (i) => ({ ...scene, items: scene.items.filter((_, j) => j !== i) });

    const element = h(
      "div.live-tools",
      {},
      h("div.live-buttons", { role: "group", "aria-label": "The selected digit" }, about, ...own),
      clutter.element,
      noise.element,
      h("div.live-buttons", { role: "group", "aria-label": "The scene" }, undo, clear, other, link),
      address,
    );
    return { element, partners, update };
  }

  return () => clearTimeout(refresh.timer);
}
