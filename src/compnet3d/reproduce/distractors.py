"""Rendered objects of other categories that serve as occluders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from compnet3d.data.cutouts import cut_objects
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.errors import CompNetError
from compnet3d.procedural.writer import make_dataset
from compnet3d.robustness.occluders import same_category
from compnet3d.utils.exclusive import scratch_folder
from compnet3d.utils.files import write_folder


def make_occluders(folder: Path, exclude: Sequence[str], count: int = 64, *, seed: int = 5) -> Path:
    """Cut-outs of rendered objects that are in none of the categories: RGBA images in FOLDER/CATEGORY/.

    The paper's occluders are "out-of-interest objects": things that the model does not know.

    Args:
        folder: made unless it is there.
        exclude: categories of the data set.
        count: how many.
        seed: of the objects.

    Raises:
        CompNetError: if there is no other category to draw.
    """
    # `write_folder` makes it whole or not at all, so what is there is complete
    if folder.is_dir():
        return folder
    print(f"drawing occluders: {folder}", flush=True)
    with scratch_folder() as temporary:
        root = temporary / "data"
        # far more categories than built-in ones: whatever the data set has, invented shapes are left
        make_dataset(root, categories=100, train=2, val=0, size=192, seed=seed)
        samples = [
            s for s in ImageNet3D(root).samples("train") if not any(same_category(s.category, name) for name in exclude)
        ]
        cutouts = cut_objects(samples, count)
        if not cutouts:
            raise CompNetError("the data set has all categories that can be drawn; give --occluders blobs or a folder")

        def fill(target: Path) -> None:
            for number, occluder in enumerate(cutouts):
                pixels = np.dstack([occluder.image, occluder.alpha])
                path = target / str(occluder.category) / f"{number:03d}.png"
                path.parent.mkdir(exist_ok=True)
                Image.fromarray(pixels).save(path)

        write_folder(folder, fill)
    return folder
