"""The tensors of a pretrained backbone's folder: one safetensors file, or several with an index."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from compnet3d.errors import CompNetError
from compnet3d.models.tensors import TensorShape, load_tensors, read_shapes
from compnet3d.utils.files import is_file, read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# of a hub's repository: what is read here, and no code
FETCHED = ("config.json", "preprocessor_config.json", SINGLE, INDEX, "model-*-of-*.safetensors")


@dataclass(frozen=True)
class WeightFiles:
    """Where the tensors of a folder are, as its files' headers say; nothing is loaded yet.

    Attributes:
        path: what to name in a message: the only file, or the index.
        shapes: of the tensors, by file.
    """

    path: Path
    shapes: Mapping[Path, Mapping[str, TensorShape]]

    @classmethod
    def of(cls, folder: Path) -> WeightFiles:
        """Look into a folder.

        Raises:
            CompNetError: if there are none, only ones of a format that is not read, or not all that the index names.
        """
        if os.path.lexists(folder / SINGLE):
            return cls(folder / SINGLE, {folder / SINGLE: read_shapes(folder / SINGLE)})
        if os.path.lexists(folder / INDEX):
            return cls(folder / INDEX, _sharded(folder))
        raise CompNetError(f"{folder}: cannot load the backbone's weights: {_advice(folder)}")

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return sum(math.prod(shape) for tensors in self.shapes.values() for shape in tensors.values())

    def load(self, prefix: str = "") -> dict[str, Tensor]:
        """The tensors whose names begin with that, of all files.

        Raises:
            CompNetError: naming the file that is broken.
        """
        return {
            name: tensor
            for path in self.shapes
            for name, tensor in load_tensors(path).items()
            if name.startswith(prefix)
        }


def _sharded(folder: Path) -> Mapping[Path, Mapping[str, TensorShape]]:
    index = folder / INDEX
    values = read_json(index, 2**26)
    places = values.get("weight_map") if isinstance(values, dict) else None
    if not isinstance(places, dict) or not places:
        raise CompNetError(f"{index}: has no weight_map, which says where each tensor is; copy it again")
    names = sorted({str(name) for name in places.values()})
    for name in names:
        # a plain name: an index must not reach out of its folder
        if not name.endswith(".safetensors") or Path(name).name != name or "\\" in name or name.startswith("."):
            raise CompNetError(f"{index}: names {name[:60]!r}, which is no safetensors file beside it; copy it again")
        if not is_file(folder / name):
            raise CompNetError(
                f"{folder / name}: is missing, one of {len(names)} files that {INDEX} names; copy all of them again"
            )
    shapes = {folder / name: read_shapes(folder / name) for name in names}
    for tensor, name in places.items():
        if tensor not in shapes[folder / name]:
            raise CompNetError(
                f"{folder / name}: lacks the tensor {tensor[:100]}, which {INDEX} promises; copy it again"
            )
    return shapes


def _advice(folder: Path) -> str:
    """What to do about a folder without a file of the right name."""
    # what other programs leave in place of it; some of these are pickles, which run code when they are opened
    others = ("pytorch_model*.bin", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack", "*.safetensors")
    found = next(
        (path.name for pattern in others for path in sorted(folder.glob(pattern)) if not path.name.startswith(".")),
        None,
    )
    if found is None:
        return f"put there a {SINGLE}"
    if found.endswith(".safetensors"):
        return f"{found} is there, and no {INDEX}; rename it to {SINGLE}, or copy the index of all its parts, too"
    how = f"transformers.AutoModel.from_pretrained({str(folder)!r}).save_pretrained(FOLDER) writes one"
    return f"{found} is not read; convert it to {SINGLE}, where you trust it: {how}"
