// The frame with masks and annotations: drawing, zooming, and the tools.

import { onNextFrame, outlined } from "./draw.js";
import { Painter } from "./painting.js";
import { Proposals } from "./proposals.js";

const MIN_BOX = 4; // screen pixels; less is a slip of the hand
const HANDLE = 7;

export class Stage {
  constructor(model, frames) {
    this.model = model;
    this.frames = frames;
    this.box = document.getElementById("stage");
    this.image = document.getElementById("image");
    this.drawing = document.getElementById("drawing");
    this.view = { zoom: 1, x: 0, y: 0 }; // zoom 1 fits; x, y: the video pixel in the middle
    this.drag = null;
    this.cross = null;
    this.corner = null;
    this.pinch = new Map();
    this.space = false;
    this.painter = new Painter(this);
    this.proposals = new Proposals(model);
    this.redraw = onNextFrame(() => model.facts && this.draw());
    new ResizeObserver(() => this.resize()).observe(this.box);
    model.on("shown annotations view state masks frame working", () => this.redraw());
    this.listen();
  }

  start() {
    this.view.x = this.model.facts.width / 2;
    this.view.y = this.model.facts.height / 2;
    this.painter.start();
    this.resize();
  }

  // --- where things are -------------------------------------------------------------------------------------

  // Pixels of the screen for one of the video, down; across they may be more (see `aspect`).
  get scale() {
    const { width, height, aspect } = this.model.facts;
    const fit = Math.min(this.box.clientWidth / (width * aspect), this.box.clientHeight / height);
    return Math.max(1e-6, fit * this.view.zoom);
  }

  get across() {
    return this.scale * this.model.facts.aspect;
  }

  toScreen(x, y) {
    const { across, scale } = this;
    return [(x - this.view.x) * across + this.box.clientWidth / 2, (y - this.view.y) * scale + this.box.clientHeight / 2];
  }

  toVideo(x, y) {
    const { across, scale } = this;
    return [(x - this.box.clientWidth / 2) / across + this.view.x, (y - this.box.clientHeight / 2) / scale + this.view.y];
  }

  clamp([x, y]) {
    const { width, height } = this.model.facts;
    return [Math.min(width, Math.max(0, x)), Math.min(height, Math.max(0, y))];
  }

  place(event) {
    const area = this.box.getBoundingClientRect();
    return [event.clientX - area.left, event.clientY - area.top];
  }

  // --- zoom and pan -----------------------------------------------------------------------------------------

  zoom(factor, at = [this.box.clientWidth / 2, this.box.clientHeight / 2]) {
    const [x, y] = this.toVideo(...at);
    this.view.zoom = Math.min(16, Math.max(1, this.view.zoom * factor));
    const [nx, ny] = this.toVideo(...at);
    this.move(x - nx, y - ny);
  }

  move(dx, dy) {
    const { width, height } = this.model.facts;
    const keep = (value, size, room) => {
      const half = Math.min(size, room) / 2; // the frame never leaves the window
      return Math.min(size - half, Math.max(half, value));
    };
    this.view.x = keep(this.view.x + dx, width, this.box.clientWidth / this.across);
    this.view.y = keep(this.view.y + dy, height, this.box.clientHeight / this.scale);
    this.redraw();
  }

  fit() {
    this.view.zoom = 1;
    this.move(0, 0);
  }

  resize() {
    if (!this.model.facts) return;
    const ratio = window.devicePixelRatio || 1;
    for (const canvas of [this.image, this.drawing]) {
      canvas.width = Math.round(this.box.clientWidth * ratio);
      canvas.height = Math.round(this.box.clientHeight * ratio);
    }
    this.move(0, 0);
  }

  // --- drawing ----------------------------------------------------------------------------------------------

  draw() {
    const { width, height } = this.model.facts;
    const ratio = window.devicePixelRatio || 1;
    const [s, across] = [this.scale * ratio, this.across * ratio];
    const [left, top] = this.toScreen(0, 0).map((v) => v * ratio);
    this.frames.fit(Math.min(Math.max(width, height), Math.max(across * width, s * height)));
    const below = this.image.getContext("2d");
    below.setTransform(1, 0, 0, 1, 0, 0);
    below.clearRect(0, 0, this.image.width, this.image.height);
    const { bitmap, objects, frame, problem } = this.frames.shown;
    if (bitmap) {
      below.imageSmoothingQuality = "high";
      below.imageSmoothingEnabled = this.view.zoom < 6;
      below.drawImage(bitmap, left, top, width * across, height * s);
    }
    this.box.classList.toggle("waiting", frame !== this.model.frame && this.model.working.size > 0);
    document.getElementById("problem").textContent = problem && `Frame ${frame} cannot be shown: ${problem}`;
    const above = this.drawing.getContext("2d");
    above.setTransform(1, 0, 0, 1, 0, 0);
    above.clearRect(0, 0, this.drawing.width, this.drawing.height);
    above.setTransform(across / 10, 0, 0, s / 10, left, top);
    for (const [id, found] of Object.entries(objects)) this.drawMask(above, Number(id), found, s);
    if (frame === this.model.frame) this.proposals.draw(above, (10 / s) * ratio);
    above.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (frame === this.model.frame) for (const drawn of this.model.state.annotations) if (drawn.frame === frame) this.drawAnnotation(above, drawn);
    if (frame === this.model.frame) this.proposals.drawTags(above, (x, y) => this.toScreen(x, y));
    this.drawTool(above);
    this.box.dataset.drawn = `${frame}`;
  }

