// What the page asks for, done in the browser: no image leaves it. It has the functions of the server's api.js.

const waiting = new Map(), shownAbout = document.getElementById("about");
let about = null, worker = null, loading = null, count = 0;

export const description = null;

function ask(message) {
  worker ??= started();
  const number = ++count;
  worker.postMessage({ number, ...message });
  return new Promise((done, failed) => waiting.set(number, { done, failed }));
}

function started() {
  const made = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  made.onmessage = ({ data: { number, loaded, result, error } }) => {
    if (loaded !== undefined) {
      shownAbout.textContent = `loading the model: ${Math.round(100 * loaded)} %`;
      return;
    }
    const { done, failed } = waiting.get(number);
    waiting.delete(number);
    if (error) failed(new Error(error));
    else done(result);
  };
  made.onerror = (event) => {
    for (const { failed } of waiting.values()) failed(new Error(event.message || "The browser runs no module in a worker"));
    waiting.clear();
    worker = loading = null;
  };
  return made;
}

export async function models() {
  if (!about) {
    const response = await fetch("model.json", { cache: "no-cache" });
    if (!response.ok) throw new Error(`model.json cannot be had: ${response.status} ${response.statusText}`);
    about = await response.json();
  }
  return [about.model];
}

export async function model() {
  loading ??= ask({ load: about });
  try {
    await loading;
  } catch (error) {
    loading = null;
    shownAbout.textContent = "";
    throw error;
  }
  return about.model;
}

export const examples = async () => ({ keys: [] });

export const exampleAddress = () => "";

export const example = async () => null;

export const progress = async () => 0;

export async function preview(id, source, file) {
  throw new Error(`${file.name}: this browser does not read such a file; give a PNG, JPEG or WebP`);
}

export async function translate({ seed, crop, as, preview: eyes }, images) {
  const began = performance.now(), samples = about.model.samples;
  if (samples && seed >= samples) throw new Error(`This page has ${samples} samples, and no more`);
  const blob = await ask({ translate: { images, crop, whole: as === "image", seed: seed ?? 0, preview: eyes } });
  const [first] = Object.values(images);
  return { blob, name: `${first.name.replace(/\.[^.]*$/, "")}.png`, milliseconds: performance.now() - began };
}

export const jobName = () => "";
