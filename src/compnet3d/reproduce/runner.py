"""Running experiments and writing what comes out: Markdown, JSON and images, and one HTML page of all of them."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from PIL import Image

from compnet3d.bench.scale import bench_scale, draw_scale
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.errors import CompNetError
from compnet3d.models.pretrained import find_weights, load_extractor
from compnet3d.reporting.plots import require_matplotlib
from compnet3d.reporting.provenance import provenance
from compnet3d.reporting.tables import Origin, Table
from compnet3d.reproduce import figures
from compnet3d.reproduce.ablation import check_variants, table6, table6_variants
from compnet3d.reproduce.accuracy_tables import table2, table4, table5, table7
from compnet3d.reproduce.cost_tables import table1, times
from compnet3d.reproduce.distractors import make_occluders
from compnet3d.reproduce.experiments import Experiments
from compnet3d.reproduce.study import claim_study
from compnet3d.reproduce.unseen_table import table3
from compnet3d.robustness.corruption import load_textures
from compnet3d.robustness.occluders import gather_occluders, occluder_samples
from compnet3d.utils.distributed import current_group
from compnet3d.utils.exclusive import exclusive, scratch_folder
from compnet3d.utils.files import remove_leftovers, write_bytes, write_json, write_text

TABLES: dict[str, Callable[[Experiments], list[Table]]] = {
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "table4": table4,
    "table5": table5,
    "table6": table6,
    "table7": table7,
    "table6-variants": table6_variants,
}


def _figure2(experiments: Experiments) -> bytes:
    """Figure 2: the loss step over the number of categories (`compnet3d bench scale`)."""
    with scratch_folder() as folder:
        path = folder / "scale.png"
        draw_scale(bench_scale(rounds=5, device=experiments.study.device), path)
        return path.read_bytes()


FIGURES: dict[str, Callable[[Experiments], bytes]] = {
    "figure1": figures.figure1,
    "figure2": _figure2,
    "figure4": figures.figure4,
    "figure5": figures.figure5,
    "figure8": figures.figure8,
    "figure10": figures.figure10,
}
NAMES = (*(name for name in TABLES if name != "table6-variants"), *FIGURES)  # of "all"; variants must be asked for


def reproduce(experiments: Experiments, names: Sequence[str]) -> None:
    """Run experiments in turn and write OUT/NAME.md and .json of tables, OUT/NAME.png of figures.

    OUT/times.md and .json say how long the trainings and evaluations took that are there by then. What is trained and
    evaluated already is taken as it is, so a run that was stopped goes on where it was.

    Args:
        experiments: the data, the methods and the folder.
        names: which of `TABLES` and `FIGURES`; "all" for those of `NAMES`.

    Raises:
        CompNetError: if a name is unknown, another process writes the study's folder, or what training, evaluation and
            the data say.

    Processes that have joined in a group (see `joined`) train and evaluate together; rank 0 does all else.
    """
    study = experiments.study
    if not current_group().is_rank_zero:
        study.help()
        return
    with exclusive(study.out):
        for folder in study.out.glob("metrics/*/*"):
            remove_leftovers(folder)
        _reproduce(experiments, names)
        study.end()


def _reproduce(experiments: Experiments, names: Sequence[str]) -> None:
    """`reproduce` in a folder that is ours."""
    # those that time the loss alone come last: they leave memory behind that an evaluation would count as its own
    wanted = sorted(check(experiments, names), key=lambda name: name in ("table1", "figure2"))
    study = experiments.study
    claim(experiments)
    if study.occluders == "distractors" and {"table4", "table6", "table7", "figure1", "figure10"} & set(wanted):
        make_occluders(study.distractors, study.dataset().categories)
    for number, name in enumerate(wanted, start=1):
        print(f"[{number}/{len(wanted)}] {name}", flush=True)
        start = time.perf_counter()
        if name in TABLES:
            tables = TABLES[name](experiments)
            write_tables(study.out, name, tables, study.command)
            print("\n".join(table.markdown() for table in tables), flush=True)
        else:
            write_bytes(study.out / f"{name}.png", _on_white(FIGURES[name](experiments)))
            print(f"wrote {study.out / name}.png", flush=True)
        print(f"[{number}/{len(wanted)}] took {time.perf_counter() - start:.0f} s", flush=True)
        # after each experiment, so that a study that is stopped has it too
        write_tables(study.out, "times", times(experiments), study.command)


def check(experiments: Experiments, names: Sequence[str]) -> tuple[str, ...]:
    """The experiments to run, once everything that they need is known to be there: before hours of training.

    With "all", those that the data or the recipe does not allow are left out, and that is said.

    Raises:
        CompNetError: saying what is missing.
    """
    known = (*TABLES, *FIGURES)
    if not names:
        raise CompNetError(f"no experiment given; use all or some of {', '.join(known)}")
    unknown = [name for name in names if name not in (*known, "all")]
    if unknown:
        raise CompNetError(f"experiment {unknown[0]!r} is unknown; use all or some of {', '.join(known)}")
    check_variants(experiments.variants)
    if experiments.recipe.method != "compnet":
        raise CompNetError(f"recipe {experiments.recipe.name}: is a baseline; give the method's, its baselines follow")
    study, dataset = experiments.study, experiments.study.dataset()
    if missing := [split for split in ("train", "val") if split not in dataset.splits]:
        raise CompNetError(f"{study.data}: has no {missing[0]} list; add CATEGORY_imagenet_{missing[0]}.txt")
    if study.frost is not None:
        load_textures(study.frost)
    if study.occluders not in ("distractors", "blobs"):
        gather_occluders(study.occluders, occluder_samples(dataset, "val") if study.occluders == "objects" else ())
    if experiments.synthetic is not None:
        other = ImageNet3D(experiments.synthetic)
        common = set(other.categories) & set(dataset.categories)
        if not common:
            raise CompNetError(f"{other.root}: has no category of {study.data}; categories are matched by name")
        if not any(other.names(category, "val") for category in common):
            raise CompNetError(f"{other.root}: has no test image of {', '.join(sorted(common))}; add their val lists")
    wanted = list(dict.fromkeys(one for name in names for one in (NAMES if name == "all" else (name,))))
    if set(wanted) - {"figure2"}:  # which trains nothing
        check_weights(experiments)
    # now, not when the figure is drawn: that is after the trainings
    if {"figure1", "figure2", "figure4"} & set(wanted):
        require_matplotlib()
    if experiments.recipe.schedule.calibration_fraction == 0 and {"table5", "figure4"} & set(wanted):
        message = f"recipe {experiments.recipe.name} holds no calibration split out, whose confusions they show"
        if "all" not in names:
            raise CompNetError(f"table5 and figure4: {message}; give it a calibration_fraction")
        print(f"left out table5 and figure4: {message}", flush=True)
        wanted = [name for name in wanted if name not in ("table5", "figure4")]
    if {"table3", "figure5"} & set(wanted):
        try:
            experiments.unseen_categories()
        except CompNetError as error:
            if "all" not in names or experiments.unseen:
                raise
            print(f"left out table3 and figure5: {error}", flush=True)
            wanted = [name for name in wanted if name not in ("table3", "figure5")]
    if "figure4" in wanted and not experiments.recipe.grouping.dynamic and "all" in names:
        print(f"left out figure4: recipe {experiments.recipe.name} keeps all categories contrasted", flush=True)
        wanted.remove("figure4")
    return tuple(wanted)


def check_weights(experiments: Experiments) -> None:
    """Load each pretrained backbone that a training still needs: the last method's may come after days of others.

    Raises:
        CompNetError: if one is not there.
    """
    study = experiments.study
    for names in dict.fromkeys(
        method.recipe.backbone.pretrained
        for method in experiments.methods
        if method.recipe.backbone.pretrained and not all((study.run(method, s) / "model").is_dir() for s in study.seeds)
    ):
        # loaded, not only looked for: a broken file counts as missing; the projection's size does not matter
        load_extractor(find_weights(names, study.data), dimension=1)


def claim(experiments: Experiments) -> None:
    """Note in the study's folder what it is of, or check that it is of the same."""
    study = experiments.study
    claim_study(study.out / "study.json", experiments.method().recipe, {"data": str(study.data.resolve())}, "a study")


