// Frames and outlines: fetched one at a time, the newest wish first, and kept for a while.

import * as api from "./api.js";

const KEPT = 48;
const WIDTHS = [480, 854, 1280, 1920, 3840];

// Runs `load(key)` for the last key wished for; wishes that were overtaken are never loaded.
class Newest {
  constructor(load) {
    this.load = load;
    this.running = false;
    this.next = null;
  }

  wish(key) {
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

export class Pictures {
  constructor(model) {
    this.model = model;
    this.width = 1280;
    this.bitmaps = new Map();
    this.outlines = new Map();
    this.stale = new Set(); // frames whose outlines are shown until newer ones come
    this.shown = { frame: -1, bitmap: null, objects: {} };
    this.frames = new Newest((frame) => this.loadFrame(frame));
    this.masks = new Newest((frame) => this.loadMasks(frame));
    this.previewTimes = []; // milliseconds from a mark to its mask
    model.on("frame", () => this.refresh());
    model.on("marks", () => {
      for (const frame of this.outlines.keys()) this.stale.add(frame);
      this.masks.wish(model.frame);
    });
    model.on("rows", (frames) => {
      for (const frame of frames) this.stale.add(frame);
      if (frames.has(model.frame)) this.masks.wish(model.frame);
    });
  }

  refresh() {
    this.frames.wish(this.model.frame);
    this.masks.wish(this.model.frame);
    this.tell();
  }

  // The picture takes so many pixels on the screen: fetch it at least so large.
  fit(pixels) {
    const width = WIDTHS.find((w) => w >= pixels) ?? WIDTHS.at(-1);
    if (width <= this.width) return;
    this.width = width;
    for (const bitmap of this.bitmaps.values()) bitmap.close();
    this.bitmaps.clear();
    this.frames.wish(this.model.frame);
  }

  async loadFrame(frame) {
    if (!this.bitmaps.has(frame)) {
      const width = this.width;
      const bitmap = await this.model.attempt(() => api.picture(`/api/frames/${frame}?w=${width}`));
      if (!bitmap) return;
      if (width !== this.width) return this.frames.wish(this.model.frame);
      this.bitmaps.set(frame, bitmap);
      this.forget(this.bitmaps, (old) => old.close());
    }
    this.tell();
  }

  async loadMasks(frame) {
    if (!this.outlines.has(frame) || this.stale.has(frame)) {
      this.stale.delete(frame);
      const asked = this.model.saidAt;
      const found = await this.model.attempt(() => api.masks(frame));
      if (!found) return;
      this.outlines.set(frame, found.objects);
      this.forget(this.outlines, () => {});
      const previewed = Object.values(found.objects).some((o) => o.from === "preview");
      if (asked && previewed && asked === this.model.saidAt) {
        this.previewTimes.push(performance.now() - asked);
        this.model.saidAt = 0;
      }
    }
    this.tell();
  }

  forget(kept, close) {
    for (const [frame, value] of kept) {
      if (kept.size <= KEPT) return;
      if (frame === this.model.frame) continue;
      kept.delete(frame);
      if (value !== this.shown.bitmap) close(value);
    }
  }

  // Picture and outlines change together, so that masks never lie on another frame.
  tell() {
    const { frame } = this.model;
    const bitmap = this.bitmaps.get(frame);
    if (!bitmap) return;
    this.shown = { frame, bitmap, objects: this.outlines.get(frame) ?? {} };
    this.model.emit("picture");
  }
}
