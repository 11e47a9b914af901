"""The families of backbones: which class of transformers each is, and how its map is had from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from compnet3d.errors import CompNetError
from compnet3d.models.architecture import Architecture
from compnet3d.models.architecture_pyramids import (
    ConvNextV1Architecture,
    ConvNextV2Architecture,
    Dinov3ConvNextArchitecture,
    HieraArchitecture,
    PvtV2Architecture,
    PyramidArchitecture,
    ResNetArchitecture,
    SwinArchitecture,
    Swinv2Architecture,
)
from compnet3d.models.architecture_tokens import (
    ClipArchitecture,
    Dinov2Architecture,
    Dinov2RegistersArchitecture,
    Dinov3Architecture,
    SiglipArchitecture,
    ViTArchitecture,
)
from compnet3d.utils.settings import nearest, read, shown

# what config.json calls a backbone whose architecture is the user's
OWN_MODULE = "module"

Colour = tuple[float, float, float]
IMAGENET: tuple[Colour, Colour] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES: tuple[Colour, Colour] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP: tuple[Colour, Colour] = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class Family:
    """How the networks of one family are built, and asked for what they see.

    Attributes:
        model: name of the transformers class; its configuration's is `configuration`.
        architecture: what may be set.
        read: tokens of the last layer, those before the patches' too, or the maps of the stages from the second on.
        layers: names of the classes of its layers, of which a gradient is checkpointed and a learning rate decays.
        example: a hub name; others are like it.
        normalisation: mean and deviation of the images where no preprocessor_config.json says them.
        built: arguments of the class besides the configuration.
        left_out: parts of the class that serve a classifier alone; they are not kept.
        stages_at: where the stages are that are cut once the network is built; elsewhere the configuration is.
        vector: what stands for the whole image: the "class" token, the "mean" over the image, or "both".
        fused: torch's fused attention may be asked for.
    """

    model: str
    architecture: type[Architecture]
    read: Callable[[Any, Tensor], Any]
    layers: tuple[str, ...]
    example: str
    normalisation: tuple[Colour, Colour] = IMAGENET
    built: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    stages_at: str = ""
    vector: Literal["class", "mean", "both"] = "mean"
    fused: bool = False
    configuration: str = ""

    @property
    def is_pyramid(self) -> bool:
        """Whether it has stages at several strides."""
        return issubclass(self.architecture, PyramidArchitecture)

    @cached_property
    def classes(self) -> tuple[Any, Any]:
        """The classes of the network and of its configuration."""
        import transformers

        stem = self.model.removesuffix("Model").removesuffix("Backbone")
        return getattr(transformers, self.model), getattr(transformers, self.configuration or f"{stem}Config")

    def build(self, values: Mapping[str, Any], stages: int) -> Any:
        """A network with random tensors; of a pyramid, its stages up to the last of `stages` that are joined."""
        model, configuration = self.classes
        arguments = read(self.architecture, values).arguments(stages)
        # of the map's size, plain matrix products beat torch's fused CPU kernel by a third in bfloat16; where there is
        # no attention, the name of one would be looked up all the same
        attention = "sdpa" if self.fused and torch.cuda.is_available() else "eager"
        if self.model.endswith("Backbone"):
            arguments["out_features"] = [f"stage{number}" for number in range(2, 2 + stages)]
        backbone = model(configuration(**arguments, attn_implementation=attention), **self.built)
        for name in self.left_out:
            setattr(backbone, name, nn.Identity())
        if self.stages_at:
            del backbone.get_submodule(self.stages_at)[1 + stages :]
        return backbone


def _tokens(backbone: Any, images: Tensor) -> Tensor:
    tokens: Tensor = backbone(images).last_hidden_state
    return tokens


def _tokens_at_any_size(backbone: Any, images: Tensor) -> Tensor:
    """Where the position embedding is interpolated only when that is asked for."""
    tokens: Tensor = backbone(images, interpolate_pos_encoding=True).last_hidden_state
    return tokens


def _feature_maps(backbone: Any, images: Tensor) -> Sequence[Tensor]:
    maps: Sequence[Tensor] = backbone(images).feature_maps
    return maps


def _hidden_states(backbone: Any, images: Tensor) -> Sequence[Tensor]:
    """Without the layer norms of the Backbone classes, which no published weights hold; the first two are stage 1's."""
    maps: Sequence[Tensor] = backbone(images, output_hidden_states=True).hidden_states[2:]
    return maps


def _swin_maps(backbone: Any, images: Tensor) -> Sequence[Tensor]:
    """As `_hidden_states`; windows are padded, and not made smaller where the map is small."""
    options = {"always_partition": True, "output_hidden_states_before_downsampling": True}
    maps: Sequence[Tensor] = backbone(images, output_hidden_states=True, **options).reshaped_hidden_states[2:]
    return maps


