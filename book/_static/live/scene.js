// A scene as numbers, and as pixels. It is drawn the way the package's data set draws its own
// (mlvpt/datasets/scenes.py): uneven light, pieces of strokes as clutter, digits, noise.

import { fetchOrFail } from "./weights.js";

export const SIZE = 48; // pixels
export const CONTEXTS = [
  [0, 1, 2],
  [3, 4],
  [5, 7, 8],
  [6, 9],
];
export const LOOK_ALIKES = { 1: 7, 7: 1, 3: 8, 8: 3, 4: 9, 9: 4, 5: 6, 6: 5 };
export const MOST_CLUTTER = 6;
export const MOST_NOISE = 0.15;

/**
 * @typedef {object} Item a digit in the scene
 * @property {number} digit 0 to 9
 * @property {number} image which handwriting of that digit
 * @property {number} x centre in pixels
 * @property {number} y centre in pixels
 * @property {number} height in pixels, of the digit with its border
 * @property {number} aspect width over height
 * @property {number} angle radians
 * @property {number[]} shade red, green, blue in [0, 1]
 * @property {number} alpha opacity in [0, 1]
 *
 * @typedef {object} Scene
 * @property {number} seed of light, clutter and noise
 * @property {number} clutter pieces of strokes, 0 to 6
 * @property {number} noise standard deviation, on a scale of 0 to 1
 * @property {number[]} ground red, green, blue in [0, 1]
 * @property {Item[]} items lowest first
 */

/** The held-out handwriting: {byDigit: ten lists of Float32Array (8, 8) in [0, 1]}. */
export async function loadHandwriting(address) {
  const response = await fetchOrFail(address, "The handwriting");
  const { labels, ink } = await response.json();
  const bytes = Uint8Array.from(atob(ink), (letter) => letter.charCodeAt(0));
  const byDigit = Array.from({ length: 10 }, () => []);
  [...labels].forEach((label, i) => {
    byDigit[+label].push(Float32Array.from(bytes.subarray(i * 64, i * 64 + 64), (v) => v / 16));
  });
  return { byDigit };
}

/** A digit as it comes from the palette: upright, bright, in the light of the scene. */
export function newItem(scene, digit, image, x = SIZE / 2, y = SIZE / 2) {
  const shade = scene.ground.map((light) => Math.min(1, light + 0.42));
  return { digit, image, x, y, height: 20, aspect: 0.92, angle: 0, shade, alpha: 0.95 };
}

/** An empty scene with its own light. */
export function emptyScene(seed) {
  const random = uniform(seed ^ 0x5bd1e995);
  const ground = 0.15 + 0.2 * random();
  const tint = () => Math.round(100 * (ground + 0.16 * (random() - 0.5))) / 100;
  return { seed, clutter: 2, noise: 0.04, ground: [tint(), tint(), tint()], items: [] };
}

/**
 * A scene as the data set draws them: digits of one context, sometimes another, clutter, noise.
 */
export function randomScene(seed, pool) {
  const random = uniform(seed);
  const scene = emptyScene(seed);
  const context = CONTEXTS[Math.floor(random() * CONTEXTS.length)];
  let digits = [];
  while (!digits.length || digits.length > 5) {
    digits = Array.from({ length: 10 }, (_, digit) => digit).filter(
      (digit) => random() < (context.includes(digit) ? 0.75 : 0.06),
    );
  }
  scene.clutter = 1 + Math.floor(random() * 5);
  scene.noise = Math.round(100 * (0.02 + 0.08 * random())) / 100;
  for (const digit of digits) {
    const place = () => 9 + random() * (SIZE - 18);
    let best = null;
    for (let attempt = 0; attempt < 8; attempt++) {
      const at = { x: place(), y: place() };
      const gaps = scene.items.map((item) => Math.hypot(item.x - at.x, item.y - at.y));
      at.gap = Math.min(99, ...gaps);
      if (!best || at.gap > best.gap) best = at;
    }
    const image = Math.floor(random() * pool.byDigit[digit].length);
    const item = newItem(scene, digit, image, best.x, best.y);
    item.height = 16 + 7 * random();
    item.angle = 0.5 * (random() - 0.5);
    scene.items.push(tidy(item));
  }
  return scene;
}

/** The numbers of an item as a link can hold them, so that a link draws the same pixels. */
export function tidy(item) {
  const round = (value, steps) => Math.round(value * steps) / steps;
  const bound = (value, low, high) => Math.min(high, Math.max(low, value));
  return {
    ...item,
    x: round(bound(item.x, 0, SIZE), 10),
    y: round(bound(item.y, 0, SIZE), 10),
    height: round(bound(item.height, 10, 36), 10),
    aspect: round(item.aspect, 100),
    angle: round(item.angle, 100),
    shade: item.shade.map((value) => round(value, 100)),
    alpha: round(item.alpha, 100),
  };
}

