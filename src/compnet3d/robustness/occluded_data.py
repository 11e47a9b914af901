"""Occluded data sets on disk: a split of any data set with occluders on its images, in the same layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError
from compnet3d.robustness.occluders import occluder_samples
from compnet3d.robustness.occlusion import Level, Occlusion, Protocol, level_ranges, within_ranges
from compnet3d.robustness.rewrite import Rewritten, rewrite_dataset
from compnet3d.robustness.shift import Shift
from compnet3d.utils.files import Json, write_json
from compnet3d.utils.shards import Shard, require_free

SUMMARY = "occlusion.json"


def occlude_dataset(
    source: str | Path,
    out: str | Path,
    shift: Shift,
    *,
    split: str = "val",
    workers: int | None = 1,
    progress: bool = False,
    shard: Shard | None = None,
) -> Json:
    """Write one split of a data set with occluders on its images; each object gets an image of its own.

    See `rewrite_dataset` for names and for what is carried over. Evaluating the new data set shows the same pixels as
    occluding the old one while it is evaluated.

    Args:
        source: a data set in our layout.
        out: the folder to write; it must not exist or be empty. It appears only when everything is written.
        shift: an occlusion; objects are cut out of the train list.
        split: the list to occlude.
        workers: processes, see `rewrite_dataset`; the images do not depend on it.
        progress: draw a progress bar on stderr.
        shard: which share of the objects to write now; the folder appears with the last.

    Returns:
        What `occlusion.json` holds: the settings, the number of images, and mean, least and largest reached share of
        the object and of the background with the range that was asked for, and how many images miss a range. Nothing
        while shards are missing.

    Raises:
        CompNetError: if the shift is not an occlusion alone, the source cannot be read or is occluded already, there
            are no occluders, or `out` is not empty or cannot be written.
    """
    alone = Shift(shift.occlusion, shift.protocol, shift.occluders, seed=shift.seed)
    if shift.occlusion is None or shift != alone:
        raise CompNetError(f"a data set can be occluded at one level, not be {shift.label}")
    require_free(out, shard or Shard())
    dataset = ImageNet3D(source)
    # the noted shares would then be those of the second occluders alone
    if any(sample.hidden is not None for sample in dataset.samples(split)):
        raise CompNetError(f"{dataset.root} is occluded already; occlude the data set that it was made from")
    occlusion = shift.load_occlusion(occluder_samples(dataset, split) if shift.occluders == "objects" else [])
    assert occlusion is not None
    # filled while the folder is written, so that occlusion.json is part of it
    summary: Json = {}

    def finish(root: Path, keys: Sequence[Json]) -> None:
        reached = [(key["hidden_object"], key["hidden_background"]) for key in keys]
        summary.update(_summary(reached, occlusion.level, occlusion.protocol))
        summary.update(source=str(dataset.root), split=split, occluders=shift.occluders, seed=shift.seed)
        write_json(root / "occlusion.json", summary)

    change = _Occlude(occlusion, {"shift": asdict(shift)})
    rewrite_dataset(dataset, out, change, split, finish=finish, workers=workers, progress=progress, shard=shard)
    return summary


@dataclass(frozen=True)
class _Occlude:
    """Puts occluders on an image, and notes the settings and the reached shares."""

    occlusion: Occlusion
    settings: Json

    def __call__(self, sample: Sample, image: Image.Image) -> Rewritten:
        occluded = self.occlusion.apply(image, sample)
        keys = {
            "occlusion_level": self.occlusion.level,
            "occlusion_protocol": self.occlusion.protocol,
            "occluder_seed": self.occlusion.seed,
            "hidden_object": occluded.hidden_object,
            "hidden_background": occluded.hidden_background,
        }
        return Rewritten(occluded.image, keys, {"occluder_masks": occluded.mask})


def _summary(reached: Sequence[tuple[float, float]], level: Level, protocol: Protocol) -> Json:
    """The reached shares (object, background) of all images, at least one, as metrics."""
    metrics: Json = {"level": level, "protocol": protocol, "images": len(reached)}
    for what, shares, limits in zip(
        ("hidden_object", "hidden_background"), zip(*reached, strict=True), level_ranges(level, protocol), strict=True
    ):
        mean = sum(shares) / len(shares)
        metrics[what] = {"mean": mean, "min": min(shares), "max": max(shares), "range": list(limits)}
    metrics["outside_range"] = sum(not within_ranges(shares, level, protocol) for shares in reached)
    return metrics
