"""Dialects and defects of OFF: the same cube in each, or one sentence."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest

from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import load_off

CORNERS = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n0 0 1\n1 0 1\n1 1 1\n0 1 1\n"
QUADS = "4 0 3 2 1\n4 4 5 6 7\n4 0 1 5 4\n4 2 3 7 6\n4 1 2 6 5\n4 0 4 7 3\n"
PLAIN = "OFF\n8 6 12\n" + CORNERS + QUADS


def with_each(lines: str, more: str) -> str:
    return lines.replace("\n", f"{more}\n")


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace("\n", " "),
        ("OFF 8 6 " + CORNERS + QUADS).replace("\n", " "),
        "OFF8 6 0\n" + CORNERS + QUADS,
        # the word may be left out
        "8 6 12\n" + CORNERS + QUADS,
        "# no word\n8 6\n" + CORNERS + QUADS,
        "off\n8\n6\n0\n" + CORNERS + QUADS,
        "OFF\n8 6\n" + CORNERS + QUADS,
        "COFF\n8 6 0\n" + with_each(CORNERS, " 255 0 0 255") + QUADS,
        "COFF\n8 6 0\n" + with_each(CORNERS, " 0.5 0 0") + QUADS,
        "NOFF\n8 6 0\n" + with_each(CORNERS, " 0 0 1") + QUADS,
        "STOFF\n8 6 0\n" + with_each(CORNERS, " 0.5 0.5") + QUADS,
        ("CNOFF 8 6 0\n" + with_each(CORNERS, " 0 0 1 1 0 0 1") + QUADS).replace("\n", " "),
        "nOFF\n3\n8 6 0\n" + CORNERS + QUADS,
        # as MeshLab writes them
        "NCOFF\n8 6 0\n" + with_each(CORNERS, " 255 0 0 255 0 0 1") + QUADS,
        ("NCSTOFF 8 6 0\n" + with_each(CORNERS, " 255 0 0 255 0 0 1 0.5 0.5") + QUADS).replace("\n", " "),
        "4OFF\n8 6 0\n" + with_each(CORNERS, " 1") + QUADS,
        "# made by hand\nOFF # x\n# y\n8 6 0 # z\n\n" + with_each(CORNERS, " # corner") + QUADS,
        PLAIN.replace("\n", "\r"),
        PLAIN.replace("\n", "\r\n").replace(" ", "\t"),
        "OFF\n8 6 0\n" + CORNERS + with_each(QUADS, " 255 0 0"),
        "OFF\n8 6 0\n" + CORNERS + with_each(QUADS, " 0.5 0 0 1"),
        "OFF\n8 6 0\n" + CORNERS + with_each(QUADS, " 7"),
        "OFF\n8 6 0\n" + CORNERS + QUADS.replace(" 3 2", " 3\n2"),
        "OFF\n8 6 0\n" + CORNERS.replace("\n", " ") + "\n" + with_each(QUADS, " 255 0 0"),
        "OFF\n8 6 0\n" + CORNERS.replace(" ", "\n") + QUADS,
        "\ufeff" + PLAIN,
    ],
)
def test_every_dialect_gives_the_cube(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cube.off"
    path.write_bytes(text.encode())
    mesh = load_off(path)
    assert mesh.vertices.tolist() == [[float(x) for x in line.split()] for line in CORNERS.splitlines()]
    quads = [[int(x) for x in line.split()[1:]] for line in QUADS.splitlines()]
    assert mesh.faces.tolist() == [t for a, b, c, d in quads for t in ([a, b, c], [a, c, d])]


def binary(order: str, letters: str = "", more: int = 0, colours: int = 0) -> bytes:
    """The cube in words of four bytes, with `more` numbers after each position and a colour after each face."""
    said = f"{letters}OFF BINARY\n".encode() + struct.pack(f"{order}3i", 8, 6, 12)
    for line in CORNERS.splitlines():
        said += struct.pack(f"{order}{3 + more}f", *map(float, line.split()), *[0.5] * more)
    for line in QUADS.splitlines():
        said += struct.pack(f"{order}6i{colours}f", *map(int, line.split()), colours, *[0.25] * colours)
    return said


@pytest.mark.parametrize(
    "data",
    [
        binary(">"),
        binary("<"),
        binary(">", colours=4),
        binary(">", "C", 4, 3),
        binary("<", "STN", 5),
        binary(">").replace(b"BINARY\n", b"binary\r\n"),
        binary(">", "n").replace(b"Y\n", b"Y\n\0\0\0\x03"),
    ],
)
def test_the_binary_form_gives_the_cube(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "cube.off"
    path.write_bytes(data)
    mesh = load_off(path)
    assert mesh.vertices.tolist() == [[float(x) for x in line.split()] for line in CORNERS.splitlines()]
    quads = [[int(x) for x in line.split()[1:]] for line in QUADS.splitlines()]
    assert mesh.faces.tolist() == [t for a, b, c, d in quads for t in ([a, b, c], [a, c, d])]
    for broken in (data[:-4], data[:-30], data + bytes(8)):
        path.write_bytes(broken)
        with pytest.raises(CompNetError, match="is binary OFF and holds not the 8 vertices and 6 faces"):
            load_off(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.off").write_bytes(PLAIN.encode(encoding))
    assert len(load_off(tmp_path / "a.off").faces) == 12


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PLAIN.replace("8 6", "8 3"), "promises 8 vertices and 3 faces, but holds 6 faces"),
        ("8 3 12\n" + CORNERS + QUADS, "promises 8 vertices and 3 faces, but holds 6 faces"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n3 0 0\n3 0 1 2\n", "no face has an area"),
        ("OFF\n3 2 0\n9 0 0\n1 5 0\n3 0 2\n3 0 0 1\n4 0 1 0 2\n", "no face has an area"),
        (PLAIN.replace("8 6", "8 9"), "promises 8 vertices and 9 faces, but holds 6 faces"),
        (PLAIN.replace("8 6", "7 6"), "promises 7 vertices and 6 faces, but holds 8 vertices"),
        (PLAIN.replace("8 6", "9 6"), "promises 9 vertices and 6 faces, but holds 8 vertices"),
        (PLAIN.replace("8 6", "8 3").replace("\n", " "), "promises 8 vertices and 3 faces, but holds 6 faces"),
        (PLAIN.replace("8 6", "-8 6"), "promises -8 vertices"),
        (PLAIN.replace("8 6", "8 999999999999"), "cut short"),
        (PLAIN.replace("1 1 0", "1 1 0 4", 1), "vertex 2 has 4 numbers, and others 3"),
        ("OFF\n8 6 0\n" + with_each(CORNERS, " 1") + QUADS, "vertex 0 has 4 numbers"),
        (PLAIN.replace("1 1 0", "1,5 1 0", 1), "vertex 2 is not three numbers: '1,5 1 0'"),
        (PLAIN.replace("1 1 0", "1_0 1 0", 1), "vertex 2 is not three numbers"),
        ("OFF\n8 2 0\n" + CORNERS + "3 1 2 3\n3 6 7 8\n", "count vertices from 0, not from 1"),
        (PLAIN.replace("4 4 5 6 7", "5 4 5 6 7"), "face 1 is not a count"),
        (PLAIN.replace("4 4 5 6 7", "4 4 5 6 7 1 2"), "face 1 is not a count"),
        (PLAIN.replace("4 4 5 6 7", "4 4 5.5 6 7"), "face 1 is not a count"),
        (PLAIN.replace("1 1 1", "1 1"), "vertex 6 is not three numbers: '1 1'"),
        ("OFF\n\0\0\0\x08", "zero bytes"),
        ("OFF BINARY\n\0\0\0\x08", "is binary OFF and holds less than its header says"),
        ("OFF BINARY\nabc", "is binary OFF"),
        ("nOFF\n4\n8 6 0\n" + with_each(CORNERS, " 1") + QUADS, "'4' dimensions"),
        ("4OFF\n8 6 0\n" + with_each(CORNERS, " 0") + QUADS, "vertex 0 is not finite"),
        ("version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("<!DOCTYPE html><html>", "web page"),
        ("OFF\n", "numbers of vertices and faces"),
        ("OFF\n8 6 0\n" + with_each(CORNERS, "").replace("0 0 0", "6000000 0 0") + QUADS, None),
    ],
)
def test_every_defect_is_one_sentence(tmp_path: Path, text: str, words: str | None) -> None:
    path = tmp_path / "broken.off"
    path.write_bytes(text.encode())
    if words is None:
        assert len(load_off(path).faces) == 12
        return
    with pytest.raises(CompNetError, match=words) as caught:
        load_off(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_packed_and_far_away(tmp_path: Path) -> None:
    path = tmp_path / "a.off"
    path.write_bytes(gzip.compress(PLAIN.encode()))
    with pytest.raises(CompNetError, match="gzip"):
        load_off(path)
    rows = [f"{float(x) + 5e6} {y} {z}" for x, y, z in (line.split() for line in CORNERS.splitlines())]
    path.write_text("OFF\n8 6 0\n" + "\n".join(rows) + "\n" + QUADS)
    with pytest.raises(CompNetError, match=r"lies 5e\+06 from its origin, too far for its size of 1"):
        load_off(path)
