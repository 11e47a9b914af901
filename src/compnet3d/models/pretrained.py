"""Pretrained backbones: where they are, and loading one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compnet3d.errors import CompNetError
from compnet3d.models.architecture import Architecture
from compnet3d.models.backbones import BackboneConfig, FeatureExtractor, build_extractor
from compnet3d.models.families import FAMILIES, VISION_TOWERS, Colour, Family, family_of
from compnet3d.models.tensors import check_finite
from compnet3d.models.weight_files import FETCHED, WeightFiles
from compnet3d.utils.files import Json, read_json
from compnet3d.utils.hub import fetch
from compnet3d.utils.settings import known, nearest, plain, read, shown


def find_weights(names: Sequence[str], data: str | Path) -> str | Path:
    """Where a recipe's pretrained backbone is: a folder of that name near the data, else the hub.

    See `weight_folders` for where it is looked for.
    """
    for folder in weight_folders(data):
        if (folder / names[0] / "config.json").is_file():
            return folder / names[0]
    return names[-1]


def weight_folders(data: str | Path) -> list[Path]:
    """Where a backbone's folder may lie: in $COMPNET3D_WEIGHTS, ./weights, the `weights` beside the data's parents."""
    folders = [Path(os.environ["COMPNET3D_WEIGHTS"])] if "COMPNET3D_WEIGHTS" in os.environ else []
    return [*folders, Path("weights"), *(parent / "weights" for parent in Path(data).resolve().parents[:3])]


def load_extractor(
    source: str | Path, *, dimension: int = 128, upsampling: int = 1, stages: int = 3, layers: int | None = None
) -> FeatureExtractor:
    """A feature extractor with a pretrained backbone.

    Args:
        source: a local folder in the transformers layout (config.json and model.safetensors, or several files and their
            index); a text that names no folder is a hub name, a path never is. Of a model of texts and images the
            tower that sees is taken.
        dimension, upsampling, stages: see `BackboneConfig`.
        layers: keep only the first layers of a transformer; by default all.

    Raises:
        CompNetError: if the source cannot be read, is of an unknown family or has fewer layers.
    """
    folder = Path(source) if isinstance(source, Path) or os.path.exists(source) else _fetched(source)
    try:
        values = read_json(folder / "config.json", 2**24)
    except CompNetError as error:
        raise _no_backbone(source, error) from None
    family, architecture = _read_architecture(values, folder / "config.json")
    mean, std = _normalisation(folder / "preprocessor_config.json", family)
    if layers is not None:
        there = architecture.get("num_hidden_layers", 0)
        if not 1 <= layers <= there:
            raise CompNetError(
                f"{source}: has {there} transformer layers, of which {layers} cannot be kept; set pretrained_layers to "
                "a smaller number, or to null to keep everything"
            )
        architecture["num_hidden_layers"] = layers
    try:
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
    except ValueError as error:
        raise CompNetError(f"{folder / 'config.json'}: {error}; give another backbone") from None
    weights = WeightFiles.of(folder)
    _check_weights(weights, config)
    extractor = build_extractor(config)
    prefix = "vision_model." if values["model_type"] in VISION_TOWERS else ""
    extractor.backbone.load_state_dict(_pretrained_state(weights, extractor.backbone, prefix, family_of(family)))
    return extractor


def _fetched(name: str) -> Path:
    """A copy of a hub's model on this machine: its configuration and its tensors, no code."""
    try:
        return fetch(name, FETCHED)
    except CompNetError as error:
        raise _no_backbone(name, error) from None


def _no_backbone(source: str | Path, error: Exception) -> CompNetError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    like = nearest(str(source)[-100:], [family.example for family in FAMILIES.values()])
    return CompNetError(
        f"{source}: no backbone there ({reason}); give a folder with config.json and model.safetensors, or a hub name, "
        f"such as {like}, that this machine can reach; training looks in the folder $COMPNET3D_WEIGHTS and in "
        "./weights first"
    )


def _read_architecture(values: Any, path: Path) -> tuple[str, Json]:
    """Family and architecture that a transformers config.json says: what shapes the network, no bookkeeping."""
    if not isinstance(values, dict):
        raise CompNetError(f"{path}: is no configuration of a model; copy it again")
    if "model_type" not in values and "pretrained_cfg" in values:
        raise CompNetError(f"{path}: this is a timm model; give one in the transformers layout")
    for part in (values, values.get("vision_config"), values.get("vision_config_dict")):
        asked = set(part) if isinstance(part, dict) else set()
        if code := sorted({"auto_map", "custom_pipelines", "trust_remote_code"} & asked):
            raise CompNetError(
                f"{path}: asks for code of its own ({code[0]}), which is never run; give another backbone"
            )
    family = values.get("model_type")
    if not isinstance(family, str):
        raise CompNetError(f"{path}: has no model_type, the name of a family of models; copy it again")
    try:
        if family in VISION_TOWERS:
            family, values = VISION_TOWERS[family], _tower(values)
        kind: type[Architecture] = family_of(family).architecture
        given = {name: value for name, value in known(kind, values).items() if value is not None}
        for entry in fields(kind):
            if isinstance(entry.default, int) and _is_square(given.get(entry.name)):
                given[entry.name] = given[entry.name][0]  # of rows and of columns
        found = plain(read(kind, given))
    except (CompNetError, ValueError) as error:
        raise CompNetError(f"{path}: {error}; give another backbone") from None
    return family, {name: value for name, value in found.items() if value is not None}


