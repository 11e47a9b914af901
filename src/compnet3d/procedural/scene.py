"""Draws one image of one object: pose, light and shadow, ground, background, clutter, sensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from numpy.random import Generator

from compnet3d.geometry.mesh import Mesh
from compnet3d.procedural.backdrop import Ground, clutter_layer, flat_backdrop
from compnet3d.procedural.materials import Floats, Material
from compnet3d.procedural.parts import Part, Role, cross
from compnet3d.procedural.view import Light, View
from compnet3d.rendering.raster import Raster, rasterize

# thirty times an object's diagonal: rays to it are nearly parallel, so that one perspective rasteriser serves all
_LIGHT_DISTANCE = 30.0


@dataclass(frozen=True)
class Model:
    """A mesh ready to be drawn.

    Attributes:
        mesh: unit diagonal, centred.
        roles: int64 [F], which material each face has.
        normals: float32 [F, 3, 3], unit normal at each corner of each face, smooth over blunt edges.
        footprint: float32 [G, G], how much stands above the ground over [-0.75, 0.75]^2 (rows along y).
    """

    mesh: Mesh
    roles: npt.NDArray[np.int64]
    normals: Floats
    footprint: Floats

    @property
    def floor(self) -> float:
        """Height of the lowest point."""
        return float(self.mesh.vertices[:, 2].min())


@dataclass(frozen=True)
class RenderedImage:
    """A finished image.

    Attributes:
        image: uint8 [S, S, 3].
        mask: bool [S, S], pixels at least half covered by the object.
        bbox: (x1, y1, x2, y2) of the mask, x2 and y2 exclusive.
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]
    bbox: tuple[float, float, float, float]


def prepare(part: Part) -> Model:
    """Normals and footprint of a normalised part."""
    mesh = part.mesh()
    vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy()
    return Model(mesh, part.roles, corner_normals(vertices, faces), _footprint(mesh))


