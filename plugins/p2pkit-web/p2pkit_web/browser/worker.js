// Translates beside the page: the runtime, the network, and all that p2pkit does around a network.

import { drawn } from "./noise.js";
import { encodePNG } from "./png.js";
import { pixelsIn, Unreadable } from "./reading.js";
import { resized } from "./resizing.js";
import { rounded } from "./rounding.js";
import { cropped, unitValues } from "./sources.js";
import { forTheEye, storedPixels } from "./targets.js";

let about, ort, session;

class Missing extends Error {}

async function load(described) {
  about = described;
  const place = new URL(about.runtime, self.location.href);
  try {
    ort = await import(new URL("ort.wasm.min.mjs", place).href);
  } catch {
    throw new Missing(`ONNX Runtime Web is not at ${place.href}: ${about.how}`);
  }
  ort.env.wasm.wasmPaths = place.href;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency) : 1;
  session = await ort.InferenceSession.create(await weights(), { executionProviders: ["wasm"] });
}

async function weights() {
  const response = await fetch(new URL(`../model.onnx?${about.model.version}`, self.location.href));
  if (!response.ok) throw new Missing(`model.onnx cannot be had: ${response.status} ${response.statusText}`);
  const whole = Number(response.headers.get("Content-Length")), parts = [];
  let bytes = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    bytes += value.length;
    if (whole) postMessage({ loaded: Math.min(1, bytes / whole) });
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

// The (height, width) that sources are resized to, as for validation.
function trainedSize(height, width) {
  if (!about.resize) return [height, width];
  const { size, keep_aspect: keep } = about.resize;
  if (!keep) return size;
  const factor = Math.max(size[0] / height, size[1] / width);
  return [Math.max(size[0], rounded(factor * height)), Math.max(size[1], rounded(factor * width))];
}

function noiseFor(height, width, seed) {
  const { size_multiple: multiple = 1, smallest_size: smallest = 1 } = about.padding;
  const padded = [height, width].map((side) => Math.ceil(Math.max(side, smallest) / multiple) * multiple);
  const first = [height, width].map((side, axis) => -Math.floor((padded[axis] - side) / 2));
  return about.noise.map((noise) => [noise.name, drawn(noise, seed, padded, first)]);
}

async function throughNetwork(sources, seed) {
  const [{ height, width }] = sources, given = {};
  sources.forEach((image, at) => {
    given[about.sources[at].input] = new ort.Tensor("float32", image.values, [1, image.channels, height, width]);
  });
  for (const [name, { shape, values }] of noiseFor(height, width, seed)) {
    given[name] = new ort.Tensor("float32", values, [1, ...shape]);
  }
  const { target } = await session.run(given);
  if (!target.data.every(Number.isFinite)) throw new Unreadable("the model gives values that are NaN or infinite");
  const [, channels, rows, columns] = target.dims;
  return { channels, height: rows, width: columns, values: target.data };
}

function refuseUneven(sources) {
  const sizes = new Set(sources.map(({ height, width }) => `${width}x${height}`));
  if (sizes.size > 1) throw new Unreadable(`the sources are of ${[...sizes].join(" and ")} pixels; they must be of one size`);
}

// L of each pixel of the sources, where the network gives colours without it.
function lightnessIn(sources) {
  if (!about.target.lightness) return null;
  const { source, range: [dark, light] } = about.target.lightness;
  return sources[source].values.map((value) => ((value + 1) / 2) * (light - dark) + dark);
}

async function translate({ images, crop, whole, seed, preview }) {
  const stored = [];
  for (const source of about.sources) {
    const { blob, name } = images[source.name], image = await pixelsIn(blob, name, about.most);
    stored.push(unitValues(cropped(image, crop, whole ? {} : about), source, name));
  }
  refuseUneven(stored);
  const [{ height, width }] = stored, size = trainedSize(height, width);
  const sources = stored.map((image, at) => resized(image, ...size, about.sources[at].resampling));
  const made = await throughNetwork(sources, seed);
  const output = resized(made, about.model.scale * height, about.model.scale * width);
  const pixels = storedPixels(output, about.target, lightnessIn(stored));
  return encodePNG(preview ? forTheEye(pixels, about.model.output.range) : pixels);
}

self.onmessage = async ({ data: { number, load: described, translate: task } }) => {
  try {
    postMessage({ number, result: described ? await load(described) : await translate(task) });
  } catch (error) {
    const known = error instanceof Unreadable || error instanceof Missing;
    postMessage({ number, error: known ? error.message : `The browser could not translate this: ${error.message ?? error}` });
  }
};
