from __future__ import annotations

import io
import os
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, ImageFile

from compnet3d.data.conversion import as_rgb
from compnet3d.data.images import (
    decode_image,
    image_facts,
    image_size,
    images_in,
    load_image,
    load_mask,
    load_rgba,
    load_stored,
)
from compnet3d.errors import CompNetError
from compnet3d.utils.memory import peak_memory_mb, resident_mb, restart_peak

RAMP = np.linspace(0, 255, 12).round().astype(np.uint8).reshape(3, 4)


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_jpeg_is_decoded_at_a_part_of_its_size(tmp_path: Path, reduction: int) -> None:
    rows, columns = np.mgrid[0:48, 0:80]
    whole = np.stack([3 * columns, 255 - 5 * rows, columns + 2 * rows], axis=-1).astype(np.uint8)
    camera = Image.Exif()
    camera[0x0112] = 6  # held upright: the raster is to be turned by a quarter
    Image.fromarray(whole).save(tmp_path / "a.jpg", quality=98, subsampling=0)
    Image.fromarray(np.rot90(whole, 1)).save(tmp_path / "turned.jpg", quality=98, subsampling=0, exif=camera)
    Image.fromarray(whole).save(tmp_path / "a.png")
    Image.fromarray(whole[:, :-1]).save(tmp_path / "odd.jpg")
    cells = whole.reshape(48 // reduction, reduction, 80 // reduction, reduction, 3).mean(axis=(1, 3))
    for name in ("a.jpg", "turned.jpg"):
        found = pixels(load_image(tmp_path / name, size=(80, 48), reduction=reduction))
        assert found.shape == cells.shape and np.abs(found - cells).max() <= 3
    # those of other sizes, or that are copies of another size than the annotated one
    for name, size in (("a.png", (80, 48)), ("odd.jpg", (79, 48)), ("a.jpg", (160, 96)), ("a.jpg", None)):
        read = load_image(tmp_path / name, size=size, reduction=reduction)
        assert (pixels(read) == pixels(load_image(tmp_path / name))).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((32, 48, 3), dtype=np.uint8)
    upright[:16, :16] = 255  # a white top-left corner
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    np.testing.assert_array_equal(pixels(load_image(path)), upright)


def test_an_annotation_made_on_the_stored_raster_gets_the_stored_raster(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 32)).save(tmp_path / "a.png", exif=exif)
    assert load_image(tmp_path / "a.png").size == (32, 48)
    assert load_image(tmp_path / "a.png", size=(48, 32)).size == (48, 32)
    assert load_image(tmp_path / "a.png", size=(32, 48)).size == (32, 48)
    assert load_image(tmp_path / "a.png", size=(7, 7)).size == (32, 48)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_turns_every_format_alike(tmp_path: Path, suffix: str, orientation: int) -> None:
    # what EXIF says of each number: the sides of the scene that the raster's first row and first column show
    row, column = {1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left",
                   5: "left top", 6: "right top", 7: "right bottom", 8: "left bottom"}[orientation].split()  # fmt: skip
    stored = np.zeros((32, 48), dtype=np.uint8)
    stored[:16] += 100
    stored[:, :24] += 50
    exif, path = Image.Exif(), tmp_path / f"a.{suffix}"
    exif[0x0112] = orientation
    Image.fromarray(stored).convert("RGB").save(path, exif=exif)
    size = (48, 32) if row in ("top", "bottom") else (32, 48)
    upright = np.asarray(load_image(path))[..., 0].astype(int)
    assert upright.shape == size[::-1] and image_size(path) == image_facts(path, size).size == size
    sides = {"top": upright[2], "bottom": upright[-2], "left": upright[:, 2], "right": upright[:, -2]}
    opposite = {"top": "bottom", "bottom": "top", "left": "right", "right": "left"}
    for side, step in ((row, 100), (column, 50)):
        assert sides[side].mean() - sides[opposite[side]].mean() == pytest.approx(step, abs=5)
    # an annotation of the stored pixels gets these, whatever decodes the file
    np.testing.assert_allclose(np.asarray(load_stored(path))[..., 0].astype(int), stored, atol=20)
    if orientation > 4:
        assert load_image(path, size=(48, 32)).size == image_facts(path, (48, 32)).size == (48, 32)


