from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from compnet3d.data.augment import (
    Augmentation,
    CropSources,
    GeometricDraw,
    augment_pixels,
    bend_tones,
    erase_patches,
    paste_cutouts,
)
from compnet3d.data.cutouts import Cutout
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.images import load_image
from compnet3d.data.sample import Sample
from compnet3d.data.transforms import (
    Crop,
    InputConfig,
    crop_box,
    crop_matrix,
    crop_to_source_pose,
    make_crop,
    rotate_sample_image,
)
from compnet3d.data.warp import invert_affine, transform_points, warp_image
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Camera, Pose

SPEC = InputConfig(height=96, width=128, focal=900.0, distance=5.0, box_fill=0.6)


def make_sample(**changes: object) -> Sample:
    values: dict[str, object] = {
        "image": Path("a.JPEG"),
        "category": "mug",
        "name": "a",
        "azimuth": 1.0,
        "elevation": 0.4,
        "theta": 0.3,
        "distance": 6.0,
        "focal": 3000.0,
        "principal_point": (100.0, 70.0),
        "bbox": (60.0, 30.0, 150.0, 110.0),
        "width": 200,
        "height": 150,
    }
    return Sample(**(values | changes))  # type: ignore[arg-type]


def blank(sample: Sample) -> Image.Image:
    return Image.new("RGB", (sample.width, sample.height))


def project(
    points: np.ndarray, azimuth: float, elevation: float, theta: float, distance: float, focal: float,
    principal_point: tuple[float, float],
) -> np.ndarray:  # fmt: skip
    """The pinhole formula of the conventions, [V, 2]."""
    camera = Camera(
        focal=torch.tensor(focal, dtype=torch.float64),
        principal_point=torch.tensor(principal_point, dtype=torch.float64),
        height=1,
        width=1,
    )
    pose = Pose.of(azimuth, elevation, theta, distance, dtype=torch.float64)
    return camera.project(torch.from_numpy(points), pose)[0].numpy()


ANGLE = st.floats(-3.0, 3.0)
POINTS = np.random.default_rng(0).uniform(-0.5, 0.5, (40, 3))


# ---- geometry ------------------------------------------------------------------------------------------------------


@given(
    pose=st.tuples(st.floats(0, 6.28), st.floats(-1.5, 1.5), st.floats(0, 6.28), st.floats(2.0, 20.0)),
    principal_point=st.tuples(st.floats(-50, 300), st.floats(-50, 300)),
    draw=st.builds(
        GeometricDraw,
        rotation=ANGLE,
        scale=st.floats(0.3, 3.0),
        shift=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
        mirror=st.booleans(),
    ),
    rotation=ANGLE,
    crop=st.sampled_from(["oracle", "box"]),
)
def test_projected_points_move_with_the_pixels(
    pose: tuple[float, ...], principal_point: tuple[float, float], draw: GeometricDraw, rotation: float, crop: str
) -> None:
    """Warping the projection equals projecting with the changed pose, to a hundred-thousandth of a pixel."""
    azimuth, elevation, theta, distance = pose
    sample = make_sample(
        azimuth=azimuth, elevation=elevation, theta=theta, distance=distance, principal_point=principal_point
    )
    forward, scale = crop_matrix(sample, SPEC, crop, draw, rotation)  # type: ignore[arg-type]
    warped = transform_points(forward, project(POINTS, *pose, sample.focal, principal_point))
    points, sign = (POINTS * [-1, 1, 1], -1) if draw.mirror else (POINTS, 1)
    moved = transform_points(forward, np.array(principal_point))
    expected = project(
        points, sign * azimuth, elevation, sign * theta + draw.rotation + rotation, distance, sample.focal * scale,
        (moved[0], moved[1]),
    )  # fmt: skip
    np.testing.assert_allclose(warped, expected, atol=1e-5)


