// Objects that the server finds on a frame: shown with dashes until they are taken. They go when the frame changes.

import * as api from "./api.js";
import { outlined } from "./draw.js";

const testing = document.createElement("canvas").getContext("2d");

// Where a proposal's tag lies: in the middle of its longest outline, in pixels of the video.
function middleOf(shapes) {
  const longest = shapes.reduce((a, b) => (b.length > a.length ? b : a), []);
  const middle = (values) => (Math.min(...values) + Math.max(...values)) / 20;
  return [middle(longest.filter((_, i) => i % 2 === 0)), middle(longest.filter((_, i) => i % 2 === 1))];
}

export class Proposals {
  constructor(model) {
    this.model = model;
    this.found = []; // {tag, path, middle, objects: ids that it became}
    this.key = null;
    this.search = null; // controller of the request under way
    this.taking = false;
    this.pointed = -1;
    const ids = { button: "propose", form: "find", texts: "texts", section: "proposals", text: "proposals-text", items: "proposal-list", all: "take-all", dismiss: "dismiss" };
    for (const [name, id] of Object.entries(ids)) this[name] = document.getElementById(id);
    this.button.addEventListener("click", () => this.look());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.texts.value.trim()) this.look(this.texts.value);
    });
    this.texts.addEventListener("keydown", (event) => { if (event.key === "Escape") this.cancel(); });
    this.all.addEventListener("click", () => this.take(this.left));
    this.dismiss.addEventListener("click", () => this.cancel());
    model.on("frame", () => this.cancel());
    model.on("state annotations view", () => this.show());
  }

  // The object that a proposal became, if it is there still.
  taken({ objects }) {
    return this.model.state.objects.find(({ id }) => objects.includes(id));
  }

  // Rows of those that are not taken.
  get left() {
    return [...this.found.keys()].filter((row) => !this.taken(this.found[row]));
  }

  // --- finding, taking and dropping -------------------------------------------------------------------------

  async look(texts = null) {
    const { model } = this;
    if (model.state.phase === "done") return;
    this.cancel();
    const search = new AbortController();
    this.search = search;
    model.set({ follow: false, playing: false });
    const failed = (message) => { if (this.search === search) model.emit("error", message); };
    const answer = await model.attempt(() => api.propose(model.frame, texts, search.signal), "Looking for objects", failed);
    if (this.search !== search) return; // cancelled
    this.search = null;
    if (answer) this.receive(answer);
    else if (answer === null) model.emit("error", "Another page looks for objects now: propose again");
    model.set({ picking: this.found.length > 0 });
  }

  receive({ key, found }) {
    this.key = key;
    this.found = found.map(({ label, shapes }, row) => (
      { tag: `${row + 1} ${label}`.trim(), path: outlined(shapes), middle: middleOf(shapes), objects: [] }));
    this.list();
  }

  // Whether there was something to dismiss.
  cancel() {
    if (!this.search && this.key === null) return false;
    this.search?.abort();
    this.search = this.key = null;
    this.found = [];
    this.pointed = -1;
    this.list();
    this.model.set({ picking: false });
    return true;
  }

  pick(row) {
    const object = this.taken(this.found[row]);
    return object ? this.model.edit({ do: "remove", object: object.id }) : this.take([row]);
  }

  async take(rows) {
    const { found } = this;
    if (!rows.length || this.taking) return;
    this.taking = true;
    const answer = await this.model.edit({ do: "take", key: this.key, rows });
    this.taking = false;
    if (!answer) return;
    for (const [k, row] of rows.entries()) found[row].objects.push(answer.object + k);
    this.model.set({ object: answer.object });
  }

  // --- on the frame -----------------------------------------------------------------------------------------

  at([x, y]) {
    return this.found.findIndex(({ path }) => testing.isPointInPath(path, x * 10, y * 10, "evenodd"));
  }

  pickAt(place) {
    const row = this.at(place);
    if (row >= 0) this.pick(row);
  }

  point(row) {
    if (row === this.pointed) return;
    this.pointed = row;
    this.model.set({});
  }

  // The context's unit is a tenth of a pixel of the video; `pixel` is one of the screen.
  draw(context, pixel) {
    for (const row of this.left) {
      const { path } = this.found[row];
      context.fillStyle = `rgb(255 255 255 / ${row === this.pointed ? 40 : 14}%)`;
      context.fill(path, "evenodd");
      for (const [style, width, dash] of [["rgb(0 0 0 / 65%)", 3, []], ["#ffffff", 1.5, [6, 4]]]) {
        context.lineWidth = width * pixel;
        context.strokeStyle = style;
        context.setLineDash(dash.map((length) => length * pixel));
        context.stroke(path);
      }
    }
    context.setLineDash([]);
  }

  drawTags(context, toScreen) {
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const row of this.left) {
      const { tag, middle } = this.found[row];
      const [x, y] = toScreen(...middle);
      const width = context.measureText(tag).width + 10;
      context.fillStyle = "rgb(15 18 26 / 82%)";
      context.fillRect(x - width / 2, y - 9, width, 18);
      context.fillStyle = "#ffffff";
      context.fillText(tag, x, y + 0.5);
    }
  }

  // --- in the panel -----------------------------------------------------------------------------------------

  list() {
    this.items.replaceChildren(...this.found.map(({ tag }, row) => {
      const button = Object.assign(document.createElement("button"), { textContent: tag });
      button.setAttribute("aria-label", `Proposal ${tag}`);
      button.addEventListener("click", () => this.pick(row));
      for (const enter of ["focus", "pointerenter"]) button.addEventListener(enter, () => this.point(row));
      for (const leave of ["blur", "pointerleave"]) button.addEventListener(leave, () => this.point(-1));
      const item = document.createElement("li");
      item.append(button);
      return item;
    }));
  }

  show() {
    const { facts, state } = this.model;
    const count = this.found.length;
    this.button.disabled = state.phase === "done";
    this.form.hidden = !facts?.by_name || state.phase === "done";
    this.section.hidden = !this.search && this.key === null;
    const { left } = this;
    for (const [row, item] of [...this.items.children].entries())
      item.firstChild.setAttribute("aria-pressed", !left.includes(row));
    this.all.hidden = !count;
    this.all.disabled = !left.length;
    const text = this.search ? "Looking for objects …"
      : count ? `${count} found, ${count - left.length} taken: click one to take it, again to drop it.`
        : "No new object was found on this frame.";
    if (this.text.textContent !== text) this.text.textContent = text;
  }
}