def _hiera_maps(backbone: Any, images: Tensor) -> Sequence[Tensor]:
    """As `_hidden_states`; how tokens go back to their places follows from the size of these images."""
    shape, encoder = backbone.config, backbone.encoder
    size = [side // stride for side, stride in zip(images.shape[-2:], shape.patch_stride, strict=True)]
    steps = len(shape.depths) - 1
    # the class has these of the configuration's size alone, to which it would hold any image
    encoder.schedule = {
        stage: ([shape.query_stride] * (steps - stage), [side // 2**stage for side in size])
        for stage in range(steps + 1)
    }
    states = backbone(images, output_hidden_states=True, interpolate_pos_encoding=True).reshaped_hidden_states
    return [state.permute(0, 3, 1, 2) for state in states[2:]]


FAMILIES: dict[str, Family] = {
    "resnet": Family(
        "ResNetBackbone", ResNetArchitecture, _feature_maps, ("ResNetBasicLayer", "ResNetBottleNeckLayer"),
        "microsoft/resnet-50",
    ),
    "convnext": Family(
        "ConvNextModel", ConvNextV1Architecture, _hidden_states, ("ConvNextLayer",), "facebook/convnext-tiny-224",
        left_out=("layernorm",),
    ),
    "convnextv2": Family(
        "ConvNextV2Model", ConvNextV2Architecture, _hidden_states, ("ConvNextV2Layer",),
        "facebook/convnextv2-tiny-1k-224", left_out=("layernorm",),
    ),
    "swin": Family(
        "SwinModel", SwinArchitecture, _swin_maps, ("SwinLayer",), "microsoft/swin-tiny-patch4-window7-224",
        built={"add_pooling_layer": False}, left_out=("layernorm",), fused=True,
    ),
    "swinv2": Family(
        "Swinv2Backbone", Swinv2Architecture, _feature_maps, ("Swinv2Layer",),
        "microsoft/swinv2-tiny-patch4-window8-256",
    ),
    "hiera": Family(
        "HieraModel", HieraArchitecture, _hiera_maps, ("HieraLayer",), "facebook/hiera-tiny-224-hf",
        built={"add_pooling_layer": False}, stages_at="encoder.stages",
    ),
    "pvt_v2": Family("PvtV2Backbone", PvtV2Architecture, _feature_maps, ("PvtV2BlockLayer",), "OpenGVLab/pvt_v2_b0"),
    "dinov3_convnext": Family(
        "DINOv3ConvNextBackbone", Dinov3ConvNextArchitecture, _feature_maps, ("DINOv3ConvNextLayer",),
        "facebook/dinov3-convnext-tiny-pretrain-lvd1689m",
    ),
    "vit": Family(
        "ViTModel", ViTArchitecture, _tokens_at_any_size, ("ViTLayer",), "google/vit-base-patch16-224", HALVES,
        built={"add_pooling_layer": False}, vector="class", fused=True,
    ),
    "dinov2": Family(
        "Dinov2Model", Dinov2Architecture, _tokens, ("Dinov2Layer",), "facebook/dinov2-base", vector="both", fused=True,
    ),
    "dinov2_with_registers": Family(
        "Dinov2WithRegistersModel", Dinov2RegistersArchitecture, _tokens, ("Dinov2WithRegistersLayer",),
        "facebook/dinov2-with-registers-base", vector="both", fused=True,
    ),
    "dinov3_vit": Family(
        "DINOv3ViTModel", Dinov3Architecture, _tokens, ("DINOv3ViTLayer",),
        "facebook/dinov3-vits16-pretrain-lvd1689m", vector="both", fused=True,
    ),
    "siglip_vision_model": Family(
        "SiglipVisionModel", SiglipArchitecture, _tokens_at_any_size, ("SiglipEncoderLayer",),
        "google/siglip-base-patch16-224", HALVES, fused=True,
    ),
    "clip_vision_model": Family(
        "CLIPVisionModel", ClipArchitecture, _tokens_at_any_size, ("CLIPEncoderLayer",),
        "openai/clip-vit-base-patch32", CLIP, vector="class", fused=True,
    ),
}  # fmt: skip
# model types of a text and a vision tower together, of which the second is taken
VISION_TOWERS = {"siglip": "siglip_vision_model", "clip": "clip_vision_model"}


def family_of(name: str) -> Family:
    """What a family is.

    Raises:
        CompNetError: if it is unknown, naming the nearest one.
    """
    if name not in FAMILIES:
        raise CompNetError(
            f"backbone family {name!r} is unknown, the nearest is {nearest(name[:100], list(FAMILIES))}; use one of "
            f"{', '.join(FAMILIES)}"
        )
    return FAMILIES[name]


def checked_architecture(family: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of an architecture, once all are known to be of their type and in their range.

    Raises:
        CompNetError: if the family is unknown.
        ValueError: naming the entry that is unknown, of another type or out of range, or if the network would be too
            large for any machine.
    """
    if family == OWN_MODULE:
        return _checked_module(values)
    # models that earlier versions saved say how transformers is to answer, too, which it is told anew
    answers = {"output_hidden_states", "output_attentions", "return_dict", "chunk_size_feed_forward"}
    kept = {name: value for name, value in values.items() if name not in answers | {"is_encoder_decoder"}}
    found = read(family_of(family).architecture, kept, "backbone.architecture.")
    most = 1_500_000_000
    if found.size > most:
        raise ValueError(f"backbone.architecture asks for {found.size:,} numbers, more than {most:,}")
    return kept


def _checked_module(values: Mapping[str, Any]) -> dict[str, Any]:
    """What `wrap_module` notes of a module of the user's: its class and its stride."""
    kind, stride = values.get("class"), values.get("stride")
    if set(values) != {"class", "stride"} or not isinstance(kind, str):
        raise ValueError("backbone.architecture of a module of your own must be its class and its stride")
    if not isinstance(stride, int) or isinstance(stride, bool) or not 1 <= stride <= 4096:
        raise ValueError(f"backbone.architecture.stride must be a whole number from 1 to 4096, not {shown(stride)}")
    return dict(values)
