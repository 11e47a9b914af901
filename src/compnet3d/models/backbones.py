"""Feature extractors Phi_w: an image becomes a map of unit feature vectors (section 3.1 and 4.3).

Backbones come from transformers, from a local folder or a hub name (see `compnet3d.models.families`); small ones are
small configs of the same classes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from compnet3d.errors import CompNetError
from compnet3d.models.architecture import Architecture, nearest_sizes
from compnet3d.models.architecture_pyramids import PyramidArchitecture
from compnet3d.models.architecture_tokens import TokenArchitecture
from compnet3d.models.families import IMAGENET, Colour, checked_architecture, family_of
from compnet3d.models.layers import layers_of, recompute_layers
from compnet3d.utils.files import Json
from compnet3d.utils.matmul import bf16_is_fast
from compnet3d.utils.settings import check_ranges, read, setting


@dataclass(frozen=True)
class BackboneConfig:
    """Everything needed to build a feature extractor without its weights.

    Attributes:
        family: one of `FAMILIES`; "module" for one of the user's.
        architecture: arguments of the family's transformers config class, see `Architecture`.
        dimension: D, channels of the feature map.
        upsampling: factor by which a transformer's token grid is refined (1 = the patch stride, as in the paper); a
            ResNet has stride 8.
        stages: of a pyramid (a ResNet and others) that are joined: 3 (the paper's, with two up-sampling layers), 2 or
            1. With fewer, a cell sees less of what is around it, and the coarser stages are left out of the network.
        mean, std: normalisation of RGB values in 0 .. 1.
        freeze_statistics: keep batch-norm statistics as loaded (pretrained ResNets).
        frozen: the backbone learns nothing; what is added to it does.
        checkpointing: in training, what its layers compute is computed again for the gradient instead of kept.

    Raises:
        CompNetError: if the family is unknown.
        ValueError: naming what is out of range, or unknown in the architecture.
    """

    family: str
    architecture: Json = field(default_factory=dict)
    dimension: int = setting(128, least=1, most=16384)
    upsampling: int = setting(1, least=1, most=256)
    stages: int = 3
    mean: Colour = setting(IMAGENET[0], least=-1000, most=1000)
    std: Colour = setting(IMAGENET[1], least=1e-6, most=1000)
    freeze_statistics: bool = False
    frozen: bool = setting(False, later=True)
    checkpointing: bool = setting(False, later=True)

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
    def architecture(self) -> Architecture:
        """That of the backbone, with what its configuration leaves to the defaults.

        Raises:
            CompNetError: if it is a module of the user's, which tells no more than its stride.
        """
        return read(family_of(self.config.family).architecture, self.config.architecture)

    @property
    def sizes(self) -> tuple[int, int]:
        """Pixels of which the input's height and width must be multiples, and how many they must be at least."""
        return self.stride, self.stride

    def check_input(self, height: int, width: int) -> None:
        """Check that images of this many pixels fit.

        Raises:
            CompNetError: naming the nearest sizes that do.
        """
        unit, least = self.sizes
        if height % unit or width % unit or min(height, width) < least:
            rows, columns = (" or ".join(map(str, nearest_sizes(side, unit, least))) for side in (height, width))
            floor = f", at least {least}" if least > unit else ""
            raise CompNetError(
                f"{height} x {width} pixels do not fit the backbone; choose an input.height and an input.width that "
                f"are multiples of {unit}{floor}: the nearest are {rows} x {columns}"
            )

    def train_backbone(self, *, frozen: bool, checkpointing: bool) -> None:
        """Choose how the backbone takes part in a training; see `BackboneConfig`.

        Raises:
            CompNetError: if a module of the user's is to be checkpointed, whose layers are not known.
        """
        layers = list(layers_of(self.config.family, self.backbone).values())
        if checkpointing and not layers:
            raise CompNetError(
                "a module of your own has no layers that are known here; set backbone.checkpointing to false, and let "
                "it use torch.utils.checkpoint itself"
            )
        if frozen or self.config.frozen:
            # of a module of the user's, only what was frozen here is let loose again
            self.backbone.requires_grad_(not frozen)
            # and no other part's mode is touched: a module of the user's may have frozen some of them
            self.backbone.train(self.training and not frozen)
        recompute_layers(layers, on=checkpointing)
        self.config = replace(self.config, frozen=frozen, checkpointing=checkpointing)

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
        images = normalised(images, self.mean, self.std)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.amp):
            features = self.features(images)
        # float32 again: centring, unit length and all similarities that follow need its digits
        return normalize(self.centre(features.float()), dim=1)

    def train(self, mode: bool = True) -> FeatureExtractor:
        """As `nn.Module.train`, but what is frozen stays as it is."""
        super().train(mode)
        keep_frozen(self.config, self.backbone)
        return self

    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters that no pretraining provides."""
        return [p for name, p in self.named_parameters() if not name.startswith("backbone.")]


class PyramidExtractor(FeatureExtractor):
    """The stages after the first, at strides 8, 16 and 32 as a rule, joined by two up-sampling layers (section 4.3).

    With `stages` of 2 or 1, those at strides 8 and 16, or at stride 8 alone.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        architecture = self.architecture
        assert isinstance(architecture, PyramidArchitecture)
        there = len(architecture.depths)
        if not 1 <= config.stages <= 3:
            raise CompNetError(f"a backbone joins 1 to 3 stages, not {config.stages}; set stages to one of them")
        if there <= config.stages:
            raise CompNetError(
                f"a backbone of {there} stages has fewer than 1 + {config.stages}; set stages to {there - 1}"
            )
        self.stride = 2 * architecture.first_stride
        self.backbone = family_of(config.family).build(config.architecture, config.stages)
        fine, *coarser = architecture.channels[1 : 1 + config.stages]
        if config.stages == 3:
            self.merge_middle = _merge(coarser[1] + coarser[0], coarser[0])
        if config.stages >= 2:
            self.merge_fine = _merge(coarser[0] + fine, fine)
        self.projection = nn.Conv2d(fine, config.dimension, 1)

    def features(self, images: Tensor) -> Tensor:
        """See `FeatureExtractor.features`."""
        fine, *coarser = family_of(self.config.family).read(self.backbone, images)
        if len(coarser) == 2:
            # from coarse to fine, so that each layer works at the size of the finer of its two maps
            coarser[0] = self.merge_middle(torch.cat([_resize_like(coarser[1], coarser[0]), coarser[0]], dim=1))
        if coarser:
            fine = self.merge_fine(torch.cat([_resize_like(coarser[0], fine), fine], dim=1))
        return self.projection(fine)

    @property
    def sizes(self) -> tuple[int, int]:
        """See `FeatureExtractor.sizes`."""
        architecture = self.architecture
        assert isinstance(architecture, PyramidArchitecture)
        return architecture.unit(self.config.stages), architecture.least(self.config.stages)


