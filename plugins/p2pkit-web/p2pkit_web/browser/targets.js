// From what the network gives to the pixels of a file, as p2pkit writes them, and to what is shown of them.

import { rgb } from "./lab.js";
import { rounded } from "./rounding.js";

// {channels, height, width, bits, values}, numbers [H, W, C] as stored; `lightness` is L of each pixel, of colours a and b.
export function storedPixels(output, target, lightness) {
  const { height, width } = output, count = height * width, most = 2 ** target.bits - 1;
  const channels = target.ab ? 3 : output.channels;
  const values = target.bits === 16 ? new Uint16Array(count * channels) : new Uint8Array(count * channels);
  const unit = (channel, at) => Math.min(1, Math.max(-1, output.values[channel * count + at]));
  for (let at = 0; at < count; at++) {
    if (target.ab) {
      const [low, high] = target.ab, [a, b] = [0, 1].map((channel) => ((unit(channel, at) + 1) / 2) * (high - low) + low);
      values.set(rgb(lightness[at], a, b).map((part) => rounded(part * 255)), at * 3);
    } else {
      for (let channel = 0; channel < channels; channel++) {
        const [low, high] = target.ranges ? target.ranges[target.ranges.length > 1 ? channel : 0] : [0, most];
        values[at * channels + channel] = rounded((unit(channel, at) + 1) * ((high - low) / 2) + low);
      }
    }
  }
  return { channels, height, width, bits: target.bits, values };
}

// The same as 8 bits of 1 or 3 channels, from `range` [low, high], or what its bits hold.
export function forTheEye(image, range) {
  const channels = image.channels >= 3 ? 3 : 1, count = image.height * image.width;
  const values = new Uint8Array(count * channels), [low, high] = range ?? [0, 2 ** image.bits - 1];
  for (let at = 0; at < count; at++) {
    for (let channel = 0; channel < channels; channel++) {
      const value = (image.values[at * image.channels + channel] - low) / (high - low);
      values[at * channels + channel] = Math.min(1, Math.max(0, value)) * 255 + 0.5;
    }
  }
  return { ...image, channels, bits: 8, values };
}