def test_grey_and_16_bit_files_keep_their_full_range(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "grey.png")
    deep = RAMP.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    Image.fromarray(deep.astype(np.int32)).save(tmp_path / "int.tif")
    Image.fromarray((RAMP / np.float32(255)).astype(np.float32)).save(tmp_path / "float.tif")
    for name in ("grey.png", "deep.png", "deep.tif", "int.tif", "float.tif"):
        found = pixels(load_image(tmp_path / name))
        assert found.shape == (3, 4, 3)
        np.testing.assert_allclose(found[..., 0], RAMP, atol=1, err_msg=name)


def test_transparent_pixels_show_neutral_grey(tmp_path: Path) -> None:
    layer = np.full((2, 2, 4), 255, dtype=np.uint8)
    layer[0, 0] = (9, 9, 9, 0)
    Image.fromarray(layer).save(tmp_path / "rgba.png")
    palette = Image.fromarray(np.array([[0, 1], [1, 1]], dtype=np.uint8)).convert("P")
    palette.putpalette([9, 9, 9, 255, 255, 255])
    palette.save(tmp_path / "palette.png", transparency=0)
    Image.fromarray(layer).convert("LA").save(tmp_path / "la.png")
    for name in ("rgba.png", "palette.png", "la.png"):
        found = pixels(load_image(tmp_path / name))
        assert found[0, 0].tolist() == [128, 128, 128] and found[1, 1].tolist() == [255, 255, 255], name


def test_cmyk_palette_bilevel_and_one_pixel(tmp_path: Path) -> None:
    red = Image.new("RGB", (16, 16), (200, 30, 30))
    red.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    red.quantize(4).save(tmp_path / "palette.gif")
    np.testing.assert_allclose(pixels(load_image(tmp_path / "cmyk.jpg")).mean((0, 1)), (200, 30, 30), atol=8)
    np.testing.assert_allclose(pixels(load_image(tmp_path / "palette.gif")).mean((0, 1)), (200, 30, 30), atol=8)
    Image.new("1", (1, 1), 1).save(tmp_path / "one.png")
    assert pixels(load_image(tmp_path / "one.png")).tolist() == [[[255, 255, 255]]]


def test_wide_images_load_and_absurd_ones_are_refused(tmp_path: Path) -> None:
    Image.new("L", (20_000, 40)).save(tmp_path / "wide.png")
    assert load_image(tmp_path / "wide.png").size == (20_000, 40)
    header = io.BytesIO()
    Image.new("1", (30_000, 20_000)).save(header, "PNG")
    (tmp_path / "absurd.png").write_bytes(header.getvalue())
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(CompNetError, match="absurd.png.*200 megapixels"):
        load_image(tmp_path / "absurd.png")
    assert before == Image.MAX_IMAGE_PIXELS


def test_more_pixels_than_pillow_allows_by_default(tmp_path: Path) -> None:
    Image.new("1", (20_000, 9_500)).save(tmp_path / "big.png")  # 190 megapixels, a bomb to Pillow
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "big.png")
    assert load_image(tmp_path / "big.png").size == (20_000, 9_500)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "webp", "bmp"])
