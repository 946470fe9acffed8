// The output of one model: asked for as the source changes, one request at a time, the newest source next.

import { jobName, progress, translate } from "./api.js";
import { element, say } from "./pictures.js";

const POLL = 400, LARGE = 4e6;

export class Output {
  // `sources()` gives {images, crop, drawn, pixels, picture}, or null where there is nothing to translate yet.
  constructor(model, sources) {
    Object.assign(this, { model, sources, seed: 0, busy: false, again: false });
    this.image = element("img", { alt: "", className: "made" });
    this.before = element("div", { className: "before" });
    this.frame = element("div", { className: "frame empty" }, this.image, this.before);
    this.wipe = element("input", { type: "range", min: 0, max: 100, value: 0, "aria-label": "Wipe: how much of the source is shown" });
    this.wipe.addEventListener("input", () => this.frame.style.setProperty("--wipe", `${this.wipe.value}%`));
    this.state = element("p", { className: "state" });
    this.bar = element("progress", { max: 1, value: 0, hidden: true, "aria-label": "Tiles" });
    this.download = element("button", { type: "button", disabled: true, onclick: () => this.#download() }, "Download");
    this.tiles = element("input", { type: "checkbox", onchange: () => { this.chosenTiles = true; this.update(); } });
    this.tilesBox = element("label", { className: "tiles", hidden: true }, this.tiles, `In tiles of ${model.tile}`);
    this.title = element("h2", {}, model.title);
    this.element = element("article", { className: "output", "aria-label": `Output of ${model.title}` },
      element("div", { className: "tools" }, this.title,
        element("label", { className: "wipe", title: "How much of the source is shown" }, element("span", {}, "Output"), this.wipe, element("span", {}, "Source"))),
      this.frame, this.bar,
      element("div", { className: "under" }, this.#samples(), this.tilesBox, this.state, this.download));
    const { dtype, channels } = model.output;
    this.plain = dtype === "uint8" && (channels === 1 || channels === 3);
  }

  #samples() {
    const box = element("div", { className: "samples", hidden: !this.model.noise });
    this.shownSeed = element("span", { className: "seed" });
    const go = (step) => () => {
      this.seed = Math.max(0, this.seed + step);
      this.shownSeed.textContent = `Sample ${this.seed + 1}`;
      this.update();
    };
    box.append(element("button", { type: "button", onclick: go(-1), "aria-label": "Previous sample", title: "Previous sample" }, "‹"), this.shownSeed,
      element("button", { type: "button", onclick: go(1) }, "Another sample"));
    this.shownSeed.textContent = "Sample 1";
    return box;
  }

  // Ask for the output of what the sources are now; while it is asked for, only that it is to be asked again.
  async update() {
    if (this.busy) {
      this.again = true;
      return;
    }
    this.busy = true;
    do {
      this.again = false;
      await this.#once();
    } while (this.again && !this.ended);
    this.busy = false;
  }

  end() {
    this.ended = true;
    this.stop?.abort();
    if (this.address) URL.revokeObjectURL(this.address);
  }

  #parameters(given) {
    const offered = !given.drawn && given.pixels > this.model.tile ** 2;
    this.tilesBox.hidden = !offered;
    if (!this.chosenTiles) this.tiles.checked = offered && !this.model.resized && given.pixels > LARGE;
    return {
      model: this.model.id, seed: this.model.noise ? this.seed : null, crop: given.crop,
      as: given.drawn || given.crop ? "image" : null, tile: offered && this.tiles.checked ? this.model.tile : null,
    };
  }

  async #once() {
    const given = await this.sources();
    if (!given) return;
    const parameters = this.#parameters(given), watched = parameters.tile ? jobName() : null;
    this.element.setAttribute("aria-busy", "true");
    const late = setTimeout(() => this.frame.classList.add("late"), 300);
    this.stop = new AbortController();
    const timer = watched && setInterval(async () => {
      this.bar.hidden = false;
      this.bar.value = await progress(watched).catch(() => this.bar.value);
    }, POLL);
    try {
      const preview = this.plain && !parameters.tile ? null : 1;
      const made = await translate({ ...parameters, preview, job: watched }, given.images, this.stop.signal);
      if (this.ended) return;
      this.given = given;
      await this.#show(made.blob, given);
      this.state.className = "state";
      this.state.textContent = `${Math.round(made.milliseconds)} ms`;
      if (!this.again) say(`${this.model.title}: translated in ${Math.round(made.milliseconds)} milliseconds`);
    } catch (error) {
      if (this.ended || error.name === "AbortError") return;
      if (error.status === 503 && error.retry) {
        this.#tell("The server is busy; asking again …");
        await new Promise((done) => setTimeout(done, error.retry * 1000));
        this.again = true;
      } else {
        this.#tell(error.message);
      }
    } finally {
      clearTimeout(late);
      clearInterval(timer);
      this.bar.hidden = true;
      this.frame.classList.remove("late");
      this.element.setAttribute("aria-busy", "false");
    }
  }

  #tell(text) {
    this.state.className = "state wrong";
    this.state.textContent = text;
    say(text);
  }

  async #show(blob, given) {
    const address = URL.createObjectURL(blob), former = this.address;
    this.image.src = address;
    await this.image.decode().catch(() => {});
    const { naturalWidth: width, naturalHeight: height } = this.image;
    this.frame.style.setProperty("--aspect", `${width} / ${height}`);
    this.frame.style.setProperty("--ratio", width / height);
    this.frame.classList.toggle("coarse", width < 512);
    this.frame.classList.remove("empty");
    this.image.alt = `What ${this.model.title} makes of the source, ${width} by ${height} pixels`;
    this.before.replaceChildren(given.picture);
    this.address = address;
    if (former) URL.revokeObjectURL(former);
    this.download.disabled = false;
  }

  // The output in the model's own depth and format.
  async #download() {
    this.download.disabled = true;
    try {
      const made = await translate(this.#parameters(this.given), this.given.images);
      const link = element("a", { href: URL.createObjectURL(made.blob), download: made.name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    } catch (error) {
      this.#tell(error.message);
    } finally {
      this.download.disabled = false;
    }
  }
}
