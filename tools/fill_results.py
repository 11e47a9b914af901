r"""Fills the result tables of the README and of docs/ from the JSON files that the commands wrote.

A table stands between `<!-- result:SLOT -->` and `<!-- /result -->`. Every number in it comes from a file given on the
command line; below it stand the command, the machine and the date:

    python tools/fill_results.py --machine "2 CPU cores" quickstart=runs/quickstart/metrics.json \
        eth80=runs/eth80/val.json "eth80:turned by up to 25 degrees=runs/eth80/rotated.json" \
        study-variants=runs/variants/table6-variants.json speed=runs/eth80/val.json

Slots `speed`, `bench-...` and `study-...` (files of `compnet3d reproduce`) have tables of their own, and `aims` says of
files of table 4 how far the project's aims are reached; all others show an evaluation. Several files may
go to one slot, one row (for `aims` and `bench-...` one column, for `study-...` one table after the other) each.
`FILE#KEY,KEY` takes some of a study's tables. A file of `compnet3d quickstart` gives two rows, clean and occluded.
Slots that are not given stay as they are.
"""

from __future__ import annotations

import argparse
import datetime
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compnet3d.bench.distributed import DistributedResult
from compnet3d.bench.input import InputResult
from compnet3d.bench.loss import LossResult
from compnet3d.bench.matching import MatchingResult
from compnet3d.bench.pose import PoseResult
from compnet3d.bench.result import BenchResult
from compnet3d.bench.scale import ScaleResult
from compnet3d.bench.step import StepResult
from compnet3d.errors import CompNetError
from compnet3d.evaluation.result import EvaluationResult, Settings
from compnet3d.reporting.tables import Table
from compnet3d.reporting.terminal import degrees, percent
from compnet3d.utils.files import Json, read_json, write_text

# over what, metric and column of table 4, and the points by which the project wants to lead; 0: nothing is lost
AIMS = tuple(
    (baseline, metric, column, points)
    for baseline, wanted in (
        ("dual head (40 bins)", (10, 5, 0)),
        ("dual head (regression)", (10, 5, 0)),
        ("NOVUM (full contrast)", (0, 0, 0)),
    )
    for metric in ("classification", "pose pi/6, true category given")
    for column, points in zip(("occluded, mean", "corrupted, mean", "clean"), wanted, strict=True)
)
BENCHMARKS: dict[str, type[BenchResult]] = {
    "distributed": DistributedResult,
    "input": InputResult,
    "loss": LossResult,
    "matching": MatchingResult,
    "pose": PoseResult,
    "step": StepResult,
    "scale": ScaleResult,
}
SLOT = re.compile(r"(<!-- result:(?P<name>[\w-]+) -->\n).*?(<!-- /result -->)", re.DOTALL)


@dataclass(frozen=True)
class Source:
    """One JSON file for one slot: what its row is called, its contents, and when and where it was made."""

    slot: str
    label: str
    metrics: Json
    date: str
    machine: str


def main(arguments: list[str] | None = None) -> None:
    """Read the files, replace the tables, say which."""
    parser = argparse.ArgumentParser(description="Fill the result tables of the README and the docs.")
    parser.add_argument("sources", nargs="+", metavar="SLOT[:LABEL]=FILE")
    parser.add_argument("--machine", default="", help="class of the machine, where a file does not say it")
    parser.add_argument("--date", default="", help="YYYY-MM-DD; by default the file's own date")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the repository")
    options = parser.parse_args(arguments)
    try:
        sources = [read_source(text, machine=options.machine, date=options.date) for text in options.sources]
        changed = fill(options.root, sources)
    except CompNetError as error:
        sys.exit(f"error: {error}")
    print("filled", ", ".join(str(path.relative_to(options.root)) for path in changed))


def read_source(text: str, *, machine: str = "", date: str = "") -> Source:
    """One `SLOT[:LABEL]=FILE` of the command line.

    Raises:
        CompNetError: if it is malformed, the file cannot be read, or nothing says on what machine it was made.
    """
    place, separator, name = text.partition("=")
    if not separator or not place or not name:
        raise CompNetError(f"{text!r} is not SLOT=FILE or SLOT:LABEL=FILE")
    slot, _, label = place.partition(":")
    name, _, keys = name.partition("#")
    metrics = read_json(name)
    if keys and isinstance(metrics, dict):
        tables = {table["key"]: table for table in metrics.get("tables", [])}
        if missing := [key for key in keys.split(",") if key not in tables]:
            raise CompNetError(f"{name}: has no table {missing[0]!r}; there are {', '.join(tables) or 'none'}")
        metrics |= {"tables": [tables[key] for key in keys.split(",")]}
    if not isinstance(metrics, dict) or "settings" not in metrics:
        raise CompNetError(f"{name}: is not a file of evaluate, quickstart, reproduce or bench (it has no settings)")
    settings = metrics["settings"]
    machine = settings.get("machine") or machine
    if not machine:
        raise CompNetError(f"{name}: does not say on what machine it was made; give --machine")
    written = datetime.date.fromtimestamp(Path(name).stat().st_mtime).isoformat()
    return Source(slot, label.strip(), metrics, settings.get("date") or date or written, machine)


