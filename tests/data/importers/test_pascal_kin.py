"""OOD-CV and ObjectNet3D, whose records are those of PASCAL3D+."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from PIL import Image

from compnet3d.cli import main as cli
from compnet3d.data.check import check_dataset
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.importers.import_data import import_data
from compnet3d.data.importers.objectnet3d import ObjectNet3d
from compnet3d.data.importers.ood_cv import SHIFTS, OodCv
from compnet3d.data.importers.recognise import check_format
from compnet3d.errors import CompNetError
from tests.data.importers.pascal_files import HEIGHT, WIDTH, mat_object, write_models, write_record


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(path)


def test_each_shift_of_ood_cv_is_a_split(tmp_path: Path) -> None:
    root = tmp_path / "ood"
    (root / "lists").mkdir(parents=True)
    write_models(tmp_path / "CAD" / "car")
    objects = {"t1": (mat_object(azimuth=5.0),), "t2": (mat_object("bus"), mat_object(azimuth=15.0))}
    for place, shift in enumerate(SHIFTS):
        objects[f"s{place}"] = (mat_object(azimuth=0.0), mat_object(azimuth=100.0 + place))
        (root / "lists" / f"car_{shift}.txt").write_text(f"s{place}.JPEG 1\n")
    (root / "lists" / "car_pose.txt").write_text("s1 1\ns1 0\ns2 1\ns9 0\n../s1 0\ns0 7\n")
    (root / "lists" / "TrainSet.txt").write_text("t1 0\ncar/t2.JPEG 1\nnowhere 0\n")
    (root / "lists" / "car_all.txt").write_text("s0 0\n")
    for name, members in objects.items():
        write_record(root / "annotations" / "car" / f"{name}.mat", *members)
        photo(root / "images" / "car" / f"{name}.JPEG")
    report = import_data(OodCv(root, tmp_path / "CAD"), tmp_path / "out")
    dataset = ImageNet3D(tmp_path / "out")
    assert dataset.splits == sorted(["train", "val", *SHIFTS])

    def azimuths(split: str) -> list[int]:
        return [round(math.degrees(sample.azimuth)) for sample in dataset.samples(split)]

    assert azimuths("train") == [5, 15] and azimuths("texture") == [103]
    # an image is in two shifts; with both of its listed objects
    assert azimuths("pose") == [100, 0, 101, 102] and azimuths("context") == [100]
    assert len(azimuths("val")) == 6 and report.kept == 8
    assert report.left_out == {
        "missing image": 2, "list entry is not an image name": 1, "the record has no object of this number": 1,
    }  # fmt: skip


def test_an_image_of_objectnet3d_has_objects_of_several_categories(tmp_path: Path) -> None:
    root = tmp_path / "objectnet3d"
    (root / "Image_sets").mkdir(parents=True)
    write_models(root / "CAD" / "off" / "car")
    write_models(root / "CAD" / "off" / "filing_cabinet")
    write_record(
        root / "Annotations" / "n1.mat",
        mat_object(azimuth=10.0), mat_object("filing_cabinet", azimuth=20.0), mat_object(azimuth=30.0),
        mat_object("pen", azimuth=40.0),
    )  # fmt: skip
    write_record(root / "Annotations" / "n2.mat", mat_object(azimuth=50.0), mat_object(distance=0.0))
    for name in ("n1", "n2"):
        photo(root / "Images" / f"{name}.JPEG")
    (root / "Image_sets" / "train.txt").write_text("n1\n")
    (root / "Image_sets" / "val.txt").write_text("n2\nn3\n")
    report = import_data(ObjectNet3d(root), tmp_path / "out")
    assert report.kept == 4 and report.left_out == {
        "missing image": 1, "distance = 0: a coarse label only": 1, "no CAD model of pen": 1
    }  # fmt: skip
    train = ImageNet3D(tmp_path / "out").samples("train")
    found = [(sample.key, round(math.degrees(sample.azimuth))) for sample in train]
    assert found == [("car/n1#0", 10), ("car/n1#1", 30), ("filing_cabinet/n1#0", 20)]


@pytest.mark.parametrize(
    ("file", "text", "kind"),
    [
        (
            "training/label_2/000000.txt",
            "Car 0 0 -1.6 587 173 614 200 1.6 1.7 3.6 0 1.7 46 0",
            "KITTI, which has",
        ),
        (
            "labels/train/a.txt",
            "0 0.5 0.5 0.2 0.2",
            "YOLO, which has no importer: write its boxes",
        ),
        ("Annotations/a.xml", "<annotation/>", "PASCAL VOC, which has no importer"),
        ("Annotations/car_imagenet/a.mat", "", "PASCAL3D.; use `data import pascal3d`"),
        ("test/000001/scene_gt.json", "{}", "a data set of BOP; use `data import bop`"),
    ],
)
def test_other_layouts_are_named_by_every_command(tmp_path: Path, file: str, text: str, kind: str) -> None:
    path = tmp_path / "source" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(CompNetError, match=f"source has no lists/ folder; it looks like {kind}"):
        check_dataset(tmp_path / "source")
    with pytest.raises(CompNetError, match=f"source: looks like {kind}"):
        check_format(tmp_path / "source", "imagenet3d")
    if "which" in kind:
        with pytest.raises(CompNetError, match=f"{path.name}: looks like {kind}"):
            check_format(path, "table")


def test_a_file_that_is_to_be_imported_is_named_by_data_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "instances.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(SystemExit):
        cli.main(["data", "check", str(tmp_path / "instances.json")])
    assert "looks like a file of COCO; use `data import coco`" in " ".join(capsys.readouterr().err.split())
