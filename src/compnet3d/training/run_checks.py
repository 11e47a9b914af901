"""What may be done in a run's folder: begin, go on, or nothing, by what its config.json says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compnet3d.errors import CompNetError
from compnet3d.training.job import TrainingJob
from compnet3d.training.recipe import Recipe
from compnet3d.utils.files import is_taken, lock_in, read_json, remove_old
from compnet3d.utils.settings import known, leaves, read, shown


@dataclass(frozen=True)
class RunNotes:
    """What config.json says of a run besides its recipe; versions that noted less compare less.

    Attributes:
        seed: of everything random.
        without: categories that were left out.
        images_per_category, repeat: of the first data set, see `train`.
        counts: numbers of images.
    """

    seed: int | None = None
    without: tuple[str, ...] = ()
    images_per_category: int | None = None
    repeat: int | None = None
    counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, job: TrainingJob) -> RunNotes:
        """What a run's config.json says of it."""
        return cls(job.seed, job.without, job.images_per_category, job.repeat, job.counts)

    @classmethod
    def read(cls, path: Path) -> RunNotes:
        """From config.json.

        Raises:
            CompNetError: naming the file and the entry that is of another type.
        """
        try:
            return read(cls, known(cls, read_json(path)))
        except ValueError as error:
            raise CompNetError(
                f"{path}: is no configuration of a run ({error}); restore it, or train in another folder"
            ) from None


def check_folder(out: Path, recipe: Recipe, notes: RunNotes, *, resume: bool) -> None:
    """Check that a run may begin, or go on, in this folder, and remove what a killed one left half-written.

    One that stopped before its first checkpoint has nothing to lose: it may begin again with the same settings.

    Raises:
        CompNetError: if it holds another run, or none to resume, one with other settings, or something else.
    """
    config = out / "config.json"
    is_run = _is_of_run(config)
    # first of all: a crash may have left only the old copy, and the checks below would find the folder empty; but what
    # is not of a run is left as it is
    if is_run:
        remove_old(out / "checkpoint")
        remove_old(out / "model")
    if ((out / "checkpoint").exists() or (out / "model").exists()) and not resume:
        raise CompNetError(f"{out}: holds a run already; add --resume to go on with it, or choose another folder")
    if resume and not (out / "checkpoint").exists():
        raise CompNetError(f"{out}: has no checkpoint to resume from; train without --resume")
    if not resume and is_taken(out) and not (is_run and set(out.iterdir()) <= {config, lock_in(out)}):
        raise CompNetError(f"{out}: holds something else; give --out a new folder")
    if resume or is_run:
        check_config(config, recipe, notes)


def _is_of_run(path: Path) -> bool:
    """Whether a config.json is one that `write_config` wrote."""
    try:
        config = read_json(path)
    except CompNetError:
        return False
    return isinstance(config, dict) and {"recipe", "data", "seed"} <= config.keys()


def check_config(path: Path, recipe: Recipe, notes: RunNotes) -> None:
    """Check that a run's config.json has these settings; the counts are compared by `check_data`.

    Raises:
        CompNetError: naming what differs.
    """
    check_recipe(path, read_json(path), recipe)
    earlier = RunNotes.read(path)
    # runs that were started before `without` or the seed were noted have neither
    if sorted(earlier.without) != sorted(notes.without):
        left_out = ", ".join(earlier.without) or "leaving a category out"
        raise CompNetError(f"{path}: the run was started without {left_out}; resume with the same categories")
    if earlier.seed not in (None, notes.seed):
        raise CompNetError(f"{path}: was made with seed {earlier.seed}, not {notes.seed}; resume with that seed")
    for name in ("images_per_category", "repeat"):
        was, option = getattr(earlier, name), "--" + name.replace("_", "-")
        if was != getattr(notes, name):
            how = f"without {option}" if was is None else f"with {option} {was}"
            raise CompNetError(f"{path}: was made {how}; resume in the same way")


def check_data(run: Path, model: Path, categories: Sequence[str], **counts: int) -> None:
    """Check that a run was started on a data set with these categories, in this order, and so many images.

    A model numbers its categories, and a training draws its images by number: with others it would go on with wrong
    labels.

    Args:
        run: its folder; model: its model's configuration; counts: as in its config.json, those that are to be compared.

    Raises:
        CompNetError: naming what differs, or the broken file.
    """
    # the model's configuration, and not config.json, has the order: the categories' indices are in its tensors
    config = read_json(model)
    earlier = config.get("categories") if isinstance(config, dict) else None
    if not isinstance(earlier, list):
        raise CompNetError(f"{model}: has no categories; copy it again, or train in another folder")
    if earlier != list(categories):
        # text, since a broken file may hold anything, which could not be sorted beside names
        odd = sorted({shown(name).strip("'") for name in earlier} ^ set(categories))
        raise CompNetError(
            f"{run}: was trained on other categories than the data set has now "
            f"({', '.join(odd[:4]) or 'in another order'}); put its lists back as they were, or train in another "
            "folder"
        )
    # an older config.json has no counts, or fewer: nothing is compared then
    noted = RunNotes.read(run / "config.json").counts
    for name, count in counts.items():
        if noted.get(name, count) != count:
            what = "samples of more data" if name == "more" else name
            raise CompNetError(
                f"{run}: was started with {noted[name]} {what}, and there are {count} now; put the lists back as they "
                "were and give the same options, or train in another folder"
            )


def check_recipe(path: Path, config: Any, recipe: Recipe) -> None:
    """Refuse what was started with another recipe; settings that its version lacked have their defaults.

    Raises:
        CompNetError: naming the settings that differ.
    """
    names = recipe_differences(config, recipe)
    if names:
        raise CompNetError(
            f"{path}: the run was started with other settings ({', '.join(names[:4])}); resume with the same recipe "
            "and epochs (--recipe takes a run's config.json), or train in another folder"
        )


def recipe_differences(config: Any, recipe: Recipe) -> list[str]:
    """The settings in which the recipe of a config.json, or of what notes one alike, differs from another."""
    try:
        noted = Recipe.from_dict(config["recipe"])
    except (KeyError, TypeError, ValueError, AttributeError):
        # not a recipe of this version at all: everything differs
        return [name for name, _ in leaves(recipe)]
    if noted.method != recipe.method:
        # recipes of different methods do not have the same settings, so there is nothing to compare one by one
        return ["method"]
    earlier = dict(leaves(noted))
    return [name for name, value in leaves(recipe) if earlier[name] != value]
