// A source that is a file: shown, and cropped by dragging over it or by numbers.

import { element } from "./pictures.js";

export class Photo {
  constructor(file, opened, changed, mayCrop) {
    Object.assign(this, { file, changed, ...opened, crop: null });
    this.canvas = element("canvas", { className: "photo", role: "img", "aria-label": `The file ${file.name}` });
    this.numbers = ["left", "top", "width", "height"].map((name) => element("input", {
      type: "number", min: 0, inputMode: "numeric", "aria-label": `${name} of the crop, in pixels`, name,
    }));
    const whole = element("button", { type: "button", onclick: () => this.set(null) }, "Whole image");
    this.controls = element("details", { className: "crop", hidden: !mayCrop },
      element("summary", {}, "Crop"),
      element("p", {}, "Drag over the image, or give left, top, width and height in its pixels."),
      element("div", { className: "numbers" }, ...this.numbers, whole));
    this.controls.addEventListener("change", () => {
      const [left, top, width, height] = this.numbers.map((each) => Math.round(Number(each.value) || 0));
      this.set(width > 0 && height > 0 ? { left, top, width, height } : null);
    });
    if (mayCrop) this.#listen();
    this.show();
  }

  get source() {
    return { blob: this.file, name: this.file.name || "image" };
  }

  // The pixels that are taken, (width, height).
  get taken() {
    return this.crop ?? { left: 0, top: 0, width: this.width, height: this.height };
  }

  set(crop) {
    if (crop) {
      const left = Math.min(Math.max(0, crop.left), this.width - 1), top = Math.min(Math.max(0, crop.top), this.height - 1);
      crop = {
        left, top, width: Math.min(crop.width, this.width - left), height: Math.min(crop.height, this.height - top),
      };
    }
    this.crop = crop;
    this.show();
    this.changed();
  }

  show(dragged = null) {
    const { canvas, bitmap } = this, shown = Math.min(1, 1024 / Math.max(bitmap.width, bitmap.height));
    canvas.width = Math.max(1, Math.round(bitmap.width * shown));
    canvas.height = Math.max(1, Math.round(bitmap.height * shown));
    canvas.style.setProperty("--aspect", `${canvas.width} / ${canvas.height}`);
    canvas.style.setProperty("--ratio", canvas.width / canvas.height);
    const context = canvas.getContext("2d"), crop = dragged ?? this.crop;
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    if (crop) {
      const scale = canvas.width / this.width;
      const [left, top, width, height] = [crop.left, crop.top, crop.width, crop.height].map((each) => each * scale);
      context.fillStyle = "rgb(0 0 0 / 55%)";
      context.beginPath();
      context.rect(0, 0, canvas.width, canvas.height);
      context.rect(left, top, width, height);
      context.fill("evenodd");
      context.lineWidth = Math.max(1, canvas.width / 250);
      context.strokeStyle = "white";
      context.strokeRect(left, top, width, height);
    }
    const { left, top, width, height } = this.taken;
    [left, top, width, height].forEach((value, place) => { this.numbers[place].value = value; });
  }

  // The part that is taken, on a canvas as large as that.
  picture() {
    const { left, top, width, height } = this.taken, scale = this.bitmap.width / this.width;
    const shown = Math.min(1, 1024 / Math.max(width, height));
    const canvas = element("canvas", { width: Math.max(1, width * shown), height: Math.max(1, height * shown) });
    canvas.getContext("2d").drawImage(this.bitmap, left * scale, top * scale, width * scale, height * scale,
      0, 0, canvas.width, canvas.height);
    return canvas;
  }

  #listen() {
    const { canvas } = this;
    let start = null, crop = null;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [
        Math.round(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * this.width),
        Math.round(Math.min(1, Math.max(0, (event.clientY - box.top) / box.height)) * this.height),
      ];
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (!event.isPrimary || event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      start = place(event);
      crop = null;
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!start || !event.isPrimary) return;
      const [x, y] = place(event);
      crop = {
        left: Math.min(x, start[0]), top: Math.min(y, start[1]),
        width: Math.abs(x - start[0]), height: Math.abs(y - start[1]),
      };
      this.show(crop);
    });
    canvas.addEventListener("pointerup", () => {
      if (start && crop && Math.min(crop.width, crop.height) > 3) this.set(crop);
      else this.show();
      start = null;
    });
    canvas.addEventListener("pointercancel", () => { start = null; this.show(); });
  }
}
