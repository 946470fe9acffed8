// CIELAB (CIE 1976, white D65) of sRGB and back, as p2pkit/images/lab.py has it.

const XYZ = [[0.412453, 0.35758, 0.180423], [0.212671, 0.71516, 0.072169], [0.019334, 0.119193, 0.950227]];
const WHITE = [0.95047, 1, 1.08883];

function inverse([[a, b, c], [d, e, f], [g, h, i]]) {
  const whole = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  return [
    [e * i - f * h, c * h - b * i, b * f - c * e], [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ].map((row) => row.map((value) => value / whole));
}

const RGB = inverse(XYZ);

// The lightness, 0 to 100, of a colour whose parts are in [0, 1].
export function lightness(red, green, blue) {
  const linear = [red, green, blue].map((part) => (part > 0.04045 ? ((part + 0.055) / 1.055) ** 2.4 : part / 12.92));
  const y = linear.reduce((sum, part, at) => sum + XYZ[1][at] * part, 0);
  return 116 * (y > 0.008856 ? Math.cbrt(y) : 7.787 * y + 16 / 116) - 16;
}

// Colours a and b with their lightness as red, green and blue in [0, 1].
export function rgb(light, a, b) {
  const y = (light + 16) / 116, roots = [y + a / 500, y, Math.max(0, y - b / 200)];
  const xyz = roots.map((root, at) => (root > 0.2068966 ? root ** 3 : (root - 16 / 116) / 7.787) * WHITE[at]);
  return RGB.map((row) => {
    const linear = row.reduce((sum, factor, at) => sum + factor * xyz[at], 0);
    return Math.min(1, Math.max(0, linear > 0.0031308 ? 1.055 * linear ** (1 / 2.4) - 0.055 : 12.92 * linear));
  });
}
