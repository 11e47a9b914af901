// The state of the page, and what can be done to the object that it shows.

import * as geometry from "./projection.js";

const { RADIAN } = geometry;

export const page = {
  session: null,
  items: [],
  works: new Map(), // of the objects that were opened, by key
  current: null, // key
  image: null,
  last: null, // what was saved last: {placement, cad, width, height}
  sizeIsOpen: false,
  view: null,
  zoomed: false,
  hidden: false,
  framing: false,
  drag: null,
  busy: false,
  list: null,
  listed: [], // what the list shows
  refresh: () => {}, // shows what has changed
};

export const work = () => page.works.get(page.current);
export const item = () => page.items.find((one) => one.item === page.current);
export const shapeOf = (now) => page.session.shapes[now.cad] ?? Object.values(page.session.shapes)[0];

export function boxNow(now = work().now) {
  if (now.box !== null) return now.box;
  const box = geometry.boxOf(geometry.project(shapeOf(now).hull, now.placement));
  const { width, height } = work().opened;
  return box === null ? [0, 0, width, height] : geometry.boxInImage(box, width, height);
}

export function change(part, kind = null) {
  const one = work();
  if (one === undefined) return;
  one.change({ ...one.now, ...part }, kind);
  page.refresh();
}

// A box that was drawn by hand is where the object is: it stays where the shape is moved.
const place = (placement, kind) => change({ placement }, kind);

export function turn(azimuth, elevation, kind) {
  const { placement } = work().now;
  const raised = Math.min(90, Math.max(-90, placement.elevation / RADIAN + elevation));
  const around = geometry.signed(placement.azimuth + azimuth * RADIAN);
  place({ ...placement, azimuth: around, elevation: raised * RADIAN }, kind);
}

export function move(dx, dy, kind) {
  const { placement } = work().now;
  place({ ...placement, u: placement.u + dx, v: placement.v + dy }, kind);
}

export const scale = (factor) => place(geometry.scaled(shapeOf(work().now).hull, work().now.placement, factor), "scale");

export const tilt = (degrees, kind = "tilt") =>
  place(geometry.tilted(shapeOf(work().now).hull, work().now.placement, degrees * RADIAN), kind);

// The object is in this box, which the shape fills.
export function fill(box) {
  const { now, opened } = work();
  const placement = geometry.fitToBox(shapeOf(now).hull, now.placement, box);
  change({ placement, box: geometry.boxInImage(box, opened.width, opened.height) });
}

export function setSide(i, value) {
  const box = boxNow().with(i, value);
  if (box[0] < box[2] && box[1] < box[3]) change({ box });
  else throw new Error("the box needs x1 < x2 and y1 < y2");
}

// Give the cuboid these sides; it is as large in the image as before.
export function resize(sides) {
  const { now } = work();
  if (!sides.every((side) => side > 0) || Math.max(...sides) > 1000 * Math.min(...sides)) {
    throw new Error("width, depth and height are positive numbers");
  }
  const box = boxNow(now);
  const shape = shapeOf(now);
  const grown = (points) => points.map((point) => point.map((x, axis) => Math.sign(x) * (sides[axis] / 2)));
  page.session.shapes[now.cad] = { ...shape, size: sides, vertices: grown(shape.vertices), hull: grown(shape.hull) };
  // the shape is no part of what is undone
  work().now = { ...now, placement: geometry.fitToBox(shapeOf(now).hull, now.placement, box) };
  page.refresh();
}

// Where an object begins: as it is saved, or as the last one was.
export function startOf(opened) {
  if (opened.placement !== null) return savedStart(opened);
  const cad = page.last?.cad ?? Number(Object.keys(page.session.shapes)[0]);
  const hull = shapeOf({ cad }).hull;
  if (page.last !== null) {
    return { placement: geometry.carried(hull, page.last.placement, page.last, opened), box: null, cad };
  }
  const { width, height } = opened;
  const side = 0.55 * Math.min(width, height);
  const box = [(width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2];
  const angles = { azimuth: 30 * RADIAN, elevation: 20 * RADIAN, theta: 0, focal: page.session.focal };
  return { placement: geometry.fitToBox(hull, angles, box), box: null, cad };
}

export function savedStart(opened) {
  const { box, cad, ...placement } = opened.placement;
  const around = geometry.boxOf(geometry.project(shapeOf({ cad }).hull, placement));
  const follows = around !== null && geometry.boxInImage(around, opened.width, opened.height);
  const same = follows && follows.every((side, i) => Math.abs(side - box[i]) < 0.5);
  return { placement, box: same ? null : box, cad };
}
