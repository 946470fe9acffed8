// What the page asks the server for. Errors are those that the server tells: what is wrong, and what to do.

// The description of the API, to which the page leads.
export const description = "openapi.json";

export class Refused extends Error {
  constructor(status, error, hint, retry) {
    super(hint ? `${error}: ${hint}` : error);
    this.status = status;
    this.retry = retry;
  }
}

async function answer(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server does not answer", "is p2pkit serve still running?");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({ error: response.statusText, hint: "" }));
  throw new Refused(response.status, told.error, told.hint, Number(response.headers.get("Retry-After")) || 0);
}

export const models = async () => (await (await answer("/api/models")).json()).models;

export const model = async (id) => (await answer(`/api/models/${encodeURIComponent(id)}`)).json();

export const examples = async (id) => (await answer(`/api/models/${encodeURIComponent(id)}/examples`)).json();

export const exampleAddress = (id, place, source) =>
  `/api/models/${encodeURIComponent(id)}/examples/${place}?source=${encodeURIComponent(source)}`;

export const example = async (id, place, source) => (await answer(exampleAddress(id, place, source))).blob();

export const progress = async (job) => (await (await answer(`/api/progress/${job}`)).json()).share;

// A file that the browser may not be able to show, as a PNG; and the size of the file itself.
export async function preview(id, source, file) {
  const query = new URLSearchParams({ model: id, source, name: file.name || "image" });
  const response = await answer(`/api/preview?${query}`, {
    method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" },
  });
  const [width, height] = response.headers.get("X-Image-Size").split("x").map(Number);
  return { blob: await response.blob(), width, height };
}

// The translation of one image, or of several by name: {blob, name, milliseconds}.
export async function translate(parameters, images, signal) {
  const query = new URLSearchParams(), began = performance.now();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") query.set(name, value);
  }
  const names = Object.keys(images);
  let body, headers;
  if (names.length === 1 && names[0] === "") {
    query.set("name", images[""].name);
    body = images[""].blob;
    headers = { "Content-Type": "application/octet-stream" };
  } else {
    body = new FormData();
    for (const name of names) body.append(name, images[name].blob, images[name].name);
  }
  const response = await answer(`/api/translate?${query}`, { method: "POST", body, headers, signal });
  const called = /filename\*=UTF-8''([^;]+)/.exec(response.headers.get("Content-Disposition") || "");
  const blob = await response.blob();
  return { blob, name: called ? decodeURIComponent(called[1]) : "output", milliseconds: performance.now() - began };
}

export function jobName() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