def test_damaged_files_are_named(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for kept in (len(whole) // 2, 40, 5):
        path.write_bytes(whole[:kept])
        with pytest.raises(CompNetError, match=f"a.{suffix}"):
            load_image(path)


def test_missing_files_folders_and_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, text in (
        ("gone.png", "does not exist"),
        (".", "folder"),
        ("a.txt", "not an image"),
        ("empty.png", "not an"),
    ):
        with pytest.raises(CompNetError, match=text):
            load_image(tmp_path / name)


@pytest.mark.parametrize("kind", ["EPS", "PPM", "ICO", "TGA", "PCX", "DDS", "SGI", "JPEG2000", "ICNS"])
def test_only_the_formats_of_photographs_are_opened_whatever_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def started(*_: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    Image.new("RGB", (16, 16), (200, 30, 30)).save(tmp_path / "a.jpg", kind)
    for load in (load_image, load_rgba, load_mask):
        with pytest.raises(CompNetError, match="a.jpg is not an image"):
            load(tmp_path / "a.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("fifo.png", "zero.png"):
        with pytest.raises(CompNetError, match=f"{name}: is not a regular file"):
            load_image(tmp_path / name)


@pytest.mark.parametrize(
    "error",
    [Image.DecompressionBombError, RuntimeError, NotImplementedError, struct.error, zlib.error, AttributeError],
)
def test_whatever_a_decoder_raises_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def broken(*_: object) -> None:
        raise error("of the decoder")

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", broken)
    with pytest.raises(CompNetError, match="a.png is damaged .of the decoder."):
        load_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "webp", "bmp"])
def test_changed_bytes_give_an_image_or_one_sentence(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(path, exif=exif)
    whole = path.read_bytes()

    @settings(max_examples=60)
    @given(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), min_size=1, max_size=4))
    def change(places: list[tuple[int, int]]) -> None:
        data = bytearray(whole)
        for place, value in places:
            data[place] = value
        path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                assert load_image(path).mode == "RGB"
            except CompNetError as error:
                assert f"a.{suffix}" in str(error)

    change()


def test_what_telephones_write_is_to_be_converted(tmp_path: Path) -> None:
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    with pytest.raises(CompNetError, match=r"a\.HEIC is not an image that can be read; convert it to JPEG"):
        load_image(tmp_path / "a.HEIC")


def test_a_jpeg_of_very_many_scans_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("L", (64, 64)).save(stream, "JPEG", progressive=True)
    whole = stream.getvalue()
    last = whole.rindex(b"\xff\xda")
    (tmp_path / "many.jpg").write_bytes(whole[:last] + whole[last:-2] * 300 + whole[-2:])
    with pytest.raises(CompNetError, match="many.jpg has 30. scans"):
        load_image(tmp_path / "many.jpg")
    # what a phone appends is no part of the image, and what a comment holds is none
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 600) + b"\xff\xda" * 300
    (tmp_path / "few.jpg").write_bytes(whole[:2] + comment + whole[2:] + whole[last:-2] * 300)
    assert load_image(tmp_path / "few.jpg").size == (64, 64)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "I;16", "I", "F"])
def test_images_are_the_same_converted_in_strips_and_at_once(mode: str) -> None:
    width, height = 640, 1000  # three strips
    rng = np.random.default_rng(0)
    if mode in ("I;16", "I", "F"):
        highest, kind = {"I;16": (65536, np.uint16), "I": (90000, np.int32), "F": (500, np.float32)}[mode]
        values = (rng.random((height, width)) * highest).astype(kind)
        full = 65535.0 if mode == "I;16" else 65535.0 if mode == "F" else float(values.max())
        expected = np.rint(values.astype(float) * (255.0 / full)).clip(0, 255).astype(np.uint8)
        np.testing.assert_array_equal(pixels(as_rgb(Image.fromarray(values)))[..., 1], expected)
        return
    image = Image.fromarray(rng.integers(0, 256, (height, width, 4), dtype=np.uint8))
    image = image if mode == "RGBA" else image.convert("LA").convert(mode)
    backdrop = Image.new("RGBA", image.size, (128, 128, 128, 255))
    expected = np.asarray(Image.alpha_composite(backdrop, image.convert("RGBA")).convert("RGB"))
    np.testing.assert_array_equal(pixels(as_rgb(image)), expected)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory can be restarted on Linux alone")
@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA", "I;16", "CMYK"])
def test_few_bytes_are_held_per_pixel(tmp_path: Path, mode: str) -> None:
    side = 4000
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (side, side)).save(path, compression="tiff_deflate", compress_level=1)
    load_image(path)
    restart_peak()
    before = resident_mb()
    image = load_image(path)
    peak = peak_memory_mb()
    assert image.size == (side, side) and before is not None and peak is not None
    assert (peak - before) * 1e6 < 9 * side * side + 20e6