def _is_square(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and value[0] == value[1]


def _tower(values: Json) -> Json:
    """The entries of the tower that sees: older files repeat them, and the second copy counts."""
    parts = [values.get(name) or {} for name in ("vision_config", "vision_config_dict")]
    if not all(isinstance(part, dict) for part in parts):
        raise ValueError("vision_config must be a group of entries")
    return parts[0] | {name: value for name, value in parts[1].items() if value is not None}


def _check_weights(weights: WeightFiles, config: BackboneConfig) -> None:
    """Check that files hold about as many numbers as a backbone needs, before memory is taken for that."""
    with torch.device("meta"):
        backbone = build_extractor(config).backbone
    wanted = sum(tensor.numel() for tensor in backbone.state_dict().values())
    # a file that only lacks some tensors is told so by their names
    if wanted > weights.count + 1_000_000:
        raise CompNetError(
            f"{weights.path}: holds {weights.count:,} numbers and its config.json asks for {wanted:,}; they do not "
            "belong together, copy both again"
        )


def _pretrained_state(weights: WeightFiles, backbone: Any, prefix: str, family: Family) -> dict[str, Tensor]:
    """The pretrained tensors of a backbone, which its own class finds among those that begin with a prefix."""
    from transformers.utils import logging

    path, wanted = weights.path, backbone.state_dict().keys()
    stored = weights.load(prefix)
    # counters are whole numbers; others of few bits belong to a scale that only their own program knows
    plain_kinds = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)
    for name, tensor in stored.items():
        if tensor.dtype not in plain_kinds:
            raise CompNetError(
                f"{path}: tensor {name} is of {str(tensor.dtype).removeprefix('torch.')}; packed weights are not read, "
                "give those that were not quantised"
            )
    tensors = {name: tensor.float() for name, tensor in stored.items()}
    check_finite(path, tensors)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # the classifier's tensors are expected to be left over
    logging.disable_progress_bar()
    try:
        # given the tensors and no folder, it opens no file and asks no hub
        loaded, notes = type(backbone).from_pretrained(
            None,
            config=backbone.config,
            state_dict=tensors,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **family.built,
        )
    except (OSError, ValueError, RuntimeError, LookupError, AttributeError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CompNetError(f"{path}: cannot load the backbone's weights ({reason}); copy them again") from None
    finally:
        logging.set_verbosity(verbosity)
    # what the class has besides, and the backbone here has not, may be missing
    if names := sorted(wanted & set(notes["missing_keys"])):
        called = next(
            (f"; {name} is there: take off what stands before" for name in stored if name.endswith(f".{names[0]}")),
            "; copy all of its files again",
        )
        raise CompNetError(
            f"{path.parent}: the weights lack {len(names)} tensors of the backbone, such as {names[0]}{called}"
        )
    for name, found, asked in sorted(notes["mismatched_keys"]):
        if name in wanted:
            raise CompNetError(
                f"{path}: tensor {name} has shape {list(found)} and config.json asks for {list(asked)}; they do not "
                "belong together, copy both again"
            )
    return {name: tensor for name, tensor in loaded.state_dict().items() if name in wanted}


def _normalisation(path: Path, family: str) -> tuple[Colour, Colour]:
    """Mean and std from the folder's preprocessor_config.json, else the family's usual ones."""
    if os.path.lexists(path):  # a link to nothing is told of: with the family's usual ones, all would be a little wrong
        values = read_json(path)
        if not isinstance(values, dict):
            raise CompNetError(f"{path}: is no configuration of images; copy it again or delete it")
        if "image_mean" in values and "image_std" in values:
            mean, std = (_colour(path, name, values) for name in ("image_mean", "image_std"))
            if max(*mean, *std) > 10:
                raise CompNetError(
                    f"{path}: image_mean {shown(values['image_mean'])} is of pixels from 0 to 255, and these are 0 to "
                    "1; divide it and image_std by 255"
                )
            return mean, std
    return family_of(family).normalisation


def _colour(path: Path, name: str, values: Json) -> Colour:
    """Three numbers, or one for all channels; those of a deviation are above 0."""
    value = values[name]
    numbers = value if isinstance(value, list) else [value] * 3
    least = 1e-6 if name == "image_std" else -1000
    plain_numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in numbers)
    if len(numbers) != 3 or not plain_numbers or not all(least <= x <= 1000 for x in numbers):
        wanted = "three numbers above 0" if name == "image_std" else "three numbers"
        raise CompNetError(f"{path}: {name} must be {wanted}, not {shown(value)}; correct it or delete the file")
    red, green, blue = (float(x) for x in numbers)
    return red, green, blue
