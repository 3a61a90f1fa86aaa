// The handful of tensor operations of a Vision Transformer. Tensors are Float32Arrays, rows one
// after the other; sums run in double precision, as JavaScript's numbers do.

/**
 * A linear layer: x (n, nIn) times weight (nOut, nIn) transposed, plus bias (nOut).
 *
 * Four rows and two columns at a time: each number that is read takes part in several products.
 *
 * @param {Float32Array} x (n, nIn)
 * @param {Float32Array} weight (nOut, nIn), as torch keeps it
 * @param {Float32Array} bias (nOut)
 * @param {number} n rows
 * @returns {Float32Array} (n, nOut)
 */
export function linear(x, weight, bias, n) {
  const nOut = bias.length;
  const nIn = weight.length / nOut;
  const out = new Float32Array(n * nOut);
  const even = nOut - (nOut % 2);
  let row = 0;
  for (; row + 4 <= n; row += 4) {
    const r0 = row * nIn;
    const r1 = r0 + nIn;
    const r2 = r1 + nIn;
    const r3 = r2 + nIn;
    for (let o = 0; o < even; o += 2) {
      const wa = o * nIn;
      const wb = wa + nIn;
      let a0 = 0;
      let a1 = 0;
      let a2 = 0;
      let a3 = 0;
      let b0 = 0;
      let b1 = 0;
      let b2 = 0;
      let b3 = 0;
      for (let i = 0; i < nIn; i++) {
        const a = weight[wa + i];
        const b = weight[wb + i];
        const x0 = x[r0 + i];
        const x1 = x[r1 + i];
        const x2 = x[r2 + i];
        const x3 = x[r3 + i];
        a0 += x0 * a;
        a1 += x1 * a;
        a2 += x2 * a;
        a3 += x3 * a;
        b0 += x0 * b;
        b1 += x1 * b;
        b2 += x2 * b;
        b3 += x3 * b;
      }
      const at = row * nOut + o;
      out[at] = a0 + bias[o];
      out[at + nOut] = a1 + bias[o];
      out[at + 2 * nOut] = a2 + bias[o];
      out[at + 3 * nOut] = a3 + bias[o];
      out[at + 1] = b0 + bias[o + 1];
      out[at + nOut + 1] = b1 + bias[o + 1];
      out[at + 2 * nOut + 1] = b2 + bias[o + 1];
      out[at + 3 * nOut + 1] = b3 + bias[o + 1];
    }
  }
  const blocked = row; // what is left: the last rows, and an odd last column
  for (row = 0; row < n; row++) {
    for (let o = row < blocked ? even : 0; o < nOut; o++) {
      out[row * nOut + o] = dot(x, row * nIn, weight, o * nIn, nIn) + bias[o];
    }
  }
  return out;
}

/** Inner product of `n` numbers of a, from `i` on, with those of b, from `j` on. */
export function dot(a, i, b, j, n) {
  let sum = 0;
  for (let step = 0; step < n; step++) sum += a[i + step] * b[j + step];
  return sum;
}

/** LayerNorm of each row of x (n, D), with weight and bias (D). */
export function layerNorm(x, weight, bias, eps) {
  const width = weight.length;
  const out = new Float32Array(x.length);
  for (let start = 0; start < x.length; start += width) {
    let mean = 0;
    for (let i = 0; i < width; i++) mean += x[start + i];
    mean /= width;
    let variance = 0;
    for (let i = 0; i < width; i++) variance += (x[start + i] - mean) ** 2;
    const scale = 1 / Math.sqrt(variance / width + eps);
    for (let i = 0; i < width; i++) {
      out[start + i] = (x[start + i] - mean) * scale * weight[i] + bias[i];
    }
  }
  return out;
}

/** GELU in place: x Phi(x). */
export function gelu(x) {
  for (let i = 0; i < x.length; i++) x[i] = 0.5 * x[i] * (1 + erf(x[i] * Math.SQRT1_2));
  return x;
}

/** The error function to 1.5e-7. Source: Abramowitz and Stegun, formula 7.1.26. */
export function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const poly =
    ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  const value = 1 - poly * Math.exp(-x * x);
  return x < 0 ? -value : value;
}

/** Softmax of `n` numbers of x, from `start` on, in place. */
export function softmax(x, start, n) {
  let largest = -Infinity;
  for (let i = start; i < start + n; i++) largest = Math.max(largest, x[i]);
  let sum = 0;
  for (let i = start; i < start + n; i++) {
    x[i] = Math.exp(x[i] - largest);
    sum += x[i];
  }
  for (let i = start; i < start + n; i++) x[i] /= sum;
}

/** x + y, in x. */
export function add(x, y) {
  for (let i = 0; i < x.length; i++) x[i] += y[i];
  return x;
}

export const sigmoid = (x) => 1 / (1 + Math.exp(-x));
