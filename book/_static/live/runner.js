// What the worker can answer: load the models, run them on a picture, group labels.

import { affinities, spectralGroups } from "./spectral.js";
import { WebModels } from "./vit.js";
import { loadModel } from "./weights.js";

export class Runner {
  /**
   * @param {object} question one of
   *   {load: address of a manifest} -> the manifest
   *   {pixels: Uint8Array} -> {results, milliseconds}, all models together
   *   {counts, tau, nGroups} -> {co, dc, affinity}: groups of both views, M+ (K, K)
   */
  async answer({ load, pixels, counts, tau, nGroups }) {
    const began = performance.now();
    if (load) {
      const { manifest, tensors } = await loadModel(load);
      this.models = new WebModels(manifest, tensors);
      return manifest;
    }
    if (pixels) {
      const results = this.models.run(pixels);
      return { results, milliseconds: performance.now() - began };
    }
    if (counts) {
      const { co, dc } = affinities(counts, tau);
      return { co: spectralGroups(co, nGroups), dc: spectralGroups(dc, nGroups), affinity: co };
    }
    return {};
  }
}
