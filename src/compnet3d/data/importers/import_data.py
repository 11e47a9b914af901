"""The one writer of all importers: any source, written in our layout, by several processes, resumable.

Images, annotations and masks are written as they are read, and a journal says which are done. The lists come last:
until then the folder is no data set, and no command takes it for one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from PIL import Image

from compnet3d.data.annotations import Annotation, SkipObject, parse_object, write_annotation
from compnet3d.data.imagenet3d import IMAGE_SUFFIXES, list_file
from compnet3d.data.images import image_size, load_image, load_mask
from compnet3d.data.importers.import_report import REPORT_FILE, ImportReport, LeftOut
from compnet3d.data.importers.journal import Journal, Outcome, Written, refuse_other
from compnet3d.data.shapes.read import copy_shape
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh, save_off
from compnet3d.utils.exclusive import exclusive
from compnet3d.utils.files import Json, copy_file, explain_filling, is_file, write_folder, write_json, write_text
from compnet3d.utils.progress import tracked
from compnet3d.utils.shards import Shard, build_in_shards
from compnet3d.utils.workers import spread_out

# a mask: its file, or bool [H, W]
Mask = Path | np.ndarray


@dataclass(frozen=True)
class Record:
    """One image with objects of one category, as it is to be written.

    Attributes:
        category, name: of the image, safe for the disk (see `names`) and unique together.
        splits: the lists that shall name it.
        image: the file; it is copied, or decoded and saved as PNG where our reader knows no such suffix.
        entries: the objects, each with where it comes from: a file, or a file and a line.
        mask, occluder_mask: of the object, and of what hides it.
    """

    category: str
    name: str
    splits: tuple[str, ...]
    image: Path
    entries: Sequence[tuple[str, Annotation]]
    mask: Mask | None = None
    occluder_mask: Mask | None = None


class Source(Protocol):
    """A data set of another format: a data class of its options, which is sent to each process."""

    format: ClassVar[str]
    root: Path

    def items(self) -> tuple[Sequence[Any], list[LeftOut], list[str]]:
        """What there is to read, in the order of the lists; what is left out at once; what is assumed.

        Items are small data classes of plain values: their text tells one from another.

        Raises:
            CompNetError: if the source is not what it should be.
        """
        ...

    def read(self, item: Any) -> tuple[Sequence[Record], Sequence[LeftOut]]:
        """The records of an item, and what was left out of it."""
        ...

    def models(self, category: str) -> Mapping[str, Path | Mesh]:
        """The category's CAD models by the names that their files shall have; maybe none."""
        ...

    def symmetry(self) -> Json:
        """What `symmetry.json` shall hold; nothing if the source does not tell."""
        return {}

    def close(self) -> None:
        """End what reading has started; nothing by default."""
        return


def import_data(
    source: Source,
    out: str | Path,
    *,
    link: bool = False,
    workers: int | None = None,
    progress: bool = False,
    shard: Shard | None = None,
) -> ImportReport:
    """Write a source in our layout; called again after a stop, it goes on where it was.

    The same source gives the same bytes, whatever the number of processes and however often it was stopped.

    Args:
        source: to read; nothing of it is changed.
        out: the folder to write, new or empty, or of an earlier call with the same source and options.
        link: make hard links to the images instead of copies, where the file system can.
        workers: processes; by default one per core, fewer for few images.
        progress: draw a progress bar on stderr.
        shard: which share of the source to write now; the folder appears with the last.

    Returns:
        What was taken, and what was left out and why; also written as `import-report.json`. While shards are missing,
        that of this share.

    Raises:
        CompNetError: if the source is not what it should be, nothing in it can be used, or `out` holds something else
            or cannot be written.
    """
    out, shard = Path(out), shard or Shard()
    job = _Job(source, link, workers, progress)
    try:
        return job.run_shard(out, shard) if shard.count > 1 else job.run(out)
    except OSError as error:
        raise CompNetError(explain_filling(error, out, out)) from None
    finally:
        source.close()


