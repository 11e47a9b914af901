"""The one writer: the same bytes however it was stopped, nothing taken for finished that is not."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from compnet3d.data.annotations import annotation_dict
from compnet3d.data.imagenet3d import ImageNet3D, is_image_name
from compnet3d.data.importers.import_data import Record, import_data
from compnet3d.data.importers.import_report import REPORT_FILE, ImportReport, LeftOut
from compnet3d.data.importers.journal import JOURNAL_FILE
from compnet3d.data.importers.names import drawn_splits, safe_name, unique_names
from compnet3d.errors import CompNetError
from compnet3d.geometry.cuboid import cuboid_mesh
from compnet3d.geometry.mesh import Mesh
from compnet3d.utils.shards import Shard


@dataclass(frozen=True)
class Photo:
    name: str
    split: str


@dataclass
class Photos:
    """A source of the images in a folder; the file `stop` beside it names one at which a signal comes."""

    format: ClassVar[str] = "photos"
    root: Path
    turn: float = 1.0

    def items(self) -> tuple[Sequence[Photo], list[LeftOut], list[str]]:
        names = sorted(path.name for path in self.root.iterdir())
        photos = [Photo(name, "val" if place % 4 == 3 else "train") for place, name in enumerate(names)]
        return photos, [("a line of nonsense", "list.txt:3")], ["the focal length is assumed"]

    def read(self, item: Photo) -> tuple[Sequence[Record], Sequence[LeftOut]]:
        if (self.root.parent / "stop").exists() and item.name == (self.root.parent / "stop").read_text():
            raise KeyboardInterrupt
        entry = annotation_dict(
            category="mug", azimuth=self.turn, elevation=0.1, theta=0.0, distance=5.0, focal=100.0,
            principal_point=(8.0, 6.0), bbox=(2.0, 2.0, 14.0, 10.0), width=16, height=12,
        )  # fmt: skip
        far = entry | {"distance": 0.0}
        mask = np.zeros((12, 16), bool)
        mask[2:10, 2:14] = True
        entries = [("a", entry), ("b", far)] if item.name == "p2.png" else [("a", entry)]
        return [Record("mug", Path(item.name).stem, (item.split,), self.root / item.name, entries, mask)], []

    def models(self, category: str) -> Mapping[str, Path | Mesh]:
        return {"01.off": cuboid_mesh(torch.tensor([1.0, 1.0, 1.0]), 8).mesh}

    def symmetry(self) -> dict[str, Any]:
        return {"mug": {"mirror": True}, "cup": {"mirror": False}}

    def close(self) -> None:
        pass


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "src" / "photos"
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(8):
        image = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
        image.save(root / f"p{number}.{'gif' if number == 5 else 'png'}")
    return root


def everything(folder: Path) -> dict[str, bytes]:
    """The bytes of every file, but for where the report says that the data come from."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_is_written_is_a_data_set_with_a_report(photos: Path, tmp_path: Path) -> None:
    before = everything(photos)
    report = import_data(Photos(photos), tmp_path / "out")
    assert everything(photos) == before
    assert (report.kept, report.left_out) == (8, {"a line of nonsense": 1, "distance <= 0": 1})
    dataset = ImageNet3D(tmp_path / "out")
    train, val = dataset.samples("train"), dataset.samples("val")
    assert [s.name for s in train + val] == ["p0", "p1", "p2", "p4", "p5", "p6", "p3", "p7"]
    assert all(s.mask is not None for s in train) and dataset.symmetry["mug"].mirror is True
    # what our reader does not know is decoded; the rest has the source's bytes
    assert train[4].image.name == "p5.png" and train[0].image.read_bytes() == (photos / "p0.png").read_bytes()
    assert (np.asarray(Image.open(train[4].image)) == np.asarray(Image.open(photos / "p5.gif").convert("RGB"))).all()
    written = json.loads((tmp_path / "out" / REPORT_FILE).read_text())
    assert written["left_out"]["distance <= 0"] == {"count": 1, "examples": ["b"]} and written["kept"] == 8
    assert written["objects"]["mug"] == {"all": 8, "train": 6, "val": 2}
    assert str(ImportReport.read(tmp_path / "out")) == str(report)
    assert "note: the focal length is assumed" in str(report)
    assert not (tmp_path / "out" / JOURNAL_FILE).exists()


