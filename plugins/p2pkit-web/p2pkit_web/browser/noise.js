// Noise as a function of where it falls, as p2pkit draws it (p2pkit/networks/noise.py): the same values, bit for bit.

const LEVELS = 2 ** 24;

// The integer mixer "lowbias32" by Chris Wellons, 2018.
function mixed(value) {
  value = Math.imul(value ^ (value >>> 16), 0x7feb352d);
  value = Math.imul(value ^ (value >>> 15), 0x846ca68b);
  return value ^ (value >>> 16);
}

// A level for each place of [channels, height, width] of a plane, from `first` (row, column) on.
function levels([channels, height, width], first, seed, take) {
  const values = new Float32Array(channels * height * width);
  for (let channel = 0, at = 0; channel < channels; channel++) {
    const ofChannel = mixed(seed + channel);
    for (let row = 0; row < height; row++) {
      const ofRow = mixed(ofChannel + first[0] + row);
      for (let column = 0; column < width; column++) {
        values[at++] = take(mixed(ofRow + first[1] + column) & (LEVELS - 1));
      }
    }
  }
  return values;
}

// The inverse of the normal distribution function, to 16 digits (Wichura 1988, algorithm AS 241, PPND16).
function normal(share) {
  const q = share - 0.5;
  const over = (upper, lower, r) => {
    const sum = (factors) => factors.reduceRight((total, factor) => total * r + factor, 0);
    return sum(upper) / sum(lower);
  };
  if (Math.abs(q) <= 0.425) {
    return q * over(
      [3.3871328727963666080, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125,
        45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727],
      [1, 42.313330701600911252, 687.18700749205790830, 5394.1960214247511077,
        21213.794301586595867, 39307.895800092710610, 28729.085735721942674, 5226.4952788528545610],
      0.180625 - q * q);
  }
  const r = Math.sqrt(-Math.log(q < 0 ? share : 1 - share));
  const size = r <= 5
    ? over(
      [1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
        1.27045825245236838258, 0.241780725177450611770, 0.0227238449892691845833, 0.000774545014278341407640],
      [1, 2.05319162663775882187, 1.67638483018380384940, 0.689767334985100004550,
        0.148103976427480074590, 0.0151986665636164571966, 0.000547593808499534494600, 1.05075007164441684324e-9],
      r - 1.6)
    : over(
      [6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580, 0.296560571828504891230,
        0.0265321895265761230930, 0.00124266094738807843860, 0.0000271155556874348757815, 2.01033439929228813265e-7],
      [1, 0.599832206555887937690, 0.136929880922735805310, 0.0148753612908506148525,
        0.000786869131145613259100, 0.0000184631831751005468180, 1.42151175831644588870e-7, 2.04426310338993978564e-15],
      r - 5);
  return q < 0 ? -size : size;
}

// The input of one layer that draws: {shape, values}. `padded` is the (height, width) of the padded source, `first` the
// place of its first pixel in the image's plane.
export function drawn(noise, seed, padded, first) {
  if (noise.of === "latent") return { shape: [noise.values], values: Float32Array.from(noise.draws[seed]) };
  const by = noise.size_divided_by, times = noise.size_multiplied_by;
  const sizes = by ? padded.map((side, axis) => side / by[axis]) : times ? padded.map((side, axis) => side * times[axis]) : [1, 1];
  const shape = [noise.channels, ...sizes];
  const origin = by || times
    ? sizes.map((side, axis) => Math.floor((2 * first[axis] * side + padded[axis]) / (2 * padded[axis]))) : [0, 0];
  const least = Math.round((noise.dropped ?? 0) * LEVELS);
  const take = noise.of === "dropout" ? (level) => (level >= least ? 1 : 0) : (level) => normal((level + 0.5) / LEVELS);
  return { shape, values: levels(shape, origin, noise.draws[seed], take) };
}
