"""Feature extractors Phi_w: an image becomes a map of unit feature vectors (section 3.1 and 4.3).

Backbones come from transformers, from a local folder or a hub name; small ones are small configs of the same classes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from compnet3d.errors import CompNetError
from compnet3d.models.architecture import architecture_of, checked_architecture
from compnet3d.utils.files import Json
from compnet3d.utils.matmul import bf16_is_fast
from compnet3d.utils.settings import check_ranges, read, setting

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class BackboneConfig:
    """Everything needed to build a feature extractor without its weights.

    Attributes:
        family: "resnet", "dinov2" or "vit"; "module" for one of the user's.
        architecture: arguments of the family's transformers config class, see `Architecture`.
        dimension: D, channels of the feature map.
        upsampling: factor by which a transformer's token grid is refined (1 = the patch stride, as in the paper); a
            ResNet has stride 8.
        stages: of a ResNet that are joined: 3 (the paper's, with two up-sampling layers), 2 or 1. With fewer, a cell
            sees less of what is around it, and the coarser stages are left out of the network.
        mean, std: normalisation of RGB values in 0 .. 1.
        freeze_statistics: keep batch-norm statistics as loaded (pretrained ResNets).

    Raises:
        CompNetError: if the family is unknown.
        ValueError: naming what is out of range, or unknown in the architecture.
    """

    family: str
    architecture: dict[str, Any] = field(default_factory=dict)
    dimension: int = setting(128, least=1, most=16384)
    upsampling: int = setting(1, least=1, most=256)
    stages: int = 3
    mean: tuple[float, float, float] = setting(IMAGENET_MEAN, least=-1000, most=1000)
    std: tuple[float, float, float] = setting(IMAGENET_STD, least=1e-6, most=1000)
    freeze_statistics: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)
        object.__setattr__(self, "architecture", checked_architecture(self.family, self.architecture))

    def to_dict(self) -> Json:
        """For config.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Json) -> BackboneConfig:
        """From config.json."""
        return read(cls, values, "backbone.")


