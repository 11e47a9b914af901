"""A model as a folder: config.json, model.safetensors and meshes/. Nothing in it is ever unpickled."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import load_off, save_off
from compnet3d.models.backbones import BackboneConfig, FeatureExtractor
from compnet3d.models.own_module import module_note, restore_module
from compnet3d.utils.files import read_json, recover_folder, write_folder, write_json

FORMAT = 1


class SavedModel(Protocol):
    """A class of models that are kept as folders: torch modules with a configuration that `to_dict` writes.

    Attributes:
        kind: what config.json calls it; files that do not say hold a CompNet.
    """

    kind: ClassVar[str]

    @classmethod
    def from_config(cls, values: dict[str, Any], feature_extractor: FeatureExtractor | None = None) -> Self:
        """With random tensors, from config.json; over that feature extractor, or over a new one."""
        ...


M = TypeVar("M", bound=SavedModel)


def save_model(model: Any, folder: str | Path) -> None:
    """Save a model.

    Raises:
        CompNetError: if the disk is full or the place cannot be written; an earlier model is kept.
    """

    def fill(target: Path) -> None:
        save_tensors(target / "model.safetensors", model.state_dict())
        write_json(target / "config.json", {"format": FORMAT, **model.config.to_dict()})
        (target / "meshes").mkdir()
        for category, mesh in model.cad_meshes.items():
            save_off(target / "meshes" / f"{category}.off", mesh)

    write_folder(folder, fill)


def find_model(folder: str | Path) -> Path:
    """A model's folder, given that or a run's folder that holds one as `model`.

    Raises:
        CompNetError: if there is none.
    """
    folder = Path(folder)
    if not (folder / "model.safetensors").exists():
        # a crash between the two renames of a save leaves the old copy, which is put back first
        inner = recover_folder(folder / "model")
        folder = inner if inner.exists() else recover_folder(folder)
    if not (folder / "model.safetensors").is_file():
        raise CompNetError(f"{folder}: no model there (model.safetensors is missing); give the folder that train wrote")
    return folder


def model_kind(path: Path) -> str:
    """What kind of model a config.json or model.json is of.

    Raises:
        CompNetError: if it cannot be read.
    """
    values = read_json(path)
    return str(values.get("kind", "compnet")) if isinstance(values, dict) else "compnet"


def load_model(folder: str | Path, kind: type[M], feature_extractor: torch.nn.Module | None = None) -> M:
    """Load a model for inference.

    Args:
        folder: a model's folder, or a run's folder that holds one as `model`.
        kind: its class.
        feature_extractor: the module, with any tensors, of a model that was trained with one of the user's.

    Raises:
        CompNetError: if something is missing, broken or unexpected; the message names the file and the tensor.
    """
    folder = find_model(folder)
    if model_kind(folder / "config.json") != kind.kind:
        raise CompNetError(
            f"{folder / 'config.json'}: holds a {model_kind(folder / 'config.json')} model, not a {kind.kind} one; "
            "use compnet3d.load_predictor, which loads both"
        )
    values = read_json(folder / "config.json")
    version = values.pop("format", None) if isinstance(values, dict) else None
    if version != FORMAT:
        raise CompNetError(
            f"{folder / 'config.json'}: format is {version!r} but this version reads {FORMAT}; "
            "copy or train the model again, or use the version that wrote it"
        )
    model: Any = _build(values, folder / "config.json", kind, feature_extractor)
    load_tensors_into(model, folder / "model.safetensors")
    for path in sorted((folder / "meshes").glob("*.off")):
        model.cad_meshes[path.stem] = load_off(path)
    model.eval()
    loaded: M = model
    return loaded


def model_from_config(path: Path, kind: type[M], feature_extractor: torch.nn.Module | None = None) -> M:
    """A model with random tensors, as a JSON file of its configuration says (without a format's number).

    Raises:
        CompNetError: naming the file, if it is missing or not a model's configuration.
    """
    return _build(read_json(path), path, kind, feature_extractor)


def _build(values: Any, path: Path, kind: type[M], module: torch.nn.Module | None) -> M:
    # here and not above, so that importing the package stays light
    from huggingface_hub.errors import StrictDataclassError

    if (note := module_note(values, module)) is not None:
        raise CompNetError(f"{path}: {note}")

    # whatever the classes of the model and of its backbone raise on numbers, types and names that make no sense
    nonsense = (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError, ArithmeticError)
    try:
        if not values["categories"] or len(values["categories"]) != len(values["bounds"]):
            raise ValueError(f"{len(values['categories'])} categories with {len(values['bounds'])} boxes")
        own = None if module is None else restore_module(BackboneConfig.from_dict(values["backbone"]), module)
        return kind.from_config(values, own)
    except (*nonsense, StrictDataclassError, CompNetError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise CompNetError(f"{path}: not a model's configuration ({reason}); copy or train the model again") from None


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors to a safetensors file; a full disk raises OSError like any other write."""
    try:
        # safetensors stores plain rows: channels-last weights and views are laid out anew
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path)
    except SafetensorError as error:
        # safetensors hides the operating system's error in its text
        code = errno.ENOSPC if "No space left" in str(error) else errno.EIO
        raise OSError(code, str(error), str(path)) from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CompNetError: if it is missing or broken.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CompNetError(f"{path}: cannot be read ({error}); copy or train the model again") from None


