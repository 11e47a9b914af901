"""What only many objects of a data set together tell: wrong units, signs, axes and orientations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from compnet3d.data.annotations import EMPTY_BOX, Annotation, SkipObject, parse_object, read_annotation
from compnet3d.data.check_boxes import BoxLayout, find_box_layout
from compnet3d.data.check_masks import Window, windows_of
from compnet3d.data.check_orientation import upright_by_masks
from compnet3d.data.check_poses import Better, Fits, find_better, is_open, measure_fits
from compnet3d.data.check_views import projected_boxes
from compnet3d.data.findings import CheckResult
from compnet3d.data.imagenet3d import find_image, find_mask, is_image_name
from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh
from compnet3d.geometry.rotations import TWO_PI


def check_units(category: str, angles: Sequence[tuple[float, float, float]], result: CheckResult) -> None:
    """Add a finding if a category's angles look like degrees, or like radians that were made radians again.

    Args:
        category: is named by the finding; angles: azimuth, elevation and theta, as a sample has them.
        result: what the finding is added to.
    """
    enough = 4
    # degrees that a writer has wrapped to a turn: 90 is 2.035 then
    whole = np.array([degrees for degrees in range(-360, 361) if degrees]) % TWO_PI
    wrapped = False
    for place, name in enumerate(("azimuths", "elevations", "thetas")):
        values = sorted({entry[place] % TWO_PI for entry in angles if entry[place]})
        if len(values) >= enough and np.abs(np.array(values)[:, None] - whole).min(axis=1).max() < 1e-5:
            detail = f"{len(values)} different ones, such as {values[0]:.6g}; write math.radians(degrees)"
            result.add("warning", category, f"{name} are whole degrees modulo 2 pi: degrees?", category, detail)
            wrapped = True
    azimuths = sorted({azimuth for azimuth, _, _ in angles if azimuth > 0})
    if (
        not wrapped
        and len(azimuths) >= enough
        and all(math.pi / 180 * limit >= largest for limit, largest in _largest(angles))
    ):
        detail = f"azimuths up to {azimuths[-1]:.3g} rad alone; convert degrees to radians once"
        result.add("note", category, "all angles are small: converted to radians twice?", category, detail)


def _largest(angles: Sequence[tuple[float, float, float]]) -> list[tuple[float, float]]:
    """What azimuth and elevation can be at most, and are."""
    azimuth, elevation = (max(abs(entry[i]) for entry in angles) for i in (0, 1))
    return [(TWO_PI, azimuth), (math.pi / 2, elevation)]


def check_orientation(category: str, unsettled: Sequence[Sample], result: CheckResult) -> None:
    """Add a finding for each image with an EXIF orientation that the annotated size does not settle.

    Nothing is wrong where masks show that the upright images are meant, as they are read.
    """
    if not unsettled:
        return
    upright = upright_by_masks(unsettled)
    if upright:
        return
    verdict = (
        "it is turned, as EXIF says; if boxes and poses are of the stored pixels, take the orientation out of the file"
        if upright is None
        else "masks lie on the stored pixels, but the image is turned; take the orientation out of the file"
    )
    for sample in unsettled:
        problem = "EXIF orientation that the annotated size does not settle"
        result.add("warning", category, problem, sample.image, verdict)


def check_poses(
    root: Path, category: str, names: Sequence[str], meshes: Mapping[int, Mesh], result: CheckResult
) -> Fits | None:
    """Compare the poses and boxes of a category with their usual mistakes.

    Args:
        root: of the data set; names: images, the first of which are looked at; more where they leave it open.
        meshes: CAD models by their index.
        result: what a finding is added to.

    Returns:
        The fits; None where nothing can be compared.
    """
    at_a_time = 40  # objects
    if not meshes:
        return None
    parts: list[Fits] = []
    better: Better | None = None
    layout: BoxLayout | None = None
    for start in range(0, len(names), at_a_time):
        samples = [sample for name in names[start : start + at_a_time] for sample in _objects(root, category, name)]
        windows = windows_of(samples)
        if start == 0:
            layout = _check_boxes(category, samples, windows, meshes, result)
        if layout is not None:
            samples = [_reread(sample, layout) for sample in samples]
            windows = windows_of(samples)  # some depend on the boxes
        usable = [i for i, s in enumerate(samples) if s.bbox[2] > s.bbox[0] and s.bbox[3] > s.bbox[1]]
        samples, windows = [samples[i] for i in usable], [windows[i] for i in usable]
        masked = sum(window is not None for window in windows)
        by: Literal["masks", "boxes"] = "masks" if 2 * masked > len(samples) else "boxes"
        if not samples or (parts and parts[0].by != by):
            break
        parts.append(measure_fits(samples, meshes, by, windows))
        better = find_better(Fits.cat(parts))
        if better is not None or not is_open(Fits.cat(parts)):
            break
    if better is not None:
        result.add("warning", category, f"poses: {better.names[0]} fits better", category, str(better))
        return None  # said already
    return Fits.cat(parts) if parts else None


def compare_all(fits: Sequence[Fits], result: CheckResult) -> None:
    """Add a finding if a mistake shows only over all categories: those of few images may not tell alone."""
    everywhere = "all categories"
    for by in ("masks", "boxes"):
        own = [part for part in fits if part.by == by]
        if len(own) > 1 and (better := find_better(Fits.cat(own))) is not None:
            result.add("warning", everywhere, f"poses: {better.names[0]} fits better", everywhere, str(better))


def _objects(root: Path, category: str, name: str) -> list[Sample]:
    """The objects of an image, also those whose box is empty, as it is where the four numbers are something else."""
    image = find_image(root, category, name) if is_image_name(name) else None
    if image is None:
        return []
    try:
        entries = read_annotation(root / "annotations" / category / f"{name}.npz")
    except CompNetError:
        return []
    found = []
    for index, entry in enumerate(entries):
        sample = _parsed(entry, image, category, name)
        if sample is not None:
            found.append(replace(sample, object_index=index, mask=find_mask(root, category, name)))
    return found


def _parsed(entry: Annotation, image: Path, category: str, name: str) -> Sample | None:
    try:
        return parse_object(entry, image=image, category=category, name=name)
    except SkipObject as reason:
        if str(reason) != EMPTY_BOX:
            return None
    try:
        sample = parse_object(entry | {"bbox": [0.0, 0.0, 2.0, 2.0]}, image=image, category=category, name=name)
    except SkipObject:
        return None
    a, b, c, d = (float(x) for x in entry["bbox"])
    return replace(sample, bbox=(a, b, c, d))


def _reread(sample: Sample, layout: BoxLayout) -> Sample:
    x1, y1, x2, y2 = layout.read(np.array([sample.bbox]))[0].tolist()
    return replace(sample, bbox=(x1, y1, x2, y2))


def _check_boxes(
    category: str,
    samples: Sequence[Sample],
    windows: Sequence[Window | None],
    meshes: Mapping[int, Mesh],
    result: CheckResult,
) -> BoxLayout | None:
    """Compare boxes with the masks or, where there are none, with the projected CAD models."""
    if not samples:
        return None
    objects = projected_boxes(samples, meshes)
    for row, window in zip(objects, windows, strict=True):
        if window is not None:
            row[:] = window.box
    known = ~np.isnan(objects).any(axis=1)
    found = find_box_layout(np.array([s.bbox for s in samples], dtype=float)[known], objects[known])
    if found is None:
        return None
    layout, detail = found
    result.add("warning", category, f"boxes look like {layout.name}", category, f"{detail}; write x1, y1, x2, y2")
    return layout