  drawMask(context, id, found, s) {
    if (this.model.hidden.has(id) || !found.present) return;
    const path = outlined(found.shapes);
    context.fillStyle = this.model.colour(id);
    context.globalAlpha = 0.45;
    context.fill(path, "evenodd");
    context.globalAlpha = 1;
    context.lineJoin = "round";
    context.lineWidth = (10 / s) * (id === this.model.object ? 2.5 : 1.5) * (window.devicePixelRatio || 1);
    context.strokeStyle = this.model.colour(id);
    context.stroke(path);
  }

  drawAnnotation(context, { object, box, clicks }) {
    if (this.model.hidden.has(object)) return;
    const colour = this.model.colour(object);
    if (box) this.drawBox(context, box, colour);
    for (const [x, y, label] of clicks) this.drawClick(context, this.toScreen(x, y), label, colour);
  }

  drawBox(context, [x1, y1, x2, y2], colour) {
    const [left, top] = this.toScreen(x1, y1);
    const [right, bottom] = this.toScreen(x2, y2);
    for (const [style, width] of [["rgb(0 0 0 / 65%)", 4], [colour, 2]]) {
      context.lineWidth = width;
      context.strokeStyle = style;
      context.setLineDash([7, 5]);
      context.strokeRect(left, top, right - left, bottom - top);
    }
    context.setLineDash([]);
  }

  drawClick(context, [x, y], label, colour) {
    context.beginPath();
    context.arc(x, y, HANDLE, 0, 2 * Math.PI);
    context.fillStyle = label ? colour : "#ffffff";
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = label ? "#10141c" : "#c4161c";
    context.stroke();
    context.beginPath();
    context.moveTo(x - 3.5, y);
    context.lineTo(x + 3.5, y);
    if (label) {
      context.moveTo(x, y - 3.5);
      context.lineTo(x, y + 3.5);
    }
    context.stroke();
  }

  drawTool(context) {
    const colour = this.model.object === null ? "#ffffff" : this.model.colour(this.model.object);
    const corner = this.drag?.from ?? this.corner;
    const to = this.drag?.to ?? this.cross;
    if (corner && to) this.drawBox(context, [...corner, ...to], colour);
    this.painter.draw(context, colour);
    if (!this.cross) return;
    const [x, y] = this.toScreen(...this.cross);
    context.lineWidth = 1.5;
    context.strokeStyle = "#ffffff";
    context.beginPath();
    context.moveTo(x - 14, y);
    context.lineTo(x + 14, y);
    context.moveTo(x, y - 14);
    context.lineTo(x, y + 14);
    context.stroke();
  }

  // --- tools ------------------------------------------------------------------------------------------------

