"""Weights of pretrained backbones, in several files and of every family, to break and to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tools.fuzz.mutate import Seed

_STAGES: dict[str, Any] = {"depths": [1, 1, 1, 1]}
_CONV = _STAGES | {"hidden_sizes": [8, 8, 16, 16]}
_WINDOWS = _STAGES | {"embed_dim": 8, "num_heads": [1, 1, 2, 2], "image_size": 64}
_TOKENS: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64}
_WIDE = _TOKENS | {"intermediate_size": 32, "patch_size": 16}
# of each family, the class of transformers and a small configuration
_PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet": ("ResNetModel", _CONV | {"embedding_size": 8, "layer_type": "basic"}),
    "convnext": ("ConvNextModel", _CONV),
    "convnextv2": ("ConvNextV2Model", _CONV),
    "swin": ("SwinModel", _WINDOWS | {"window_size": 4}),
    "swinv2": ("Swinv2Model", _WINDOWS | {"window_size": 4}),
    "hiera": ("HieraModel", _WINDOWS | {"image_size": [64, 64]}),
    "pvt_v2": ("PvtV2Model", _CONV | {"num_attention_heads": [1, 1, 2, 2]}),
    "dinov3_convnext": ("DINOv3ConvNextModel", _CONV),
    "vit": ("ViTModel", _WIDE),
    "dinov2": ("Dinov2Model", _TOKENS | {"patch_size": 16}),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", _TOKENS | {"patch_size": 16}),
    "dinov3_vit": ("DINOv3ViTModel", _WIDE | {"num_register_tokens": 2}),
    "siglip_vision_model": ("SiglipVisionModel", _WIDE),
    "clip_vision_model": ("CLIPVisionModel", _WIDE),
}


def family_seeds(folder: Path) -> list[Seed]:
    """The config.json of every family, each beside its weights, once more whole."""
    import transformers

    from compnet3d.models.families import FAMILIES

    assert set(FAMILIES) == set(_PUBLISHED), "a family is not among those that are broken"
    made = []
    for family, (name, values) in _PUBLISHED.items():
        kind = getattr(transformers, name)
        kind(kind.config_class(**values)).save_pretrained(folder / family)
        whole = (folder / family / "config.json").read_bytes()
        (folder / family / "whole.json").write_bytes(whole)
        made.append(Seed(f"{family}/config.json", whole, "json"))
    return made


def read_families(folder: Path) -> None:
    """The extractor whose config.json is not whole any more."""
    from compnet3d.models.pretrained import load_extractor

    for path in sorted(folder.glob("*/config.json")):
        if path.read_bytes() != path.with_name("whole.json").read_bytes():
            load_extractor(path.parent, dimension=16)


def shard_seeds(folder: Path) -> list[Seed]:
    """Weights in several files, and the index that says where each tensor is."""
    import transformers

    name, values = _PUBLISHED["vit"]
    kind = getattr(transformers, name)
    kind(kind.config_class(**values)).save_pretrained(folder, max_shard_size="20KB")
    index = "model.safetensors.index.json"
    parts = sorted(set(json.loads((folder / index).read_text())["weight_map"].values()))
    assert len(parts) > 1, "the weights are in one file"
    made = [Seed(index, (folder / index).read_bytes(), "json")] * len(parts)
    return made + [Seed(part, (folder / part).read_bytes()) for part in parts]


def read_shards(folder: Path) -> None:
    """As a feature extractor."""
    from compnet3d.models.pretrained import load_extractor

    load_extractor(folder, dimension=16)
