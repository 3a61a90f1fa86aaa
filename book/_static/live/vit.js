// The forward pass of ML-VPT and of VPT-deep in prefix form (chapter 3): every block's prompts
// stand as keys and values before those of the image, computed once, at export.
//
// B = 1 image, T tokens of the image (class token, then patches), P prompts, D width, H heads,
// K classes, G groups per view, E experts per group.

import { add, dot, gelu, layerNorm, linear, sigmoid, softmax } from "./tensor.js";

/** The models of one exported file, ready to run. */
export class WebModels {
  /**
   * @param {object} manifest as exported
   * @param {Object<string, Float32Array>} tensors by name
   */
  constructor(manifest, tensors) {
    this.manifest = manifest;
    this.tensors = tensors;
    const [height, width] = manifest.image_size;
    const [ph, pw] = manifest.backbone.patch_size;
    this.grid = [height / ph, width / pw];
    this.nPatches = this.grid[0] * this.grid[1];
  }

  /**
   * Run every model of the file on one picture.
   *
   * @param {Uint8Array} pixels (height, width, 3), 0 to 255
   * @returns {Object<string, object>} by model name, see `runMlvpt` and `runVpt`
   */
  run(pixels) {
    const image = this.embed(pixels);
    const results = {};
    for (const model of this.manifest.models) {
      const run = model.method === "mlvpt" ? this.runMlvpt : this.runVpt;
      results[model.name] = run.call(this, image.slice(), model);
    }
    return results;
  }

  /** Pixels to tokens before the first block: (T, D). */
  embed(pixels) {
    const { image_size, mean, std, backbone } = this.manifest;
    const [height, width] = image_size;
    const [ph, pw] = backbone.patch_size;
    const patches = new Float32Array(height * width * 3); // (patches, 3 ph pw)
    let at = 0;
    for (let top = 0; top < height; top += ph) {
      for (let left = 0; left < width; left += pw) {
        for (let c = 0; c < 3; c++) {
          for (let y = top; y < top + ph; y++) {
            for (let x = left; x < left + pw; x++) {
              patches[at++] = (pixels[(y * width + x) * 3 + c] / 255 - mean[c]) / std[c];
            }
          }
        }
      }
    }
    const { tensors } = this;
    const embedded = linear(patches, tensors["patch.weight"], tensors["patch.bias"], this.nPatches);
    const tokens = new Float32Array((1 + this.nPatches) * backbone.width);
    tokens.set(tensors.class_token);
    tokens.set(embedded, backbone.width);
    return add(tokens, tensors.position);
  }

  /**
   * VPT: all blocks, the final norm, the pooled token, one linear layer.
   *
   * @param {Float32Array} x (T, D) tokens, changed
   * @param {object} model its entry in the manifest
   * @returns {{logits: Float32Array, probabilities: number[]}} (K) each
   */
  runVpt(x, model) {
    const { backbone } = this.manifest;
    for (let i = 0; i < backbone.blocks; i++) x = this.imageBlock(i, x, model);
    x = this.norm("norm", x);
    const rows = model.pool === "class" ? [0, 1] : [1, 1 + this.nPatches];
    const pooled = new Float32Array(backbone.width);
    for (let row = rows[0]; row < rows[1]; row++) {
      for (let d = 0; d < backbone.width; d++) {
        pooled[d] += x[row * backbone.width + d] / (rows[1] - rows[0]);
      }
    }
    const head = (part) => this.tensors[`${model.name}/head.${part}`];
    const logits = linear(pooled, head("weight"), head("bias"), 1);
    return { logits, probabilities: Array.from(logits, sigmoid) };
  }

  /**
   * ML-VPT: blocks on the image, the last one for the prompts alone, experts of both views.
   *
   * @param {Float32Array} x (T, D) tokens, changed
   * @param {object} model its entry in the manifest
   * @returns {object} logits and probabilities (K), and `views`: of "co" and "dc" what `experts`
   *   gives, with `attention`, (G, patches)
   */
  runMlvpt(x, model) {
    const { backbone } = this.manifest;
    for (let i = 0; i + 1 < backbone.blocks; i++) x = this.imageBlock(i, x, model);
    const { tokens, attention } = this.promptBlock(backbone.blocks - 1, x, model);
    const read = model.norm_output ? this.norm("norm", tokens) : tokens;
    const names = Object.keys(model.groups);
    const perView = model.n_groups * model.experts_per_group;
    const logits = new Float32Array(this.manifest.class_names.length);
    const views = {};
    names.forEach((view, v) => {
      const rows = (array, width) => array.slice(v * perView * width, (v + 1) * perView * width);
      const found = this.experts(rows(read, backbone.width), view, model);
      const maps = rows(attention, this.nPatches); // (G E, patches)
      found.attention = meanOfRows(maps, model.experts_per_group, this.nPatches);
      for (let k = 0; k < logits.length; k++) logits[k] += found.logits[k] / names.length;
      views[view] = found;
    });
    return { logits, probabilities: Array.from(logits, sigmoid), views };
  }

