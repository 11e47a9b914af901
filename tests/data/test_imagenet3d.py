from __future__ import annotations

import math
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compnet3d.data.annotations import annotation_dict, read_annotation, write_annotation
from compnet3d.data.check import check_dataset
from compnet3d.data.imagenet3d import ImageNet3D, ReadReport, read_list, read_objects, write_list, write_object
from compnet3d.data.sample import parse_instance, split_calibration
from compnet3d.errors import CompNetError


def make_object(**changes: Any) -> dict[str, Any]:
    entry = annotation_dict(
        category="mug",
        azimuth=1.0,
        elevation=-0.2,
        theta=-0.1,
        distance=5.0,
        focal=3000.0,
        principal_point=(20.0, 15.0),
        bbox=(5.0, 5.0, 35.0, 25.0),
        width=40,
        height=30,
    )
    return entry | changes


def make_dataset(root: Path, objects: dict[str, list[dict[str, Any]]]) -> ImageNet3D:
    for name, entries in objects.items():
        write_object(root, "mug", name, np.zeros((30, 40, 3), dtype=np.uint8), entries)
    write_list(root, "mug", "train", objects)
    return ImageNet3D(root)


def write_raw(path: Path, cells: Any) -> Path:
    """An .npz as numpy.savez_compressed writes it, pickling whatever it is given."""
    array = np.empty(1, dtype=object)
    array[0] = cells
    np.savez_compressed(path, annotations=array)
    return path


# ---- annotations ---------------------------------------------------------------------------------------------------


def test_numpy_reads_what_we_write_and_we_read_what_numpy_writes(tmp_path: Path) -> None:
    entry = make_object()
    write_annotation(tmp_path / "ours.npz", [entry, entry])
    theirs = np.load(tmp_path / "ours.npz", allow_pickle=True)["annotations"]
    assert theirs.shape == (2,) and theirs[1]["width"] == np.uint16(40)
    np.testing.assert_array_equal(theirs[0]["bbox"], [5, 5, 35, 25])
    np.savez(tmp_path / "theirs.npz", annotations=theirs)
    for name in ("ours.npz", "theirs.npz"):
        first, second = read_annotation(tmp_path / name)
        assert first.keys() == entry.keys() and second["class"] == "mug"
        np.testing.assert_array_equal(first["principal"], entry["principal"])
        assert first["height"].dtype == np.uint16 and float(first["azimuth"]) == 1.0


@pytest.mark.parametrize("protocol", range(5))
def test_reads_every_pickle_protocol(tmp_path: Path, protocol: int) -> None:
    cells = np.array([{"a": np.arange(6.0).reshape(2, 3, order="F"), "s": np.float32(1.5), "t": (1, "x", None)}])
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("annotations.npy", header + pickle.dumps(cells, protocol=protocol))
    (found,) = read_annotation(tmp_path / "a.npz")
    np.testing.assert_array_equal(found["a"], cells[0]["a"])
    assert found["s"] == np.float32(1.5) and found["t"] == (1, "x", None)


def test_reads_the_module_names_of_numpy_1(tmp_path: Path) -> None:
    body = pickle.dumps(np.array([{"px": np.float64(2.5)}], dtype=object), protocol=0)
    body = body.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"cnumpy.core.multiarray" in body
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("annotations.npy", header + body)
    assert read_annotation(tmp_path / "a.npz") == [{"px": 2.5}]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), PLAIN, max_size=5))
