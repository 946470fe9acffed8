// Images for a time that is counted in frames of the screen.

const LEAD = 900, BETWEEN = 600; // milliseconds without images, so that at most one comes and goes in a second

const frame = () => new Promise(requestAnimationFrame);

export const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

async function visible() {
  while (document.hidden) await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
}

export function draw(canvas, bitmap) {
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
}

// Shows canvases that are drawn already; gives for how many milliseconds, from frame to frame.
async function shown(canvases, milliseconds) {
  const began = await frame();
  let now = began, last = began;
  for (const canvas of canvases) canvas.hidden = false;
  do {
    last = now;
    now = await frame();
  } while (now - began < milliseconds - (now - last) / 2); // the nearest frame
  for (const canvas of canvases) canvas.hidden = true;
  return now - began;
}

// Shows a pair, one image after the other or both together: {left_ms, right_ms, size}.
export async function showPair(left, right, { seconds, showing }) {
  await pause(LEAD);
  await visible();
  const milliseconds = 1000 * seconds, box = left.parentElement.getBoundingClientRect();
  const size = Math.max(box.width, box.height) - 4; // without its border
  if (showing === "together") {
    const both = await shown([left, right], milliseconds);
    return { left_ms: both, right_ms: both, size };
  }
  const first = await shown([left], milliseconds);
  await pause(BETWEEN);
  return { left_ms: first, right_ms: await shown([right], milliseconds), size };
}
