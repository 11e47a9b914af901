"""`compnet3d runs`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from compnet3d.cli.options import File, require_folder, write_or_print


@dataclass(frozen=True)
class Runs:
    """List training runs: what was trained on what, how far it is, how it went, and evaluations found beside it."""

    folders: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR...", help_behavior_hint="(default: runs)")]
    """Folders of runs, or folders that hold some."""
    plot: File = None
    """Draw loss and calibration accuracy of each epoch, one line a run, into this file (.png or .svg; needs the extra
    viz)."""
    json: File = None
    """Write the same to this file too; - writes it to the standard output instead of tables."""

    def run(self) -> None:
        """Look, print, draw."""
        for folder in self.folders or (Path("runs"),):
            require_folder(folder, "DIR")
        from compnet3d.reporting.runs import find_runs, print_runs

        if self.plot is not None:
            from compnet3d.reporting.plots import check_figure

            check_figure(self.plot, "--plot")
        runs = find_runs(self.folders or (Path("runs"),))
        write_or_print(self.json, {"runs": [run.to_dict() for run in runs]}, lambda: print_runs(runs))
        if self.plot is not None:
            from compnet3d.reporting.plots import save_figure
            from compnet3d.reporting.run_plot import plot_runs

            save_figure(plot_runs(runs), self.plot)
            if self.json != Path("-"):
                print(f"wrote {self.plot}")