def test_plain_values_survive_the_round_trip(tmp_path_factory: pytest.TempPathFactory, entry: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("plain") / "a.npz"
    write_annotation(path, [entry])
    assert read_annotation(path) == [entry]


def test_equal_objects_give_equal_bytes(tmp_path: Path) -> None:
    write_annotation(tmp_path / "a.npz", [make_object(), make_object()])
    # equal strings that are different objects must not change the pickle's memo
    copied = make_object(**{"class": "".join(["m", "ug"]), "object_status": "".join(["status", "_good"])})
    write_annotation(tmp_path / "b.npz", [copied, make_object()])
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz"]


# ---- hostile files -------------------------------------------------------------------------------------------------


class Evil:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def hostile_cells(marker: Path) -> dict[str, Any]:
    command = f"touch {marker}"
    return {
        "os.system": Evil(os.system, command),
        "eval": Evil(eval, f"open({str(marker)!r}, 'w')"),
        "getattr": Evil(getattr, os, "system"),
        "in a numpy array": {"bbox": np.array([Evil(os.system, command)], dtype=object)},
        "in a set": {"x": {1, 2}, "y": [Evil(os.system, command)]},
        "ndarray called": Evil(np.ndarray, (2, 2)),
        "a class": {"x": Path("/")},
        "memoryview": Evil(bytearray, 10**12),
    }


@pytest.mark.parametrize("kind", list(hostile_cells(Path("x"))))
def test_hostile_pickles_are_refused_and_never_run(tmp_path: Path, kind: str) -> None:
    marker = tmp_path / "executed"
    path = tmp_path / "hostile.npz"
    try:
        write_raw(path, hostile_cells(marker)[kind])
    except TypeError:  # modules cannot be pickled: build the call by hand
        path = _npz_of(tmp_path, b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR.")
    with pytest.raises(CompNetError, match="hostile.npz"):
        read_annotation(path)
    assert not marker.exists()


def _npz_of(folder: Path, body: bytes) -> Path:
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    path = folder / "hostile.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("annotations.npy", header + body)
    return path


HAND_MADE = {
    "global": b"cos\nsystem\n(S'true'\ntR.",
    "dotted name": b"\x80\x04\x8c\x05numpy\x94\x8c\x0ccore.os.exit\x94\x93.",
    "numpy's loader": b"cnumpy\nload\n(S'/etc/passwd'\ntR.",
    "numpy.f2py": b"cnumpy.f2py.crackfortran\nmyeval\n(S'1+1'\ntR.",
    "dtype state on a function": b"cnumpy.core.multiarray\nscalar\n}S'__doc__'\nS'x'\nsb.",
    "dtype with a weird code": b"cnumpy\ndtype\n(S'V8,O'\nI0\nI1\ntR.",
    "object scalar": b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O8'\nI0\nI1\ntRS'x'\ntR.",
    "unexpected reconstruct": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.",
    "encode to rot13": b"c_codecs\nencode\n(S'abc'\nS'rot13'\ntR.",
    "new object": b"\x80\x02cnumpy\ndtype\n(S'f8'\nt\x81.",
    "extension registry": b"\x80\x02\x82\x01.",
    "persistent id": b"Pabc\n.",
    "giant bytearray": b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",
    "list of itself": b"](h\x00q\x00e.",
    "own member": b"]q\x00h\x00a.",
    "cut short": b"\x80\x04\x95\xff",
    "empty": b"",
    "not a list": b"I5\n.",
    "garbage": bytes(range(256)),
}


@pytest.mark.parametrize("kind", list(HAND_MADE))
def test_hand_made_pickles_end_in_one_clear_error(tmp_path: Path, kind: str) -> None:
    path = _npz_of(tmp_path, HAND_MADE[kind])
    with pytest.raises(CompNetError, match="hostile.npz"):
        read_annotation(path)


def test_a_memo_slot_beyond_memory_takes_no_memory(tmp_path: Path) -> None:
    assert read_annotation(_npz_of(tmp_path, b"\x80\x02]r\xff\xff\xff\xff.")) == []


def test_a_list_shared_a_billion_times_is_refused(tmp_path: Path) -> None:
    shared: list[Any] = [1] * 10
    for _ in range(12):
        shared = [shared] * 10
    with pytest.raises(CompNetError, match="large"):
        read_annotation(write_raw(tmp_path / "bomb.npz", {"x": shared}))


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.npy", bytes(80 * 2**20))
    with pytest.raises(CompNetError, match="64 MiB"):
        read_annotation(tmp_path / "bomb.npz")


@given(st.binary(max_size=200))
def test_random_bytes_never_crash_the_reader(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
    folder = tmp_path_factory.mktemp("random")
    (folder / "raw.npz").write_bytes(body)
    for path in (folder / "raw.npz", _npz_of(folder, body)):
        with pytest.raises(CompNetError):
            read_annotation(path)


def test_missing_key_and_missing_file_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", other=np.zeros(3))
    with pytest.raises(CompNetError, match="a.npz.*annotations"):
        read_annotation(tmp_path / "a.npz")
    with pytest.raises(CompNetError, match="b.npz does not exist"):
        read_annotation(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", annotations=np.zeros(3))
    with pytest.raises(CompNetError, match="c.npz"):
        read_annotation(tmp_path / "c.npz")


# ---- data sets -----------------------------------------------------------------------------------------------------


def test_a_sample_holds_the_annotation_in_plain_units(tmp_path: Path) -> None:
    (sample,) = make_dataset(
        tmp_path, {"mug_i001_v02": [make_object(viewport=np.uint16(3000), focal=np.uint8(1))]}
    ).samples("train")
    assert sample.focal == 3000.0 and (sample.width, sample.height) == (40, 30)
    assert sample.elevation == pytest.approx(-0.2) and sample.theta == pytest.approx(2 * math.pi - 0.1)
    assert sample.principal_point == (20.0, 15.0) and sample.bbox == (5.0, 5.0, 35.0, 25.0)
    assert sample.instance == "mug_i001" and sample.mask is None and sample.image.name == "mug_i001_v02.JPEG"


UNUSABLE: dict[str, dict[str, Any]] = {
    "marked ignore": {"ignore": 1},
    "distance <= 0": {"distance": 0.0},
    "azimuth is not finite": {"azimuth": float("nan")},
    "px is not finite": {"px": np.float64("inf")},
    "wrong type of theta": {"theta": "0.1"},
    "wrong type of elevation": {"elevation": [0.1, 0.2]},
    "wrong type of bbox": {"bbox": np.zeros(3)},
    "empty bbox": {"bbox": np.array([5.0, 5.0, 5.0, 9.0])},
    "bbox is not finite": {"bbox": np.array([5.0, 5.0, np.nan, 9.0])},
    "object of another class": {"class": "car"},
    "viewport * focal <= 0": {"viewport": 0},
    "image size < 1": {"width": np.uint16(0)},
    "wrong type of cad_index": {"cad_index": None},
}


def test_unusable_objects_are_skipped_and_counted_by_reason(tmp_path: Path) -> None:
    objects = {f"x{i}": [make_object(**changes)] for i, changes in enumerate(UNUSABLE.values())}
    for key in ("px", "py", "object_status"):
        objects[f"no_{key}"] = [{k: v for k, v in make_object().items() if k != key}]
    objects["good"] = [make_object(ignore=1), make_object(), make_object(azimuth=2.0)]
    dataset = make_dataset(tmp_path, objects)
    samples = dataset.samples("train")
    assert [(s.name, s.object_index) for s in samples] == [("good", 1), ("good", 2)]
    expected = dict.fromkeys(UNUSABLE, 1) | {f"missing key {key}": 1 for key in ("px", "py", "object_status")}
    expected["marked ignore"] = 2
    assert dataset.report.skipped == expected and dataset.report.kept == 2
    assert "2 objects read, 17 skipped" in str(dataset.report)


def test_missing_and_broken_files_are_skipped_and_counted(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, {name: [make_object()] for name in ("a", "b", "c", "d")})
    (tmp_path / "images/mug/a.JPEG").unlink()
    (tmp_path / "annotations/mug/b.npz").unlink()
    (tmp_path / "annotations/mug/c.npz").write_bytes(b"not a zip")
    write_list(tmp_path, "mug", "train", ["a", "b", "c", "", " d ", "d", "../../etc/passwd"])
    assert [s.name for s in dataset.samples("train")] == ["d"]
    assert dataset.report.skipped == {
        "missing image": 1,
        "missing annotation": 1,
        "unreadable annotation": 1,
        "list entry is not an image name": 1,
    }
    assert dataset.report.examples["missing annotation"].endswith("b.npz")


ENTRIES = ("x" * 300, "a\0b", "a\tb", "a\x1b[31m", "..", "/etc/passwd", "a/b", "..\\b", ".hidden", "é" * 120)


@pytest.mark.parametrize("name", ENTRIES, ids=ascii)
def test_entries_that_no_image_can_be_called_are_counted(tmp_path: Path, name: str) -> None:
    dataset = make_dataset(tmp_path, {"a": [make_object()]})
    (tmp_path / "lists" / "mug_imagenet_train.txt").write_bytes(f"{name}\na\n".encode())
    assert [sample.name for sample in dataset.samples("train")] == ["a"]
    assert dataset.report.skipped == {"list entry is not an image name": 1}
    assert all(line.isprintable() for line in str(dataset.report).split("\n"))
    report = ReadReport()
    assert read_objects(tmp_path, "mug", "a\udcff", report) == [] and report.total_skipped == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_what_is_no_regular_file_is_never_waited_for(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, {name: [make_object()] for name in "abc"})
    for path in (tmp_path / "images/mug/b.JPEG", tmp_path / "annotations/mug/c.npz"):
        path.unlink()
        os.mkfifo(path)
    assert [sample.name for sample in dataset.samples("train")] == ["a"]
    assert dataset.report.skipped == {"missing image": 1, "missing annotation": 1}
    os.mkfifo(tmp_path / "list.txt")
    with pytest.raises(CompNetError, match="list.txt: is not a regular file"):
        read_list(tmp_path / "list.txt")


def test_clear_errors_for_unusable_data_sets(tmp_path: Path) -> None:
    with pytest.raises(CompNetError, match="not a folder"):
        ImageNet3D(tmp_path / "absent")
    with pytest.raises(CompNetError, match="no lists/ folder"):
        ImageNet3D(tmp_path)
    (tmp_path / "lists").mkdir()
    with pytest.raises(CompNetError, match="holds no list"):
        ImageNet3D(tmp_path)
    write_list(tmp_path, "mug", "train", [])
    dataset = ImageNet3D(tmp_path)
    with pytest.raises(CompNetError, match="lists are empty"):
        dataset.samples("train")
    with pytest.raises(CompNetError, match="split 'val'.*it has train"):
        dataset.samples("val")
    write_list(tmp_path, "mug", "train", ["gone"])
    with pytest.raises(CompNetError, match="1 x missing image"):
        dataset.samples("train")
    with pytest.raises(CompNetError, match="no list for cat"):
        ImageNet3D(tmp_path, categories=["cat"])
    with pytest.raises(CompNetError, match="CAD.mug has no CAD model"):
        dataset.meshes("mug")


def test_other_image_formats_masks_and_chosen_categories(tmp_path: Path) -> None:
    make_dataset(tmp_path, {"a": [make_object()]})
    (tmp_path / "images/mug/a.JPEG").rename(tmp_path / "images/mug/a.png")
    mask = np.zeros((30, 40), dtype=bool)
    write_object(tmp_path, "cup", "b", np.zeros((30, 40, 3), np.uint8), [make_object(**{"class": "cup"})], mask)
    write_list(tmp_path, "cup", "train", ["b"])
    both = ImageNet3D(tmp_path)
    assert both.categories == ["cup", "mug"] and [s.category for s in both.samples("train")] == ["cup", "mug"]
    assert both.samples("train")[0].mask == tmp_path / "masks/cup/b.png"
    (only,) = ImageNet3D(tmp_path, categories=["mug"]).samples("train")
    assert only.image.suffix == ".png"


@given(st.floats(0, 2 * math.pi), st.floats(-1.5, 1.5), st.floats(-3.1, 3.1), st.floats(0.1, 100), st.floats(10, 5000))
def test_poses_survive_writing_and_reading(
    tmp_path_factory: pytest.TempPathFactory,
    azimuth: float,
    elevation: float,
    theta: float,
    distance: float,
    focal: float,
) -> None:
    root = tmp_path_factory.mktemp("poses")
    entry = annotation_dict(
        category="mug", azimuth=azimuth, elevation=elevation, theta=theta, distance=distance, focal=focal,
        principal_point=(1.5, 2.5), bbox=(0, 0, 4, 4), width=4, height=4,
    )  # fmt: skip
    assert all(0 <= entry[key] <= 2 * math.pi for key in ("azimuth", "elevation", "theta"))
    (sample,) = make_dataset(root, {"a": [entry]}).samples("train")
    assert math.remainder(sample.azimuth - azimuth, 2 * math.pi) == pytest.approx(0, abs=1e-12)
    assert sample.elevation == pytest.approx(elevation, abs=1e-12)
    assert math.remainder(sample.theta - theta, 2 * math.pi) == pytest.approx(0, abs=1e-12)
    assert sample.focal == pytest.approx(focal, rel=1e-12) and sample.distance == distance


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("a file where a folder should be")
    with pytest.raises(CompNetError, match="mug/a cannot be written"):
        write_object(tmp_path, "mug", "a", np.zeros((30, 40, 3), np.uint8), [make_object()])


# ---- names and the calibration split -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "instance"),
    [
        ("car01_022_090", "car01"),
        ("car_i012_v03", "car_i012"),
        ("go_kart_i3_v0", "go_kart_i3"),
        ("n02958343_1234", None),
        ("n02958343_123_456", None),
        ("IMG_2041", None),
        ("2020_001_002", None),
        ("", None),
    ],
)
def test_instances_are_read_from_file_names(name: str, instance: str | None) -> None:
    assert parse_instance(name) == instance


def test_calibration_holds_out_whole_instances_of_every_category(shared_dir: Path) -> None:
    dataset = ImageNet3D(shared_dir / "data" / "eth80")
    samples = dataset.samples("train")
    train, calibration = split_calibration(samples, 0.17, seed=3)
    assert len(train) == 8 * 5 * 41 and len(calibration) == 8 * 41
    assert {s.category for s in calibration} == set(dataset.categories)
    assert not {s.instance for s in train} & {s.instance for s in calibration}
    again = split_calibration(samples[::-1], 0.17, seed=3)
    assert {s.key for s in again[1]} == {s.key for s in calibration}
    other = split_calibration(samples, 0.17, seed=4)
    assert {s.instance for s in other[1]} != {s.instance for s in calibration}
    assert all(len(split_calibration(samples, 0.99, seed=0)[i]) == n for i, n in ((0, 8 * 41), (1, 8 * 5 * 41)))


def test_calibration_falls_back_to_images_and_keeps_something_to_train_on(tmp_path: Path) -> None:
    one_instance = [f"mug_i001_v{i:02d}" for i in range(10)]
    samples = make_dataset(tmp_path / "a", {name: [make_object()] for name in one_instance}).samples("train")
    train, calibration = split_calibration(samples, 0.2, seed=0)
    assert (len(train), len(calibration)) == (8, 2)
    assert split_calibration(samples[:1], 0.5, seed=0) == (samples[:1], [])
    assert split_calibration(samples, 0.0, seed=0) == (samples, [])
    # two objects of one image stay together
    pairs = make_dataset(tmp_path / "b", {f"n0000000{i}_1": [make_object()] * 2 for i in range(6)}).samples("train")
    train, calibration = split_calibration(pairs, 0.3, seed=0)
    assert not {s.name for s in train} & {s.name for s in calibration} and len(calibration) == 4
    with pytest.raises(CompNetError, match="fraction"):
        split_calibration(samples, 1.0, seed=0)


def test_eth80_is_read_whole(shared_dir: Path) -> None:
    dataset = ImageNet3D(shared_dir / "data" / "eth80")
    train, val = dataset.samples("train"), dataset.samples("val")
    assert (len(train), len(val), dataset.report.total_skipped) == (1968, 656, 0)
    assert all(s.mask is not None and s.instance is not None for s in train)
    assert all(0 <= s.elevation <= math.pi / 2 for s in train + val)
    assert len(dataset.meshes("car")) == 1 and dataset.symmetry["apple"].order == 0


# ---- as people leave their data ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".Jpg", ".Jpeg", ".Png", ".JPG", ".PNG", ".webp", ".tif", ".TIFF", ".jfif", ".BMP"])
def test_suffixes_in_capitals_and_of_other_formats(tmp_path: Path, suffix: str) -> None:
    dataset = make_dataset(tmp_path, {"a": [make_object()]})
    image = tmp_path / "images/mug/a.JPEG"
    image.rename(image.with_suffix(suffix))
    (tmp_path / "masks/mug").mkdir(parents=True)
    (tmp_path / "masks/mug" / f"a{suffix}").touch()
    (sample,) = dataset.samples("train")
    assert sample.image.suffix == suffix and sample.mask is not None and sample.mask.suffix == suffix


@pytest.mark.parametrize(
    "entry",
    [
        "a",
        "a.JPEG",
        "a.npz",
        '"a"',
        "# made by hand\na",
        "images/mug/a.JPEG",
        "./a.JPEG",
        "images\\mug\\a.JPEG",
        "/data/images/mug/a.jpg",
        "mug/a",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_lists_as_ls_find_and_powershell_write_them(tmp_path: Path, entry: str, encoding: str) -> None:
    dataset = make_dataset(tmp_path, {"a": [make_object()]})
    text = ("\ufeff" if encoding == "utf-16-be" else "") + f"{entry}  \r\n\r\n"
    (tmp_path / "lists/mug_imagenet_train.txt").write_bytes(text.encode(encoding))
    assert dataset.names("mug", "train") == ["a"] and [s.name for s in dataset.samples("train")] == ["a"]


def test_an_image_of_a_kind_that_is_not_read_is_named(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, {"a": [make_object()], "b": [make_object()]})
    (tmp_path / "images/mug/a.JPEG").rename(tmp_path / "images/mug/a.HEIC")
    assert len(dataset.samples("train")) == 1
    assert dataset.report.skipped == {"image is .heic, not read: convert it to JPEG": 1}
    assert dataset.report.examples.popitem()[1].endswith("a.HEIC")
    assert "error" in {finding.severity for finding in check_dataset(tmp_path).findings if "heic" in finding.problem}


def test_a_name_may_hold_what_looks_like_a_suffix(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, {"a.jpg": [make_object()], "v1.2": [make_object()]})
    assert [sample.name for sample in dataset.samples("train")] == ["a.jpg", "v1.2"]


def test_lists_that_systems_leave_are_no_categories(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, {"a": [make_object()]})
    for name in ("._mug_imagenet_train.txt", ".cup_imagenet_val.txt"):
        (dataset.root / "lists" / name).write_bytes(b"\0\5\x16\7")
    assert ImageNet3D(tmp_path).categories == ["mug"]


def test_units_that_are_no_radians_and_no_pixels_are_left_out_and_named(tmp_path: Path) -> None:
    turn = 2 * math.pi
    objects = {
        "degrees": [make_object(azimuth=90.0)],
        "below": [make_object(theta=-7.0)],
        "shares": [make_object(bbox=np.array([0.1, 0.1, 0.9, 0.9]))],
        "whole": [make_object(azimuth=turn, elevation=-turn)],
    }
    dataset = make_dataset(tmp_path, objects)
    assert [sample.name for sample in dataset.samples("train")] == ["whole"]
    assert dataset.report.skipped == {
        "an angle is beyond 2 pi: degrees in the place of radians?": 2,
        "the box is in 0..1: shares of the image in the place of pixels?": 1,
    }


def test_the_writer_refuses_degrees_and_shares() -> None:
    good: dict[str, Any] = {
        "category": "mug", "azimuth": -1.0, "elevation": 0.2, "theta": 0.0, "distance": 5.0, "focal": 300.0,
        "principal_point": (20.0, 15.0), "bbox": (5.0, 5.0, 35.0, 25.0), "width": 40, "height": 30,
    }  # fmt: skip
    assert annotation_dict(**good)["azimuth"] == pytest.approx(2 * math.pi - 1)
    for name in ("azimuth", "elevation", "theta"):
        with pytest.raises(CompNetError, match=f"{name} = 90 is not an angle in radians; did you mean degrees"):
            annotation_dict(**good | {name: 90.0})
        with pytest.raises(CompNetError, match=f"{name} = nan is not an angle"):
            annotation_dict(**good | {name: math.nan})
    with pytest.raises(CompNetError, match="is in shares of the image; give x1, y1, x2, y2 in pixels"):
        annotation_dict(**good | {"bbox": (0.1, 0.1, 0.9, 0.9)})


def test_annotations_of_other_layouts_are_named(tmp_path: Path) -> None:
    names = ("mat", "yolo", "processed", "occluded")
    dataset = make_dataset(tmp_path, {name: [make_object()] for name in names})
    folder = tmp_path / "annotations/mug"
    for name, file in (("mat", folder / "mat.mat"), ("yolo", tmp_path / "images/mug/yolo.txt")):
        (folder / f"{name}.npz").unlink()
        file.write_text("")
    np.savez(folder / "processed.npz", azimuth=1.0, elevation=0.1, theta=0.0, distance=5.0)
    np.savez(folder / "occluded.npz", mask=np.zeros((2, 2)), occluder_mask=np.zeros((2, 2)))
    with pytest.raises(CompNetError, match="no usable object"):
        dataset.samples("train")
    report = ReadReport()
    for name in names:
        assert read_objects(tmp_path, "mug", name, report) == []
    assert report.skipped == {
        "annotation is a MATLAB file, as PASCAL3D+ has, not .npz: see `data import`": 1,
        "annotation is a text file, as YOLO has, not .npz: see `data import`": 1,
        "annotation is of the processed layout: see `data import`": 1,
        "annotation is of Occluded-PASCAL3D+: see `data import`": 1,
    }
