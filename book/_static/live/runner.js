// Load once, then run picture after picture, with the clock.

import { WebModels } from "./vit.js";
import { loadModel } from "./weights.js";

export class Runner {
  async load(address) {
    const { manifest, tensors } = await loadModel(address);
    this.models = new WebModels(manifest, tensors);
    return manifest;
  }

  /** @returns {{results: object, milliseconds: number}} of all models together */
  run(pixels) {
    const began = performance.now();
    const results = this.models.run(pixels);
    return { results, milliseconds: performance.now() - began };
  }
}