  /** One block on the tokens of the image, with the model's prompts as a prefix: (T, D). */
  imageBlock(i, x, model) {
    const { width, heads } = this.manifest.backbone;
    const n = x.length / width;
    const [q, k, v] = this.project(i, this.norm(`block${i}.norm1`, x), n);
    const [pk, pv] = this.prefix(i, model);
    const attended = new Float32Array(x.length);
    const d = width / heads;
    for (let h = 0; h < heads; h++) {
      for (let row = 0; row < n; row++) {
        const out = attended.subarray(row * width + h * d, row * width + (h + 1) * d);
        attendOne(q[h].subarray(row * d, (row + 1) * d), [pk[h], k[h]], [pv[h], v[h]], out);
      }
    }
    return this.finish(i, x, attended);
  }

  /**
   * The last block, which only the prompts leave: each looks at the image and at itself, or, if
   * they are not isolated, at all prompts.
   *
   * @returns {{tokens: Float32Array, attention: Float32Array}} (P, D), and (P, patches), the
   *   weights on the patches, mean over heads
   */
  promptBlock(i, x, model) {
    const { width, heads } = this.manifest.backbone;
    const n = x.length / width;
    const d = width / heads;
    const P = model.n_prompts;
    const [, k, v] = this.project(i, this.norm(`block${i}.norm1`, x), n);
    const [pk, pv] = this.prefix(i, model);
    const queries = this.tensors[`${model.name}/queries`];
    const attention = new Float32Array(P * this.nPatches);
    const attended = new Float32Array(P * width);
    for (let h = 0; h < heads; h++) {
      for (let p = 0; p < P; p++) {
        const q = queries.subarray(p * width + h * d, p * width + (h + 1) * d);
        const own = model.isolate_prompts ? [p, p + 1] : [0, P];
        const part = (rows) => rows.subarray(own[0] * d, own[1] * d);
        const out = attended.subarray(p * width + h * d, p * width + (h + 1) * d);
        const weights = attendOne(q, [part(pk[h]), k[h]], [part(pv[h]), v[h]], out);
        for (let j = 0; j < this.nPatches; j++) {
          attention[p * this.nPatches + j] += weights[weights.length - this.nPatches + j] / heads;
        }
      }
    }
    const prompts = this.tensors[`${model.name}/prompts`].slice();
    return { tokens: this.finish(i, prompts, attended), attention };
  }

  /**
   * Adapters, gates and class heads of one view (chapter 4).
   *
   * @param {Float32Array} tokens (G E, D), group by group
   * @returns {object} logits (K); gateLogits (K); scores, gates and expertLogits, (K, E) each;
   *   bias (K); tokens and adapted, (G E, D) each
   */
  experts(tokens, view, model) {
    const { width } = this.manifest.backbone;
    const get = (name) => this.tensors[`${model.name}/${view}.${name}`];
    const E = model.experts_per_group;
    const adapted = this.adapt(tokens, get, model.bottleneck);
    const [gateWeight, weight, bias] = [get("gate_weight"), get("weight"), get("bias")];
    const K = bias.length;
    const scores = new Float32Array(K * E);
    const expertLogits = new Float32Array(K * E);
    const logits = new Float32Array(K);
    const gateLogits = new Float32Array(K);
    for (let k = 0; k < K; k++) {
      const group = model.groups[view][k];
      for (let e = 0; e < E; e++) {
        const token = (group * E + e) * width;
        scores[k * E + e] = dot(gateWeight, (k * E + e) * width, tokens, token, width);
        expertLogits[k * E + e] = dot(weight, k * width, adapted, token, width);
      }
    }
    const gates = scores.slice();
    for (let k = 0; k < K; k++) {
      softmax(gates, k * E, E);
      logits[k] = dot(gates, k * E, expertLogits, k * E, E) + bias[k];
      gateLogits[k] = dot(gates, k * E, scores, k * E, E);
    }
    return { logits, gateLogits, scores, gates, expertLogits, bias, tokens, adapted };
  }

