// The page: which model, its sources, the outputs of it and of those beside it.

import * as api from "./api.js";
import { showExamples } from "./examples.js";
import { Output } from "./output.js";
import { element, say } from "./pictures.js";
import { Well } from "./well.js";

const POLL = 4000;
const select = document.getElementById("model"), compare = document.getElementById("compare");
const about = document.getElementById("about"), problem = document.getElementById("problem");
const sourcesBox = document.querySelector(".sources"), outputsBox = document.querySelector(".outputs");
let list = [], model = null, wells = [], outputs = [], beside = new Set();

function tell(error) {
  problem.textContent = error ? error.message : "";
  problem.hidden = !error;
}

function signature(one) {
  return JSON.stringify(one.sources.map(({ name, kind, channels, bits, classes }) => [name, kind, channels, bits, classes]));
}

function describe() {
  const trained = model.training ? "training, " : "";
  about.textContent = `${trained}step ${model.step.toLocaleString("en")} · ${model.generator}${model.data ? ` · ${model.data}` : ""}`;
  about.classList.toggle("training", model.training);
}

// What all wells hold now, once for each output.
async function given() {
  if (wells.some((well) => well.empty)) return null;
  const images = {};
  for (const well of wells) images[well.source.name] = await well.given();
  const first = wells[0];
  return { images, crop: first.crop4, drawn: wells.every((well) => well.drawn), pixels: first.pixels, picture: first.picture() };
}

function update() {
  tell(null);
  for (const output of outputs) output.update();
}

function makeWells() {
  const alone = model.sources.length === 1;
  wells = model.sources.map((source) => new Well(model, source, alone, update, tell));
  sourcesBox.replaceChildren(...wells.map((well) => well.element));
}

async function makeOutputs() {
  for (const output of outputs) output.end();
  const others = [];
  for (const id of beside) {
    try {
      const other = await api.model(id);
      if (signature(other) === signature(model)) others.push(other);
      else tell(new Error(`${other.title} takes other sources than ${model.title}, so it is not shown beside it`));
    } catch (error) {
      tell(error);
    }
  }
  outputs = [model, ...others].map((one) => new Output(one, given));
  outputsBox.replaceChildren(...outputs.map((output) => output.element));
  outputsBox.classList.toggle("several", outputs.length > 1);
  for (const output of outputs) output.update();
}

async function choose(id) {
  try {
    const chosen = await api.model(id), same = model && signature(model) === signature(chosen);
    model = chosen;
    if (same) beside.delete(id);
    else beside.clear(); // they take other sources
    tell(null);
    describe();
    offer();
    if (same) for (const well of wells) well.model = model;
    else makeWells();
    await makeOutputs();
    const take = await showExamples(model, (files) => {
      for (const well of wells) well.load(files[well.source.name]);
    });
    if (!same && take && model.id === id) await take(0);
    say(`${model.title} is shown`);
  } catch (error) {
    tell(error);
  }
}

// The models that can be chosen, and those that can be shown beside the chosen one.
function offer() {
  select.replaceChildren(...list.map((one) => element("option", {
    value: one.id, disabled: !one.there, selected: model?.id === one.id,
  }, one.title + (one.there ? one.training ? " (training)" : "" : " (no model yet)"))));
  const others = list.filter((one) => one.there && one.id !== model?.id);
  compare.hidden = !others.length;
  compare.querySelector(".sheet").replaceChildren(...others.map((one) => element("label", {},
    element("input", {
      type: "checkbox", checked: beside.has(one.id), onchange: (event) => {
        if (event.target.checked) beside.add(one.id);
        else beside.delete(one.id);
        makeOutputs();
      },
    }), one.title)));
}

// Follow runs: new ones, and new weights of those that are shown.
async function follow() {
  try {
    const found = await api.models(), before = JSON.stringify(list);
    list = found;
    if (JSON.stringify(list) !== before) offer();
    for (const output of outputs) {
      const now = list.find((one) => one.id === output.model.id);
      if (now && now.version && now.version !== output.model.version) {
        output.model = Object.assign(output.model, await api.model(now.id));
        if (output.model.id === model.id) {
          model = output.model;
          describe();
        }
        output.update();
      } else if (now && output.model.id === model.id && now.training !== model.training) {
        model.training = now.training;
        describe();
      }
    }
  } catch (error) {
    if (error.status === 0 || error.status === 401) tell(error);
  }
  setTimeout(follow, document.hidden ? 5 * POLL : POLL);
}

function keys(event) {
  const typed = event.target instanceof HTMLInputElement && ["number", "text"].includes(event.target.type);
  if (typed || event.target instanceof HTMLSelectElement) return;
  const well = wells.find((each) => each.element.contains(event.target) && each.drawn) ?? wells.find((each) => each.drawn);
  if (!well) return;
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && (key === "z" || key === "y")) {
    if (key === "y" || event.shiftKey) well.redo();
    else well.undo();
  } else if (event.ctrlKey || event.metaKey || event.altKey || !well.tools.key(event.key)) {
    return;
  }
  event.preventDefault();
}

function paste(event) {
  const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
  if (file) wells[0]?.load(file);
}

function closeMenu(event) {
  if (event.key === "Escape" && compare.open) compare.querySelector("summary").focus();
  if (event.key === "Escape" || (event.type === "pointerdown" && !compare.contains(event.target))) compare.open = false;
}

if (api.description) document.querySelector("footer p").append(element("a", { href: api.description }, "API"));
document.addEventListener("pointerdown", closeMenu);
compare.addEventListener("keydown", closeMenu);
select.addEventListener("change", () => choose(select.value));
document.addEventListener("keydown", keys);
document.addEventListener("paste", paste);
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => event.preventDefault()); // beside a well: not to leave the page

try {
  list = await api.models();
  offer();
  const first = list.find((one) => one.there);
  if (first) await choose(first.id);
  else tell(new Error("There is no model yet: a run writes one with its first checkpoint"));
} catch (error) {
  tell(error);
}
document.body.dataset.ready = "true";
setTimeout(follow, POLL);
