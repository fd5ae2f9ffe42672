// Masks drawn by hand: the brush, which also erases, and the polygon. The server changes the mask; here is what is
// drawn until it has.

const MOST = 3000; // points in one message
const CLOSE = 10; // screen pixels from the first corner at which a click closes a polygon
const SAME = 4; // screen pixels from the last corner at which a second click, as of a double click, closes it

const rounded = (point) => point.map((v) => Math.round(v * 10) / 10);

export class Painter {
  constructor(stage) {
    this.stage = stage;
    this.model = stage.model;
    this.stroke = null; // under the hand: {points, radius, erase}
    this.sent = []; // strokes whose mask has not come back yet: {stroke, frame, made}
    this.polygon = []; // corners so far, on frame `frame`
    this.frame = 0;
    this.pointer = null; // where the brush is, in pixels of the screen
    this.size = document.getElementById("brush-size");
    this.size.addEventListener("input", () => this.model.set({}));
    this.model.on("masks", () => { this.sent = this.sent.filter(({ made }) => !made); });
    this.model.on("view", () => {
      document.getElementById("brush").hidden = !this.brushes;
      document.getElementById("brush-pixels").textContent = `${this.size.value} px`;
      if (this.model.tool !== "polygon") this.polygon = [];
    });
  }

  start() {
    const { width, height } = this.model.facts;
    this.size.max = Math.max(4, Math.min(1000, Math.round(Math.min(width, height) / 2)));
    this.size.value = Math.max(2, Math.round(Math.min(width, height) / 15));
  }

  get brushes() {
    return this.model.tool === "brush" || this.model.tool === "eraser";
  }

  resize(direction) {
    this.size.value = Number(this.size.value) + direction * Math.max(1, Math.round(this.size.value * 0.15));
    this.model.set({});
  }

  // --- brush ------------------------------------------------------------------------------------------------

  begin(at, other) {
    this.stroke = { points: [rounded(at)], radius: this.size.value / 2, erase: (this.model.tool === "eraser") !== other };
  }

  extend(at) {
    const { points, radius } = this.stroke;
    const last = points.at(-1);
    if (Math.hypot(at[0] - last[0], at[1] - last[1]) < Math.max(0.5, radius / 4)) return;
    points.push(rounded(at));
    if (points.length < MOST) return;
    const { erase } = this.stroke;
    this.finish();
    this.stroke = { points: [points.at(-1)], radius, erase };
  }

  async finish() {
    const { stroke } = this;
    const sent = { stroke, frame: this.model.frame, made: false };
    this.stroke = null;
    this.sent.push(sent);
    if (await this.model.annotate({ do: "paint", ...stroke })) sent.made = true; // the next outlines show it
    else this.sent = this.sent.filter((other) => other !== sent);
  }

  // --- polygon ----------------------------------------------------------------------------------------------

  get corners() {
    return this.frame === this.model.frame ? this.polygon : [];
  }

  addCorner(at) {
    const { corners } = this;
    const again = corners.length > 0 && this.near(corners.at(-1), at, SAME);
    if (corners.length > 2 && (again || this.near(corners[0], at, CLOSE))) return this.close();
    if (!again) this.polygon = [...corners, rounded(at)];
    this.frame = this.model.frame;
    return this.model.set({});
  }

  near(a, b, distance) {
    const [[ax, ay], [bx, by]] = [this.stage.toScreen(...a), this.stage.toScreen(...b)];
    return Math.hypot(ax - bx, ay - by) < distance;
  }

  // Whether there was a polygon to close.
  close() {
    const points = this.corners;
    if (points.length < 3) return points.length > 0;
    this.polygon = [];
    this.model.annotate({ do: "polygon", points });
    return true;
  }

  // Whether there was a corner to take back.
  back() {
    if (!this.corners.length) return false;
    this.polygon = this.polygon.slice(0, -1);
    this.model.set({});
    return true;
  }

  cancel() {
    this.stroke = null;
    this.polygon = [];
    this.model.set({});
  }

  // --- drawing ----------------------------------------------------------------------------------------------

  draw(context, colour) {
    const { stage } = this;
    for (const { stroke, frame } of this.sent) if (frame === this.model.frame) this.drawStroke(context, stroke, colour);
    if (this.stroke) this.drawStroke(context, this.stroke, colour);
    if (this.corners.length) this.drawPolygon(context, colour);
    if (!this.brushes || !this.pointer) return;
    context.beginPath();
    context.ellipse(...this.pointer, (stage.across * this.size.value) / 2, (stage.scale * this.size.value) / 2, 0, 0, 2 * Math.PI);
    for (const [style, width] of [["rgb(0 0 0 / 65%)", 3], ["#ffffff", 1.5]]) {
      context.lineWidth = width;
      context.strokeStyle = style;
      context.stroke();
    }
  }

  drawStroke(context, { points, radius, erase }, colour) {
    context.save();
    const [left, top] = this.stage.toScreen(0, 0);
    context.transform(this.stage.across, 0, 0, this.stage.scale, left, top);
    context.beginPath();
    context.moveTo(...points[0]);
    for (const point of points) context.lineTo(...point);
    context.globalAlpha = 0.5;
    context.lineWidth = 2 * radius;
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = erase ? "#ffffff" : colour;
    context.stroke();
    context.restore();
  }

  drawPolygon(context, colour) {
    const corners = this.corners.map((corner) => this.stage.toScreen(...corner));
    context.beginPath();
    context.moveTo(...corners[0]);
    for (const corner of corners) context.lineTo(...corner);
    if (this.pointer) context.lineTo(...this.pointer);
    for (const [style, width] of [["rgb(0 0 0 / 65%)", 4], [colour, 2]]) {
      context.lineWidth = width;
      context.strokeStyle = style;
      context.stroke();
    }
    for (const [k, [x, y]] of corners.entries()) {
      context.beginPath();
      context.arc(x, y, k ? 3.5 : 6, 0, 2 * Math.PI);
      context.fillStyle = k ? colour : "#ffffff";
      context.fill();
      context.lineWidth = 1.5;
      context.strokeStyle = "#10141c";
      context.stroke();
    }
  }
}