  listen() {
    const { box } = this;
    box.addEventListener("pointerdown", (event) => this.down(event));
    box.addEventListener("pointermove", (event) => this.moved(event));
    box.addEventListener("pointerup", (event) => this.up(event));
    box.addEventListener("pointercancel", (event) => this.cancel(event));
    box.addEventListener("pointerleave", () => this.hover(null));
    box.addEventListener("contextmenu", (event) => event.preventDefault());
    box.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-Math.max(-200, Math.min(200, event.deltaY)) / 400), this.place(event));
    }, { passive: false });
  }

  down(event) {
    if (this.model.state.phase === "done" || event.target.closest(".errors, .brush")) return;
    this.box.setPointerCapture(event.pointerId);
    const at = this.place(event);
    this.pinch.set(event.pointerId, at);
    this.cross = this.corner = null;
    const { tool } = this.model;
    this.painter.stroke = null;
    if (this.pinch.size > 1) this.drag = { kind: "pinch" };
    else if (tool === "pan" || this.space || event.button === 1) this.drag = { kind: "pan", at };
    else if (!this.frames.current) this.drag = null; // what is drawn now would lie on another frame
    else if (this.model.picking) this.drag = event.button === 0 ? { kind: "pick", at } : null;
    else if (tool === "box" && event.button === 0) {
      const from = this.clamp(this.toVideo(...at));
      this.drag = { kind: "box", from, to: from };
    } else if (this.painter.brushes) {
      this.painter.begin(this.toVideo(...at), event.button === 2);
      this.drag = { kind: "stroke" };
    } else if (tool !== "box") this.drag = { kind: "click", at, other: event.button === 2 };
    event.preventDefault();
    this.box.focus({ preventScroll: true });
  }

  moved(event) {
    const at = this.place(event);
    this.hover(event.pointerType === "touch" ? null : at);
    const before = this.pinch.get(event.pointerId);
    if (!before || !this.drag) return;
    if (this.drag.kind === "pinch") this.pinched(event.pointerId, at);
    this.pinch.set(event.pointerId, at);
    if (this.drag.kind === "pan") {
      this.move((before[0] - at[0]) / this.across, (before[1] - at[1]) / this.scale);
    } else if (this.drag.kind === "stroke") {
      this.painter.extend(this.toVideo(...at));
      this.redraw();
    } else if (this.drag.kind === "box") {
      this.drag.to = this.clamp(this.toVideo(...at));
      this.redraw();
    }
  }

  pinched(id, at) {
    const other = [...this.pinch].find(([key]) => key !== id)?.[1];
    if (!other) return;
    const before = this.pinch.get(id);
    const length = ([x, y]) => Math.max(1, Math.hypot(x - other[0], y - other[1]));
    const middle = [(at[0] + other[0]) / 2, (at[1] + other[1]) / 2];
    this.zoom(length(at) / length(before), middle);
    this.move((before[0] - at[0]) / 2 / this.across, (before[1] - at[1]) / 2 / this.scale);
  }

  up(event) {
    const { drag } = this;
    this.pinch.delete(event.pointerId);
    if (drag?.kind === "pinch" && this.pinch.size) return;
    this.drag = null;
    if (drag?.kind === "box") this.addBox(drag.from, drag.to);
    if (drag?.kind === "stroke") this.painter.finish();
    if (drag?.kind === "pick") this.proposals.pickAt(this.toVideo(...drag.at));
    if (drag?.kind === "click") this.addPoint(this.toVideo(...drag.at), drag.other);
    this.redraw();
  }

  cancel(event) {
    this.pinch.delete(event.pointerId);
    this.drag = this.painter.stroke = null;
    this.redraw();
  }

  hover(at) {
    this.painter.pointer = this.model.picking ? null : at;
    if (this.model.picking) this.proposals.point(at ? this.proposals.at(this.toVideo(...at)) : -1);
    if (this.painter.brushes || this.painter.corners.length) this.redraw();
  }

  addPoint(at, other) {
    if (this.model.tool === "polygon") this.painter.addCorner(this.clamp(at));
    else this.addClick(at, other);
  }

  addBox([x1, y1], [x2, y2]) {
    const box = [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
    if ((box[2] - box[0]) * this.across < MIN_BOX || (box[3] - box[1]) * this.scale < MIN_BOX) return;
    this.model.annotate({ do: "box", box: box.map((v) => Math.round(v * 10) / 10) });
  }

  addClick([x, y], other) {
    const { width, height } = this.model.facts;
    if (x < 0 || y < 0 || x > width || y > height) return;
    const label = Number((this.model.tool === "plus") !== other);
    this.model.annotate({ do: "click", xy: [Math.round(x * 10) / 10, Math.round(y * 10) / 10], label });
  }

  // --- by keyboard ------------------------------------------------------------------------------------------

  nudge(dx, dy) {
    const from = this.cross ?? [this.view.x, this.view.y];
    this.cross = this.clamp([from[0] + (dx * 12) / this.across, from[1] + (dy * 12) / this.scale]);
    this.redraw();
  }

  // Annotate where the cross is, or close the polygon; false when there is neither.
  press() {
    if (!this.cross) return this.painter.close();
    if (!this.frames.current) return true;
    if (this.model.picking) this.proposals.pickAt(this.cross);
    else if (this.painter.brushes) {
      this.painter.begin(this.cross, false);
      this.painter.finish();
    } else if (this.model.tool !== "box") this.addPoint(this.cross, false);
    else if (this.corner) {
      this.addBox(this.corner, this.cross);
      this.corner = null;
    } else this.corner = this.cross;
    this.redraw();
    return true;
  }

  escape() {
    if (this.proposals.cancel()) return;
    this.cross = this.corner = this.drag = null;
    this.painter.cancel();
    this.redraw();
  }
}
