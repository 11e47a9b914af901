// The shape over the photograph: faces in colours that tell its sides, the arrow to its front, the box.

import { project, rotation } from "./projection.js";

const COLOURS = { front: [46, 160, 67], top: [52, 120, 230], left: [220, 70, 50], other: [140, 150, 162] };
const BOX_COLOUR = "#ffd21f";
const LONGEST_ARROW = 110; // pixels of the screen
const HANDLES = [[0, 1], [0.5, 1], [1, 1], [1, 0.5], [1, 0], [0.5, 0], [0, 0], [0, 0.5]];
const CURSORS = ["nesw", "ns", "nwse", "ew", "nesw", "ns", "nwse", "ew"];

// A view maps pixels of the image to those of the canvas: {scale, x, y}.
export const toCanvas = (view, u, v) => [view.x + view.scale * u, view.y + view.scale * v];

// Where the photograph is on the canvas: as a whole, or as large as shows `box`.
export function viewOf(canvas, image, box) {
  const [x1, y1, x2, y2] = box ?? [0, 0, image.width, image.height];
  const margin = box === null ? 1 : 1.5;
  const scale = Math.min(canvas.width / (margin * (x2 - x1)), canvas.height / (margin * (y2 - y1)));
  return { scale, x: canvas.width / 2 - (scale * (x1 + x2)) / 2, y: canvas.height / 2 - (scale * (y1 + y2)) / 2 };
}

// Corners and middles of the sides of a box, on the canvas, with the sides that each moves.
export function handlesOf(box, view) {
  return HANDLES.map(([x, y], i) => ({
    at: toCanvas(view, box[0] + x * (box[2] - box[0]), box[1] + y * (box[3] - box[1])),
    sides: [x === 0 ? 0 : x === 1 ? 2 : null, y === 0 ? 1 : y === 1 ? 3 : null].filter((side) => side !== null),
    cursor: `${CURSORS[i]}-resize`,
  }));
}

// Triangles from the farthest to the nearest, with corners on the canvas and a colour.
function trianglesOf(shape, placement, view) {
  const towardsCamera = rotation(placement)[2];
  const points = project(shape.vertices, placement);
  const corners = points.map(([u, v]) => toCanvas(view, u, v));
  const triangles = [];
  for (const face of shape.faces) {
    const [a, b, c] = face.map((i) => corners[i]);
    const depth = face.reduce((sum, i) => sum + points[i][2], 0);
    if (!face.every((i) => points[i][2] > 0)) continue;
    // a side faces the camera where its corners run clockwise on the canvas, whose v is down
    const area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
    if (shape.cuboid && area >= 0) continue; // behind: of a convex shape that is exact, and the order below is not
    triangles.push({ corners: [a, b, c], depth, colour: colourOf(normalOf(shape.vertices, face), area < 0, towardsCamera) });
  }
  return triangles.sort((first, second) => second.depth - first.depth);
}

function normalOf(vertices, [i, j, k]) {
  const [a, b] = [j, k].map((other) => vertices[other].map((x, axis) => x - vertices[i][axis]));
  const cross = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const length = Math.hypot(...cross) || 1;
  return cross.map((x) => x / length);
}

// Of what is seen of a surface: models of others are not always wound as they should be, so a normal that points away
// from the camera is turned round.
function colourOf(normal, towards, camera) {
  const [x, y, z] = towards ? normal : normal.map((value) => -value);
  const parts = [
    [x * x, x > 0 ? COLOURS.left : COLOURS.other],
    [y * y, y < 0 ? COLOURS.front : COLOURS.other],
    [z * z, z > 0 ? COLOURS.top : COLOURS.other],
  ];
  const light = 0.6 + 0.4 * Math.abs(x * camera[0] + y * camera[1] + z * camera[2]);
  const mixed = [0, 1, 2].map((channel) => light * parts.reduce((sum, [weight, rgb]) => sum + weight * rgb[channel], 0));
  return `rgb(${mixed.map(Math.round).join(" ")})`;
}

function boundsOf(points) {
  const axes = [0, 1, 2].map((axis) => points.map((point) => point[axis]));
  return axes.map((values) => [Math.min(...values), Math.max(...values)]);
}

// Draw the shape onto a layer of its own, which is then laid over the photograph: faces behind others do not shine through.
export function drawShape(context, layer, shape, placement, view, opacity) {
  const drawn = layer.getContext("2d");
  drawn.clearRect(0, 0, layer.width, layer.height);
  drawn.lineJoin = "round";
  for (const { corners, colour } of trianglesOf(shape, placement, view)) {
    drawn.beginPath();
    corners.forEach(([x, y], i) => (i === 0 ? drawn.moveTo(x, y) : drawn.lineTo(x, y)));
    drawn.closePath();
    drawn.fillStyle = drawn.strokeStyle = colour;
    drawn.lineWidth = 0.8;
    drawn.fill();
    drawn.stroke();
  }
  context.save();
  context.globalAlpha = opacity;
  context.drawImage(layer, 0, 0, context.canvas.clientWidth, context.canvas.clientHeight);
  context.restore();
  if (shape.cuboid) drawEdges(context, shape, placement, view);
  drawArrows(context, shape, placement, view);
}

