"""Writes drawn data sets in the ImageNet3D raw layout: built-in categories, or anybody's CAD models.

Every random number comes from a generator seeded by (seed, category, instance, view), so the bytes do not depend on the
number of workers or on the order of their work.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from compnet3d.data.annotations import annotation_dict
from compnet3d.data.backgrounds import find_photographs
from compnet3d.data.imagenet3d import write_list, write_object
from compnet3d.data.symmetry import Symmetry, measure_mirror, save_symmetry
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import save_off
from compnet3d.procedural.cad import CadFile, CadFolder, find_models, load_cad
from compnet3d.procedural.categories import category, category_names
from compnet3d.procedural.deform import deformed
from compnet3d.procedural.model import Model, prepare
from compnet3d.procedural.palette import random_palette
from compnet3d.procedural.parts import Part
from compnet3d.procedural.photo.look import random_look
from compnet3d.procedural.photo.openness import Openness
from compnet3d.procedural.photo.picture import Body, draw_photo, sample_photo_view
from compnet3d.procedural.photo.pieces import Pieces
from compnet3d.procedural.scene import RenderedImage, draw, sample_view
from compnet3d.procedural.variation import PLAIN, Variation
from compnet3d.procedural.view import View
from compnet3d.procedural.views import views_picture
from compnet3d.utils.exclusive import building
from compnet3d.utils.files import write_bytes
from compnet3d.utils.workers import spread_out

# the view and the image that a generator stands for
_Painter = Callable[[np.random.Generator], tuple[View, RenderedImage]]


@dataclass(frozen=True)
class _Task:
    """All views of one instance.

    `source` is a category's number, or the CAD file to draw; `cad_index` is fixed for CAD files and found by likeness
    for built-in categories (0).
    """

    root: Path
    name: str
    source: int | CadFile
    instance: int
    views: tuple[int, ...]
    size: int
    seed: int
    variation: Variation
    cad_index: int = 0
    cad_instances: tuple[int, ...] = ()

    def names(self) -> list[str]:
        """Image names, such as car_i012_v03."""
        return [f"{self.name}_i{self.instance:03d}_v{view:02d}" for view in self.views]


@dataclass(frozen=True)
class RenderReport:
    """What `render_dataset` has to say.

    Attributes:
        categories: their names.
        unstated: suffixes of the files that state no axes, where none were given.
        notes: what was left out of models, one sentence each.
    """

    categories: tuple[str, ...]
    unstated: tuple[str, ...]
    notes: tuple[str, ...]


def make_dataset(
    out: str | Path,
    categories: int = 24,
    train: int = 120,
    val: int = 24,
    size: int = 128,
    seed: int = 0,
    workers: int | None = None,
    variation: Variation = PLAIN,
) -> list[str]:
    """Draw a data set of parametric objects: everyday categories first, then invented ones (shape0032, ...).

    Args:
        out: folder to make; it must not exist or be empty. It appears only when everything is written.
        categories: how many, >= 1.
        train, val: images of each category; instances of val are never in train.
        size: height and width of the images in pixels, >= 16.
        seed: the same seed gives the same bytes.
        workers: processes; None takes one per CPU, 1 works in this process.
        variation: how the images differ: views of each instance, style, photographs, angles.

    Returns:
        The categories' names.

    Raises:
        CompNetError: for impossible numbers, or if `out` is not empty or cannot be written.
    """
    cad_per_category = 4
    _check_numbers(categories=(categories, 1), train=(train, 0), val=(val, 0), size=(size, 16), seed=(seed, 0))
    _check_images(train, val)
    _check_backgrounds(variation)
    names = category_names(categories)
    with building(out) as root:
        tasks, table = [], {}
        for index, name in enumerate(names):
            plan = _plan(train, val, variation.views)
            # the CAD models are the first training instances; without training images, of the test ones
            shown = tuple(range(min(cad_per_category, max(1, len(plan["train"]) or len(plan["val"])))))
            _save_cad(root, name, [_instance(index, i, seed) for i in shown])
            table[name] = category(index).symmetry
            chosen = [
                _Task(root, name, index, i, v, size, seed, variation, cad_instances=shown)
                for s in plan
                for i, v in plan[s]
            ]
            tasks += chosen
            # before the images: the folder gets its name only when all is there
            _write_lists(root, name, chosen, len(plan["train"]))
        save_symmetry(root, table)
        _run(tasks, workers, f"drawing {categories} categories, {categories * (train + val)} images")
    return names


def render_dataset(
    cad: CadFolder | str | Path,
    out: str | Path,
    train: int = 120,
    val: int = 24,
    size: int = 128,
    seed: int = 0,
    workers: int | None = None,
    variation: Variation = PLAIN,
) -> RenderReport:
    """Draw a data set from CAD models: cad/{category}/01.off, 02.obj, ... of any format of `data.shapes`.

    An instance is a model in materials of its own, or in the colours that its file gives. A category with several
    models keeps its last one for val. Models are centred and scaled to unit diagonal. `symmetry.json` says of each
    category whether its models are mirror-symmetric, which is measured; nothing is claimed about rotations.
    `views/{category}.png` shows the models from the front and from the side, to see whether their axes are right.

    Args:
        cad: one folder for each category, and the axes of the files.
        out: folder to make; it must not exist or be empty.
        train, val: images of each category.
        size: height and width of the images in pixels, >= 16.
        seed: the same seed gives the same bytes.
        workers: processes; None takes one per CPU, 1 works in this process.
        variation: how the images differ: views of each instance, style, photographs, angles.

    Raises:
        CompNetError: as `make_dataset`, and for folders without models and for broken models, naming the file.
    """
    _check_numbers(train=(train, 0), val=(val, 0), size=(size, 16), seed=(seed, 0))
    _check_images(train, val)
    _check_backgrounds(variation)
    models = find_models(cad if isinstance(cad, CadFolder) else CadFolder(cad))
    unstated: dict[str, None] = {}
    notes: list[str] = []
    with building(out) as root:
        tasks, table = [], {}
        for name, files in models.items():
            loaded = [load_cad(file) for file in files]
            parts = [one.part for one in loaded]
            notes += [note for one in loaded for note in one.notes]
            unstated |= {
                file.path.suffix.lower(): None for file, one in zip(files, loaded, strict=True) if not one.stated
            }
            _save_cad(root, name, parts)
            write_bytes(root / "views" / f"{name}.png", views_picture(name, parts))
            table[name] = Symmetry(order=1, mirror=measure_mirror([part.mesh() for part in parts]))
            plan = _plan(train, val, variation.views)
            usable = {split: _models_for(split, len(files)) for split in plan}
            chosen = []
            for split in plan:
                for turn, (instance, shown) in enumerate(plan[split]):
                    number = usable[split][turn % len(usable[split])]
                    chosen.append(
                        _Task(root, name, files[number], instance, shown, size, seed, variation, cad_index=number + 1)
                    )
            tasks += chosen
            _write_lists(root, name, chosen, len(plan["train"]))
        save_symmetry(root, table)
        # instances of one model follow each other, so that each worker prepares few models
        tasks.sort(key=lambda task: (task.name, task.cad_index, task.instance))
        _run(tasks, workers, f"drawing {len(models)} categories, {len(models) * (train + val)} images")
    return RenderReport(tuple(models), tuple(unstated), tuple(notes))


def _check_numbers(**limits: tuple[int, int]) -> None:
    for name, (value, least) in limits.items():
        if value < least:
            raise CompNetError(f"{name} must be at least {least}, not {value}.")


def _check_images(train: int, val: int) -> None:
    if train + val < 1:
        raise CompNetError("train and val are both 0: ask for at least one image of each category.")


def _check_backgrounds(variation: Variation) -> None:
    if variation.backgrounds is not None:
        find_photographs(variation.backgrounds)


def _models_for(split: str, count: int) -> list[int]:
    """Numbers of a category's models that a split shows: of several, val has the last one and train the others."""
    if count < 2:
        return list(range(count))
    return list(range(count - 1)) if split == "train" else [count - 1]


