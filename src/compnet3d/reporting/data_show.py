"""A data set's annotations, drawn on its images: `compnet3d data show`."""

from __future__ import annotations

import html
import io
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from compnet3d.data.check import check_cad
from compnet3d.data.check_masks import marked_mask, windows_of
from compnet3d.data.check_object import check_sample, mesh_of, projected_box_iou
from compnet3d.data.check_poses import Fits, find_better, measure_fits
from compnet3d.data.findings import CheckResult
from compnet3d.data.imagenet3d import ImageNet3D, read_objects
from compnet3d.data.images import load_image
from compnet3d.data.sample import Sample
from compnet3d.data.silhouettes import silhouette_iou
from compnet3d.data.transforms import match_image_size
from compnet3d.errors import CompNetError
from compnet3d.geometry.cuboid import cuboid_mesh
from compnet3d.geometry.mesh import Mesh, cuboid_bounds
from compnet3d.reporting.listing import SCRIPT, Item, Order, Value, gallery
from compnet3d.reporting.overlays import draw_annotation, encode_jpeg
from compnet3d.reporting.page import data_uri, page
from compnet3d.utils.files import write_bytes, write_text
from compnet3d.utils.progress import tracked

_SIDE = 260  # pixels of a picture's longer side
Pictures = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Shown:
    """One object of the page.

    Attributes:
        sample, split: which it is.
        fit: how well the projected model agrees with the mask or the box, in [0, 1]; 0 where nothing can be projected.
        by: "mask" or "box", which it was measured with; "nothing" where there is no CAD model.
        findings: what `data check` says of it.
        mesh: what is drawn; None without a CAD model.
        fits: the fit with each usual mistake undone; None without a CAD model.
    """

    sample: Sample
    split: str
    fit: float
    by: Literal["mask", "box", "nothing"]
    findings: tuple[str, ...]
    mesh: Mesh | None
    fits: Fits | None