@dataclass
class _Job:
    """An import with its options; the source is asked once what there is to read."""

    source: Source
    link: bool
    workers: int | None
    progress: bool
    items: Sequence[Any] = field(init=False)
    left_out: list[LeftOut] = field(init=False)
    notes: list[str] = field(init=False)
    settings: Json = field(init=False)

    def __post_init__(self) -> None:
        self.items, self.left_out, self.notes = self.source.items()
        self.settings = {**source_settings(self.source), "link": self.link}

    def run(self, out: Path) -> ImportReport:
        """All of it, into the folder itself."""
        with exclusive(out):
            if _is_finished(out):
                return self._finished(out)
            journal = Journal(out, self.settings)
            try:
                return self._finish(out, self._write(out, self.items, journal), journal)
            except BaseException:
                # half-written ones of this process, or of those that have just been ended
                for path in [*out.glob("*/*/.*.new-*")]:
                    path.unlink(missing_ok=True)
                raise
            finally:
                journal.close()

    def run_shard(self, out: Path, shard: Shard) -> ImportReport:
        """A share of it, beside the folder until all shards are done."""
        if _is_finished(out):
            return self._finished(out)
        share, whole = ImportReport(self.settings, self.notes), []

        def work(root: Path) -> list[Json]:
            journal = Journal(root, self.settings, root.with_name(f"{shard.index}.jsonl"))
            try:
                outcomes = self._write(root, shard.of(self.items), journal)
            finally:
                journal.close()
            _count(outcomes, share)
            return [outcome.as_json() for outcome in outcomes]

        def finish(root: Path, outcomes: Sequence[Json]) -> None:
            whole.append(self._finish(root, [Outcome.of_json(values) for values in outcomes], None))

        build_in_shards(out, shard, self.settings, work, finish)
        return whole[0] if whole else share

    def _finished(self, out: Path) -> ImportReport:
        report = ImportReport.read(out)
        refuse_other(out, report.settings, self.settings)
        return report

    def _write(self, out: Path, items: Sequence[Any], journal: Journal) -> list[Outcome]:
        """What has become of each item, in their order; those that an earlier run wrote are not written again."""
        worker = _Worker(self.source, out, self.link)
        outcomes = [journal.done(item) for item in items]
        todo = [place for place, outcome in enumerate(outcomes) if outcome is None]
        # a process takes seconds to start, in which another one writes so many
        worthwhile = 2000
        results = spread_out(worker, [items[place] for place in todo], self.workers, worthwhile=worthwhile)
        try:
            shown = tracked(zip(todo, results, strict=True), "importing", enabled=self.progress, total=len(todo))
            for place, outcome in shown:
                outcomes[place] = outcome
                journal.add(items[place], outcome)
        finally:
            results.close()
        return [outcome for outcome in outcomes if outcome is not None]

    def _finish(self, out: Path, outcomes: Sequence[Outcome], journal: Journal | None) -> ImportReport:
        """Write what belongs to all images together, the lists last."""
        report = ImportReport(self.settings, self.notes)
        report.leave_out(self.left_out)
        lists = _count(outcomes, report)
        if journal is None or not journal.is_new:
            _remove_strays(out, {name for outcome in outcomes for entry in outcome.written for name, _ in entry.files})
        if not lists:
            if journal is not None:
                journal.remove()
            reasons = ", ".join(f"{n} x {why} (first: {report.examples[why][0]})" for why, n in report.left_out.items())
            raise CompNetError(f"{self.source.root} has no usable object: {reasons or 'it holds none'}.")
        shutil.rmtree(out / "CAD", ignore_errors=True)  # of an earlier run, which may have had others
        for category in sorted(report.objects):
            for name, model in self.source.models(category).items():
                _write_model(model, out / "CAD" / category / name)
        symmetry = {name: value for name, value in self.source.symmetry().items() if name in report.objects}
        if symmetry:
            write_json(out / "symmetry.json", symmetry)
        report.write(out)
        getattr(os, "sync", int)()  # Windows has no such call

        def fill(folder: Path) -> None:
            for (category, split), names in lists.items():
                write_text(folder / list_file(category, split), "".join(f"{name}\n" for name in names))

        write_folder(out / "lists", fill)
        if journal is not None:
            journal.remove()
        return report


def _is_finished(out: Path) -> bool:
    return (out / "lists").is_dir() and (out / REPORT_FILE).is_file()


def _count(outcomes: Sequence[Outcome], report: ImportReport) -> dict[tuple[str, str], list[str]]:
    """The names of each (category, split), all counted in the report."""
    lists: dict[tuple[str, str], list[str]] = {}
    for outcome in outcomes:
        report.leave_out(outcome.left_out)
        for entry in outcome.written:
            report.take(entry.category, entry.splits, entry.objects)
            for split in entry.splits:
                lists.setdefault((entry.category, split), []).append(entry.name)
    return lists