def test_arrays_of_every_admitted_kind() -> None:
    colour = np.repeat(RAMP[..., None], 3, axis=2)
    for array in (
        RAMP,
        RAMP[..., None],
        colour,
        RAMP.astype(np.uint16) * 257,
        RAMP / 255,
        (RAMP / 255).astype(np.float32),
        np.concatenate([colour, np.full_like(colour[..., :1], 255)], axis=2),
        colour[::-1][::-1],
    ):
        np.testing.assert_array_equal(pixels(as_rgb(array)), colour)
    assert pixels(as_rgb(np.array([[True, False]])))[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((3, 8, 8), np.uint8), "transpose"),
        (np.zeros((2, 8, 8, 3), np.uint8), "2x8x8x3"),
        (np.zeros((0, 8, 3), np.uint8), "empty"),
        (np.full((2, 2), 7.0), "0..1"),
        (np.full((2, 2), -0.1), "0..1"),
        (np.full((2, 2), np.nan), "0..1"),
        (np.zeros((2, 2), np.int64), "int64"),
        ("a.png", "not str"),
        (None, "NoneType"),
    ],
)
def test_other_arrays_are_refused(array: object, text: str) -> None:
    with pytest.raises(CompNetError, match=text):
        as_rgb(array)


def test_bytes_are_decoded_as_their_file_is(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 9, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.png", "a.webp", "a.tiff", "a.jpg"):
        picture = Image.fromarray(noise) if name != "a.jpg" else Image.fromarray(noise[..., :3])
        picture.save(tmp_path / name, exif=exif)
        decoded = decode_image((tmp_path / name).read_bytes(), "sent")
        np.testing.assert_array_equal(pixels(decoded), pixels(load_image(tmp_path / name)))
        assert decoded.size == (6, 9)  # turned
        with pytest.raises(CompNetError, match=r"^sent has . x . pixels, more than the limit of 5.3e-05 megapixels"):
            decode_image((tmp_path / name).read_bytes(), "sent", max_pixels=53)
        decode_image((tmp_path / name).read_bytes(), "sent", max_pixels=54)
    for data in (b"", b"not one", (tmp_path / "a.png").read_bytes()[:90]):
        with pytest.raises(CompNetError, match="^sent is (not an image|damaged)"):
            decode_image(data, "sent")


def test_masks_are_true_where_not_black(tmp_path: Path) -> None:
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[1, 2], mask[2, 3] = 1, 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png"), mask > 0)
    assert load_mask(tmp_path / "m.png", size=(12, 8)).sum() == 8


def test_a_real_jpeg(shared_dir: Path) -> None:
    image = load_image(shared_dir / "data" / "samples" / "car_image.JPEG")
    assert image.mode == "RGB" and min(image.size) > 100


# ---- masks of any kind -----------------------------------------------------------------------------------------------

SHAPE = np.zeros((8, 12), dtype=bool)
SHAPE[2:6, 3:10] = True


def masks() -> dict[str, Image.Image]:
    """SHAPE as people store it."""
    grey = SHAPE.astype(np.uint8)
    dark = Image.fromarray(np.dstack([np.zeros((8, 12, 3), dtype=np.uint8), grey * 255]))  # a black object, cut out
    palette = Image.fromarray(grey).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0] + [0, 0, 0] * 254)
    inverted = Image.fromarray(1 - grey).convert("P")
    inverted.putpalette([255, 255, 255, 0, 0, 0] + [9, 9, 9] * 254)  # 0 is white, and the object
    blank = Image.fromarray(grey).convert("P")
    blank.putpalette([0, 0, 0] * 256)  # a program has lost the colours: the labels alone are left
    clear = Image.fromarray(grey).convert("P")
    clear.putpalette([0, 0, 0, 0, 0, 0] + [0, 0, 0] * 254)
    clear.info["transparency"] = 0
    opaque = Image.fromarray(np.dstack([grey * 255] * 3 + [np.full((8, 12), 255, dtype=np.uint8)]))
    unseen = Image.fromarray(np.dstack([grey * 255] * 3 + [np.zeros((8, 12), dtype=np.uint8)]))
    return {
        "label.png": Image.fromarray(grey),
        "label.bmp": Image.fromarray(grey * 255),
        "label.tif": Image.fromarray(grey.astype(np.uint16)),
        "deep.png": Image.fromarray(grey.astype(np.uint16)),
        "wide.tif": Image.fromarray(grey.astype(np.int32)),
        "bit.png": Image.fromarray(SHAPE),
        "colour.png": Image.fromarray(np.dstack([grey * 0, grey * 200, grey * 0])),
        "blue.png": Image.fromarray(np.dstack([grey * 0, grey * 0, grey * 1])),
        "palette.png": palette,
        "inverted.png": inverted,
        "blank.png": blank,
        "clear.png": clear,
        "cut.png": dark,
        "cut.webp": dark,
        "grey-alpha.png": dark.convert("LA"),
        "opaque.png": opaque,
        "unseen.png": unseen,
    }


