// The side panel: objects, tracking, what is worth a look, files.

import * as api from "./api.js";
import { SUSPICIONS } from "./timeline.js";

const HINTS = {
  box: "Drag a box around the object",
  plus: "Click on the object",
  minus: "Click on what is not the object",
  brush: "Paint over the object, or choose a mask image (M)",
  eraser: "Paint over what is not the object",
  polygon: "Click around the object; Enter or a double click closes",
  pan: "",
};
const PICK = "Click a proposal to take it, again to drop it; Escape dismisses";
const EYE = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12z"/><circle cx="12" cy="12" r="2.8"/><path class="off" d="M4 20L20 4"/></svg>';
const BIN = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6 6l12 12M18 6L6 18"/></svg>';

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function icon(name, drawing, label) {
  const button = make("button", { className: `icon ${name}`, innerHTML: drawing, title: label });
  button.setAttribute("aria-label", label);
  return button;
}

export class Panel {
  constructor(model, frames) {
    this.model = model;
    this.frames = frames;
    for (const id of ["objects", "track", "progress", "advice", "look", "suspects", "files", "old", "downloads", "folder", "status", "hint", "working", "finish", "undo", "redo", "clear"])
      this[id] = document.getElementById(id);
    document.getElementById("add").addEventListener("click", () => model.add());
    this.track.addEventListener("click", () => model.track());
    new ResizeObserver(() => this.reveal()).observe(this.objects);
    for (const input of document.querySelectorAll("[name=direction]"))
      input.addEventListener("change", () => model.set({ direction: input.value }));
    model.on("state annotations view", () => this.show());
    model.on("shown frame", () => this.showStates());
    model.on("rows", () => { this.showStates(); this.showSuspects(); });
    model.on("working", () => { this.working.textContent = [...model.working.values()].at(-1) ?? ""; });
  }

  show() {
    this.showObjects();
    this.showTracking();
    this.showSuspects();
    this.showFiles();
    this.showStates();
    const { state } = this.model;
    this.undo.disabled = !state.undo;
    this.redo.disabled = !state.redo;
    this.clear.disabled = !this.model.annotation(this.model.frame, this.model.object);
    if (state.error && state.error !== this.lastError) this.model.emit("error", state.error);
    this.lastError = state.error;
  }

  // --- objects ----------------------------------------------------------------------------------------------

  showObjects() {
    const { state } = this.model;
    const shape = JSON.stringify([state.objects, state.colours]);
    if (shape !== this.shape) {
      this.shape = shape;
      this.objects.replaceChildren(...state.objects.map((object) => this.entry(object)));
    }
    for (const item of this.objects.children) {
      const id = Number(item.dataset.id);
      item.setAttribute("aria-current", id === this.model.object);
      item.querySelector(".eye").setAttribute("aria-pressed", this.model.hidden.has(id));
    }
    if (this.model.object !== this.revealed) this.reveal();
  }

  // Scrolls the list, and nothing else, to the chosen object when another one is chosen or the room for it changes.
  reveal() {
    this.revealed = this.model.object;
    const item = this.objects.querySelector("[aria-current=true]");
    if (!item) return;
    const list = this.objects.getBoundingClientRect();
    const place = item.getBoundingClientRect();
    this.objects.scrollTop += Math.min(0, place.top - list.top) + Math.max(0, place.bottom - list.bottom);
  }

  entry({ id, name }) {
    const { model } = this;
    const choose = make("button", { className: "choose", title: `Mark ${name}` });
    choose.setAttribute("aria-label", `Mark ${name}`);
    choose.style.background = model.colour(id);
    const field = make("input", { value: name, maxLength: 100, spellcheck: false });
    field.setAttribute("aria-label", "Name");
    field.addEventListener("change", () => model.edit({ do: "rename", object: id, name: field.value }));
    field.addEventListener("keydown", (event) => { if (event.key === "Enter") field.blur(); });
    const eye = icon("eye", EYE, `Hide ${name}`);
    eye.addEventListener("click", () => {
      if (!model.hidden.delete(id)) model.hidden.add(id);
      model.set({});
    });
    const bin = icon("bin", BIN, `Remove ${name}`);
    bin.addEventListener("click", () => model.edit({ do: "remove", object: id }));
    const item = make("li", { className: "object" }, choose, field, make("span", { className: "state" }), eye, bin);
    item.dataset.id = id;
    const select = () => model.set({ object: id });
    choose.addEventListener("click", select);
    field.addEventListener("focus", select);
    return item;
  }