def test_an_import_in_shards_writes_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    whole, out, stop = tmp_path / "whole", tmp_path / "out", photos.parent / "stop"
    report = import_data(Photos(photos), whole)
    assert import_data(Photos(photos), out, shard=Shard(3, 3)).kept == 3
    stop.write_text("p1.png")
    with pytest.raises(KeyboardInterrupt):
        import_data(Photos(photos), out, shard=Shard(1, 3))
    stop.unlink()
    written = out.with_name(".out.shards") / "data" / "images" / "mug"
    kept = (written / "p0.png").stat().st_mtime_ns
    with pytest.raises(CompNetError, match=r"shards of a run with other settings \(turn\)"):
        import_data(Photos(photos, turn=2.0), out, shard=Shard(1, 3))
    for _ in range(2):
        share = import_data(Photos(photos), out, shard=Shard(1, 3))
    assert (written / "p0.png").stat().st_mtime_ns == kept and not share.left_out  # it went on where it was
    (written.parents[1] / "masks" / "mug" / ".p9.png.new-1").write_bytes(b"half")
    last = import_data(Photos(photos), out, shard=Shard(2, 3))
    assert everything(out) == everything(whole) and str(last) == str(report)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "src", "whole"]
    assert str(import_data(Photos(photos), out, shard=Shard(1, 3))) == str(report)  # as without shards


def test_a_stopped_import_goes_on_and_gives_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    whole, out, stop = tmp_path / "whole", tmp_path / "out", photos.parent / "stop"
    import_data(Photos(photos), whole)
    stop.write_text("p4.png")
    with pytest.raises(KeyboardInterrupt):
        import_data(Photos(photos), out)
    with pytest.raises(CompNetError, match="has no lists/ folder"):
        ImageNet3D(out)
    assert not list(out.rglob(".*.new-*"))
    with pytest.raises(CompNetError, match=r"holds an import with other settings \(turn\)"):
        import_data(Photos(photos, turn=2.0), out)
    stop.unlink()
    # a process that was killed leaves more: a line without its end, a file that is not whole, one that is not of ours
    with (out / JOURNAL_FILE).open("a") as journal:
        journal.write('{"key": "cut sho')
    (out / "images/mug/p0.png").write_bytes(b"half")
    for stray in ("images/mug/gone.png", "annotations/mug/.p4.npz.new-1", "masks/old/x.png"):
        (out / stray).parent.mkdir(exist_ok=True)
        (out / stray).write_bytes(b"stray")
    kept = (out / "images/mug/p1.png").stat().st_mtime_ns
    import_data(Photos(photos), out)
    assert everything(out) == everything(whole)
    assert (out / "images/mug/p1.png").stat().st_mtime_ns == kept  # not written again


def test_a_second_call_finds_it_done_and_other_settings_are_refused(photos: Path, tmp_path: Path) -> None:
    first = import_data(Photos(photos), tmp_path / "out")
    before = everything(tmp_path / "out")
    assert str(import_data(Photos(photos), tmp_path / "out")) == str(first)
    assert everything(tmp_path / "out") == before
    with pytest.raises(CompNetError, match=r"other settings \(link\)"):
        import_data(Photos(photos), tmp_path / "out", link=True)
    with pytest.raises(CompNetError, match="exists and is not an empty folder"):
        import_data(Photos(photos), photos)
    assert sorted(path.name for path in photos.iterdir()) == sorted(path.name for path in Path(photos).iterdir())


