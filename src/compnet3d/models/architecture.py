"""What a backbone may be: for each family the arguments of its transformers configuration, with types and ranges.

Nothing else reaches transformers: its classes take any further argument, some of which fetch and run code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from compnet3d.errors import CompNetError
from compnet3d.utils.settings import check_ranges, read, setting

# what config.json calls a backbone whose architecture is the user's
OWN_MODULE = "module"

Activation = Literal["relu", "gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "silu", "swish"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What all families have: see the transformers configuration of each for what its entries mean.

    Raises:
        ValueError: naming an entry that is out of range or does not go with another.
    """

    num_channels: Literal[3] = 3

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def size(self) -> int:
        """About how many numbers the tensors of such a backbone hold."""
        raise TypeError(f"{type(self).__name__} does not say how large it is")


@dataclass(frozen=True, kw_only=True)
class ResNetArchitecture(Architecture):
    """Of `ResNetConfig`: one of `hidden_sizes` and one of `depths` for each stage."""

    embedding_size: int = setting(64, least=1, most=4096)
    hidden_sizes: tuple[int, ...] = setting((256, 512, 1024, 2048), least=4, most=8192)
    depths: tuple[int, ...] = setting((3, 4, 6, 3), least=1, most=100)
    layer_type: Literal["basic", "bottleneck"] = "bottleneck"
    hidden_act: Activation = "relu"
    downsample_in_first_stage: bool = False
    downsample_in_bottleneck: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.depths) != len(self.hidden_sizes) or not 2 <= len(self.depths) <= 8:
            raise ValueError(
                f"hidden_sizes and depths must be lists of one length from 2 to 8, not of {len(self.hidden_sizes)} and "
                f"{len(self.depths)} numbers"
            )

    @property
    def size(self) -> int:
        """See `Architecture`."""
        weights = 18 if self.layer_type == "basic" else 2  # of a layer, in squares of its channels
        return sum(depth * weights * size**2 for depth, size in zip(self.depths, self.hidden_sizes, strict=True))


@dataclass(frozen=True, kw_only=True)
class TransformerArchitecture(Architecture):
    """What `ViTConfig` and `Dinov2Config` share."""

    hidden_size: int = setting(768, least=1, most=8192)
    num_hidden_layers: int = setting(12, least=1, most=100)
    num_attention_heads: int = setting(12, least=1, most=256)
    hidden_act: Activation = "gelu"
    hidden_dropout_prob: float = setting(0.0, least=0, below=1)
    attention_probs_dropout_prob: float = setting(0.0, least=0, below=1)
    initializer_range: float = setting(0.02, least=0, most=10)
    layer_norm_eps: float = setting(1e-12, least=0, most=1)
    image_size: int = setting(224, least=1, most=4096)
    patch_size: int = setting(16, least=1, most=256)
    qkv_bias: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} does not divide the hidden_size {self.hidden_size}"
            )
        if self.image_size < self.patch_size:
            raise ValueError(f"patch_size {self.patch_size} is larger than the image_size {self.image_size}")

    @property
    def feed_forward(self) -> int:
        """Channels between the two layers that follow each attention."""
        raise TypeError(f"{type(self).__name__} does not say how wide its layers are")

    @property
    def size(self) -> int:
        """See `Architecture`."""
        tokens = (self.image_size // self.patch_size) ** 2 + 3 * self.patch_size**2
        layer = 4 * self.hidden_size + 2 * self.feed_forward
        return self.hidden_size * (tokens + self.num_hidden_layers * layer)


@dataclass(frozen=True, kw_only=True)
class ViTArchitecture(TransformerArchitecture):
    """Of `ViTConfig`."""

    intermediate_size: int = setting(3072, least=1, most=32768)
    encoder_stride: int = setting(16, least=1, most=256)
    pooler_output_size: int | None = setting(None, least=1, most=8192)
    pooler_act: Literal["tanh", "relu", "gelu"] = "tanh"

    @property
    def feed_forward(self) -> int:
        """See `TransformerArchitecture`."""
        return self.intermediate_size


@dataclass(frozen=True, kw_only=True)
class Dinov2Architecture(TransformerArchitecture):
    """Of `Dinov2Config`."""

    layer_norm_eps: float = setting(1e-6, least=0, most=1)
    patch_size: int = setting(14, least=1, most=256)
    mlp_ratio: int = setting(4, least=1, most=16)
    layerscale_value: float = setting(1.0, least=0, most=1000)
    drop_path_rate: float = setting(0.0, least=0, below=1)
    use_swiglu_ffn: bool = False
    apply_layernorm: bool = True
    reshape_hidden_states: bool = True
    use_mask_token: bool = True

    @property
    def feed_forward(self) -> int:
        """See `TransformerArchitecture`."""
        return self.mlp_ratio * self.hidden_size


def architecture_of(family: str) -> type[Architecture]:
    """The description of a family.

    Raises:
        CompNetError: if the family is unknown.
    """
    families = {"resnet": ResNetArchitecture, "dinov2": Dinov2Architecture, "vit": ViTArchitecture}
    if family not in families:
        raise CompNetError(f"backbone family {family!r} is unknown; use one of {', '.join(families)}")
    return families[family]


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
    found = read(architecture_of(family), kept, "backbone.architecture.")
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
        raise ValueError(f"backbone.architecture.stride must be a whole number from 1 to 4096, not {stride!r}")
    return dict(values)
