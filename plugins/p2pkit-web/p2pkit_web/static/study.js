// The page of a study: what it is about, the pairs one after another, thanks.

import { Api } from "./study_api.js";
import { draw, showPair } from "./study_show.js";

const KEPT = "p2pkit-study", ANSWERING = 1500;
const SIDES = ["left", "right"], NAMES = { left: "first", right: "second" };
const KEYS = { 1: "left", ArrowLeft: "left", ArrowUp: "left", 2: "right", ArrowRight: "right", ArrowDown: "right" };
const at = (id) => document.getElementById(id);
const frames = { left: at("left"), right: at("right") };
const canvases = { left: frames.left.querySelector("canvas"), right: frames.right.querySelector("canvas") };
const api = new Api(tell);
let about = null, answered = null;

function tell(error) {
  at("problem").textContent = error ? error.message : "";
  at("problem").hidden = !error;
}

function say(text) {
  at("prompt").textContent = text;
  at("said").textContent = text;
}

function only(shown) {
  for (const section of document.querySelectorAll("section")) section.hidden = section.id !== shown;
}

function pressed(id) {
  at(id).focus({ preventScroll: true });
  return new Promise((done) => at(id).addEventListener("click", done, { once: true }));
}

function describe() {
  const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
  const each = about.showing === "together" ? about.seconds : 2 * about.seconds;
  const minutes = Math.max(1, Math.ceil((about.practice + about.trials) * (each + 1 + ANSWERING / 1000) / 60));
  const texts = {
    shown: `${about.showing === "together" ? "both" : "one after the other, each"} for ${count(about.seconds, "second")}`,
    minutes: count(minutes, "minute"),
    practice: about.practice ? `${count(about.practice, "pair")} of practice, in which you are told whether you are right, then ` : "",
    trials: count(about.trials, "pair"),
  };
  for (const element of document.querySelectorAll("[data-about]")) element.textContent = texts[element.dataset.about];
  at("frames").style.setProperty("--size", `${about.size}px`);
}

function progress(place) {
  const practice = place < about.practice, number = practice ? place : place - about.practice;
  at("count").textContent = `${practice ? "Practice" : "Pair"} ${number + 1} of ${practice ? about.practice : about.trials}`;
  at("done-so-far").value = place / (about.practice + about.trials);
}

function bare() {
  for (const side of SIDES) {
    frames[side].classList.remove("fake");
    frames[side].querySelector("em").textContent = "";
    canvases[side].hidden = true;
  }
  at("next").hidden = true;
}

function shape(bitmap) {
  const longer = Math.max(bitmap.width, bitmap.height);
  at("frames").style.setProperty("--w", bitmap.width / longer);
  at("frames").style.setProperty("--h", bitmap.height / longer);
}

async function look(place) {
  say("Look closely");
  const [left, right] = await Promise.all(SIDES.map((side) => api.image(place, side)));
  shape(left);
  draw(canvases.left, left);
  draw(canvases.right, right);
  await api.shown(place, await showPair(canvases.left, canvases.right, about));
}

// Which image is taken for the fake one, and after how long.
async function asked() {
  say("Which one was the fake?");
  for (const side of SIDES) frames[side].disabled = false;
  const began = performance.now();
  const fake = await new Promise((done) => { answered = done; });
  answered = null;
  for (const side of SIDES) frames[side].disabled = true;
  return { fake, ms: performance.now() - began };
}

async function feedback(fake, chosen, seen) {
  for (const side of SIDES) {
    frames[side].classList.toggle("fake", side === fake);
    frames[side].querySelector("em").textContent = side === fake ? "fake" : "real";
    canvases[side].hidden = !seen;
  }
  say(`${fake === chosen ? "Right" : "Wrong"}: the ${NAMES[fake]} was the fake`);
  at("next").hidden = false;
  await pressed("next");
}

async function trial({ place, shown }) {
  only("pair");
  bare();
  progress(place);
  if (!shown) await look(place);
  const { fake, ms } = await asked(), result = await api.answer(place, fake, ms);
  if (result.fake) await feedback(result.fake, fake, !shown);
  for (const canvas of Object.values(canvases)) canvas.width = 0; // nothing of them is left
  return result;
}

async function session(state) {
  while (state.place !== null) {
    if (state.place === about.practice && about.practice && !state.shown) {
      only("pause");
      await pressed("go-on");
    }
    try {
      state = await trial(state);
    } catch (error) {
      if (error.status !== 409) throw error;
      state = await api.state(); // another window has gone on
    }
  }
  only("end");
  at("said").textContent = "Thank you. That was all.";
}

function keep(own) {
  api.session = own;
  history.replaceState(null, "", own ? `/#${own}` : "/");
  try {
    if (own) localStorage.setItem(KEPT, own);
    else localStorage.removeItem(KEPT);
  } catch { /* a browser that keeps nothing: the address has it */ }
}

function kept() {
  if (new URLSearchParams(location.search).has("next")) return ""; // the next person at this device
  let stored = "";
  try {
    stored = localStorage.getItem(KEPT) ?? "";
  } catch { /* see above */ }
  return location.hash.slice(1) || stored;
}

async function resumed() {
  keep(kept());
  if (!api.session) return null;
  try {
    return await api.state();
  } catch (error) {
    if (error.status !== 404) throw error;
    keep(""); // of another study
    return null;
  }
}

document.addEventListener("keydown", (event) => {
  if (!answered || event.repeat || event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
  event.preventDefault();
  answered(KEYS[event.key]);
});
for (const side of SIDES) frames[side].addEventListener("click", () => answered?.(side));

try {
  about = await api.study();
  describe();
  let state = await resumed();
  if (state?.place !== null) {
    const begun = Boolean(state && (state.place || state.shown));
    only("intro");
    at("again").hidden = !begun;
    at("begin").textContent = begun ? "Go on" : "Begin";
    await pressed("begin");
    if (!state) {
      state = await api.begin();
      keep(state.session);
    }
  }
  await session(state);
} catch (error) {
  tell(error);
}
