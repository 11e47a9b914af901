"""Pretrained backbones: where they are, and loading one."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compnet3d.errors import CompNetError
from compnet3d.models.backbones import IMAGENET_MEAN, IMAGENET_STD, BackboneConfig, FeatureExtractor, build_extractor


def find_weights(names: Sequence[str], data: str | Path) -> str | Path:
    """Where a recipe's pretrained backbone is: a folder of that name near the data, else the hub.

    Looked for in $COMPNET3D_WEIGHTS, ./weights and the `weights` folders beside the data set's parents.
    """
    folders = [Path(os.environ["COMPNET3D_WEIGHTS"])] if "COMPNET3D_WEIGHTS" in os.environ else []
    folders += [Path("weights"), *(parent / "weights" for parent in Path(data).resolve().parents[:3])]
    for folder in folders:
        if (folder / names[0] / "config.json").is_file():
            return folder / names[0]
    return names[-1]


def load_extractor(
    source: str | Path, *, dimension: int = 128, upsampling: int = 1, stages: int = 3, layers: int | None = None
) -> FeatureExtractor:
    """A feature extractor with a pretrained backbone.

    Args:
        source: a local folder in the transformers layout (config.json and model.safetensors) or a hub name.
        dimension, upsampling, stages: see `BackboneConfig`.
        layers: keep only the first layers of a transformer; by default all.

    Raises:
        CompNetError: if the source cannot be read, is of an unknown family or has fewer layers.
    """
    from transformers import AutoConfig

    try:
        pretrained = AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise CompNetError(
            f"{source}: no backbone there ({str(error).splitlines()[0]}); give a folder with config.json and "
            "model.safetensors, or a hub name that this machine can reach; training looks in the folder "
            "$COMPNET3D_WEIGHTS and in ./weights first"
        ) from None
    family = str(pretrained.model_type)
    mean, std = _normalisation(source, family)
    architecture = _architecture(pretrained.to_dict())
    if layers is not None:
        there = architecture.get("num_hidden_layers", 0)
        if not 1 <= layers <= there:
            raise CompNetError(
                f"{source}: has {there} transformer layers, of which {layers} cannot be kept; set pretrained_layers to "
                "a smaller number, or to null to keep everything"
            )
        architecture["num_hidden_layers"] = layers
    config = BackboneConfig(
        family=family,
        architecture=architecture,
        dimension=dimension,
        upsampling=upsampling,
        stages=stages,
        mean=mean,
        std=std,
        freeze_statistics=family == "resnet",
    )
    extractor = build_extractor(config)
    state = _pretrained_state(source, extractor.backbone)
    extractor.backbone.load_state_dict({name: state[name] for name in extractor.backbone.state_dict()})
    return extractor


def _pretrained_state(source: str | Path, backbone: Any) -> dict[str, Tensor]:
    """The pretrained tensors of a backbone, read by its own class."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    options: dict[str, dict[str, Any]] = {
        "ResNetBackbone": {"out_features": ["stage2", "stage3", "stage4"]},
        "ViTModel": {"add_pooling_layer": False},
    }

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # the classifier's tensors are expected to be left over
    logging.disable_progress_bar()
    try:
        kind = type(backbone)
        loaded, notes = kind.from_pretrained(
            source,
            dtype=torch.float32,
            output_loading_info=True,
            use_safetensors=True,
            **options.get(kind.__name__, {}),
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CompNetError(f"{source}: cannot load the backbone's weights ({str(error).splitlines()[0]})") from None
    finally:
        logging.set_verbosity(verbosity)
    if notes["missing_keys"]:
        names = sorted(notes["missing_keys"])
        raise CompNetError(f"{source}: the weights lack {len(names)} tensors of the backbone, such as {names[0]}")
    return loaded.state_dict()


def _architecture(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a transformers config that shapes the network: no labels, no bookkeeping."""
    dropped = {"id2label", "label2id", "architectures", "dtype", "torch_dtype", "transformers_version", "_name_or_path"}
    dropped |= {"model_type", "out_features", "out_indices", "stage_names", "num_labels", "_attn_implementation"}
    return {key: value for key, value in config.items() if key not in dropped and value is not None}


def _normalisation(source: str | Path, family: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and std from the folder's preprocessor_config.json, else the family's usual ones."""
    path = Path(source) / "preprocessor_config.json"
    if path.is_file():
        values = json.loads(path.read_text())
        if "image_mean" in values and "image_std" in values:
            return tuple(values["image_mean"]), tuple(values["image_std"])
    if family == "vit":
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    return IMAGENET_MEAN, IMAGENET_STD
