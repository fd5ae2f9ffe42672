// Tracks what is boxed in a video, or in images given as frames, with the exported model at ?model=URL [model/].
// For every step of the tracker, the document gets an event "frame" with {index, seconds, prompts, objects}.

import { inputBytes, pictures, resized } from "./pictures.js";
import { Tracker, openModel } from "./tracker.js";

const COLOURS = [[230, 60, 60], [40, 120, 230], [40, 170, 80], [240, 160, 30]];
const SMALLEST_BOX = 3; // pixels
const ids = ["files", "rate", "track", "status", "stage"];
const [files, rate, track, status, stage] = ids.map((id) => document.getElementById(id));
const canvas = stage.getContext("2d", { willReadFrequently: true });

let model, tracker, frames, frame; // the frame is {index, bitmap, rgb}
let picture; // what is shown of it, with masks
let tracking = false;
let busy = false;
let corner = null; // where a box was begun
let objectCount = 0;

async function load() {
  const query = new URLSearchParams(location.search);
  const gpu = query.get("backend") !== "wasm" && await navigator.gpu?.requestAdapter();
  const ort = await import(`./vendor/ort.${gpu ? "webgpu" : "wasm"}.bundle.min.mjs`);
  const url = new URL(query.get("model") ?? "model/", location.href);
  model = await openModel(ort, url, { executionProviders: gpu ? ["webgpu", "wasm"] : ["wasm"] });
  status.value = `${model.manifest.model} on ${gpu ? "WebGPU" : "WebAssembly"}: choose a video, or images`;
}

/** Show the next frame; false at the end. */
async function advance() {
  const { value: bitmap, done } = await frames.next();
  if (done) return false;
  frame?.bitmap.close();
  frame = { index: frame ? frame.index + 1 : 0, bitmap, rgb: inputBytes(bitmap, model.manifest.input_wh) };
  return true;
}

async function step(prompts = []) {
  const begin = performance.now();
  const objects = await tracker.step(frame.index, frame.rgb, prompts);
  const seconds = (performance.now() - begin) / 1000;
  draw(objects);
  status.value = `frame ${frame.index}: ${(1000 * seconds).toFixed()} ms`;
  document.dispatchEvent(new CustomEvent("frame", { detail: { index: frame.index, seconds, prompts, objects } }));
}

function draw(objects) {
  const { width, height } = frame.bitmap;
  if (stage.width !== width || stage.height !== height) Object.assign(stage, { width, height });
  canvas.drawImage(frame.bitmap, 0, 0);
  picture = canvas.getImageData(0, 0, width, height);
  for (const { id, logits } of objects) {
    const colour = COLOURS[(id - 1) % COLOURS.length];
    const inner = model.manifest.input_wh.map((side) => side / 4);
    resized(logits, inner, [width, height]).forEach((logit, place) => {
      for (let channel = 0; logit > 0 && channel < 3; channel += 1) {
        picture.data[4 * place + channel] = (picture.data[4 * place + channel] + colour[channel]) / 2;
      }
    });
  }
  canvas.putImageData(picture, 0, 0);
}

/** Only one task at a time: the tracker is in the middle of a frame meanwhile. */
async function exclusively(task) {
  if (busy) return;
  busy = true;
  try {
    await task();
  } catch (error) {
    status.value = `${error.message ?? error}`;
    throw error;
  } finally {
    busy = false;
    track.disabled = !objectCount;
  }
}

files.addEventListener("change", () => exclusively(async () => {
  tracker = new Tracker(model);
  objectCount = 0;
  frame = null;
  frames = pictures([...files.files], Number(rate.value));
  if (!await advance()) throw new Error("there is no frame");
  draw([]);
  status.value = "draw a box around each object, then track";
}));

track.addEventListener("click", () => {
  tracking = !tracking && !busy;
  track.textContent = tracking ? "Stop" : "Track";
  exclusively(async () => {
    try {
      while (tracking && await advance()) await step();
    } finally {
      tracking = false;
      track.textContent = "Track";
    }
  });
});

/** Where the pointer is, in pixels of the frame. */
function place({ offsetX, offsetY }) {
  const at = [offsetX * stage.width / stage.clientWidth, offsetY * stage.height / stage.clientHeight];
  return at.map((value, axis) => Math.min(Math.max(value, 0), [stage.width, stage.height][axis]));
}

stage.addEventListener("pointerdown", (event) => {
  if (!frame || busy) return;
  stage.setPointerCapture(event.pointerId);
  corner = place(event);
});

stage.addEventListener("pointermove", (event) => {
  if (!corner) return;
  const [x, y] = place(event);
  canvas.putImageData(picture, 0, 0);
  canvas.strokeStyle = "white"; // resizing forgets it
  canvas.strokeRect(...corner, x - corner[0], y - corner[1]);
});

stage.addEventListener("pointerup", (event) => exclusively(async () => {
  if (!corner) return;
  const other = place(event);
  const box = [Math.min, Math.max].flatMap((of) => [0, 1].map((axis) => of(corner[axis], other[axis])));
  corner = null;
  canvas.putImageData(picture, 0, 0);
  if (box[2] - box[0] < SMALLEST_BOX || box[3] - box[1] < SMALLEST_BOX) return;
  const scale = model.manifest.input_wh.map((side, axis) => side / [stage.width, stage.height][axis]);
  objectCount += 1;
  await step([{ id: objectCount, xy: box.map((value, axis) => value * scale[axis % 2]), labels: [2, 3] }]);
}));

files.disabled = true;
exclusively(load).then(() => { files.disabled = false; });