def fill(root: Path, sources: Sequence[Source]) -> list[Path]:
    """Replace the tables of the slots in README.md and the pages in docs/; returns the files that have them.

    Raises:
        CompNetError: if a slot is in none of the files.
    """
    wanted = {source.slot for source in sources}
    found: set[str] = set()
    changed = []
    for path in (root / "README.md", *sorted((root / "docs").rglob("*.md"))):
        text = path.read_text(encoding="utf-8")

        def replacement(match: re.Match[str], short: bool = path.name == "README.md") -> str:
            name = match["name"]
            if name not in wanted:
                return match[0]
            found.add(name)
            table = slot_text(name, [s for s in sources if s.slot == name], short=short)
            return f"{match[1]}{table}{match[3]}"

        filled = SLOT.sub(replacement, text)
        if any(match["name"] in wanted for match in SLOT.finditer(text)):
            write_text(path, filled)
            changed.append(path)
    if wanted - found:
        raise CompNetError(f"no file has the slot {sorted(wanted - found)[0]!r}")
    return changed


def slot_text(name: str, sources: Sequence[Source], *, short: bool = False) -> str:
    """The table of one slot, and below it how it was made."""
    if name == "aims":
        columns, rows = aims_rows(sources)
    elif name.startswith("study-"):
        tables = [Table.from_dict(values) for source in sources for values in source.metrics["tables"]]
        return "\n".join([*(table.markdown() for table in tables), provenance(sources), ""])
    elif name.startswith("bench-"):
        columns = ["", *(source.label or "measured" for source in sources)]
        found = [BENCHMARKS[s.metrics["settings"]["bench"]].from_dict(s.metrics).rows() for s in sources]
        rows = [[what, *(dict(table).get(what, "-") for table in found)] for what, _ in found[0]]
    else:
        pairs = [(label, result) for source in sources for label, result in evaluations(source)]
        table = speed_cells if name == "speed" else short_cells if short else full_cells
        columns = ["", *table(pairs[0][1])]
        rows = [[label, *table(result).values()] for label, result in pairs]
    lines = ["| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", provenance(sources), ""])


def aims_rows(sources: Sequence[Source]) -> tuple[list[str], list[list[str]]]:
    """How far table 4 of each study reaches `AIMS`: in bold where it does, "-" where the baseline is missing.

    That nothing is lost holds where the lead is not below 0 by more than its standard deviation.
    """
    leads = []
    for source in sources:
        table = next(table for table in source.metrics["tables"] if table["key"] == "lead")
        leads.append({row["label"]: row["cells"] for row in table["rows"]})
    rows = []
    for baseline, metric, column, points in AIMS:
        row = [f"over {baseline}: {metric}, {column.partition(',')[0]}", f"{points}" if points else "none lost"]
        for lead in leads:
            cell = lead.get(f"{metric}, over {baseline}", {}).get(column)
            if cell is None:
                row.append("-")
                continue
            mean, deviation = 100 * cell["mean"], 100 * (cell["deviation"] or 0.0)
            reached = mean >= points if points else mean >= -deviation
            text = f"{mean:.1f} ± {deviation:.1f}"
            row.append(f"**{text}**" if reached else text)
        rows.append(row)
    return ["points of lead", "aim", *(source.label for source in sources)], rows


def evaluations(source: Source) -> list[tuple[str, EvaluationResult]]:
    """The evaluations in a file, each with its label."""
    found = [source.metrics] + ([source.metrics["occluded"]] if "occluded" in source.metrics else [])
    results = [EvaluationResult.from_dict(values, source.slot) for values in found]
    own = [condition(result.settings) for result in results]
    return [(f"{source.label}, {text}" if source.label and len(results) > 1 else source.label or text, result)
            for text, result in zip(own, results, strict=True)]  # fmt: skip


