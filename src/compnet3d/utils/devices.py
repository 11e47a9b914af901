"""Which devices PyTorch has here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from compnet3d.errors import CompNetError


def require_device(name: str) -> str:
    """The name of a device, once a tensor could be put there and read back.

    Raises:
        CompNetError: if there is no such device.
    """
    try:
        kind = torch.device(name).type
    except (RuntimeError, TypeError):
        raise CompNetError(f"--device {name}: unknown; use auto, cpu or cuda") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.zeros(1, device=name).cpu()
    except Exception:  # each kind of device that is not there raises something else
        what = "GPU" if name == kind == "cuda" else "such device"
        raise CompNetError(f"--device {name}: PyTorch finds no {what} here; use --device cpu") from None
    return name


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Let sums on an accelerator be made in one order, so that they have the same bits each time; a CPU does anyway."""
    if device.type == "cpu" or torch.are_deterministic_algorithms_enabled():
        yield
        return
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
