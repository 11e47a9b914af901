"""Which devices PyTorch has here."""

from __future__ import annotations

import warnings

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
