"""`compnet3d doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from compnet3d.cli.options import File, write_or_print


@dataclass(frozen=True)
class Doctor:
    """Say what is installed, what this machine has, what is missing for which feature, and whether all works.

    Ends with status 0 if models can be trained and predict here, else 1.
    """

    data: Annotated[Path, arg(metavar="DIR")] = Path()
    """A data set, near which pretrained weights are looked for too."""
    json: File = None
    """Write what was found to this file too; - writes it to the standard output instead of tables."""

    def run(self) -> None:
        """Look, print, and end with the status."""
        from compnet3d.reporting.installation import examine, print_checks, to_dict, works

        checks = examine(self.data)
        write_or_print(self.json, to_dict(checks), lambda: print_checks(checks))
        if not works(checks):
            raise SystemExit(1)
