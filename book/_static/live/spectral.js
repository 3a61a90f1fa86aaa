// Label grouping as the package does it (mlvpt/grouping.py, chapter 2): affinities from
// co-occurrence counts, spectral clustering, k-means with many restarts. Matrices are arrays of
// rows, Float64Array each.

/**
 * M+ and M-: how strongly two classes occur together, and how strongly they exclude each other.
 *
 * @param {number[][]} counts (K, K), the diagonal holds the images of each class
 * @param {number} tau > 0
 * @returns {{co: Float64Array[], dc: Float64Array[]}} (K, K) each, diagonal 0
 */
export function affinities(counts, tau) {
  const K = counts.length;
  const tempered = (i, j) => (counts[i][i] ? (counts[i][j] / counts[i][i]) ** (1 / tau) : 0);
  const square = (entry) =>
    Array.from({ length: K }, (_, i) =>
      Float64Array.from({ length: K }, (_, j) => (i === j ? 0 : entry(i, j))),
    );
  const co = square((i, j) => (tempered(i, j) + tempered(j, i)) / 2);
  return { co, dc: square((i, j) => 1 - co[i][j]) };
}

/**
 * Groups of high mutual affinity.
 *
 * @param {Float64Array[]} affinity (K, K), symmetric, >= 0, diagonal 0
 * @param {number} nGroups G
 * @returns {number[]} (K) group of each class, numbered from the largest group
 */
export function spectralGroups(affinity, nGroups) {
  const order = byStrength(affinity);
  affinity = order.map((i) => Float64Array.from(order, (j) => affinity[i][j]));
  const scale = affinity.map((row) => 1 / Math.sqrt(row.reduce((a, b) => a + b, 0) || 1));
  const normalised = affinity.map((row, i) => row.map((value, j) => scale[i] * value * scale[j]));
  const { values, vectors } = eigen(normalised);
  const largest = values
    .map((value, i) => [value, i])
    .sort((a, b) => b[0] - a[0])
    .slice(0, nGroups)
    .map(([, i]) => i);
  const points = scale.map((factor, k) =>
    Float64Array.from(largest, (column) => factor * vectors[k][column]),
  );
  const labels = [];
  kmeans(points, nGroups).forEach((label, place) => (labels[order[place]] = label));
  return numbered(labels);
}

/** The classes, strongest neighbour first: the order in which k-means meets them. */
function byStrength(affinity) {
  const strengths = affinity.map((row) => row.slice().sort().reverse());
  const compare = (a, b) => {
    const k = strengths[a].findIndex((value, n) => value !== strengths[b][n]);
    return k < 0 ? a - b : strengths[b][k] - strengths[a][k];
  };
  return affinity.map((_, i) => i).sort(compare);
}

/**
 * Eigenvalues and eigenvectors of a symmetric matrix by cyclic Jacobi rotations.
 *
 * @param {Float64Array[]} matrix (n, n), not changed
 * @returns {{values: number[], vectors: Float64Array[]}} vectors in columns
 *
 * Source: Golub and Van Loan, "Matrix Computations", section 8.5.
 */
export function eigen(matrix) {
  const n = matrix.length;
  const a = matrix.map((row) => row.slice());
  // The vectors are kept transposed, so that a rotation reads whole rows.
  const v = a.map((_, i) => Float64Array.from({ length: n }, (_, j) => (i === j ? 1 : 0)));
  const tiny = 1e-22 * a.reduce((sum, row) => sum + row.reduce((s, x) => s + x * x, 0), 0);
  for (let sweep = 0; sweep < 50; sweep++) {
    let off = 0;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) off += a[p][q] ** 2;
    if (off <= tiny) break;
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        if (a[p][q] === 0) continue;
        const theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
        const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
        const c = 1 / Math.hypot(t, 1);
        const s = t * c;
        for (let k = 0; k < n; k++) {
          const [kp, kq] = [a[k][p], a[k][q]];
          a[k][p] = c * kp - s * kq;
          a[k][q] = s * kp + c * kq;
        }
        rotate(a[p], a[q], c, s);
        rotate(v[p], v[q], c, s);
      }
    }
  }
  const vectors = v.map((_, k) => Float64Array.from(v, (row) => row[k]));
  return { values: a.map((row, i) => row[i]), vectors };
}

function rotate(x, y, c, s) {
  for (let k = 0; k < x.length; k++) {
    const [xk, yk] = [x[k], y[k]];
    x[k] = c * xk - s * yk;
    y[k] = s * xk + c * yk;
  }
}

/**
 * k-means as scikit-learn computes it, draw for draw: greedy k-means++ and Lloyd's rounds, the
 * best of many starts. Where several partitions are nearly as good, as among classes that mostly
 * exclude each other, another stream of random numbers may end in another of them.
 *
 * @param {Float64Array[]} points (K, d)
 * @param {number} nGroups G
 * @param {number} seed
 * @param {number} starts
 * @returns {number[]} (K) in [0, G)
 */
export function kmeans(points, nGroups, seed = 0, starts = 500) {
  const random = mersenneTwister(seed);
  const flat = new Points(points);
  let best = { inertia: Infinity };
  for (let start = 0; start < starts; start++) {
    const found = flat.lloyd(flat.seeds(nGroups, random));
    if (found.inertia < best.inertia * (1 - 1e-12)) best = found;
  }
  return [...best.labels];
}