  showStates() {
    const { model } = this;
    const rows = model.rows.get(model.frame);
    const { frame, objects } = this.frames.shown;
    for (const item of this.objects.children) {
      const id = Number(item.dataset.id);
      const row = rows?.get(id);
      const preview = frame === model.frame && objects[id]?.source === "preview";
      const text = preview ? "preview" : !row ? "" : row.present ? row.score.toFixed(2) : "lost";
      item.querySelector(".state").textContent = text;
    }
    this.clear.disabled = !model.annotation(model.frame, model.object);
  }

  // --- tracking ---------------------------------------------------------------------------------------------

  showTracking() {
    const { model } = this;
    const { state } = model;
    const tracked = model.rows.size > 0;
    const paused = state.phase === "paused";
    const verb = model.facts?.stills ? "Segment" : "Track";
    this.track.textContent = model.busy ? "Pause" : paused || (tracked && state.changed.length) ? "Continue" : tracked ? `${verb} again` : verb;
    this.track.disabled = !model.busy && (!state.annotations.length || state.phase === "done");
    this.track.classList.toggle("strong", this.track.textContent !== `${verb} again`);
    this.finish.disabled = !tracked;
    for (const input of document.querySelectorAll("[name=direction]")) {
      input.checked = input.value === model.direction;
      input.disabled = model.busy;
    }
    const running = model.busy || state.saving;
    this.progress.hidden = !running;
    this.progress.value = running && state.at !== null ? (state.at + 1) / model.facts.frames : 0;
    const names = { tracking: "Tracking", replaying: "Catching up", paused: "Paused", done: "Finished" };
    const at = running && state.at !== null ? ` frame ${state.at} of ${model.facts.frames}` : "";
    this.status.textContent = (state.saving ? "Saving" : names[state.phase] ?? "") + at;
    this.advice.textContent = this.advise(tracked, paused);
    this.hint.textContent = model.picking ? PICK : !state.annotations.length && state.phase !== "done" ? HINTS[model.tool] : "";
  }

  advise(tracked, paused) {
    const { state } = this.model;
    if (!tracked) return state.annotations.length ? "" : "Mark an object on any frame, then track it.";
    if (this.model.busy) return "";
    if (state.changed.length) {
      const shown = state.changed.slice(0, 3).join(", ") + (state.changed.length > 3 ? ", …" : "");
      return `Annotations changed on frame ${shown}: continue to track from there.`;
    }
    return paused ? "Correct this frame or continue." : "Correct any frame, then continue from there.";
  }

  showSuspects() {
    const { model } = this;
    const { suspects } = model;
    this.look.hidden = !suspects.length;
    const shape = JSON.stringify([suspects, this.shape]);
    if (shape === this.suspectShape) return;
    this.suspectShape = shape;
    this.suspects.replaceChildren(...suspects.slice(0, 200).map(({ frame, object, suspicion }) => {
      const chip = make("span", { className: "chip" });
      chip.style.background = model.colour(object);
      const button = make("button", {}, chip, `${model.name(object)}: ${SUSPICIONS[suspicion]}`, make("span", { className: "at", textContent: `${frame}` }));
      button.addEventListener("click", () => {
        model.set({ object });
        model.go(frame);
      });
      return make("li", {}, button);
    }));
  }

  // --- files ------------------------------------------------------------------------------------------------

  showFiles() {
    const { files, folder } = this.model.state;
    const shape = Object.keys(files).join();
    this.files.hidden = !shape;
    this.folder.textContent = folder ?? "";
    this.old.hidden = !this.model.state.changed.length;
    if (shape === this.fileShape) return;
    this.fileShape = shape;
    this.downloads.replaceChildren(...api.downloads(files, this.model.facts?.stills));
  }
}