def corner_normals(vertices: Floats, faces: npt.NDArray[np.int64]) -> Floats:
    """Unit normals [F, 3, 3]: at each corner the mean over the faces around it that bend by less than the crease angle.

    Corners are matched by position; faces that turn the other way round are flipped first, so that the winding of the
    mesh does not matter.
    """
    # sharper edges stay edges; the sides of a 16-sided cylinder, 22.5 degrees apart, become round
    crease = math.cos(math.radians(42))
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    # unnormalised: large faces count for more in the mean
    area = cross(b - a, c - a)
    unit = area / np.maximum(np.linalg.norm(area, axis=1, keepdims=True), 1e-20)
    # primitives and CAD files repeat vertices at seams, which would otherwise be seen as creases
    _, welded = np.unique(np.round(vertices, 6), axis=0, return_inverse=True)
    corner_vertex = welded.reshape(-1)[faces].reshape(-1)
    # Corners [3 F] sorted by place; those of place p are order[start[p] : start[p] + count[p]]. Below, each corner is
    # paired with all corners at its place, itself included: `corner` and `other` run over these pairs, `other` as
    # faces.
    order = np.argsort(corner_vertex, kind="stable")
    count = np.bincount(corner_vertex)
    start = np.cumsum(count) - count
    share = count[corner_vertex]
    corner = np.repeat(np.arange(len(corner_vertex)), share)
    within = np.arange(len(corner)) - np.repeat(np.cumsum(share) - share, share)
    other = order[start[corner_vertex][corner] + within] // 3
    alike = np.einsum("ij,ij->i", unit[corner // 3], unit[other])
    # a face wound the other way counts with its normal turned round
    weight = np.where(np.abs(alike) > crease, np.sign(alike), 0.0)
    total = np.stack([np.bincount(corner, weight * area[other, k], len(corner_vertex)) for k in range(3)], axis=1)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    # degenerate faces and normals that cancel out fall back on the face's own
    total = np.where(length > 1e-20, total / np.maximum(length, 1e-20), np.repeat(unit, 3, axis=0))
    return total.reshape(-1, 3, 3).astype(np.float32)


def _orthographic(
    mesh: Mesh, direction: npt.ArrayLike, cells: int, half: float
) -> tuple[Raster, npt.NDArray[np.float64]]:
    """The mesh as seen from far away in a direction, over [-half, half]^2, and the axes [3, 3] (right, up, towards)."""
    towards = np.asarray(direction, dtype=np.float64)
    towards = towards / np.linalg.norm(towards)
    # any axis across the direction will do, but it must not be near it
    right = cross(np.array([0.0, 1.0, 0.0] if abs(towards[2]) > 0.9 else [0.0, 0.0, 1.0]), towards)
    right /= np.linalg.norm(right)
    axes = np.stack([right, cross(towards, right), towards])
    points = mesh.vertices.double() @ torch.from_numpy(axes).T
    points[:, 2] -= _LIGHT_DISTANCE
    focal = torch.tensor([cells / (2 * half) * _LIGHT_DISTANCE], dtype=torch.float64)
    principal_point = torch.full((1, 2), cells / 2, dtype=torch.float64)
    raster = rasterize(
        points[None], mesh.faces, focal=focal, principal_point=principal_point, height=cells, width=cells
    )
    return raster, axes


def _footprint(mesh: Mesh) -> Floats:
    raster, _ = _orthographic(mesh, (0.0, 0.0, -1.0), 36, 0.75)
    # seen from below, depth grows with height: what is left is the height over the lowest point
    height = (_LIGHT_DISTANCE - raster.depth[0].numpy()) * -1 - float(mesh.vertices[:, 2].min())
    near = np.where(np.isfinite(height), np.exp(-np.maximum(height, 0) / 0.06), 0.0)
    # seen from below, columns run along -x and rows along -y
    return box_blur(near[::-1, ::-1].astype(np.float32), 2)


def box_blur(image: Floats, radius: int) -> Floats:
    """Mean over (2 radius + 1)^2 cells, zero outside; twice, so nearly a Gaussian."""
    if radius < 1:
        return image
    for _ in range(2):
        for axis in (0, 1):
            # a running sum: the cost does not depend on the radius
            padding = [(radius + 1, radius) if k == axis else (0, 0) for k in (0, 1)]
            total = np.cumsum(np.pad(image, padding), axis=axis, dtype=np.float32)
            width = 2 * radius + 1
            upper = total[width:] if axis == 0 else total[:, width:]
            lower = total[:-width] if axis == 0 else total[:, :-width]
            image = (upper - lower) * np.float32(1 / width)
    return image


def sample_view(rng: Generator, mesh: Mesh, size: int) -> View:
    """A random view: any azimuth, elevation -10 to 60 degrees (mostly 0 to 40), theta -25 to 25.

    The object lies inside the image, but for a few that are cut a little by a border.
    """
    azimuth = rng.uniform(0, 2 * math.pi)
    elevation = math.radians(rng.uniform(0, 40) if rng.random() < 0.75 else rng.uniform(-10, 60))
    theta = math.radians(float(np.clip(rng.normal(0, 10), -25, 25)))
    # a narrow field of view, about 14 degrees, as in images of single objects
    focal = 4.0 * size
    fill = rng.uniform(0.72, 1.08)
    truncated = rng.random() < 0.08
    distance = focal / (size * fill)
    view = View(azimuth, elevation, theta, distance, focal, (size / 2, size / 2), size)
    # once, with the origin in the middle; size and place in the image follow from this box without projecting again
    uv, _ = view.camera().project(mesh.vertices.double(), view.pose())
    low, high = uv[0].amin(dim=0).numpy(), uv[0].amax(dim=0).numpy()
    # fit into the image with a margin, and bring objects seen end-on nearer
    longest = float((high - low).max()) / size
    excess = max(1.0, longest / 0.94) if longest > 0.55 else (longest / 0.55) ** 0.7
    if excess != 1:
        distance *= excess
        # up to perspective, which changes little at this focal length; the mask, not this, gives the annotated box
        low, high = size / 2 + (low - size / 2) / excess, size / 2 + (high - size / 2) / excess
    margin = 0.03 * size
    shift = []
    for k in (0, 1):
        least, most = margin - low[k], size - margin - high[k]
        middle, reach = (least + most) / 2, max(0.0, (most - least) / 2)
        wanted = middle + reach * rng.uniform(-1, 1)
        if truncated:
            wanted += (
                rng.choice([-1, 1]) * rng.uniform(0.0, 0.12) * (high[k] - low[k])
                + np.sign(wanted - middle) * reach * 0.3
            )
        shift.append(float(wanted))
    principal_point = (size / 2 + shift[0], size / 2 + shift[1])
    return View(azimuth, elevation, theta, distance, focal, principal_point, size)


def sample_light(rng: Generator, azimuth: float) -> Light:
    """A light from above, more often from the camera's side than from behind the object."""
    # about the camera's own azimuth, up to 109 degrees to either side
    turn = azimuth + rng.uniform(-1.9, 1.9)
    height = math.radians(rng.uniform(25, 75))
    direction = [math.cos(height) * math.sin(turn), -math.cos(height) * math.cos(turn), math.sin(height)]
    tint = 1 + rng.uniform(-0.12, 0.12, 3)
    ambient = rng.uniform(0.3, 0.6)
    sky = ambient * (1 + rng.uniform(-0.1, 0.1, 3))
    return Light(
        direction=np.array(direction, dtype=np.float32),
        colour=(rng.uniform(0.55, 0.95) * tint).astype(np.float32),
        sky=sky.astype(np.float32),
        ground=(sky * rng.uniform(0.45, 0.8)).astype(np.float32),
    )


def draw(model: Model, palette: dict[Role, Material], view: View, rng: Generator) -> RenderedImage:
    """One image of a model.

    Args:
        model: what to draw.
        palette: a material for each role.
        view: camera and image size.
        rng: decides light, background, clutter and the sensor's faults.
    """
    # the order of the draws below is part of what a seed stands for: exchanging two steps changes every data set's
    # bytes
    light = sample_light(rng, view.azimuth)
    shadow = _ShadowMap(model.mesh, light)
    colour, alpha = _object_layer(model, palette, view, light, shadow)
    rendered = flat_backdrop(rng, view.size)
    ground = Ground.sample(rng, view, model.floor)
    if ground is not None:
        rendered = ground.paint(rendered, shade=lambda points: _ground_shade(model, points, shadow))
    rendered = clutter_layer(rng, rendered, view, model.floor, light)
    rendered = rendered * (1 - alpha[..., None]) + colour
    mask = alpha >= 0.5
    return RenderedImage(_sensor(rng, rendered), mask, _mask_box(mask))


class _ShadowMap:
    """Depth as seen from the light."""

    def __init__(self, mesh: Mesh, light: Light) -> None:
        self.size = 80  # cells on a side
        raster, self.axes = _orthographic(mesh, light.direction, self.size, 0.62)
        self.height = (_LIGHT_DISTANCE - raster.depth[0].numpy()).astype(np.float32)
        # for the ground, whose shadow has soft borders; `height` is infinite where nothing is hit
        self.cover = box_blur(np.isfinite(self.height).astype(np.float32), 1)

    def cells(
        self, points: Floats
    ) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Height towards the light [N], row, column, and whether the point lies inside the map."""
        local = points @ self.axes.T.astype(np.float32)
        # the projection of `_orthographic`, 1.24 = 2 * 0.62 being the width that the map covers
        scale = _LIGHT_DISTANCE / (_LIGHT_DISTANCE - local[:, 2]) * (self.size / 1.24)
        column = np.floor(self.size / 2 + local[:, 0] * scale).astype(np.int64)
        row = np.floor(self.size / 2 - local[:, 1] * scale).astype(np.int64)
        inside = (column >= 0) & (column < self.size) & (row >= 0) & (row < self.size)
        return local[:, 2], row.clip(0, self.size - 1), column.clip(0, self.size - 1), inside

    def lit(self, points: Floats) -> Floats:
        """1 in the light, 0 in the shadow, soft at borders [N]."""
        height, row, column, _ = self.cells(points)
        result = np.zeros(len(points), dtype=np.float32)
        # five neighbouring cells give soft borders; 0.035 is more than the width of two cells, without which surfaces
        # would shade themselves
        for dr, dc in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)):
            seen = self.height[(row + dr).clip(0, self.size - 1), (column + dc).clip(0, self.size - 1)]
            result += seen < height + 0.035
        return result * np.float32(0.2)

    def ground(self, points: Floats) -> Floats:
        """How much of the light the object takes away at ground points [N]."""
        _, row, column, inside = self.cells(points)
        taken: Floats = np.where(inside, self.cover[row, column], 0.0).astype(np.float32)
        return taken


def _ground_shade(model: Model, points: Floats, shadow: _ShadowMap) -> Floats:
    count = len(model.footprint)
    column = ((points[:, 0] + 0.75) / 1.5 * count).astype(np.int64)
    row = ((points[:, 1] + 0.75) / 1.5 * count).astype(np.int64)
    inside = (column >= 0) & (column < count) & (row >= 0) & (row < count)
    contact = np.where(inside, model.footprint[row.clip(0, count - 1), column.clip(0, count - 1)], 0.0)
    shade = (1 - 0.5 * shadow.ground(points)) * (1 - 0.45 * contact)
    return shade.astype(np.float32)


def _object_layer(
    model: Model, palette: dict[Role, Material], view: View, light: Light, shadow: _ShadowMap
) -> tuple[Floats, Floats]:
    """Premultiplied colour [S, S, 3] and coverage [S, S] of the object."""
    supersampling = 2
    pose, cells = view.pose(), view.size * supersampling
    camera = view.camera()
    vertices = pose.object_to_camera(model.mesh.vertices.double())
    raster = rasterize(
        vertices,
        model.mesh.faces,
        focal=camera.focal,
        principal_point=camera.principal_point,
        height=cells,
        width=cells,
        stride=1 / supersampling,
    )
    face_map = raster.face_index[0].numpy()
    hit = np.flatnonzero(face_map.reshape(-1) >= 0)
    face = face_map.reshape(-1)[hit]
    weight = raster.barycentric[0].numpy().reshape(-1, 3)[hit].astype(np.float32)
    corners = model.mesh.vertices.numpy()[model.mesh.faces.numpy()]
    # per hit cell, [N, 3]: where the ray meets the surface, and the interpolated normal
    points = np.einsum("nk,nkd->nd", weight, corners[face])
    normals = np.einsum("nk,nkd->nd", weight, model.normals[face])
    eye = pose.camera_centre()[0].numpy().astype(np.float32)
    colour = _shade(points, normals, model.roles[face], palette, light, shadow, eye)
    layer = np.zeros((cells * cells, 4), dtype=np.float32)
    layer[hit, :3], layer[hit, 3] = colour, 1.0
    # [S, 2, S, 2, 4]: the four cells of a pixel on axes 1 and 3
    fine = layer.reshape(view.size, supersampling, view.size, supersampling, 4)
    corners_of_pixel = [fine[:, i, :, j] for i in range(supersampling) for j in range(supersampling)]
    layer = sum(corners_of_pixel[1:], corners_of_pixel[0]) * np.float32(1 / supersampling**2)
    return layer[..., :3], layer[..., 3]


def _shade(
    points: Floats,
    normals: Floats,
    roles: npt.NDArray[np.int64],
    palette: dict[Role, Material],
    light: Light,
    shadow: _ShadowMap,
    eye: Floats,
) -> Floats:
    """Lambert and Blinn-Phong with a two-coloured sky; both sides of a surface are lit alike."""
    towards = eye - points
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    # turned towards the camera: thin parts are seen from inside, and CAD models are wound either way
    normals = normals * np.where(np.einsum("nd,nd->n", normals, towards) < 0, -1, 1)[:, None].astype(np.float32)
    facing = np.maximum(normals @ light.direction, 0) * shadow.lit(points)
    up = (0.5 + 0.5 * normals[:, 2])[:, None]
    radiance = light.ground + up * (light.sky - light.ground) + facing[:, None] * light.colour
    half = towards + light.direction
    half /= np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-6)
    highlight = np.maximum(np.einsum("nd,nd->n", normals, half), 0)
    result = np.empty_like(points)
    for role, material in palette.items():
        chosen = np.flatnonzero(roles == role)
        if len(chosen) == 0:
            continue
        # no highlight where the light does not reach
        glint = material.gloss * highlight[chosen] ** material.shininess * (facing[chosen] > 0.05)
        result[chosen] = material.albedo(points[chosen]) * radiance[chosen] + glint[:, None] * light.colour
    return result.clip(0, 1.3)


def _sensor(rng: Generator, rendered: Floats) -> npt.NDArray[np.uint8]:
    """Exposure, white balance, blur, noise, 8 bits."""
    from PIL import Image, ImageFilter

    gain = rng.uniform(0.88, 1.15) * (1 + rng.uniform(-0.05, 0.05, 3))
    rendered = np.clip(rendered * gain.astype(np.float32), 0, 1) ** np.float32(rng.uniform(0.8, 1.1))
    image = Image.fromarray((rendered * 255 + 0.5).astype(np.uint8))
    blur = rng.uniform(-0.4, 0.7)
    if blur > 0.15:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    noise = rng.standard_normal(rendered.shape, dtype=np.float32) * np.float32(rng.uniform(0.5, 6.0))
    return np.clip(np.asarray(image) + noise + 0.5, 0, 255).astype(np.uint8)


def _mask_box(mask: npt.NDArray[np.bool_]) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        # readers skip an object with an empty box; this one is seen nowhere, which is rare
        return 0.0, 0.0, 1.0, 1.0
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
