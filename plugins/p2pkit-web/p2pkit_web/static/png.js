// Writes PNG files whose pixels are exactly those given: a canvas would add alpha, and knows no 16 bits.

const TABLE = new Uint32Array(256).map((_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});
const COLOUR_TYPES = { 1: 0, 2: 4, 3: 2, 4: 6 };

function checksum(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

function chunk(type, data) {
  const bytes = new Uint8Array(12 + data.length), view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, checksum(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

// `values` are numbers [H, W, C] of 8 or 16 bits.
export async function encodePNG({ values, width, height, channels, bits }) {
  const size = bits / 8, row = 1 + width * channels * size, raw = new Uint8Array(height * row);
  for (let y = 0, from = 0; y < height; y++) {
    let to = y * row + 1;
    for (let x = 0; x < width * channels; x++, from++) {
      if (bits === 16) raw[to++] = values[from] >> 8;
      raw[to++] = values[from] & 255;
    }
  }
  const header = new Uint8Array(13), view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([bits, COLOUR_TYPES[channels], 0, 0, 0], 8);
  const stream = new Blob([raw]).stream().pipeThrough(new CompressionStream("deflate"));
  const data = new Uint8Array(await new Response(stream).arrayBuffer());
  const signature = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
  return new Blob([signature, chunk("IHDR", header), chunk("IDAT", data), chunk("IEND", new Uint8Array(0))],
    { type: "image/png" });
}

// A drawing: `of` are the values of each class, 1 to 4 numbers of `bits`; `map` is the class of each pixel.
export function png(map, width, height, of, bits) {
  const channels = of[0].length, values = new Uint16Array(map.length * channels);
  map.forEach((number, at) => values.set(of[number], at * channels));
  return encodePNG({ values, width, height, channels, bits });
}
