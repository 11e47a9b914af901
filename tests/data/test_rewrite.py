from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compnet3d.data.check import check_dataset
from compnet3d.data.imagenet3d import ImageNet3D, annotation_dict, write_list, write_object
from compnet3d.data.rewrite import rewrite_dataset
from compnet3d.data.symmetry import Symmetry, save_symmetry
from compnet3d.errors import CompNetError


def write_data(root: Path) -> Path:
    """One category: an image with two objects and a mask, one without a mask, one whose annotation is unusable."""
    rng = np.random.default_rng(0)
    entry = dict(category="cup", azimuth=1.0, elevation=0.1, theta=0.0, distance=3.0, focal=90.0,
                 principal=(15.0, 10.0), bbox=(3.0, 2.0, 25.0, 18.0), width=30, height=20)  # fmt: skip
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


def test_everything_but_the_pictures_is_carried_over(tmp_path):
    source, seen = write_data(tmp_path / "in"), []

    def change(sample, image):
        seen.append(sample.key)
        return 255 - image

    assert rewrite_dataset(source, tmp_path / "out", change) == 2
    assert seen == ["cup/b#0", "cup/a#0"], "one picture is changed once, whatever it shows"
    before, after = ImageNet3D(source), ImageNet3D(tmp_path / "out")
    assert after.splits == ["val"] and after.names("cup", "val") == ["b", "a"] and after.symmetry == before.symmetry
    for old, new in zip(before.samples("val"), after.samples("val"), strict=True):
        assert replace(old, image=new.image, mask=new.mask) == new and (old.mask is None) == (new.mask is None)
        assert (np.asarray(Image.open(new.image)) == 255 - np.asarray(Image.open(old.image))).all()
        if old.mask is not None and new.mask is not None:
            assert old.mask.read_bytes() == new.mask.read_bytes()
    assert len(after.meshes("cup")) == 1 and check_dataset(tmp_path / "out").exit_code == 0


def test_a_read_only_source_makes_a_copy_that_can_be_removed(tmp_path):
    source = write_data(tmp_path / "in")
    for path in source.rglob("*"):
        path.chmod(0o444 if path.is_file() else 0o555)
    rewrite_dataset(source, tmp_path / "out", lambda sample, image: image)
    assert all(path.stat().st_mode & 0o200 for path in (tmp_path / "out").rglob("*"))
    for path in source.rglob("*"):
        path.chmod(0o755)


def test_a_full_folder_is_left_alone_and_an_empty_one_taken(tmp_path):
    source, out = write_data(tmp_path / "in"), tmp_path / "out"
    out.mkdir()
    assert rewrite_dataset(source, out, lambda sample, image: image) == 2
    with pytest.raises(CompNetError, match="is not an empty folder"):
        rewrite_dataset(source, out, lambda sample, image: image)
    with pytest.raises(CompNetError, match="is not an empty folder"):
        rewrite_dataset(source, source, lambda sample, image: image)


def test_nothing_is_left_of_a_failure(tmp_path):
    source = write_data(tmp_path / "in")
    (source / "images" / "cup" / "a.JPEG").write_bytes(b"no image")
    with pytest.raises(CompNetError, match=r"a\.JPEG is not an image"):
        rewrite_dataset(source, tmp_path / "out", lambda sample, image: image)
    with pytest.raises(CompNetError, match="has no list for split 'test'"):
        rewrite_dataset(source, tmp_path / "out", lambda sample, image: image, "test")
    with pytest.raises(ValueError, match="the change turned"):
        rewrite_dataset(source, tmp_path / "out", lambda sample, image: image[:5])
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
