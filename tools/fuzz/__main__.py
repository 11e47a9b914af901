"""Breaks files on purpose and lets every reader have them.

    python -m tools.fuzz                                  # 100,000 inputs over all readers
    python -m tools.fuzz --minutes 30 --only annotations
    python -m tools.fuzz --inputs 2000 --seed 7 --jobs 1

An input is a finding if the reader raises anything but the project's own error of one sentence, takes longer than a
second (two for .mat files, five for a whole data set) or more than 200 MB, or dies. Findings are kept in --out with
what is wrong with them. Exit status 1 if there is one. Where atheris is not installed, hypothesis makes all inputs.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.fuzz.targets import TARGETS, Target

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Run the targets, or as a child one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="of all targets together")
    parser.add_argument("--minutes", type=float, default=120, help="at most, for all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="targets at once")
    parser.add_argument("--only", metavar="NAME", help=", ".join(target.name for target in TARGETS))
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    chosen = [target for target in TARGETS if options.only in (None, target.name)]
    if not chosen:
        parser.error(f"--only: there is no target {options.only!r}")
    if options.child is not None:
        run_target(chosen[0], options.child, options)
        return 0
    share = sum(target.weight for target in chosen)

    end = time.monotonic() + 60 * options.minutes

    def start(target: Target) -> dict[str, object]:
        return run_child(target, math.ceil(options.inputs * target.weight / share), end, options)

    with ThreadPoolExecutor(options.jobs) as pool:
        records = list(pool.map(start, chosen))
    print_table(records)
    return int(any(record["findings"] for record in records))


def run_child(target: Target, inputs: int, end: float, options: argparse.Namespace) -> dict[str, object]:
    """A target in processes of its own, until that time: one that dies is a finding, and the next goes on."""
    counts: dict[str, int] = {}
    worst = {"slowest": 0.0, "largest": 0.0}
    begun, number = time.monotonic(), options.seed
    while (left := inputs - sum(counts.values())) > 0 and (seconds := end - time.monotonic()) > 0:
        with tempfile.TemporaryDirectory(prefix="compnet3d-fuzz-") as folder:
            command = [sys.executable, "-m", "tools.fuzz", "--child", folder, "--only", target.name]
            command += ["--inputs", str(left), "--minutes", str(seconds / 60), "--seed", str(number)]
            command += ["--out", str(options.out)]
            log = Path(folder, "log")
            with log.open("wb") as said:
                environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
                status = subprocess.call(command, cwd=ROOT, stdout=said, stderr=said, env=environment)
            record = Path(folder, "record.json")
            found = json.loads(record.read_text()) if record.is_file() else {"counts": {}, **worst}
            for outcome, count in found["counts"].items():
                counts[outcome] = counts.get(outcome, 0) + count
            worst = {name: max(worst[name], found[name]) for name in worst}
            if status != 0:
                said_last = log.read_text(errors="replace").strip()[-20_000:]
                counts[f"died with status {status}"] = counts.get(f"died with status {status}", 0) + 1
                keep = options.out / target.name.replace(" ", "-")
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"died-{number}.txt").write_text(said_last)
                if Path(folder, "input").is_file():
                    (keep / f"died-{number}").write_bytes(Path(folder, "input").read_bytes())
                if not record.is_file():
                    break  # not even the whole files are read
        number += 1
    findings = {outcome: count for outcome, count in counts.items() if outcome not in ("read", "refused")}
    took = time.monotonic() - begun
    record_of = {"name": target.name, "engine": target.engine, "inputs": sum(counts.values()), "minutes": took / 60}
    shown = record_of | worst | {"read": counts.get("read", 0), "findings": findings}
    print(f"{target.name}: {shown['inputs']} inputs in {took / 60:.1f} minutes, {len(findings)} findings", flush=True)
    return shown


def run_target(target: Target, folder: Path, options: argparse.Namespace) -> None:
    """What a child does."""
    guided = target.engine == "atheris" and importlib.util.find_spec("atheris") is not None
    if guided:
        instrument()
    from tools.fuzz.engines import Bench, Record, run_atheris, run_hypothesis

    record = Record(folder / "record.json", options.out / target.name.replace(" ", "-"))
    (folder / "files").mkdir()
    bench = Bench(target, folder / "files", record)
    run = run_atheris if guided else run_hypothesis
    run(bench, options.inputs, 60 * options.minutes, options.seed)


def instrument() -> None:
    """Import the readers so that atheris sees which of their lines an input reaches."""
    import atheris

    readers = ("data.unpickle", "data.annotations", "data.imagenet3d", "data.symmetry", "geometry.mesh")
    others = ("utils.settings", "training.recipe", "evaluation.result", "reporting.tables", "reproduce.report")
    with atheris.instrument_imports(include=[f"compnet3d.{name}" for name in (*readers, *others)]):
        for name in (*readers, *others):
            importlib.import_module(f"compnet3d.{name}")


def print_table(records: list[dict[str, object]]) -> None:
    """A table in Markdown, as the guide has it, and the findings below it."""
    head = ("reader", "inputs from", "files", "read", "findings", "slowest [s]", "memory [MB]")
    print(f"\n| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for record in records:
        findings: dict[str, int] = record["findings"]  # type: ignore[assignment]
        print(
            f"| {record['name']} | {record['engine']} | {record['inputs']:,} | {record['read']:,} | "
            f"{sum(findings.values())} | {record['slowest']:.2f} | {record['largest']:.0f} |"
        )
    print(f"\n{sum(int(record['inputs']) for record in records):,} files")  # type: ignore[call-overload]
    for record in records:
        for outcome, count in sorted(record["findings"].items(), key=lambda item: -item[1]):  # type: ignore[attr-defined]
            print(f"{count:>6}  {record['name']}: {outcome}")


if __name__ == "__main__":
    sys.exit(main())
