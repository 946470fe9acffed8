// The well of one source: a drawing with its tools, or a file; filled by drawing, dropping, pasting or an example.

import { Board } from "./board.js";
import { classesOf } from "./drawing.js";
import { Photo } from "./photo.js";
import { element, icon, opened, pixelsOf, say } from "./pictures.js";
import { png } from "./png.js";
import { Tools } from "./tools.js";

const LARGEST_DRAWING = 1024, FOREIGN = 0.2;

export class Well {
  // `changed(final)` is called as the source changes; `failed(error)` where a file cannot be taken.
  constructor(model, source, alone, changed, failed) {
    Object.assign(this, { model, source, alone, changed, failed, photo: null });
    this.stage = element("div", { className: "stage" });
    this.top = element("div", { className: "tools" });
    this.bottom = element("div", { className: "actions" });
    this.top.append(this.bottom);
    const title = source.name || (source.kind === "photo" ? "Source" : "Draw");
    this.element = element("article", { className: `well ${source.kind}`, "aria-label": title },
      element("h2", { hidden: alone }, title), this.top, this.stage);
    if (source.kind !== "photo") this.#makeBoard();
    this.#makeActions();
    this.#listen();
    this.#fit();
  }

  get drawn() { return this.board && !this.photo; }

  get empty() { return !this.board && !this.photo; }

  #makeBoard() {
    this.tools = new Tools(this.source);
    this.board = new Board(this.source, this.model.size, (final) => {
      this.#enable();
      this.changed(final);
    }, () => this.tools.chosen);
    this.bottom.before(this.tools.kinds, this.tools.width);
    this.paletteBox = this.tools.palette;
  }

  #makeActions() {
    const button = (text, act, name, key = "") => element("button", { type: "button", onclick: act, title: text + key },
      icon(name), element("span", {}, text));
    if (this.board) {
      this.undoButton = button("Undo", () => this.undo(), "undo", " (Ctrl+Z)");
      this.redoButton = button("Redo", () => this.redo(), "redo", " (Ctrl+Y)");
      this.clearButton = button("Clear", () => { this.board.drawing.clear(0); this.board.change(); }, "clear");
      this.bottom.append(this.undoButton, this.redoButton, this.clearButton);
      this.drawButton = button("Back to the drawing", () => this.#take(null), "pen");
      this.bottom.append(this.drawButton);
    }
    this.picker = element("input", { type: "file", className: "hidden", "aria-label": "Open an image file" });
    this.picker.addEventListener("change", () => {
      if (this.picker.files[0]) this.load(this.picker.files[0]);
      this.picker.value = "";
    });
    this.bottom.append(element("label", { className: "button", title: "Open an image" },
      this.picker, icon("open"), element("span", {}, "Open")));
  }

  #enable() {
    if (!this.board) return;
    this.undoButton.disabled = !this.board.drawing.past.length;
    this.redoButton.disabled = !this.board.drawing.future.length;
  }

  #fit() {
    const empty = element("p", { className: "drop" }, "Drop an image here, paste one, or open one.");
    this.stage.replaceChildren(this.photo ? this.photo.canvas : this.board ? this.board.canvas : empty);
    if (this.board) {
      this.tools.kinds.hidden = Boolean(this.photo);
      this.tools.fit(Boolean(this.photo));
      this.paletteBox.remove();
      if (!this.photo) this.stage.after(this.paletteBox);
      for (const each of [this.undoButton, this.redoButton, this.clearButton]) each.hidden = Boolean(this.photo);
      this.drawButton.hidden = !this.photo;
    }
    this.crop?.remove();
    this.crop = this.photo?.controls;
    if (this.crop) this.stage.after(this.crop);
    this.#enable();
  }

  #take(photo) {
    this.photo = photo;
    this.#fit();
    this.changed(true);
  }

  undo() { if (this.drawn && this.board.drawing.undo()) this.board.change(); }

  redo() { if (this.drawn && this.board.drawing.redo()) this.board.change(); }

  // Take a file: as a drawing where it is one of the classes, else as it is.
  async load(file) {
    try {
      const found = await opened(file, this.model.id, this.source.name);
      if (this.board && Math.max(found.width, found.height) <= LARGEST_DRAWING && found.bitmap.width === found.width) {
        const image = pixelsOf(found.bitmap);
        const { map, foreign } = classesOf(image, this.source.classes.map((each) => each.values));
        if (foreign <= FOREIGN) {
          this.photo = null;
          this.board.drawing.replace(map, image.width, image.height);
          this.#fit();
          this.board.change();
          return;
        }
        say("The file has other colours than the classes; it is translated as it is.");
      }
      this.#take(new Photo(file, found, () => this.changed(true), this.alone));
    } catch (error) {
      this.failed(error);
    }
  }

  // {blob, name}, or null where there is nothing yet.
  async given() {
    if (this.photo) return this.photo.source;
    if (!this.board) return null;
    const { width, height } = this.board.drawing, values = this.source.classes.map((each) => each.values);
    return { blob: await png(this.board.map, width, height, values, this.source.bits), name: "drawing.png" };
  }

  get crop4() {
    const crop = this.photo?.crop;
    return crop ? [crop.left, crop.top, crop.width, crop.height].join(",") : null;
  }

  get pixels() {
    const { width, height } = this.photo ? this.photo.taken : this.board ? this.board.drawing : { width: 0, height: 0 };
    return width * height;
  }

  // What the output is compared with.
  picture() {
    if (this.photo) return this.photo.picture();
    const canvas = element("canvas", { width: this.board.drawing.width, height: this.board.drawing.height });
    canvas.getContext("2d").drawImage(this.board.canvas, 0, 0);
    return canvas;
  }

  #listen() {
    const { element: box } = this;
    box.addEventListener("dragover", (event) => { event.preventDefault(); box.classList.add("over"); });
    box.addEventListener("dragleave", () => box.classList.remove("over"));
    box.addEventListener("drop", (event) => {
      event.preventDefault();
      box.classList.remove("over");
      if (event.dataTransfer.files[0]) this.load(event.dataTransfer.files[0]);
    });
  }
}
