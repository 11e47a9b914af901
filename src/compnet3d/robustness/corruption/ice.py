"""Ice without images: feathery crystals as they grow on a window, thick in some places and thin in others."""

from __future__ import annotations

import math

import numpy as np

from compnet3d.robustness.corruption.cloud import cloud_over


def make_ice(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """An image of ice, float64 [height, width, 3] in grey levels.

    Its mean and its contrast are about those of the six images that ImageNet-C uses. Crystals are a sixth of the
    image wide, between 12 and 96 pixels.
    """
    sizes = (1.0, 0.45)  # of the crystals of each layer
    spacing = float(np.clip(min(height, width) / 6.0, 12.0, 96.0))
    bend = 0.8 * spacing * (_spread(cloud_over(height, width, 2.2, rng)) - 0.5)
    layers = [_feathers(height, width, size * spacing, size * bend, rng) for size in sizes]
    thickness = _spread(cloud_over(height, width, 1.9, rng))
    # large crystals stand out where the ice is thick, small ones fill what is between
    ice = 0.14 + 0.68 * thickness * (0.35 + layers[0]) + 0.55 * (0.25 + 0.75 * thickness) * layers[1]
    ice += rng.normal(scale=0.02, size=ice.shape)
    ice = np.clip(ice, 0.0, 1.0)[..., None]
    thin, thick = np.array([42.0, 64.0, 82.0]), np.array([236.0, 244.0, 250.0])
    return thin * (1.0 - ice) + thick * ice


def _spread(cloud: np.ndarray) -> np.ndarray:
    """Smoothly push the values of a cloud apart: most of it becomes clearly thick or clearly thin."""
    steep = np.clip((cloud - cloud.mean()) * 1.6 + 0.5, 0.0, 1.0)
    return steep * steep * (3.0 - 2.0 * steep)


def _feathers(height: int, width: int, spacing: float, bend: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Crystals side by side, float64 [height, width] in 0..1, `spacing` pixels apart, their lines bent by `bend`.

    Every pixel belongs to the nearest of a grid of shaken points. Each crystal has a stem of its own direction, with
    branches to both sides of it, and these have branches again.
    """
    branching = math.radians(60.0)  # ice is hexagonal
    from scipy.ndimage import distance_transform_edt

    empty = np.ones((height, width), dtype=bool)
    grid = [np.arange(0.5 * spacing, extent + spacing, spacing) for extent in (height, width)]
    shaken = [axis + rng.uniform(-0.5, 0.5, (len(grid[0]), len(grid[1]))) * spacing
              for axis in (grid[0][:, None], grid[1][None, :])]  # fmt: skip
    rows, columns = (np.clip(p, 0, n - 1).astype(int) for p, n in zip(shaken, (height, width), strict=True))
    empty[rows, columns] = False
    # for every pixel the row and column of its crystal's centre, [2, H, W]: a Voronoi diagram
    nearest = distance_transform_edt(empty, return_distances=False, return_indices=True)
    turns = rng.uniform(0.0, 2.0 * math.pi, empty.shape)[nearest[0], nearest[1]]
    shine = rng.uniform(0.6, 1.2, empty.shape)[nearest[0], nearest[1]]
    down = np.arange(height)[:, None] - nearest[0] + bend
    right = np.arange(width)[None, :] - nearest[1] - bend
    # in each crystal's own axes: along its stem, and away from it to either side
    along = right * np.cos(turns) + down * np.sin(turns)
    aside = np.abs(down * np.cos(turns) - right * np.sin(turns))
    pitch = max(2.5, 0.09 * spacing)
    branch = aside / math.sin(branching)
    ridges = _ridge((along - branch * math.cos(branching)) / pitch)
    twigs = _ridge((along + branch) / (0.6 * pitch))
    fade = np.exp(-aside / (0.45 * spacing))
    stem = np.exp(-((aside / (0.25 * pitch + 0.4)) ** 2))
    return np.clip(0.75 * shine * fade * (0.45 + ridges * (0.45 + 0.4 * twigs)) + 0.6 * stem, 0.0, 1.0)


def _ridge(phase: np.ndarray) -> np.ndarray:
    """1 on whole numbers, 0 half-way between, with narrow crests."""
    return (0.5 + 0.5 * np.cos(2.0 * math.pi * phase)) ** 2
