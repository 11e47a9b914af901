"""What a training crop costs a core, decoding included, and its parts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from compnet3d.bench.result import BenchResult, milliseconds
from compnet3d.data.augment import Augmentation
from compnet3d.data.backgrounds import drawn_background
from compnet3d.data.images import load_image
from compnet3d.data.loader import CropDataset
from compnet3d.data.sample import Sample
from compnet3d.data.transforms import InputConfig
from compnet3d.training.builtin_recipes import get_recipe
from compnet3d.utils.exclusive import scratch_folder

LARGE = (4000, 3000)  # a telephone's


@dataclass(frozen=True)
class InputResult(BenchResult):
    """Processor time of one crop of 640 x 800 pixels, medians over rounds of means over the images.

    Attributes:
        decode_s: reading the JPEG file; plain_s: with resampling; whole_s: with the paper's augmentation.
        large_s: the same as `whole_s` from photographs of `LARGE` pixels, which are decoded at a part of their size.
        width, height: of the other images; images: how many.
    """

    decode_s: float
    plain_s: float
    whole_s: float
    large_s: float
    width: int
    height: int
    images: int

    def rows(self) -> list[tuple[str, str]]:
        """See `BenchResult`."""
        return [
            (f"decode a JPEG file of {self.width} x {self.height} pixels", milliseconds(self.decode_s)),
            ("and resample it to 640 x 800", milliseconds(self.plain_s)),
            ("and augment it as imagenet3d-resnet50 does", milliseconds(self.whole_s)),
            (f"all of it, from a photograph of {LARGE[0]} x {LARGE[1]} pixels", milliseconds(self.large_s)),
        ]


def bench_input(*, width: int = 500, height: int = 500, images: int = 40, rounds: int = 5) -> InputResult:
    """Time the crops of images with drawn backgrounds, one after the other in this process, nothing kept in memory."""
    recipe = get_recipe("imagenet3d-resnet50")
    generator = np.random.default_rng(0)
    with scratch_folder() as folder:
        samples = [_draw(folder / f"{number}.jpg", width, height, generator) for number in range(images)]
        large = [_draw(folder / f"large-{number}.jpg", *LARGE, generator) for number in range(max(1, images // 10))]

        def cost(of: Sequence[Sample], augmentation: Augmentation | None, epoch: int) -> float:
            config = InputConfig.fitted(of, recipe.input.height, recipe.input.width, recipe.input.fill)
            crops = CropDataset(of, ("object",), config, augmentation=augmentation)
            start = time.process_time()
            for index in range(len(of)):
                crops[epoch, index]
            return (time.process_time() - start) / len(of)

        def decode() -> float:
            start = time.process_time()
            for sample in samples:
                load_image(sample.image)
            return (time.process_time() - start) / images

        # in turn, so that what else the machine does falls on all alike; the first round warms up
        strong = recipe.augmentation
        found = [
            (decode(), cost(samples, None, 0), cost(samples, strong, epoch), cost(large, strong, epoch))
            for epoch in range(rounds + 1)
        ][1:]
    decoded, plain, whole, of_large = np.median(np.array(found), axis=0).tolist()
    return InputResult(decoded, plain, whole, of_large, width, height, images)


def _draw(path: Path, width: int, height: int, generator: np.random.Generator) -> Sample:
    """An image file, and an object that takes up half of it."""
    Image.fromarray(drawn_background((width, height), generator)).save(path, quality=92)
    azimuth, elevation, theta = generator.uniform(-0.3, 0.3, 3)
    centre, side = (width / 2, height / 2), min(width, height) / 4
    return Sample(
        image=path,
        category="object",
        name=path.stem,
        azimuth=float(azimuth),
        elevation=float(elevation),
        theta=float(theta),
        distance=5.0,
        focal=3000.0,
        principal_point=centre,
        bbox=(centre[0] - side, centre[1] - side, centre[0] + side, centre[1] + side),
        width=width,
        height=height,
    )
