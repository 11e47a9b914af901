"""Annotations that ask for more than they look like: each is one sentence, at once, and nothing of it is run."""

from __future__ import annotations

import math
import os
import pickle
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from compnet3d.data.annotations import SkipObject, parse_object, read_annotation, write_annotation
from compnet3d.data.transforms import CropMode, InputConfig, make_crop
from compnet3d.data.warp import Border
from compnet3d.errors import CompNetError
from tests.data.test_imagenet3d import make_object


def parse(changed: dict[str, Any]) -> Any:
    return parse_object(changed, image=Path("a.png"), category="mug", name="a")


def npy(body: bytes, description: str = "'|O'", shape: str = "(1,)") -> bytes:
    header = f"{{'descr': {description}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


def npz(folder: Path, payload: bytes, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder / "hostile.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("annotations.npy", payload)
    return path


def refused(path: Path, seconds: float = 5.0) -> None:
    start = time.process_time()
    with pytest.raises(CompNetError, match="hostile.npz") as error:
        read_annotation(path)
    assert time.process_time() - start < seconds and "\n" not in str(error.value) and len(str(error.value)) < 1000


def array_of(shape: bytes, cells: bytes = b"]", dtype: bytes = b"S'O8'") -> bytes:
    """The pickle of an array of this shape and data, in the oldest protocol."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n"
        + shape
        + b"cnumpy\ndtype\n("
        + dtype
        + b"I0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\n"
        + cells
        + b"tb."
    )


def nested(depth: int) -> bytes:
    """A tuple that holds itself 2^depth times, on the stack."""
    return b")" + b"q\x00h\x00\x86" * depth


HUGE = b"\x8b" + struct.pack("<i", 4_000_000) + b"\x7f" * 4_000_000  # a number of ten million digits
LONG = b"X" + struct.pack("<I", 3_000_000) + b"a" * 3_000_000  # a text
ENCODE = b"(h\x01h\x02S'latin1'\ntR0"
PROGRAMS = {
    "a side of zero beside a long one": array_of(b"(I30000000\nI0\nt"),
    "the other way round": array_of(b"(I0\nI30000000\nt"),
    "long sides in front of a zero": array_of(b"(I5000\nI5000\nI0\nt"),
    "a negative side": array_of(b"(I-1\nI0\nt"),
    "sides of ten million digits": array_of(b"(" + (HUGE + b"0" + HUGE) * 4 + b"t"),
    "a type of a nested tuple": b"cnumpy\ndtype\n(" + nested(60) + b"I0\nI1\ntR.",
    "a byte order of a nested tuple": b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\n" + nested(60) + b"NNNI-1\nI-1\nI0\ntb.",
    "a nested tuple as a key": b"}" + nested(60) + b"Ns.",
    "as one of several keys": b"}(" + nested(60) + b"NI1\nNu.",
    "as a key of a new dict": b"(" + nested(60) + b"Nd.",
    "as an element of a set": b"\x8f(" + nested(60) + b"\x90.",
    "as an element of a frozen set": b"(" + nested(60) + b"\x91.",
    "a huge number as a key": b"}" + HUGE + b"q\x01(" + b"h\x01N" * 50_000 + b"u.",
    "long equal texts as keys": b"}" + LONG + b"q\x01Ns" + LONG + b"q\x02" + b"(" + b"h\x02N" * 50_000 + b"u.",
    "keys of something that is no dict": b"]I0\nNs.",
    "a key without its value": b"}(I0\nu.",
    "elements of something that is no set": b"](I0\n\x90.",
    "one text encoded again and again": b"c_codecs\nencode\nq\x01" + LONG + b"q\x020" + ENCODE * 20_000 + b".",
    "very many instructions": b"N0" * 600_000 + b"].",
    "long names": b"c" + b"a" * 10**6 + b"\nb\n.",
    "a number of many digits": b"I" + b"9" * 10**6 + b"\n.",
    "a list in itself": b"]q\x00h\x00a.",
    "lists that share a list": b"](" + b"]q\x01" + b"h\x01" * 400_000 + b"e.",
}  # fmt: skip


@pytest.mark.parametrize("kind", PROGRAMS)
def test_short_programs_of_long_work_are_refused_at_once(tmp_path: Path, kind: str) -> None:
    refused(npz(tmp_path, npy(PROGRAMS[kind])))


HEADERS = {
    "an open bracket": npy(b"", "'<f8'", "(1,"),
    "indentation": b"\x93NUMPY\x01\x00\x0c\x00  x\n y\n z\nab",
    "null bytes": npy(b"", "'\x00'"),
    "more than there is": npy(bytes(8), "'<f8'", "(1000000000000,)"),
    "a zero and a huge side": npy(b"", "'<f8'", "(0, 1000000000000)"),
    "a huge element": npy(bytes(8), "'<U2000000000'"),
    "an element of no size": npy(b"", "'<U0'", "(1000000000000,)"),
    "a structure": npy(bytes(8), "[('a', '<f8')]"),
    "a structure with objects": npy(b"N.", "[('a', '|O')]"),
    "a time": npy(bytes(8), "'<M8[s]'"),
    "a nest of brackets": npy(b"", "(" * 300),
    "no version": b"\x93NUMPY\x09\x00" + bytes(100),
    "a header of four gigabytes": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}",
}


@pytest.mark.parametrize("kind", HEADERS)
def test_broken_headers_are_one_sentence(tmp_path: Path, kind: str) -> None:
    refused(npz(tmp_path, HEADERS[kind]))


def test_archives_of_other_kinds_are_one_sentence(tmp_path: Path) -> None:
    for compression in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        refused(npz(tmp_path, npy(b"]."), compression))
    path = npz(tmp_path, npy(b"]."), zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        data[data.index(signature) + place] |= 1  # encrypted
    path.write_bytes(data)
    refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(1001):
            archive.writestr(str(i), b"")
    refused(path)
    path.write_bytes(b"")
    os.truncate(path, 65 * 2**20)
    refused(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hostile.npz")
    refused(tmp_path / "hostile.npz")


@settings(max_examples=150)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_bytes_give_objects_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, places: list[tuple[float, int]]
) -> None:
    folder = tmp_path_factory.mktemp("changed")
    cells = np.empty(1, dtype=object)
    cells[0] = make_object(extra={"a": (1, {2, 3}, frozenset("b")), "b": [b"x", np.float32(1)]})
    body = bytearray(npy(pickle.dumps(cells, protocol=len(places) + 1)))
    write_annotation(folder / "a.npz", [make_object()])
    archive = bytearray((folder / "a.npz").read_bytes())
    for data in (body, archive):
        for place, value in places:
            data[int(place * len(data))] = value
    (folder / "archive.npz").write_bytes(archive)
    for path in (npz(folder, bytes(body)), folder / "archive.npz"):
        try:
            objects = read_annotation(path)
        except CompNetError:
            continue
        for changed in objects:
            try:
                sample = parse(changed)
            except SkipObject:
                continue
            assert all(np.isfinite(x) for x in (*sample.bbox, *sample.principal_point, sample.focal, sample.distance))


def test_plain_sets_and_keys_are_read(tmp_path: Path) -> None:
    plain = {"a": {1, "x", b"y", None, 2.5}, 7: frozenset([np.int64(3)]), None: 1, np.str_("n"): 2}
    cells = np.empty(1, dtype=object)
    cells[0] = plain
    for protocol in (4, 5):
        assert read_annotation(npz(tmp_path, npy(pickle.dumps(cells, protocol=protocol)))) == [plain]


ABSURD: dict[str, tuple[dict[str, Any], str]] = {
    "an angle": ({"azimuth": 1e300}, "azimuth is out of range"),
    "a negative angle": ({"elevation": -1e4}, r"an angle is beyond 2 pi: degrees in the place of radians\?"),
    "a distance": ({"distance": 1e30}, "distance is out of range"),
    "next to no distance": ({"distance": 1e-300}, "distance is out of range"),
    "a focal length": ({"focal": 1e300}, "focal is out of range"),
    "next to no focal length": ({"focal": 1e-300}, "viewport * focal is out of range"),
    "a viewport": ({"viewport": 10**400}, "wrong type of viewport"),
    "a point": ({"px": -1e18}, "px is out of range"),
    "a size": ({"width": 1e300}, "width is out of range"),
    "a box": ({"bbox": [0, 0, 1e308, 1e308]}, "bbox is out of range"),
    "a box of no size": ({"bbox": [0, 0, 1e-300, 1e-300]}, "empty bbox"),
    "a box of bytes": ({"bbox": bytes(4)}, "wrong type of bbox"),
    "a box of millions": ({"bbox": bytes(10**8)}, "wrong type of bbox"),
    "a box of rows": ({"bbox": np.zeros((4, 10**6))}, "wrong type of bbox"),
    "a box without sides": ({"bbox": np.array(4.0)}, "wrong type of bbox"),
    "a model's number": ({"cad_index": 1e300}, "cad_index is out of range"),
    "a long class": ({"class": "m" * 10**8}, "object of another class"),
    "shares": ({"hidden_object": 3.0, "hidden_background": 0.0}, "hidden_object is out of range"),
}


@pytest.mark.parametrize("kind", ABSURD)
def test_numbers_that_no_camera_has_are_a_reason_to_skip(kind: str) -> None:
    changes, reason = ABSURD[kind]
    start = time.process_time()
    with pytest.raises(SkipObject, match=f"^{reason.replace('*', '[*]')}$"):
        parse(make_object(**changes))
    assert time.process_time() - start < 0.5


@settings(max_examples=300)
@given(st.tuples(*[st.floats(-7, 7)] * 8), st.sampled_from(["oracle", "box"]), st.sampled_from(["constant", "reflect"]))
def test_whatever_is_read_can_be_cropped(exponents: tuple[float, ...], crop: CropMode, border: Border) -> None:
    """Numbers of all magnitudes: either the reader refuses them, or they make a crop in single precision."""
    names = ("distance", "focal", "viewport", "px", "py")
    numbers = [math.copysign(10.0 ** abs(e), e) for e in exponents]
    changes = dict(zip(names, [10.0**e for e in exponents[:3]] + numbers[3:5], strict=True))
    x, y, side = numbers[5], numbers[6], 10.0 ** exponents[7]
    try:
        sample = parse(make_object(**changes, bbox=[x, y, x + side, y + side / 3]))
    except SkipObject:
        return
    config = InputConfig(height=24, width=32, focal=100.0, distance=5.0, box_fill=0.7, border=border)
    made = make_crop(Image.new("RGB", (40, 30)), sample, config, crop=crop)
    values = np.array([made.distance, *made.principal_point, made.focal, made.scale], dtype=np.float32)
    assert made.image.shape == (24, 32, 3) and np.isfinite(values).all() and made.distance > 0
