// The end: asking whether to finish with what there is, and the files, which can be had until the command ends.

import * as api from "./api.js";

const byId = (id) => document.getElementById(id);

export class Finish {
  constructor(model) {
    this.model = model;
    this.shown = false;
    byId("finish").addEventListener("click", () => this.ask());
    byId("end").addEventListener("click", () => this.end());
    model.on("state", () => {
      if (model.state.phase === "done" && !this.shown) this.show();
    });
    // Closing the page in mid-track ends the command, and what is not tracked is lost.
    window.addEventListener("beforeunload", (event) => {
      if (this.open && !model.facts.embedded && (model.busy || model.rows.size)) event.preventDefault();
    });
  }

  // Within a notebook nothing ends with the page, nor can the page end the notebook.
  embed() {
    byId("finish").title = "Finish; the results stay in the notebook, and the files in their folder";
    byId("end").hidden = true;
  }

  // Why this is not the end yet, "" when it is.
  get open() {
    const { state, busy } = this.model;
    if (state.phase === "done") return "";
    if (state.changed.length) return `The annotations on frame ${state.changed[0]} are not tracked yet.`;
    return busy || state.phase === "paused" ? "Tracking has not come to its end." : "";
  }

  ask() {
    if (this.model.state.phase === "done") return byId("done").showModal();
    if (!this.open) return this.end();
    const dialog = byId("ask");
    byId("ask-text").textContent = `${this.open} Finish with what there is?`;
    dialog.returnValue = "no";
    dialog.onclose = () => { if (dialog.returnValue === "yes") this.end(); };
    return dialog.showModal();
  }

  end() {
    return this.model.attempt(() => api.command({ kind: "finish" }), "Finishing");
  }

  show() {
    this.shown = true;
    const { folder, files, error } = this.model.state;
    const last = this.model.facts.embedded ? "the notebook closes this page" : "this page is closed, or the command is ended";
    const written = Object.keys(files).length > 0;
    byId("done-text").textContent = error || (written ? `The files are in the folder ${folder}.` : "Nothing was tracked, nothing was written.");
    byId("done-downloads").replaceChildren(...api.downloads(files, this.model.facts.stills));
    byId("done-more").textContent = written ? `They can be downloaded here until ${last}.` : "";
    for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
    byId("done").showModal();
  }

  // The server has gone.
  ended() {
    if (!this.shown) this.show();
    if (!byId("done").open) byId("done").showModal();
    byId("done-downloads").replaceChildren();
    byId("downloads").replaceChildren();
    byId("end").hidden = true;
    byId("done-more").textContent = this.model.facts.embedded
      ? "The notebook has closed this page." : "The command has ended; this page can be closed.";
  }
}
