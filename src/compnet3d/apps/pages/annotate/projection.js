// Poses and pixels, as compnet3d.geometry.camera has them: pure functions, which the tests compare with it.
//
// A placement is {azimuth, elevation, theta, distance, focal, u, v}: radians, CAD units, pixels of the image.

export const RADIAN = Math.PI / 180;
export const TURN = 2 * Math.PI;

// Object-to-camera rotation Rz(theta) Rx(elevation - pi/2) Rz(-azimuth), three rows; camera axes x right, y up.
export function rotation({ azimuth, elevation, theta }) {
  const [ca, sa] = [Math.cos(azimuth), Math.sin(azimuth)];
  const [ce, se] = [Math.cos(elevation), Math.sin(elevation)];
  const [ct, st] = [Math.cos(theta), Math.sin(theta)];
  const right = [ca, sa, 0];
  const up = [-se * sa, se * ca, ce];
  return [
    right.map((x, i) => ct * x - st * up[i]),
    right.map((x, i) => st * x + ct * up[i]),
    [ce * sa, -ce * ca, se],
  ];
}

// Points of the object as [u, v, depth]; the depth is positive in front of the camera.
export function project(points, placement) {
  const rows = rotation(placement);
  const { distance, focal, u, v } = placement;
  return points.map((point) => {
    const [x, y, z] = rows.map((row) => row[0] * point[0] + row[1] * point[1] + row[2] * point[2]);
    const depth = distance - z;
    return [u + (focal * x) / depth, v - (focal * y) / depth, depth];
  });
}

// The smallest box [x1, y1, x2, y2] around projected points; null where one is not in front of the camera.
export function boxOf(projected) {
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [u, v, depth] of projected) {
    if (!(depth > 0)) return null;
    box[0] = Math.min(box[0], u);
    box[1] = Math.min(box[1], v);
    box[2] = Math.max(box[2], u);
    box[3] = Math.max(box[3], v);
  }
  return box;
}

// The part of a box that is in the image, or the box itself where none is.
export function boxInImage(box, width, height) {
  const cut = [Math.max(0, box[0]), Math.max(0, box[1]), Math.min(width, box[2]), Math.min(height, box[3])];
  return cut[2] - cut[0] > 1 && cut[3] - cut[1] > 1 ? cut : box;
}

// How far the farthest point is from the object's origin.
export const radiusOf = (points) => Math.max(...points.map((point) => Math.hypot(...point)));

// Distance and principal point with which the points fill a box, as fit_to_box of the camera module does.
export function fitToBox(points, placement, box) {
  const side = Math.max(box[2] - box[0], box[3] - box[1]);
  const centre = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
  const radius = radiusOf(points);
  const start = Math.max(1.5 * radius, (2 * radius * placement.focal) / side);
  let fitted = { ...placement, u: centre[0], v: centre[1], distance: start };
  // perspective makes it slightly nonlinear: each round divides the error by the distance
  for (let round = 0; round < 50; round += 1) {
    const now = boxOf(project(points, fitted));
    const factor = Math.max(now[2] - now[0], now[3] - now[1]) / side;
    fitted = {
      ...fitted,
      // never so near that a part is behind the camera
      distance: Math.max(1.05 * radius, fitted.distance * factor),
      u: fitted.u + centre[0] - (now[0] + now[2]) / 2,
      v: fitted.v + centre[1] - (now[1] + now[3]) / 2,
    };
    if (Math.abs(factor - 1) < 1e-9) break;
  }
  return fitted;
}

// An angle in (-pi, pi].
export function signed(angle) {
  const turned = angle - TURN * Math.round(angle / TURN);
  return turned <= -Math.PI ? turned + TURN : turned;
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// The placement after the surface nearest to the camera was dragged by (dx, dy) pixels; `radius` of the object, pixels.
export function turned(placement, dx, dy, radius) {
  const [c, s] = [Math.cos(placement.theta), Math.sin(placement.theta)];
  // along the object's own upright axis, whichever way the image is tilted
  const across = c * dx - s * dy;
  const down = s * dx + c * dy;
  return {
    ...placement,
    azimuth: signed(placement.azimuth - across / radius),
    elevation: clamp(placement.elevation + down / radius, -Math.PI / 2, Math.PI / 2),
  };
}

// Tilted in the image plane, counter-clockwise, about the middle of the shape.
export function tilted(points, placement, angle) {
  const before = middleOf(boxOf(project(points, placement)));
  const after = { ...placement, theta: signed(placement.theta + angle) };
  const now = middleOf(boxOf(project(points, after)));
  return { ...after, u: after.u + before[0] - now[0], v: after.v + before[1] - now[1] };
}

const middleOf = (box) => (box === null ? [0, 0] : [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]);

// So many times as large in the image, about the middle of the shape.
export function scaled(points, placement, factor) {
  const radius = radiusOf(points);
  const before = middleOf(boxOf(project(points, placement)));
  const after = { ...placement, distance: Math.max(1.05 * radius, placement.distance / factor) };
  const now = middleOf(boxOf(project(points, after)));
  return { ...after, u: after.u + before[0] - now[0], v: after.v + before[1] - now[1] };
}

// With another focal length, as large as before: the perspective alone changes.
export function refocused(points, placement, focal) {
  const box = boxOf(project(points, placement));
  return fitToBox(points, { ...placement, focal }, box ?? [0, 0, 100, 100]);
}

// The placement in an image of another size: the same place and share of it.
export function carried(points, placement, from, to) {
  const [x, y] = [to.width / from.width, to.height / from.height];
  const ratio = Math.sqrt(x * y);
  if (x === 1 && y === 1) return placement;
  const box = boxOf(project(points, placement));
  if (box === null) return placement;
  const [middle, half] = [middleOf(box), (Math.max(box[2] - box[0], box[3] - box[1]) / 2) * ratio];
  const [u, v] = [middle[0] * x, middle[1] * y];
  return fitToBox(points, placement, [u - half, v - half, u + half, v + half]);
}

// Angle between two poses, radians.
export function angleBetween(first, second) {
  const [a, b] = [rotation(first), rotation(second)];
  let chord = 0;
  for (let i = 0; i < 3; i += 1) for (let j = 0; j < 3; j += 1) chord += (a[i][j] - b[i][j]) ** 2;
  return 2 * Math.asin(Math.min(1, Math.sqrt(chord / 8)));
}

// Angle between two poses of an object that looks the same after turns about its upright axis: `order` of them, 0 any.
export function disagreement(first, second, order) {
  if (order === 0) {
    const [a, b] = [rotation(first), rotation(second)].map((rows) => rows.map((row) => row[2]));
    const cross = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    return Math.atan2(Math.hypot(...cross), a[0] * b[0] + a[1] * b[1] + a[2] * b[2]);
  }
  const turns = Array.from({ length: order }, (_, i) => ({ ...first, azimuth: first.azimuth + (i * TURN) / order }));
  return Math.min(...turns.map((one) => angleBetween(one, second)));
}
