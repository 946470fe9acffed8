// Resizing planes of float32 as p2pkit does: antialiased bicubic as PyTorch has it, or the nearest pixel.

// What each place of a result of `wanted` takes of `found` ones: {first, weights}.
function bicubic(found, wanted) {
  const scale = found / wanted, wide = Math.max(1, scale), reach = 2 * wide, sharp = -0.5;
  const kernel = (x) => {
    x = Math.abs(x);
    if (x < 1) return ((sharp + 2) * x - (sharp + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * sharp : 0;
  };
  return Array.from({ length: wanted }, (_, place) => {
    const centre = scale * (place + 0.5), first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const last = Math.min(found, Math.trunc(centre + reach + 0.5));
    const weights = Array.from({ length: last - first }, (_, at) => kernel((at + first - centre + 0.5) / wide));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

// In float32, by which PyTorch decides between two places as near.
function nearest(found, wanted) {
  return Array.from({ length: wanted }, (_, place) => ({
    first: Math.min(found - 1, Math.floor(Math.fround((place + 0.5) * Math.fround(found / wanted)))), weights: [1],
  }));
}

// An image {channels, height, width, values} in [-1, 1] at another size.
export function resized(image, height, width, resampling = "bicubic") {
  if (image.height === height && image.width === width) return image;
  const taps = resampling === "nearest" ? nearest : bicubic, { channels } = image;
  const across = taps(image.width, width), down = taps(image.height, height);
  const lines = new Float32Array(channels * image.height * width), values = new Float32Array(channels * height * width);
  for (let line = 0; line < channels * image.height; line++) {
    for (let column = 0; column < width; column++) {
      const { first, weights } = across[column];
      let sum = 0;
      for (let at = 0; at < weights.length; at++) sum += weights[at] * image.values[line * image.width + first + at];
      lines[line * width + column] = sum;
    }
  }
  for (let channel = 0; channel < channels; channel++) {
    for (let row = 0; row < height; row++) {
      const { first, weights } = down[row], from = (channel * image.height + first) * width;
      for (let column = 0; column < width; column++) {
        let sum = 0;
        for (let at = 0; at < weights.length; at++) sum += weights[at] * lines[from + at * width + column];
        values[(channel * height + row) * width + column] = Math.min(1, Math.max(-1, sum));
      }
    }
  }
  return { channels, height, width, values };
}
