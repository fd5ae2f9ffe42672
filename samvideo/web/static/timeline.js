// Where in the video: stepping, thumbnails, and the scores of each object.

import { onNextFrame } from "./draw.js";

const LANE = 16;
const THUMBNAILS = 24;

export const SUSPICIONS = { lost: "lost", score: "score fell", area: "size jumped" };

const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(2).padStart(5, "0")}`;

export class Timeline {
  constructor(model, frames) {
    this.model = model;
    this.frames = frames;
    this.redraw = onNextFrame(() => model.facts && this.draw());
    this.find();
    model.on("frame shown", () => this.move());
    model.on("rows annotations state view", () => this.redraw());
    new ResizeObserver(() => { this.revealed = null; this.redraw(); }).observe(this.lanes);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    this.slider.addEventListener("input", () => model.go(Number(this.slider.value)));
    this.number.addEventListener("change", () => model.go(Number(this.number.value)));
    // After Enter the keys are the page's again.
    this.number.addEventListener("keydown", (event) => { if (event.key === "Enter") this.number.blur(); });
    this.play.addEventListener("click", () => this.toggle());
    const go = { first: () => 0, previous: () => model.frame - 1, next: () => model.frame + 1, last: () => model.last };
    for (const [id, where] of Object.entries(go)) document.getElementById(id).addEventListener("click", () => model.go(where()));
    this.follow.addEventListener("change", () => model.set({ follow: this.follow.checked }));
    this.suspect.addEventListener("click", () => this.jump(1));
  }

  find() {
    for (const id of ["rail", "lanes", "strip", "scores", "marks", "playhead", "slider", "number", "count", "time", "play", "follow", "names"])
      this[id] = document.getElementById(id);
    this.suspect = document.getElementById("next-suspect");
  }

  start() {
    this.slider.max = this.number.max = this.model.last;
    this.count.textContent = `of ${this.model.facts.frames}`;
    this.count.title = `Frames are numbered 0 to ${this.model.last}`;
    this.move();
    this.redraw();
    this.thumbnails();
  }

  // One after the other, so that the frame itself is never kept waiting.
  async thumbnails() {
    const { width, height, aspect, frames } = this.model.facts;
    const room = this.strip.clientWidth / (this.strip.clientHeight * Math.min(2.4, (width * aspect) / height));
    const count = Math.min(frames, THUMBNAILS, Math.max(1, Math.round(room)));
    const images = Array.from({ length: count }, () => this.strip.appendChild(new Image()));
    for (const [number, image] of images.entries()) {
      image.alt = "";
      image.draggable = false;
      image.src = `api/thumbnails/${Math.floor(((number + 0.5) * frames) / count)}`;
      await image.decode().then(() => image.classList.add("here"), () => {});
    }
  }

  share(frame) {
    return (frame + 0.5) / (this.model.last + 1);
  }

  move() {
    const { frame } = this.model;
    this.playhead.style.left = `${100 * this.share(frame)}%`;
    this.slider.value = frame;
    if (document.activeElement !== this.number) this.number.value = frame;
    this.time.textContent = this.frames.times.has(frame) ? clock(this.frames.times.get(frame)) : "";
    this.slider.setAttribute("aria-valuetext", `frame ${frame} of ${this.model.facts.frames}`);
  }

  // --- moving along -----------------------------------------------------------------------------------------

  jump(step) {
    const frames = [...new Set(this.model.suspects.map((s) => s.frame))];
    const ahead = step > 0 ? frames.find((f) => f > this.model.frame) : frames.findLast((f) => f < this.model.frame);
    const found = ahead ?? (step > 0 ? frames[0] : frames.at(-1));
    if (found !== undefined) this.model.go(found);
  }

  toggle() {
    this.model.set({ playing: !this.model.playing, follow: false });
    if (this.model.playing) {
      if (this.model.frame === this.model.last) this.model.show(0);
      this.tick(performance.now(), this.model.frame);
    }
  }

  // Shows frames at the video's pace, or as fast as they come.
  tick(began, from) {
    if (!this.model.playing) return;
    const wanted = from + Math.floor(((performance.now() - began) / 1000) * this.model.facts.rate);
    const shown = Number(document.getElementById("stage").dataset.drawn);
    if (wanted > this.model.frame && shown === this.model.frame) {
      if (this.model.frame >= this.model.last) return this.model.set({ playing: false });
      this.model.show(Math.min(wanted, this.model.frame + 4));
      if (wanted > this.model.frame) [began, from] = [performance.now(), this.model.frame];
    }
    requestAnimationFrame(() => this.tick(began, from));
  }

  // --- drawing ----------------------------------------------------------------------------------------------

  draw() {
    const { model } = this;
    const ids = model.state.objects.map((object) => object.id);
    this.names.replaceChildren(...ids.map((id) => Object.assign(document.createElement("div"), { textContent: model.name(id) })));
    this.play.setAttribute("aria-pressed", model.playing);
    this.follow.checked = model.follow;
    document.getElementById("follow-label").hidden = !model.busy;
    this.suspect.disabled = !model.suspects.length;
    const ratio = window.devicePixelRatio || 1;
    const width = this.lanes.clientWidth;
    const height = Math.max(1, ids.length * LANE);
    const [context, above] = [this.scores, this.marks].map((canvas) => {
      canvas.style.height = `${height}px`;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      const drawing = canvas.getContext("2d");
      drawing.setTransform(ratio, 0, 0, ratio, 0, 0);
      return drawing;
    });
    const style = getComputedStyle(document.documentElement);
    this.colours = { lane: style.getPropertyValue("--lane"), bad: style.getPropertyValue("--danger"), ink: style.getPropertyValue("--ink") };
    ids.forEach((id, row) => this.drawLane(context, above, id, row * LANE, width));
    this.reveal(ids.indexOf(model.object));
  }

  // Scrolls to the lane of the chosen object when another one is chosen.
  reveal(row) {
    if (row === this.revealed) return;
    this.revealed = row;
    const top = row * LANE;
    const room = this.rail.clientHeight - this.scores.offsetTop;
    if (top < this.rail.scrollTop) this.rail.scrollTop = top;
    else if (top + LANE > this.rail.scrollTop + room) this.rail.scrollTop = top + LANE - room;
  }

  // Marks lie above the playhead, which would hide those of the current frame.
  drawLane(context, above, id, top, width) {
    const { model } = this;
    const count = model.last + 1;
    context.fillStyle = this.colours.lane;
    context.fillRect(0, top + 2, width, LANE - 4);
    const step = width / count;
    const suspects = [];
    for (const [frame, objects] of model.rows) {
      const row = objects.get(id);
      if (!row) continue;
      if (row.suspicion) suspects.push(frame);
      if (!row.present) continue;
      const tall = (LANE - 4) * (0.25 + 0.75 * Math.max(0, Math.min(1, row.score)));
      context.fillStyle = model.colour(id);
      const left = Math.floor(frame * step);
      context.fillRect(left, top + LANE - 2 - tall, Math.max(1, Math.ceil((frame + 1) * step) - left), tall);
    }
    for (const frame of suspects) this.drawFlag(above, (frame + 0.5) * step, top);
    for (const drawn of model.state.annotations) {
      const x = Math.min(width - 6, Math.max(6, this.share(drawn.frame) * width)); // whole at the ends, too
      if (drawn.object === id) this.drawDiamond(above, x, top + LANE / 2);
    }
  }

  drawFlag(context, x, top) {
    context.fillStyle = this.colours.bad;
    context.beginPath();
    context.moveTo(x - 4, top);
    context.lineTo(x + 4, top);
    context.lineTo(x, top + 7);
    context.fill();
    context.fillRect(x - 0.75, top, 1.5, LANE - 2);
  }

  drawDiamond(context, x, y) {
    context.beginPath();
    context.moveTo(x, y - 5);
    context.lineTo(x + 5, y);
    context.lineTo(x, y + 5);
    context.lineTo(x - 5, y);
    context.closePath();
    context.fillStyle = "#ffffff";
    context.fill();
    context.lineWidth = 1.5;
    context.strokeStyle = "#10141c";
    context.stroke();
  }
}
