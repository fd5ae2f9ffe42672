// Messages over the frame; each stays until it is dismissed, or until what it tells of is over.

export class Errors {
  constructor(model) {
    this.list = document.getElementById("errors");
    model.on("error", (message) => this.show(message));
  }

  show(message) {
    if ([...this.list.children].some((entry) => entry.dataset.message === message)) return;
    const entry = document.createElement("li");
    const close = Object.assign(document.createElement("button"), { textContent: "×", title: "Dismiss" });
    close.setAttribute("aria-label", "Dismiss");
    close.addEventListener("click", () => entry.remove());
    entry.dataset.message = message;
    entry.append(message, close);
    this.list.append(entry);
  }

  dismiss(message) {
    for (const entry of [...this.list.children]) if (entry.dataset.message === message) entry.remove();
  }
}
