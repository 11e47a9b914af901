"""Tensors in safetensors files: written, looked at, and loaded into modules and optimisers. Nothing is unpickled."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from compnet3d.errors import CompNetError
from compnet3d.utils.files import open_regular

TensorShape = tuple[int, ...]


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors to a safetensors file; a full disk raises OSError like any other write."""
    try:
        # safetensors stores plain rows: channels-last weights and views are laid out anew
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path)
    except SafetensorError as error:
        # safetensors hides the operating system's error in its text
        code = errno.ENOSPC if "No space left" in str(error) else errno.EIO
        raise OSError(code, str(error), str(path)) from None


def read_shapes(path: Path) -> dict[str, TensorShape]:
    """Names and shapes of a safetensors file's tensors: what its header says, which takes no memory for them.

    Raises:
        CompNetError: if the file is missing or broken, or is no regular file.
    """
    with _opening(path), safe_open(path, framework="pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CompNetError: if the file is missing or broken, or is no regular file.
    """
    with _opening(path):
        return load_file(path)


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    """While a library opens a safetensors file: only if it is one, and whatever is wrong in it is one sentence."""
    try:
        # the library would wait for a FIFO, and take memory for a header of any length
        with open_regular(path, 2**44) as file:
            start = file.read(64)
        if start[8:9] != b"{":  # what stands before it is the header's length, which could be any of these bytes
            raise CompNetError(f"{path}: is {_other_kind(start)}")
        if int.from_bytes(start[:8], "little") > 2**25:
            raise ValueError("the header is too large")
        yield
    except OSError as error:
        raise CompNetError(f"{path}: cannot be read ({error}); copy or train the model again") from None
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CompNetError(f"{path}: is no safetensors file ({error}); copy or train the model again") from None


def _other_kind(start: bytes) -> str:
    """What a file is that begins like this and is no safetensors file, and what to do about it."""
    if not start:
        return "no safetensors file (it is empty); copy or train the model again"
    if start.startswith(b"PK\x03\x04"):
        return "what torch.save writes, which is not read; convert it"
    if start[0] == 0x80 and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):  # the protocols that begin so
        return "a pickle, which is not read; convert it"
    if start.startswith(b"\x1f\x8b"):
        return "packed (gzip); unpack it"
    if start.lstrip().startswith(b"<"):
        return "a web page; download the file itself"
    if start.isascii() and (text := " ".join(start.decode().split())).isprintable():
        return f"a text that begins with {text[:40]!r}; download the file itself"
    return "no safetensors file; copy or train the model again"


def check_shapes(path: Path, wanted: Mapping[str, TensorShape]) -> None:
    """Check by its header that a safetensors file holds just these tensors.

    Raises:
        CompNetError: naming the first tensor that is missing, unexpected or of another shape.
    """
    found = read_shapes(path)
    for kind, names in (("missing", wanted.keys() - found.keys()), ("unexpected", found.keys() - wanted.keys())):
        if names:
            raise CompNetError(
                f"{path}: {kind} tensor {sorted(names)[0]} ({len(names)} in all); "
                "the file does not belong to its config.json, copy or train the model again"
            )
    for name, shape in wanted.items():
        if found[name] != tuple(shape):
            raise CompNetError(
                f"{path}: tensor {name} has shape {list(found[name])}, its config.json asks for "
                f"{list(shape)}; copy or train the model again"
            )


def load_tensors_into(module: torch.nn.Module, path: Path) -> None:
    """Load every tensor of a module, strictly; it may say with a `check_loaded` what else must be so.

    Raises:
        CompNetError: naming the first tensor that is missing, unexpected, of another shape or type, or not finite.
    """
    wanted = module.state_dict()
    check_shapes(path, {name: tuple(tensor.shape) for name, tensor in wanted.items()})
    loaded = load_tensors(path)
    for name, tensor in wanted.items():
        found = loaded[name].dtype
        if found != tensor.dtype and not (found.is_floating_point and tensor.is_floating_point()):
            raise CompNetError(
                f"{path}: tensor {name} holds {found}, not {tensor.dtype}; copy or train the model again"
            )
    check_finite(path, loaded)
    module.load_state_dict(loaded)
    check_loaded: Any = getattr(module, "check_loaded", lambda: None)
    try:
        check_loaded()
    except ValueError as error:
        raise CompNetError(f"{path}: {error}; copy or train the model again") from None


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Check that a model's tensors hold finite numbers; the logarithm of no share at all is minus infinity.

    Raises:
        CompNetError: naming the first tensor that does not.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel():
            least, largest = tensor.float().aminmax()
            # not a number is neither below nor above
            if not largest < torch.inf or not (least > -torch.inf or name.endswith("log_share")):
                raise CompNetError(
                    f"{path}: the model holds numbers that are not finite (first in tensor {name}); train it again"
                )


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
    """Load an AdamW's state that `flatten_state` wrote.

    Args:
        optimizer: of the same parameters.
        path: the safetensors file.
        names: of the parameters, by their number in the optimiser.

    Raises:
        CompNetError: naming the file and the first tensor that is missing, unexpected, of another shape or not finite.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    tensors, whole = load_tensors(path), optimizer.state_dict()
    try:
        # into the new optimiser's own groups and settings: only what it has gathered comes from the file
        whole["state"] = unflatten_state(tensors, names)
        for number, values in whole["state"].items():
            _check_moments(names[number], values, parameters[number])
    except ValueError as error:
        raise CompNetError(f"{path}: {error}; copy the checkpoint again or train without --resume") from None
    optimizer.load_state_dict(whole)
    # a fused optimiser walks raw memory, so its state must lie in memory as the parameter does
    for parameter, values in optimizer.state.items():
        for entry, value in values.items():
            if value.shape == parameter.shape:
                values[entry] = torch.empty_like(parameter).copy_(value)


def _check_moments(name: str, values: Mapping[str, Tensor], parameter: Tensor) -> None:
    """Check what AdamW keeps of a parameter: the number of steps and two means."""
    shapes = {"step": torch.Size(()), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
    for entry in sorted(shapes.keys() | values.keys()):
        if entry not in values or entry not in shapes:
            raise ValueError(f"has {'no' if entry in shapes else 'an unexpected'} tensor {name}//{entry}")
        tensor = values[entry]
        if tensor.shape != shapes[entry] or not tensor.is_floating_point():
            raise ValueError(f"tensor {name}//{entry} has shape {list(tensor.shape)} and type {tensor.dtype}")
        if not bool(tensor.isfinite().all()) or (entry != "exp_avg" and bool((tensor < 0).any())):
            raise ValueError(f"tensor {name}//{entry} holds numbers that no training leaves there")
