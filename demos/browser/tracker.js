// Tracks objects with an exported model, as samvideo/deploy/graph_runtime.py, trackers/sam.py and memory/fifo.py
// do. docs/graphs.md describes the graphs. Needs no page: any build of ONNX Runtime for JavaScript will do.

import { readNpz } from "./npz.js";

const FORMAT = "samvideo-graphs-1";
const STAGES = ["encode", "prompt", "track", "remember"];
const PROMPTED_ROW = 6; // of the temporal code; rows 0 to 5 are for the frames 1 to 6 before the current one
const CLAMP = 32; // of earlier logits that are corrected
const CLEAR_RADIUS = 6; // frames around a correction whose memories are cleared, since they show the mistake
const ABSENT_LOGIT = -1024;
const STABILITY_DELTA = 0.05;
const STABILITY_THRESHOLD = 0.98;

/**
 * Open the folder of an exported model.
 *
 * @param ort the module of ONNX Runtime.
 * @param url of the folder, ending in "/".
 * @param options of the sessions, such as {executionProviders: ["webgpu", "wasm"]}.
 */
export async function openModel(ort, url, options = {}) {
  const read = async (name) => {
    const response = await fetch(new URL(name, url));
    if (!response.ok) throw new Error(`${response.url} cannot be read: ${response.status} ${response.statusText}`);
    return response;
  };
  const manifest = await (await read("manifest.json")).json();
  if (manifest.format !== FORMAT) throw new Error(`the format is ${manifest.format}, ${FORMAT} expected`);
  const policy = fifoOptions(manifest.policy);
  const constants = readNpz(await (await read(manifest.constants.name)).arrayBuffer());
  const sessions = {};
  for (const stage of STAGES) {
    const graph = await (await read(manifest.graphs[stage].name)).arrayBuffer();
    sessions[stage] = await ort.InferenceSession.create(new Uint8Array(graph), options);
  }
  return { ort, manifest, policy, constants, sessions };
}

/** Options of "fifo" or "fifo:prompted=1,frames=3". */
function fifoOptions(text) {
  const options = { frames: 6, pointers: 15, prompted: 8 };
  const [name, given] = text.split(":");
  for (const [key, value] of given ? given.split(",").map((part) => part.split("=")) : []) {
    options[key] = key in options ? Number(value) : NaN;
  }
  if (name !== "fifo" || Object.values(options).some(Number.isNaN)) {
    throw new Error(`the policy is ${text}; fifo with ${Object.keys(options)} expected: export with --policy fifo`);
  }
  return options;
}

/** Tracks any number of objects through one video; one call of `step` at a time. */
export class Tracker {
  constructor(model) {
    this.model = model;
    this.objects = new Map(); // by id: {entries, prediction}
    this.clock = -1; // frames seen, the time in which memory is measured
    this.index = null;
  }

  /**
   * Process the next frame, or the same one with more prompts.
   *
   * @param index of the frame.
   * @param rgb Uint8Array of height * width * 3 at the input size, `manifest.input_wh`.
   * @param prompts {id, xy, labels}: points in pixels of the input, x and y in turn; label 1 is on the object, 0 is
   *   not, 2 and 3 are the upper left and the lower right corner of a box.
   * @returns {id, logits, score, present} of each object; logits at a quarter of the input size, positive inside.
   */
  async step(index, rgb, prompts = []) {
    const ahead = index !== this.index;
    if (ahead) {
      this.clock += 1;
      this.index = index;
      this.features = null;
    }
    const prompted = new Set(prompts.map((prompt) => prompt.id));
    const changed = ahead ? new Set([...this.objects.keys(), ...prompted]) : prompted;
    if (changed.size) {
      this.features ??= await this.#encode(rgb);
      if (ahead) await this.#track();
      for (const prompt of prompts) await this.#prompt(prompt);
      await this.#remember([...changed], prompted);
    }
    return [...this.objects].map(([id, { prediction: { logits, quality, presence } }]) => (
      { id, logits, score: quality / (1 + Math.exp(-presence)), present: presence > 0 }
    ));
  }

