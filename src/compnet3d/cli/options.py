"""What the subcommands share: types of options, and the checks that come before anything slow."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import UseAppendAction, arg

from compnet3d.errors import CompNetError

if TYPE_CHECKING:
    from compnet3d.robustness.shift import Shift
    from compnet3d.utils.files import Json

Device = Annotated[str, arg(metavar="auto|cpu|cuda")]
Box = Annotated[tuple[float, float, float, float] | None, arg(metavar="X1 Y1 X2 Y2", help_behavior_hint="")]
File = Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")]
Folder = Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")]
DataSets = Annotated[tuple[str, ...], arg(metavar="DIR ...", help_behavior_hint="")]
Number = Annotated[int, arg(metavar="N")]
Count = Annotated[int | None, arg(metavar="N", help_behavior_hint="")]
Names = Annotated[tuple[str, ...], arg(metavar="NAME ...", help_behavior_hint="")]
Settings = UseAppendAction[Annotated[tuple[str, ...], arg(metavar="NAME=VALUE", help_behavior_hint="")]]
ShardText = Annotated[str | None, arg(metavar="I/N", help_behavior_hint="")]
Flag = Annotated[bool, arg(help_behavior_hint="")]
Level = Annotated[Literal["L1", "L2", "L3"] | None, arg(metavar="L1|L2|L3", help_behavior_hint="")]
Corruption = Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")]
Severity = Annotated[int, arg(metavar="1..5")]

Occluders = Annotated[str, arg(metavar="blobs|objects|DIR")]
Protocol = Annotated[Literal["generator", "paper"], arg(metavar="generator|paper")]


def at_least(minimum: int, **options: float | None) -> None:
    """Check options that are numbers; None stands for a default."""
    for name, value in options.items():
        if value is not None and value < minimum:
            raise CompNetError(f"--{name.replace('_', '-')} must be at least {minimum}, not {value}")


def require_folder(path: Path | None, option: str) -> None:
    """Check that a folder, if one was given, exists before anything slow starts."""
    if path is None:
        return
    if not path.exists():
        raise CompNetError(f"{path}: does not exist; give {option} an existing folder")
    if not path.is_dir():
        raise CompNetError(f"{path}: is not a folder; give {option} a folder")


def require_data(where: str, option: str) -> None:
    """Check that a data set exists before anything slow starts; a packed one is looked for when it is opened."""
    from compnet3d.data.packed import is_packed

    if not is_packed(where):
        require_folder(Path(where), option)


def say_made(out: Path, note: str = "") -> None:
    """Say where a data set is, or which shards are missing before it is made."""
    from compnet3d.utils.shards import missing_shards

    missing = missing_shards(out)
    if not missing:
        print(f"the data set is in {out}{note}")
        return
    shown = ", ".join(map(str, missing[:8])) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
    count = "1 shard is" if len(missing) == 1 else f"{len(missing)} shards are"
    print(f"this shard is done; {count} missing before {out} is made: {shown}")


def checked_shift(*, frost: Path | None = None, backgrounds: Path | None = None, **settings: Any) -> Shift:
    """The shift with these settings, whose folders exist; checked before anything slow starts."""
    from compnet3d.robustness.shift import Shift

    folders = {"frost": frost, "backgrounds": backgrounds}
    settings |= {name: None if folder is None else str(folder) for name, folder in folders.items()}
    shift = Shift(**settings)
    if shift.occluders not in ("blobs", "objects"):
        require_folder(Path(shift.occluders), "--occluders (blobs, objects or a folder)")
    for name, folder in folders.items():
        require_folder(folder, f"--{name}")
    return shift


def choose_device(name: str) -> str:
    """The name of a device that PyTorch has here; "auto" takes the GPU if there is one."""
    import torch

    from compnet3d.utils.devices import require_device

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return require_device(name)


def run_log(path: Path) -> Path | None:
    """The log of the training run that a model folder belongs to, if it is there."""
    # the run's folder was given, or the model in it
    candidates = (path / "log.jsonl", path.parent / "log.jsonl")
    return next((file for file in candidates if file.is_file()), None)


def write_or_print(json: Path | None, values: Json, print_tables: Callable[[], None]) -> None:
    """Print tables and write the values to a JSON file, or print them as JSON instead of tables where that is -."""
    import json as encoder

    from compnet3d.utils.files import write_json

    if json == Path("-"):
        print(encoder.dumps(values, indent=2))
        return
    print_tables()
    if json is not None:
        write_json(json, values)
        print(f"wrote {json}")


def command_line() -> str:
    """The command as it was typed."""
    import shlex

    return shlex.join(["compnet3d", *sys.argv[1:]])
