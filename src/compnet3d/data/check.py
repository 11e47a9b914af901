"""Looking a data set over before training on it: `compnet3d data check DIR`."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from compnet3d.data.annotations import DEGREES, SHARES
from compnet3d.data.check_category import check_orientation, check_poses, check_units, compare_all
from compnet3d.data.check_object import check_annotation, check_pixels
from compnet3d.data.check_poses import Fits
from compnet3d.data.check_views import outermost, projected_box_ious
from compnet3d.data.findings import CategoryCounts, CheckResult, Finding, Severity
from compnet3d.data.imagenet3d import ImageNet3D, ReadReport, read_objects
from compnet3d.data.sample import Sample
from compnet3d.data.shapes.read import load_mesh
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh
from compnet3d.utils.files import files_in
from compnet3d.utils.progress import tracked
from compnet3d.utils.workers import spread_out


def check_dataset(
    root: Path | str, *, decode: bool = True, workers: int | None = None, progress: bool = False
) -> CheckResult:
    """Check every file that the lists of a data set name, and whether poses and boxes are what they should be.

    Args:
        root: a data set in the ImageNet3D raw layout.
        decode: also go through every image and mask, which finds the damaged ones.
        workers: processes; one per core by default, fewer for small data sets. The findings do not depend on it.
        progress: draw a progress bar on stderr.

    Returns:
        The counts and the findings; nothing is raised for what is wrong inside the data set.

    Raises:
        CompNetError: if the folder, its lists or its `symmetry.json` cannot be read at all.
    """
    # each category's files are gone through here, not by `samples`: that stops at the first list that cannot be read
    dataset = ImageNet3D(root)
    result = CheckResult(dataset.root)
    lists = {category: _read_lists(dataset, category, result) for category in dataset.categories}
    tasks = [task for category, listed in lists.items() for task in _tasks_of(category, listed)]
    # what a process costs is worth a thousand images
    answers = spread_out(_Work(dataset, decode), tasks, workers, worthwhile=16)
    parts = list(tracked(answers, "checking", enabled=progress, total=len(tasks)))
    for category, listed in lists.items():
        own = [part for task, part in zip(tasks, parts, strict=True) if task.category == category]
        _sum_up(dataset, category, listed, own, result)
    compare_all([part.fits for part in parts if part.fits is not None], result)
    # most likely misspelt, and then silently without effect
    for category in sorted(set(dataset.symmetry) - set(dataset.categories)):
        result.add("warning", category, "symmetry.json has a category without lists", dataset.root / "symmetry.json")
    return result


def _tasks_of(category: str, listed: dict[str, list[str]]) -> list[_Files | _Poses]:
    """What is to be done for a category."""
    chunk = 64  # images that are checked at a time
    files = [
        _Files(category, split, tuple(names[start : start + chunk]))
        for split, names in listed.items()
        for start in range(0, len(names), chunk)
    ]
    return [*files, _Poses(category, tuple(_drawn(category, listed)))]


@dataclass(frozen=True)
class _Files:
    """Some images of a list whose files are to be checked."""

    category: str
    split: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Poses:
    """Some images of a category whose poses are to be compared with mistakes, in an order drawn at random."""

    category: str
    names: tuple[str, ...]


@dataclass
class _Part:
    """What one task has found: findings, and what is summed up over a category."""

    split: str = ""
    findings: list[Finding] = field(default_factory=list)
    objects: int = 0
    images: int = 0
    masks: int = 0
    instances: set[str] = field(default_factory=set)
    angles: list[tuple[float, float, float]] = field(default_factory=list)
    unsettled: list[Sample] = field(default_factory=list)
    cad_models: int = 0
    cad_findings: list[Finding] = field(default_factory=list)
    fits: Fits | None = None


@dataclass
class _Models:
    """A category's CAD models, what of them tells their boxes, and what is wrong with them."""

    category: str
    whole: dict[int, Mesh]
    outlines: dict[int, Mesh]
    findings: list[Finding]


@dataclass
class _Work:
    """What each process does; CAD models are kept for the tasks of their category, which follow each other."""

    dataset: ImageNet3D
    decode: bool
    kept: _Models | None = None

    def __call__(self, task: _Files | _Poses) -> _Part:
        found = CheckResult(self.dataset.root)
        if self.kept is None or self.kept.category != task.category:
            whole = check_cad(self.dataset, task.category, found)
            outlines = {index: outermost(mesh) for index, mesh in whole.items()}
            self.kept = _Models(task.category, whole, outlines, found.findings)
        models = self.kept
        if isinstance(task, _Files):
            return _check_files(self.dataset, task, models.outlines, self.decode)
        found = CheckResult(self.dataset.root)
        fits = check_poses(self.dataset.root, task.category, task.names, models.whole, found)
        # of the models here alone, so that it is told once
        return _Part(findings=found.findings, cad_models=len(models.whole), cad_findings=models.findings, fits=fits)


def _read_lists(dataset: ImageNet3D, category: str, result: CheckResult) -> dict[str, list[str]]:
    listed: dict[str, list[str]] = {}
    for split in dataset.splits:
        where = f"{category}_imagenet_{split}.txt"
        if not dataset.has_list(category, split):
            result.add("warning", category, "no list for a split", where)
            continue
        try:
            listed[split] = dataset.names(category, split)
        except CompNetError as error:
            result.add("error", category, "unreadable list", where, str(error))
    return listed


