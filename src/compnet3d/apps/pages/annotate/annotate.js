// The annotation page: a shape is dragged and turned over a photograph until it fits, then saved.

import { canvas, cover, degrees, element, focalOf, look, refresh, schedule, tell } from "./display.js";
import { drag, nudge, press, release, wheel } from "./gestures.js";
import { List, nextNew, ordered } from "./list.js";
import { boxNow, change, item, page, resize, setSide, shapeOf, startOf, tilt, turn, work } from "./object.js";
import * as geometry from "./projection.js";
import { get, post, urlOf } from "./server.js";
import { Work } from "./work.js";

// -- opening and saving ----------------------------------------------------------------------------------------------

function choose(key, byMouse) {
  if (byMouse) canvas.focus(); // else Enter would choose it once more
  open(key);
}

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
    const following = nextNew(page.items, key);
    if (following !== undefined) new Image().src = urlOf("/api/image", { name: following.name }); // loaded ahead
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
  page.items = page.items.toSpliced(place + 1, 0, one);
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
    one.proposal = null; // it is computed anew, in the box that was saved
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
  page.list = new List(element("list"), choose, poll);
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