  /** Each expert's residual adapter on its own token: (G E, D). */
  adapt(tokens, get, bottleneck) {
    const { width } = this.manifest.backbone;
    const [down, downBias, up, upBias] = ["down", "down_bias", "up", "up_bias"].map(get);
    const out = tokens.slice();
    for (let t = 0; t < tokens.length / width; t++) {
      const hidden = downBias.slice(t * bottleneck, (t + 1) * bottleneck);
      for (let d = 0; d < width; d++) {
        for (let b = 0; b < bottleneck; b++) {
          hidden[b] += tokens[t * width + d] * down[(t * width + d) * bottleneck + b];
        }
      }
      gelu(hidden);
      for (let d = 0; d < width; d++) {
        let sum = upBias[t * width + d];
        for (let b = 0; b < bottleneck; b++)
          sum += hidden[b] * up[(t * bottleneck + b) * width + d];
        out[t * width + d] += sum;
      }
    }
    return out;
  }

  norm(name, x) {
    const { tensors } = this;
    const { eps } = this.manifest.backbone;
    return layerNorm(x, tensors[`${name}.weight`], tensors[`${name}.bias`], eps);
  }

  /** Queries, keys and values of tokens (n, D), each a list of H arrays (n, d). */
  project(i, y, n) {
    const { width, heads } = this.manifest.backbone;
    const weight = this.tensors[`block${i}.attn.qkv.weight`];
    const qkv = linear(y, weight, this.tensors[`block${i}.attn.qkv.bias`], n); // (n, 3 D)
    return [0, 1, 2].map((part) => splitHeads(qkv, n, 3 * width, part * width, heads, width));
  }

  /** Keys and values of a model's prompts in block i, each a list of H arrays (P, d). */
  prefix(i, model) {
    const { width, heads } = this.manifest.backbone;
    model.split ??= {}; // they are the same for every picture
    model.split[i] ??= ["keys", "values"].map((part) =>
      splitHeads(
        this.tensors[`${model.name}/block${i}.${part}`],
        model.n_prompts,
        width,
        0,
        heads,
        width,
      ),
    );
    return model.split[i];
  }

  /** What a block does after attention: projection and MLP, each added to x (n, D). */
  finish(i, x, attended) {
    const { tensors } = this;
    const n = x.length / this.manifest.backbone.width;
    const layer = (name, y) =>
      linear(y, tensors[`block${i}.${name}.weight`], tensors[`block${i}.${name}.bias`], n);
    x = add(x, layer("attn.proj", attended));
    const hidden = gelu(layer("mlp.fc1", this.norm(`block${i}.norm2`, x)));
    return add(x, layer("mlp.fc2", hidden));
  }
}

/** Columns `offset` to `offset + width` of (n, stride), cut into heads: H arrays (n, d). */
function splitHeads(x, n, stride, offset, heads, width) {
  const d = width / heads;
  return Array.from({ length: heads }, (_, h) => {
    const out = new Float32Array(n * d);
    for (let row = 0; row < n; row++) {
      const start = row * stride + offset + h * d;
      out.set(x.subarray(start, start + d), row * d);
    }
    return out;
  });
}

/**
 * Attention of one query (d) to keys that lie in two arrays, (a, d) and (b, d).
 *
 * @param {Float32Array} out (d), where the weighted mean of the values goes
 * @returns {Float64Array} (a + b) weights that sum to 1
 */
function attendOne(query, keys, values, out) {
  const d = query.length;
  const scale = 1 / Math.sqrt(d);
  const sizes = keys.map((rows) => rows.length / d);
  const weights = new Float64Array(sizes[0] + sizes[1]);
  let at = 0;
  for (let part = 0; part < 2; part++) {
    for (let j = 0; j < sizes[part]; j++) {
      weights[at++] = scale * dot(query, 0, keys[part], j * d, d);
    }
  }
  softmax(weights, 0, weights.length);
  const sums = new Float64Array(d);
  at = 0;
  for (let part = 0; part < 2; part++) {
    for (let j = 0; j < sizes[part]; j++) {
      const weight = weights[at++];
      for (let i = 0; i < d; i++) sums[i] += weight * values[part][j * d + i];
    }
  }
  out.set(sums);
  return weights;
}

/** Mean of every `count` rows of `width` numbers: (n count, width) -> (n, width). */
function meanOfRows(rows, count, width) {
  const out = new Float32Array(rows.length / count);
  for (let i = 0; i < rows.length; i++) {
    const row = Math.floor(i / width);
    out[Math.floor(row / count) * width + (i % width)] += rows[i] / count;
  }
  return out;
}
