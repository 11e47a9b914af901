// The annotation page: a shape is dragged and turned over a photograph until it fits, then saved.

import { drawBox, drawShape, viewOf } from "./drawing.js";
import { drag, nudge, press, release, wheel } from "./gestures.js";
import { List, nextNew, ordered } from "./list.js";
import { boxNow, change, item, page, resize, setSide, shapeOf, startOf, tilt, turn, work } from "./object.js";
import * as geometry from "./projection.js";
import { get, post, urlOf } from "./server.js";
import { Work } from "./work.js";

const { RADIAN } = geometry;
const element = (id) => document.getElementById(id);
const canvas = element("view");
const layer = document.createElement("canvas");
const list = new List(element("list"), open, poll);

// -- opening and saving ----------------------------------------------------------------------------------------------

async function open(key) {
  const chosen = page.items.find((one) => one.item === key);
  if (chosen === undefined) return;
  page.current = key;
  page.image = null;
  cover(chosen.problem ?? "");
  refresh();
  try {
    const opened = await get("/api/item", { item: key });
    const image = new Image();
    image.src = urlOf("/api/image", { name: opened.name });
    await image.decode();
    if (page.current !== key) return; // another was chosen meanwhile
    if (!page.works.has(key)) page.works.set(key, new Work(opened, startOf(opened)));
    else work().proposal = opened.proposal ?? work().proposal;
    page.image = image;
    page.zoomed = page.framing = false;
    look();
    refresh();
  } catch (error) {
    if (page.current !== key) return;
    cover(error.message);
    tell(error.message, "bad");
    if (error.status !== 422) return;
    await load();
    if (page.current !== key) return;
    const next = nextNew(page.items, key) ?? page.items.find((one) => one.status === "saved");
    if (next !== undefined) await open(next.item);
    tell(error.message, "bad");
  }
}

async function load() {
  const answer = await get("/api/items");
  // objects that were added here and are not saved yet
  const added = page.items.filter((one) => one.added && !answer.items.some((other) => other.item === one.item));
  page.items = answer.items;
  for (const one of added) insert(one);
  page.sizeIsOpen = answer.size_is_open;
  return answer;
}

function insert(one) {
  const place = page.items.findLastIndex((other) => other.name === one.name);
  page.items.splice(place + 1, 0, one);
}

async function save() {
  if (page.busy || page.image === null) return;
  const [key, one] = [page.current, work()];
  const { placement, cad } = one.now;
  const size = page.sizeIsOpen ? shapeOf(one.now).size : null;
  await busy(async () => {
    try {
      await post("/api/save", { item: key, version: one.version, ...placement, box: boxNow(one.now), cad, size });
    } catch (error) {
      // what is there now, so that saving again replaces it
      if (error.status === 409) one.version = (await get("/api/item", { item: key })).version;
      throw error;
    }
    page.last = { placement, cad, width: one.opened.width, height: one.opened.height };
    await load();
    one.settle(page.items.find((other) => other.item === key).version);
    await goOn("saved");
  });
}

async function goOn(what) {
  const next = nextNew(page.items, page.current);
  if (next === undefined) {
    refresh();
    tell(`All photographs are done. They are in ${page.session.root}`, "good");
    return;
  }
  tell(what, "good");
  await open(next.item);
}

const skip = () =>
  busy(async () => {
    await post("/api/skip", { item: page.current });
    page.works.delete(page.current);
    await load();
    await goOn("skipped");
  });

const clear = () =>
  busy(async () => {
    await post("/api/clear", { item: page.current, version: work().version });
    page.works.clear(); // the numbers of other objects in the image change
    await load();
    await open(page.items.some((one) => one.item === page.current) ? page.current : page.items[0].item);
    tell("deleted", "good");
  });

function another() {
  const { name, title } = item();
  const numbers = page.items.filter((one) => one.name === name).map((one) => Number(one.item.split("#").at(-1)));
  const key = `${name}#${Math.max(...numbers) + 1}`;
  const plain = { status: "new", problem: null, split: null, version: "", disagreement: null, proposed: false };
  insert({ item: key, name, title, ...plain, added: true });
  open(key);
}