/** A scene as a short text for a link. */
export function encode(scene) {
  const whole = (value, steps) => Math.round(value * steps);
  const head = [scene.seed, scene.clutter, whole(scene.noise, 100)];
  const parts = scene.items.map((item) => [
    item.digit,
    item.image,
    whole(item.x, 10),
    whole(item.y, 10),
    whole(item.height, 10),
    whole(item.aspect, 100),
    whole(item.angle, 100),
    ...item.shade.map((value) => whole(value, 100)),
    whole(item.alpha, 100),
  ]);
  const ground = scene.ground.map((value) => whole(value, 100));
  return [[...head, ...ground], ...parts].map((numbers) => numbers.join(".")).join("_");
}

/**
 * The scene of such a text.
 *
 * @returns {Scene|null} null if the text holds no scene
 */
export function decode(text, pool) {
  const rows = String(text)
    .split("_")
    .map((part) => part.split(".").map(Number));
  const [head, ...items] = rows;
  const wrong = rows.some((row) => !row.every(Number.isInteger));
  if (wrong || head.length !== 6 || items.some((row) => row.length !== 11)) return null;
  const [seed, clutter, noise, ...ground] = head;
  const scene = {
    seed: seed >>> 0,
    clutter: Math.min(MOST_CLUTTER, Math.max(0, clutter)),
    noise: Math.min(MOST_NOISE, Math.max(0, noise / 100)),
    ground: ground.map((value) => value / 100),
    items: [],
  };
  for (const [digit, image, x, y, height, aspect, angle, ...rest] of items) {
    if (!pool.byDigit[digit]?.[image]) return null;
    scene.items.push(
      tidy({
        digit,
        image,
        x: x / 10,
        y: y / 10,
        height: height / 10,
        aspect: aspect / 100,
        angle: angle / 100,
        shade: rest.slice(0, 3).map((value) => value / 100),
        alpha: rest[3] / 100,
      }),
    );
  }
  return scene;
}

/**
 * Draw a scene.
 *
 * @param {Scene} scene
 * @param {{byDigit: Float32Array[][]}} pool
 * @returns {Uint8Array} (48, 48, 3), 0 to 255
 */
export function draw(scene, pool) {
  const canvas = lightOf(scene.seed);
  for (let i = 0; i < canvas.length; i++) canvas[i] += scene.ground[i % 3];
  for (const piece of clutterOf(scene, pool)) paint(canvas, stamp(piece.ink, piece), piece);
  for (const item of scene.items) {
    const ink = enlarge(pool.byDigit[item.digit][item.image], 8);
    paint(canvas, stamp(ink, item), item);
  }
  const noise = noiseOf(scene.seed);
  const pixels = new Uint8Array(canvas.length);
  for (let i = 0; i < pixels.length; i++) {
    const value = canvas[i] + scene.noise * noise[i];
    pixels[i] = Math.round(255 * Math.min(1, Math.max(0, value)));
  }
  return pixels;
}

/** Lay ink (48, 48) over a canvas (48, 48, 3). */
function paint(canvas, mask, { shade, alpha }) {
  for (let i = 0; i < mask.length; i++) {
    if (mask[i] === 0) continue;
    for (let c = 0; c < 3; c++) {
      canvas[3 * i + c] += alpha * mask[i] * (shade[c] - canvas[3 * i + c]);
    }
  }
}

/**
 * Turn, scale and place ink on an empty scene; bilinear, nothing outside the ink.
 *
 * @param {Float32Array} ink (h, h)
 * @param {{x: number, y: number, height: number, aspect: number, angle: number}} place
 * @returns {Float32Array} (48, 48) in [0, 1]
 */
export function stamp(ink, { x, y, height, aspect, angle }) {
  const h = Math.sqrt(ink.length);
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const mask = new Float32Array(SIZE * SIZE);
  const at = (column, row) =>
    column < 0 || row < 0 || column >= h || row >= h ? 0 : ink[row * h + column];
  for (let i = 0; i < mask.length; i++) {
    const dx = (i % SIZE) + 0.5 - x;
    const dy = Math.floor(i / SIZE) + 0.5 - y;
    const u = ((cos * dx + sin * dy) / (height * aspect) + 0.5) * h - 0.5;
    const v = ((cos * dy - sin * dx) / height + 0.5) * h - 0.5;
    if (u <= -1 || v <= -1 || u >= h || v >= h) continue;
    const [column, row] = [Math.floor(u), Math.floor(v)];
    const [fu, fv] = [u - column, v - row];
    mask[i] =
      (1 - fv) * ((1 - fu) * at(column, row) + fu * at(column + 1, row)) +
      fv * ((1 - fu) * at(column, row + 1) + fu * at(column + 1, row + 1));
  }
  return mask;
}

