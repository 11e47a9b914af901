"""The methods that 3D-CompNets are compared with, behind the same protocol, and loading a saved model of any kind."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from compnet3d.errors import CompNetError
from compnet3d.models.checkpoint import find_model, load_model, model_from_config, model_kind
from compnet3d.models.compnet import CompNet
from compnet3d.models.dual_head import DualHead

TrainedModel = CompNet | DualHead


def load_predictor(folder: str | Path, feature_extractor: nn.Module | None = None) -> TrainedModel:
    """Load a model of any kind, ready for inference.

    Args:
        folder: see `find_model`.
        feature_extractor: the module, with any tensors, of a model that was trained with one of the user's.

    Raises:
        CompNetError: if something is missing, broken or unexpected; the message names the file and the tensor.
    """
    folder = find_model(folder)
    if _is_dual_head(folder / "config.json"):
        return load_model(folder, DualHead, feature_extractor)
    return load_model(folder, CompNet, feature_extractor)


def untrained_model(path: Path, feature_extractor: nn.Module | None = None) -> TrainedModel:
    """A model with random tensors, as a checkpoint's model.json says; `feature_extractor` as in `load_predictor`.

    Raises:
        CompNetError: naming the file, if it is missing or not a model's configuration.
    """
    if _is_dual_head(path):
        return model_from_config(path, DualHead, feature_extractor)
    return model_from_config(path, CompNet, feature_extractor)


def _is_dual_head(path: Path) -> bool:
    kind = model_kind(path)
    if kind not in (CompNet.kind, DualHead.kind):
        raise CompNetError(
            f"{path}: holds a model of the unknown kind {kind!r}; use the version of compnet3d that wrote it"
        )
    return kind == DualHead.kind
