"""A brick with a pattern on a table with another one, and cameras all round it: drawn with numpy, ray by ray."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from compnet3d.data.video import VideoWriter
from compnet3d.geometry.mesh import Mesh
from compnet3d.rendering.raster import rasterize

Floats = npt.NDArray[np.float64]

SIZE = np.array([0.30, 0.50, 0.36])  # of the brick, metres; it stands on z = 0 with its front towards -y
MIDDLE = np.array([0.0, 0.0, SIZE[2] / 2])


@dataclass(frozen=True)
class Views:
    """Cameras in OpenCV's axes: world to camera [N, 3, 3], and where they stand [N, 3]."""

    rotations: Floats
    centres: Floats

    def angles(self) -> Floats:
        """Azimuth and elevation of each camera as seen from the brick, degrees [N, 2]; distance in diagonals [N]."""
        away = self.centres - MIDDLE
        length = np.linalg.norm(away, axis=1)
        azimuth = np.degrees(np.arctan2(away[:, 0], -away[:, 1])) % 360
        return np.stack([azimuth, np.degrees(np.arcsin(away[:, 2] / length)), length / np.linalg.norm(SIZE)], axis=1)


def views_round(count: int, seed: int = 0) -> Views:
    """Cameras on an uneven ring, the first one before the front, that look about where the brick is."""
    rng = np.random.default_rng(seed)
    rotations, centres = [], []
    for k in range(count):
        angle = 2 * np.pi * k / count
        radius, height = 1.2 + 0.05 * rng.normal(), 0.6 + 0.08 * rng.normal()
        centre = np.array([radius * np.sin(angle), -radius * np.cos(angle), height])
        forward = np.array([0, 0, 0.15]) + 0.03 * rng.normal(size=3) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        cos, sin = np.cos(0.05 * rng.normal()), np.sin(0.05 * rng.normal())
        down = np.cross(forward, right)
        tilted = np.stack([cos * right - sin * down, sin * right + cos * down, forward])
        # cos and sin are of two angles here: made a rotation again
        u, _, v = np.linalg.svd(tilted)
        rotations.append(u @ v)
        centres.append(centre)
    return Views(np.stack(rotations), np.stack(centres))


def points_of(seed: int = 0) -> Floats:
    """Points as a reconstruction finds them: on the brick's five visible sides, on the table, and some strays."""
    rng = np.random.default_rng(seed)
    sides = []
    for axis, sign in ((0, -1), (0, 1), (1, -1), (1, 1), (2, 1)):
        points = rng.uniform(-0.5, 0.5, (300, 3))
        points[:, axis] = sign * 0.5
        sides.append(points * SIZE + MIDDLE)
    table = np.column_stack([rng.uniform(-1.5, 1.5, (1500, 2)), np.zeros(1500)])
    strays = rng.uniform(-1, 1, (20, 3)) + [0, 0, 1.2]
    return np.concatenate([*sides, table, strays]) + rng.normal(0, 0.0005, (3020, 3))


def draw(folder: Path, views: Views, *, focal: float = 520.0, size: tuple[int, int] = (480, 360)) -> None:
    """Write a photograph of each camera as NNN.jpg."""
    rng = np.random.default_rng(1)
    table, *sides = (_pattern(rng, side) for side in (1024, 256, 256, 256, 256, 256))
    low, high = np.append(-SIZE[:2] / 2, 0.0), np.append(SIZE[:2] / 2, SIZE[2])
    planes = [(2, 0.0, np.array([-1.5, -1.5, 0.0]), np.array([1.5, 1.5, 0.0]), table, 3.0)]
    places = ((0, low), (0, high), (1, low), (1, high), (2, high))
    planes += [(axis, at[axis], low, high, side, 0.55) for (axis, at), side in zip(places, sides, strict=True)]
    u, v = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    seen = np.stack([(u - size[0] / 2) / focal, (v - size[1] / 2) / focal, np.ones_like(u)], axis=-1)
    for number, (rotation, centre) in enumerate(zip(views.rotations, views.centres, strict=True)):
        rays, depth, image = seen @ rotation, np.full(u.shape, np.inf), np.full((*u.shape, 3), 0.7)
        for axis, value, least, most, pattern, scale in planes:
            with np.errstate(divide="ignore", invalid="ignore"):
                t = (value - centre[axis]) / rays[..., axis]
                points = centre + t[..., None] * rays
            others = [k for k in range(3) if k != axis]
            inside = ((points >= least) & (points <= most))[..., others].all(axis=-1) & (t > 0) & (t < depth)
            cells = (points[inside][:, others] - least[others]) / scale * (len(pattern) - 1)
            image[inside] = _between(pattern, cells)
            depth = np.where(inside, t, depth)
        Image.fromarray((image.clip(0, 1) * 255).astype(np.uint8)).save(folder / f"{number:03d}.jpg", quality=92)