def _plan(train: int, val: int, views: int) -> dict[str, list[tuple[int, tuple[int, ...]]]]:
    """Instance numbers and their views for each split; val goes on counting after train."""
    plan, first = {}, 0
    for split, images in zip(("train", "val"), (train, val), strict=True):
        # the last instance may have fewer views
        counts = [min(views, images - start) for start in range(0, images, views)]
        plan[split] = [(first + i, tuple(range(n))) for i, n in enumerate(counts)]
        first += len(counts)
    return plan


def _write_lists(root: Path, name: str, tasks: Sequence[_Task], train_instances: int) -> None:
    for split, part in zip(("train", "val"), (tasks[:train_instances], tasks[train_instances:]), strict=True):
        write_list(root, name, split, [image for task in part for image in task.names()])


def _save_cad(root: Path, name: str, parts: Sequence[Part]) -> None:
    folder = root / "CAD" / name
    folder.mkdir(parents=True)
    for number, part in enumerate(parts, start=1):
        save_off(folder / f"{number:02d}.off", part.mesh())


def _generator(seed: int, name: str, *rest: int) -> np.random.Generator:
    # the rest is (instance, purpose[, view]): 0 shape, 1 materials, 2 the view, 3 the deformation; adding views or
    # instances changes no other
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *rest])