function step(by) {
  const shown = ordered(page.items, element("order").value).filter((one) => one.status !== "unreadable");
  const place = shown.findIndex((one) => one.item === page.current);
  const next = shown[place + by];
  if (next !== undefined) open(next.item);
}

// -- the model -------------------------------------------------------------------------------------------------------

async function propose() {
  const [key, one] = [page.current, work()];
  const taken = one.proposal !== null && one.proposal === one.taken;
  await busy(async () => {
    if (one.proposal === null || taken) {
      tell("the model is looking ...");
      one.proposal = await post("/api/propose", { item: key, box: taken ? boxNow(one.now) : null });
    }
    one.taken = one.proposal;
    const { azimuth, elevation, theta, box } = one.proposal;
    const placement = { ...one.now.placement, azimuth, elevation, theta };
    const hull = shapeOf(one.now).hull;
    if (page.current !== key) return;
    change({ placement: box === null ? placement : geometry.fitToBox(hull, placement, box), box: null });
    tell("the model's proposal: check the front, then Enter");
  });
}

function opinion() {
  const { proposal, taken, now } = work();
  element("propose").firstChild.textContent = proposal !== null && taken === proposal ? "Ask again, in this box " : "Take the proposal ";
  if (proposal === null) return "Its proposal is not computed yet; you may ask for it.";
  const angle = geometry.disagreement(now.placement, proposal, page.session.symmetry) / RADIAN;
  const sure = proposal.confidence === null ? "" : `, ${Math.round(100 * proposal.confidence)} % sure`;
  return `${angle < 0.5 ? "Agrees with this pose" : `${Math.round(angle)}\u00b0 from this pose`}${sure}.`;
}

async function poll() {
  if (document.hidden || page.busy || page.drag !== null) return;
  try {
    await load();
    const one = work();
    if (one !== undefined && one.proposal === null && item()?.proposed) {
      one.proposal = (await get("/api/item", { item: page.current })).proposal;
    }
    refresh();
  } catch (error) {
    tell(error.message, "bad");
  }
}

// -- what is shown ---------------------------------------------------------------------------------------------------

function tell(text, kind = "") {
  element("message").textContent = text;
  element("message").className = kind;
}

function cover(text) {
  element("cover").textContent = text;
  element("cover").hidden = text === "";
}

async function busy(act) {
  if (page.busy) return;
  page.busy = true;
  try {
    await act();
  } catch (error) {
    tell(error.message, "bad");
  } finally {
    page.busy = false;
    refresh();
  }
}

function look() {
  const size = { width: canvas.clientWidth, height: canvas.clientHeight };
  if (work() !== undefined) page.view = viewOf(size, work().opened, page.zoomed ? boxNow() : null);
  schedule();
}

let scheduled = false;
function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    draw();
  });
}

function draw() {
  const ratio = window.devicePixelRatio;
  const context = canvas.getContext("2d");
  for (const one of [canvas, layer]) {
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * ratio));
    if (one.width !== width || one.height !== height) Object.assign(one, { width, height });
    one.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
  }
  context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  if (page.image === null || work() === undefined) return;
  const { view } = page;
  const { now, opened } = work();
  context.drawImage(page.image, view.x, view.y, view.scale * opened.width, view.scale * opened.height);
  if (page.hidden) return;
  drawShape(context, layer, shapeOf(now), now.placement, view, Number(element("opacity").value));
  const drawn = page.drag?.frame ?? null;
  drawBox(context, drawn ?? boxNow(), view, drawn !== null || now.box !== null);
}

