"""The parts of a recipe: the settings of the input, the backbone, the loss and so on."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from torch import Tensor

from compnet3d.errors import CompNetError
from compnet3d.inference.pose_hypotheses import PoseGrid
from compnet3d.inference.pose_search import PoseSettings
from compnet3d.losses.grouping import refreshed_weights
from compnet3d.models.families import checked_architecture
from compnet3d.utils.settings import setting


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """The network's input.

    Attributes:
        height, width: in pixels.
        fill: mean longest side of an object's box over the shorter side of the input.
    """

    height: int = setting(least=1, most=4096)
    width: int = setting(least=1, most=4096)
    fill: float = setting(0.7, least=0.01, most=10)


@dataclass(frozen=True, kw_only=True)
class BackboneSettings:
    """The feature extractor.

    Attributes:
        pretrained: folder name and hub name of the pretrained backbone, tried in turn; empty trains from scratch.
        pretrained_layers: how many of a pretrained transformer's layers are kept, from the first; None keeps all.
        family, architecture: the backbone when there is none (see `BackboneConfig`).
        dimension: D (paper: 128).
        upsampling, stages: see `BackboneConfig`.
        frozen: the backbone learns nothing, what is added to it does; saves time and memory.
        checkpointing: layers are computed again for the gradient instead of kept; saves memory, costs time.
        layer_decay: the learning rate of a layer over that of the next one; 1 has all learn at the same rate.
        whole_batch_statistics: where several processes share a batch, batch normalisation goes by the whole of it, and
            not by each share; that costs two messages a layer. The features' centring always does.
    """

    # a folder beside the data first, so that a machine without a network needs no hub
    pretrained: tuple[str, ...] = ()
    pretrained_layers: int | None = setting(None, least=1)
    family: str = "resnet"
    architecture: dict[str, Any] = field(default_factory=dict)
    dimension: int = setting(128, least=1, most=16384)
    upsampling: int = setting(1, least=1, most=256)
    stages: int = setting(3, least=1, most=3)
    frozen: bool = False
    checkpointing: bool = False
    layer_decay: float = setting(1.0, least=0.01, most=1)
    whole_batch_statistics: bool = True

    def __post_init__(self) -> None:
        try:
            checked_architecture(self.family, self.architecture)
        except CompNetError as error:  # an unknown family
            raise ValueError(str(error)) from None


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What a category's model is.

    Attributes:
        shape: of a category: "cuboid", the box of its CAD models (paper), or "mesh", the surface of one of them.
        vertex_count: K (paper: 500).
        mirrored_scores: classify each crop together with its mirror image (see `CompNetConfig`).
    """

    shape: Literal["cuboid", "mesh"] = "cuboid"
    vertex_count: int = setting(500, least=8, most=10_000)
    mirrored_scores: bool = False


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """The dual head.

    Attributes:
        pose_head, pose_bins: see `DualHeadConfig`.
        mirrored_scores: classify each crop together with its mirror image.
    """

    pose_head: Literal["bins", "regression"] = "bins"
    pose_bins: int = setting(40, least=1, most=3600)
    mirrored_scores: bool = False


@dataclass(frozen=True, kw_only=True)
class BankSettings:
    """How vertex and background features are learned.

    Attributes:
        momentum: sigma of Eq. 6 (paper: 0.9).
        background_size: N_b (paper: 2560).
        background_per_image: T (paper: 5).
    """

    momentum: float = setting(0.9, least=0, below=1)
    background_size: int = setting(2560, least=1, most=1_000_000)
    background_per_image: int = setting(5, least=1, most=10_000)


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """The contrastive loss, as NOVUM has it.

    Attributes:
        kappa: 1 / temperature.
        queries_per_image: visible vertices drawn as queries in each step; None takes all (paper). The bank is always
            updated with all.
        near_radius: near-vertex exclusion, in fractions of the box's diagonal.
        background_weight: weight of each background term in Eq. 2 (paper: 1).
    """

    # the paper gives no number; this is that of its ancestor NOVUM, which writes it as a temperature of 0.07
    kappa: float = setting(1 / 0.07, least=0)
    queries_per_image: int | None = setting(None, least=1)
    # the ancestors leave out vertices within 48 pixels, later ones within 0.1 in 3D
    near_radius: float = setting(0.1, least=0)
    background_weight: float = setting(1.0, least=0)


