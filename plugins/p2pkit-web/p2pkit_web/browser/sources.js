// From the pixels of a file to what the network takes of it, by the same rules as `p2pkit translate`.

import { lightness } from "./lab.js";
import { Unreadable } from "./reading.js";
import { rounded } from "./rounding.js";

const LUMA = [0.299, 0.587, 0.114], SAME_ASPECT = 0.02;

// The part of an image that is taken: a crop "left,top,width,height", or the half of a file of two images side by side.
export function cropped(image, crop, about) {
  if (crop) {
    const [left, top, width, height] = crop.split(",").map(Number);
    return part(image, left, top, width, height);
  }
  if (!about.half || !about.source_size) return image;
  const [height, width] = about.source_size, aspect = (2 * width) / height;
  if (image.width % 2 || Math.abs(image.width / image.height / aspect - 1) > SAME_ASPECT) return image;
  return part(image, about.half === "left half" ? 0 : image.width / 2, 0, image.width / 2, image.height);
}

function part(image, left, top, width, height) {
  const of = (values, channels) => {
    if (!values) return undefined;
    const taken = new values.constructor(width * height * channels);
    for (let row = 0; row < height; row++) {
      const from = ((top + row) * image.width + left) * channels;
      taken.set(values.subarray(from, from + width * channels), row * width * channels);
    }
    return taken;
  };
  return { ...image, width, height, values: of(image.values, image.channels), numbers: of(image.numbers, 1) };
}

// {channels, height, width, values} in [-1, 1], of one source.
export function unitValues(image, source, name) {
  const own = taken(image, source, name), { width, height, channels } = own;
  if (channels !== source.channels) {
    throw new Unreadable(`${name}: it has ${channels} channels; this model takes ${source.channels}`);
  }
  const values = new Float32Array(channels * height * width), ranges = source.ranges ?? [[0, 2 ** own.bits - 1]];
  for (let channel = 0; channel < channels; channel++) {
    const [low, high] = ranges[ranges.length > 1 ? channel : 0];
    for (let at = 0; at < height * width; at++) {
      const value = ((own.values[at * channels + channel] - low) * 2) / (high - low) - 1;
      values[channel * height * width + at] = Math.min(1, Math.max(-1, value));
    }
  }
  return { channels, height, width, values };
}

function taken(image, { taking, channels: wanted }, name) {
  const { channels, alpha, palette } = taking, ofNumbers = palette === "indices" || palette === "labels";
  if (ofNumbers && image.numbers) return { ...image, channels: 1, values: image.numbers };
  if (ofNumbers && image.lost) throw new Unreadable(`${name}: the browser gives the colours of its numbers; save it as a plain PNG`);
  if (palette === "indices" && image.channels !== 1) {
    throw new Unreadable(`${name}: the model takes the numbers of colours in a palette, and this file has none`);
  }
  if (image.decoded && image.channels === 4 && (!alpha || alpha === "drop" || channels?.startsWith("first "))) {
    throw new Unreadable(`${name}: the browser keeps no colours beneath transparent pixels; save it as a plain PNG`);
  }
  if (channels?.startsWith("first ")) return picked(image, Number(channels.slice(6)));
  if (!channels && wanted === 1 && image.decoded && image.channels === 3 && isGray(image)) return picked(image, 1);
  if (!channels && !alpha) return image;
  const plain = withoutAlpha(image, alpha);
  if (channels === "lab_L") return lab(plain);
  if (channels === "gray" && plain.channels === 3) return each(plain, 1, (part) => [rounded(luma(part))]);
  if (channels === "rgb" && plain.channels === 1) return each(plain, 3, ([value]) => [value, value, value]);
  return plain;
}

function isGray({ values }) {
  for (let at = 0; at < values.length; at += 3) {
    if (values[at] !== values[at + 1] || values[at] !== values[at + 2]) return false;
  }
  return true;
}

const luma = (part) => part.reduce((sum, value, at) => sum + LUMA[at] * value, 0);

// An image with other channels, made of those of each pixel.
function each(image, channels, make, Kind = image.values.constructor) {
  const { width, height } = image, values = new Kind(width * height * channels);
  for (let at = 0; at < width * height; at++) {
    values.set(make([...image.values.subarray(at * image.channels, (at + 1) * image.channels)]), at * channels);
  }
  return { ...image, channels, values };
}

const picked = (image, count) => each(image, Math.min(count, image.channels), (part) => part.slice(0, count));

function withoutAlpha(image, alpha) {
  if (image.channels !== 2 && image.channels !== 4) return image;
  const count = image.channels - 1;
  if (!alpha || alpha === "drop") return picked(image, count);
  const high = 2 ** image.bits - 1, text = { white: "#ffffff", black: "#000000" }[alpha] ?? alpha;
  let behind = [1, 3, 5].map((place) => parseInt(text.slice(place, place + 2), 16) / 255);
  if (count === 1) behind = [luma(behind)];
  return each(image, count, (part) => {
    const share = part[count] / high;
    return behind.map((colour, at) => rounded(share * part[at] + (1 - share) * colour * high));
  });
}

function lab(image) {
  const high = 2 ** image.bits - 1;
  return each(image, 1, (part) => {
    const [red, green = red, blue = red] = part.map((value) => value / high);
    return [lightness(red, green, blue)];
  }, Float32Array);
}