def film(path: Path, mesh: Mesh, views: Views, *, focal: float = 520.0, size: tuple[int, int] = (480, 360)) -> None:
    """A model of about 0.5 m on a table, a pattern all through both, filmed in H.264 from each camera in turn.

    Args:
        path: of the film; mesh: the model, drawn by our own rasteriser, in its frame.
        views: the cameras; focal, size: theirs, in pixels.
    """
    rng = np.random.default_rng(2)
    low, high = mesh.vertices.min(0).values, mesh.vertices.max(0).values
    model = (mesh.vertices - torch.stack([*(low + high)[:2] / 2, low[2]])) * (0.5 / float((high - low).max()))
    table = 1.5 * torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    vertices = torch.cat([model, table]).double()
    faces = torch.cat([mesh.faces, torch.tensor([[0, 1, 2], [0, 2, 3]]) + len(model)])
    grids = [rng.uniform(0, 1, (side, side, side, 3)) for side in (12, 24, 48, 96)]
    with VideoWriter(path, 15) as writer:
        for rotation, centre in zip(views.rotations, views.centres, strict=True):
            # OpenCV's camera looks along z with y down, ours along -z with y up
            seen = (vertices - torch.tensor(centre)) @ torch.tensor(rotation.T) * torch.tensor([1.0, -1.0, -1.0])
            raster = rasterize(
                seen[None], faces, focal=torch.tensor(focal, dtype=torch.float64),
                principal_point=torch.tensor([size[0] / 2, size[1] / 2], dtype=torch.float64),
                height=size[1], width=size[0],
            )  # fmt: skip
            face = raster.face_index[0]
            places = (raster.barycentric[0][..., None] * vertices[faces[face.clamp_min(0)]]).sum(dim=-2).numpy()
            image = np.where((face >= 0).numpy()[..., None], _solid(grids, places), 0.7)
            image = image + rng.normal(0, 0.01, image.shape)
            writer.write(Image.fromarray((image.clip(0, 1) * 255).astype(np.uint8)))


def _solid(grids: list[Floats], places: Floats) -> Floats:
    """A pattern in space at places [H, W, 3] in metres, by the nearest cells of grids that repeat every metre."""
    layers = []
    for grid in grids:
        cells = np.floor(places % 1.0 * len(grid)).astype(int).clip(0, len(grid) - 1)
        layers.append(grid[cells[..., 0], cells[..., 1], cells[..., 2]])
    mixed: Floats = np.mean(layers, axis=0)
    return (mixed - 0.5) * 1.8 + 0.5


def _pattern(rng: np.random.Generator, side: int) -> Floats:
    total = np.zeros((side, side, 3))
    for cells in (8, 16, 32, 64, 128):
        small = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += np.asarray(small.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float64)
    total -= total.min()
    scaled: Floats = total / total.max()
    return scaled


def _between(pattern: Floats, cells: Floats) -> Floats:
    """The pattern at real-valued cells [N, 2], bilinearly, [N, 3]."""
    cells = cells.clip(0, len(pattern) - 1.001)
    first = cells.astype(int)
    a, b = (cells - first).T[..., None]
    (i, j), (k, m) = first.T, first.T + 1
    top = pattern[i, j] * (1 - a) + pattern[k, j] * a
    bottom = pattern[i, m] * (1 - a) + pattern[k, m] * a
    mixed: Floats = top * (1 - b) + bottom * b
    return mixed