def examine(
    root: Path | str,
    *,
    images: int | None = None,
    categories: Sequence[str] | None = None,
    shape: Literal["mesh", "cuboid"] = "mesh",
    seed: int = 0,
    progress: bool = False,
) -> list[Shown]:
    """Choose objects of a data set and measure how well their annotations fit, the worst first.

    Args:
        root: a data set in the ImageNet3D layout.
        images: of each category and split, drawn at random; by default 12, fewer where that makes over 600 altogether.
        categories: only these.
        shape: what is drawn, the CAD model or the cuboid of the category's models; the fit is always the CAD model's.
        seed: of the draw.
        progress: draw a progress bar on stderr.

    Raises:
        CompNetError: if the folder or its lists cannot be read, or there is no usable object.
    """
    most = 600
    dataset = ImageNet3D(root, categories)
    groups = [(category, split) for category in dataset.categories for split in dataset.splits]
    count = images or min(12, max(2, most // len(groups)))
    models = {category: check_cad(dataset, category, CheckResult(dataset.root)) for category in dataset.categories}
    boxes: dict[str, Mesh] = {}
    if shape == "cuboid":
        boxes = {name: cuboid_mesh(cuboid_bounds([*own.values()]), 8).mesh for name, own in models.items() if own}
    shown = []
    for category, split in tracked(groups, "measuring", enabled=progress):
        for name in _drawn(dataset, category, split, count, seed):
            objects = read_objects(dataset.root, category, name, dataset.report)
            # objects of one image share its mask, which then is that of none of them
            alone = len(objects) == 1
            shown += [_measured(sample, split, models[category], boxes.get(category), alone) for sample in objects]
    if not shown:
        raise CompNetError(f"{root} has no usable object: {dataset.report}; see `compnet3d data check`")
    return sorted(shown, key=lambda entry: (entry.fit, entry.sample.key))


def _drawn(dataset: ImageNet3D, category: str, split: str, count: int, seed: int) -> list[str]:
    """Names of so many images of a list; chosen before any is read, since there may be a hundred thousand."""
    names = dataset.names(category, split)
    rng = np.random.default_rng([seed, zlib.crc32(f"{category} {split}".encode())])
    return [names[i] for i in rng.permutation(len(names))[:count]]


def _measured(sample: Sample, split: str, meshes: dict[int, Mesh], box: Mesh | None, alone: bool) -> Shown:
    found = CheckResult(Path())
    check_sample(sample, meshes, True, found)
    findings = tuple(dict.fromkeys(finding.problem for finding in found.findings))
    if not meshes:
        return Shown(sample, split, 0.0, "nothing", (*findings, "no CAD model"), None, None)
    mesh = mesh_of(sample, meshes)
    mask = marked_mask(sample) if alone else None
    fit = projected_box_iou(sample, mesh) if mask is None else silhouette_iou(sample, mesh, mask)
    windows = windows_of([sample]) if alone else [None]
    fits = measure_fits([sample], meshes, "boxes" if windows[0] is None else "masks", windows)
    return Shown(sample, split, fit, "box" if mask is None else "mask", findings, box or mesh, fits)


def suspicious_poses(shown: Sequence[Shown]) -> list[str]:
    """What fits better with a usual mistake undone, as `data check` says it: of categories, or of all the others."""
    groups: dict[tuple[str, str], list[Fits]] = {}
    for entry in shown:
        if entry.fits is not None:
            groups.setdefault((entry.sample.category, entry.fits.by), []).append(entry.fits)
    sentences: list[str] = []
    others: dict[str, list[Fits]] = {}
    for (category, by), members in groups.items():
        if (better := find_better(Fits.cat(members))) is not None:
            sentences.append(f"{category}: {better}")
        else:
            others.setdefault(by, []).extend(members)
    found = (find_better(Fits.cat(members)) for members in others.values())
    return [*sentences, *(f"the other objects together: {better}" for better in found if better is not None)]


def draw(entry: Shown) -> Pictures:
    """The object without and with its annotation; grey where the image cannot be read."""
    sample = entry.sample
    try:
        image = load_image(sample.image, size=(sample.width, sample.height))
        return draw_annotation(image, match_image_size(sample, image.size), entry.mesh, side=_SIDE)
    except CompNetError:  # a finding of the check
        grey = np.full((_SIDE // 2, _SIDE, 3), 128, dtype=np.uint8)
        return grey, grey


def write_page(path: Path, root: Path, shown: Sequence[Shown], pictures: Sequence[Pictures]) -> None:
    """Write the HTML page, self-contained: cards with filters, the worst fit first."""
    items = [_item(entry, pair) for entry, pair in zip(shown, pictures, strict=True)]
    filters = {"category": "category", "split": "split", "findings": "finding"}
    orders = [
        Order("worst fit first", "fit"),
        Order("best fit first", "fit", largest_first=True),
        Order("by name", "name"),
        *(Order(f"by {name}", name) for name in ("azimuth", "elevation", "theta")),
    ]
    signs = "".join(f'<p class="bad">{html.escape(text)}.</p>' for text in suspicious_poses(shown))
    text = (
        "Drawn: the CAD model at the annotated pose, the object's axes (green: to where its front faces, red: to the "
        "right for one who sees the front, blue: up), the annotated box in yellow. The mouse over a picture shows it "
        "bare. <b>fit</b>: intersection over union of the model's silhouette and the mask, or of their boxes where "
        "there is no mask."
    )
    body = (
        f"<section>{signs}<p>{len(shown)} objects, a sample of each category. {text}</p>{_categories(shown)}</section>"
        f"<section>{gallery(items, filters, orders)}</section>"
    )
    write_text(path, page(f"{root.resolve().name}: annotations", body, SCRIPT))


def write_sheet(path: Path, shown: Sequence[Shown], pictures: Sequence[Pictures], most: int = 48) -> None:
    """Write a contact sheet as PNG or JPEG: at most so many pictures, those with the worst fit, with captions.

    Raises:
        CompNetError: if the name ends otherwise or the file cannot be written.
    """
    columns, gap, text = 6, 8, 48
    kinds = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    if path.suffix.lower() not in kinds:
        raise CompNetError(f"{path}: a sheet is a picture; let its name end in .png or .jpg")
    font = ImageFont.load_default(size=13)
    worst = list(zip(shown, pictures, strict=True))[:most]
    cell = _SIDE + gap
    size = (gap + columns * cell, gap + math.ceil(len(worst) / columns) * (cell + text))
    sheet = Image.new("RGB", size, "white")
    writer = ImageDraw.Draw(sheet)
    for number, (entry, (_, drawn)) in enumerate(worst):
        x, y = gap + number % columns * cell, gap + number // columns * (cell + text)
        picture = Image.fromarray(drawn)
        sheet.paste(picture, (x + (_SIDE - picture.width) // 2, y + (_SIDE - picture.height) // 2))
        lines = "\n".join((_shortened(_name(entry.sample)), f"{_angles(entry.sample)}  fit {entry.fit:.2f}"))
        writer.multiline_text((x, y + _SIDE + 2), lines, fill="black", font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, format=kinds[path.suffix.lower()])
    write_bytes(path, buffer.getvalue())


def print_fits(shown: Sequence[Shown]) -> None:
    """Print the fit of each category, the worst first, and what is suspicious."""
    from rich.text import Text

    from compnet3d.reporting.terminal import new_table, terminal
    from compnet3d.utils.text import printable

    caption = "fit: intersection over union of projected model and mask, or of their boxes"
    table = new_table(
        "how well annotations fit", ["category", "worst object"], ["shown", "median fit", "worst"], caption
    )
    for category, members in _by_category(shown):
        numbers = (str(len(members)), f"{median(e.fit for e in members):.2f}", f"{members[0].fit:.2f}")
        table.add_row(Text(printable(category)), Text(printable(members[0].sample.name)), *numbers)
    console = terminal()
    console.print(table)
    for sentence in suspicious_poses(shown):
        console.print(Text(printable(sentence), "bold red"))


def _by_category(shown: Sequence[Shown]) -> list[tuple[str, list[Shown]]]:
    """Each category with its objects, both with the worst fit first."""
    groups: dict[str, list[Shown]] = {}
    for entry in shown:
        groups.setdefault(entry.sample.category, []).append(entry)
    return sorted(groups.items(), key=lambda group: median(entry.fit for entry in group[1]))


def _categories(shown: Sequence[Shown]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{len(members)}</td><td>{median(e.fit for e in members):.2f}</td>"
        f"<td>{members[0].fit:.2f}</td><td>{sum(bool(e.findings) for e in members)}</td></tr>"
        for name, members in _by_category(shown)
    )
    head = "".join(f"<th>{name}</th>" for name in ("category", "shown", "median fit", "worst", "with findings"))
    table = f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'
    return f"<details><summary>fit of each category, the worst first</summary>{table}</details>"


def _item(entry: Shown, pictures: Pictures) -> Item:
    nothing = "none"  # what objects without a finding are filtered by
    sample = entry.sample
    plain, drawn = (data_uri(encode_jpeg(picture)) for picture in pictures)
    findings = "".join(f'<br><span class="bad">{html.escape(finding)}</span>' for finding in entry.findings)
    name = html.escape(_name(sample))
    caption = (
        f"<b>{name}</b> {html.escape(entry.split)}<br>fit {entry.fit:.2f} ({entry.by})<br>{_angles(sample)}{findings}"
    )
    body = (
        f'<span class="stack" tabindex="0"><img src="{plain}" alt=""><img src="{drawn}" alt="{name}"></span>'
        f"<figcaption>{caption}</figcaption>"
    )
    angles = {key: round(_signed(getattr(sample, key)), 2) for key in ("azimuth", "elevation", "theta")}
    values: dict[str, Value] = {"category": sample.category, "split": entry.split, "name": sample.key}
    return Item(body, values | angles | {"fit": round(entry.fit, 4), "findings": entry.findings or (nothing,)})


def _name(sample: Sample) -> str:
    """Category and image; the number of the object where it is not the first."""
    return sample.key.removesuffix("#0")


def _angles(sample: Sample) -> str:
    """The angles in whole degrees."""
    azimuth, elevation, theta = (round(_signed(a)) for a in (sample.azimuth, sample.elevation, sample.theta))
    return f"azimuth {azimuth}°, el. {elevation}°, theta {theta}°"


def _signed(angle: float) -> float:
    """An angle in degrees, in (-180, 180]."""
    return -((-math.degrees(angle) + 180.0) % 360.0 - 180.0)


def _shortened(text: str, most: int = 38) -> str:
    return text if len(text) <= most else f"…{text[-most + 1 :]}"
