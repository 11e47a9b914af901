"""Where inputs come from: atheris, which is guided by what an input reaches in Python code, and hypothesis."""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.fuzz.judge import Verdict, judge
from tools.fuzz.mutate import Seed, broken, edit_json, rezip
from tools.fuzz.targets import Target


@dataclass
class Record:
    """What a target made of its inputs; written to a file now and then, since a crash ends the process.

    Attributes:
        file: the record's; findings: where inputs that are findings are kept.
        counts: of outcomes, findings by their text.
        slowest, largest: seconds and MB of the worst input.
    """

    file: Path
    findings: Path
    counts: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    largest: float = 0.0

    def add(self, verdict: Verdict, seed: Seed, data: bytes) -> None:
        """Count an input, and keep it if it is the first of its finding."""
        outcome = verdict.outcome if not verdict.is_finding else verdict.outcome.replace(str(self.file.parent), "")
        self.counts[outcome] += 1
        self.slowest, self.largest = max(self.slowest, verdict.seconds), max(self.largest, verdict.megabytes)
        if verdict.is_finding and self.counts[outcome] == 1:
            self.findings.mkdir(parents=True, exist_ok=True)
            name = f"{len(self.counts)}-{Path(seed.path).name}"
            (self.findings / name).write_bytes(data)
            (self.findings / f"{name}.txt").write_text(f"{seed.path}: {outcome}\n", errors="backslashreplace")
            self.write()
        if self.total % 50 == 0:
            self.write()

    @property
    def total(self) -> int:
        """Inputs so far."""
        return sum(self.counts.values())

    def write(self) -> None:
        """Replace the file."""
        values = {"counts": self.counts, "slowest": self.slowest, "largest": self.largest}
        temporary = self.file.with_suffix(".new")
        temporary.write_text(json.dumps(values))
        temporary.replace(self.file)


class Bench:
    """A target with its folder: each input takes the place of a whole file, which is put back afterwards."""

    def __init__(self, target: Target, folder: Path, record: Record) -> None:
        self.target, self.folder, self.record = target, folder, record
        self.seeds = target.prepare(folder)
        for seed in self.seeds:
            self._write(seed, seed.data)
        for _ in range(2):  # the first time imports and builds what all inputs share
            verdict = judge(lambda: target.read(folder), target.limits)
        if verdict.outcome != "read":
            raise SystemExit(f"{target.name}: the whole files are not read: {verdict.outcome}")

    def try_one(self, seed: Seed, data: bytes) -> None:
        """Let the reader have a broken file among whole ones."""
        (self.folder.parent / "input").write_bytes(data)  # what a crash leaves to look at
        self._write(seed, data)
        verdict = judge(lambda: self.target.read(self.folder), self.target.limits)
        for _ in range(2):
            # other processes slow one down now and then, but not three times
            if verdict.seconds > self.target.limits.seconds:
                again = judge(lambda: self.target.read(self.folder), self.target.limits)
                verdict = min(verdict, again, key=lambda one: one.seconds)
        self._write(seed, seed.data)
        self.record.add(verdict, seed, data)

    def _write(self, seed: Seed, data: bytes) -> None:
        path = self.folder / seed.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def run_hypothesis(bench: Bench, inputs: int, seconds: float, number: int) -> None:
    """At most so many inputs in so many seconds; `number` seeds the draw."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st

    end = time.monotonic() + seconds
    drawn = st.sampled_from(bench.seeds).flatmap(lambda seed: st.tuples(st.just(seed), broken(seed)))
    # short runs, each from another seed: hypothesis tries fewer and fewer new things within one
    size = 250
    while bench.record.total < inputs and time.monotonic() < end:

        @seeded(number)
        @settings(
            max_examples=min(size, inputs - bench.record.total),
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(drawn)
        def some(pair: tuple[Seed, bytes]) -> None:
            if time.monotonic() < end:
                bench.try_one(*pair)

        some()
        number += 1
    bench.record.write()


def run_atheris(bench: Bench, inputs: int, seconds: float, number: int) -> None:
    """As `run_hypothesis`; ends the process. The target's modules must have been imported by `instrumented`."""
    import atheris

    corpus, end = bench.folder.parent / "corpus", time.monotonic() + seconds
    corpus.mkdir(exist_ok=True)
    for i, seed in enumerate(bench.seeds):
        (corpus / str(i)).write_bytes(bytes([i]) + seed.data)

    def one(data: bytes) -> None:
        if data:
            bench.try_one(bench.seeds[data[0] % len(bench.seeds)], data[1:])
        if bench.record.total >= inputs or time.monotonic() > end:
            bench.record.write()
            os._exit(0)  # atheris would, too, but with a record that is some inputs old

    def mutated(data: bytes, max_size: int, draw: int) -> bytes:
        """Half of the time a whole file with a change or two: what atheris keeps is soon far from whole."""
        generator = random.Random(draw)
        number = generator.randrange(len(bench.seeds)) if generator.random() < 0.5 or not data else data[0]
        seed = bench.seeds[number % len(bench.seeds)]
        body = seed.data if generator.random() < 0.5 else data[1:]
        size = max_size - 1
        if generator.random() < 0.7:
            try:
                return (bytes([number % 256]) + _within(seed, body, size, generator))[:max_size]
            except (ValueError, KeyError, RecursionError, OSError, NotImplementedError, EOFError, RuntimeError):
                pass  # broken so far that it has no form any more
            except Exception as error:
                if type(error).__module__ not in ("zipfile", "zlib"):
                    raise
        return (bytes([number % 256]) + atheris.Mutate(body[:size], size))[:max_size]

    largest = max(len(seed.data) for seed in bench.seeds)
    options = [f"-seed={number + 1}", "-timeout=30", "-verbosity=0", f"-max_len={2 * largest + 256}"]
    options += ["-rss_limit_mb=4096", f"-artifact_prefix={bench.folder.parent}/", "-print_final_stats=0"]
    atheris.Setup(["fuzz", *options, str(corpus)], one, custom_mutator=mutated)
    bench.record.write()
    atheris.Fuzz()


def _within(seed: Seed, body: bytes, max_size: int, generator: random.Random) -> bytes:
    import atheris

    if seed.form == "npz":
        return rezip(body, lambda entry: atheris.Mutate(entry, len(entry) + 64))
    if seed.form == "json":
        odd: list[Any] = [None, True, 0, -1, 10**9, 2**63, 1e308, float("nan"), "", "..", "a" * 300, [], {}, [[]]]
        kinds = ("set", "set", "drop", "rename", "repeat")
        edits = [(generator.randrange(10**6), generator.choice(kinds), generator.choice(odd)) for _ in range(2)]
        return edit_json(body, edits)[:max_size]
    if seed.form == "text":
        return _other_number(body, generator)
    return bytes(atheris.Mutate(body, max_size))


def _other_number(body: bytes, generator: random.Random) -> bytes:
    """A text in which one number is another."""
    numbers = list(re.finditer(rb"-?\d+(\.\d+)?(e[+-]?\d+)?", body))
    if not numbers:
        raise ValueError("there is no number")
    found = generator.choice(numbers)
    odd = [b"0", b"-1", b"1e308", b"1e-40", b"nan", b"inf", b"99999999999", b"1.5", b"", b"0x1", b"1_0", b"7", b"1 2"]
    return body[: found.start()] + generator.choice(odd) + body[found.end() :]
