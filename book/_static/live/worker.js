// The worker's side of engine.js.

import { Runner } from "./runner.js";
import { LoadError } from "./weights.js";

const runner = new Runner();

self.onmessage = async ({ data: { id, load, pixels } }) => {
  try {
    if (load) self.postMessage({ id, manifest: await runner.load(load) });
    else self.postMessage({ id, ...runner.run(pixels) });
  } catch (error) {
    self.postMessage({ id, problem: error.message, known: error instanceof LoadError });
  }
};