@given(
    st.integers(0, 2**32),
    st.booleans(),
    st.sampled_from(["oracle", "box"]),
    st.floats(-0.5, 0.5),
    st.tuples(st.floats(0, 6.28), st.floats(-1.5, 1.5), st.floats(0, 6.28)),
)
def test_the_pose_of_a_crop_projects_to_the_warped_points(
    seed: int, mirror: bool, crop: str, rotation: float, angles: tuple[float, float, float]
) -> None:
    """With the same focal length in source and crop the canonical camera is exact, for any augmentation."""
    azimuth, elevation, theta = angles
    augmentation = Augmentation(rotation=40, scale=(1.0, 1.0), shift=0.2, mirror=float(mirror))
    sample = make_sample(azimuth=azimuth, elevation=elevation, theta=theta, focal=900.0, distance=5.0)
    input_config = replace(SPEC, box_fill=90 / 96)  # so that both crops have scale 1
    view = make_crop(
        blank(sample), sample, input_config, crop=crop, augmentation=augmentation, rng=np.random.default_rng(seed),
        rotation=rotation,
    )  # type: ignore[arg-type]  # fmt: skip
    assert view.mirrored == mirror and view.distance == pytest.approx(5.0)
    source = project(POINTS, azimuth, elevation, theta, 5.0, 900.0, sample.principal_point)
    points = POINTS * [-1, 1, 1] if mirror else POINTS
    found = project(points, view.azimuth, view.elevation, view.theta, view.distance, view.focal, view.principal_point)
    np.testing.assert_allclose(found, transform_points(invert_affine(view.matrix), source), atol=1e-5)


def test_another_focal_length_changes_perspective_only() -> None:
    """At the object's origin, and to first order around it, the canonical camera agrees whatever the focal length."""
    sample = make_sample(focal=2000.0, distance=7.0)
    view = make_crop(blank(sample), sample, SPEC, crop="box")
    near = POINTS * 1e-4
    source = project(near, sample.azimuth, sample.elevation, sample.theta, 7.0, 2000.0, sample.principal_point)
    found = project(near, view.azimuth, view.elevation, view.theta, view.distance, view.focal, view.principal_point)
    np.testing.assert_allclose(found, transform_points(invert_affine(view.matrix), source), atol=1e-5)


def test_the_oracle_crop_is_canonical() -> None:
    view = make_crop(blank(make_sample()), make_sample(), SPEC, crop="oracle")
    assert view.principal_point == pytest.approx((64.0, 48.0)) and view.distance == pytest.approx(5.0)
    assert (view.azimuth, view.elevation, view.theta) == (1.0, 0.4, 0.3)
    assert view.scale == pytest.approx((900 / 5) / (3000 / 6))


def test_the_box_crop_centres_and_scales_the_box() -> None:
    sample = make_sample()
    view = make_crop(blank(sample), sample, SPEC, crop="box")
    corners = transform_points(invert_affine(view.matrix), np.array([[60.0, 30.0], [150.0, 110.0]]))
    np.testing.assert_allclose(corners.mean(0), (64, 48))
    assert (corners[1] - corners[0]).max() == pytest.approx(0.6 * 96)
    scale = 0.6 * 96 / 90
    assert view.principal_point == pytest.approx((64 + scale * (100 - 105), 48 + scale * (70 - 70)))
    assert view.distance == pytest.approx(900 * 6 / (3000 * scale))
    same = crop_box(blank(sample), sample.bbox, SPEC)
    np.testing.assert_allclose(same.matrix, view.matrix)


@given(st.integers(0, 2**32), st.booleans(), st.floats(-1, 1), st.floats(500, 5000))
def test_a_crops_pose_goes_back_to_the_image(seed: int, mirror: bool, rotation: float, focal: float) -> None:
    augmentation = Augmentation(rotation=40, scale=(0.5, 2.0), shift=0.3, mirror=float(mirror))
    sample = make_sample(focal=focal)
    view = make_crop(
        blank(sample), sample, SPEC, crop="oracle", augmentation=augmentation, rng=np.random.default_rng(seed),
        rotation=rotation,
    )  # fmt: skip
    back = crop_to_source_pose(
        view, azimuth=view.azimuth, elevation=view.elevation, theta=view.theta, distance=view.distance,
        principal_point=view.principal_point, source_focal=focal,
    )  # fmt: skip
    assert (back.azimuth, back.elevation, back.theta) == pytest.approx((1.0, 0.4, 0.3))
    assert back.distance == pytest.approx(6.0) and back.principal_point == pytest.approx((100.0, 70.0))


