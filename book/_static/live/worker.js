// The worker's side of engine.js.

import { Runner } from "./runner.js";
import { LoadError } from "./weights.js";

const runner = new Runner();

self.onmessage = async ({ data: { id, question } }) => {
  try {
    self.postMessage({ id, answer: await runner.answer(question) });
  } catch (error) {
    self.postMessage({ id, problem: error.message, known: error instanceof LoadError });
  }
};
