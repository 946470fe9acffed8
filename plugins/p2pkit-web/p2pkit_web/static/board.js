// The canvas of a drawing: pointers and keys that draw on it.

import { Drawing } from "./drawing.js";
import { element } from "./pictures.js";

export class Board {
  // `classes` as the server has them; `changed(final)` is called as the drawing changes, `tool()` gives what draws.
  constructor(source, size, changed, tool) {
    this.source = source;
    this.changed = changed;
    this.tool = tool;
    this.drawing = new Drawing(size.width, size.height);
    this.start = null;
    this.cursor = null;
    this.canvas = element("canvas", {
      className: "board", tabIndex: 0, role: "application",
      ariaLabel: `Drawing${source.name ? ` of ${source.name}` : ""}: arrows move, space draws`,
    });
    this.colours = source.classes.map((each) => {
      const value = parseInt(each.colour.slice(1), 16);
      return (255 << 24) | ((value & 255) << 16) | (value & 0xff00) | (value >> 16);
    });
    this.#listen();
    this.show();
  }

  // The map as it is, with what is being drawn just now.
  get map() {
    return this.preview ?? this.drawing.map;
  }

  show() {
    const { width, height } = this.drawing, { canvas } = this;
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
      canvas.style.setProperty("--aspect", `${width} / ${height}`);
      canvas.style.setProperty("--ratio", width / height);
    }
    const context = canvas.getContext("2d"), image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    this.map.forEach((number, at) => { pixels[at] = this.colours[number]; });
    if (this.cursor) {
      const { x, y } = this.cursor;
      for (let step = -3; step <= 3; step++) {
        for (const [column, row] of [[x + step, y], [x, y + step]]) {
          if (step && column >= 0 && column < width && row >= 0 && row < height) {
            pixels[row * width + column] ^= 0xffffff;
          }
        }
      }
    }
    context.putImageData(image, 0, 0);
  }

  change(final = true) {
    this.show();
    this.changed(final);
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect(), { width, height } = this.drawing;
    return {
      x: Math.floor(((event.clientX - box.left) / box.width) * width),
      y: Math.floor(((event.clientY - box.top) / box.height) * height),
    };
  }

  #listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.isPrimary) return;
      canvas.setPointerCapture(event.pointerId);
      this.cursor = null;
      this.begin(this.#place(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.start || !event.isPrimary) return;
      const moves = event.getCoalescedEvents?.() ?? [];
      for (const each of moves.length ? moves : [event]) this.go(this.#place(each));
    });
    canvas.addEventListener("pointerup", (event) => event.isPrimary && this.end());
    canvas.addEventListener("pointercancel", () => this.cancel());
    canvas.addEventListener("blur", () => { this.cursor = null; this.cancel(); });
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  begin(place) {
    const { kind, number, size } = this.tool();
    this.drawing.keep();
    this.start = this.last = place;
    if (kind === "fill") {
      const { x, y } = place;
      if (x >= 0 && y >= 0 && x < this.drawing.width && y < this.drawing.height) this.drawing.fill(x, y, number);
      this.end();
    } else if (kind !== "rectangle") {
      this.drawing.stroke(place.x, place.y, place.x, place.y, size, number);
      this.change(false);
    }
  }

  go(place) {
    const { kind, number, size } = this.tool();
    if (kind === "rectangle") {
      const { map } = this.drawing;
      this.drawing.map = map.slice();
      this.drawing.rectangle(this.start.x, this.start.y, place.x, place.y, number);
      [this.preview, this.drawing.map] = [this.drawing.map, map];
    } else {
      this.drawing.stroke(this.last.x, this.last.y, place.x, place.y, size, number);
    }
    this.last = place;
    this.change(false);
  }

  end() {
    if (!this.start) return;
    if (this.preview) this.drawing.map = this.preview;
    else if (this.tool().kind === "rectangle") this.drawing.past.pop(); // a click alone draws none
    this.start = this.preview = null;
    this.change();
  }

  cancel() {
    if (!this.start) return this.show();
    this.start = this.preview = null;
    this.drawing.undo();
    this.drawing.future.pop();
    this.change();
  }

  #key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const { width, height } = this.drawing;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (moves[event.key]) {
      const [across, down] = moves[event.key], far = event.shiftKey ? 1 : Math.max(1, Math.round(width / 32));
      this.cursor ??= { x: width >> 1, y: height >> 1 };
      this.cursor.x = Math.min(width - 1, Math.max(0, this.cursor.x + across * far));
      this.cursor.y = Math.min(height - 1, Math.max(0, this.cursor.y + down * far));
      if (this.start) this.go({ ...this.cursor });
      else this.show();
    } else if (event.key === " ") {
      this.cursor ??= { x: width >> 1, y: height >> 1 };
      if (this.start) this.end();
      else this.begin({ ...this.cursor });
      this.show();
    } else if (event.key === "Escape") {
      this.cancel();
    } else {
      return;
    }
    event.preventDefault();
  }
}
