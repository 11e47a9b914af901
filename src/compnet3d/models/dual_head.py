"""The dual-head baseline (section 4.2): a backbone, one vector per image, a classification head and a pose head.

Two forms of the pose head: "regression", the paper's, has an output of size 3, the angles; "bins" is ImageNet3D's (Ma
et al. 2024), which classifies each angle into 40 bins of the full circle and is the stronger of the two. Both are
shared by all categories, so the pose needs no category and is there for unseen ones as well.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from compnet3d.data.transforms import CropMode, InputConfig
from compnet3d.geometry.camera import Camera, Pose, fit_to_box
from compnet3d.geometry.cuboid import cuboid_mesh
from compnet3d.geometry.mesh import Mesh
from compnet3d.inference.confidence import Calibration, category_confidence, category_log_odds
from compnet3d.inference.prediction import Prediction
from compnet3d.models.architecture_pyramids import PyramidArchitecture
from compnet3d.models.architecture_tokens import TokenArchitecture
from compnet3d.models.backbones import BackboneConfig, FeatureExtractor, build_extractor, keep_frozen, normalised
from compnet3d.models.base import Model
from compnet3d.models.config import check_categories
from compnet3d.models.families import OWN_MODULE, family_of
from compnet3d.models.tensors import TensorShape
from compnet3d.utils.files import Json
from compnet3d.utils.settings import check_groups, check_ranges, read, setting


@dataclass(frozen=True)
class DualHeadConfig:
    """Everything that a dual-head model is, apart from its tensors.

    Attributes:
        categories: names, Y of them.
        bounds: the box of each category, Y times 2 times 3 numbers in CAD units. For the distance after a box
            crop, and for drawing.
        backbone: how the backbone is built.
        input_config: the network's input and its canonical camera.
        pose_head: "bins" or "regression".
        bins: of each angle, over the full circle.
        mirrored_scores: the scores are the mean over a crop and its mirror image.
        temperature: factor on the scores for the calibrated confidence.
        calibration: what held-out images have told besides; None where they were not asked.

    Raises:
        CompNetError: naming a category or a box that cannot be.
        ValueError: naming what is out of range.
    """

    categories: tuple[str, ...]
    bounds: tuple[tuple[tuple[float, ...], ...], ...]
    backbone: BackboneConfig
    input_config: InputConfig
    pose_head: Literal["bins", "regression"] = "bins"
    bins: int = setting(40, least=1, most=3600)
    mirrored_scores: bool = False
    temperature: float = setting(1.0, least=0, most=1e6)
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if self.pose_head not in (known := ("bins", "regression")):
            raise ValueError(f"pose_head must be one of {known}, got {self.pose_head!r}")
        check_categories(self.categories, self.bounds)
        check_ranges(self)

    def to_dict(self) -> Json:
        """For config.json."""
        return {"kind": DualHead.kind, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Json) -> DualHeadConfig:
        """From config.json."""
        given = {name: value for name, value in values.items() if name != "kind"}
        check_groups(cls, given)
        return read(cls, given)


class DualHead(Model):
    """A classifier with a second head for the pose; a `Predictor`.

    Attributes:
        config: everything but the tensors.
        encoder: images to vectors.
        category_head, pose_head: linear layers on them.
        cad_meshes: one CAD model for some categories, for drawing.
    """

    kind: ClassVar[str] = "dual-head"
    config: DualHeadConfig

    def __init__(self, config: DualHeadConfig, extractor: FeatureExtractor | None = None) -> None:
        super().__init__()
        self.config = config
        self.encoder = ImageEncoder(extractor or build_extractor(config.backbone))
        self.category_head = nn.Linear(self.encoder.size, len(config.categories))
        self.pose_head = nn.Linear(self.encoder.size, 3 * (config.bins if config.pose_head == "bins" else 1))
        self.cad_meshes: dict[str, Mesh] = {}

    @classmethod
    def from_config(cls, values: Json, feature_extractor: FeatureExtractor | None = None) -> DualHead:
        """With random tensors, from config.json; over that feature extractor, or over a new one."""
        return cls(DualHeadConfig.from_dict(values), feature_extractor)

    @classmethod
    def tensor_shapes(cls, values: Json, feature_extractor: FeatureExtractor | None = None) -> dict[str, TensorShape]:
        """Of the tensors of the model that `from_config` gives, found without taking memory for it."""
        with torch.device("meta"):
            model = cls.from_config(values, feature_extractor)
        return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.category_head.weight.device

    def mesh(self, category: str) -> Mesh:
        """A mesh to draw: the category's CAD model where one was saved, else its cuboid."""
        if category in self.cad_meshes:
            return self.cad_meshes[category]
        return cuboid_mesh(torch.tensor(self.config.bounds[self.categories.index(category)]), 8).mesh

    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters that no pretraining provides."""
        return [*self.category_head.parameters(), *self.pose_head.parameters()]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, Y] and the pose head's output [B, 3 bins] or [B, 3] for crops [B, 3, height, width]."""
        vectors = self.encoder(images)
        return self.category_head(vectors), self.pose_head(vectors)

    def loss(self, images: Tensor, category: Tensor, pose: Pose) -> Tensor:
        """The training loss: cross-entropy of the category plus the pose head's, [3]: total, category, pose.

        The pose loss is the sum over the angles of the cross-entropy of the right bin, or of 1 - cos of the error.
        """
        logits, output = self(images)
        angles = torch.stack([pose.azimuth, pose.elevation, pose.theta], dim=-1)
        if self.config.pose_head == "bins":
            # all three angles over the full circle, as ImageNet3D has it, though elevations fill half of theirs
            target = (angles.remainder(2 * math.pi) * (self.config.bins / (2 * math.pi))).long()
            # an angle a rounding below 2 pi belongs to the last bin
            target = target.clamp_max(self.config.bins - 1)
            # cross_entropy is the mean over images and angles; times 3 it is the sum over the angles
            of_pose = 3 * cross_entropy(output.unflatten(1, (3, -1)).flatten(0, 1), target.flatten())
        else:
            # periodic, so that an error of 2 pi is none, and about half the squared error near 0
            of_pose = (1 - (output - angles).cos()).sum(dim=1).mean()
        of_category = cross_entropy(logits, category)
        return torch.stack([of_category + of_pose, of_category, of_pose])

    def angles(self, output: Tensor) -> Tensor:
        """Azimuth, elevation and theta [B, 3] in radians, of the pose head's output.

        With bins, the most likely one and its two neighbours are averaged by their probabilities: the centre alone
        would be off by up to half a bin.
        """
        if self.config.pose_head == "regression":
            return output
        probability = output.unflatten(1, (3, -1)).softmax(dim=-1)
        count = self.config.bins
        best = probability.argmax(dim=-1, keepdim=True)
        # the circle's first and last bin are neighbours; the offset is in bins from the best one and not a mean of bin
        # numbers, which would be wrong across that seam
        near = torch.cat([(best - 1) % count, best, (best + 1) % count], dim=-1)
        weight = probability.gather(-1, near)
        step = weight.new_tensor([-1.0, 0.0, 1.0])
        offset = (weight * step).sum(dim=-1) / weight.sum(dim=-1)
        return (best[..., 0] + 0.5 + offset) * (2 * math.pi / count)

    @torch.no_grad()
    def classify_crops(self, images: Tensor) -> Tensor:
        """Log-probabilities of the categories [B, Y]; with `mirrored_scores` the mean of both sides."""
        return self._look(images)[0]

    def _look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, output = self(images.to(self.device))
        scores = logits.float().log_softmax(dim=-1)
        if self.config.mirrored_scores:
            # of the mirrored crop only the scores; its pose is that of a mirrored object
            scores = (scores + self(images.to(self.device).flip(-1))[0].float().log_softmax(dim=-1)) / 2
        return scores, output.float()

    @torch.no_grad()
    def predict_crops(
        self, images: Tensor, *, category: Tensor | None = None, unseen: bool = False, crop: CropMode = "oracle"
    ) -> Prediction:
        """Classify the objects in crops and estimate their poses; see `Predictor.predict_crops`.

        The pose is the same whatever the category, so `category` and `unseen` change the names only.
        """
        scores, output = self._look(images)
        calibration = self.calibration
        # with one category alone there is no second one to tell it from
        evidence = None if scores.shape[1] == 1 else category_log_odds(scores, self.config.temperature)
        chosen = scores.argmax(dim=-1) if category is None else category.to(self.device)
        azimuth, elevation, theta = self.angles(output).unbind(-1)
        # an oracle crop has the object at the canonical distance and its origin at the centre: nothing to estimate
        distance = torch.full_like(azimuth, self.input_config.distance)
        pose = Pose(azimuth=azimuth, elevation=elevation, theta=theta, distance=distance)
        # its shape and not len, which torch.export would take for a constant
        centre = azimuth.new_tensor([self.input_config.width / 2, self.input_config.height / 2])
        principal_point = centre.expand(*azimuth.shape, 2)
        if crop == "box":
            pose, principal_point = self._fit(chosen, pose, principal_point)
        return Prediction(
            categories=self.categories,
            category_index=chosen,
            scores=scores,
            confidence=category_confidence(scores, self.config.temperature, calibration.category),
            pose=pose.wrapped(),
            focal=torch.full_like(distance, self.input_config.focal),
            principal_point=principal_point,
            evidence=evidence,
            unknown=calibration.is_unknown(evidence),
        )

    def _fit(self, chosen: Tensor, pose: Pose, principal_point: Tensor) -> tuple[Pose, Tensor]:
        """Distance and principal point with which each category's box fills the crop."""
        low, high = torch.tensor(self.config.bounds, device=self.device)[chosen].unbind(1)
        # the box's 8 corners for each image: the projection of a box is as wide as that of its corners
        corner = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], device=self.device)] * 3)
        points = low[:, None] + corner * (high - low)[:, None]
        focal = principal_point.new_tensor(self.input_config.focal).expand(principal_point.shape[0])
        camera = Camera(
            focal=focal, principal_point=principal_point, height=self.input_config.height, width=self.input_config.width
        )
        return fit_to_box(
            points, pose, camera, self.input_config.box_fill * min(self.input_config.height, self.input_config.width)
        )


