"""Backbones that are vision transformers: one token a patch of the image, from the first layer to the last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from compnet3d.models.architecture import Activation, Architecture, check_heads
from compnet3d.utils.settings import plain, setting


@dataclass(frozen=True, kw_only=True)
class TokenArchitecture(Architecture):
    """What all vision transformers share whose tokens are patches of the image, from the first layer to the last."""

    hidden_size: int = setting(768, least=1, most=8192)
    num_hidden_layers: int = setting(12, least=1, most=100)
    num_attention_heads: int = setting(12, least=1, most=256)
    hidden_act: Activation = "gelu"
    layer_norm_eps: float = setting(1e-12, least=0, most=1)
    image_size: int = setting(224, least=1, most=4096)
    patch_size: int = setting(16, least=1, most=256)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_heads("num_attention_heads", (self.num_attention_heads,), (self.hidden_size,), "hidden_size")
        if self.image_size < self.patch_size:
            raise ValueError(f"patch_size {self.patch_size} is larger than the image_size {self.image_size}")

    @property
    def prefix(self) -> int:
        """Tokens before those of the patches: the class token, which has no place in the image, and registers."""
        return 1

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
class ViTArchitecture(TokenArchitecture):
    """Of `ViTConfig`."""

    initializer_range: float = setting(0.02, least=0, most=10)
    hidden_dropout_prob: float = setting(0.0, least=0, below=1)
    attention_probs_dropout_prob: float = setting(0.0, least=0, below=1)
    qkv_bias: bool = True
    intermediate_size: int = setting(3072, least=1, most=32768)
    encoder_stride: int = setting(16, least=1, most=256)
    pooler_output_size: int | None = setting(None, least=1, most=8192)
    pooler_act: Literal["tanh", "relu", "gelu"] = "tanh"

    @property
    def feed_forward(self) -> int:
        """See `TokenArchitecture`."""
        return self.intermediate_size


@dataclass(frozen=True, kw_only=True)
class DinoArchitecture(TokenArchitecture):
    """What `Dinov2Config` and `Dinov2WithRegistersConfig` share."""

    initializer_range: float = setting(0.02, least=0, most=10)
    hidden_dropout_prob: float = setting(0.0, least=0, below=1)
    attention_probs_dropout_prob: float = setting(0.0, least=0, below=1)
    qkv_bias: bool = True
    layer_norm_eps: float = setting(1e-6, least=0, most=1)
    mlp_ratio: int = setting(4, least=1, most=16)
    layerscale_value: float = setting(1.0, least=0, most=1000)
    drop_path_rate: float = setting(0.0, least=0, below=1)
    use_swiglu_ffn: bool = False
    apply_layernorm: bool = True
    reshape_hidden_states: bool = True

    @property
    def feed_forward(self) -> int:
        """See `TokenArchitecture`."""
        return self.mlp_ratio * self.hidden_size


@dataclass(frozen=True, kw_only=True)
class Dinov2Architecture(DinoArchitecture):
    """Of `Dinov2Config`."""

    patch_size: int = setting(14, least=1, most=256)
    use_mask_token: bool = True


@dataclass(frozen=True, kw_only=True)
class Dinov2RegistersArchitecture(DinoArchitecture):
    """Of `Dinov2WithRegistersConfig`."""

    num_register_tokens: int = setting(4, least=0, most=64)

    @property
    def prefix(self) -> int:
        """See `TokenArchitecture`."""
        return 1 + self.num_register_tokens


@dataclass(frozen=True, kw_only=True)
class Dinov3Architecture(TokenArchitecture):
    """Of `DINOv3ViTConfig`. Its tokens are turned by where they are, so any input size is like any other."""

    initializer_range: float = setting(0.02, least=0, most=10)
    hidden_size: int = setting(384, least=1, most=8192)
    num_attention_heads: int = setting(6, least=1, most=256)
    intermediate_size: int = setting(1536, least=1, most=32768)
    attention_dropout: float = setting(0.0, least=0, below=1)
    layer_norm_eps: float = setting(1e-5, least=0, most=1)
    rope_theta: float = setting(100.0, least=1e-3, most=1e9)
    query_bias: bool = True
    key_bias: bool = False
    value_bias: bool = True
    proj_bias: bool = True
    mlp_bias: bool = True
    layerscale_value: float = setting(1.0, least=0, most=1000)
    drop_path_rate: float = setting(0.0, least=0, below=1)
    use_gated_mlp: bool = False
    num_register_tokens: int = setting(0, least=0, most=64)
    # how far places are moved at random in training; None, here, does not
    pos_embed_shift: float | None = setting(None, least=0, most=10)
    pos_embed_jitter: float | None = setting(None, least=1, most=10)
    pos_embed_rescale: float | None = setting(2.0, least=1, most=10)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size // self.num_attention_heads % 4:
            raise ValueError(
                f"hidden_size {self.hidden_size} over num_attention_heads {self.num_attention_heads} is no multiple "
                "of 4"
            )

    def arguments(self, stages: int) -> dict[str, Any]:
        """See `Architecture`: here a None is told, since it stands for no random places."""
        return plain(self)

    @property
    def prefix(self) -> int:
        """See `TokenArchitecture`."""
        return 1 + self.num_register_tokens

    @property
    def feed_forward(self) -> int:
        """See `TokenArchitecture`."""
        return self.intermediate_size


@dataclass(frozen=True, kw_only=True)
class SiglipArchitecture(TokenArchitecture):
    """Of `SiglipVisionConfig`, whose head, which pools the tokens, is left out."""

    intermediate_size: int = setting(3072, least=1, most=32768)
    hidden_act: Activation = "gelu_pytorch_tanh"
    layer_norm_eps: float = setting(1e-6, least=0, most=1)
    attention_dropout: float = setting(0.0, least=0, below=1)

    @property
    def prefix(self) -> int:
        """See `TokenArchitecture`."""
        return 0

    @property
    def feed_forward(self) -> int:
        """See `TokenArchitecture`."""
        return self.intermediate_size

    def arguments(self, stages: int) -> dict[str, Any]:
        """See `Architecture`."""
        return super().arguments(stages) | {"vision_use_head": False}


@dataclass(frozen=True, kw_only=True)
class ClipArchitecture(TokenArchitecture):
    """Of `CLIPVisionConfig`."""

    initializer_range: float = setting(0.02, least=0, most=10)
    intermediate_size: int = setting(3072, least=1, most=32768)
    projection_dim: int = setting(512, least=1, most=8192)
    patch_size: int = setting(32, least=1, most=256)
    hidden_act: Activation = "quick_gelu"
    layer_norm_eps: float = setting(1e-5, least=0, most=1)
    attention_dropout: float = setting(0.0, least=0, below=1)
    initializer_factor: float = setting(1.0, least=0, most=100)

    @property
    def feed_forward(self) -> int:
        """See `TokenArchitecture`."""
        return self.intermediate_size