// Whether the camera looks at a side of the box around the shape.
function isSeen(bounds, axis, side, placement) {
  const camera = rotation(placement)[2][axis] * placement.distance;
  return side === 1 ? camera > bounds[axis][1] : camera < bounds[axis][0];
}

// The sides that are seen with strong edges; the edges behind them are faint.
function drawEdges(context, shape, placement, view) {
  const bounds = boundsOf(shape.vertices);
  const quads = { true: new Path2D(), false: new Path2D() };
  for (const axis of [0, 1, 2]) {
    for (const side of [0, 1]) {
      const seen = isSeen(bounds, axis, side, placement);
      const second = (axis + 1) % 3;
      const corners = [[0, 0], [1, 0], [1, 1], [0, 1]].map(([b, c]) =>
        [0, 1, 2].map((i) => bounds[i][i === axis ? side : i === second ? b : c]),
      );
      project(corners, placement).forEach(([u, v], i) => {
        const at = toCanvas(view, u, v);
        if (i === 0) quads[seen].moveTo(...at);
        else quads[seen].lineTo(...at);
      });
      quads[seen].closePath();
    }
  }
  context.save();
  context.lineJoin = "round";
  for (const [seen, colour] of [[false, "rgb(255 255 255 / 25%)"], [true, "rgb(255 255 255 / 90%)"]]) {
    context.strokeStyle = colour;
    context.lineWidth = 1.6;
    context.stroke(quads[seen]);
  }
  context.restore();
}

// From the middle of a side outwards: green where the front faces, blue up. An arrow of a side that is not seen is dashed.
function drawArrows(context, shape, placement, view) {
  const bounds = boundsOf(shape.vertices);
  const middle = bounds.map(([low, high]) => (low + high) / 2);
  const longest = Math.max(...bounds.map(([low, high]) => high - low));
  const arrow = (axis, side, name, colour) => {
    const from = middle.with(axis, bounds[axis][side]);
    const to = middle.with(axis, bounds[axis][side] + (side ? 1 : -1) * 0.35 * longest);
    const [a, b] = project([from, to], placement);
    if (!(a[2] > 0 && b[2] > 0)) return;
    drawArrow(context, toCanvas(view, a[0], a[1]), toCanvas(view, b[0], b[1]), {
      name,
      colour,
      seen: isSeen(bounds, axis, side, placement),
    });
  };
  arrow(2, 1, "top", COLOURS.top);
  arrow(1, 0, "front", COLOURS.front);
}

function drawArrow(context, from, tip, { name, colour, seen }) {
  const whole = Math.hypot(tip[0] - from[0], tip[1] - from[1]);
  const length = Math.min(whole, LONGEST_ARROW);
  const to = [0, 1].map((i) => from[i] + (tip[i] - from[i]) * (whole > 0 ? length / whole : 0));
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
  const angle = Math.atan2(dy, dx);
  const head = Math.min(12, 0.6 * length);
  const path = new Path2D();
  path.moveTo(...from);
  path.lineTo(...to);
  for (const turn of [2.6, -2.6]) {
    path.moveTo(...to);
    path.lineTo(to[0] + head * Math.cos(angle + turn), to[1] + head * Math.sin(angle + turn));
  }
  context.save();
  context.lineCap = context.lineJoin = "round";
  context.globalAlpha = seen ? 1 : 0.75;
  if (!seen) context.setLineDash([5, 7]);
  for (const [width, stroke] of [[6, "rgb(255 255 255 / 90%)"], [3, `rgb(${colour.join(" ")})`]]) {
    context.lineWidth = width;
    context.strokeStyle = stroke;
    context.stroke(path);
  }
  context.setLineDash([]);
  context.globalAlpha = 1;
  context.font = "600 13px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  const text = seen ? name : `${name} (behind)`;
  const half = context.measureText(text).width / 2 + 4;
  const beyond = length > 1 ? [to[0] + (dx / length) * (half + 4), to[1] + (dy / length) * 14] : [to[0], to[1] - 16];
  const x = Math.min(context.canvas.clientWidth - half, Math.max(half, beyond[0]));
  const y = Math.min(context.canvas.clientHeight - 10, Math.max(10, beyond[1]));
  context.lineWidth = 4;
  context.strokeStyle = "white";
  context.strokeText(text, x, y);
  context.fillStyle = `rgb(${colour.map((value) => Math.round(0.75 * value)).join(" ")})`;
  context.fillText(text, x, y);
  context.restore();
}

// The box with its handles; dashed as long as it follows the shape.
export function drawBox(context, box, view, byHand) {
  const [x1, y1] = toCanvas(view, box[0], box[1]);
  const [x2, y2] = toCanvas(view, box[2], box[3]);
  context.save();
  context.strokeStyle = "rgb(0 0 0 / 55%)";
  context.lineWidth = 3.5;
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  context.strokeStyle = BOX_COLOUR;
  context.lineWidth = 2;
  if (!byHand) context.setLineDash([7, 5]);
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  context.setLineDash([]);
  context.fillStyle = BOX_COLOUR;
  context.strokeStyle = "rgb(0 0 0 / 65%)";
  context.lineWidth = 1;
  for (const { at } of handlesOf(box, view)) {
    context.fillRect(at[0] - 4, at[1] - 4, 8, 8);
    context.strokeRect(at[0] - 4, at[1] - 4, 8, 8);
  }
  context.restore();
}
