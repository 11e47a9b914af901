"""What names stand for, boxes in files, and videos."""

from __future__ import annotations

import json
import os
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from compnet3d.data import video
from compnet3d.data.box_files import read_box_file
from compnet3d.data.sources import find_sources
from compnet3d.errors import CompNetError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.png", "a.JPG", "in/c.webp", "in/._c.webp", ".hidden/d.png", "notes.txt", "f[1].png", "clip.mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["b.png"], ["b.png"]),
        (["."], ["a.JPG", "b.png", "f[1].png", "in/c.webp"]),
        (["*.png"], ["b.png", "f[1].png"]),
        (["**/*.webp"], ["in/c.webp"]),
        (["f[1].png"], ["f[1].png"]),
        (["b.png", "*.png", "b.png"], ["b.png", "f[1].png"]),
        (["no.png"], ["no.png"]),  # which says so when it is loaded, and does not stop the others
        (["camera", "camera:2"], ["camera", "camera:2"]),
    ],
)
def test_names_stand_for_files(tree: Path, names: list[str], expected: list[str]) -> None:
    assert [source.name for source in find_sources(names)] == expected


def test_what_is_a_video_or_a_camera(tree: Path) -> None:
    kinds = {s.name: (s.moving, s.live) for s in find_sources(["b.png", "clip.mp4", "camera:1"])}
    assert kinds == {"b.png": (False, False), "clip.mp4": (True, False), "camera:1": (True, True)}


@pytest.mark.parametrize(("name", "reason"), [("none/*.png", "matches no file"), ("empty", "holds no image")])
def test_names_that_stand_for_nothing_are_refused(tree: Path, name: str, reason: str) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(CompNetError, match=f"^{name.replace('*', '.')}: {reason}"):
        find_sources([name])


# -- boxes -----------------------------------------------------------------------------------------------------------

numbers = st.floats(-500, 500, allow_nan=False).map(lambda x: round(x, 3))
boxes = st.tuples(numbers, numbers, st.floats(0.01, 300), st.floats(0.01, 300)).map(
    lambda b: (b[0], b[1], b[0] + round(b[2], 3) + 0.01, b[1] + round(b[3], 3) + 0.01)
)
named = st.dictionaries(
    st.sampled_from(["a.jpg", "in/b.png", "with space.jpg", "ü.png"]), st.lists(boxes, min_size=1), min_size=1
)