class TokenExtractor(FeatureExtractor):
    """A vision transformer whose patch tokens are projected linearly to D, at any input size.

    With `upsampling` u > 1 each token yields u x u cells, so the stride is the patch size divided by u.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        architecture = self.architecture
        assert isinstance(architecture, TokenArchitecture)
        self.patch, self.prefix = architecture.patch_size, architecture.prefix
        if self.patch % config.upsampling:
            raise CompNetError(f"upsampling {config.upsampling} does not divide the patch size {self.patch}")
        self.stride = self.patch // config.upsampling
        self.backbone = family_of(config.family).build(config.architecture, config.stages)
        self.projection = nn.Linear(architecture.hidden_size, config.dimension * config.upsampling**2)

    def features(self, images: Tensor) -> Tensor:
        """See `FeatureExtractor.features`."""
        height, width = images.shape[2] // self.patch, images.shape[3] // self.patch
        tokens = family_of(self.config.family).read(self.backbone, images)[:, self.prefix :]
        # tokens come row by row; of a token's u^2 D numbers pixel_shuffle makes u x u cells of D
        projected = self.projection(tokens).transpose(1, 2).unflatten(2, (height, width))
        return nn.functional.pixel_shuffle(projected, self.config.upsampling)

    @property
    def sizes(self) -> tuple[int, int]:
        """See `FeatureExtractor.sizes`."""
        return self.patch, self.patch


def normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """RGB [B, 3, height, width], uint8 or float in 0 .. 1, as a backbone takes it."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must have shape [B, 3, height, width], got {list(images.shape)}")
    if images.dtype == torch.uint8:
        images = images.float() / 255
    # convolutions on the CPU are faster in this layout
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def keep_frozen(config: BackboneConfig, backbone: nn.Module) -> None:
    """Put what a configuration freezes of a backbone in evaluation mode."""
    if config.frozen:
        backbone.eval()
    if config.freeze_statistics:
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                # statistics only: scale and shift are parameters and go on learning
                module.eval()


def build_extractor(config: BackboneConfig) -> FeatureExtractor:
    """A feature extractor with random weights.

    Raises:
        CompNetError: if the family is unknown.
    """
    extractor: FeatureExtractor
    if family_of(config.family).is_pyramid:
        extractor = PyramidExtractor(config)
        for parameter in extractor.parameters():
            if parameter.ndim == 4:
                # as the images are laid out, or every convolution would reorder its weights
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    else:
        extractor = TokenExtractor(config)
    extractor.train_backbone(frozen=config.frozen, checkpointing=config.checkpointing)
    return extractor


def _merge(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def _resize_like(features: Tensor, reference: Tensor) -> Tensor:
    return interpolate(features, size=reference.shape[-2:], mode="bilinear", align_corners=False)