def test_what_was_left_out_is_looked_at_again(photos: Path, tmp_path: Path) -> None:
    whole, out, stop = tmp_path / "whole", tmp_path / "out", photos.parent / "stop"
    import_data(Photos(photos), whole)
    content = (photos / "p1.png").read_bytes()
    (photos / "p1.png").write_bytes(b"no image")
    stop.write_text("p6.png")
    with pytest.raises(KeyboardInterrupt):
        import_data(Photos(photos), out)
    (photos / "p1.png").write_bytes(content)
    stop.unlink()
    import_data(Photos(photos), out)
    assert everything(out) == everything(whole)


def test_links_share_the_disk_and_are_never_written_into(photos: Path, tmp_path: Path) -> None:
    before = everything(photos)
    (photos.parent / "stop").write_text("p4.png")
    with pytest.raises(KeyboardInterrupt):
        import_data(Photos(photos), tmp_path / "out", link=True)
    (tmp_path / "out" / "annotations/mug/p1.npz").write_bytes(b"")  # so that this image is done again
    (photos.parent / "stop").unlink()
    import_data(Photos(photos), tmp_path / "out", link=True)
    assert os.path.samefile(photos / "p1.png", tmp_path / "out/images/mug/p1.png")
    assert everything(photos) == before


@pytest.mark.slow
def test_processes_do_not_change_the_bytes(photos: Path, tmp_path: Path) -> None:
    import_data(Photos(photos), tmp_path / "one", workers=1)
    import_data(Photos(photos), tmp_path / "two", workers=2)
    assert everything(tmp_path / "one") == everything(tmp_path / "two")


def test_images_that_are_none_are_left_out(photos: Path, tmp_path: Path) -> None:
    (photos / "p0.png").write_bytes(b"")
    (photos / "p5.gif").write_bytes((photos / "p5.gif").read_bytes()[:60])
    report = import_data(Photos(photos), tmp_path / "out")
    assert report.left_out["unreadable image"] == 2 and report.kept == 6
    for path in photos.iterdir():
        path.write_bytes(b"")
    with pytest.raises(CompNetError, match=r"has no usable object: .*8 x unreadable image \(first: .*p0\.png\)"):
        import_data(Photos(photos), tmp_path / "none")
    assert not (tmp_path / "none").exists()


# -- names and splits ------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=()), max_size=300)


@given(TEXT)
def test_a_safe_name_is_one_for_every_reader(text: str) -> None:
    name = safe_name(text)
    assert is_image_name(name)
    assert safe_name(name) == name and not set(name) & set('<>:"/\\|?*')


@given(st.lists(st.sampled_from(["a/x.jpg", "b/x.jpg", "b/X.png", "x.png", "b_x.jpg", "a/b/x.JPEG", "a:b/x.jpg"])))
def test_names_are_unique_whatever_is_in_the_folders(paths: list[str]) -> None:
    names = unique_names(paths)
    assert set(names) == set(paths)
    assert len({name.casefold() for name in names.values()}) == len(names)
    assert unique_names(paths[::-1]) == names


def test_a_name_is_the_stem_unless_another_has_it() -> None:
    assert unique_names(["red/1.jpg", "blue/1.jpg", "red/2.jpg"]) == {
        "red/1.jpg": "red_1", "blue/1.jpg": "blue_1", "red/2.jpg": "2",
    }  # fmt: skip
    assert safe_name("mug: red/blue? ") == "mug_ red_blue_" and safe_name("...") == "_" and safe_name("..a") == "a"


@given(st.sets(st.text(max_size=5), min_size=1, max_size=40))
def test_a_drawn_split_holds_a_fifth_and_at_least_one(groups: set[str]) -> None:
    splits = drawn_splits({"mug": sorted(groups)})
    assert splits == drawn_splits({"mug": sorted(groups, reverse=True)})
    val = sum(split == "val" for split in splits.values())
    count = len(groups)
    assert val == (0 if count == 1 else max(1, round(0.2 * count)))