def load_tensors_into(module: torch.nn.Module, path: Path) -> None:
    """Load every tensor of a module, strictly.

    Raises:
        CompNetError: naming the first tensor that is missing, unexpected or of another shape.
    """
    loaded, wanted = load_tensors(path), module.state_dict()
    for kind, names in (("missing", wanted.keys() - loaded.keys()), ("unexpected", loaded.keys() - wanted.keys())):
        if names:
            raise CompNetError(
                f"{path}: {kind} tensor {sorted(names)[0]} ({len(names)} in all); "
                "the file does not belong to its config.json, copy or train the model again"
            )
    for name, tensor in wanted.items():
        if loaded[name].shape != tensor.shape:
            raise CompNetError(
                f"{path}: tensor {name} has shape {list(loaded[name].shape)}, its config.json asks for "
                f"{list(tensor.shape)}; copy or train the model again"
            )
    module.load_state_dict(loaded)


def flatten_state(state: dict[str, Any], names: dict[int, str]) -> dict[str, Tensor]:
    """An optimiser's state per parameter name, as flat tensors."""
    # names instead of numbers, since safetensors has text keys and numbers depend on the parameters' order; names of
    # parameters hold dots but no //
    return {
        f"{names[number]}//{key}": torch.as_tensor(value)
        for number, entries in state["state"].items()
        for key, value in entries.items()
    }


def unflatten_state(tensors: dict[str, Tensor], names: dict[int, str]) -> dict[int, dict[str, Tensor]]:
    """Inverse of `flatten_state`.

    Raises:
        ValueError: naming the first tensor that belongs to no parameter.
    """
    numbers = {name: number for number, name in names.items()}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, entry = key.rpartition("//")
        if name not in numbers:
            raise ValueError(f"has an unexpected tensor {key}")
        state.setdefault(numbers[name], {})[entry] = value
    return state


def load_optimizer(optimizer: torch.optim.Optimizer, path: Path, names: dict[int, str]) -> None:
    """Load an optimiser's state that `flatten_state` wrote.

    Args:
        optimizer: of the same parameters.
        path: the safetensors file.
        names: of the parameters, by their number in the optimiser.

    Raises:
        CompNetError: naming the file and the first tensor that is missing, unexpected or of another shape.
    """
    tensors, whole = load_tensors(path), optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    try:
        # into the new optimiser's own groups and settings: only what it has gathered comes from the file
        whole["state"] = state = unflatten_state(tensors, names)
        entries = {entry for values in state.values() for entry in values}
        for number, values in state.items():
            for entry in sorted(entries):
                if entry not in values:
                    raise ValueError(f"lacks tensor {names[number]}//{entry}")
                # a step counter is a scalar; everything else is as large as its parameter
                if values[entry].ndim and values[entry].shape != parameters[number].shape:
                    raise ValueError(f"tensor {names[number]}//{entry} has shape {list(values[entry].shape)}")
    except ValueError as error:
        raise CompNetError(f"{path}: {error}; copy the checkpoint again or train without --resume") from None
    optimizer.load_state_dict(whole)
    # a fused optimiser walks raw memory, so its state must lie in memory as the parameter does
    for parameter, values in optimizer.state.items():
        for entry, value in values.items():
            if value.shape == parameter.shape:
                values[entry] = torch.empty_like(parameter).copy_(value)