  #encode(rgb) {
    const [width, height] = this.model.manifest.input_wh;
    return this.#run("encode", { rgb: { type: "uint8", data: rgb, dims: [1, height, width, 3] } });
  }

  async #track() {
    const objects = [...this.objects.values()];
    const found = await this.#batched("track", objects.map((object) => this.#bank(object)));
    const ambiguous = this.model.manifest.tracking === "alternatives";
    objects.forEach((object, row) => { object.prediction = this.#choose(found[row], ambiguous); });
  }

  async #prompt({ id, xy, labels }) {
    if (!this.objects.has(id)) this.objects.set(id, { entries: [], prediction: null });
    const object = this.objects.get(id);
    let { embedding } = this.features;
    if (object.entries.some((entry) => entry.index !== this.clock)) {
      const [found] = await this.#batched("track", [this.#bank(object)]);
      embedding = { ...found.embedding, dims: embedding.dims };
    }
    const [width, height] = this.model.manifest.input_wh.map((side) => side / 4);
    const earlier = object.prediction?.logits ?? new Float32Array(width * height);
    const found = await this.#run("prompt", {
      ...this.features,
      embedding,
      xy: { type: "float32", data: Float32Array.from(xy), dims: [1, labels.length, 2] },
      labels: { type: "int64", data: BigInt64Array.from(labels, BigInt), dims: [1, labels.length] },
      mask: { type: "float32", data: earlier.map(clamped), dims: [1, 1, height, width] },
      masked: { type: "float32", data: Float32Array.of(object.prediction ? 1 : 0), dims: [1] },
    });
    object.prediction = this.#choose(found, labels.length <= 1);
  }

  /** The mask, and the pointer of which mask, that the decoder takes itself. */
  #choose({ logits, quality, pointers, presence }, ambiguous) {
    const part = ({ data }, row) => {
      const size = data.length / quality.data.length;
      return data.slice(row * size, (row + 1) * size);
    };
    const best = 1 + quality.data.slice(1).reduce((best, value, row, all) => (value > all[best] ? row : best), 0);
    const mask = ambiguous || (this.model.manifest.answer === "stable" && !isStable(part(logits, 0))) ? best : 0;
    const present = presence.data[0] > 0;
    return {
      logits: present ? part(logits, mask) : part(logits, mask).fill(ABSENT_LOGIT),
      quality: quality.data[mask],
      pointer: present ? part(pointers, ambiguous ? best : 0) : this.model.constants.absent_pointer,
      presence: presence.data[0],
    };
  }

  async #remember(ids, prompted) {
    const objects = ids.map((id) => this.objects.get(id));
    const [width, height] = this.model.manifest.input_wh.map((side) => side / 4);
    const found = await this.#batched("remember", objects.map(({ prediction }, row) => ({
      logits: { type: "float32", data: prediction.logits, dims: [1, height, width] },
      presence: { type: "float32", data: Float32Array.of(prediction.presence), dims: [] },
      binarise: { type: "bool", data: Uint8Array.of(prompted.has(ids[row])), dims: [] },
    })));
    objects.forEach((object, row) => {
      this.tokenDims = found[row].tokens.dims;
      const entry = {
        index: this.clock,
        prompted: prompted.has(ids[row]),
        tokens: toBfloat16(found[row].tokens.data),
        pointer: object.prediction.pointer,
      };
      const oldest = this.clock - (entry.prompted ? CLEAR_RADIUS : 0);
      const others = object.entries.filter(({ index, prompted }) => index < (prompted ? this.clock : oldest));
      object.entries = keep([...others, entry], this.clock, this.model.policy);
    });
  }

  /** The memory of one object in slots; what is not valid is padding. */
  #bank({ entries }) {
    const { frames, pointers } = recall(entries, this.clock, this.model.policy);
    const [slots, places] = this.model.manifest.capacity;
    const size = this.tokenDims[0] * this.tokenDims[1];
    const width = this.model.constants.absent_pointer.length;
    const tokens = new Float32Array(slots * size);
    frames.forEach((frame, slot) => fromBfloat16(frame.tokens, tokens.subarray(slot * size)));
    const past = new Float32Array(places * width);
    pointers.forEach(({ pointer }, place) => past.set(pointer, place * width));
    return {
      tokens: { type: "float32", data: tokens, dims: [slots, ...this.tokenDims] },
      code_rows: padded("int64", slots, frames.map(({ row }) => BigInt(row))),
      frame_scale: padded("float32", slots, frames.map(() => 1)),
      frame_valid: padded("bool", slots, frames.map(() => 1)),
      past_pointers: { type: "float32", data: past, dims: [places, width] },
      ages: padded("float32", places, pointers.map(({ age }) => age / this.model.policy.pointers)),
      pointer_scale: padded("float32", places, pointers.map(() => 1)),
      pointer_valid: padded("bool", places, pointers.map(() => 1)),
    };
  }

  /** Run a stage on as many objects at a time as it takes; the last is repeated to fill a batch. */
  async #batched(stage, rows) {
    const size = this.model.manifest.objects ?? rows.length;
    const results = [];
    for (let begin = 0; begin < rows.length; begin += size) {
      const part = Array.from({ length: size }, (_, row) => rows[Math.min(begin + row, rows.length - 1)]);
      const found = await this.#run(stage, { ...this.features, ...stacked(part) });
      results.push(...part.map((_, row) => rowOf(found, row)));
    }
    return results.slice(0, rows.length);
  }

  /** Inputs that the graph does not have are left out. */
  #run(stage, values) {
    const { ort, sessions } = this.model;
    const tensors = sessions[stage].inputNames.map((name) => {
      const { type, data, dims } = values[name];
      return [name, new ort.Tensor(type, data, dims)];
    });
    return sessions[stage].run(Object.fromEntries(tensors));
  }
}

