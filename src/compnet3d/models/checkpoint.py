"""A model as a folder: config.json, model.safetensors and meshes/. Nothing in it is ever unpickled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from typing_extensions import Self

from compnet3d import __version__
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import load_off, save_off
from compnet3d.models.backbones import BackboneConfig, FeatureExtractor
from compnet3d.models.named import kept_models, named_model
from compnet3d.models.own_module import module_note, restore_module
from compnet3d.models.tensors import TensorShape, check_shapes, load_tensors_into, save_tensors
from compnet3d.utils.files import Json, is_file, read_json, recover_folder, sha256_of, write_folder, write_json
from compnet3d.utils.settings import shown

# of the folders that are written; format 1 had no checksum
FORMAT = 2


class SavedModel(Protocol):
    """A class of models that are kept as folders: torch modules with a configuration that `to_dict` writes.

    Attributes:
        kind: what config.json calls it; files that do not say hold a CompNet.
    """

    kind: ClassVar[str]

    @classmethod
    def from_config(cls, values: Json, feature_extractor: FeatureExtractor | None = None) -> Self:
        """With random tensors, from config.json; over that feature extractor, or over a new one."""
        ...

    @classmethod
    def tensor_shapes(cls, values: Json, feature_extractor: FeatureExtractor | None = None) -> dict[str, TensorShape]:
        """Of the tensors of the model that `from_config` gives, found without taking memory for it."""
        ...


M = TypeVar("M", bound=SavedModel)


def save_model(model: Any, folder: str | Path) -> None:
    """Save a model.

    Raises:
        CompNetError: if the disk is full or the place cannot be written; an earlier model is kept.
    """

    def fill(target: Path) -> None:
        save_tensors(target / "model.safetensors", model.state_dict())
        about = {"format": FORMAT, "version": __version__, "sha256": sha256_of(target / "model.safetensors")}
        write_json(target / "config.json", about | model.config.to_dict())
        (target / "meshes").mkdir()
        for category, mesh in model.cad_meshes.items():
            save_off(target / "meshes" / f"{category}.off", mesh)

    write_folder(folder, fill)


def find_model(model: str | Path) -> Path:
    """A model's folder.

    Args:
        model: that folder, a run's folder that holds it as `model`, or a name (see `compnet3d.models.named`).

    Raises:
        CompNetError: if there is none.
    """
    # a crash between the two renames of a save leaves the old copy, which is put back first
    folder = recover_folder(model)
    if not folder.exists():
        folder = named_model(folder) or folder
    if not folder.exists():
        names = ", ".join(kept_models())
        raise CompNetError(
            f"{folder}: does not exist; give the folder of a model or of a training run"
            + (f", or a name: {names}" if names else ", or make a first model with compnet3d quickstart")
        )
    if not is_file(folder / "model.safetensors"):
        inner = recover_folder(folder / "model")
        folder = inner if inner.exists() else folder
    if not is_file(folder / "model.safetensors"):
        raise CompNetError(f"{folder}: no model there (model.safetensors is missing); give the folder that train wrote")
    return folder


def model_kind(path: Path) -> str:
    """What kind of model a config.json or model.json is of.

    Raises:
        CompNetError: if it cannot be read.
    """
    values = read_json(path, 2**24)
    return str(values.get("kind", "compnet"))[:60] if isinstance(values, dict) else "compnet"


def load_model(folder: str | Path, kind: type[M], feature_extractor: torch.nn.Module | None = None) -> M:
    """Load a model for inference.

    Args:
        folder: see `find_model`.
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
    values = read_json(folder / "config.json", 2**24)
    about = _about_folder(values, folder / "config.json")
    model: Any = _build(values, folder / "config.json", kind, feature_extractor)
    load_tensors_into(model, folder / "model.safetensors")
    # last, since what the checks before it say of a file is more than that it has changed
    _check_sum(about, folder / "model.safetensors")
    for path in sorted(folder / "meshes" / f"{name}.off" for name in model.categories):
        if path.exists():
            model.cad_meshes[path.stem] = load_off(path)
    model.eval()
    loaded: M = model
    return loaded


def check_folder(folder: Path) -> Json:
    """Check that a model's folder is as it was written, without loading the model.

    Returns:
        Its config.json.

    Raises:
        CompNetError: if it is of another format, or its tensors have changed.
    """
    values = read_json(folder / "config.json", 2**24)
    _check_sum(
        _about_folder(dict(values) if isinstance(values, dict) else values, folder / "config.json"),
        folder / "model.safetensors",
    )
    found: Json = values
    return found


def _about_folder(values: Any, path: Path) -> Json:
    """Take out of a config.json what it says of its folder; what this version can read is checked.

    Raises:
        CompNetError: if a newer version wrote it, or none at all.
    """
    # what config.json says of the folder, beside the model's configuration
    names = ("format", "version", "sha256")
    about = {name: values.pop(name, None) for name in names} if isinstance(values, dict) else {}
    number = about.get("format")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise CompNetError(
            f"{path}: format is {shown(number)} but this version reads 1 to {FORMAT}; copy or train the model again"
        )
    if number > FORMAT:
        raise CompNetError(
            f"{path}: was written by compnet3d {shown(about['version'])} in format {shown(number)}, and this is "
            f"{__version__}, which reads formats 1 to {FORMAT}; install the newer version, or train the model again"
        )
    return about


def _check_sum(about: Json, path: Path) -> None:
    if about["format"] == 1:
        return  # earlier versions noted none
    if about["sha256"] != sha256_of(path):
        raise CompNetError(
            f"{path}: is not what was written with its config.json (the SHA-256 is another), after a copy that went "
            "wrong or a change by hand; copy or train the model again"
        )


def model_from_config(path: Path, kind: type[M], feature_extractor: torch.nn.Module | None = None) -> M:
    """A model with random tensors, as a JSON file of its configuration says (without a format's number).

    The file model.safetensors beside it must hold the tensors of such a model.

    Raises:
        CompNetError: naming the file, if one is missing or not a model's, or the first tensor that does not belong.
    """
    return _build(read_json(path, 2**24), path, kind, feature_extractor)


def _build(values: Any, path: Path, kind: type[M], module: torch.nn.Module | None) -> M:
    if (note := module_note(values, module)) is not None:
        raise CompNetError(f"{path}: {note}")
    with _reading_configuration(path):
        own = None if module is None else restore_module(BackboneConfig.from_dict(values["backbone"]), module)
        shapes = kind.tensor_shapes(values, own)
    # what the configuration promises takes memory only once the tensors are known to be there
    check_shapes(path.with_name("model.safetensors"), shapes)
    with _reading_configuration(path):
        return kind.from_config(values, own)


@contextmanager
def _reading_configuration(path: Path) -> Iterator[None]:
    """While a model's configuration is read: what makes no sense in it is one sentence."""
    # here and not above, so that importing the package stays light
    from huggingface_hub.errors import StrictDataclassError

    # whatever the classes of the model and of its backbone raise on numbers, types and names that make no sense
    nonsense = (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError, ArithmeticError)
    try:
        yield
    except (*nonsense, StrictDataclassError, CompNetError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise CompNetError(f"{path}: not a model's configuration ({reason}); copy or train the model again") from None