def write_tables(out: Path, name: str, tables: Sequence[Table], command: str) -> None:
    """OUT/NAME.json and OUT/NAME.md.

    Args:
        out, name: where; tables: what, with the origins of its evaluations: those by other commands, on other machines
            or days are reported; command: what the user typed now.
    """
    settings = provenance(command)
    made = f"Made by `{settings['command']}` on {settings['machine']}, {settings['date']}."
    now = Origin(settings["command"], settings["machine"], settings["date"])
    if evaluated := _evaluated({origin for table in tables for origin in table.origins}, now):
        settings["evaluated"] = evaluated
        made += f" Evaluated {evaluated}."
    write_json(out / f"{name}.json", {"tables": [table.to_dict() for table in tables], "settings": settings})
    write_text(out / f"{name}.md", "\n".join([*(table.markdown() for table in tables), made]) + "\n")


def _evaluated(origins: Collection[Origin], now: Origin) -> str:
    """When, where and by which other commands evaluations were made; empty if all were now, here and by this one."""

    def other(values: Iterable[str], own: str) -> list[str]:
        known = sorted({value for value in values if value})
        # nothing to say where all is as now
        return known if known != [own] else []

    days = other((origin.date for origin in origins), now.date)
    machines = other((origin.machine for origin in origins), now.machine)
    commands = other((origin.command for origin in origins), now.command)
    parts = [f"{days[0]} to {days[-1]}" if len(days) > 1 else days[0]] if days else []
    parts += [f"on {'; on '.join(machines)}"] if machines else []
    others = [command for command in commands if command != now.command]
    parts += ["by " + ", ".join(f"`{command}`" for command in others)] if others else []
    return ", ".join(parts)


def _on_white(png: bytes) -> bytes:
    """An image without transparency, so that it can be read on dark pages as well."""
    image = Image.open(io.BytesIO(png), formats=["PNG"]).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    buffer = io.BytesIO()
    Image.alpha_composite(white, image).convert("RGB").save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