/** Points in one array, around their mean, with what k-means does to them. */
class Points {
  constructor(points) {
    this.n = points.length;
    this.d = points[0].length;
    this.data = new Float64Array(this.n * this.d);
    this.tolerance = 0; // a ten-thousandth of the mean variance
    for (let k = 0; k < this.d; k++) {
      const mean = points.reduce((sum, point) => sum + point[k], 0) / this.n;
      points.forEach((point, i) => {
        this.data[i * this.d + k] = point[k] - mean;
        this.tolerance += (1e-4 * (point[k] - mean) ** 2) / (this.n * this.d);
      });
    }
  }

  /** Squared distance of point i to a centre, the c-th of an array of rows. */
  gap(i, centres, c) {
    const { d, data } = this;
    let sum = 0;
    for (let k = 0; k < d; k++) sum += (data[i * d + k] - centres[c * d + k]) ** 2;
    return sum;
  }

  /** First centres (G, d): of some candidates far from the others, the one that helps most. */
  seeds(nGroups, random) {
    const { n, d, data } = this;
    const centres = new Float64Array(nGroups * d);
    const put = (c, i) => centres.set(data.subarray(i * d, i * d + d), c * d);
    put(0, Math.min(n - 1, Math.floor(random() * n)));
    let gaps = Float64Array.from({ length: n }, (_, i) => this.gap(i, centres, 0));
    const tries = 2 + Math.floor(Math.log(nGroups));
    for (let c = 1; c < nGroups; c++) {
      const total = sum(gaps);
      const marks = Array.from({ length: tries }, () => random() * total);
      let best = { total: Infinity };
      for (const mark of marks) {
        let [i, passed] = [0, gaps[0]];
        while (i < n - 1 && passed < mark) passed += gaps[++i];
        const next = gaps.map((gap, j) => Math.min(gap, this.gap(j, data, i)));
        if (sum(next) < best.total) best = { total: sum(next), i, next };
      }
      put(c, best.i);
      gaps = best.next;
    }
    return centres;
  }

  /** Rounds of nearest centre and mean, until nothing changes. Returns {labels, inertia}. */
  lloyd(centres) {
    const { n, d } = this;
    const G = centres.length / d;
    let labels = new Int32Array(n).fill(-1);
    for (let round = 0; round < 300; round++) {
      const next = this.nearest(centres, G);
      const means = this.means(next, centres, G);
      let shift = 0;
      for (let i = 0; i < means.length; i++) shift += (means[i] - centres[i]) ** 2;
      centres = means;
      const same = next.every((label, i) => label === labels[i]);
      labels = next;
      if (same) break;
      if (shift <= this.tolerance) {
        labels = this.nearest(centres, G);
        break;
      }
    }
    let inertia = 0;
    for (let i = 0; i < n; i++) inertia += this.gap(i, centres, labels[i]);
    return { labels, inertia };
  }

  /** The nearest of G centres for each point, (n). */
  nearest(centres, G) {
    const labels = new Int32Array(this.n);
    for (let i = 0; i < this.n; i++) {
      let least = Infinity;
      for (let c = 0; c < G; c++) {
        const gap = this.gap(i, centres, c);
        if (gap < least) [labels[i], least] = [c, gap];
      }
    }
    return labels;
  }

  /** The mean of each group, (G, d). An empty group gets the point farthest from its centre. */
  means(labels, centres, G) {
    const { n, d, data } = this;
    const sums = new Float64Array(G * d);
    const sizes = new Int32Array(G);
    const add = (c, i, sign) => {
      sizes[c] += sign;
      for (let k = 0; k < d; k++) sums[c * d + k] += sign * data[i * d + k];
    };
    for (let i = 0; i < n; i++) add(labels[i], i, 1);
    if (sizes.includes(0)) {
      const gap = (i) => this.gap(i, centres, labels[i]);
      const far = Array.from({ length: n }, (_, i) => i).sort((i, j) => gap(j) - gap(i));
      for (let c = 0; c < G; c++) {
        if (sizes[c]) continue;
        const i = far.shift();
        add(labels[i], i, -1);
        add(c, i, 1);
      }
    }
    return sums.map((value, i) => value / sizes[Math.floor(i / d)]);
  }
}

const sum = (values) => values.reduce((a, b) => a + b, 0);

/**
 * The random numbers of numpy.random.RandomState(seed).random_sample().
 *
 * Source: Matsumoto and Nishimura, "Mersenne Twister", 1998.
 */
export function mersenneTwister(seed) {
  const state = new Uint32Array(624);
  state[0] = seed;
  for (let i = 1; i < 624; i++) {
    state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  }
  let at = 624;
  function word() {
    if (at === 624) {
      for (let i = 0; i < 624; i++) {
        const y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
        state[i] = state[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      at = 0;
    }
    let y = state[at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }
  return () => ((word() >>> 5) * 67108864 + (word() >>> 6)) / 9007199254740992;
}

/** Groups numbered from the largest down; of equal ones the first member decides. */
function numbered(labels) {
  const groups = [...new Set(labels)].map((label) =>
    labels.map((other, i) => (other === label ? i : -1)).filter((i) => i >= 0),
  );
  groups.sort((a, b) => b.length - a.length || a[0] - b[0]);
  const out = [];
  groups.forEach((members, number) => members.forEach((i) => (out[i] = number)));
  return out;
}
