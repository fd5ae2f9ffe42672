// What this tab knows: the server's state and results, and what only this tab decides (frame, tool, selection).

import * as api from "./api.js";

export class Model extends EventTarget {
  facts = null;
  state = { objects: [], marks: [], changed: [], colours: {}, files: {}, phase: "idle", error: "" };
  rows = new Map(); // frame -> Map(object -> {score, present, area, why})
  frame = 0;
  object = null;
  hidden = new Set();
  tool = "box";
  direction = "forward";
  follow = true;
  playing = false;
  saidAt = 0; // when the last mark was made, until its preview is there

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

  // The frames on which something looks wrong, in order: [{frame, object, why}].
  get suspects() {
    const found = [];
    const known = new Set(this.state.objects.map((object) => object.id));
    for (const [frame, objects] of this.rows)
      for (const [object, row] of objects) if (row.why && known.has(object)) found.push({ frame, object, why: row.why });
    return found.sort((a, b) => a.frame - b.frame || a.object - b.object);
  }

  colour(object) {
    return this.state.colours[object] ?? "#888888";
  }

  name(object) {
    return this.state.objects.find((o) => o.id === object)?.name ?? `Object ${object}`;
  }

  mark(frame, object) {
    return this.state.marks.find((m) => m.frame === frame && m.object === object);
  }

  // --- news -------------------------------------------------------------------------------------------------

  take(news) {
    if (news.rows.length) this.takeRows(news.rows);
    if (news.state) this.takeState(news.state);
    return this.state.phase === "done";
  }

  takeRows(rows) {
    const frames = new Set();
    for (const [frame, object, score, present, area, why] of rows) {
      frames.add(frame);
      if (!this.rows.has(frame)) this.rows.set(frame, new Map());
      if (score === undefined) this.rows.get(frame).delete(object);
      else this.rows.get(frame).set(object, { score, present, area, why });
    }
    this.emit("rows", frames);
  }

  takeState(state) {
    const before = this.state;
    // Answers to edits and news may overtake each other.
    if (state.marks_revision < before.marks_revision || state.version < before.version) return;
    this.state = state;
    const ids = state.objects.map((object) => object.id);
    if (!ids.includes(this.object)) this.object = ids.at(-1) ?? null;
    if (state.marks_revision !== before.marks_revision) this.emit("marks");
    // The last frame comes with the news that tracking is over.
    const moved = state.phase === "tracking" || before.phase === "tracking";
    if (moved && this.follow && state.phase !== "saving" && state.at !== undefined) this.show(state.at);
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

  // As `show`, by a person's hand: from now on the view stays where they put it.
  go(frame) {
    if (this.busy) this.set({ follow: false });
    this.show(frame);
  }

  set(values) {
    Object.assign(this, values);
    this.emit("view");
  }

  // --- edits ------------------------------------------------------------------------------------------------

  async attempt(act) {
    try {
      return await act();
    } catch (error) {
      this.emit("error", error.message);
      return undefined;
    }
  }

  edit(what) {
    return this.attempt(async () => {
      const answer = await api.edit(what);
      this.takeState({ ...this.state, ...answer });
      return answer;
    });
  }

  async add() {
    const answer = await this.edit({ do: "add" });
    if (answer) this.set({ object: answer.object });
    return answer?.object;
  }

  // An edit of the chosen object on this frame; the first one makes an object.
  async say(what) {
    const frame = this.frame;
    this.saidAt = performance.now();
    const object = this.object ?? (await this.add());
    if (object != null) await this.edit({ frame, object, ...what });
  }

  async uploadMask(file) {
    const frame = this.frame;
    const object = this.object ?? (await this.add());
    if (object == null) return;
    await this.attempt(async () => this.takeState({ ...this.state, ...(await api.uploadMask(file, frame, object)) }));
  }

  track() {
    if (this.busy) return this.attempt(() => api.command("pause"));
    if (!this.state.marks.length) return undefined;
    this.set({ follow: true, playing: false });
    return this.attempt(() => api.command("track", this.direction));
  }
}
