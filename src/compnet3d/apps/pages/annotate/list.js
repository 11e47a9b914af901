// The list of photographs: how far each is, in the chosen order.

import { urlOf } from "./server.js";
import { RADIAN } from "./projection.js";

const FAR = 30; // degrees of disagreement that deserve a look
const RANKS = { new: 0, skipped: 1, unreadable: 2, saved: 3 };
const WORDS = { new: "to do", saved: "done", skipped: "skipped", unreadable: "cannot be read" };

export function ordered(items, order) {
  const numbered = items.map((item, i) => [item, i]);
  const value = {
    name: () => 0,
    status: ([item]) => RANKS[item.status],
    disagreement: ([item]) => -(item.disagreement ?? -1),
  }[order];
  return numbered.sort((a, b) => value(a) - value(b) || a[1] - b[1]).map(([item]) => item);
}

// The object to go on with: the next that is to be done, else undefined.
export function nextNew(items, current) {
  const place = items.findIndex((item) => item.item === current);
  const round = [...items.slice(place + 1), ...items.slice(0, Math.max(0, place))];
  return round.find((item) => item.status === "new");
}

function describe(item, dirty) {
  const words = [dirty ? "not saved" : WORDS[item.status]];
  if (item.status === "saved" && item.split !== "train") words.push(item.split);
  if (item.disagreement !== null) words.push(`${Math.round(item.disagreement / RADIAN)}\u00b0 off`);
  return words.join(", ");
}

export class List {
  // `choose` is told the key of an object, and whether the mouse chose it; `fail` that an image could not be read.
  constructor(element, choose, fail) {
    this.element = element;
    this.choose = choose;
    this.fail = fail;
    this.rows = new Map();
    // few at a time, and none that is not seen: a browser opens six connections, which the photograph needs as well
    this.waiting = [];
    this.loading = 0;
    this.watch = new IntersectionObserver((entries) => {
      for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
        this.watch.unobserve(target);
        this.waiting.push(target);
      }
      this.load();
    });
  }

  load() {
    while (this.loading < 2 && this.waiting.length > 0) {
      const image = this.waiting.shift();
      this.loading += 1;
      image.src = urlOf("/api/thumbnail", { name: image.dataset.name });
    }
  }

  loaded(image, succeeded) {
    this.loading -= 1;
    if (!succeeded) {
      image.removeAttribute("src");
      this.fail();
    }
    this.load();
  }

  // Show the items; `isDirty` tells which have changes that are not saved.
  show(items, current, isDirty) {
    const rows = items.map((item) => this.row(item));
    for (const [i, row] of rows.entries()) {
      if (this.element.children[i] !== row) this.element.insertBefore(row, this.element.children[i] ?? null);
    }
    while (this.element.children.length > rows.length) this.element.lastChild.remove();
    for (const item of items) this.fill(item, item.item === current, isDirty(item.item));
  }

  row(item) {
    if (!this.rows.has(item.item)) this.rows.set(item.item, this.make(item));
    return this.rows.get(item.item);
  }

  make(item) {
    const [row, button] = [document.createElement("li"), document.createElement("button")];
    const image = new Image();
    image.alt = "";
    image.dataset.name = item.name;
    image.addEventListener("load", () => this.loaded(image, true));
    image.addEventListener("error", () => this.loaded(image, false));
    this.watch.observe(image);
    const [title, state] = ["title", "state"].map((name) => {
      const span = document.createElement("span");
      span.className = name;
      return span;
    });
    button.append(image, title, state);
    button.addEventListener("click", (event) => this.choose(item.item, event.detail > 0));
    row.append(button);
    return row;
  }

  fill(item, isCurrent, dirty) {
    const button = this.row(item).firstChild;
    const shown = JSON.stringify([item, isCurrent, dirty]);
    if (button.dataset.shown === shown) return; // there may be thousands
    button.dataset.shown = shown;
    const [title, state] = [button.children[1], button.children[2]];
    const plain = item.title.replace(/\.[^.]+$/, "");
    const number = Number(item.item.split("#").at(-1));
    title.textContent = number > 0 ? `${plain}, object ${number + 1}` : plain;
    const off = item.disagreement === null ? "" : `: ${Math.round(item.disagreement / RADIAN)}\u00b0 from the model's pose`;
    button.title = item.problem ?? `${item.title}${off}`;
    state.textContent = describe(item, dirty);
    const far = item.disagreement !== null && item.disagreement > FAR * RADIAN;
    state.className = `state ${far ? "far" : item.status}`;
    if (isCurrent && button.getAttribute("aria-current") !== "true") this.row(item).scrollIntoView({ block: "nearest" });
    button.setAttribute("aria-current", String(isCurrent));
  }
}
