"""Backbones that are pyramids: stages whose maps halve from one to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from compnet3d.models.architecture import Activation, Architecture, check_heads
from compnet3d.utils.settings import setting


@dataclass(frozen=True, kw_only=True)
class PyramidArchitecture(Architecture):
    """Stages, the first at `first_stride` pixels a cell, each next at twice that; the first is never joined.

    Attributes:
        each_stage: entries with one number for each stage, which are cut where the last stages are left out.
    """

    each_stage: ClassVar[tuple[str, ...]] = ("depths", "hidden_sizes")

    depths: tuple[int, ...] = setting((3, 3, 9, 3), least=1, most=100)

    def __post_init__(self) -> None:
        super().__post_init__()
        lengths = {name: len(getattr(self, name)) for name in self.each_stage}
        if set(lengths.values()) != {len(self.depths)} or not 2 <= len(self.depths) <= 8:
            raise ValueError(
                f"{' and '.join(sorted(lengths))} must be lists of one length from 2 to 8, not of "
                f"{' and '.join(str(lengths[name]) for name in sorted(lengths))} numbers"
            )

    @property
    def first_stride(self) -> int:
        """Pixels a cell of the first stage."""
        return 4

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each stage's map."""
        raise TypeError(f"{type(self).__name__} does not say how wide it is")

    @property
    def size(self) -> int:
        """See `Architecture`: eight to twelve squares of its channels are usual for a layer."""
        return sum(depth * 12 * size**2 for depth, size in zip(self.depths, self.channels, strict=True))

    def least(self, stages: int) -> int:
        """Pixels that the shorter side of the input must have at least."""
        return self.unit(stages)

    def unit(self, stages: int) -> int:
        """Pixels of which the sides of the input must be multiples."""
        return 2 * self.first_stride

    def arguments(self, stages: int) -> dict[str, Any]:
        """See `Architecture`."""
        values = super().arguments(stages)
        return values | {name: values[name][: 1 + stages] for name in self.each_stage}


@dataclass(frozen=True, kw_only=True)
class ResNetArchitecture(PyramidArchitecture):
    """Of `ResNetConfig`: one of `hidden_sizes` and one of `depths` for each stage."""

    embedding_size: int = setting(64, least=1, most=4096)
    hidden_sizes: tuple[int, ...] = setting((256, 512, 1024, 2048), least=4, most=8192)
    depths: tuple[int, ...] = setting((3, 4, 6, 3), least=1, most=100)
    layer_type: Literal["basic", "bottleneck"] = "bottleneck"
    hidden_act: Activation = "relu"
    downsample_in_first_stage: bool = False
    downsample_in_bottleneck: bool = False

    @property
    def channels(self) -> tuple[int, ...]:
        """See `PyramidArchitecture`."""
        return self.hidden_sizes

    @property
    def size(self) -> int:
        """See `Architecture`."""
        weights = 18 if self.layer_type == "basic" else 2  # of a layer, in squares of its channels
        return sum(depth * weights * size**2 for depth, size in zip(self.depths, self.hidden_sizes, strict=True))


@dataclass(frozen=True, kw_only=True)
class ConvNextArchitecture(PyramidArchitecture):
    """Of `ConvNextV2Config`, and most of `ConvNextConfig` and `DINOv3ConvNextConfig`."""

    hidden_sizes: tuple[int, ...] = setting((96, 192, 384, 768), least=4, most=8192)
    hidden_act: Activation = "gelu"
    initializer_range: float = setting(0.02, least=0, most=10)
    layer_norm_eps: float = setting(1e-12, least=0, most=1)
    drop_path_rate: float = setting(0.0, least=0, below=1)
    image_size: int = setting(224, least=1, most=4096)

    @property
    def channels(self) -> tuple[int, ...]:
        """See `PyramidArchitecture`."""
        return self.hidden_sizes

    def least(self, stages: int) -> int:
        """See `PyramidArchitecture`: each stage takes cells two by two, and needs two."""
        return self.first_stride * 2**stages


