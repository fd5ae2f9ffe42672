// The frames of a video, or images in the order of their names; resizing of frames and of masks.

/** Bitmaps, one at a time; of a video, as many a second as `rate`. */
export async function* pictures(files, rate) {
  if (files[0]?.type.startsWith("video/")) {
    yield* videoFrames(files[0], rate);
    return;
  }
  for (const file of files.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }))) {
    yield await createImageBitmap(file, { colorSpaceConversion: "none" });
  }
}

async function* videoFrames(file, rate) {
  const video = document.createElement("video");
  video.src = URL.createObjectURL(file);
  video.muted = true;
  const once = (name) => new Promise((resolve, reject) => {
    video.addEventListener(name, resolve, { once: true });
    video.addEventListener("error", () => reject(new Error(`${file.name}: ${video.error.message}`)));
  });
  try {
    await once("loadeddata");
    for (let frame = 0.5; frame / rate < video.duration; frame += 1) { // in the middle of its time
      video.currentTime = frame / rate;
      await once("seeked");
      yield await createImageBitmap(video);
    }
  } finally {
    URL.revokeObjectURL(video.src);
  }
}

/** Bytes (H, W, 3) of a picture at the width and height of the model's input. */
export function inputBytes(bitmap, [width, height]) {
  const scaled = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  scaled.imageSmoothingQuality = "high";
  scaled.drawImage(bitmap, 0, 0, width, height);
  const rgba = scaled.getImageData(0, 0, width, height).data;
  return Uint8Array.from({ length: 3 * width * height }, (_, at) => rgba[4 * Math.floor(at / 3) + at % 3]);
}

/** Bilinear resize of logits from one width and height to another. */
export function resized(logits, [fromWidth, fromHeight], [width, height]) {
  const columns = taps(fromWidth, width);
  const out = new Float32Array(width * height);
  taps(fromHeight, height).forEach(([top, bottom, down], y) => {
    columns.forEach(([left, right, across], x) => {
      const value = (row, column) => logits[row * fromWidth + column];
      const mixed = (row) => value(row, left) * (1 - across) + value(row, right) * across;
      out[y * width + x] = mixed(top) * (1 - down) + mixed(bottom) * down;
    });
  });
  return out;
}

/** For each of `to` places the two of `from` that it lies between, and its share of the way. */
function taps(from, to) {
  return Array.from({ length: to }, (_, place) => {
    const at = Math.min(Math.max((place + 0.5) * from / to - 0.5, 0), from - 1);
    return [Math.floor(at), Math.min(Math.floor(at) + 1, from - 1), at % 1];
  });
}