def test_a_resized_image_gives_the_same_crop() -> None:
    """The annotation follows the image's size; an image of other proportions is refused."""
    sample = make_sample()
    small = make_crop(Image.new("RGB", (100, 75)), sample, SPEC, crop="oracle")
    large = make_crop(blank(sample), sample, SPEC, crop="oracle")
    assert small.scale == pytest.approx(2 * large.scale)
    for name in ("azimuth", "elevation", "theta", "distance", "principal_point"):
        assert getattr(small, name) == pytest.approx(getattr(large, name))
    with pytest.raises(CompNetError, match="150 x 200.*200 x 150"):
        make_crop(Image.new("RGB", (150, 200)), sample, SPEC, crop="oracle")


def test_the_fitted_input_config_fills_the_crop_as_wanted() -> None:
    samples = [
        make_sample(distance=d, focal=f, bbox=(0.0, 0.0, w, h))
        for d, f, w, h in ((4.0, 3000.0, 80.0, 60.0), (7.0, 2000.0, 50.0, 90.0), (10.0, 3000.0, 20.0, 30.0))
    ]
    input_config = InputConfig.fitted(samples, 96, 128, fill=0.7)
    assert input_config.distance == 7.0 and input_config.box_fill == 0.7
    scales = [make_crop(blank(s), s, input_config, crop="oracle").scale for s in samples]
    fill = np.mean([scale * side / 96 for scale, side in zip(scales, (80, 90, 30), strict=True)])
    assert fill == pytest.approx(0.7)
    with pytest.raises(CompNetError, match="without training samples"):
        InputConfig.fitted([], 96, 128)
    with pytest.raises(ValueError, match="focal"):
        replace(SPEC, focal=float("nan"))


# ---- pixels --------------------------------------------------------------------------------------------------------


