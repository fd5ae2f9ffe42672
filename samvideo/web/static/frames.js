// Frames and outlines: fetched one at a time, the newest request first, and kept for a while.

import * as api from "./api.js";

const KEPT = 48;
const WIDTHS = [480, 854, 1280, 1920, 3840];

// Runs `load(key)` for the last key requested; requests that were overtaken are never loaded.
class Newest {
  constructor(load) {
    this.load = load;
    this.running = false;
    this.next = null;
  }

  request(key) {
    this.next = { key };
    if (!this.running) this.run();
  }

  async run() {
    this.running = true;
    while (this.next) {
      const { key } = this.next;
      this.next = null;
      await this.load(key);
    }
    this.running = false;
  }
}

export class Frames {
  constructor(model) {
    this.model = model;
    this.width = 1280;
    this.bitmaps = new Map();
    this.times = new Map(); // frame -> seconds
    this.outlines = new Map();
    this.stale = new Set(); // frames whose outlines are shown until newer ones come
    this.shown = { frame: -1, bitmap: null, objects: {}, problem: "" };
    this.frames = new Newest((frame) => this.loadFrame(frame));
    this.masks = new Newest((frame) => this.loadMasks(frame));
    this.previewTimes = []; // milliseconds from an annotation to its mask
    model.on("frame", () => this.refresh());
    model.on("annotations", () => {
      for (const frame of this.outlines.keys()) this.stale.add(frame);
      this.masks.request(model.frame);
    });
    model.on("rows", (frames) => {
      for (const frame of frames) this.stale.add(frame);
      if (frames.has(model.frame)) this.masks.request(model.frame);
    });
  }

  refresh() {
    this.frames.request(this.model.frame);
    this.masks.request(this.model.frame);
    this.show();
  }

  // The frame covers so many pixels on the screen: fetch it at least so large.
  fit(pixels) {
    const width = WIDTHS.find((w) => w >= pixels) ?? WIDTHS.at(-1);
    if (width <= this.width) return;
    this.width = width;
    for (const bitmap of this.bitmaps.values()) bitmap.close();
    this.bitmaps.clear();
    this.frames.request(this.model.frame);
  }

  async loadFrame(frame) {
    if (!this.bitmaps.has(frame)) {
      const width = this.width;
      const failed = (problem) => this.showProblem(frame, problem);
      const found = await this.model.attempt(() => api.image(`api/frames/${frame}?w=${width}`), `Loading frame ${frame}`, failed);
      if (!found) return;
      this.times.set(frame, found.seconds);
      if (width !== this.width) return this.frames.request(this.model.frame);
      this.bitmaps.set(frame, found.bitmap);
      this.forget(this.bitmaps, (old) => old.close());
    }
    this.show();
  }

  async loadMasks(frame) {
    if (!this.outlines.has(frame) || this.stale.has(frame)) {
      this.stale.delete(frame);
      const drawnAt = this.model.drawnAt;
      const found = await this.model.attempt(() => api.masks(frame), `Finding the masks on frame ${frame}`, (message) => {
        if (this.shown.problem === "") this.model.emit("error", message);
      });
      if (!found) return;
      this.outlines.set(frame, found.objects);
      this.forget(this.outlines, () => {});
      const previewed = Object.values(found.objects).some((o) => o.source === "preview");
      if (drawnAt && previewed && drawnAt === this.model.drawnAt) {
        this.previewTimes.push(performance.now() - drawnAt);
        this.model.drawnAt = 0;
      }
      this.model.emit("masks");
    }
    this.show();
  }

  forget(kept, close) {
    for (const [frame, value] of kept) {
      if (kept.size <= KEPT) return;
      if (frame === this.model.frame) continue;
      kept.delete(frame);
      if (value !== this.shown.bitmap) close(value);
    }
  }

  // Image and outlines change together, so that masks are never drawn over another frame.
  show() {
    const { frame } = this.model;
    const bitmap = this.bitmaps.get(frame);
    if (!bitmap) return;
    this.shown = { frame, bitmap, objects: this.outlines.get(frame) ?? {}, problem: "" };
    this.model.emit("shown");
  }

  // A frame that cannot be had is blank, never the one before it under a new number.
  showProblem(frame, problem) {
    if (frame !== this.model.frame) return;
    this.shown = { frame, bitmap: null, objects: {}, problem };
    this.model.emit("shown");
  }

  // Whether the current frame is the one on the screen, so that what is drawn belongs to it.
  get current() {
    return this.shown.frame === this.model.frame && this.shown.bitmap !== null;
  }
}
