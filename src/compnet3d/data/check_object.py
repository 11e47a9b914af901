"""What looks wrong with one object of a data set: its image, its mask, its numbers."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path

from compnet3d.data.check_masks import marks_surroundings
from compnet3d.data.check_views import projected_box_ious
from compnet3d.data.findings import CheckResult
from compnet3d.data.images import ImageFacts, image_facts, load_mask
from compnet3d.data.members import Member
from compnet3d.data.sample import Sample
from compnet3d.data.transforms import match_image_size
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh


def check_sample(sample: Sample, meshes: dict[int, Mesh], decode: bool, result: CheckResult) -> None:
    """Add what looks wrong with one object to a result.

    Args:
        sample: the object; meshes: CAD models of its category by their index, as cad_index names them.
        decode: also decode image and mask; result: what is added to.
    """
    if decode:
        check_pixels(sample, result)
    overlap = float(projected_box_ious([sample], meshes)[0]) if meshes else None
    check_annotation(sample, meshes, overlap, result)


def check_annotation(sample: Sample, meshes: Collection[int], overlap: float | None, result: CheckResult) -> None:
    """`check_sample` without the files.

    Args:
        meshes: the indices of the CAD models; overlap: of `projected_box_ious`, None where there is no model.
    """
    min_box_iou = 0.3  # projected CAD model against the annotated box; honest annotations reach 0.6 to 0.9
    for problem, detail in implausible(sample):
        result.add("warning", sample.category, problem, sample.key, detail)
    if overlap is None:
        return
    if sample.cad_index not in meshes:
        detail = f"cad_index {sample.cad_index}"
        result.add("warning", sample.category, "cad_index without a CAD file", sample.key, detail)
    if overlap < min_box_iou:
        detail = f"IoU {overlap:.2f}"
        result.add("warning", sample.category, "projected CAD model far from the box", sample.key, detail)


def mesh_of(sample: Sample, meshes: Mapping[int, Mesh]) -> Mesh:
    """The CAD model that an annotation names, of those by their index; where it is missing, another one."""
    # any of the category's models is near enough to tell a wrong pose
    return meshes.get(sample.cad_index, meshes[min(meshes)])


def check_pixels(sample: Sample, result: CheckResult) -> ImageFacts | None:
    """Add what is wrong with an object's image and mask to a result; what the image's file says, where it can be read.

    All bytes of both files are gone through. Of a JPEG few pixels are made, which finds what is damaged as well.
    """
    annotated = (sample.width, sample.height)
    try:
        facts = image_facts(sample.image, annotated)
    except CompNetError as error:
        result.add("error", sample.category, "broken image", sample.image, str(error))
        return None
    try:
        match_image_size(sample, facts.size)
    except CompNetError as error:
        result.add("error", sample.category, "image of another size than annotated", sample.image, str(error))
        return None
    # of the same proportions, as checked above: readers scale the annotation
    if facts.size != annotated:
        detail = f"{facts.size[0]} x {facts.size[1]} for {sample.width} x {sample.height}"
        result.add("note", sample.category, "resized image", sample.image, detail)
    if sample.mask is not None:
        _check_mask(sample, sample.mask, facts.size, result)
    return facts


def _check_mask(sample: Sample, path: Path | Member, size: tuple[int, int], result: CheckResult) -> None:
    try:
        mask = load_mask(path, size=size)
    except CompNetError as error:
        result.add("error", sample.category, "broken mask, or of another image", path, str(error))
        return
    if not mask.any():
        result.add("warning", sample.category, "empty mask", path)
    elif marks_surroundings(mask, [value * size[0] / sample.width for value in sample.bbox]):
        detail = "the object is black; make it white and the rest black"
        result.add("warning", sample.category, "mask marks what is round the object", path, detail)
    elif mask.all() and sample.bbox[2] - sample.bbox[0] < 0.9 * sample.width:
        detail = "no pixel is black or clear"
        result.add("warning", sample.category, "mask covers all of the image, but not the box", path, detail)


def implausible(sample: Sample) -> list[tuple[str, str]]:
    """What looks wrong in one annotation: (problem, detail) pairs; empty for a plausible one."""
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
    # no lens sees more, and none of a camera less: millimetres or shares of the image show here
    view = math.degrees(2 * math.atan(max(sample.width, sample.height) / 2 / sample.focal))
    if not 0.5 <= view <= 150.0:
        detail = f"viewport * focal is {sample.focal:g} pixels"
        found.append((f"field of view {'under half a degree' if view < 1 else 'over 150 degrees'}", detail))
    return found


def projected_box_iou(sample: Sample, mesh: Mesh) -> float:
    """`projected_box_ious` of one object and its CAD model."""
    return float(projected_box_ious([sample], {sample.cad_index: mesh})[0])
