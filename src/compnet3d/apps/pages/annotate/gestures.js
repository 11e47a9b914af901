// The mouse and the keys that change the object.

import { handlesOf } from "./drawing.js";
import { boxNow, change, fill, move, page, scale, shapeOf, tilt, turn, work } from "./object.js";
import * as geometry from "./projection.js";

const at = (event) => [event.offsetX, event.offsetY];
const pixel = ([x, y]) => [(x - page.view.x) / page.view.scale, (y - page.view.y) / page.view.scale];

function handleAt([x, y]) {
  if (page.framing || work() === undefined) return undefined;
  return handlesOf(boxNow(), page.view).find(({ at: [hx, hy] }) => Math.hypot(hx - x, hy - y) < 9);
}

export function press(event) {
  if (page.image === null || page.drag !== null) return;
  event.target.focus();
  event.target.setPointerCapture(event.pointerId);
  const handle = event.button === 0 && !event.shiftKey ? handleAt(at(event)) : undefined;
  const moving = event.button !== 0 || event.shiftKey;
  const kind = page.framing ? "frame" : handle !== undefined ? "box" : moving ? "move" : "turn";
  page.drag = { kind, handle, from: at(event), base: work().now, box: boxNow(), frame: null };
  work().pause();
}

export function drag(event) {
  if (page.drag === null) {
    event.target.style.cursor = page.framing ? "crosshair" : (handleAt(at(event))?.cursor ?? "grab");
    return;
  }
  const { kind, handle, from, base, box } = page.drag;
  const [start, now] = [pixel(from), pixel(at(event))];
  const [dx, dy] = [now[0] - start[0], now[1] - start[1]];
  if (kind === "frame") {
    page.drag.frame = [Math.min(start[0], now[0]), Math.min(start[1], now[1]), Math.max(start[0], now[0]), Math.max(start[1], now[1])];
    page.refresh();
  } else if (dx === 0 && dy === 0 && work().now === base) {
    return; // a click
  } else if (kind === "turn") {
    const { placement } = base;
    const radius = (placement.focal * geometry.radiusOf(shapeOf(base).hull)) / placement.distance;
    stepDrag({ placement: geometry.turned(placement, dx, dy, radius) });
  } else if (kind === "move") {
    const { placement } = base;
    stepDrag({ placement: { ...placement, u: placement.u + dx, v: placement.v + dy } });
  } else {
    const sides = box.map((side, i) => (handle.sides.includes(i) ? side + [dx, dy][i % 2] : side));
    stepDrag({ box: [Math.min(sides[0], box[2] - 2), Math.min(sides[1], box[3] - 2), Math.max(sides[2], sides[0] + 2), Math.max(sides[3], sides[1] + 2)] });
  }
}

// All of a drag is one step, however long it takes.
function stepDrag(part) {
  const one = work();
  if (one.now === page.drag.base) one.change({ ...page.drag.base, ...part });
  else one.now = { ...page.drag.base, ...part };
  page.refresh();
}

export function release() {
  const { drag: ended } = page;
  page.drag = null;
  if (ended?.frame && ended.frame[2] - ended.frame[0] > 4 && ended.frame[3] - ended.frame[1] > 4) {
    page.framing = false;
    fill(ended.frame);
  }
  page.refresh();
}

export function wheel(event) {
  event.preventDefault();
  if (page.image === null) return;
  // lines or pixels, and sideways where Alt or Shift turns the wheel
  const amount = (event.deltaY || event.deltaX) * (event.deltaMode === 1 ? 30 : 1);
  const notch = Math.max(-1.5, Math.min(1.5, amount / 100));
  if (event.altKey) tilt(-2 * notch);
  else scale(Math.exp(-0.06 * notch));
}

export function nudge(event) {
  const fine = event.altKey ? 0.2 : 1;
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
  const distance = 0.01 * fine * Math.max(work().opened.width, work().opened.height);
  if (dx || dy) {
    if (event.shiftKey) move(distance * dx, distance * dy, "move");
    else turn(-5 * fine * dx, 5 * fine * dy, "turn");
  } else if (["+", "=", "-", "_"].includes(event.key)) scale(Math.exp((["+", "="].includes(event.key) ? 0.03 : -0.03) * fine));
  else if (["q", "e"].includes(event.key.toLowerCase())) tilt((event.key.toLowerCase() === "q" ? 2 : -2) * fine);
  else return false;
  return true;
}