function refresh() {
  if (page.drag === null) {
    list.show(ordered(page.items, element("order").value), page.current, (key) => page.works.get(key)?.dirty ?? false);
  }
  const readable = page.items.filter((one) => one.status !== "unreadable");
  const done = readable.filter((one) => one.status === "saved").length;
  element("progress").max = Math.max(1, readable.length);
  element("progress").value = done;
  element("count").textContent = `${done} of ${readable.length} done`;
  const one = page.image === null ? undefined : work();
  for (const button of document.querySelectorAll("main button, #propose")) button.disabled = one === undefined;
  for (const id of ["previous", "next"]) element(id).disabled = false;
  element("skip").disabled = page.current === null;
  if (one !== undefined) {
    if (element("cover").textContent !== "") cover("");
    fillFields(one);
    element("undo").disabled = one.before.length === 0;
    element("redo").disabled = one.after.length === 0;
    element("follow").disabled = one.now.box === null;
    element("clear").disabled = item()?.status !== "saved";
    for (const id of ["frame", "zoom"]) element(id).setAttribute("aria-pressed", String(page[{ frame: "framing", zoom: "zoomed" }[id]]));
    if (page.session.model) element("opinion").textContent = opinion();
  }
  schedule();
}

function fillFields({ now, opened }) {
  const write = (id, value) => {
    if (document.activeElement !== element(id)) element(id).value = value;
  };
  for (const name of ["azimuth", "elevation", "theta"]) write(name, degrees(now.placement[name]));
  boxNow(now).forEach((side, i) => write(`box-${i}`, Math.round(side)));
  shapeOf(now).size.forEach((side, i) => write(`size-${i}`, Number(side.toPrecision(4))));
  const open = page.sizeIsOpen;
  element("size").hidden = !shapeOf(now).cuboid;
  for (const i of [0, 1, 2]) element(`size-${i}`).disabled = !open;
  element("step-size").hidden = !open;
  const fixed = shapeOf(now).cuboid ? "A cuboid of these proportions, shared by all photographs." : "The CAD model of the category.";
  element("size-note").textContent = open ? "In any unit; fixed with the first photograph that is saved." : fixed;
  write("cad", String(now.cad));
  write("perspective", nearness(now.placement.focal, opened));
}

const degrees = (angle) => Math.round(10 * (geometry.signed(angle) / RADIAN)) / 10;

// The slider runs from a focal length of 16 times the image's longest side to half of it.
const [FARTHEST, NEAREST] = [Math.log(16), Math.log(0.5)];
const nearness = (focal, size) => (Math.log(focal / Math.max(size.width, size.height)) - FARTHEST) / (NEAREST - FARTHEST);
const focalOf = (value, size) => Math.max(size.width, size.height) * Math.exp(FARTHEST + value * (NEAREST - FARTHEST));

// -- keys and buttons ------------------------------------------------------------------------------------------------

function toggle(name) {
  page[name] = !page[name];
  if (name === "zoomed") look();
  refresh();
}

const actions = {
  undo: () => (work().undo(), refresh()),
  redo: () => (work().redo(), refresh()),
  left: () => turn(-90, 0),
  right: () => turn(90, 0),
  round: () => turn(180, 0),
  frame: () => toggle("framing"),
  follow: () => change({ box: null }),
  zoom: () => toggle("zoomed"),
  previous: () => step(-1),
  next: () => step(1),
  another,
  clear,
  skip,
  save,
  propose,
};
const alone = new Set(["previous", "next", "skip"]); // that need no photograph that can be read

function act(name) {
  if (page.session !== null && !element(name).disabled && (page.image !== null || alone.has(name))) actions[name]();
}

const letters = { "[": "left", "]": "right", f: "round", r: "frame", b: "follow", z: "zoom", s: "skip", p: "propose" };
const others = { PageUp: "previous", PageDown: "next", Enter: "save" };

function key(event) {
  const control = event.ctrlKey || event.metaKey;
  const tag = event.target.tagName;
  const typing = ["INPUT", "SELECT"].includes(tag);
  if (control && event.key.toLowerCase() === "z" && !typing) return done(event, event.shiftKey ? "redo" : "undo");
  if (control && event.key.toLowerCase() === "y" && !typing) return done(event, "redo");
  if (control && event.key === "Enter") return done(event, "save");
  if (typing && ["Enter", "Escape"].includes(event.key)) return canvas.focus();
  if (control || typing || (["BUTTON", "SUMMARY"].includes(tag) && ["Enter", " "].includes(event.key))) return;
  if (event.key === " ") return hide(event, true);
  if (event.key === "Escape" && page.framing) return toggle("framing");
  const name = others[event.key] ?? letters[event.key.toLowerCase()];
  if (name !== undefined && !event.repeat) {
    if (name !== "propose" || page.session?.model) done(event, name);
  } else if (page.image !== null && nudge(event)) event.preventDefault();
}