class ImageEncoder(nn.Module):
    """The backbone of a feature extractor as classifiers use it: one vector per image.

    The last stage of a pyramid, or the map of a module of the user's, averaged over the image; of a vision transformer
    what its authors classify with (`Family.vector`): the class token, the mean of the patch tokens, or one beside the
    other.

    Attributes:
        config: of the extractor.
        size: C, length of the vectors.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, extractor: FeatureExtractor) -> None:
        """Take over the extractor's backbone; what it adds on top is left out."""
        super().__init__()
        config = self.config = extractor.config
        self.amp, self.backbone = extractor.amp, extractor.backbone
        self.register_buffer("mean", extractor.mean, persistent=False)
        self.register_buffer("std", extractor.std, persistent=False)
        self.size: int = config.dimension
        if config.family != OWN_MODULE:
            architecture = extractor.architecture
            if isinstance(architecture, PyramidArchitecture):
                self.size = architecture.channels[config.stages]
            elif isinstance(architecture, TokenArchitecture):
                self.size = architecture.hidden_size * (2 if family_of(config.family).vector == "both" else 1)
                self.prefix = architecture.prefix

    def forward(self, images: Tensor) -> Tensor:
        """Map images, as `FeatureExtractor.forward` takes them, to float32 vectors [B, C]."""
        images = normalised(images, self.mean, self.std)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.amp):
            vectors = self._vectors(images)
        return vectors.float()

    def _vectors(self, images: Tensor) -> Tensor:
        if self.config.family == OWN_MODULE:
            maps: Tensor = self.backbone(images)
            return maps.mean(dim=(2, 3))
        family = family_of(self.config.family)
        seen = family.read(self.backbone, images)
        if family.is_pyramid:
            coarsest: Tensor = seen[-1]
            return coarsest.mean(dim=(2, 3))
        parts = [seen[:, 0]] if family.vector != "mean" else []
        parts += [seen[:, self.prefix :].mean(dim=1)] if family.vector != "class" else []
        return torch.cat(parts, dim=1)

    def train(self, mode: bool = True) -> ImageEncoder:
        """As `nn.Module.train`, but what is frozen stays as it is."""
        super().train(mode)
        keep_frozen(self.config, self.backbone)
        return self
