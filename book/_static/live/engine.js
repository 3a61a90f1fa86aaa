// The models behind a figure: in a worker, so that dragging stays smooth, or, where no worker can
// start, in the page.

import { LoadError } from "./weights.js";

const engines = new Map(); // one per folder, however many figures a page has

/**
 * @param {string} base address of the folder with the figures, with a slash at its end
 * @returns {Promise<{manifest: object, run: (pixels: Uint8Array) => Promise<object>}>} `run`
 *   gives {results, milliseconds}; see vit.js for the results
 */
export function createEngine(base) {
  if (!engines.has(base)) {
    const engine = startWorker(base).catch((error) => {
      if (error instanceof LoadError) throw error;
      return startHere(base);
    });
    engines.set(base, engine);
  }
  return engines.get(base);
}

async function startWorker(base) {
  const worker = new Worker(workerAddress(base), { type: "module" });
  const waiting = new Map();
  let last = 0;
  const ask = (content) =>
    new Promise((resolve, reject) => {
      waiting.set(++last, { resolve, reject });
      worker.postMessage({ id: last, ...content });
    });
  worker.onmessage = ({ data }) => {
    const { resolve, reject } = waiting.get(data.id);
    waiting.delete(data.id);
    if (data.problem) reject(data.known ? new LoadError(data.problem) : new Error(data.problem));
    else resolve(data);
  };
  worker.onerror = (event) => {
    event.preventDefault?.();
    for (const { reject } of waiting.values()) reject(new Error("the worker did not start"));
    waiting.clear();
  };
  const { manifest } = await ask({ load: `${base}model.json` });
  return { manifest, run: (pixels) => ask({ pixels }) };
}

/** A page of another origin (a notebook) may not start our worker, but may import it in its own. */
function workerAddress(base) {
  const address = `${base}worker.js`;
  if (new URL(base).origin === globalThis.location?.origin) return address;
  const source = `import ${JSON.stringify(address)};`;
  return URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
}

async function startHere(base) {
  const { Runner } = await import("./runner.js");
  const runner = new Runner();
  const manifest = await runner.load(`${base}model.json`);
  return { manifest, run: async (pixels) => runner.run(pixels) };
}

/**
 * Only the newest picture matters: while one is computed, the one that waits is replaced.
 *
 * @param {{run: Function}} engine
 * @param {(answer: object) => void} onAnswer
 * @returns {(pixels: Uint8Array) => void}
 */
export function newestOnly(engine, onAnswer) {
  let busy = false;
  let next = null;
  return async function request(pixels) {
    next = pixels;
    if (busy) return;
    busy = true;
    while (next) {
      const current = next;
      next = null;
      onAnswer(await engine.run(current));
    }
    busy = false;
  };
}
