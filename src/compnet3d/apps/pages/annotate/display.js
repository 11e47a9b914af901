// What the page shows: the photograph with the shape, the list, the fields, messages.

import { drawBox, drawShape, viewOf } from "./drawing.js";
import { ordered } from "./list.js";
import { boxNow, item, page, shapeOf, work } from "./object.js";
import * as geometry from "./projection.js";

const { RADIAN } = geometry;
export const element = (id) => document.getElementById(id);
export const canvas = element("view");
const layer = document.createElement("canvas");

export function tell(text, kind = "") {
  element("message").textContent = text;
  element("message").className = kind;
}

export function cover(text) {
  element("cover").textContent = text;
  element("cover").hidden = text === "";
}

export function look() {
  const size = { width: canvas.clientWidth, height: canvas.clientHeight };
  if (work() !== undefined) page.view = viewOf(size, work().opened, page.zoomed ? boxNow() : null);
  schedule();
}

let scheduled = false;
export function schedule() {
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
  if (page.image === null || work() === undefined || canvas.width * canvas.height === 0) return;
  const { view } = page;
  const { now, opened } = work();
  context.drawImage(page.image, view.x, view.y, view.scale * opened.width, view.scale * opened.height);
  if (page.hidden) return;
  drawShape(context, layer, shapeOf(now), now.placement, view, Number(element("opacity").value));
  const drawn = page.drag?.frame ?? null;
  drawBox(context, drawn ?? boxNow(), view, drawn !== null || now.box !== null);
}

export function refresh() {
  refreshList();
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

// There may be thousands of photographs: only where something in the list is another.
function refreshList() {
  const order = element("order").value;
  const now = [page.items, page.current, work()?.dirty ?? false, order];
  if (page.drag !== null || now.every((value, i) => value === page.listed[i])) return;
  page.listed = now;
  page.list.show(ordered(page.items, order), page.current, (key) => page.works.get(key)?.dirty ?? false);
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

export const degrees = (angle) => Math.round(10 * (geometry.signed(angle) / RADIAN)) / 10;

// The slider runs from a focal length of 16 times the image's longest side to half of it.
const [FARTHEST, NEAREST] = [Math.log(16), Math.log(0.5)];
const nearness = (focal, size) => (Math.log(focal / Math.max(size.width, size.height)) - FARTHEST) / (NEAREST - FARTHEST);
export const focalOf = (value, size) => Math.max(size.width, size.height) * Math.exp(FARTHEST + value * (NEAREST - FARTHEST));

function opinion() {
  const { proposal, taken, now } = work();
  element("propose").firstChild.textContent = proposal !== null && taken === proposal ? "Ask again, in this box " : "Take the proposal ";
  if (proposal === null) return "Its proposal is not computed yet; you may ask for it.";
  const angle = geometry.disagreement(now.placement, proposal, page.session.symmetry) / RADIAN;
  const sure = proposal.confidence === null ? "" : `, ${Math.round(100 * proposal.confidence)} % sure`;
  return `${angle < 0.5 ? "Agrees with this pose" : `${Math.round(angle)}\u00b0 from this pose`}${sure}.`;
}