/** What is left of the entries on frame `now`: tokens while frames attend to them, then the pointer alone. */
function keep(entries, now, { frames, pointers, prompted }) {
  const pinned = entries.filter((entry) => entry.prompted);
  const dropped = new Set(pinned.slice(1, Math.max(1, pinned.length - prompted + 1))); // all but the first and last
  return entries.flatMap((entry) => {
    const age = now - entry.index;
    if (entry.prompted) return dropped.has(entry) ? [] : [entry];
    if (age < frames) return [entry];
    return age < pointers ? [{ ...entry, tokens: null }] : [];
  });
}

/** What an object attends to on frame `now`: prompted frames first, then the others. */
function recall(entries, now, policy) {
  const pinned = entries.filter((entry) => entry.prompted);
  const others = entries.filter((entry) => !entry.prompted && entry.index < now).sort((a, b) => a.index - b.index);
  const age = (entry) => now - entry.index;
  const recent = others.filter((entry) => age(entry) <= policy.frames && entry.tokens);
  const pointed = others.filter((entry) => age(entry) <= policy.pointers).reverse();
  const pointing = policy.pointers ? [...pinned, ...pointed] : [];
  return {
    frames: [
      ...pinned.map(({ tokens }) => ({ row: PROMPTED_ROW, tokens })),
      ...recent.map((entry) => ({ row: age(entry) - 1, tokens: entry.tokens })),
    ],
    pointers: pointing.map((entry) => ({ age: age(entry), pointer: entry.pointer })),
  };
}

const clamped = (logit) => Math.min(Math.max(logit, -CLAMP), CLAMP);

/** Whether the mask's area hardly changes when its threshold moves. */
function isStable(logits) {
  const area = (threshold) => logits.reduce((count, logit) => count + (logit > threshold), 0);
  const outer = area(-STABILITY_DELTA);
  return outer === 0 || area(STABILITY_DELTA) / outer >= STABILITY_THRESHOLD;
}

/** An input with one value a slot, zero in the slots that are left. */
function padded(type, count, values) {
  const data = new { float32: Float32Array, int64: BigInt64Array, bool: Uint8Array }[type](count);
  data.set(values);
  return { type, data, dims: [count] };
}

/** One value of each name with the objects along its first axis. */
function stacked(rows) {
  return Object.fromEntries(Object.entries(rows[0]).map(([name, { type, data, dims }]) => {
    const all = new data.constructor(rows.length * data.length);
    rows.forEach((row, place) => all.set(row[name].data, place * data.length));
    return [name, { type, data: all, dims: [rows.length, ...dims] }];
  }));
}

function rowOf(found, row) {
  return Object.fromEntries(Object.entries(found).map(([name, { type, data, dims }]) => {
    const size = data.length / dims[0];
    return [name, { type, data: data.slice(row * size, (row + 1) * size), dims: dims.slice(1) }];
  }));
}

/** The upper halves of float32, rounded to the nearest, and to even between two: memories are stored so. */
function toBfloat16(values) {
  const rounded = (bits) => (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
  return Uint16Array.from(new Uint32Array(values.slice().buffer), rounded);
}

function fromBfloat16(halves, target) {
  const bits = new Uint32Array(target.buffer, target.byteOffset, halves.length);
  halves.forEach((half, place) => { bits[place] = half << 16; });
}
