"""What is lost without a given box: the model's own search and a detector, on pasted scenes and on photographs.

    python tools/no_box.py MODEL DATA OUT [--backgrounds DIR] [--detector FILE] [--split val] [--images 120]
        [--set size_weight=0.005 ...] [--seed 0]

Each of the data set's objects with a mask is pasted into a scene of 640 x 480 pixels, a part of a photograph of
--backgrounds; its longest side has 80 to 300 pixels. Without --backgrounds the images are taken as they are. The box
that is found counts as right with an IoU above 0.5. OUT is a JSON file with one table.
"""

from __future__ import annotations

import argparse
import math
import random
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from compnet3d.data.backgrounds import find_photographs
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.images import load_image
from compnet3d.data.sample import Sample
from compnet3d.data.silhouettes import object_layer
from compnet3d.data.symmetry import symmetry_orders
from compnet3d.evaluation.unseen import common_samples
from compnet3d.geometry.camera import Pose
from compnet3d.geometry.rotations import symmetric_rotation_error
from compnet3d.inference.detection import Box, box_iou
from compnet3d.models.compnet import CompNet
from compnet3d.models.detectors import load_detector
from compnet3d.models.object_search import ObjectSearch, SearchSettings
from compnet3d.reporting.provenance import provenance
from compnet3d.reporting.tables import Row, Table
from compnet3d.utils.files import write_json

COLUMNS = ("where the object is", "found", "classification", "pi/6", "pi/18", "s an image")
SIZE = (640, 480)


@dataclass(frozen=True)
class Scene:
    """An image, where its object is, what it is, and its symmetry about the vertical axis (`symmetry_orders`)."""

    image: Image.Image
    box: tuple[float, float, float, float]
    sample: Sample
    order: int = 1


def pasted(sample: Sample, photographs: tuple[Path, ...], rng: random.Random) -> Scene | None:
    """The object somewhere in a part of a photograph; None where nothing says where it is in its image."""
    image = load_image(sample.image)
    layer = object_layer(sample, image.size)
    if layer is None:
        return None
    scene = load_image(rng.choice(photographs))
    grow = max(side / given for side, given in zip(SIZE, scene.size, strict=True))
    scene = scene.resize((math.ceil(scene.width * grow), math.ceil(scene.height * grow))).crop((0, 0, *SIZE))
    x1, y1, x2, y2 = sample.bbox
    scale = rng.uniform(80, 300) / max(x2 - x1, y2 - y1)
    left = round(rng.uniform(0, SIZE[0] - (x2 - x1) * scale) - x1 * scale)
    top = round(rng.uniform(0, SIZE[1] - (y2 - y1) * scale) - y1 * scale)
    size = (round(image.width * scale), round(image.height * scale))
    scene.paste(image.resize(size, Image.Resampling.BICUBIC), (left, top), layer.resize(size))
    return Scene(scene, (x1 * scale + left, y1 * scale + top, x2 * scale + left, y2 * scale + top), sample)


def measured(model: CompNet, scenes: list[Scene], find: Callable[[Scene], Box | None]) -> list[float]:
    """Shares found, classified, within pi/6 and pi/18 for the predicted category, and seconds an image."""
    right: list[list[bool]] = []
    start = time.perf_counter()
    for scene in scenes:
        box = find(scene)
        if box is None:
            right.append([False] * 4)
            continue
        answer = model.predict(scene.image, boxes=[box])[0]
        true = Pose.of(scene.sample.azimuth, scene.sample.elevation, scene.sample.theta)
        rotations = (pose.to_matrix()[None].cpu() for pose in (answer.pose, true))
        error = float(symmetric_rotation_error(*rotations, torch.tensor([scene.order])))
        overlap = float(box_iou(torch.tensor([list(box)]), torch.tensor([scene.box]))[0, 0])
        named = answer.category == scene.sample.category
        right.append([overlap > 0.5, named, error < math.pi / 6, error < math.pi / 18])
    seconds = (time.perf_counter() - start) / len(scenes)
    return [*torch.tensor(right).float().mean(dim=0).tolist(), seconds]


def main() -> None:
    """Measure, write the table and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--backgrounds", type=Path)
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--set", nargs="+", default=[])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = CompNet.from_pretrained(arguments.model)
    dataset = ImageNet3D(arguments.data)
    samples = list(common_samples(dataset.samples(arguments.split), model.categories))
    orders = dict(zip(model.categories, symmetry_orders(model.categories, dataset.symmetry).tolist(), strict=True))
    rng = random.Random(arguments.seed)
    rng.shuffle(samples)
    if arguments.backgrounds is None:
        chosen = samples[: arguments.images]
        scenes = [Scene(load_image(sample.image), sample.bbox, sample) for sample in chosen]
    else:
        photographs = find_photographs(arguments.backgrounds)
        found = (pasted(sample, photographs, rng) for sample in samples[: arguments.images])
        scenes = [scene for scene in found if scene is not None]
    scenes = [replace(scene, order=orders[scene.sample.category]) for scene in scenes]
    changes = {name: float(value) for name, _, value in (change.partition("=") for change in arguments.set)}
    search = ObjectSearch(model, replace(SearchSettings(), **changes))
    ways: dict[str, Callable[[Scene], Box | None]] = {"given": lambda scene: scene.box}
    if arguments.detector is not None:
        detector = load_detector(arguments.detector, model.categories)
        ways["detector"] = lambda scene: next(iter(detector.detect(scene.image, 1).boxes.tolist()), None)
    ways["search"] = lambda scene: next(iter(search.detect(scene.image, 1).boxes.tolist()), None)
    ways["whole image"] = lambda scene: (0, 0, *scene.image.size)
    rows = []
    for name, find in ways.items():
        *shares, seconds = measured(model, scenes, find)
        rows.append(Row(name, (*shares, f"{seconds:.2f}")))
        print(name, [round(share, 3) for share in shares], round(seconds, 2), flush=True)
    kind = "as they are" if arguments.backgrounds is None else "pasted into photographs"
    note = f"{len(scenes)} images {kind}; the pose is that of the predicted category, symmetry-aware."
    table = Table("no_box", "without a given box", COLUMNS, tuple(rows), (note,))
    made = provenance(shlex.join(["python", *sys.argv]))
    write_json(arguments.out, {"tables": [table.to_dict()], "settings": made})
    print(table.markdown())


if __name__ == "__main__":
    main()
