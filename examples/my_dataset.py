"""Train on samples of your own, without a folder in the ImageNet3D layout; then start from that model.

    python examples/my_dataset.py OUT

Each sample is an image file with the object's box, pose and camera; each category needs a mesh, which gives its size.
Here the images are drawn: bricks and towers, filled boxes whose outline a pose gives.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from compnet3d import Camera, CompNet, Mesh, Pose, Sample, TrainingData, get_recipe, train
from compnet3d.geometry import cuboid_mesh

SIZES = {"brick": (1.0, 0.6, 0.4), "tower": (0.4, 0.4, 1.2)}  # of each category, in the unit of the distances
SIDE, FOCAL, DISTANCE = 96, 160.0, 3.0


def make_meshes() -> dict[str, list[Mesh]]:
    """A box of each category."""
    half = {name: torch.tensor(size) / 2 for name, size in SIZES.items()}
    return {name: [cuboid_mesh(torch.stack([-h, h]), 100).mesh] for name, h in half.items()}


def make_sample(folder: Path, category: str, mesh: Mesh, number: int, rng: np.random.Generator) -> Sample:
    """Draw an object at a random pose, and say where it is."""
    azimuth, elevation = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(0.1, 0.6))
    pose = Pose.of([azimuth], [elevation], [0.0], [DISTANCE])
    centre = torch.tensor([[SIDE / 2, SIDE / 2]])
    camera = Camera(focal=torch.tensor([FOCAL]), principal_point=centre, height=SIDE, width=SIDE)
    pixels = camera.project(mesh.vertices[None], pose)[0][0].numpy()
    image = Image.new("RGB", (SIDE, SIDE), tuple(rng.integers(0, 120, 3)))
    draw = ImageDraw.Draw(image)
    for triangle in mesh.faces.tolist():
        draw.polygon([tuple(pixels[corner]) for corner in triangle], fill=tuple(rng.integers(120, 255, 3)))
    path = folder / f"{category}_{number}.png"
    image.save(path)
    box = (*pixels.min(axis=0).tolist(), *pixels.max(axis=0).tolist())
    return Sample(
        image=path, category=category, name=path.stem, azimuth=azimuth, elevation=elevation, theta=0.0,
        distance=DISTANCE, focal=FOCAL, principal_point=(SIDE / 2, SIDE / 2), bbox=box, width=SIDE, height=SIDE,
    )  # fmt: skip


def main(out: str, epochs: int = 10, images: int = 40) -> CompNet:
    """Train on the samples, then train longer on the same ones, from that model."""
    folder, rng, meshes = Path(out), np.random.default_rng(0), make_meshes()
    (folder / "images").mkdir(parents=True)
    samples = [
        make_sample(folder / "images", name, meshes[name][0], number, rng) for name in SIZES for number in range(images)
    ]
    data = TrainingData(samples, meshes)
    recipe = get_recipe("quickstart", [f"schedule.epochs={epochs}", "schedule.processes=1"])
    first = train(recipe, data, folder / "first", workers=0)
    second = train(recipe, data, folder / "second", init_from=first, workers=0)
    assert isinstance(second, CompNet)
    return second


if __name__ == "__main__":
    main(sys.argv[1])
