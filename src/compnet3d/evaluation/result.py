"""What an evaluation finds, as types; JSON is written and read here alone.

Three pose metrics are kept apart: with the true category given, with the predicted category, and joint (an image counts
if category and pose are both correct). Each comes in three forms (see `PoseSummary`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from compnet3d.errors import CompNetError
from compnet3d.evaluation.metrics import FlipMetrics, PoseMetrics
from compnet3d.evaluation.occlusion_map import OcclusionMap
from compnet3d.evaluation.reliability import Reliability
from compnet3d.evaluation.unknown import UnknownRates
from compnet3d.robustness.shift import Shift
from compnet3d.utils.files import Json, read_json
from compnet3d.utils.settings import known, read


@dataclass(frozen=True)
class Record:
    """The evaluation of one image; angles and errors in radians.

    Attributes:
        index: place in the list of samples.
        name: of the image.
        category, predicted: the true category and the predicted one.
        confidence: calibrated probability that the predicted category is correct.
        pose: azimuth, elevation, theta, distance for the predicted category.
        principal_point: where the object's origin is seen, in pixels of the crop.
        true_pose: the annotation, as `pose`.
        error_true_category, error_predicted_category: rotation error for the true and for the predicted category.
        symmetric_error_true_category, symmetric_error_predicted_category: the same over the object's symmetry.
        flipped: whether the pose for the true category is flipped (see `Flips`); None where half a turn changes
            nothing, or an earlier version evaluated.
        pose_confidence: calibrated probability that the pose is within pi/6; None where the model does not tell.
        unknown: whether the answer was that the object is unknown; None where the model does not tell.
    """

    index: int
    name: str
    category: str
    predicted: str
    confidence: float
    pose: tuple[float, float, float, float]
    principal_point: tuple[float, float]
    true_pose: tuple[float, float, float, float]
    error_true_category: float
    error_predicted_category: float
    symmetric_error_true_category: float
    symmetric_error_predicted_category: float
    flipped: bool | None = None
    pose_confidence: float | None = None
    unknown: bool | None = None

    @property
    def correct(self) -> bool:
        """Whether the image is classified correctly."""
        return self.predicted == self.category

    @classmethod
    def from_dict(cls, values: Json) -> Record:
        """From the dictionary of `dataclasses.asdict`."""
        return read(cls, known(cls, values))


@dataclass(frozen=True)
class PoseForm:
    """Pose metrics over some images, by the category whose pose is taken.

    Attributes:
        images: number of images.
        true_category: the pose with the true category given.
        predicted_category: the pose of the predicted category.
        joint: that pose too, counted only where the predicted category is correct.
        unseen: the pose without a category; None if it was not estimated.
    """

    images: int
    true_category: PoseMetrics
    predicted_category: PoseMetrics
    joint: PoseMetrics
    unseen: PoseMetrics | None = None

    def items(self) -> list[tuple[str, PoseMetrics]]:
        """The metrics that there are, with their names."""
        named = [(f.name, getattr(self, f.name)) for f in fields(self) if f.name != "images"]
        return [(name, metrics) for name, metrics in named if metrics is not None]

    def to_dict(self) -> Json:
        """For JSON."""
        return {"images": self.images, **{name: asdict(metrics) for name, metrics in self.items()}}

    @classmethod
    def from_dict(cls, values: Json) -> PoseForm:
        """From `to_dict`."""
        names = [f.name for f in fields(cls) if f.name in values and f.name != "images"]
        found = {name: PoseMetrics.from_dict(values[name]) for name in names}
        return read(cls, {"images": values["images"], **found})


@dataclass(frozen=True)
class Flips:
    """Poses that are turned round: front taken for back.

    A pose is flipped if it is wrong and its rotation is within pi/6 of the true rotation after half a turn about the
    object's vertical axis, R Rz(pi). Categories that half a turn leaves as they are (an even or a continuous symmetry)
    cannot be flipped and are not counted.

    Attributes:
        images: number of images of the other categories, which the shares are of; all shares are None if it is 0.
        true_category: the pose with the true category given.
        predicted_category: the pose of the predicted category.
    """

    images: int
    true_category: FlipMetrics
    predicted_category: FlipMetrics

    @classmethod
    def from_dict(cls, values: Json) -> Flips:
        """From the dictionary of `dataclasses.asdict`."""
        found = {name: FlipMetrics.from_dict(values[name]) for name in ("true_category", "predicted_category")}
        return read(cls, {"images": values["images"], **found})


@dataclass(frozen=True)
class PoseSummary:
    """The three forms of the pose metrics, and how many poses are flipped.

    Attributes:
        plain: over the images of categories whose pose is defined. Where an object can turn about its vertical axis
            without changing, its azimuth is arbitrary; such categories are left out.
        symmetry_aware: over all images, the error taken over the object's symmetry.
        all_images: the plain error over all images.
        unseen_accuracy: share of the images of `plain` for which the category with the lowest reconstruction loss is
            the true one; None if no pose without a category was estimated, or `plain` has no image.
        flips: flipped poses; None where an earlier version, which did not count them, evaluated.
    """

    plain: PoseForm
    symmetry_aware: PoseForm
    all_images: PoseForm
    unseen_accuracy: float | None = None
    flips: Flips | None = None

    def to_dict(self) -> Json:
        """For JSON: the plain form, and in it the other two."""
        values = self.plain.to_dict()
        if self.plain.unseen is not None:
            values["unseen"]["category_accuracy"] = self.unseen_accuracy
        if self.flips is not None:
            values["flips"] = asdict(self.flips)
        return values | {"symmetry_aware": self.symmetry_aware.to_dict(), "all_images": self.all_images.to_dict()}

    @classmethod
    def from_dict(cls, values: Json) -> PoseSummary:
        """From `to_dict`."""
        forms = {name: PoseForm.from_dict(values[name]) for name in ("symmetry_aware", "all_images")}
        accuracy = values.get("unseen", {}).get("category_accuracy")
        flips = Flips.from_dict(values["flips"]) if "flips" in values else None
        return read(cls, {"plain": PoseForm.from_dict(values), **forms, "unseen_accuracy": accuracy, "flips": flips})


@dataclass(frozen=True)
class CategoryMetrics:
    """Metrics over the images of one category: their number, top-1 accuracy and pose."""

    images: int
    accuracy: float
    pose: PoseSummary

    def to_dict(self) -> Json:
        """For JSON."""
        return {"images": self.images, "accuracy": self.accuracy, "pose": self.pose.to_dict()}

    @classmethod
    def from_dict(cls, values: Json) -> CategoryMetrics:
        """From `to_dict`."""
        return read(cls, {**known(cls, values), "pose": PoseSummary.from_dict(values["pose"])})


@dataclass(frozen=True)
class HiddenShares:
    """Mean shares of the object's pixels and of all other pixels that occluders hide, in [0, 1]."""

    hidden_object: float
    hidden_background: float


