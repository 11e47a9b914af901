"""Looking a data set over before training on it: `compnet3d data check DIR`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from compnet3d.data.imagenet3d import ImageNet3D, ReadReport, read_objects
from compnet3d.data.images import load_image, load_mask
from compnet3d.data.sample import Sample
from compnet3d.data.shapes.read import load_mesh
from compnet3d.data.transforms import match_image_size
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Camera, Pose
from compnet3d.geometry.mesh import Mesh
from compnet3d.utils.files import is_file
from compnet3d.utils.progress import tracked
from compnet3d.utils.text import printable

if TYPE_CHECKING:
    from rich.console import Console


Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One problem: how bad, in which category, of which kind, in which file, and what exactly."""

    severity: Severity
    category: str
    problem: str
    where: str
    detail: str = ""


@dataclass
class CategoryCounts:
    """What one category holds: usable objects per split, CAD models, masks, and known instances."""

    objects: dict[str, int] = field(default_factory=dict)
    cad_models: int = 0
    masks: int = 0
    instances: int = 0


@dataclass
class CheckResult:
    """What the check found.

    `exit_code` is 1 if there is any error (files that are missing, broken, or would stop a training), else 0.
    """

    root: Path
    categories: dict[str, CategoryCounts] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add(self, severity: Severity, category: str, problem: str, where: object, detail: str = "") -> None:
        """Record one finding."""
        self.findings.append(Finding(severity, category, problem, str(where), detail))

    def count(self, severity: Severity) -> int:
        """The number of findings of one severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """For the command line."""
        return 1 if self.count("error") else 0

    def summary(self) -> str:
        """One line."""
        objects = sum(sum(counts.objects.values()) for counts in self.categories.values())
        return (
            f"{objects} usable objects in {len(self.categories)} categories; {self.count('error')} errors, "
            f"{self.count('warning')} warnings, {self.count('note')} notes"
        )


def check_dataset(root: Path | str, *, decode: bool = True, progress: bool = False) -> CheckResult:
    """Check every file that the lists of a data set name.

    Args:
        root: a data set in the ImageNet3D raw layout.
        decode: also decode every image and mask, which finds the damaged ones.
        progress: draw a progress bar on stderr.

    Returns:
        The counts and the findings; nothing is raised for what is wrong inside the data set.

    Raises:
        CompNetError: if the folder, its lists or its `symmetry.json` cannot be read at all.
    """
    # each category's files are gone through here, not by `samples`: that stops at the first list that cannot be read
    dataset = ImageNet3D(root)
    result = CheckResult(dataset.root)
    for category in tracked(dataset.categories, "checking", enabled=progress):
        _check_category(dataset, category, decode, result)
    # most likely misspelt, and then silently without effect
    for category in sorted(set(dataset.symmetry) - set(dataset.categories)):
        result.add("warning", category, "symmetry.json has a category without lists", dataset.root / "symmetry.json")
    return result


def _check_category(dataset: ImageNet3D, category: str, decode: bool, result: CheckResult) -> None:
    counts = result.categories[category] = CategoryCounts()
    meshes = check_cad(dataset, category, result)
    counts.cad_models = len(meshes)
    listed: dict[str, set[str]] = {}
    instances: dict[str, set[str]] = {}
    for split in dataset.splits:
        if not dataset.has_list(category, split):
            result.add("warning", category, "no list for a split", f"{category}_imagenet_{split}.txt")
            continue
        try:
            names = dataset.names(category, split)
        except CompNetError as error:
            result.add("error", category, "unreadable list", f"{category}_imagenet_{split}.txt", str(error))
            continue
        listed[split] = set(names)
        samples = [sample for name in names for sample in _read(dataset, category, name, result)]
        counts.objects[split] = len(samples)
        counts.masks += sum(sample.mask is not None for sample in samples)
        # names of ImageNet tell no instances; they are left out of the comparison
        instances[split] = {sample.instance for sample in samples if sample.instance is not None}
        if not samples:
            result.add("error", category, "no usable object in a split", f"{category}_imagenet_{split}.txt")
        for sample in samples:
            check_sample(sample, meshes, decode, result)
    counts.instances = len(set().union(*instances.values()))
    _check_leaks(category, "image", listed, result)
    _check_leaks(category, "instance", instances, result)
    _check_unlisted(dataset, category, set().union(*listed.values()), result)


def _read(dataset: ImageNet3D, category: str, name: str, result: CheckResult) -> list[Sample]:
    broken_file = ("missing image", "missing annotation", "unreadable annotation", "list entry is not an image name")
    report = ReadReport()
    samples = read_objects(dataset.root, category, name, report)
    for reason, count in report.skipped.items():
        # a broken file is the data set's fault; an object that cannot be used is left out by every reader, and training
        # goes on
        severity: Severity = "error" if reason in broken_file else "warning"
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
        unlisted = sorted(path.name for path in folder.iterdir() if is_file(path) and path.stem not in listed)
        if unlisted:
            detail = f"{len(unlisted)} of them, such as {unlisted[0]}"
            result.add("note", category, "images that are in no list", folder, detail)


def check_sample(sample: Sample, meshes: dict[int, Mesh], decode: bool, result: CheckResult) -> None:
    """Add what looks wrong with one object to a result.

    Args:
        sample: the object; meshes: CAD models of its category by their index, as cad_index names them.
        decode: also decode image and mask; result: what is added to.
    """
    min_box_iou = 0.3  # projected CAD model against the annotated box; honest annotations reach 0.6 to 0.9
    if decode:
        _check_pixels(sample, result)
    for problem, detail in implausible(sample):
        result.add("warning", sample.category, problem, sample.key, detail)
    if not meshes:
        return
    if sample.cad_index not in meshes:
        detail = f"cad_index {sample.cad_index}"
        result.add("warning", sample.category, "cad_index without a CAD file", sample.key, detail)
    overlap = projected_box_iou(sample, mesh_of(sample, meshes))
    if overlap < min_box_iou:
        detail = f"IoU {overlap:.2f}"
        result.add("warning", sample.category, "projected CAD model far from the box", sample.key, detail)


def mesh_of(sample: Sample, meshes: dict[int, Mesh]) -> Mesh:
    """The CAD model that an annotation names, of those by their index; where it is missing, another one."""
    # any of the category's models is near enough to tell a wrong pose
    return meshes.get(sample.cad_index, meshes[min(meshes)])


def _check_pixels(sample: Sample, result: CheckResult) -> None:
    try:
        image = load_image(sample.image, size=(sample.width, sample.height))
    except CompNetError as error:
        result.add("error", sample.category, "broken image", sample.image, str(error))
        return
    try:
        match_image_size(sample, image.size)
    except CompNetError as error:
        result.add("error", sample.category, "image of another size than annotated", sample.image, str(error))
        return
    # of the same proportions, as checked above: readers scale the annotation
    if image.size != (sample.width, sample.height):
        detail = f"{image.width} x {image.height} for {sample.width} x {sample.height}"
        result.add("note", sample.category, "resized image", sample.image, detail)
    if sample.mask is None:
        return
    try:
        if not load_mask(sample.mask).any():
            result.add("warning", sample.category, "empty mask", sample.mask)
    except CompNetError as error:
        result.add("error", sample.category, "broken mask", sample.mask, str(error))


def implausible(sample: Sample) -> list[tuple[str, str]]:
    """What looks wrong in one annotation: (problem, detail) pairs; empty for a plausible one."""
    # of ImageNet3D and PASCAL3D+, at a focal length of 1; a wrong unit shows here
    viewports = (2000.0, 3000.0)
    found: list[tuple[str, str]] = []
    if abs(sample.elevation) > math.pi / 2 + 1e-6:
        found.append(("elevation beyond +-90 degrees", f"{math.degrees(sample.elevation):.1f} degrees"))
    u, v = sample.principal_point
    # objects that are cut by the border may have their origin outside, but not by more than an image
    if not (-sample.width <= u <= 2 * sample.width and -sample.height <= v <= 2 * sample.height):
        found.append(("principal point far outside the image", f"({u:.0f}, {v:.0f})"))
    x1, y1, x2, y2 = sample.bbox
    detail = f"({x1:.0f}, {y1:.0f}, {x2:.0f}, {y2:.0f}) in {sample.width} x {sample.height}"
    inside = max(0.0, min(x2, sample.width) - max(x1, 0.0)) * max(0.0, min(y2, sample.height) - max(y1, 0.0))
    area = (x2 - x1) * (y2 - y1)
    if inside <= 0.0:
        found.append(("box outside the image", detail))
    elif inside < 0.5 * area:
        found.append(("box mostly outside the image", detail))
    elif min(x2 - x1, y2 - y1) < 2.0:
        found.append(("box under two pixels", detail))
    if not any(math.isclose(sample.focal, viewport, rel_tol=0.01) for viewport in viewports):
        found.append(("viewport * focal is unusual", f"{sample.focal:g}"))
    return found


def projected_box_iou(sample: Sample, mesh: Mesh) -> float:
    """Intersection over union of the annotated box and the box of the projected CAD model.

    Both are cut to the image as well, and the better of the two counts, because annotators differ in whether
    boxes follow an object out of the image. 0 if a part of the model is behind the camera.
    """
    cad_points = 2000
    # a scan may have 100,000 vertices, and each sample projects one; the box hardly depends on every vertex
    step = max(1, len(mesh.vertices) // cad_points)
    # double precision: the pixels of a far object are small differences of large numbers
    pose = Pose.of(sample.azimuth, sample.elevation, sample.theta, sample.distance, dtype=torch.float64)
    camera = Camera(
        focal=torch.tensor(sample.focal, dtype=torch.float64),
        principal_point=torch.tensor(sample.principal_point, dtype=torch.float64),
        height=sample.height,
        width=sample.width,
    )
    pixels, depth = camera.project(mesh.vertices[::step].double(), pose)
    if not bool((depth > 0).all()):
        return 0.0
    projected = np.concatenate([pixels.amin(0).numpy(), pixels.amax(0).numpy()])
    box = np.array(sample.bbox)
    limits = np.array([sample.width, sample.height, sample.width, sample.height], dtype=float)
    return max(_iou(projected, box), _iou(projected.clip(0.0, limits), box.clip(0.0, limits)))


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    overlap = (np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])).clip(0.0).prod()
    # boxes cut to the image may be empty; then the union is that of the other, or 0
    union = (first[2:] - first[:2]).prod() + (second[2:] - second[:2]).prod() - overlap
    return float(overlap / union) if union > 0 else 0.0


def print_check(result: CheckResult, console: Console | None = None) -> None:
    """Print the counts per category, the findings by kind with an example each, and the summary."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = console or Console()
    splits = sorted({split for counts in result.categories.values() for split in counts.objects})
    table = Table(title=f"{escape(printable(str(result.root)))}: usable objects", title_justify="left")
    table.add_column("category")
    for name in (*splits, "instances", "CAD", "masks", "errors", "warnings"):
        table.add_column(name, justify="right")
    for category, counts in result.categories.items():
        own = [finding.severity for finding in result.findings if finding.category == category]
        metrics = [counts.objects.get(split, 0) for split in splits]
        metrics += [counts.instances, counts.cad_models, counts.masks, own.count("error"), own.count("warning")]
        table.add_row(escape(printable(category)), *map(str, metrics))
    console.print(table)
    if result.findings:
        console.print(_findings_table(result))
    colour = "red" if result.count("error") else "yellow" if result.count("warning") else "green"
    console.print(f"[{colour}]{result.summary()}[/{colour}]")


def _findings_table(result: CheckResult):  # type: ignore[no-untyped-def]  # the type would import rich
    order: tuple[Severity, ...] = ("error", "warning", "note")
    from rich.markup import escape
    from rich.table import Table

    groups: dict[tuple[Severity, str], list[Finding]] = {}
    for finding in result.findings:
        groups.setdefault((finding.severity, finding.problem), []).append(finding)
    table = Table(title="findings", title_justify="left")
    for name in ("", "problem", "count", "for example"):
        table.add_column(name, justify="right" if name == "count" else "left", overflow="fold")
    for (severity, problem), members in sorted(groups.items(), key=lambda g: (order.index(g[0][0]), -len(g[1]))):
        first = members[0]
        # most messages of ours name the file already
        example = first.detail if first.where in first.detail else f"{first.where}  {first.detail}".strip()
        table.add_row(severity, problem, str(len(members)), escape(printable(example)))
    return table
