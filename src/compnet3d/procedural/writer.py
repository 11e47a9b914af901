"""Writes drawn data sets in the ImageNet3D raw layout: built-in categories, or anybody's CAD models.

Every random number comes from a generator seeded by (seed, category, instance, view), so the bytes do not depend on the
number of workers or on the order of their work.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import Unpack

from compnet3d.data.annotations import annotation_dict
from compnet3d.data.imagenet3d import write_list, write_object
from compnet3d.data.symmetry import Symmetry, measure_mirror, save_symmetry
from compnet3d.geometry.mesh import save_off
from compnet3d.procedural.cad import CadFile, CadFolder, find_models, load_cad
from compnet3d.procedural.categories import category, category_names
from compnet3d.procedural.deform import deformed
from compnet3d.procedural.drawing import Drawing, DrawOptions, check_numbers
from compnet3d.procedural.model import Model, prepare
from compnet3d.procedural.palette import random_palette
from compnet3d.procedural.parts import Part
from compnet3d.procedural.photo.look import random_look
from compnet3d.procedural.photo.openness import Openness
from compnet3d.procedural.photo.picture import Body, draw_photo, sample_photo_view
from compnet3d.procedural.photo.pieces import Pieces
from compnet3d.procedural.scene import RenderedImage, draw, sample_view
from compnet3d.procedural.variation import Variation
from compnet3d.procedural.view import View
from compnet3d.procedural.views import views_picture
from compnet3d.utils.files import Json, write_bytes
from compnet3d.utils.shards import build_in_shards, require_free
from compnet3d.utils.workers import spread_out

# the view and the image that a generator stands for
_Painter = Callable[[np.random.Generator], tuple[View, RenderedImage]]


@dataclass(frozen=True)
class _Task:
    """All views of one instance.

    `source` is a category's number, or the CAD file to draw; `cad_index` is fixed for CAD files and found by likeness
    for built-in categories (0).
    """

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
    **options: Unpack[DrawOptions],
) -> list[str]:
    """Draw a data set of parametric objects: everyday categories first, then invented ones (shape0032, ...).

    Args:
        out: folder to make; it must not exist or be empty. It appears only when everything is written.
        categories: how many, >= 1.
        train, val: images of each category; instances of val are never in train.
        size: height and width of the images in pixels, >= 16.
        options: see `DrawOptions`.

    Returns:
        The categories' names.

    Raises:
        CompNetError: for impossible numbers, or if `out` is not empty or cannot be written.
    """
    check_numbers(categories=(categories, 1))
    drawing = Drawing(train, val, size, **options)
    require_free(out, drawing.shard)
    names, cad_per_category, seed = category_names(categories), 4, drawing.seed
    plan = drawing.plan()
    # the CAD models are the first training instances; without training images, of the test ones
    shown = tuple(range(min(cad_per_category, max(1, len(plan["train"]) or len(plan["val"])))))
    tasks = {
        name: [
            _Task(name, index, i, v, size, seed, drawing.variation, cad_instances=shown)
            for split in plan
            for i, v in plan[split]
        ]
        for index, name in enumerate(names)
    }

    def finish(root: Path, _: Sequence[Any]) -> None:
        for index, name in enumerate(names):
            _save_cad(root, name, [_instance(index, i, seed) for i in shown])
            _write_lists(root, name, tasks[name], len(plan["train"]))
        save_symmetry(root, {name: category(index).symmetry for index, name in enumerate(names)})

    _draw_all(out, drawing, {"categories": categories}, tasks, finish)
    return names


def render_dataset(
    cad: CadFolder | str | Path,
    out: str | Path,
    train: int = 120,
    val: int = 24,
    size: int = 128,
    **options: Unpack[DrawOptions],
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
        options: see `DrawOptions`.

    Raises:
        CompNetError: as `make_dataset`, and for folders without models and for broken models, naming the file.
    """
    drawing = Drawing(train, val, size, **options)
    require_free(out, drawing.shard)
    folder = cad if isinstance(cad, CadFolder) else CadFolder(cad)
    models = find_models(folder)
    loaded = {name: [load_cad(file) for file in files] for name, files in models.items()}
    unstated = {
        file.path.suffix.lower(): None
        for name, files in models.items()
        for file, one in zip(files, loaded[name], strict=True)
        if not one.stated
    }
    plan = drawing.plan()
    tasks = {name: _render_tasks(name, files, drawing, plan) for name, files in models.items()}

    def finish(root: Path, _: Sequence[Any]) -> None:
        table = {}
        for name, models_of in loaded.items():
            parts = [one.part for one in models_of]
            _save_cad(root, name, parts)
            write_bytes(root / "views" / f"{name}.png", views_picture(name, parts))
            table[name] = Symmetry(order=1, mirror=measure_mirror([part.mesh() for part in parts]))
            _write_lists(root, name, tasks[name], len(plan["train"]))
        save_symmetry(root, table)

    # instances of one model follow each other, so that each worker prepares few models
    in_turn = {name: sorted(of, key=lambda task: (task.cad_index, task.instance)) for name, of in tasks.items()}
    _draw_all(out, drawing, asdict(folder), in_turn, finish)
    notes = tuple(note for models_of in loaded.values() for one in models_of for note in one.notes)
    return RenderReport(tuple(models), tuple(unstated), notes)


