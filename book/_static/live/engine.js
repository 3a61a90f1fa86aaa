// What computes behind a figure: a worker, so that dragging stays smooth, or, where no worker can
// start, the page itself.

import { LoadError } from "./weights.js";

const engines = new Map(); // one per folder, however many figures a page has
const clerks = new Map();

/**
 * The models.
 *
 * @param {string} base address of the folder with the figures, with a slash at its end
 * @returns {Promise<{manifest: object, run: (pixels: Uint8Array) => Promise<object>}>} `run`
 *   gives {results, milliseconds}; see vit.js for the results
 */
export function createEngine(base) {
  if (!engines.has(base)) {
    const load = async () => {
      const ask = await createClerk(base);
      const manifest = await ask({ load: `${base}model.json` });
      return { manifest, run: (pixels) => ask({ pixels }) };
    };
    engines.set(base, load());
  }
  return engines.get(base);
}

/**
 * Who answers questions, see `Runner.answer`.
 *
 * @param {string} base
 * @returns {Promise<(question: object) => Promise<object>>}
 */
export function createClerk(base) {
  if (!clerks.has(base)) clerks.set(base, startWorker(base).catch(startHere));
  return clerks.get(base);
}

async function startWorker(base) {
  const worker = new Worker(workerAddress(base), { type: "module" });
  const waiting = new Map();
  let last = 0;
  const ask = (question) =>
    new Promise((resolve, reject) => {
      waiting.set(++last, { resolve, reject });
      worker.postMessage({ id: last, question });
    });
  worker.onmessage = ({ data }) => {
    const { resolve, reject } = waiting.get(data.id);
    waiting.delete(data.id);
    if (!data.problem) resolve(data.answer);
    else reject(data.known ? new LoadError(data.problem) : new Error(data.problem));
  };
  worker.onerror = (event) => {
    event.preventDefault?.();
    for (const { reject } of waiting.values()) reject(new Error("the worker did not start"));
    waiting.clear();
  };
  await ask({}); // is anybody there?
  return ask;
}

/** A page of another origin (a notebook) may not start our worker, but may import it in its own. */
function workerAddress(base) {
  const address = `${base}worker.js`;
  if (new URL(base).origin === globalThis.location?.origin) return address;
  const source = `import ${JSON.stringify(address)};`;
  return URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
}

async function startHere() {
  const { Runner } = await import("./runner.js");
  const runner = new Runner();
  return (question) => runner.answer(question);
}

/**
 * Only the newest question matters: while one is answered, the one that waits is replaced.
 *
 * @param {(question: any) => Promise<object>} ask
 * @param {(answer: object, question: any) => void} onAnswer
 * @returns {(question: any) => void}
 */
export function newestOnly(ask, onAnswer) {
  let busy = false;
  let next = null;
  return async function request(question) {
    next = question;
    if (busy) return;
    busy = true;
    while (next) {
      const current = next;
      next = null;
      onAnswer(await ask(current), current);
    }
    busy = false;
  };
}