@dataclass(frozen=True, kw_only=True)
class CompNetLossSettings(LossSettings):
    """The grouped contrastive loss of Eq. 5, and two parts that the paper does not have.

    Attributes:
        samples_per_category: N (paper: 32).
        in_weight, cross_weight: the two parts of Eq. 5 (paper: 1 and 1).
        classification_weight: weight of a third part, the cross-entropy of the categories' scores S_y of Eq. 7 (paper:
            0).
        classification_cells: of each image that it looks at, drawn in each step; None takes all.
        pose_contrastive_weight: weight of a fourth part, the cross-entropy of the true category's score (Eq. 8) at the
            true pose among `negative_poses` other poses (paper: 0).
        negative_poses: how many.
        flip_negatives: share of them that are the true pose turned round, by half a turn about the vertical axis;
            categories that it leaves as they are have none.
        flip_gain: how much a category's flips on the calibration split weigh there: each pose that is turned round
            counts 1 + flip_gain x share of the category's poses that are flipped. Above 0, looks at the calibration
            split estimate poses, too.
        flip_vertex_weight: weight in Eq. 2 of the vertices within `near_radius` of where half a turn takes the query's
            vertex; of the same categories.
    """

    samples_per_category: int | None = setting(32, least=1, most=10_000)
    in_weight: float = setting(1.0, least=0)
    cross_weight: float = setting(1.0, least=0)
    classification_weight: float = setting(0.0, least=0)
    classification_cells: int | None = setting(None, least=1, most=1_000_000)
    pose_contrastive_weight: float = setting(0.0, least=0)
    negative_poses: int = setting(16, least=1, most=10_000)
    flip_negatives: float = setting(0.0, least=0, most=1)
    flip_gain: float = setting(0.0, least=0, most=1e6)
    flip_vertex_weight: float = setting(1.0, least=0, most=1e6)


@dataclass(frozen=True, kw_only=True)
class GroupingSettings:
    """Which categories are contrasted: omega, from the confusions on the calibration split.

    Attributes:
        dynamic: refresh omega from the calibration split (paper); off keeps all categories contrasted.
        threshold: confusions below it are not contrasted (paper: 0.05).
        least_accuracy: calibration accuracy below which all categories stay contrasted.
        floor: least omega of any two categories (paper: 0, so that those which are not confused are not contrasted any
            more, which saves their part of the loss).
    """

    dynamic: bool = True
    threshold: float = setting(0.05, least=0, most=1)
    least_accuracy: float = setting(0.5, least=0, most=2)
    floor: float = setting(0.0, least=0, most=1)

    def refreshed(self, confusion: Tensor, accuracy: float) -> Tensor | None:
        """omega after a look at the calibration split; None where it stays as it is (see `refreshed_weights`)."""
        if not self.dynamic:
            return None
        return refreshed_weights(
            confusion, accuracy, least_accuracy=self.least_accuracy, threshold=self.threshold, floor=self.floor
        )


@dataclass(frozen=True)
class SearchSettings(PoseSettings):
    """How poses are searched: the settings of `PoseSettings`, and the initial poses.

    The truncation acts in the pose contrastive loss, too.
    """

    grid: PoseGrid = field(default_factory=PoseGrid, kw_only=True)

    @property
    def settings(self) -> PoseSettings:
        """What a model keeps of it beside the grid."""
        return PoseSettings(**{entry.name: getattr(self, entry.name) for entry in fields(PoseSettings)})


@dataclass(frozen=True)
class CompNetSearchSettings(SearchSettings):
    """How poses are searched, and what they say about the category.

    Attributes:
        pose_score_weight: of Eq. 8 in the score that classifies an object (see `CompNetConfig`; paper: 0).
    """

    pose_score_weight: float = field(default=0.0, kw_only=True, metadata={"least": 0, "below": 1})


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """Epochs, batches, learning rates and the calibration split.

    Attributes:
        epochs: paper 12.
        batch_size: images.
        processes: that share each batch on a CPU; on accelerators as many train as are asked for.
        learning_rate: of the backbone.
        head_learning_rate: of the rest.
        weight_decay, warmup_epochs: AdamW with linear warm-up and a cosine to zero.
        calibration_fraction: share of the training list held out.
        calibrate_every: epochs between looks at the calibration split, which refresh omega (paper: 2).
        held_out_epochs: after these the calibration split has given omega and the temperature of the confidence, and
            joins the training images; None keeps it out to the end.
    """

    epochs: int = setting(12, least=1)
    batch_size: int = setting(32, least=1, most=16_384)
    processes: int = setting(1, least=1, most=1024)
    learning_rate: float = setting(1e-4, least=0)
    head_learning_rate: float = setting(1e-3, least=0)
    weight_decay: float = setting(0.05, least=0)
    warmup_epochs: float = setting(0.5, least=0)
    # the paper does not say how large its calibration split is
    calibration_fraction: float = setting(0.1, least=0, below=1)
    calibrate_every: int = setting(2, least=1)
    held_out_epochs: int | None = setting(None, least=0)

    @property
    def last_held_out_epoch(self) -> int:
        """The number of epochs after which the calibration split is looked at for the last time."""
        return self.epochs if self.held_out_epochs is None else min(self.held_out_epochs, self.epochs)
