"""What operating systems and editors leave in every folder changes nothing of what is read there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compnet3d.data.check import check_dataset
from compnet3d.data.importers.bop import Bop
from compnet3d.data.importers.imagenet3d_layouts import ImageNet3dSource
from compnet3d.data.importers.import_data import Source, import_data
from compnet3d.data.importers.occluded_pascal3d import OccludedPascal3d
from compnet3d.data.importers.ood_cv import OodCv
from compnet3d.data.importers.pascal3d import Pascal3d
from compnet3d.data.importers.recognise import FORMATS, check_format
from compnet3d.data.symmetry_measure import category_folders
from compnet3d.procedural.cad import CadFolder, find_models
from tests.data.importers.pascal_files import HEIGHT, WIDTH, mat_object, write_models, write_record, write_set
from tests.data.importers.test_bop_coco import pose_entry, rotation, write_bop
from tests.data.importers.test_imagenet3d_layouts import cut_out
from tests.data.importers.test_pascal3d import write_occluded
from tests.data.importers.test_pascal_kin import photo

# of macOS, Windows, NAS devices, editors and Linux; {} is the name of a file that is there
FILES = ("._{}", "{}~", "#{}#", ".{}.swp", "~${}", ".DS_Store", "Thumbs.db", "Desktop.ini", "Icon\r", ".nfs00ab")
FOLDERS = ("__MACOSX", "@eaDir", "lost+found", ".ipynb_checkpoints", ".Trash-1000", "$RECYCLE.BIN", "#recycle",
           "System Volume Information")  # fmt: skip


def litter(root: Path) -> None:
    """Leave all of that in a folder and in each folder in it."""
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        for name in {pattern.format(path.name) for pattern in FILES for path in files} | set(FILES[5:]):
            # how AppleDouble files begin: no text, no image, no model
            (folder / name).write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \xff\xfe")
        for name in FOLDERS:
            (folder / name).mkdir()
            for path in files:
                shutil.copyfile(path, folder / name / path.name)


def pascal3d(root: Path) -> Source:
    return Pascal3d(write_set(root, {"a": (mat_object(),), "b": (mat_object(),)}))


def occluded(root: Path) -> Source:
    write_occluded(root, "a", np.eye(HEIGHT, WIDTH) > 0, np.eye(HEIGHT, WIDTH) > 0)
    whole = root.parent / f"{root.name} original"
    litter(write_set(whole, {"a": (mat_object(),)}))
    return OccludedPascal3d(root, whole, "L1")


def ood_cv(root: Path) -> Source:
    write_models(root / "CAD" / "car")
    write_record(root / "annotations" / "car" / "a.mat", mat_object())
    photo(root / "images" / "car" / "a.JPEG")
    (root / "lists").mkdir()
    (root / "lists" / "car_pose.txt").write_text("a 0\n")
    return OodCv(root)


def processed(root: Path) -> Source:
    for part in ("images", "lists"):
        (root / "train" / part / "mug").mkdir(parents=True)
    photo(root / "train" / "images" / "mug" / "a.JPEG")
    cut_out(root / "train" / "annotations" / "mug" / "a.npz")
    (root / "train" / "lists" / "mug" / "mesh01.txt").write_text("a\n")
    write_models(root / "CAD" / "mug")
    return ImageNet3dSource(root)


def bop(root: Path) -> Source:
    root.mkdir()
    write_bop(
        root, [pose_entry(1, rotation(1), [0.0, 0.0, 900.0])], np.array([[500.0, 0, 20], [0, 500, 30], [0, 0, 1]])
    )
    return Bop(root)


@pytest.mark.parametrize("make", [pascal3d, occluded, ood_cv, processed, bop])
def test_an_import_is_the_same_with_clutter_everywhere(tmp_path: Path, make: Callable[[Path], Source]) -> None:
    source = make(tmp_path / "source")
    clean = import_data(source, tmp_path / "clean")
    litter(source.root)
    check_format(source.root, source.format)
    report = import_data(source, tmp_path / "littered")
    assert (report.objects, report.images, report.left_out) == (clean.objects, clean.images, clean.left_out)

    def files(folder: Path) -> dict[str, bytes]:
        kept = (
            path for path in folder.rglob("*") if path.is_file() and path.suffix in (".txt", ".npz", ".off", ".ply")
        )
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}

    assert files(tmp_path / "littered") == files(tmp_path / "clean")


def test_a_data_set_with_clutter_everywhere_is_as_good_as_without(tmp_path: Path, tiny_data: Path) -> None:
    shutil.copytree(tiny_data, tmp_path / "data")
    litter(tmp_path / "data")
    clean, found = check_dataset(tiny_data), check_dataset(tmp_path / "data")
    assert found.categories == clean.categories
    assert [(f.problem, f.category) for f in found.findings] == [(f.problem, f.category) for f in clean.findings]


def test_folders_of_clutter_are_no_categories_and_hide_no_photographs(tmp_path: Path) -> None:
    write_models(tmp_path / "CAD" / "car")
    for place in range(3):
        photo(tmp_path / "walk" / f"{place}.jpg")
    litter(tmp_path)
    assert list(find_models(CadFolder(tmp_path / "CAD"))) == list(category_folders(tmp_path / "CAD")) == ["car"]
    assert next(entry for entry in FORMATS if entry.name == "walk").is_like(tmp_path / "walk")