const enlarged = new WeakMap(); // each handwriting once

/** Ink (h, h) with an empty border of a pixel, four times as large: (4 h + 8, 4 h + 8). */
export function enlarge(ink, h) {
  if (!enlarged.has(ink)) {
    const padded = new Float32Array((h + 2) ** 2);
    for (let row = 0; row < h; row++) {
      padded.set(ink.subarray(row * h, (row + 1) * h), (row + 1) * (h + 2) + 1);
    }
    enlarged.set(
      ink,
      bicubic(padded, h + 2, 4).map((value) => Math.min(1, Math.max(0, value))),
    );
  }
  return enlarged.get(ink);
}

/** Bicubic enlargement (h, h) -> (f h, f h) as torch computes it: a = -0.75, edges repeated. */
function bicubic(values, h, factor) {
  const near = (t) => (1.25 * t - 2.25) * t * t + 1; // |t| <= 1
  const far = (t) => ((-0.75 * t + 3.75) * t - 6) * t + 3; // 1 < |t| < 2
  const clamp = (i) => Math.min(h - 1, Math.max(0, i));
  const weights = Array.from({ length: factor * h }, (_, i) => {
    const position = (i + 0.5) / factor - 0.5;
    const start = Math.floor(position);
    const t = position - start;
    return { start, taps: [far(t + 1), near(t), near(1 - t), far(2 - t)] };
  });
  const side = factor * h;
  const wide = new Float32Array(h * side);
  const out = new Float32Array(side * side);
  for (let row = 0; row < h; row++) {
    weights.forEach(({ start, taps }, column) => {
      for (let k = 0; k < 4; k++) {
        wide[row * side + column] += taps[k] * values[row * h + clamp(start - 1 + k)];
      }
    });
  }
  weights.forEach(({ start, taps }, row) => {
    for (let column = 0; column < side; column++) {
      for (let k = 0; k < 4; k++) {
        out[row * side + column] += taps[k] * wide[clamp(start - 1 + k) * side + column];
      }
    }
  });
  return out;
}

/** Uneven light of a seed: (48, 48, 3) around 0. */
function lightOf(seed) {
  const random = normal(seed);
  const light = new Float32Array(SIZE * SIZE * 3);
  for (let c = 0; c < 3; c++) {
    const spots = Float32Array.from({ length: 16 }, () => 0.06 * random());
    bicubic(spots, 4, 12).forEach((value, i) => (light[3 * i + c] = value));
  }
  return light;
}

/** The first pieces of clutter of a seed: ink and place of each, no digit but strokes like one. */
function clutterOf(scene, pool) {
  const random = uniform(scene.seed + 7919);
  return Array.from({ length: MOST_CLUTTER }, () => {
    const digits = pool.byDigit[Math.floor(random() * 10)];
    const digit = digits[Math.floor(random() * digits.length)];
    const [left, top] = [Math.floor(random() * 5), Math.floor(random() * 5)];
    const ink = new Float32Array(16).map(
      (_, i) => digit[(top + Math.floor(i / 4)) * 8 + left + (i % 4)],
    );
    return {
      ink: enlarge(ink, 4),
      x: 2 + random() * (SIZE - 4),
      y: 2 + random() * (SIZE - 4),
      height: 10 + 5 * random(),
      aspect: 1,
      angle: 2 * Math.PI * random(),
      shade: scene.ground.map((light) => light + 0.3 + 0.2 * random()),
      alpha: 0.7 + 0.3 * random(),
    };
  }).slice(0, scene.clutter);
}

const noises = new Map();

/** Standard normal noise of a seed: (48, 48, 3). */
function noiseOf(seed) {
  if (!noises.has(seed)) {
    if (noises.size > 20) noises.clear();
    const random = normal(seed + 104729);
    noises.set(
      seed,
      Float32Array.from({ length: SIZE * SIZE * 3 }, () => random()),
    );
  }
  return noises.get(seed);
}

/** Random numbers in [0, 1) from a seed. Source: mulberry32 of Tommy Ettinger, public domain. */
export function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Standard normal numbers from a seed. */
function normal(seed) {
  const random = uniform(seed);
  return () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