def condition(settings: Settings) -> str:
    """What was done to the images, in a few words."""
    shift = settings.shift
    parts = ["other backgrounds"] if shift.backgrounds else []
    parts += [f"occluded {shift.occlusion} by {shift.occluders}"] if shift.occlusion else []
    if shift.rotation:
        parts.append(f"turned by up to {shift.rotation:g} degrees")
    text = ", ".join(parts) or "clean"
    return text if settings.crop == "oracle" else f"{text}, {settings.crop} crop"


def short_cells(result: EvaluationResult) -> dict[str, str]:
    """The columns of the README's tables."""
    pose, symmetric = result.pose.plain, result.pose.symmetry_aware
    return {
        "images": str(result.images),
        "top-1 accuracy [%]": percent(result.accuracy),
        "pose accuracy at pi/6 [%]": percent(pose.true_category.acc_pi6),
        "at pi/18 [%]": percent(pose.true_category.acc_pi18),
        "median [deg]": degrees(pose.true_category.median_deg),
        "symmetric pi/6 [%]": percent(symmetric.true_category.acc_pi6),
        "symmetric pi/18 [%]": percent(symmetric.true_category.acc_pi18),
        "joint [%]": percent(pose.joint.acc_pi6),
    }


def full_cells(result: EvaluationResult) -> dict[str, str]:
    """The columns of the other tables."""
    pose, flips = result.pose.plain, result.pose.flips
    return {
        **short_cells(result),
        "joint pi/18 [%]": percent(pose.joint.acc_pi18),
        "predicted category pi/6 [%]": percent(pose.predicted_category.acc_pi6),
        "pi/18, predicted [%]": percent(pose.predicted_category.acc_pi18),
        "symmetric joint [%]": percent(result.pose.symmetry_aware.joint.acc_pi6),
        "images with a defined pose": str(pose.images),
        "flipped [%]": "-" if flips is None else percent(flips.true_category.share),
    }


def speed_cells(result: EvaluationResult) -> dict[str, str]:
    """The columns of the speed table."""

    def number(key: str, digits: int) -> str:
        value = getattr(result.resources, key)
        return "-" if value is None else f"{value:.{digits}f}"

    return {
        "images": str(result.images),
        "seconds": number("seconds", 1),
        "images/s": number("images_per_second", 1),
        "images/s, model only": number("model_images_per_second", 1),
        "peak memory [MB]": number("peak_memory_mb", 0),
        "peak GPU memory [MB]": number("peak_gpu_memory_mb", 0),
    }


def provenance(sources: Sequence[Source]) -> str:
    """The commands, the machines and the dates behind a table."""
    commands = [command(source.metrics) for source in sources]
    unique = [list(dict.fromkeys(values)) for values in
              (commands, [s.machine for s in sources], [s.date for s in sources])]  # fmt: skip
    evaluated = [s.metrics["settings"]["evaluated"] for s in sources if s.metrics["settings"].get("evaluated")]
    return "\n".join(
        [
            *(f"- `{text}`" for text in unique[0]),
            f"- {'; '.join(unique[1])}; {', '.join(unique[2])}",
            *(f"- evaluated {text}" for text in dict.fromkeys(evaluated)),
        ]
    )


def command(metrics: Json) -> str:
    """The command that wrote a file, rebuilt from its settings; paths outside the folder keep their last names."""
    settings = metrics["settings"]
    if settings.get("command"):
        return shlex.join(short_path(word) for word in shlex.split(settings["command"]))
    if "occluded" in metrics:
        return "make quickstart"
    words = ["compnet3d", "evaluate", short_path(settings["model"]), "--data", short_path(settings["data"])]
    if settings.get("split", "val") != "val":
        words += ["--split", settings["split"]]
    if settings.get("crop", "oracle") != "oracle":
        words += ["--crop", settings["crop"]]
    if settings.get("rotate_deg"):
        words += ["--rotate", f"{settings['rotate_deg']:g}"]
    if settings.get("occlusion"):
        words += ["--occlusion", settings["occlusion"], "--occluders", settings["occluders"]]
        words += ["--occlusion-protocol", "paper"] if settings.get("occlusion_protocol") == "paper" else []
    if settings.get("seed"):
        words += ["--seed", str(settings["seed"])]
    return shlex.join(words)


def short_path(text: str) -> str:
    """A path that means something to a reader: `runs/...` and `data/...` from there on, relative ones as they are."""
    path = Path(text)
    if not path.is_absolute() and ".." not in path.parts:
        return text
    for anchor in ("runs", "data"):
        if anchor in path.parts[:-1]:
            return str(Path(*path.parts[path.parts.index(anchor) :]))
    return path.name


if __name__ == "__main__":
    main()
