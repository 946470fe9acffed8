// The tools and classes beside a drawing, as radio buttons, which keyboards and screen readers know.

import { element, icon } from "./pictures.js";

const KINDS = {
  labels: [["rectangle", "Rectangle", "r"], ["brush", "Brush", "b"], ["fill", "Fill", "f"]],
  edges: [["pen", "Pen", "b"], ["eraser", "Eraser", "e"]],
};
const SIZES = { labels: [1, 24, 8], edges: [1, 12, 2] };
let count = 0;

export class Tools {
  constructor(source) {
    this.source = source;
    this.group = `tools-${count++}`;
    const kinds = KINDS[source.kind], [least, most, size] = SIZES[source.kind];
    this.kinds = element("div", { className: "kinds", role: "radiogroup", "aria-label": "Tool" },
      ...kinds.map(([kind, title, key], place) => this.#radio("kind", kind, place === 0, "tool", `${title} (${key.toUpperCase()})`,
        icon(kind), element("span", {}, title))));
    this.size = element("input", { type: "range", min: least, max: most, value: size, "aria-label": "Width in pixels" });
    this.width = element("label", { className: "width" }, "Width ", this.size);
    this.palette = element("div", { className: "palette", role: "radiogroup", "aria-label": "Class" });
    if (source.kind === "labels") {
      const first = Math.min(source.classes.length, source.classes.findIndex((each) => each.name === "window") + 1 || 2) - 1;
      this.palette.append(...source.classes.map((each, number) => {
        const chip = element("span", { className: "chip", "aria-hidden": "true" });
        chip.style.backgroundColor = each.colour;
        return this.#radio("class", number, number === Math.max(0, first), "class", each.name, chip, element("span", {}, each.name));
      }));
    }
    this.kinds.addEventListener("change", () => this.fit());
    this.fit();
  }

  #radio(of, value, checked, className, title, ...content) {
    const input = element("input", { type: "radio", name: `${this.group}-${of}`, value, checked });
    return element("label", { className, title }, input, ...content);
  }

  fit(hidden = false) {
    this.width.hidden = hidden || ["rectangle", "fill"].includes(this.kind);
  }

  get kind() { return this.kinds.querySelector("input:checked").value; }

  // What draws: a kind, the number of a class, a size in pixels.
  get chosen() {
    const { kind } = this, edges = { pen: 1, eraser: 0 };
    const number = kind in edges ? edges[kind] : Number(this.palette.querySelector("input:checked").value);
    return { kind, number, size: Number(this.size.value) * (kind === "eraser" ? 3 : 1) };
  }

  // Choose by a key; whether it means anything here.
  key(key) {
    const found = KINDS[this.source.kind].find(([, , own]) => own === key.toLowerCase());
    if (found) {
      this.kinds.querySelector(`input[value=${found[0]}]`).checked = true;
      this.fit();
      return true;
    }
    if ((key !== "[" && key !== "]") || this.source.kind !== "labels") return false;
    const all = [...this.palette.querySelectorAll("input")], at = all.findIndex((each) => each.checked);
    const next = all[(at + (key === "]" ? 1 : all.length - 1)) % all.length];
    next.checked = true;
    next.parentElement.scrollIntoView({ block: "nearest", inline: "nearest" });
    return true;
  }
}
