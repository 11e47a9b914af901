"""The views that an evaluation looks at: cut out, turned in the plane and occluded, always the same for one seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from compnet3d.benchmarks.corruption import check_corruption, corrupt
from compnet3d.benchmarks.occlusion import Level, Occluder, cut_occluders, occlude_view
from compnet3d.data.images import load_mask
from compnet3d.data.loader import ViewDataset
from compnet3d.data.sample import Sample
from compnet3d.data.transforms import Crop, InputSpec, View, make_view, warp_image

Occluders = Literal["blobs", "objects"]
# Rotations, occluders and corruptions must not share random numbers, so that asking for one changes no other.
_ROTATION, _OCCLUSION = 0, 1
_CORRUPTION = 2


class EvaluationViews(ViewDataset):
    """One view per sample, without augmentation, optionally of a corrupted photograph, turned and occluded.

    The angle and the occluders of an image depend on the seed and on the image's name alone, so that they stay the
    same when the list gets longer or shorter (cut-out objects come from the list itself, so they do change with it).

    An item is that of `ViewDataset` and, of occluded views, `hidden_object` and `hidden_background`: the shares of
    object and background pixels that the occluders hide, float32 [].
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        categories: Sequence[str],
        spec: InputSpec,
        *,
        crop: Crop = "oracle",
        occlusion: Level | None = None,
        occluders: Occluders = "blobs",
        rotate: float = 0.0,
        seed: int = 0,
        corruption: str | None = None,
        severity: int = 4,
        textures: Sequence[np.ndarray] = (),
    ) -> None:
        """Prepare the views.

        Args:
            samples, categories, spec, crop: as for `ViewDataset`.
            occlusion: level of the occlusion; None for clean views.
            occluders: paste coloured blobs, or objects of other categories cut out by the samples' masks.
            rotate: the largest angle of the uniform draw, in degrees.
            seed: of the draws.
            corruption: of the photographs, before the views are cut out; one of `CORRUPTIONS`, or None.
            severity: of the corruption, 1 to 5.
            textures: pictures of ice for the corruption "frost" (see `corrupt`).

        Raises:
            CompNetError: if there is no such corruption or severity.
        """
        if corruption is not None:
            check_corruption(corruption, severity)
        super().__init__(samples, categories, spec, crop, seed=seed)
        self.occlusion, self.rotate = occlusion, rotate
        self.corruption, self.severity, self.textures = corruption, severity, tuple(textures)
        self._cutouts: list[Occluder] = []
        self._hidden = [0.0, 0.0]
        if occlusion is not None and occluders == "objects":
            self._cutouts = cut_occluders(self.samples, seed=seed)

    def view(self, index: int, epoch: int = 0) -> View:
        """The view of one sample; `epoch` changes nothing."""
        sample = self.samples[index]
        turn = math.radians(self.rotate) * self._generator(sample, _ROTATION).uniform(-1, 1)
        view = make_view(
            self._corrupted(self._photograph(sample), sample), sample, self.spec, crop=self.crop, rotation=turn
        )
        if self.occlusion is None:
            return view
        rng = self._generator(sample, _OCCLUSION)
        mask = object_mask(view, sample)
        image, *self._hidden = occlude_view(
            view.image, mask, rng, self.occlusion, self._cutouts, category=sample.category
        )
        return replace(view, image=image)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        item = super().__getitem__(key)
        if self.occlusion is not None:
            # `view` has just measured them for this item
            item["hidden_object"], item["hidden_background"] = torch.tensor(self._hidden, dtype=torch.float32)
        return item

    def _corrupted(self, photograph: Image.Image, sample: Sample) -> Image.Image:
        """The photograph, corrupted if that was asked for."""
        if self.corruption is None:
            return photograph
        rng = corruption_generator(sample, self.seed)
        pixels = corrupt(np.asarray(photograph), self.corruption, self.severity, rng, textures=self.textures)
        return Image.fromarray(pixels)

    def _generator(self, sample: Sample, purpose: int) -> np.random.Generator:
        return sample_generator(sample, self.seed, purpose)


def sample_generator(sample: Sample, seed: int, purpose: int) -> np.random.Generator:
    """Random numbers that depend on the seed, the purpose and the sample's key alone."""
    return np.random.default_rng([seed, purpose, *sample.key.encode()])


def corruption_generator(sample: Sample, seed: int) -> np.random.Generator:
    """The random numbers that a sample's photograph is corrupted with."""
    return sample_generator(sample, seed, _CORRUPTION)


def object_mask(view: View, sample: Sample) -> np.ndarray:
    """Where the object is in a view, bool [H, W]: its mask warped like the photograph, or its box without a mask."""
    if sample.mask is not None:
        source = load_mask(sample.mask, size=view.source_size)
    else:
        x1, y1, x2, y2 = sample.bbox
        width, height = view.source_size
        u, v = np.arange(width) + 0.5, np.arange(height) + 0.5
        columns, rows = u * sample.width / width, v * sample.height / height
        source = ((y1 <= rows) & (rows <= y2))[:, None] & ((x1 <= columns) & (columns <= x2))[None, :]
    size = (view.image.shape[1], view.image.shape[0])
    layer = Image.fromarray(source.astype(np.uint8) * 255)
    return warp_image(layer, view.matrix, size, view.scale, resample=Image.Resampling.NEAREST) > 0


def view_loader(views: EvaluationViews, batch_size: int, workers: int = 0) -> Iterator[dict[str, Tensor]]:
    """The views in order, as batches of tensors; `workers` processes read images (0: this one does)."""
    loader: DataLoader[dict[str, Tensor]] = DataLoader(
        views, batch_size=batch_size, num_workers=workers, pin_memory=torch.cuda.is_available()
    )
    return iter(loader)
