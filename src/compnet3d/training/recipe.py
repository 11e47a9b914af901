"""Named settings: every number of a training run in one place."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from compnet3d.data.augment import Augmentation
from compnet3d.inference.pose_search import PoseGrid, PoseSettings

# What a recipe's numbers must be at least, and which of them are shares.
_LEAST: dict[int, tuple[str, ...]] = {
    0: ("near_radius", "background_weight", "in_weight", "cross_weight", "classification_weight",
        "pose_contrastive_weight", "grouping_floor", "learning_rate", "head_learning_rate", "weight_decay",
        "warmup_epochs"),
    1: ("height", "width", "pose_bins", "pretrained_layers", "dimension", "upsampling", "stages", "vertex_count",
        "background_size", "background_per_image", "samples_per_category", "queries_per_image", "classification_cells",
        "negative_poses", "regroup_every", "epochs", "batch_size", "processes"),
}  # fmt: skip
_MAY_BE_NONE = ("pretrained_layers", "samples_per_category", "queries_per_image", "classification_cells")
_SHARES = ("momentum", "calibration_fraction", "pose_score_weight")


@dataclass(frozen=True)
class Recipe:
    """A training run's settings; what is fixed by the paper is said so.

    Attributes:
        name, description: what it is for.
        method: "compnet" (the paper's), or a baseline: "novum" (full contrast of all vertices and the background in one
            softmax) or "dual-head" (a classification head and a pose head).
        pose_head, pose_bins: of a dual head, see `DualHeadConfig`.
        height, width: network input in pixels.
        fill: mean longest side of an object's box over the shorter side of the input.
        pretrained: folder name and hub name of the pretrained backbone, tried in turn; empty trains from scratch.
        pretrained_layers: how many of a pretrained transformer's layers are kept, from the first; None keeps all.
        family, architecture: the backbone when there is none (see `BackboneConfig`).
        dimension: D (paper: 128). upsampling, stages: see `BackboneConfig`.
        vertex_count: K (paper: 500). background_size: N_b (paper: 2560).
        background_per_image: T (paper: 5). kappa: 1 / temperature.
        mirrored_scores: name each crop together with its mirror image (see `CompNetConfig`).
        pose_score_weight: of Eq. 8 in the score that classifies an object (see `CompNetConfig`; paper: 0).
        momentum: sigma (paper: 0.9). samples_per_category: N (paper: 32).
        queries_per_image: visible vertices drawn as queries in each step; None takes all (paper). The bank is always
            updated with all.
        near_radius: near-vertex exclusion, in fractions of the box's diagonal.
        background_weight: weight of each background term in Eq. 2 (paper: 1).
        in_weight, cross_weight: the two parts of Eq. 5 (paper: 1 and 1).
        classification_weight: weight of a third part, the cross-entropy of the categories' scores S_y of Eq. 7 (paper:
            0).
        classification_cells: of each image that it looks at, drawn in each step; None takes all.
        pose_contrastive_weight: weight of a fourth part, the cross-entropy of the true category's score (Eq. 8) at the
            true pose among `negative_poses` other poses (paper: 0).
        dynamic_weights: refresh omega from the calibration split (paper); off keeps all categories contrasted.
        regroup_every: epochs between refreshes (paper: 2). grouping_threshold: paper 0.05.
        grouping_accuracy: calibration accuracy below which all categories stay contrasted.
        grouping_floor: least omega of any two categories (paper: 0, so that those which are not confused are not
            contrasted any more, which saves their part of the loss).
        epochs: paper 12. batch_size: images.
        processes: that share each batch on a CPU, each with its own batch statistics; an accelerator has one.
        learning_rate: of the backbone. head_learning_rate: of the rest.
        weight_decay, warmup_epochs: AdamW with linear warm-up and a cosine to zero.
        calibration_fraction: share of the training list held out.
        held_out_epochs: after these the calibration split has given omega and the temperature of the confidence, and
            joins the training images; None keeps it out to the end.
        augmentation: random changes. pose, grid: how poses are searched; the truncation acts in the pose contrastive
            loss, too.
    """

    name: str
    description: str
    height: int
    width: int
    method: Literal["compnet", "novum", "dual-head"] = "compnet"
    pose_head: Literal["bins", "regression"] = "bins"
    pose_bins: int = 40
    fill: float = 0.7
    pretrained: tuple[str, ...] = ()
    pretrained_layers: int | None = None
    family: str = "resnet"
    architecture: dict[str, Any] = field(default_factory=dict)
    dimension: int = 128
    upsampling: int = 1
    stages: int = 3
    vertex_count: int = 500
    background_size: int = 2560
    background_per_image: int = 5
    kappa: float = 1 / 0.07
    mirrored_scores: bool = False
    pose_score_weight: float = 0.0
    momentum: float = 0.9
    samples_per_category: int = 32
    queries_per_image: int | None = None
    near_radius: float = 0.1
    background_weight: float = 1.0
    in_weight: float = 1.0
    cross_weight: float = 1.0
    classification_weight: float = 0.0
    classification_cells: int | None = None
    pose_contrastive_weight: float = 0.0
    negative_poses: int = 16
    dynamic_weights: bool = True
    regroup_every: int = 2
    grouping_threshold: float = 0.05
    grouping_accuracy: float = 0.5
    grouping_floor: float = 0.0
    epochs: int = 12
    batch_size: int = 32
    processes: int = 1
    learning_rate: float = 1e-4
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 0.5
    calibration_fraction: float = 0.1
    held_out_epochs: int | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    pose: PoseSettings = field(default_factory=PoseSettings)
    grid: PoseGrid = field(default_factory=PoseGrid)

    def __post_init__(self) -> None:
        for least, names in _LEAST.items():
            for name in names:
                value = getattr(self, name)
                if value is None and name in _MAY_BE_NONE:
                    continue
                if value is None or not value >= least:
                    raise ValueError(f"{name} must be at least {least}, not {value}")
        for name in _SHARES:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}")

    @property
    def unused(self) -> frozenset[str]:
        """Settings that this recipe's method does not look at, so that runs may differ in them."""
        details = {"classification_weight": "classification_cells", "pose_contrastive_weight": "negative_poses"}
        if self.method == "compnet":
            return frozenset(detail for weight, detail in details.items() if getattr(self, weight) == 0)
        search = ("pose", "grid", "pose_score_weight") if self.method == "dual-head" else ()
        return frozenset(("in_weight", "cross_weight", *details, *details.values(), *search))

    def without_pose_contrastive(self) -> Recipe:
        """Without the pose contrastive loss and with pose settings and scores that serve without it; else itself."""
        if self.pose_contrastive_weight == 0:
            return self
        usual = PoseSettings()
        names = ("truncation", "foreground_bonus", "prior_weight")
        pose = replace(self.pose, **{name: getattr(usual, name) for name in names})
        return self.with_options(pose_contrastive_weight=0.0, pose_score_weight=0.0, pose=pose)

    @property
    def last_held_out_epoch(self) -> int:
        """The number of epochs after which the calibration split is looked at for the last time."""
        return self.epochs if self.held_out_epochs is None else min(self.held_out_epochs, self.epochs)

    @property
    def grouping(self) -> dict[str, float]:
        """How omega is refreshed: the settings of `refreshed_weights`."""
        return {
            "least_accuracy": self.grouping_accuracy,
            "threshold": self.grouping_threshold,
            "floor": self.grouping_floor,
        }

    def to_dict(self) -> dict[str, Any]:
        """For a run's config.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """From a run's config.json."""
        parts = {"augmentation": Augmentation, "pose": PoseSettings, "grid": PoseGrid}
        nested = {name: kind(**_with_tuples(values[name])) for name, kind in parts.items()}
        return cls(**{**_with_tuples(values), **nested})

    def with_options(self, **changes: Any) -> Recipe:
        """A copy with some settings changed."""
        return replace(self, **changes)


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists where the settings have tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