def source_settings(source: Any) -> Json:
    """The format and the options of a `Source`, as the report and the journal have them."""
    values = {entry.name: getattr(source, entry.name) for entry in fields(source) if entry.init}
    return {"format": source.format} | {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if is_dataclass(value):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in fields(value)}
    return str(value) if isinstance(value, Path) else value


def _remove_strays(out: Path, wanted: set[str]) -> None:
    """Remove what earlier runs wrote and the source no longer has."""
    for part in ("images", "annotations", "masks", "occluder_masks"):
        for path in (out / part).glob("*/*"):
            if path.relative_to(out).as_posix() not in wanted:
                path.unlink()
        for folder in (out / part).glob("*"):
            with suppress(OSError):
                folder.rmdir()
        with suppress(OSError):
            (out / part).rmdir()


def _write_model(model: Path | Mesh, target: Path) -> None:
    if isinstance(model, Path):
        copy_shape(model, target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    save_off(target, model)


# -- one item, in any process ----------------------------------------------------------------------------------------


@dataclass
class _Worker:
    """Reads an item of the source and writes its records."""

    source: Source
    out: Path
    link: bool
    modelled: dict[str, bool] = field(default_factory=dict)

    def __call__(self, item: Any) -> Outcome:
        try:
            records, left_out = self.source.read(item)
            outcomes = [self._write(record) for record in records]
        except OSError as error:
            raise CompNetError(explain_filling(error, self.out, self.out)) from None
        written = tuple(entry for outcome in outcomes for entry in outcome.written)
        return Outcome(written, (*left_out, *(entry for outcome in outcomes for entry in outcome.left_out)))

    def _write(self, record: Record) -> Outcome:
        reason = self._unusable(record)
        if reason is not None:
            return Outcome(left_out=((reason, str(record.image)),))
        entries, left_out = _usable(record)
        if not entries:
            return Outcome(left_out=tuple(left_out))
        files: list[str] = []
        try:
            for mask, folder in ((record.mask, "masks"), (record.occluder_mask, "occluder_masks")):
                if mask is not None:
                    files.append(f"{folder}/{record.category}/{record.name}.png")
                    self._write_mask(mask, self.out / files[-1])
        except CompNetError:
            return Outcome(left_out=(*left_out, ("unreadable mask", str(mask))))
        try:
            files.append(self._write_image(record))
        except CompNetError:
            return Outcome(left_out=(*left_out, ("unreadable image", str(record.image))))
        files.append(f"annotations/{record.category}/{record.name}.npz")
        (self.out / files[-1]).parent.mkdir(parents=True, exist_ok=True)
        write_annotation(self.out / files[-1], entries)
        sizes = tuple((name, (self.out / name).stat().st_size) for name in files)
        written = Written(record.category, record.name, record.splits, len(entries), sizes)
        return Outcome((written,), tuple(left_out))

    def _unusable(self, record: Record) -> str | None:
        """Why nothing can be made of a record."""
        if record.category not in self.modelled:
            self.modelled[record.category] = bool(self.source.models(record.category))
        if not self.modelled[record.category]:
            return f"no CAD model of {record.category}"
        if not is_file(record.image):
            return "missing image"
        try:
            image_size(record.image)
        except CompNetError:
            return "unreadable image"
        return None

    def _write_image(self, record: Record) -> str:
        suffix = record.image.suffix
        copied = suffix in IMAGE_SUFFIXES
        name = f"images/{record.category}/{record.name}{suffix if copied else '.png'}"
        target = self.out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # never written into: it may be a link to the source
        target.unlink(missing_ok=True)
        if not copied:
            load_image(record.image).save(target)
        elif not (self.link and _link(record.image, target)):
            copy_file(record.image, target)
        return name

    def _write_mask(self, mask: Mask, target: Path) -> None:
        pixels = mask if isinstance(mask, np.ndarray) else load_mask(mask)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels != 0).astype(np.uint8) * 255).save(target)


def _link(source: Path, target: Path) -> bool:
    """Whether a hard link could be made; not to another disk, and not on every file system."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True


def _usable(record: Record) -> tuple[list[Annotation], list[LeftOut]]:
    """The objects that our reader would take, and why it would not take the others."""
    taken: list[Annotation] = []
    left_out: list[LeftOut] = []
    for where, entry in record.entries:
        try:
            parse_object(entry, image=record.image, category=record.category, name=record.name)
            taken.append(entry)
        except SkipObject as reason:
            left_out.append((str(reason), where))
    return taken, left_out
