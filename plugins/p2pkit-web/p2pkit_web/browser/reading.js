// The pixels of image files: of PNG files as they are stored, of others as the browser decodes them.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10], OF_TYPE = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
const FULL = { 1: 255, 2: 85, 4: 17 };

export class Unreadable extends Error {}

// {height, width, channels, bits, values}; `values` are numbers [H, W, C]. `numbers` are those of colours in a palette,
// or of gray of fewer than 8 bits, before these were multiplied to fill 8.
export async function pixelsIn(blob, name, most) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const isPNG = SIGNATURE.every((byte, at) => bytes[at] === byte);
  const png = isPNG ? chunks(bytes, name) : null;
  if (png) refuseLarge(png.height * png.width, name, most);
  if (png && !png.interlaced) return stored(png, name);
  if (png?.bits === 16) throw new Unreadable(`${name}: it is an interlaced PNG of 16 bits; save it without interlacing`);
  const lost = png ? png.type === 3 || png.bits < 8 : String.fromCharCode(...bytes.subarray(0, 4)) === "GIF8";
  return { ...await decoded(blob, name, most), lost };
}

function refuseLarge(pixels, name, most) {
  if (pixels > most) throw new Unreadable(`${name}: it has ${pixels} pixels, and this page takes ${most}; make it smaller`);
}

function chunks(bytes, name) {
  const view = new DataView(bytes.buffer), data = [];
  const png = { data, interlaced: false, palette: null };
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at), type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const own = bytes.subarray(at + 8, at + 8 + length);
    if (type === "IHDR") {
      png.width = view.getUint32(at + 8);
      png.height = view.getUint32(at + 12);
      [png.bits, png.type, , , png.interlaced] = own.subarray(8);
    } else if (type === "PLTE") png.palette = own;
    else if (type === "eXIf" || type.endsWith("TXt") || type.endsWith("EXt")) refuseTurned(type, own, name);
    else if (type === "IDAT") data.push(own);
    else if (type === "IEND") break;
    at += 12 + length;
  }
  if (!png.width || !png.height || !(png.type in OF_TYPE) || !data.length) throw new Unreadable(`${name}: this PNG is damaged`);
  return png;
}

// Upright is what p2pkit makes of an image that says how it is turned, and not of a PNG what browsers agree upon.
function refuseTurned(type, data, name) {
  const text = new TextDecoder("latin1").decode(data), inXMP = /tiff:Orientation(?:="|>)([2-8])/.test(text);
  if (inXMP || text.startsWith("Raw profile type exif") || (type === "eXIf" && orientation(data) > 1)) {
    throw new Unreadable(`${name}: the PNG says that it is to be turned; save it upright`);
  }
}

// The number that EXIF has for how an image is turned: the tag 0x112 of its first table.
function orientation(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.length), little = data[0] === 0x49;
  if (data.length < 8) return 1;
  const table = view.getUint32(4, little), entries = table + 2 <= data.length ? view.getUint16(table, little) : 0;
  for (let at = table + 2; at < table + 2 + 12 * entries && at + 10 <= data.length; at += 12) {
    if (view.getUint16(at, little) === 0x112) return view.getUint16(at + 8, little);
  }
  return 1;
}

async function stored(png, name) {
  const { width, height, bits } = png, parts = OF_TYPE[png.type];
  const line = Math.ceil((width * parts * bits) / 8), step = Math.max(1, (parts * bits) >> 3);
  let raw;
  try {
    const stream = new Blob(png.data).stream().pipeThrough(new DecompressionStream("deflate"));
    raw = new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new Unreadable(`${name}: this PNG is damaged`);
  }
  if (raw.length < height * (line + 1)) throw new Unreadable(`${name}: this PNG ends early`);
  const rows = unfiltered(raw, height, line, step);
  const values = bits === 16 ? new Uint16Array(width * height * parts) : new Uint8Array(width * height * parts);
  for (let row = 0, to = 0; row < height; row++) {
    for (let place = 0; place < width * parts; place++) {
      if (bits === 16) values[to++] = (rows[row * line + 2 * place] << 8) | rows[row * line + 2 * place + 1];
      else if (bits === 8) values[to++] = rows[row * line + place];
      else values[to++] = (rows[row * line + ((place * bits) >> 3)] >> (8 - bits - ((place * bits) & 7))) & ((1 << bits) - 1);
    }
  }
  if (png.type === 3) {
    const colours = new Uint8Array(3 * values.length);
    values.forEach((number, at) => colours.set(png.palette.subarray(3 * number, 3 * number + 3), 3 * at));
    return { width, height, channels: 3, bits: 8, values: colours, numbers: values };
  }
  if (bits >= 8) return { width, height, channels: parts, bits, values };
  return { width, height, channels: 1, bits: 8, values: values.map((value) => value * FULL[bits]), numbers: values };
}

// What the filters of lines have left (PNG specification, section 9).
function unfiltered(raw, height, line, step) {
  const rows = new Uint8Array(height * line);
  for (let row = 0; row < height; row++) {
    const filter = raw[row * (line + 1)], from = row * (line + 1) + 1, to = row * line;
    for (let at = 0; at < line; at++) {
      const left = at >= step ? rows[to + at - step] : 0, above = row ? rows[to + at - line] : 0;
      const corner = row && at >= step ? rows[to + at - line - step] : 0;
      let guess = 0;
      if (filter === 1) guess = left;
      else if (filter === 2) guess = above;
      else if (filter === 3) guess = (left + above) >> 1;
      else if (filter === 4) {
        const far = [left, above, corner].map((each) => Math.abs(left + above - corner - each));
        guess = far[0] <= far[1] && far[0] <= far[2] ? left : far[1] <= far[2] ? above : corner;
      }
      rows[to + at] = raw[from + at] + guess;
    }
  }
  return rows;
}

async function decoded(blob, name, most) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Unreadable(`${name}: this browser does not read such a file; give a PNG, JPEG or WebP`);
  }
  const { width, height } = bitmap;
  refuseLarge(width * height, name, most);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  let opaque = true;
  for (let at = 3; at < data.length && opaque; at += 4) opaque = data[at] === 255;
  if (!opaque) return { width, height, channels: 4, bits: 8, values: data, decoded: true };
  const values = new Uint8Array(3 * width * height);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    values[to++] = data[from];
    values[to++] = data[from + 1];
    values[to++] = data[from + 2];
  }
  return { width, height, channels: 3, bits: 8, values, decoded: true };
}
