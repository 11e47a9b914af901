"""Where metrics come from: the command, the kind of machine, the date."""

from __future__ import annotations

import datetime
import os
import platform

import torch

from compnet3d import __version__


def provenance(command: str) -> dict[str, str]:
    """What every file of metrics says of its origin."""
    today = datetime.date.today().isoformat()
    return {"command": command, "machine": machine_class(), "date": today, "version": __version__}


def machine_class() -> str:
    """What kind of machine this is, without its name: cores, processor, memory, GPU, software."""
    # no host or user name: these files are published
    parts = [f"{os.cpu_count()} cores", platform.machine() or "unknown processor"]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        gigabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
        parts.append(f"{gigabytes:.0f} GB memory")
    parts.append(torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")
    parts += [platform.system(), f"Python {platform.python_version()}", f"PyTorch {torch.__version__}"]
    return ", ".join(parts)
