// Reading what `mlvpt export RUN --format web` wrote: a manifest and a binary of half-precision
// numbers, checked before anything is computed with them.

const FORMAT = "mlvpt-web";
const VERSION = 1;

/** A fault that the page shows as it is: one sentence with a remedy. */
export class LoadError extends Error {}

/**
 * Fetch a manifest and its weights.
 *
 * @param {string|URL} address of the manifest; the weights lie beside it.
 * @returns {Promise<{manifest: object, tensors: Object<string, Float32Array>}>}
 * @throws {LoadError} a file is missing, of another format, or damaged.
 */
export async function loadModel(address) {
  const response = await fetchOrFail(address, "The description of the model");
  let manifest;
  try {
    manifest = await response.json();
  } catch {
    throw new LoadError("The description of the model is damaged: reload the page.");
  }
  if (manifest.format !== FORMAT || manifest.version !== VERSION) {
    throw new LoadError("The model was exported by another version of mlvpt: export it again.");
  }
  const weights = await fetchOrFail(
    new URL(manifest.weights, address),
    "The weight file of the model",
  );
  const bytes = new Uint8Array(await weights.arrayBuffer());
  if (bytes.length !== manifest.bytes || crc32(bytes) !== manifest.crc32) {
    throw new LoadError(
      "The weight file of the model is damaged (its checksum differs from the one in its " +
        "description): reload the page, or export the model again.",
    );
  }
  const numbers = halfToFloat(new Uint16Array(bytes.buffer));
  const tensors = {};
  for (const [name, [start, ...shape]] of Object.entries(manifest.tensors)) {
    tensors[name] = numbers.subarray(start, start + shape.reduce((a, b) => a * b, 1));
  }
  return { manifest, tensors };
}

/** Fetch a file, or say in a sentence what could not be loaded. */
export async function fetchOrFail(address, what) {
  let response;
  try {
    response = await fetch(address);
  } catch {
    throw new LoadError(`${what} could not be loaded: check the connection and reload the page.`);
  }
  if (!response.ok) {
    throw new LoadError(`${what} could not be loaded (HTTP ${response.status}): reload the page.`);
  }
  return response;
}

/** CRC-32 of bytes as 8 hexadecimal digits, as Python's zlib.crc32 computes it. */
export function crc32(bytes) {
  const table = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    let value = i;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
    table[i] = value;
  }
  let crc = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) crc = table[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  return ((crc ^ 0xffffffff) >>> 0).toString(16).padStart(8, "0");
}

/** IEEE half precision (bit patterns) to single precision, exactly. */
export function halfToFloat(halves) {
  const floats = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) {
    const exponent = (halves[i] >>> 10) & 31;
    const fraction = halves[i] & 1023;
    const sign = halves[i] & 0x8000 ? -1 : 1;
    floats[i] =
      exponent === 0
        ? sign * fraction * 2 ** -24
        : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return floats;
}
