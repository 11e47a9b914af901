"""Corrupted test sets on disk, with the images that an evaluation of the original would make on the fly."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError
from compnet3d.robustness.corruption import corrupt
from compnet3d.robustness.rewrite import Rewritten, rewrite_dataset
from compnet3d.robustness.seeds import corruption_generator
from compnet3d.robustness.shift import Shift
from compnet3d.utils.files import Json
from compnet3d.utils.shards import Shard


def corrupt_dataset(
    source: str | Path,
    out: str | Path,
    shift: Shift,
    *,
    split: str = "val",
    workers: int | None = 1,
    progress: bool = False,
    shard: Shard | None = None,
) -> int:
    """Write one split of a data set with its images corrupted (see `rewrite_dataset` for what is carried over).

    Args:
        source: the data set's folder.
        out: folder to make; it must not exist or be empty.
        shift: a corruption.
        split: which list.
        workers: processes, see `rewrite_dataset`; the images do not depend on it.
        progress: draw a progress bar on stderr.
        shard: which share of the objects to write now; the folder appears with the last.

    Returns:
        The number of images written.

    Raises:
        CompNetError: if the shift is not a corruption alone, and as `load_textures` and `rewrite_dataset`.
    """
    alone = Shift(corruption=shift.corruption, severity=shift.severity, frost=shift.frost, seed=shift.seed)
    if shift.corruption is None or shift != alone:
        raise CompNetError(f"a data set can be corrupted in one way, not be {shift.label}")
    change = _Corrupt(shift.corruption, shift.severity, shift.load_textures(), shift.seed, {"shift": asdict(shift)})
    return rewrite_dataset(source, out, change, split, workers=workers, progress=progress, shard=shard)


@dataclass(frozen=True)
class _Corrupt:
    """Corrupts an image as an evaluation with this seed does."""

    corruption: str
    severity: int
    textures: tuple[np.ndarray, ...]
    seed: int
    settings: Json

    def __call__(self, sample: Sample, image: Image.Image) -> Rewritten:
        rng = corruption_generator(sample, self.seed)
        pixels = corrupt(np.asarray(image), self.corruption, self.severity, rng, textures=self.textures)
        return Rewritten(Image.fromarray(pixels))
