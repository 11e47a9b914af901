"""`compnet3d models`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from compnet3d.cli.options import Folder
from compnet3d.errors import CompNetError


@dataclass(frozen=True)
class Models:
    """List the models that are kept by name on this machine, or keep one more."""

    keep: Folder = None
    """Keep the model of this training run."""
    name: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """The name to keep it by; what had the name before is replaced."""

    def run(self) -> None:
        """Keep, or print a table."""
        from compnet3d.models.named import keep_model

        if (self.keep is None) != (self.name is None):
            raise CompNetError("--keep and --name belong together: give both, or neither")
        if self.keep is None or self.name is None:
            _print_models()
        else:
            print(f"kept as the model {self.name}: {keep_model(self.keep, self.name)}")


def _print_models() -> None:
    from compnet3d.models.checkpoint import find_model, model_kind
    from compnet3d.models.named import kept_models, models_folder
    from compnet3d.reporting.terminal import new_table, terminal
    from compnet3d.utils.files import read_json

    names = kept_models()
    if not names:
        print(f"no model is kept in {models_folder()}; compnet3d quickstart makes a first one")
        return
    print(f"in {models_folder()}:")
    table = new_table("", ("model", "kind", "categories"))
    for name in names:
        path = find_model(models_folder() / name) / "config.json"
        table.add_row(name, model_kind(path), ", ".join(read_json(path, 2**24)["categories"]))
    terminal().print(table)