@pytest.mark.parametrize("name", masks())
def test_masks_are_read_in_every_mode(tmp_path: Path, name: str) -> None:
    options = {"lossless": True, "exact": True} if name.endswith("webp") else {}
    masks()[name].save(tmp_path / name, **options)
    np.testing.assert_array_equal(load_mask(tmp_path / name), SHAPE)


def test_a_jpeg_mask_has_no_exact_black(tmp_path: Path) -> None:
    large = np.kron(SHAPE, np.ones((13, 13), dtype=bool))
    Image.fromarray(large).convert("L").save(tmp_path / "m.jpg", quality=60)
    assert (np.asarray(Image.open(tmp_path / "m.jpg")) > 0)[~large].any()  # as the mask would grow
    np.testing.assert_array_equal(load_mask(tmp_path / "m.jpg"), large)


def test_soft_masks_are_cut_at_half_of_their_brightest_level(tmp_path: Path) -> None:
    # an edge in the middle, blurred: it is symmetric, so that half of its height stays where it was
    wide = np.tile(np.clip((np.arange(300) - 149.5) / 200 + 0.5, 0, 1), (8, 1))
    Image.fromarray(np.rint(wide * 250).astype(np.uint8)).save(tmp_path / "blurred.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "blurred.png"), np.tile(np.arange(300) >= 150, (8, 1)))
    expected = np.tile(np.arange(80) >= 30, (40, 1))
    probability = np.where(expected, 0.9, 0.02).astype(np.float32)
    Image.fromarray(probability).save(tmp_path / "probability.tif")
    np.testing.assert_array_equal(load_mask(tmp_path / "probability.tif"), expected)
    # many labels are still labels, and so are 16-bit ones
    labels = np.tile(np.arange(40), (2, 1))
    for kind in (np.uint8, np.uint16, np.float32):
        Image.fromarray(labels.astype(kind)).save(tmp_path / "labels.tif")
        np.testing.assert_array_equal(load_mask(tmp_path / "labels.tif"), labels > 0)
    # and segments in colours, of which some are dark
    colours = np.zeros((2, 40, 3), dtype=np.uint8)
    colours[:, 1:] = np.random.default_rng(0).integers(1, 256, (39, 3))
    Image.fromarray(colours).save(tmp_path / "colours.png")
    Image.fromarray(colours).quantize(256).save(tmp_path / "palette.png")
    for name in ("colours.png", "palette.png"):
        np.testing.assert_array_equal(load_mask(tmp_path / name), labels > 0)


def test_a_lossy_webp_mask_has_no_exact_black(tmp_path: Path) -> None:
    large = np.kron(SHAPE, np.ones((8, 8), dtype=np.uint8)) > 0
    Image.fromarray((large * 255).astype(np.uint8)).save(tmp_path / "m.webp", quality=60)
    np.testing.assert_array_equal(load_mask(tmp_path / "m.webp"), large)


def test_a_mask_has_the_proportions_of_its_image(tmp_path: Path) -> None:
    Image.fromarray(SHAPE).save(tmp_path / "m.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png", size=(24, 16)), np.kron(SHAPE, np.ones((2, 2))) > 0)
    with pytest.raises(CompNetError, match="m.png is 12 x 8 pixels, but its image is 8 x 12; turned as the image is"):
        load_mask(tmp_path / "m.png", size=(8, 12))
    with pytest.raises(CompNetError, match="12 x 8 pixels, but its image is 120 x 120; save the mask of the whole"):
        load_mask(tmp_path / "m.png", size=(120, 120))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(SHAPE).save(tmp_path / "t.png", exif=exif)
    np.testing.assert_array_equal(load_mask(tmp_path / "t.png", size=(8, 12)), np.rot90(SHAPE, -1))
    np.testing.assert_array_equal(load_mask(tmp_path / "t.png", size=(12, 8)), SHAPE)


