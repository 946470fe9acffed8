// Sources of the validation set, to begin with.

import { example, exampleAddress, examples } from "./api.js";
import { element } from "./pictures.js";

const box = document.getElementById("examples"), strip = box.querySelector(".strip");

// Show those of a model; `choose(files)` takes one, by the names of its sources. Gives a function that chooses by place.
export async function showExamples(model, choose) {
  const { keys } = await examples(model.id).catch(() => ({ keys: [] }));
  box.hidden = !keys.length;
  const names = model.sources.map((source) => source.name);
  const take = async (place) => {
    const files = {};
    for (const name of names) {
      const blob = await example(model.id, place, name);
      files[name] = new File([blob], `${keys[place]}.${blob.type === "image/tiff" ? "tif" : "png"}`, { type: blob.type });
    }
    choose(files);
  };
  strip.replaceChildren(...keys.map((key, place) => element("button", {
    type: "button", title: key, onclick: () => take(place),
  }, element("img", { src: exampleAddress(model.id, place, names[0]), alt: `Example ${key}`, loading: "lazy", width: 64, height: 64 }))));
  return keys.length ? take : null;
}