def dotted(position: tuple[int, int], radius: int, size: tuple[int, int] = (200, 150)) -> Image.Image:
    """A white disc on black around the centre of a pixel."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    disc = (x - position[0]) ** 2 + (y - position[1]) ** 2 <= radius**2
    return Image.fromarray((disc[..., None] * np.uint8(255)).repeat(3, axis=2))


def centre_of_light(image: np.ndarray) -> np.ndarray:
    weight = image[..., 0].astype(float)
    v, u = np.mgrid[0 : image.shape[0], 0 : image.shape[1]] + 0.5
    return np.array([(u * weight).sum(), (v * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("scale", [0.11, 0.2, 0.36, 0.5, 0.74, 1.0, 2.3])
@pytest.mark.parametrize("border", ["constant", "reflect"])
@pytest.mark.parametrize("seed", range(3))
def test_a_dot_lands_where_the_matrix_says(scale: float, border: str, seed: int) -> None:
    """Pixel centres at +0.5, through pre-shrinking, padding, rotation and mirroring, to a tenth of a pixel."""
    size = (801, 603)  # not divisible by the reduction factors
    dot = (431, 290)
    image = dotted(dot, radius=max(4, round(4 / scale)), size=size)
    sample = make_sample(
        principal_point=(440.0, 300.0), width=801, height=603, focal=3000.0, distance=3000 * scale / 180
    )
    augmentation = Augmentation(rotation=180, shift=0.1, mirror=0.5)
    view = make_crop(
        image, sample, replace(SPEC, border=border), crop="oracle", augmentation=augmentation,
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    assert view.scale == pytest.approx(scale)
    expected = transform_points(invert_affine(view.matrix), np.array([dot[0] + 0.5, dot[1] + 0.5]))
    # reflections show the dot again
    np.testing.assert_allclose(centre_of_light(view.image * view.valid()[..., None]), expected, atol=0.1)


def test_rotation_is_counter_clockwise_on_screen() -> None:
    """A dot to the right of the centre goes up."""
    sample = make_sample(principal_point=(100.5, 75.5), focal=900.0, distance=5.0)
    view = make_crop(dotted((130, 75), 3), sample, SPEC, crop="oracle", rotation=math.pi / 2)
    np.testing.assert_allclose(centre_of_light(view.image), (64, 48 - 30), atol=0.1)
    assert view.theta == pytest.approx(0.3 + math.pi / 2)


def test_mirroring_equals_mirroring_the_image() -> None:
    rng = np.random.default_rng(0)
    pixels = np.asarray(Image.fromarray(rng.integers(0, 255, (15, 20, 3), dtype=np.uint8)).resize((200, 150)))
    sample = make_sample(principal_point=(110.0, 70.0), focal=1000.0)
    mirrored = replace(sample, azimuth=2 * math.pi - 1.0, theta=2 * math.pi - 0.3, principal_point=(90.0, 70.0))
    view = make_crop(
        Image.fromarray(pixels), sample, SPEC, crop="oracle", augmentation=Augmentation(mirror=1.0), rng=rng
    )  # fmt: skip
    other = make_crop(Image.fromarray(pixels[:, ::-1]), mirrored, SPEC, crop="oracle")
    assert np.abs(view.image.astype(int) - other.image).max() <= 3
    assert (view.azimuth, view.theta) == pytest.approx((other.azimuth, other.theta))
    unmoved = make_crop(
        Image.fromarray(pixels), sample, SPEC, crop="oracle", augmentation=Augmentation(mirror=0.0), rng=rng
    )
    assert not unmoved.mirrored and unmoved.azimuth == 1.0


def test_shrinking_averages_instead_of_picking() -> None:
    """A checkerboard of single pixels turns grey, not into a pattern."""
    y, x = np.mgrid[0:600, 0:800]
    board = Image.fromarray((((x + y) % 2 * 255).astype(np.uint8)[..., None]).repeat(3, axis=2))
    sample = make_sample(width=800, height=600, principal_point=(400.0, 300.0), distance=1.0)  # scale 0.06
    view = make_crop(board, sample, SPEC, crop="oracle")
    inside = view.image[view.valid()]
    assert np.median(np.abs(inside.astype(int) - 127)) <= 1


def test_outside_shows_the_fill_or_a_reflection() -> None:
    sample = make_sample(focal=900.0, distance=20.0, principal_point=(30.0, 20.0), width=60, height=40)
    white = Image.new("RGB", (60, 40), (255, 255, 255))
    view = make_crop(white, sample, replace(SPEC, fill=(10, 20, 30)), crop="oracle")
    assert view.scale == pytest.approx(4.0) and view.valid().all()
    view = make_crop(white, replace(sample, distance=5.0), replace(SPEC, fill=(10, 20, 30)), crop="oracle")
    assert view.image[0, 0].tolist() == [10, 20, 30] and view.image[48, 64].tolist() == [255, 255, 255]
    assert view.valid().sum() == 60 * 40 and (view.image[view.valid()] == 255).all()
    view = make_crop(white, replace(sample, distance=5.0), replace(SPEC, border="reflect"), crop="oracle")
    assert (view.image == 255).all()


def test_a_crop_far_from_a_tiny_image_is_all_fill() -> None:
    sample = make_sample(width=1, height=1, principal_point=(1e7, -1e7), bbox=(0.0, 0.0, 1.0, 1.0))
    for border in ("constant", "reflect"):
        view = make_crop(Image.new("RGB", (1, 1)), sample, replace(SPEC, border=border), crop="oracle")
        assert view.image.shape == (96, 128, 3)
        assert make_crop(Image.new("RGB", (1, 1)), sample, SPEC, crop="box").valid().any()


def test_wide_images_are_cut_before_they_are_shrunk() -> None:
    sample = make_sample(width=20_000, height=100, principal_point=(15_000.0, 50.0), distance=1.0)
    image = dotted((15_000, 50), 30, size=(20_000, 100))
    view = make_crop(image, sample, SPEC, crop="oracle")
    np.testing.assert_allclose(centre_of_light(view.image), (64.03, 48.03), atol=0.1)


def test_masks_warp_without_grey_levels() -> None:
    mask = Image.fromarray(np.eye(50, dtype=np.uint8) * 255)
    warped = warp_image(
        mask, np.array([[0.7, 0.1, 3.0], [-0.1, 0.7, 4.0]]), (40, 40), 1.4, resample=Image.Resampling.NEAREST
    )
    assert warped.shape == (40, 40) and set(np.unique(warped)) == {0, 255}


# ---- whole images ---------------------------------------------------------------------------------------------


@given(st.floats(-180, 180))
def test_a_rotated_image_carries_its_annotation(angle: float) -> None:
    sample = make_sample()
    image, turned = rotate_sample_image(dotted((130, 80), 4), sample, angle, border="constant")
    assert image.size == (turned.width, turned.height) and min(image.size) >= 149
    source = project(POINTS, 1.0, 0.4, 0.3, 6.0, 3000.0, (100.0, 70.0))
    found = project(POINTS, 1.0, 0.4, turned.theta, 6.0, 3000.0, turned.principal_point)
    # the map from source to canvas, from three of the points, must be the one that moved the dot
    ones = np.ones((len(POINTS), 1))
    matrix, *_ = np.linalg.lstsq(np.hstack([source, ones]), found, rcond=None)
    np.testing.assert_allclose(np.hstack([source, ones]) @ matrix, found, atol=1e-5)
    dot = np.array([130.5, 80.5, 1.0]) @ matrix
    np.testing.assert_allclose(centre_of_light(np.asarray(image)), dot, atol=0.15)


def test_the_box_of_a_rotated_image_follows_the_mask(tmp_path: Path) -> None:
    mask = np.zeros((150, 200), dtype=np.uint8)
    mask[60:80, 40:160] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    sample = make_sample(mask=tmp_path / "m.png", bbox=(40.0, 60.0, 160.0, 80.0))
    _, turned = rotate_sample_image(blank(sample), sample, 90)
    assert (turned.width, turned.height) == (150, 200)
    assert turned.bbox == pytest.approx((60.0, 40.0, 80.0, 160.0), abs=1.0) and turned.mask is None
    _, ellipse = rotate_sample_image(blank(sample), replace(sample, mask=None), 90)
    assert ellipse.bbox == pytest.approx((60.0, 40.0, 80.0, 160.0))
    _, same = rotate_sample_image(blank(sample), replace(sample, mask=None), 0)
    assert same.bbox == pytest.approx(sample.bbox) and same.principal_point == pytest.approx(sample.principal_point)


def test_crops_of_real_images_hold_the_object(shared_dir: Path) -> None:
    """The masks of real images, warped like the images, lie around the centre and fill it as fitted."""
    from compnet3d.data.images import load_mask

    samples = ImageNet3D(shared_dir / "data" / "eth80").samples("train")
    input_config = InputConfig.fitted(samples, 96, 96, fill=0.7)
    fills = []
    for sample in samples[::60]:
        view: Crop = make_crop(load_image(sample.image), sample, input_config, crop="oracle")
        assert sample.mask is not None
        layer = Image.fromarray(load_mask(sample.mask).astype(np.uint8) * 255)
        mask = warp_image(layer, view.matrix, (96, 96), view.scale, resample=Image.Resampling.NEAREST) > 0
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        fills.append(max(np.ptp(rows), np.ptp(columns)) / 96)
        assert abs((rows[0] + rows[-1]) / 2 - 48) < 15 and abs((columns[0] + columns[-1]) / 2 - 48) < 15
    assert np.mean(fills) == pytest.approx(0.7, abs=0.05)


# ---- photometric ---------------------------------------------------------------------------------------------------


def test_an_augmentation_without_ranges_changes_nothing() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    changed, covered = augment_pixels(pixels, Augmentation(), np.random.default_rng(1))
    np.testing.assert_array_equal(changed, pixels)
    assert not covered.any()


@given(st.integers(0, 2**32))
def test_augmented_pixels_are_repeatable_and_leave_the_input_alone(seed: int) -> None:
    strong = Augmentation(
        brightness=0.9, contrast=0.9, saturation=0.9, colour_jitter=0.5, gamma=1.0, grey=0.3, blur=0.5, noise=50,
        erasing=0.7,
    )  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    kept = pixels.copy()
    first, covered = augment_pixels(pixels, strong, np.random.default_rng(seed))
    second, _ = augment_pixels(pixels, strong, np.random.default_rng(seed))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(pixels, kept)
    assert first.dtype == np.uint8 and first.shape == pixels.shape and covered.shape == (20, 30)


def test_grey_means_grey_and_brightness_scales() -> None:
    pixels = np.random.default_rng(0).integers(0, 120, (20, 30, 3), dtype=np.uint8)
    grey, _ = augment_pixels(pixels, Augmentation(grey=1.0), np.random.default_rng(0))
    assert (grey[..., 0] == grey[..., 1]).all() and (grey[..., 0] == grey[..., 2]).all()
    for seed in range(5):
        bright, _ = augment_pixels(pixels, Augmentation(brightness=0.5), np.random.default_rng(seed))
        gain = bright.sum() / pixels.sum()
        assert 0.5 <= gain <= 1.5
        np.testing.assert_allclose(bright, pixels * gain, atol=1.5)


@given(st.integers(0, 2**32), st.floats(0.01, 0.3))
def test_erasing_changes_only_what_it_reports(seed: int, area: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)
    erased, covered = erase_patches(pixels, 2, (area, area), np.random.default_rng(seed))
    np.testing.assert_array_equal(erased[~covered], pixels[~covered])
    assert 0 < covered.mean() <= 2 * area * 1.5 + 0.02


@given(st.integers(0, 2**32), st.floats(0.01, 0.3), st.integers(1, 3))
def test_pasted_objects_show_their_own_pixels_alone(seed: int, area: float, most: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)
    before = pixels.copy()
    mask = np.zeros((20, 12), dtype=bool)
    mask[3:17, 2:9] = True
    red = Cutout.of_mask(np.where(mask[..., None], [200, 0, 0], [0, 0, 200]).astype(np.uint8), mask)
    pasted, covered = paste_cutouts(pixels, red, most, (area, area), np.random.default_rng(seed))
    np.testing.assert_array_equal(pasted[~covered], pixels[~covered])
    np.testing.assert_array_equal(pixels, before)
    # of its colour, or mixed with what is beside it in its image where it was scaled
    assert (pasted[covered][:, 1] == 0).all() and covered.mean() <= most * area * 1.5 + 0.03
    assert pasted[covered][:, 0].sum() >= pasted[covered][:, 2].sum()


def test_thin_things_are_not_pasted_larger_than_twice_the_view() -> None:
    """A diagonal line of 600 pixels, a quarter of the crop in area, would be enlarged to thousands."""
    line = Cutout.of_mask(np.full((600, 600, 3), 255, dtype=np.uint8), np.eye(600, dtype=bool))
    pixels = np.zeros((40, 30, 3), dtype=np.uint8)
    for seed in range(5):
        pasted, covered = paste_cutouts(pixels, line, 1, (0.25, 0.25), np.random.default_rng(seed))
        assert covered.mean() < 0.25 and (pasted[~covered] == 0).all()


def test_pasting_covers_what_the_settings_say() -> None:
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    white = Cutout.of_mask(np.full((10, 10, 3), 255, dtype=np.uint8), np.ones((10, 10), dtype=bool))
    drawn = []

    def cut_out(rng: np.random.Generator) -> Cutout:
        drawn.append(rng.random())
        return white

    for copy_paste in (0.0, 1.0):
        settings = Augmentation(erasing=1.0, erasing_count=1, erasing_area=(0.1, 0.1), copy_paste=copy_paste)
        shares = []
        for seed in range(20):
            pasted, covered = augment_pixels(pixels, settings, np.random.default_rng(seed), CropSources(cut_out))
            shares.append(covered.mean())
            if copy_paste:
                np.testing.assert_array_equal(pasted.max(axis=2) == 255, covered)
        assert len(drawn) == (20 if copy_paste else 0)
        assert 0.02 < np.mean(shares) <= 0.12  # some hang over the edge


class Script(np.random.Generator):
    """A generator that answers as told."""

    def __init__(self, *answers: object) -> None:
        super().__init__(np.random.PCG64(0))
        self.answers = iter(answers)

    def random(self, size: object = None) -> object:  # type: ignore[override]
        answer = np.asarray(next(self.answers), dtype=float)
        return answer if size is None else np.broadcast_to(answer, np.empty(size).shape)


def test_tones_bend_along_the_curve() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    falling, rising = [1.0, 0.75, 0.5, 0.25, 0.0], [0.0, 0.25, 0.5, 0.75, 1.0]
    # (the common curve, each channel's own, how much is its own, how much of it all)
    assert np.array_equal(bend_tones(ramp, Script(falling, rising, 0.0, 1.0)), 255 - ramp)
    assert np.array_equal(bend_tones(ramp, Script(falling, rising, 1.0, 0.0)), ramp)
    assert np.ptp(bend_tones(ramp, Script(falling, rising, 1.0, 1.0)).astype(int)) <= 1  # half and half cancel
    own = [falling, rising, rising]
    bent = bend_tones(ramp, Script(rising, own, 1.0, 1.0))
    assert np.array_equal(bent[..., 1:], ramp[..., 1:]) and np.ptp(bent[..., 0].astype(int)) <= 1


def test_tones_bend_with_the_probability_asked_for() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    half = [augment_pixels(pixels, Augmentation(tone_curve=0.5), np.random.default_rng(seed))[0] for seed in range(60)]
    assert 15 < sum(np.array_equal(image, pixels) for image in half) < 45
    assert all(image.shape == pixels.shape and image.dtype == np.uint8 for image in half)


def test_ranges_of_an_augmentation_are_checked() -> None:
    for wrong in ({"mirror": 1.5}, {"erasing": -0.1}, {"scale": (0.0, 1.0)}, {"scale": (2.0, 1.0)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Augmentation(**wrong)  # type: ignore[arg-type]
    draws = [
        Augmentation(rotation=30, scale=(0.5, 2.0), shift=0.1).draw_geometry(np.random.default_rng(i))
        for i in range(300)
    ]
    assert max(abs(d.rotation) for d in draws) <= math.radians(30) < 1.05 * max(abs(d.rotation) for d in draws)
    assert 0.5 <= min(d.scale for d in draws) < 0.55 and 1.8 < max(d.scale for d in draws) <= 2.0
    assert max(abs(x) for d in draws for x in d.shift) <= 0.1 and not any(d.mirror for d in draws)


@pytest.mark.parametrize("scale", [0.23, 0.7, 1.0, 1.9])
def test_a_blob_lands_within_a_hundredth_of_a_pixel(scale: float) -> None:
    """A smooth spot, whose centre of light is known to far less than a pixel, at places between pixels."""
    size, generator = (401, 307), np.random.default_rng(3)
    v, u = np.mgrid[0 : size[1], 0 : size[0]] + 0.5
    for _ in range(4):
        spot = np.array([200.0, 150.0]) + generator.uniform(-0.5, 0.5, 2)
        # wide, so that neither the grey levels nor the pixels' size matter
        light = 200 * np.exp(-((u - spot[0]) ** 2 + (v - spot[1]) ** 2) / (2 * (9 / min(scale, 1)) ** 2))
        image = Image.fromarray(np.rint(light).astype(np.uint8)[..., None].repeat(3, axis=2))
        angle = generator.uniform(-3, 3)
        linear = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        forward = np.concatenate([linear, (np.array([150.3, 120.6]) - linear @ spot)[:, None]], axis=1)
        warped = warp_image(image, invert_affine(forward), (300, 240), scale)
        np.testing.assert_allclose(centre_of_light(warped), [150.3, 120.6], atol=0.01)


def test_images_with_very_long_sides_are_warped() -> None:
    """Longer than OpenCV takes: a mark near the right end lands where the matrix says, with either border."""
    image = np.zeros((6, 40_000, 3), dtype=np.uint8)
    image[2:4, 39_900:39_904] = 255
    for border in ("constant", "reflect"):
        matrix = np.array([[1.0, 0.0, 39_890.0], [0.0, 1.0, -5.0]])
        found = warp_image(Image.fromarray(image), matrix, (60, 16), 1.0, border=border)  # type: ignore[arg-type]
        assert found[7:9, 10:14].min() == 255 and found[7:9, 15:60].max() == 0


def test_noise_is_normal_and_of_the_deviation_asked_for() -> None:
    grey = np.full((200, 300, 3), 128, dtype=np.uint8)
    settings = Augmentation(noise=12.0, noise_probability=1.0)

    class Fixed(np.random.Generator):
        """The largest deviation."""

        def uniform(self, low: float = 0.0, high: float = 1.0, size: object = None) -> float:  # type: ignore[override]
            return high

    noise = augment_pixels(grey, settings, Fixed(np.random.PCG64(1)))[0].astype(float) - 128
    assert noise.std() == pytest.approx(12, rel=0.01) and abs(noise.mean()) < 0.1
    # 68.3 and 95.4 % within one and two deviations
    assert (abs(noise) <= 12).mean() == pytest.approx(0.69, abs=0.015)
    assert (abs(noise) <= 24).mean() == pytest.approx(0.956, abs=0.005)
    # no two channels or neighbours have anything in common
    for first, second in ((noise[..., 0], noise[..., 1]), (noise[:, 1:], noise[:, :-1])):
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02
    # nothing wraps round at either end
    ends = np.repeat(np.array([0, 255], dtype=np.uint8), 3000).reshape(-1, 10, 1).repeat(3, axis=2)
    noisy = augment_pixels(ends, settings, Fixed(np.random.PCG64(1)))[0].astype(int)
    assert abs(noisy - ends).max() < 80


def test_colours_go_towards_grey_and_beyond() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)

    def changed(saturation: float, draw: float) -> np.ndarray:
        # brightness, contrast, saturation, gamma, grey; then the gains
        script = Script([0.5, 0.5, draw, 0.5, 0.9], [0.5, 0.5, 0.5], 0.9, 0.9)
        return augment_pixels(pixels, Augmentation(saturation=saturation), script)[0]

    for saturation, draw in ((0.5, 0.0), (0.5, 1.0), (1.0, 0.0)):
        colour, found = 1 + saturation * (2 * draw - 1), changed(saturation, draw)
        for row in range(9):
            for column in range(11):
                red, green, blue = (float(x) for x in pixels[row, column])
                grey = 0.299 * red + 0.587 * green + 0.114 * blue
                for channel, level in enumerate((red, green, blue)):
                    expected = min(255.0, max(0.0, grey + colour * (level - grey)))
                    assert abs(int(found[row, column, channel]) - expected) <= 1.0


def test_the_image_keeps_its_colour_up_to_its_border() -> None:
    """Half of the crop lies beyond the image: up to the border there is no trace of the fill colour."""
    grey = Image.fromarray(np.full((16, 20, 3), 20, dtype=np.uint8))
    shown = warp_image(grey, np.array([[0.25, 0.0, -5.0], [0.0, 0.25, 2.0]]), (40, 40), 4.0, fill=(200, 0, 0))
    assert (shown[:, 20:] == 20).all() and (shown[:, :20] == [200, 0, 0]).all()
