"""`compnet3d add-category`, `remove-category` and `rename-category`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from compnet3d.cli.evaluate import load_model
from compnet3d.cli.options import Count, Device, Flag, Folder, Names, at_least, require_folder
from compnet3d.errors import CompNetError

if TYPE_CHECKING:
    from compnet3d.data.sample import Sample
    from compnet3d.models.compnet import CompNet
    from compnet3d.training.data import TrainingData
    from compnet3d.training.recipe import Recipe


@dataclass(frozen=True)
class AddCategory:
    """Teach a trained model new categories from 5 to 50 posed images each; those that it knows stay."""

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """The run's folder, or a model's, or its name. It is not changed."""
    data: Annotated[Path, arg(metavar="DIR")]
    """A data set with images, poses and a CAD model of the new categories, whose train list is taken."""
    out: Annotated[Path, arg(metavar="FOLDER")]
    """A new folder for the larger model."""
    categories: Names = ()
    """Categories of --data to add; by default all that the model does not know."""
    images: Count = None
    """Take so many images of each new category, spread over its objects; all of them by default."""
    old_data: Folder = None
    """The data set that the model was trained on: the new vertices are contrasted with some of its images, and the
    confidences of a run's model are fitted anew on those that the run held out."""
    tune: Flag = False
    """Also tune the network: more new images are found, and some old ones taken for new ones; --old-data helps."""
    epochs: Count = None
    """Epochs of the tuning; 5 by default."""
    recipe: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """The recipe that the model was trained with, for --tune; a run's folder as MODEL says it."""
    seed: int = 0
    """Seed of everything random."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""

    def run(self) -> None:
        """Learn, save, say what was done."""
        at_least(1, images=self.images, epochs=self.epochs)
        at_least(0, seed=self.seed)
        require_folder(self.data, "--data")
        require_folder(self.old_data, "--old-data")
        from compnet3d.training.growing import GrowSettings, add_categories, calibrate_grown, read_new, without_samples
        from compnet3d.utils.exclusive import require_empty

        require_empty(self.out)
        recipe = self._recipe() if self.tune else None
        model = load_compnet(self.model, self.device)
        data = read_new(self.data, model, self.categories, self.images, self.seed)
        old, held_out = self._old(model)
        counts = {name: sum(sample.category == name for sample in data.samples) for name in data.categories}
        shown = ", ".join(f"{name} from {count} images" for name, count in counts.items())
        print(f"adding {shown} to the {len(model.categories)} categories that are there", flush=True)
        rest = None if old is None else without_samples(old, held_out)
        grown = add_categories(model, data, rest, GrowSettings(seed=self.seed))
        if recipe is not None:
            grown = self._tuned(grown, data, recipe, rest)
        if held_out:
            calibrate_grown(grown, held_out)
            print(f"the confidences were fitted anew on {len(held_out)} images that {self.model} had held out")
        else:
            print(
                f"the confidences are those from before; to fit them on a list of images of all categories that no "
                f"training has seen: compnet3d calibrate {self.out} --data DIR --split LIST"
            )
        save(grown, self.out)

    def _old(self, model: CompNet) -> tuple[TrainingData | None, list[Sample]]:
        """What is known of the old categories, and which of it a run's model was not trained on."""
        if self.old_data is None:
            return None, []
        from compnet3d.training.growing import read_old
        from compnet3d.training.held_out import held_out_samples

        old = read_old(self.old_data, model)
        if not self._is_run():
            return old, []
        held_out, epochs = held_out_samples(self.model, old.samples)
        if epochs:
            print(f"the last {epochs} epochs of the run trained on the images that it held out before, too")
        return old, held_out

    def _tuned(self, grown: CompNet, data: TrainingData, recipe: Recipe, old: TrainingData | None) -> CompNet:
        from compnet3d.training.tuning import TuneSettings, tuned

        settings = TuneSettings(seed=self.seed)
        settings = settings if self.epochs is None else replace(settings, epochs=self.epochs)
        print(f"tuning for {settings.epochs} epochs", flush=True)
        return tuned(grown, data, recipe, old, settings)

    def _is_run(self) -> bool:
        return (self.model / "model").is_dir() and (self.model / "config.json").is_file()

    def _recipe(self) -> Recipe:
        """What the model was trained with."""
        from compnet3d.training.builtin_recipes import get_recipe

        if self.recipe is None and not self._is_run():
            raise CompNetError(f"{self.model}: is no run's folder, which would say its recipe; give --tune a --recipe")
        return get_recipe(self.recipe or str(self.model / "config.json"))


@dataclass(frozen=True)
class RemoveCategory:
    """Take categories out of a trained model; what it holds of the others stays as it is, to the bit."""

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """The run's folder, or a model's, or its name. It is not changed."""
    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME ...")]
    """The categories."""
    out: Annotated[Path, arg(metavar="FOLDER")]
    """A new folder for the smaller model."""

    def run(self) -> None:
        """Remove, save."""
        from compnet3d.models.category_models import remove_categories

        if not self.names:
            raise CompNetError("no category to remove; name one")
        save(remove_categories(load_compnet(self.model, "cpu"), self.names), self.out)


@dataclass(frozen=True)
class RenameCategory:
    """Give a category of a trained model another name."""

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """The run's folder, or a model's, or its name. It is not changed."""
    old: Annotated[Positional[str], arg(metavar="OLD")]
    """The name that it has."""
    new: Annotated[Positional[str], arg(metavar="NEW")]
    """The name that it gets."""
    out: Annotated[Path, arg(metavar="FOLDER")]
    """A new folder for the model."""

    def run(self) -> None:
        """Rename, save."""
        from compnet3d.models.category_models import rename_category

        save(rename_category(load_compnet(self.model, "cpu"), self.old, self.new), self.out)


def load_compnet(path: Path, device: str) -> CompNet:
    """Load a model whose categories can be taken apart."""
    from compnet3d.models.compnet import CompNet

    model = load_model(path, device)
    if not isinstance(model, CompNet):
        raise CompNetError(
            f"{path}: is a dual head, whose one classifier knows all categories together; train it again with others"
        )
    return model


def save(model: CompNet, out: Path) -> None:
    """Write a model into a folder that is new or empty, and say so."""
    from compnet3d.utils.exclusive import building

    with building(out) as folder:
        model.save_pretrained(folder)
    print(f"wrote {out}, {len(model.categories)} categories: {', '.join(model.categories)}")
