// Image files in the browser: their pixels, or, of what it does not know, those of the PNG that the server makes.

import { preview } from "./api.js";

// {bitmap, width, height}: what shows a file, and the size of the file itself.
export async function opened(file, model, source) {
  try {
    const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    return { bitmap, width: bitmap.width, height: bitmap.height };
  } catch {
    const shown = await preview(model, source, file);
    return { bitmap: await createImageBitmap(shown.blob), width: shown.width, height: shown.height };
  }
}

export function pixelsOf(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

// An element with properties, and children behind them.
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

export function say(text) {
  document.getElementById("said").textContent = text;
}