def _render_tasks(
    name: str, files: Sequence[CadFile], drawing: Drawing, plan: Mapping[str, list[tuple[int, tuple[int, ...]]]]
) -> list[_Task]:
    """The instances of a category in the order of its lists."""
    tasks = []
    for split, instances in plan.items():
        usable = _models_for(split, len(files))
        for turn, (instance, shown) in enumerate(instances):
            number = usable[turn % len(usable)]
            tasks.append(
                _Task(
                    name,
                    files[number],
                    instance,
                    shown,
                    drawing.size,
                    drawing.seed,
                    drawing.variation,
                    cad_index=number + 1,
                )
            )
    return tasks


def _models_for(split: str, count: int) -> list[int]:
    """Numbers of a category's models that a split shows: of several, val has the last one and train the others."""
    if count < 2:
        return list(range(count))
    return list(range(count - 1)) if split == "train" else [count - 1]


def _write_lists(root: Path, name: str, tasks: Sequence[_Task], train_instances: int) -> None:
    for split, part in zip(("train", "val"), (tasks[:train_instances], tasks[train_instances:]), strict=True):
        write_list(root, name, split, [image for task in part for image in task.names()])


def _save_cad(root: Path, name: str, parts: Sequence[Part]) -> None:
    folder = root / "CAD" / name
    folder.mkdir(parents=True, exist_ok=True)
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


def _draw_task(root: Path, task: _Task) -> int:
    """Draw all views of one instance into a data set; returns their number."""
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
        write_object(root, task.name, name, image.image, [entry], image.mask)
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


def _draw_all(
    out: str | Path,
    drawing: Drawing,
    settings: Json,
    tasks: Mapping[str, Sequence[_Task]],
    finish: Callable[[Path, Sequence[Any]], None],
) -> None:
    """Draw this shard's share of the tasks of all categories, and finish the folder if it is the last."""
    share = drawing.shard.of([task for of_category in tasks.values() for task in of_category])
    images = sum(len(task.views) for task in share)
    note = "" if drawing.shard.count == 1 else f", shard {drawing.shard}"

    def work(root: Path) -> Sequence[Any]:
        _run(root, share, drawing.workers, f"drawing {len(tasks)} categories, {images} images{note}")
        return ()

    build_in_shards(out, drawing.shard, {**drawing.settings, **settings}, work, finish)


def _run(root: Path, tasks: Sequence[_Task], workers: int | None, description: str) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=False) as progress:
        bar = progress.add_task(description, total=sum(len(task.views) for task in tasks))
        # closed before the folder goes that the processes write into
        with closing(spread_out(partial(_draw_task, root), tasks, workers)) as results:
            for done in results:
                progress.advance(bar, done)
