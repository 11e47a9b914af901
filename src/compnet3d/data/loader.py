"""Samples as tensors for training and evaluation."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, get_worker_info

from compnet3d.data.augment import Augmentation, CropSources
from compnet3d.data.backgrounds import beside, drawn_background, window_of
from compnet3d.data.cutouts import Cutout, cut_object
from compnet3d.data.images import image_tensor, load_image
from compnet3d.data.members import BrokenShardError, Member, fetch
from compnet3d.data.sample import Sample
from compnet3d.data.sample_table import SampleTable
from compnet3d.data.silhouettes import object_layer
from compnet3d.data.transforms import Crop, CropMode, InputConfig, make_crop, match_image_size, reduction_of
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh

# decoded images of the small data sets fit; of ImageNet3D a part does, and the rest is read each time
CACHE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Scenery:
    """What `Augmentation.background_swap` works with beside the samples' images and masks.

    Attributes:
        photographs: to serve as backgrounds.
        meshes: CAD models of the categories that have some: the silhouette of the sample's stands in for its mask.
    """

    photographs: tuple[Path, ...] = ()
    meshes: Mapping[str, Sequence[Mesh]] = field(default_factory=dict)

    def mesh_of(self, sample: Sample) -> Mesh | None:
        """The CAD model that a sample is annotated with, else the first of its category, None if there is none."""
        models, place = self.meshes.get(sample.category, ()), sample.cad_index - 1  # counted from 1
        if not models:
            return None
        return models[place] if 0 <= place < len(models) else models[0]


class CropDataset(Dataset[dict[str, torch.Tensor]]):
    """One crop per sample, as a dict of tensors.

    An item is asked for by its index or by (epoch, index). All random numbers depend on (seed, epoch, index) alone, so
    that a resumed run, or one with another number of workers, sees the same crops. A plain index means epoch 0.

    An item holds `image` uint8 [3, H, W]; `category` and `index` int64 []; `azimuth`, `elevation`, `theta`
    (radians), `distance` (CAD units) and `focal` (pixels) float32 []; `principal_point` float32 [2] (pixels of the
    crop); `occluded` bool [H, W], the pixels that the augmentation's erasing covers.

    An image in a broken shard is an error, or the next one stands in for it, as the data set was opened (`PackedSet`).
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        categories: Sequence[str],
        input_config: InputConfig,
        *,
        augmentation: Augmentation | None = None,
        mirror_categories: Collection[str] = frozenset(),
        seed: int = 0,
        cache_bytes: int = 0,
        scenery: Scenery | None = None,
    ) -> None:
        """Prepare the crops; no image is read yet.

        Args:
            samples: the objects.
            categories: names in the order of the model's indices.
            input_config: the network's input.
            augmentation: random changes; none by default.
            mirror_categories: names of those that may be mirrored.
            seed: of the augmentation.
            cache_bytes: keep decoded images in memory (per worker process) until these are used.
            scenery: for the augmentation's `background_swap`; None for no backgrounds but those of the data set and
                drawn ones, and only where there are masks.

        Raises:
            CompNetError: if a sample's category is not among `categories`.
        """
        self.samples = SampleTable(samples)
        self.input_config, self.augmentation, self.seed = input_config, augmentation, seed
        self.mirror_categories = frozenset(mirror_categories)
        self._index = {name: i for i, name in enumerate(categories)}
        unknown = sorted({s.category for s in samples} - set(self._index))
        if unknown:
            raise CompNetError(
                f"The data has categories that the model does not know: {', '.join(unknown[:8])}; "
                "leave them out or train with them."
            )
        self.scenery = scenery or Scenery()
        self._cache: dict[str, np.ndarray] = {}
        self._cache_left = cache_bytes
        self._frozen = False
        self._broken: dict[str, int] = {}  # images that could not be read, by shard

    def of(self, samples: Sequence[Sample]) -> CropDataset:
        """The same settings over other samples; images already decoded are shared."""
        other = copy(self)
        other.samples = SampleTable(samples)
        return other

    def plain(self) -> CropDataset:
        """The same samples without augmentation."""
        return self.augmented(None)

    def augmented(self, augmentation: Augmentation | None) -> CropDataset:
        """The same samples with another augmentation."""
        other = copy(self)
        other.augmentation = augmentation
        return other

    def __len__(self) -> int:
        return len(self.samples)

    def crop_at(self, index: int, epoch: int = 0) -> Crop:
        """The crop of one sample.

        Raises:
            CompNetError: naming the file, if its image cannot be read.
        """
        sample = self.samples[index]
        augmentation, rng = self.augmentation, None
        crop: CropMode = "oracle"
        if augmentation is not None:
            # by index, not by a state that goes on: workers take items in any order, and a resumed run starts in the
            # middle
            rng = np.random.default_rng((self.seed, epoch, index))
            if sample.category not in self.mirror_categories:
                # a mirrored camera or desk would be an object that does not exist; the random number is drawn all the
                # same
                augmentation = replace(augmentation, mirror=0.0)
            if augmentation.box_crop > 0 and rng.random() < augmentation.box_crop:
                crop = "box"
        image = self._image_of(sample)
        return make_crop(
            image,
            sample,
            self.input_config,
            crop=crop,
            augmentation=augmentation,
            rng=rng,
            sources=self._sources(sample, image.size),
        )

    def _sources(self, sample: Sample, size: tuple[int, int]) -> CropSources:
        if self.augmentation is None or self.augmentation.background_swap == 0:
            return CropSources(self._cut_out)
        return CropSources(self._cut_out, self._layer_of(sample, size), self._background)

    def _background(self, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """A photograph (mostly, where there are some), what is beside another sample's object, or a drawn one."""
        photographs, kind = self.scenery.photographs, rng.random()
        share = 0.7 if photographs else 0.0
        if kind < share:
            path = photographs[int(rng.integers(len(photographs)))]
            return window_of(self._kept(str(path), lambda: load_image(path)), size, rng)
        if kind < (1.0 + share) / 2:
            other = self.samples[int(rng.integers(len(self.samples)))]
            image = self._image_of(other)
            strip = beside(image, match_image_size(other, image.size).bbox)
            if strip is not None:
                return window_of(strip, size, rng)
        return drawn_background(size, rng)

    def _layer_of(self, sample: Sample, size: tuple[int, int]) -> Image.Image | None:
        """See `object_layer`; a layer all black stands for none in the cache."""

        def make() -> Image.Image:
            layer = object_layer(sample, size, self.scenery.mesh_of(sample))
            return Image.new("L", size) if layer is None else layer

        # by its file: samples of several data sets may have one key
        layer = self._kept(f"{sample.image} layer {sample.object_index}", make)
        return layer if layer.getbbox() else None

    def _cut_out(self, rng: np.random.Generator) -> Cutout:
        """Any sample's object."""
        # the sample's own object may come up; among thousands it hardly matters
        sample = self.samples[int(rng.integers(len(self.samples)))]
        return cut_object(self._image_of(sample), sample)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, torch.Tensor]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self.samples):
            raise IndexError(index)
        return self._read_or_next(index, epoch)

    def __getitems__(self, keys: Sequence[int | tuple[int, int]]) -> list[dict[str, torch.Tensor]]:
        """The items of a batch, whose images are asked for together where they lie in remote shards."""
        if get_worker_info() is not None and not self._frozen:
            # the collector writes to every object that it goes through, and a process that was forked would get copies
            # of all that it shares with the others
            gc.freeze()
            self._frozen = True
        samples = [self.samples[key[1] if isinstance(key, tuple) else key] for key in keys]
        remote = (sample for sample in samples if isinstance(sample.image, Member))
        files = [s.image for s in remote if _cache_key(s, self._reduction_of(s)) not in self._cache]
        if self.augmentation is not None and self.augmentation.background_swap > 0:
            files += [sample.mask for sample in samples if sample.mask is not None]
        fetch([file for file in files if isinstance(file, Member)])
        return [self[key] for key in keys]

    def _read_or_next(self, index: int, epoch: int) -> dict[str, torch.Tensor]:
        """An item, or the next one in its place where its shard is broken and may be skipped."""
        for place in range(len(self.samples)):
            try:
                return self._item((index + place) % len(self.samples), epoch)
            except BrokenShardError as error:
                if not error.member.skip:
                    raise
                count = self._broken[error.member.shard] = self._broken.get(error.member.shard, 0) + 1
                if str(count).strip("0") == "1":  # 1, 10, 100
                    left_out = f"{count} images so far are left out, others stand in for them"
                    print(f"{error.member}: {error.reason}; {left_out}", file=sys.stderr)
        raise CompNetError("no image of any shard can be read; see the messages above")

    def _item(self, index: int, epoch: int) -> dict[str, torch.Tensor]:
        crop = self.crop_at(index, epoch)
        numbers = {name: getattr(crop, name) for name in ("azimuth", "elevation", "theta", "distance", "focal")}
        item = {name: torch.tensor(value, dtype=torch.float32) for name, value in numbers.items()}
        # bytes: workers send a quarter of what floats would take, and the model normalises on its own device
        item["image"] = image_tensor(crop.image)
        item["category"] = torch.tensor(self._index[self.samples[index].category])
        item["principal_point"] = torch.tensor(crop.principal_point, dtype=torch.float32)
        item["occluded"] = torch.from_numpy(crop.covered)
        item["index"] = torch.tensor(index)
        return item

    def _image_of(self, sample: Sample) -> Image.Image:
        size, reduction = (sample.width, sample.height), self._reduction_of(sample)
        return self._kept(
            _cache_key(sample, reduction), lambda: load_image(sample.image, size=size, reduction=reduction)
        )

    def _reduction_of(self, sample: Sample) -> int:
        # images that are measured are read whole, as `predict` reads them
        return 1 if self.augmentation is None else reduction_of(sample, self.input_config, self.augmentation)

    def _kept(self, key: str, make: Callable[[], Image.Image]) -> Image.Image:
        """An image from the cache, or made now and kept there if there is room."""
        if key in self._cache:
            return Image.fromarray(self._cache[key])
        image = make()
        needed = image.width * image.height * len(image.getbands())
        # those that come first stay: with every image used once an epoch, replacing any would only lose it before its
        # next turn
        if needed <= self._cache_left:
            self._cache[key] = np.asarray(image)
            self._cache_left -= needed
        return image


def _cache_key(sample: Sample, reduction: int) -> str:
    return str(sample.image) if reduction == 1 else f"{sample.image} by {reduction}"
