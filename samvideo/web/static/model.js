// What this tab knows: the server's state and results, and what only this tab decides (frame, tool, selection).

import * as api from "./api.js";

const SLOW = 400; // milliseconds after which the page shows that it is working

export class Model extends EventTarget {
  facts = null;
  state = { objects: [], annotations: [], changed: [], colours: {}, files: {}, phase: "idle", error: "", at: null };
  rows = new Map(); // frame -> Map(object -> {score, present, area, suspicion})
  frame = 0;
  object = null;
  hidden = new Set();
  tool = "box";
  direction = "forward";
  follow = true;
  playing = false;
  picking = false; // whether a click takes a proposal
  drawnAt = 0; // when the last annotation was drawn, until its preview is there
  working = new Map(); // what takes long, by request

  emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  on(names, act) {
    for (const name of names.split(" ")) this.addEventListener(name, (event) => act(event.detail));
  }

  get last() {
    return this.facts.frames - 1;
  }

  get busy() {
    return this.state.phase === "tracking" || this.state.phase === "replaying";
  }

  // The frames on which something looks wrong, in order: [{frame, object, suspicion}].
  get suspects() {
    const found = [];
    const known = new Set(this.state.objects.map((object) => object.id));
    for (const [frame, objects] of this.rows)
      for (const [object, row] of objects) if (row.suspicion && known.has(object)) found.push({ frame, object, suspicion: row.suspicion });
    return found.sort((a, b) => a.frame - b.frame || a.object - b.object);
  }

  colour(object) {
    return this.state.colours[object] ?? "#888888";
  }

  name(object) {
    return this.state.objects.find((o) => o.id === object)?.name ?? `Object ${object}`;
  }

  annotation(frame, object) {
    return this.state.annotations.find((a) => a.frame === frame && a.object === object);
  }

  // --- news -------------------------------------------------------------------------------------------------

  take(news) {
    if (news.rows.length) this.takeRows(news.rows);
    if (news.state) this.takeState(news.state);
  }

  takeRows(rows) {
    const frames = new Set();
    for (const [frame, object, row] of rows) {
      frames.add(frame);
      if (!this.rows.has(frame)) this.rows.set(frame, new Map());
      if (!row) {
        this.rows.get(frame).delete(object);
        continue;
      }
      const [score, present, area, suspicion] = row;
      this.rows.get(frame).set(object, { score, present, area, suspicion });
    }
    this.emit("rows", frames);
  }

  takeState(state) {
    const before = this.state;
    // Answers to edits and news may overtake each other.
    if (state.annotations_revision < before.annotations_revision || state.version < before.version) return;
    this.state = state;
    const ids = state.objects.map((object) => object.id);
    if (!ids.includes(this.object)) this.object = ids.at(-1) ?? null;
    if (state.annotations_revision !== before.annotations_revision) this.emit("annotations");
    // The last frame comes with the news that tracking is over.
    const moved = state.phase === "tracking" || before.phase === "tracking";
    if (moved && this.follow && !state.saving && state.at !== null) this.show(state.at);
    this.emit("state", before);
  }

  // --- what this tab decides --------------------------------------------------------------------------------

  show(frame) {
    const wanted = Math.min(this.last, Math.max(0, Math.round(frame) || 0));
    if (wanted === this.frame) return;
    this.frame = wanted;
    history.replaceState(null, "", `#${wanted}`);
    this.emit("frame");
  }

  // As `show`, but by the person: from now on the view stays where they put it.
  go(frame) {
    if (this.busy) this.set({ follow: false });
    this.show(frame);
  }

  set(values) {
    Object.assign(this, values);
    this.emit("view");
  }

  // Waits for `act`. When that takes long, the page shows what it is doing; an error is shown, or given to `failed`.
  async attempt(act, doing = "Working", failed = (message) => this.emit("error", message)) {
    const request = {};
    const timer = setTimeout(() => {
      this.working.set(request, doing);
      this.emit("working");
    }, SLOW);
    try {
      return await act();
    } catch (error) {
      failed(error.message);
      return undefined;
    } finally {
      clearTimeout(timer);
      if (this.working.delete(request)) this.emit("working");
    }
  }

  // --- edits ------------------------------------------------------------------------------------------------

  edit(what) {
    return this.attempt(async () => {
      const answer = await api.edit(what);
      this.takeState(answer);
      return answer;
    }, "Saving the annotation");
  }

  async add() {
    const answer = await this.edit({ do: "add" });
    if (answer) this.set({ object: answer.object });
    return answer?.object;
  }

  // An edit of the chosen object on this frame; the first one adds an object.
  async annotate(what) {
    const frame = this.frame;
    this.drawnAt = performance.now();
    const object = this.object ?? (await this.add());
    return object == null ? undefined : this.edit({ frame, object, ...what });
  }

  uploadMask(file) {
    const { frame, object } = this;
    return this.attempt(async () => this.takeState(await api.uploadMask(file, frame, object)), "Reading the mask");
  }

  track() {
    if (this.busy) return this.attempt(() => api.command({ kind: "pause" }));
    if (!this.state.annotations.length) return undefined;
    this.set({ follow: true, playing: false });
    return this.attempt(() => api.command({ kind: "track", direction: this.direction }));
  }
}