# ---- orientation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orientation", "stored", "annotated", "size", "settled"),
    [
        (1, (48, 32), (48, 32), (48, 32), True),
        (6, (48, 32), (48, 32), (48, 32), True),
        (6, (48, 32), (32, 48), (32, 48), True),
        (6, (48, 32), (480, 320), (48, 32), True),  # a resized copy of the stored raster
        (6, (48, 32), (320, 480), (32, 48), True),
        (6, (32, 32), (32, 32), (32, 32), False),
        (3, (48, 32), (48, 32), (48, 32), False),
        (2, (48, 32), (48, 32), (48, 32), False),
        (99, (48, 32), (48, 32), (48, 32), True),
    ],
)
def test_the_annotated_size_settles_the_orientation_where_it_can(
    tmp_path: Path, orientation: int, stored: tuple[int, int], annotated: tuple[int, int], size: tuple[int, int],
    settled: bool,
) -> None:  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    Image.new("RGB", stored).save(path, exif=exif)
    facts = image_facts(path, annotated)
    assert (facts.size, facts.settled) == (size, settled)
    assert load_image(path, size=annotated).size == size and load_stored(path).size == stored


def test_a_damaged_jpeg_is_found_without_making_its_pixels(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (640, 480, 3), dtype=np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(noise).save(path)
    assert image_facts(path, (480, 640)).size == (480, 640)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 9 // 10])
    with pytest.raises(CompNetError, match="a.jpg"):
        image_facts(path, (480, 640))


def test_lab_is_no_image_with_transparency(tmp_path: Path) -> None:
    Image.new("LAB", (8, 8), (255, 128, 128)).save(tmp_path / "a.tif")  # white
    assert pixels(load_image(tmp_path / "a.tif")).min() > 240


def test_what_systems_leave_lying_about_is_no_image(tmp_path: Path) -> None:
    kept = {"a.JPG", "b/c.Png", "d.jfif", "e.JPE"}
    left = {".DS_Store", "._a.JPG", "Thumbs.db", "desktop.ini", "__MACOSX/a.jpg", "b/@eaDir/c.jpg", "d.png~", ".e.swp"}
    left |= {"~$a.jpg", "ehthumbs.db", "b/.ipynb_checkpoints/c.png", "$RECYCLE.BIN/a.jpg", "Icon\r"}
    for name in kept | left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name, "PNG")
    assert {path.relative_to(tmp_path).as_posix() for path in images_in(tmp_path)} == kept


def test_images_in_memory_that_hold_no_pixels_are_one_sentence(tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:1500])
    closed = Image.open(tmp_path / "whole.png")
    closed.close()
    for image in (Image.open(tmp_path / "cut.png"), closed):
        with pytest.raises(CompNetError, match="The image cannot be decoded .*; open a good copy of it again"):
            as_rgb(image)
    with pytest.raises(CompNetError, match="must not be empty, but its size is 0x5"):
        as_rgb(Image.new("RGB", (0, 5)))
    for tensor in (torch.rand(3, 4, 4).to("meta"), torch.rand(3, 4, 4).to_sparse()):
        with pytest.raises(CompNetError, match="must be dense and of plain numbers; convert it"):
            as_rgb(tensor)
    # half of the grey that was multiplied by an alpha of a half, over neutral grey: 0.5 * 200 + 0.5 * 128
    premultiplied = Image.new("LA", (2, 2), (200, 128)).convert("La")
    assert np.abs(np.asarray(as_rgb(premultiplied)).astype(int) - 164).max() <= 2