@dataclass(frozen=True)
class Confusion:
    """Counts of images: row = true category, column = predicted one, in the order of `categories`."""

    categories: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]

    def to_dict(self) -> Json:
        """For JSON."""
        return {"categories": list(self.categories), "matrix": [list(row) for row in self.matrix]}

    @classmethod
    def from_dict(cls, values: Json) -> Confusion:
        """From `to_dict`."""
        found = read(cls, known(cls, values))
        if {len(found.matrix), *map(len, found.matrix)} != {len(found.categories)}:
            raise ValueError("confusion.matrix must have a row and a column for each category")
        return found


@dataclass(frozen=True)
class Resources:
    """Time and memory of an evaluation.

    Attributes:
        seconds: wall clock time.
        images_per_second: with reading the images.
        model_images_per_second: without reading them, the median over the batches.
        peak_memory_mb, peak_gpu_memory_mb: of the process, in MB; None where it cannot be measured.
    """

    seconds: float
    images_per_second: float
    model_images_per_second: float
    peak_memory_mb: float | None = None
    peak_gpu_memory_mb: float | None = None

    @classmethod
    def from_dict(cls, values: Json) -> Resources:
        """From a dictionary that has these entries among others."""
        return read(cls, known(cls, values))


@dataclass(frozen=True)
class Settings:
    """What was evaluated, and how.

    Attributes:
        crop: how crops were cut, by the annotation ("oracle") or by the bounding box.
        batch_size: images in a forward pass.
        shift: of the images.
        origin: what the caller adds, such as the model's folder, the command and the date.
    """

    crop: Literal["oracle", "box"] = "oracle"
    batch_size: int = 32
    shift: Shift = Shift()
    origin: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> Json:
        """For JSON."""
        return {"crop": self.crop, **self.shift.to_dict(), "batch_size": self.batch_size, **self.origin}

    @classmethod
    def from_dict(cls, values: Json) -> Settings:
        """From `to_dict`."""
        known = {"crop", "batch_size", *Shift().to_dict()}
        # the command, the date and so on lie beside the settings in JSON
        origin = {key: value for key, value in values.items() if key not in known}
        given = {"crop": values["crop"], "batch_size": values["batch_size"], "origin": origin}
        return read(cls, {**given, "shift": Shift.from_dict(values)})