function done(event, name) {
  event.preventDefault();
  act(name);
}

function hide(event, hidden) {
  if (event.key !== " " || ["INPUT", "BUTTON", "SELECT", "SUMMARY"].includes(event.target.tagName)) return;
  event.preventDefault();
  page.hidden = hidden;
  schedule();
}

function onField(id, act) {
  element(id).addEventListener("change", () => {
    const value = Number(element(id).value);
    const typed = work() !== undefined && element(id).value !== "" && Number.isFinite(value);
    busy(async () => typed && act(value));
  });
}

function listen() {
  canvas.addEventListener("pointerdown", press);
  canvas.addEventListener("pointermove", drag);
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("wheel", wheel, { passive: false });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  new ResizeObserver(look).observe(canvas);
  document.addEventListener("keydown", key);
  document.addEventListener("keyup", (event) => hide(event, false));
  for (const name of Object.keys(actions)) {
    element(name).addEventListener("click", (event) => {
      act(name);
      if (event.detail > 0) canvas.focus(); // by mouse: else Enter would press this button once more
    });
  }
  onField("azimuth", (value) => turn(value - degrees(work().now.placement.azimuth), 0));
  onField("elevation", (value) => turn(0, value - degrees(work().now.placement.elevation)));
  onField("theta", (value) => tilt(value - degrees(work().now.placement.theta), null));
  for (const i of [0, 1, 2, 3]) onField(`box-${i}`, (value) => setSide(i, value));
  for (const i of [0, 1, 2]) onField(`size-${i}`, () => resize([0, 1, 2].map((axis) => Number(element(`size-${axis}`).value))));
  onField("cad", (value) => change({ cad: value }));
  element("opacity").addEventListener("input", schedule);
  element("perspective").addEventListener("input", (event) => {
    const { now, opened } = work();
    const focal = focalOf(Number(event.target.value), opened);
    change({ placement: geometry.refocused(shapeOf(now).hull, now.placement, focal) }, "perspective");
  });
  element("order").addEventListener("change", refresh);
  window.addEventListener("focus", poll);
  window.addEventListener("beforeunload", (event) => {
    if ([...page.works.values()].some((one) => one.dirty)) event.preventDefault();
  });
}

async function begin() {
  page.refresh = refresh;
  listen();
  page.session = await get("/api/session");
  const { session } = page;
  element("category").textContent = session.category;
  document.title = `annotate ${session.category} - compnet3d`;
  element("model").hidden = !session.model;
  element("order").options[2].hidden = !session.model;
  const numbers = Object.keys(session.shapes);
  element("cad-choice").hidden = numbers.length < 2;
  element("cad").replaceChildren(...numbers.map((number) => new Option(number, number)));
  if (session.left_out.length > 0) {
    element("left-out").hidden = false;
    element("left-out").textContent = `${session.left_out.length} left out: ${session.left_out.slice(0, 3).join(", ")}`;
    element("left-out").title = session.left_out.join("\n");
  }
  const { last } = await load();
  if (last !== null) {
    const opened = await get("/api/item", { item: last });
    if (opened.placement !== null) {
      const { box, cad, ...placement } = opened.placement;
      page.last = { placement, cad, width: opened.width, height: opened.height };
    }
  }
  const first = page.items.find((one) => one.status === "new") ?? page.items.find((one) => one.status === "saved");
  if (first !== undefined) await open(first.item);
  canvas.focus();
  if (session.model) setInterval(poll, 2000);
}

begin().catch((error) => {
  cover(error.message);
  tell(error.message, "bad");
});
