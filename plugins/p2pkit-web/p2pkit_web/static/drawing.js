// A map of classes that is drawn on: one number a pixel, with rectangles, strokes, fills, and what can be undone.

const MOST_STEPS = 100, MOST_BYTES = 64e6;

export class Drawing {
  constructor(width, height, first = 0) {
    this.width = width;
    this.height = height;
    this.map = new Uint8Array(width * height).fill(first);
    this.past = [];
    this.future = [];
  }

  // Remember the map as it is, before it is changed.
  keep() {
    this.past.push({ map: this.map.slice(), width: this.width, height: this.height });
    const most = Math.min(MOST_STEPS, Math.max(2, Math.floor(MOST_BYTES / this.map.length)));
    if (this.past.length > most) this.past.shift();
    this.future = [];
  }

  undo() { return this.#step(this.past, this.future); }

  redo() { return this.#step(this.future, this.past); }

  #step(from, to) {
    const found = from.pop();
    if (!found) return false;
    to.push({ map: this.map, width: this.width, height: this.height });
    Object.assign(this, found);
    return true;
  }

  replace(map, width, height) {
    this.keep();
    Object.assign(this, { map, width, height });
  }

  clear(number) {
    this.keep();
    this.map = new Uint8Array(this.width * this.height).fill(number);
  }

  // Fill a rectangle that two corners span, both within it.
  rectangle(x0, y0, x1, y1, number) {
    const left = Math.max(0, Math.min(x0, x1)), right = Math.min(this.width - 1, Math.max(x0, x1));
    const top = Math.max(0, Math.min(y0, y1)), bottom = Math.min(this.height - 1, Math.max(y0, y1));
    if (left > right) return;
    for (let y = top; y <= bottom; y++) this.map.fill(number, y * this.width + left, y * this.width + right + 1);
  }

  // A stroke from one place to another with a round tip of `size` pixels.
  stroke(x0, y0, x1, y1, size, number) {
    const steps = Math.max(1, Math.abs(x1 - x0), Math.abs(y1 - y0));
    for (let step = 0; step <= steps; step++) {
      this.#dot(Math.round(x0 + ((x1 - x0) * step) / steps), Math.round(y0 + ((y1 - y0) * step) / steps), size, number);
    }
  }

  #dot(x, y, size, number) {
    const low = -Math.floor((size - 1) / 2), high = Math.floor(size / 2), middle = (low + high) / 2;
    for (let down = low; down <= high; down++) {
      const row = y + down;
      if (row < 0 || row >= this.height) continue;
      const reach = Math.sqrt(Math.max(0, (size / 2) ** 2 - (down - middle) ** 2));
      const left = Math.max(0, x + Math.ceil(middle - reach)), right = Math.min(this.width - 1, x + Math.floor(middle + reach));
      if (left <= right) this.map.fill(number, row * this.width + left, row * this.width + right + 1);
    }
  }

  // Give all pixels of the class at a place that are connected with it another class.
  fill(x, y, number) {
    const { width, height, map } = this, old = map[y * width + x];
    if (old === number) return;
    const line = [y * width + x];
    while (line.length) {
      const at = line.pop();
      if (map[at] !== old) continue;
      const row = at - (at % width);
      let left = at, right = at;
      while (left > row && map[left - 1] === old) left--;
      while (right < row + width - 1 && map[right + 1] === old) right++;
      map.fill(number, left, right + 1);
      for (const next of [left - width, left + width]) {
        if (next < 0 || next >= width * height) continue;
        for (let place = next; place <= next + right - left; place++) {
          if (map[place] === old && (place === next || map[place - 1] !== old)) line.push(place);
        }
      }
    }
  }
}

// The class of each pixel of an image (ImageData): that of the nearest value; and the share that are near to none.
export function classesOf(image, values) {
  const { width, height, data } = image, map = new Uint8Array(width * height), known = new Map();
  let foreign = 0;
  for (let at = 0, from = 0; at < map.length; at++, from += 4) {
    const colour = (data[from] << 16) | (data[from + 1] << 8) | data[from + 2];
    let found = known.get(colour);
    if (found === undefined) {
      let least = Infinity, number = 0;
      values.forEach((value, place) => {
        const [red, green, blue] = value.length >= 3 ? value : [value[0], value[0], value[0]];
        const far = (data[from] - red) ** 2 + (data[from + 1] - green) ** 2 + (data[from + 2] - blue) ** 2;
        if (far < least) [least, number] = [far, place];
      });
      found = number | (least > 48 ** 2 ? 256 : 0);
      known.set(colour, found);
    }
    map[at] = found & 255;
    foreign += found >> 8;
  }
  return { map, foreign: foreign / map.length };
}
