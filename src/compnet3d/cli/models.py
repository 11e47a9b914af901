"""`compnet3d models`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg, subcommand

from compnet3d.cli.options import Flag, Folder
from compnet3d.errors import CompNetError


@dataclass(frozen=True)
class ModelsPush:
    """Publish a model on the Hugging Face hub, with a card of what it was trained on and how well it does.

    Log in before with hf auth login, or set HF_TOKEN.
    """

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """A model: a folder of a training run, or a name that it is kept by."""
    name: Annotated[Positional[str], arg(metavar="OWNER/NAME")]
    """Its name on the hub; a new one is made."""
    licence: Annotated[str, arg(metavar="NAME")]
    """Its licence, as the hub calls it: cc-by-4.0, mit, other and so on. The training data may not allow any."""
    metrics: Annotated[tuple[Path, ...], arg(metavar="FILE ...", help_behavior_hint="")] = ()
    """What evaluate --json wrote, of plain and of occluded images, for the card."""
    about: Annotated[str, arg(metavar="TEXT", help_behavior_hint="")] = ""
    """What else the card shall say."""
    private: Flag = False
    """Let only its owner see a new one."""
    dry_run: Folder = None
    """Write everything into this new folder to look at, and send nothing."""

    def run(self) -> None:
        """Publish, and say where."""
        from compnet3d.reporting.publishing import push_to_hub

        place = push_to_hub(
            self.model,
            self.name,
            licence=self.licence,
            metrics=self.metrics,
            about=self.about,
            private=self.private,
            dry_run=self.dry_run,
        )
        print(f"published: {place}" if self.dry_run is None else f"wrote {place}; nothing was sent")


@dataclass(frozen=True)
class ModelsList:
    """List the models that are kept by name on this machine."""

    def run(self) -> None:
        """Print a table."""
        _print_models()


@dataclass(frozen=True)
class Models:
    """List the models that are kept by name on this machine, keep one more, or publish one."""

    command: Annotated[ModelsPush, subcommand("push")] | Annotated[ModelsList, subcommand("list")] = ModelsList()
    keep: Folder = None
    """Keep the model of this training run."""
    name: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """The name to keep it by; what had the name before is replaced."""

    def run(self) -> None:
        """Keep, or do what the command says."""
        from compnet3d.models.named import keep_model

        if (self.keep is None) != (self.name is None):
            raise CompNetError("--keep and --name belong together: give both, or neither")
        if self.keep is None or self.name is None:
            self.command.run()
        elif isinstance(self.command, ModelsPush):
            raise CompNetError("keep a model, or publish one: leave out --keep and --name, or push")
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