def _drawn(category: str, listed: dict[str, list[str]]) -> list[str]:
    """Images of all lists at random, always the same ones, as many as are looked at closely."""
    most = 160
    names = list(dict.fromkeys(name for names in listed.values() for name in names))
    rng = np.random.default_rng(zlib.crc32(category.encode(errors="surrogateescape")))
    return [names[i] for i in rng.permutation(len(names))[:most]]


def _check_files(dataset: ImageNet3D, task: _Files, meshes: dict[int, Mesh], decode: bool) -> _Part:
    part = _Part(task.split)
    read: list[tuple[list[Sample], CheckResult]] = []
    for name in task.names:
        found = CheckResult(dataset.root)
        read.append((_read(dataset, task.category, name, found), found))
    every = [sample for samples, _ in read for sample in samples]
    overlaps = iter(projected_box_ious(every, meshes).tolist() if every and meshes else [None] * len(every))
    for samples, found in read:
        for number, sample in enumerate(samples):
            # objects of one image share its files
            facts = check_pixels(sample, found) if decode and number == 0 else None
            if facts is not None and not facts.settled:
                part.unsettled.append(sample)
            check_annotation(sample, meshes, next(overlaps), found)
        part.objects += len(samples)
        part.images += bool(samples)
        part.masks += sum(sample.mask is not None for sample in samples)
        # names of ImageNet tell no instances; they are left out of the comparison
        part.instances |= {sample.instance for sample in samples if sample.instance is not None}
        part.angles += [(sample.azimuth, sample.elevation, sample.theta) for sample in samples]
        part.findings += found.findings
    return part


def _sum_up(
    dataset: ImageNet3D, category: str, listed: dict[str, list[str]], parts: Sequence[_Part], result: CheckResult
) -> None:
    """Add to the result what the parts of a category have found, and what only all of them together tell."""
    counts = result.categories[category] = CategoryCounts()
    instances: dict[str, set[str]] = {split: set() for split in listed}
    result.findings += [finding for part in parts for finding in part.cad_findings]
    for part in parts:
        result.findings += part.findings
        counts.cad_models += part.cad_models
        counts.masks += part.masks
        if part.split:
            instances[part.split] |= part.instances
    for split in listed:
        own = [part for part in parts if part.split == split]
        counts.objects[split] = sum(part.objects for part in own)
        counts.images[split] = sum(part.images for part in own)
        if not counts.objects[split]:
            result.add("error", category, "no usable object in a split", f"{category}_imagenet_{split}.txt")
    counts.instances = len(set().union(*instances.values()))
    _check_leaks(category, "image", {split: set(names) for split, names in listed.items()}, result)
    _check_leaks(category, "instance", instances, result)
    _check_unlisted(dataset, category, set().union(*listed.values()), result)
    check_units(category, [angles for part in parts for angles in part.angles], result)
    check_orientation(category, [sample for part in parts for sample in part.unsettled], result)


def _read(dataset: ImageNet3D, category: str, name: str, result: CheckResult) -> list[Sample]:
    broken_file = ("missing image", "missing annotation", "unreadable annotation", "list entry is not an image name",
                   DEGREES, SHARES)  # fmt: skip
    report = ReadReport()
    samples = read_objects(dataset.root, category, name, report)
    for reason, count in report.skipped.items():
        # a broken file and a wrong unit are the data set's fault; an object that cannot be used is left out by every
        # reader, and training goes on
        broken = reason in broken_file or reason.startswith(("annotation is ", "image is "))
        severity: Severity = "error" if broken else "warning"
        problem = reason if severity == "error" else f"object skipped: {reason}"
        # one finding each, so that counts are those of the reader's report
        for _ in range(count):
            result.add(severity, category, problem, report.examples[reason])
    return samples


def check_cad(dataset: ImageNet3D, category: str, result: CheckResult) -> dict[int, Mesh]:
    """The category's readable CAD models by index; findings on the others go to the result."""
    meshes: dict[int, Mesh] = {}
    try:
        paths = dataset.cad_paths(category)
    except CompNetError as error:  # two files for one model
        result.add("error", category, "broken CAD model", dataset.root / "CAD" / category, str(error))
        return meshes
    for path in paths:
        try:
            mesh = load_mesh(path)
        except CompNetError as error:
            result.add("error", category, "broken CAD model", path, str(error))
            continue
        if path.stem.isdecimal():
            meshes[int(path.stem)] = mesh
        else:
            result.add("warning", category, "CAD model whose name is not a number", path)
    if not meshes:
        result.add("error", category, "no CAD model", dataset.root / "CAD" / category)
    return meshes


def _check_leaks(category: str, what: str, members: dict[str, set[str]], result: CheckResult) -> None:
    splits = sorted(members)
    for i, first in enumerate(splits):
        for second in splits[i + 1 :]:
            # the same image or physical object in train and val makes test metrics look better than they are
            shared = sorted(members[first] & members[second])
            if shared:
                detail = f"{len(shared)} of them, such as {shared[0]}"
                result.add("warning", category, f"same {what} in {first} and {second}", shared[0], detail)


def _check_unlisted(dataset: ImageNet3D, category: str, listed: set[str], result: CheckResult) -> None:
    folder = dataset.root / "images" / category
    if folder.is_dir():
        unlisted = [path.name for path in files_in(folder) if path.stem not in listed]
        if unlisted:
            detail = f"{len(unlisted)} of them, such as {unlisted[0]}"
            result.add("note", category, "images that are in no list", folder, detail)