@dataclass(frozen=True, kw_only=True)
class ConvNextV2Architecture(ConvNextArchitecture):
    """Of `ConvNextV2Config`: the patches of the first stage may have any size."""

    patch_size: int = setting(4, least=1, most=64)

    @property
    def first_stride(self) -> int:
        """See `PyramidArchitecture`."""
        return self.patch_size

    def arguments(self, stages: int) -> dict[str, Any]:
        """See `Architecture`."""
        return super().arguments(stages) | {"num_stages": min(len(self.depths), 1 + stages)}


@dataclass(frozen=True, kw_only=True)
class ConvNextV1Architecture(ConvNextV2Architecture):
    """Of `ConvNextConfig`, which scales its layers' outputs."""

    layer_scale_init_value: float = setting(1e-6, least=0, most=1000)


@dataclass(frozen=True, kw_only=True)
class Dinov3ConvNextArchitecture(ConvNextArchitecture):
    """Of `DINOv3ConvNextConfig`."""

    layer_norm_eps: float = setting(1e-6, least=0, most=1)
    layer_scale_init_value: float = setting(1e-6, least=0, most=1000)


@dataclass(frozen=True, kw_only=True)
class SwinArchitecture(PyramidArchitecture):
    """Of `SwinConfig`. Its windows are padded where the map is no multiple of them."""

    each_stage: ClassVar[tuple[str, ...]] = ("depths", "num_heads")

    image_size: int = setting(224, least=1, most=4096)
    patch_size: int = setting(4, least=1, most=64)
    embed_dim: int = setting(96, least=1, most=2048)
    depths: tuple[int, ...] = setting((2, 2, 6, 2), least=1, most=100)
    num_heads: tuple[int, ...] = setting((3, 6, 12, 24), least=1, most=256)
    window_size: int = setting(7, least=1, most=64)
    mlp_ratio: float = setting(4.0, least=0.1, most=16)
    qkv_bias: bool = True
    hidden_dropout_prob: float = setting(0.0, least=0, below=1)
    attention_probs_dropout_prob: float = setting(0.0, least=0, below=1)
    drop_path_rate: float = setting(0.1, least=0, below=1)
    hidden_act: Activation = "gelu"
    # no published one has any, and they would tie the input's size to one
    use_absolute_embeddings: Literal[False] = False
    initializer_range: float = setting(0.02, least=0, most=10)
    layer_norm_eps: float = setting(1e-5, least=0, most=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_heads("num_heads", self.num_heads, self.channels)

    @property
    def first_stride(self) -> int:
        """See `PyramidArchitecture`."""
        return self.patch_size

    @property
    def channels(self) -> tuple[int, ...]:
        """See `PyramidArchitecture`."""
        return tuple(self.embed_dim * 2**stage for stage in range(len(self.depths)))


@dataclass(frozen=True, kw_only=True)
class Swinv2Architecture(SwinArchitecture):
    """Of `Swinv2Config`."""

    each_stage: ClassVar[tuple[str, ...]] = ("depths", "num_heads", "pretrained_window_sizes")

    pretrained_window_sizes: tuple[int, ...] = setting((0, 0, 0, 0), least=0, most=64)


@dataclass(frozen=True, kw_only=True)
class HieraArchitecture(PyramidArchitecture):
    """Of `HieraConfig`: its units of 8 x 8 tokens must fill the input."""

    each_stage: ClassVar[tuple[str, ...]] = ("depths", "num_heads", "masked_unit_attention")

    embed_dim: int = setting(96, least=1, most=2048)
    image_size: int = setting(224, least=1, most=4096)
    patch_size: int = setting(7, least=1, most=64)
    patch_stride: int = setting(4, least=1, most=64)
    patch_padding: int = setting(3, least=0, most=64)
    mlp_ratio: float = setting(4.0, least=0.1, most=16)
    depths: tuple[int, ...] = setting((2, 3, 16, 3), least=1, most=100)
    num_heads: tuple[int, ...] = setting((1, 2, 4, 8), least=1, most=256)
    embed_dim_multiplier: float = setting(2.0, least=1, most=2)
    num_query_pool: int = setting(3, least=1, most=7)
    # the maps halve from stage to stage in all that are published
    query_stride: Literal[2] = 2
    masked_unit_size: int = setting(8, least=1, most=64)
    masked_unit_attention: tuple[bool, ...] = (True, True, False, False)
    drop_path_rate: float = setting(0.0, least=0, below=1)
    hidden_act: Activation = "gelu"
    initializer_range: float = setting(0.02, least=0, most=10)
    layer_norm_init: float = setting(1.0, least=-1000, most=1000)
    layer_norm_eps: float = setting(1e-6, least=0, most=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_query_pool != len(self.depths) - 1:
            raise ValueError(f"num_query_pool must be {len(self.depths) - 1}, not {self.num_query_pool}")
        if self.masked_unit_size % 2**self.num_query_pool or self.image_size % self.unit(3):
            raise ValueError(
                f"masked_unit_size {self.masked_unit_size} does not go with {len(self.depths)} stages and image_size "
                f"{self.image_size}"
            )
        check_heads("num_heads", self.num_heads, self.channels)

    @property
    def first_stride(self) -> int:
        """See `PyramidArchitecture`."""
        return self.patch_stride

    @property
    def channels(self) -> tuple[int, ...]:
        """See `PyramidArchitecture`."""
        return tuple(int(self.embed_dim * self.embed_dim_multiplier**stage) for stage in range(len(self.depths)))

    def unit(self, stages: int) -> int:
        """See `PyramidArchitecture`."""
        return self.patch_stride * self.masked_unit_size

    def arguments(self, stages: int) -> dict[str, Any]:
        """See `Architecture`: of all stages, since how its tokens are ordered depends on their number."""
        pairs = {"image_size", "patch_size", "patch_stride", "patch_padding", "query_stride", "masked_unit_size"}
        values = Architecture.arguments(self, stages)
        return {name: [value, value] if name in pairs else value for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class PvtV2Architecture(PyramidArchitecture):
    """Of `PvtV2Config`."""

    each_stage: ClassVar[tuple[str, ...]] = (
        "depths", "hidden_sizes", "mlp_ratios", "num_attention_heads", "patch_sizes", "sr_ratios", "strides",
    )  # fmt: skip

    image_size: int = setting(224, least=1, most=4096)
    depths: tuple[int, ...] = setting((2, 2, 2, 2), least=1, most=100)
    sr_ratios: tuple[int, ...] = setting((8, 4, 2, 1), least=1, most=64)
    hidden_sizes: tuple[int, ...] = setting((32, 64, 160, 256), least=1, most=8192)
    patch_sizes: tuple[int, ...] = setting((7, 3, 3, 3), least=1, most=64)
    strides: tuple[int, ...] = setting((4, 2, 2, 2), least=1, most=64)
    num_attention_heads: tuple[int, ...] = setting((1, 2, 5, 8), least=1, most=256)
    mlp_ratios: tuple[int, ...] = setting((8, 8, 4, 4), least=1, most=16)
    hidden_act: Activation = "gelu"
    hidden_dropout_prob: float = setting(0.0, least=0, below=1)
    attention_probs_dropout_prob: float = setting(0.0, least=0, below=1)
    initializer_range: float = setting(0.02, least=0, most=10)
    drop_path_rate: float = setting(0.0, least=0, below=1)
    layer_norm_eps: float = setting(1e-6, least=0, most=1)
    qkv_bias: bool = True
    linear_attention: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if set(self.strides[1:]) != {2}:
            raise ValueError(f"strides must halve the map from stage to stage, not {list(self.strides)}")
        check_heads("num_attention_heads", self.num_attention_heads, self.channels)

    @property
    def first_stride(self) -> int:
        """See `PyramidArchitecture`."""
        return self.strides[0]

    @property
    def channels(self) -> tuple[int, ...]:
        """See `PyramidArchitecture`."""
        return self.hidden_sizes

    def least(self, stages: int) -> int:
        """See `PyramidArchitecture`: attention looks at a map that is smaller by `sr_ratios`, of a cell at least."""
        if self.linear_attention:
            return self.unit(stages)
        return max(self.first_stride * 2**i * ratio for i, ratio in enumerate(self.sr_ratios[: 1 + stages]))

    def arguments(self, stages: int) -> dict[str, Any]:
        """See `Architecture`."""
        return super().arguments(stages) | {"num_encoder_blocks": min(len(self.depths), 1 + stages)}
