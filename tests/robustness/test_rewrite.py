from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from compnet3d.data.annotations import annotation_dict, read_annotation
from compnet3d.data.check import check_dataset
from compnet3d.data.imagenet3d import ImageNet3D, write_list, write_object
from compnet3d.data.symmetry import Symmetry, save_symmetry
from compnet3d.errors import CompNetError
from compnet3d.robustness.rewrite import Rewritten, rewrite_dataset


def write_data(root: Path) -> Path:
    """One category: an image with two objects and a mask, one without a mask, one whose annotation is unusable."""
    rng = np.random.default_rng(0)
    entry = dict(category="cup", azimuth=1.0, elevation=0.1, theta=0.0, distance=3.0, focal=90.0,
                 principal_point=(15.0, 10.0), bbox=(3.0, 2.0, 25.0, 18.0), width=30, height=20)  # fmt: skip
    two = [annotation_dict(**entry), annotation_dict(**(entry | {"azimuth": 2.0}))]
    broken = [annotation_dict(**(entry | {"distance": -1.0}))]
    for name, objects, mask in (("a", two, np.ones((20, 30))), ("b", two[:1], None), ("c", broken, None)):
        write_object(root, "cup", name, rng.integers(0, 256, (20, 30, 3), dtype=np.uint8), objects, mask)
    write_list(root, "cup", "val", ["b", "a", "c"])
    write_list(root, "cup", "train", ["c"])
    (root / "CAD" / "cup").mkdir(parents=True)
    (root / "CAD" / "cup" / "01.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 1\n3 0 1 2\n")
    save_symmetry(root, {"cup": Symmetry(order=0)})
    return root


def test_everything_but_the_images_is_carried_over(tmp_path):
    source, seen, added = write_data(tmp_path / "in"), [], []

    def finish(root, keys):
        (root / "done").touch()
        added.extend(keys)

    def change(sample, image):
        seen.append(sample.key)
        return Rewritten(ImageOps.invert(image), {"note": len(seen)}, {"extra": np.eye(20, 30, dtype=bool)})

    assert rewrite_dataset(source, tmp_path / "out", change, finish=finish) == 3
    assert added == [{"note": 1}, {"note": 2}, {"note": 3}]
    assert seen == ["cup/b#0", "cup/a#0", "cup/a#1"] and (tmp_path / "out" / "done").exists()
    before, after = ImageNet3D(source), ImageNet3D(tmp_path / "out")
    names = ["b", "a_object0", "a_object1"]
    assert after.splits == ["val"] and after.names("cup", "val") == names and after.symmetry == before.symmetry
    for number, (old, new, name) in enumerate(zip(before.samples("val"), after.samples("val"), names, strict=True)):
        same = replace(old, image=new.image, mask=new.mask, name=name, object_index=0)
        assert same == new and (old.mask is None) == (new.mask is None)
        annotation = read_annotation(tmp_path / "out" / "annotations" / "cup" / f"{name}.npz")
        assert len(annotation) == 1 and annotation[0]["note"] == number + 1
        assert (np.asarray(Image.open(tmp_path / "out" / "extra" / "cup" / f"{name}.png")) > 0).sum() == 20
        assert (np.asarray(Image.open(new.image)) == 255 - np.asarray(Image.open(old.image))).all()
        if old.mask is not None and new.mask is not None:
            assert old.mask.read_bytes() == new.mask.read_bytes()
    assert len(after.meshes("cup")) == 1 and check_dataset(tmp_path / "out").exit_code == 0


def test_a_read_only_source_makes_a_copy_that_can_be_removed(tmp_path):
    source = write_data(tmp_path / "in")
    for path in source.rglob("*"):
        path.chmod(0o444 if path.is_file() else 0o555)
    rewrite_dataset(source, tmp_path / "out", lambda sample, image: Rewritten(image))
    assert all(path.stat().st_mode & 0o200 for path in (tmp_path / "out").rglob("*"))
    for path in source.rglob("*"):
        path.chmod(0o755)


def test_a_full_folder_is_left_alone_and_an_empty_one_taken(tmp_path):
    source, out = write_data(tmp_path / "in"), tmp_path / "out"
    out.mkdir()
    assert rewrite_dataset(source, out, lambda sample, image: Rewritten(image)) == 3
    with pytest.raises(CompNetError, match="is not an empty folder"):
        rewrite_dataset(source, out, lambda sample, image: Rewritten(image))
    with pytest.raises(CompNetError, match="is not an empty folder"):
        rewrite_dataset(source, source, lambda sample, image: Rewritten(image))


def test_nothing_is_left_of_a_failure(tmp_path):
    source = write_data(tmp_path / "in")
    (source / "images" / "cup" / "a.JPEG").write_bytes(b"no image")
    with pytest.raises(CompNetError, match=r"a\.JPEG is not an image"):
        rewrite_dataset(source, tmp_path / "out", lambda sample, image: Rewritten(image))
    with pytest.raises(CompNetError, match="has no list for split 'test'"):
        rewrite_dataset(source, tmp_path / "out", lambda sample, image: Rewritten(image), "test")
    with pytest.raises(ValueError, match="the change turned"):
        rewrite_dataset(source, tmp_path / "out", lambda sample, image: Rewritten(image.crop((0, 0, 5, 5))))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
