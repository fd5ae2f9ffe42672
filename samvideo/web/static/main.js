// Puts the page together: parts, keys, light and dark, and the connection to the server.

import * as api from "./api.js";
import { Errors } from "./errors.js";
import { Finish } from "./finish.js";
import { Frames } from "./frames.js";
import { Model } from "./model.js";
import { Panel } from "./panel.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";

const model = new Model();
const frames = new Frames(model);
const stage = new Stage(model, frames);
const timeline = new Timeline(model, frames);
const errors = new Errors(model);
const finish = new Finish(model);
new Panel(model, frames);
const byId = (id) => document.getElementById(id);

// --- tools --------------------------------------------------------------------------------------------------

function choose(tool) {
  if (tool !== "pan") stage.proposals.cancel();
  model.set({ tool });
}

function showTool() {
  byId("stage").dataset.tool = model.picking && model.tool !== "pan" ? "pick" : model.tool;
  for (const button of document.querySelectorAll("[data-tool]"))
    if (button.tagName === "BUTTON") button.setAttribute("aria-pressed", button.dataset.tool === model.tool);
}

function clearAnnotation() {
  if (stage.painter.back()) return;
  if (model.annotation(model.frame, model.object)) model.edit({ do: "clear", frame: model.frame, object: model.object });
}

for (const button of document.querySelectorAll("button[data-tool]"))
  button.addEventListener("click", () => choose(button.dataset.tool));
byId("undo").addEventListener("click", () => model.edit({ do: "undo" }));
byId("redo").addEventListener("click", () => model.edit({ do: "redo" }));
byId("clear").addEventListener("click", clearAnnotation);
byId("zoom-in").addEventListener("click", () => stage.zoom(1.5));
byId("zoom-out").addEventListener("click", () => stage.zoom(1 / 1.5));
byId("zoom-fit").addEventListener("click", () => stage.fit());
byId("mask").addEventListener("click", () => byId("mask-file").click());
byId("mask-file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) model.uploadMask(file);
  event.target.value = "";
});
byId("help").addEventListener("click", () => byId("shortcuts").showModal());

// --- light and dark -----------------------------------------------------------------------------------------

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

// Browsers may withhold the storage from a page within a page: nothing is remembered then.
function remember(theme) {
  try {
    if (theme) localStorage.setItem("samvideo-theme", theme);
    return localStorage.getItem("samvideo-theme");
  } catch {
    return null;
  }
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  remember(theme);
  model.set({});
}

const remembered = remember();
if (remembered === "light" || remembered === "dark") document.documentElement.dataset.theme = remembered;
byId("theme").addEventListener("click", () => setTheme(isDark() ? "light" : "dark"));

// --- keys ---------------------------------------------------------------------------------------------------

const KEYS = {
  b: () => choose("box"),
  p: () => choose("plus"),
  n: () => choose("minus"),
  h: () => choose("pan"),
  r: () => choose("brush"),
  e: () => choose("eraser"),
  g: () => choose("polygon"),
  "[": () => stage.painter.resize(-1),
  "]": () => stage.painter.resize(1),
  m: () => byId("mask-file").click(),
  a: () => model.add(),
  o: () => stage.proposals.look(),
  t: () => setTheme(isDark() ? "light" : "dark"),
  j: (event) => timeline.jump(event.shiftKey ? -1 : 1),
  "+": () => stage.zoom(1.25),
  "=": () => stage.zoom(1.25),
  "-": () => stage.zoom(0.8),
  0: () => stage.fit(),
  "?": () => byId("shortcuts").showModal(),
  delete: clearAnnotation,
  backspace: clearAnnotation,
  escape: () => stage.escape(),
  home: () => model.go(0),
  end: () => model.go(model.last),
  arrowleft: (event) => model.go(model.frame - (event.shiftKey ? 10 : 1)),
  arrowright: (event) => model.go(model.frame + (event.shiftKey ? 10 : 1)),
  enter: () => stage.press() || model.track(),
};
const NUDGE = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] };

function onKey(event) {
  const key = event.key.toLowerCase();
  const { target } = event;
  const writing = target.matches("input:not([type=range]):not([type=radio]):not([type=checkbox])");
  if (!model.facts || document.querySelector("dialog[open]") || writing) return;
  if (event.ctrlKey || event.metaKey) {
    const undo = key === "z" && !event.shiftKey;
    const redo = (key === "z" && event.shiftKey) || key === "y";
    if (!undo && !redo) return;
    event.preventDefault();
    model.edit({ do: undo ? "undo" : "redo" });
    return;
  }
  if (event.altKey) {
    if (!NUDGE[key]) return;
    event.preventDefault();
    stage.nudge(...NUDGE[key]);
    return;
  }
  // A button under the focus keeps its own keys.
  if (target.matches("button, a, [type=radio], [type=checkbox]") && (key === "enter" || key === " ")) return;
  if (target.matches("[type=radio]") && key.startsWith("arrow")) return;
  if (key === " ") {
    event.preventDefault();
    if (!event.repeat) [stage.space, stage.spaceUsed] = [true, false];
    return;
  }
  if (/^[1-9]$/.test(key)) {
    const object = model.state.objects[Number(key) - 1];
    if (object) model.set({ object: object.id });
    return;
  }
  if (!Object.hasOwn(KEYS, key)) return;
  event.preventDefault();
  KEYS[key](event);
}

document.addEventListener("keydown", onKey);
// Space alone plays; held while dragging it moves the frame.
document.addEventListener("keyup", (event) => {
  if (event.key !== " " || !stage.space) return;
  stage.space = false;
  if (!stage.spaceUsed) timeline.toggle();
});
byId("stage").addEventListener("pointerdown", () => { stage.spaceUsed = true; });
window.addEventListener("blur", () => { stage.space = false; });

// --- the connection to the server ---------------------------------------------------------------------------

const LOST = "The connection is lost: the command or the notebook's kernel may have ended. Trying again …";

function listen() {
  api.listen(
    (news) => {
      errors.dismiss(LOST);
      model.take(news);
    },
    (source) => {
      if (model.state.phase !== "done") return errors.show(LOST);
      source.close();
      return finish.ended();
    },
  );
}

async function start() {
  model.facts = await api.facts();
  const { name, width, height, rate, model: tracker, tool, direction, stills, embedded } = model.facts;
  document.title = `${name} · samvideo`;
  byId("title").textContent = name;
  const amount = stills ? "images" : `frames · ${rate.toFixed(2).replace(/\.?0+$/, "")} per second`;
  byId("meta").textContent = `${width}×${height} · ${model.last + 1} ${amount} · ${tracker}`;
  byId("direction").hidden = stills;
  if (stills) byId("track-title").textContent = "Segment";
  if (embedded) finish.embed();
  const wanted = Number(location.hash.slice(1));
  model.frame = Number.isInteger(wanted) && wanted >= 0 && wanted <= model.last ? wanted : 0;
  model.on("view", showTool);
  model.set({ tool: { box: "box", points: "plus", mask: "brush" }[tool], direction });
  stage.start();
  timeline.start();
  frames.refresh();
  listen();
  window.samvideo = { model, stage, timeline, pictures: frames }; // for the curious, and for tests
}

window.addEventListener("pagehide", () => api.goodbye());
start().catch((error) => errors.show(error.message));