class FeatureExtractor(nn.Module):
    """Phi_w: images to unit feature maps.

    Attributes:
        config: how it was built.
        stride: pixels per feature cell.
        amp: compute in bfloat16; on by default where the processor is faster for it.
    """

    stride: int
    mean: Tensor
    std: Tensor

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.amp = bf16_is_fast()
        # Centres the features before they are put on the sphere: without it they all start in one direction, like the
        # background features drawn from them, and contrasting takes long to part them.
        self.centre = nn.BatchNorm2d(config.dimension, affine=False)
        self.backbone: Any = None  # set by the subclass: any transformers model of its family
        self.register_buffer("mean", torch.tensor(config.mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).reshape(1, 3, 1, 1), persistent=False)

    @property
    def unit(self) -> int:
        """Pixels of which the input's height and width must be multiples."""
        return self.stride

    def features(self, images: Tensor) -> Tensor:
        """Feature map before centring and normalisation, [B, D, H/stride, W/stride], of normalised images."""
        raise TypeError(f"{type(self).__name__} does not say how it computes features")

    def forward(self, images: Tensor) -> Tensor:
        """Map images to features.

        Args:
            images: RGB [B, 3, height, width], uint8 or float in 0 .. 1; height and width are multiples of the stride.

        Returns:
            Unit vectors, float32 [B, D, height / stride, width / stride].
        """
        images = _normalised(images, self.mean, self.std)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.amp):
            features = self.features(images)
        # float32 again: centring, unit length and all similarities that follow need its digits
        return normalize(self.centre(features.float()), dim=1)

    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters that no pretraining provides."""
        return [p for name, p in self.named_parameters() if not name.startswith("backbone.")]


class ResNetExtractor(FeatureExtractor):
    """ResNet stages at strides 8, 16 and 32, joined by two up-sampling layers, stride 8 (section 4.3).

    With `stages` of 2 or 1, those at strides 8 and 16, or at stride 8 alone.
    """

    stride = 8

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        from transformers import ResNetBackbone, ResNetConfig

        if not 1 <= config.stages <= 3:
            raise CompNetError(f"a ResNet joins 1 to 3 stages, not {config.stages}; set stages to one of them")
        architecture = ResNetConfig(**config.architecture).to_dict()
        # a ResNet has 4 stages at strides 4, 8, 16 and 32, the first of which is never joined
        shape = {name: list(architecture[name][: 1 + config.stages]) for name in ("hidden_sizes", "depths")}
        if len(shape["depths"]) <= config.stages:
            there = len(shape["depths"])
            raise CompNetError(
                f"a ResNet of {there} stages has fewer than 1 + {config.stages}; set stages to {there - 1}"
            )
        names = [f"stage{number}" for number in range(2, 2 + config.stages)]
        kept = {**config.architecture, **shape}
        # no attention, but the name of one would be looked up all the same
        self.backbone = ResNetBackbone(ResNetConfig(**kept, out_features=names, attn_implementation="eager"))
        fine, *coarser = shape["hidden_sizes"][1:]
        if config.stages == 3:
            self.merge_middle = _merge(coarser[1] + coarser[0], coarser[0])
        if config.stages >= 2:
            self.merge_fine = _merge(coarser[0] + fine, fine)
        self.projection = nn.Conv2d(fine, config.dimension, 1)

    def features(self, images: Tensor) -> Tensor:
        """See `FeatureExtractor.features`."""
        fine, *coarser = self.backbone(images).feature_maps
        if len(coarser) == 2:
            # from coarse to fine, so that each layer works at the size of the finer of its two maps
            coarser[0] = self.merge_middle(torch.cat([_resize_like(coarser[1], coarser[0]), coarser[0]], dim=1))
        if coarser:
            fine = self.merge_fine(torch.cat([_resize_like(coarser[0], fine), fine], dim=1))
        return self.projection(fine)

    def train(self, mode: bool = True) -> ResNetExtractor:
        """As `nn.Module.train`, but frozen statistics stay frozen."""
        super().train(mode)
        if self.config.freeze_statistics:
            _freeze_statistics(self.backbone)
        return self


class TransformerExtractor(FeatureExtractor):
    """A vision transformer whose patch tokens are projected linearly to D (ViT and DINOv2), any input size.

    With `upsampling` u > 1 each token yields u x u cells, so the stride is the patch size divided by u.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        if config.family == "dinov2":
            from transformers import Dinov2Config, Dinov2Model

            architecture = Dinov2Config(**config.architecture, attn_implementation=_attention())
            self.backbone = Dinov2Model(architecture)
        else:
            from transformers import ViTConfig, ViTModel

            architecture = ViTConfig(**config.architecture, attn_implementation=_attention())
            self.backbone = ViTModel(architecture, add_pooling_layer=False)
        self.patch = int(architecture.patch_size)
        if self.patch % config.upsampling:
            raise CompNetError(f"upsampling {config.upsampling} does not divide the patch size {self.patch}")
        self.stride = self.patch // config.upsampling
        self.projection = nn.Linear(architecture.hidden_size, config.dimension * config.upsampling**2)

    @property
    def unit(self) -> int:
        """See `FeatureExtractor.unit`."""
        return self.patch

    def features(self, images: Tensor) -> Tensor:
        """See `FeatureExtractor.features`."""
        height, width = images.shape[2] // self.patch, images.shape[3] // self.patch
        # DINOv2 interpolates its position embedding by itself
        options = {} if self.config.family == "dinov2" else {"interpolate_pos_encoding": True}
        # the first token is the class token, which has no place in the image
        tokens = self.backbone(images, **options).last_hidden_state[:, 1:]
        # tokens come row by row; of a token's u^2 D numbers pixel_shuffle makes u x u cells of D
        projected = self.projection(tokens).transpose(1, 2).unflatten(2, (height, width))
        return nn.functional.pixel_shuffle(projected, self.config.upsampling)


def _normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """RGB [B, 3, height, width], uint8 or float in 0 .. 1, as a backbone takes it."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must have shape [B, 3, height, width], got {list(images.shape)}")
    if images.dtype == torch.uint8:
        images = images.float() / 255
    # convolutions on the CPU are faster in this layout
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def _freeze_statistics(backbone: nn.Module) -> None:
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            # statistics only: scale and shift are parameters and go on learning
            module.eval()


def build_extractor(config: BackboneConfig) -> FeatureExtractor:
    """A feature extractor with random weights.

    Raises:
        CompNetError: if the family is unknown.
    """
    if config.family == "resnet":
        extractor = ResNetExtractor(config)
        for parameter in extractor.parameters():
            if parameter.ndim == 4:
                # as the images are laid out, or every convolution would reorder its weights
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return extractor
    architecture_of(config.family)  # says which families there are
    return TransformerExtractor(config)


def _attention() -> str:
    """On these sequence lengths plain matrix products beat torch's fused CPU kernel by a third in bfloat16."""
    return "sdpa" if torch.cuda.is_available() else "eager"


def _merge(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def _resize_like(features: Tensor, reference: Tensor) -> Tensor:
    return interpolate(features, size=reference.shape[-2:], mode="bilinear", align_corners=False)
