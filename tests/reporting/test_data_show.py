"""`compnet3d data show`: the fit of annotations, wrong signs, the page and the sheet."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compnet3d.cli import main as cli
from compnet3d.data.annotations import read_annotation, write_annotation
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.silhouettes import silhouette_iou
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh, load_off, save_off
from compnet3d.reporting import data_show

# a flag on a post, whose silhouette tells left from right
FLAG = Mesh(
    torch.tensor([[-0.1, -0.1, -0.6], [0.1, 0.1, -0.6], [0.1, 0.1, 0.6], [-0.1, -0.1, 0.6],
                  [0.1, -0.3, 0.0], [0.7, -0.3, 0.0], [0.7, -0.3, 0.6], [0.1, -0.3, 0.6]]),
    torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]]),
)  # fmt: skip


def copy(data: Path, out: Path) -> Path:
    shutil.copytree(data, out)
    return out


def change(root: Path, category: str, name: str, **values: float) -> None:
    """Write other values into an annotation."""
    path = root / "annotations" / category / f"{name}.npz"
    objects = read_annotation(path)
    write_annotation(path, [{**entry, **values} for entry in objects])


def write_flags(root: Path, maker: Callable[..., Path], count: int = 8) -> Path:
    """A data set of one category, whose boxes and masks are those of the flag at the annotated poses."""
    maker(root, ("flag",), images=count)
    save_off(root / "CAD" / "flag" / "01.off", FLAG)
    (root / "masks" / "flag").mkdir(parents=True)
    for number, sample in enumerate([s for split in ("train", "val") for s in ImageNet3D(root).samples(split)]):
        azimuth = [0.7, 0.9, 1.1, 5.3][number % 4]
        change(root, "flag", sample.name, azimuth=azimuth, elevation=0.3, theta=0.0)
    for split in ("train", "val"):
        for sample in ImageNet3D(root).samples(split):
            from compnet3d.data.silhouettes import silhouette

            layer = silhouette(sample, FLAG, margin=0.0)
            assert layer is not None
            mask = np.asarray(layer) > 127
            Image.fromarray(mask).convert("L").save(root / "masks" / "flag" / f"{sample.name}.png")
            rows, columns = np.nonzero(mask)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            change(root, "flag", sample.name, bbox=np.array(box, dtype=float))
    return root


def test_a_negated_azimuth_is_first_and_the_sign_is_named(tmp_path, tiny_maker):
    right = write_flags(tmp_path / "right", tiny_maker)
    fine = data_show.examine(right)
    assert len(fine) == 16 and min(entry.fit for entry in fine) > 0.95 and {e.by for e in fine} == {"mask"}
    assert data_show.suspicious_poses(fine) == []

    # one object alone: it is the worst
    one = copy(right, tmp_path / "one")
    wrong = fine[5].sample
    change(one, "flag", wrong.name, azimuth=-wrong.azimuth)
    shown = data_show.examine(one)
    assert shown[0].sample.name == wrong.name and shown[0].fit < 0.8 < shown[1].fit

    # all of them: the sentence says so, and of azimuth alone
    every = copy(right, tmp_path / "every")
    for entry in fine:
        change(every, "flag", entry.sample.name, azimuth=-entry.sample.azimuth)
    sentences = data_show.suspicious_poses(data_show.examine(every))
    assert len(sentences) == 1 and sentences[0].startswith("flag: masks fit better with azimuth negated")

    # without masks the boxes tell it too
    shutil.rmtree(every / "masks")
    shown = data_show.examine(every)
    assert {entry.by for entry in shown} == {"box"} and len(data_show.suspicious_poses(shown)) == 1


def test_iou_of_a_silhouette_is_that_of_counted_pixels(tiny_data):
    sample = ImageNet3D(tiny_data).samples("val")[0]
    mesh = load_off(tiny_data / "CAD" / sample.category / "01.off")
    image = np.asarray(Image.open(sample.image)).max(axis=2)
    mask = image > 75  # background is darker than 60, faces are brighter than 40: most of them by far
    assert silhouette_iou(sample, mesh, np.zeros_like(mask)) == 0.0
    x1, y1, x2, y2 = (int(x) for x in sample.bbox)
    box = np.zeros_like(mask)
    box[y1:y2, x1:x2] = True
    # the silhouette lies in its box, so that the IoU with the box is the share that it fills
    whole = np.ones_like(mask)
    area = silhouette_iou(sample, mesh, whole) * whole.sum()
    assert silhouette_iou(sample, mesh, box) == pytest.approx(area / box.sum(), abs=0.06)


def test_limits_and_choice(tiny_data):
    assert len(data_show.examine(tiny_data, images=3)) == 2 * 2 * 3
    bricks = data_show.examine(tiny_data, images=100, categories=["brick"])
    assert {entry.sample.category for entry in bricks} == {"brick"} and len(bricks) == 16
    assert {entry.split for entry in bricks} == {"train", "val"}
    names = [[entry.sample.name for entry in data_show.examine(tiny_data, images=2, seed=seed)] for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]
    assert [entry.fit for entry in bricks] == sorted(entry.fit for entry in bricks)


def test_broken_images_and_missing_models_are_shown_as_findings(tiny_data, tmp_path):
    root = copy(tiny_data, tmp_path / "data")
    name = ImageNet3D(root).samples("val")[0].name
    (root / "images" / "brick" / f"{name}.JPEG").write_bytes(b"no image")
    shutil.rmtree(root / "CAD" / "tower")
    shown = data_show.examine(root, images=100)
    broken = next(entry for entry in shown if entry.sample.name == name)
    assert "broken image" in broken.findings and np.unique(data_show.draw(broken)[1]).size == 1
    towers = [entry for entry in shown if entry.sample.category == "tower"]
    assert all(entry.by == "nothing" and "no CAD model" in entry.findings for entry in towers)
    plain, drawn = data_show.draw(towers[0])
    assert plain.shape == drawn.shape and (plain != drawn).any()  # the box is drawn all the same


def test_the_page_is_whole_and_needs_no_network(tiny_data, tmp_path, capsys):
    page, sheet = tmp_path / "page.html", tmp_path / "sheet.png"
    cli.main(f"data show {tiny_data} --images 2 --out {page} --sheet {sheet} --shape cuboid".split())
    assert f"wrote {page}" in capsys.readouterr().out.replace("\n", "")
    text = page.read_text()
    cards = re.findall(r"<figure ([^>]*)>", text)
    assert len(cards) == 8 and not re.search(r"https?://|src=\"(?!data:)|@import|url\(", text)
    fits = [float(re.search(r'data-fit="([\d.]+)"', card)[1]) for card in cards]
    assert fits == sorted(fits)
    assert text.count("<script>") == 1 and 'class="bar" hidden' in text  # without the script no choices are shown
    with Image.open(sheet) as picture:
        assert picture.format == "PNG" and picture.width > 6 * 200
    with pytest.raises(CompNetError, match=r"in \.png or \.jpg"):
        data_show.write_sheet(tmp_path / "sheet.gif", [], [])


def test_without_a_file_the_page_is_named_after_the_data(tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.main(f"data show {tiny_data} --images 1".split())
    assert [path.name for path in tmp_path.iterdir()] == ["data-annotations.html"]


def test_names_of_files_are_text_in_the_page(tiny_maker, tmp_path):
    root = tiny_maker(tmp_path / "data", ("<b>bold",), images=2)
    page = tmp_path / "page.html"
    shown = data_show.examine(root)
    data_show.write_page(page, root, shown, [data_show.draw(entry) for entry in shown])
    assert "<b>bold" not in page.read_text()