@dataclass(frozen=True)
class EvaluationResult:
    """All that an evaluation finds.

    Attributes:
        images: number of images.
        accuracy: top-1 accuracy of the classification.
        pose: pose metrics over all categories.
        excluded_categories: those whose pose is not defined, left out of `pose.plain`.
        per_category: metrics of each category that has an image.
        occlusion: what occluders hide on average; None if that is not known of every image.
        confusion: confusion matrix.
        resources: time and memory.
        settings: see `Settings`.
        confidence: how well the confidence of the category agrees with the classification; None where an earlier
            version evaluated.
        pose_confidence: the same of the pose, right within pi/6 over the object's symmetry; None where the model does
            not tell.
        called_unknown: share of the images whose object was called unknown, false alarms all of them; None where the
            model does not tell.
        unknown: how often that is the answer where nothing is known; None where it was not asked.
        records: one for each image, in the order of the samples.
        occlusion_map: how well the model tells what is hidden; None where that is not known or the model does not say.
    """

    images: int
    accuracy: float
    pose: PoseSummary
    excluded_categories: tuple[str, ...]
    per_category: Mapping[str, CategoryMetrics]
    occlusion: HiddenShares | None
    confusion: Confusion
    resources: Resources
    settings: Settings
    confidence: Reliability | None = None
    pose_confidence: Reliability | None = None
    called_unknown: float | None = None
    unknown: UnknownRates | None = None
    records: tuple[Record, ...] = ()
    occlusion_map: OcclusionMap | None = None

    def with_origin(self, **origin: str) -> EvaluationResult:
        """The same with more entries of `settings.origin`."""
        return replace(self, settings=replace(self.settings, origin={**self.settings.origin, **origin}))

    def to_dict(self, *, records: bool = False) -> Json:
        """For JSON; the records only where they are asked for."""
        values: Json = {
            "images": self.images,
            "classification": {"accuracy": self.accuracy},
            "pose": {"excluded_categories": list(self.excluded_categories), **self.pose.to_dict()},
            "per_category": {name: metrics.to_dict() for name, metrics in self.per_category.items()},
            "occlusion": None if self.occlusion is None else asdict(self.occlusion),
            "occlusion_map": None if self.occlusion_map is None else asdict(self.occlusion_map),
            "confusion": self.confusion.to_dict(),
            **asdict(self.resources),
            "settings": self.settings.to_dict(),
            "confidence": None if self.confidence is None else self.confidence.to_dict(),
            "pose_confidence": None if self.pose_confidence is None else self.pose_confidence.to_dict(),
            "called_unknown": self.called_unknown,
            "unknown": None if self.unknown is None else asdict(self.unknown),
        }
        return values | ({"records": [asdict(record) for record in self.records]} if records else {})

    @classmethod
    def from_dict(cls, values: Any, source: str = "the evaluation") -> EvaluationResult:
        """From `to_dict`; other entries are ignored.

        Args:
            values: what was read from JSON.
            source: of the values, for error messages.

        Raises:
            CompNetError: naming an entry that is missing or of another type.
        """
        with reading_json(source):
            hidden, told = values["occlusion"], values.get("occlusion_map")
            found = {
                "images": values["images"],
                "accuracy": values["classification"]["accuracy"],
                "pose": PoseSummary.from_dict(values["pose"]),
                "excluded_categories": values["pose"]["excluded_categories"],
                "per_category": {k: CategoryMetrics.from_dict(v) for k, v in values["per_category"].items()},
                "occlusion": hidden,
                "occlusion_map": None if told is None else OcclusionMap.from_dict(told),
                "confusion": Confusion.from_dict(values["confusion"]),
                "resources": Resources.from_dict(values),
                "settings": Settings.from_dict(values["settings"]),
                "called_unknown": values.get("called_unknown"),
                "unknown": None if values.get("unknown") is None else UnknownRates.from_dict(values["unknown"]),
                **{name: _reliability(values.get(name)) for name in ("confidence", "pose_confidence")},
                "records": [Record.from_dict(record) for record in values.get("records", ())],
            }
            return read(cls, found)

    @classmethod
    def read(cls, path: str | Path) -> EvaluationResult:
        """From a JSON file.

        Raises:
            CompNetError: if it cannot be read or holds no evaluation.
        """
        return cls.from_dict(read_json(path), str(path))


def _reliability(values: Any) -> Reliability | None:
    return None if values is None else Reliability.from_dict(values)


@contextmanager
def reading_json(source: str) -> Iterator[None]:
    """While an evaluation is made of a JSON object: errors say of which file an entry is missing or odd."""
    try:
        yield
    except KeyError as error:
        # a KeyError's text is the quoted key
        raise CompNetError(f"{source}: has no {error}; it is no evaluation, or of another version") from None
    except (AttributeError, TypeError, ValueError, LookupError, CompNetError) as error:
        raise CompNetError(f"{source}: is no evaluation ({' '.join(str(error).split())})") from None