@given(named)
def test_all_formats_say_the_same(tmp_path_factory: pytest.TempPathFactory, entries: dict[str, list[tuple]]) -> None:
    folder = tmp_path_factory.mktemp("boxes")
    flat = [(name, box) for name, some in entries.items() for box in some]
    ids = {name: number for number, name in enumerate(entries)}
    texts = {
        "boxes.csv": "image,x1,y1,x2,y2\n" + "".join(f"{n},{','.join(map(repr, b))}\n" for n, b in flat),
        "list.json": json.dumps([{"image": n, "box": b} for n, b in flat]),
        "lines.jsonl": "".join(json.dumps({"image": n, "boxes": some}) + "\n" for n, some in entries.items()),
        "coco.json": json.dumps(
            {
                "images": [{"id": i, "file_name": n} for n, i in ids.items()],
                "annotations": [{"image_id": ids[n], "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]]} for n, b in flat]
                + [{"image_id": 99, "bbox": [0, 0, 1, 1], "iscrowd": 1}],
            }
        ),
    }
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")
        found = read_box_file(folder / file)
        for name, expected in entries.items():
            assert np.array(found.of(name)) == pytest.approx(np.array(expected), abs=1e-9)


def test_an_image_is_found_by_the_end_of_its_path(tmp_path: Path) -> None:
    path = tmp_path / "b.csv"
    path.write_text(
        "image, x1, y1, x2, y2, frame\nx/a.jpg,0,0,1,1\ny/a.jpg,0,0,2,2\nx/b.jpg,0,0,3,3\nv.mp4,0,0,4,4,2\n"
    )
    found = read_box_file(path)
    assert found.of("y/a.jpg") == ((0, 0, 2, 2),) and found.of("b.jpg") == ((0, 0, 3, 3),)
    assert found.of("/data/x/b.jpg") == ((0, 0, 3, 3),) and found.of("clips/v.mp4", 2) == ((0, 0, 4, 4),)
    with pytest.raises(CompNetError, match=r"a\.jpg may be x/a\.jpg or y/a\.jpg"):
        found.of("a.jpg")
    with pytest.raises(CompNetError, match=r"no box for z/b\.jpg"):
        found.of("z/b.jpg")
    with pytest.raises(CompNetError, match=r"no box for v\.mp4, frame 3; add it"):
        found.of("v.mp4", 3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no column image"),
        ("image,x1,y1,x2\na.jpg,1,2,3\n", "no column y2"),
        ("image,x1,y1,x2,y2\n", "holds no box"),
        ("image,x1,y1,x2,y2\na.jpg,5,0,5,9\n", r"box 1 \(a.jpg\): 5 0 5 9 is empty"),
        ("image,x1,y1,x2,y2\na.jpg,nan,0,5,9\n", "is empty"),
        ("image,x1,y1,x2,y2\na.jpg,one,0,5,9\n", "is not four numbers"),
        ("image,x1,y1,x2,y2\na.jpg,1\n", "is not four numbers"),
        ("image,x1,y1,x2,y2,frame\na.jpg,0,0,1,1,x\n", "frame 'x' is no whole number"),
        ("[1]", 'entry 1: has no "image"'),
        ('[{"image": "a.jpg"}]', 'has no "box"'),
        ('[{"image": "a.jpg", "box": [1, 2, 3]}]', "is not four numbers"),
        ('[{"image": "a.jpg", "box": "1234"}]', "is not four numbers"),
        ('{"image": "a.jpg", "box": [1', "is not valid JSON"),
        ('{"annotations": [{"image_id": 1, "bbox": [0, 0, 1, 1]}]}', "no image or annotation has 'images'"),
        ('{"images": [], "annotations": [{"image_id": 1, "bbox": [0, 0, 1, 1]}]}', "has 1"),
        ('{"images": 3, "annotations": []}', "is not COCO JSON"),
    ],
)
def test_a_broken_file_of_boxes_is_one_sentence(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "boxes"
    path.write_text(text)
    with pytest.raises(CompNetError, match=reason) as error:
        read_box_file(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_boxes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "boxes"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CompNetError, match="is no text"):
        read_box_file(path)


# -- videos ----------------------------------------------------------------------------------------------------------


def make_video(path: Path, count: int = 10, rate: float = 12.5) -> Path:
    with video.VideoWriter(path, rate) as writer:
        for number in range(count):
            frame = np.full((49, 64, 3), 20 * number, dtype=np.uint8)
            frame[:20, :30] = (250, 10, 10)  # the top left
            writer.write(Image.fromarray(frame))
    return path


def test_a_video_is_written_and_read_again(tmp_path: Path) -> None:
    pytest.importorskip("av")
    path = make_video(tmp_path / "a.mp4")
    assert video.frame_rate(path) == 12.5 and video.is_own_video(path)
    frames = list(video.read_video(path))
    assert [frame.number for frame in frames] == list(range(10))
    assert [frame.time for frame in frames] == pytest.approx([number / 12.5 for number in range(10)])
    assert frames[5].image.size == (64, 48)  # the odd row is gone
    corner, below = np.asarray(frames[5].image)[5, 5], np.asarray(frames[5].image)[40, 50]
    assert corner[0] > 200 and corner[1] < 60 and below == pytest.approx(100, abs=6)
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_a_video_that_was_held_upright_is_read_upright(tmp_path: Path) -> None:
    """MP4 has a matrix in its track header; telephones write a quarter turn there and leave the pixels alone."""
    pytest.importorskip("av")
    path = make_video(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40  # version 0: the matrix follows 40 bytes
    one, zero = (0x10000).to_bytes(4, "big"), bytes(4)
    minus = (-0x10000).to_bytes(4, "big", signed=True)
    assert data[start : start + 4] == one and data[start + 16 : start + 20] == one
    data[start : start + 20] = zero + one + zero + minus + zero  # a quarter turn clockwise
    path.write_bytes(data)
    frame = next(video.read_video(path)).image
    assert frame.size == (48, 64)
    # the top left comes to the top right
    assert np.asarray(frame)[5, 43][0] > 200 and np.asarray(frame)[5, 5][0] < 60


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [(b"avc1", b"zzzz", "of a kind that is not known"), (b"Lavf", b"\xca\xca\xff\xff", "utf-8")],
)
def test_a_video_with_a_broken_name_in_it_is_one_sentence(tmp_path: Path, old: bytes, new: bytes, words: str) -> None:
    """Of the codec, and of the program that wrote it, which is no text any more."""
    pytest.importorskip("av")
    path = make_video(tmp_path / "a.mp4")
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(CompNetError, match=words) as error:
        list(video.read_video(path))
    assert "\n" not in str(error.value)
    assert old == b"avc1" or not video.is_own_video(path)


@pytest.mark.parametrize("content", [b"", b"no video", None])
def test_a_broken_video_is_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    pytest.importorskip("av")
    path = tmp_path / "a.mp4"
    path.write_bytes(make_video(tmp_path / "b.mp4").read_bytes()[:300] if content is None else content)
    with pytest.raises(CompNetError, match=r"a\.mp4: cannot be read") as error:
        list(video.read_video(path))
    assert "\n" not in str(error.value) and not video.is_own_video(path)


def test_a_video_that_fails_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("av")
    with pytest.raises(ZeroDivisionError), video.VideoWriter(tmp_path / "a.mp4", 5) as writer:
        writer.write(Image.new("RGB", (32, 32)))
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt), video.VideoWriter(tmp_path / "a.mp4", 5) as writer:
        writer.write(Image.new("RGB", (32, 32)))
        raise KeyboardInterrupt
    assert len(list(video.read_video(tmp_path / "a.mp4"))) == 1  # Ctrl-C is how a camera ends


def test_a_camera_goes_on_until_it_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg's test pattern stands in for the device."""
    pytest.importorskip("av")
    monkeypatch.setattr(video, "_camera_device", lambda device: ("testsrc=size=64x48:rate=5", "lavfi"))
    frames = list(islice(video.read_camera("camera"), 4))
    assert [frame.image.size for frame in frames] == [(64, 48)] * 4 and frames[3].time == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("device", "platform", "expected"),
    [
        ("0", "linux", ("/dev/video0", "v4l2")),
        ("/dev/video7", "linux", ("/dev/video7", "v4l2")),
        ("1", "darwin", ("1", "avfoundation")),
        ("Integrated Camera", "win32", ("video=Integrated Camera", "dshow")),
    ],
)
def test_cameras_have_their_systems_names(device: str, platform: str, expected: tuple[str, str]) -> None:
    assert video._camera_device(device, platform) == expected


def test_a_camera_that_is_not_there_is_named() -> None:
    pytest.importorskip("av")
    with pytest.raises(CompNetError, match="camera:77: cannot be read"):
        next(video.read_camera("camera:77"))
    with pytest.raises(CompNetError, match="Windows knows cameras by name"):
        video._camera_device("0", "win32")