# in each worker: every task compares its instance with the category's CAD models
@lru_cache(maxsize=64)
def _instance(index: int, instance: int, seed: int) -> Part:
    made = category(index)
    return made.instance(_generator(seed, made.name, instance, 0))


@lru_cache(maxsize=4)
def _cad_model(file: CadFile) -> Model:
    return prepare(load_cad(file).part)


@lru_cache(maxsize=4)
def _cad_openness(file: CadFile) -> Openness:
    return Openness(_cad_model(file).mesh)


@lru_cache(maxsize=4)
def _cad_pieces(file: CadFile) -> Pieces:
    return Pieces.of(_cad_model(file), _cad_openness(file))


def _likest(part: Part, others: Sequence[Part]) -> int:
    """1-based number of the part whose extents are nearest."""

    def extents(p: Part) -> np.ndarray:
        low, high = p.bounds()
        return high - low

    return 1 + int(np.argmin([np.abs(extents(part) - extents(o)).sum() for o in others]))


def _draw_task(task: _Task) -> int:
    """Draw all views of one instance; returns their number."""
    if isinstance(task.source, CadFile):
        model, cad_index = _cad_model(task.source), task.cad_index
    else:
        part = _instance(task.source, task.instance, task.seed)
        model = prepare(part)
        cad_index = _likest(part, [_instance(task.source, i, task.seed) for i in task.cad_instances])
    rest, amount = model, task.variation.deform
    if amount:
        model = deformed(_generator(task.seed, task.name, task.instance, 3), rest, amount)
    painter = _plain_painter(task, model) if task.variation.style == "plain" else _photo_painter(task, model, rest)
    for view_number, name in zip(task.views, task.names(), strict=True):
        view, image = painter(_generator(task.seed, task.name, task.instance, 2, view_number))
        entry = annotation_dict(
            category=task.name,
            azimuth=view.azimuth,
            elevation=view.elevation,
            theta=view.theta,
            distance=view.distance,
            focal=view.focal,
            principal_point=view.principal_point,
            bbox=image.bbox,
            width=task.size,
            height=task.size,
            cad_index=cad_index,
            # so that `focal` in the file is 1, as in most files of ImageNet3D
            viewport=round(view.focal),
        )
        write_object(task.root, task.name, name, image.image, [entry], image.mask)
    return len(task.views)


def _plain_painter(task: _Task, model: Model) -> _Painter:
    palette = random_palette(_generator(task.seed, task.name, task.instance, 1), task.name)

    def paint(rng: np.random.Generator) -> tuple[View, RenderedImage]:
        view = sample_view(rng, model.mesh, task.size, task.variation)
        return view, draw(model, palette, view, rng)

    return paint


def _photo_painter(task: _Task, model: Model, rest: Model) -> _Painter:
    rng, folder = _generator(task.seed, task.name, task.instance, 1), task.variation.backgrounds
    if isinstance(task.source, CadFile):
        openness = _cad_openness(task.source)
        look = random_look(rng, rest, _cad_pieces(task.source), folder)
    else:
        openness = Openness(rest.mesh)
        look = random_look(rng, rest, None, folder)

    def paint(rng: np.random.Generator) -> tuple[View, RenderedImage]:
        view = sample_photo_view(rng, model.mesh, task.size, task.variation)
        return view, draw_photo(Body(model, rest, openness), look, view, rng, folder)

    return paint


def _run(tasks: Sequence[_Task], workers: int | None, description: str) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=False) as progress:
        bar = progress.add_task(description, total=sum(len(task.views) for task in tasks))
        # closed before the folder goes that the processes write into
        with closing(spread_out(_draw_task, tasks, workers)) as results:
            for done in results:
                progress.advance(bar, done)
