"""What `data check` projects at once, and how often it reads a file."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compnet3d.data import check, check_masks
from compnet3d.data.check_views import box_ious, projected_box_ious, projected_boxes
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.geometry.camera import Camera, Pose
from compnet3d.geometry.mesh import Mesh, save_off
from tests.data.test_check_poses import BODY, write


def samples_of(root: Path) -> list[Any]:
    return [sample for split in ("train", "val") for sample in ImageNet3D(root).samples(split)]


def test_boxes_of_many_objects_are_those_of_each(tmp_path: Path) -> None:
    samples = samples_of(write(tmp_path, count=6))
    samples[1] = replace(samples[1], cad_index=2)  # of fewer vertices
    samples[2] = replace(samples[2], cad_index=9)  # which is missing
    samples[3] = replace(samples[3], distance=0.1)
    meshes = {1: BODY, 2: Mesh(BODY.vertices[:9] * 2, BODY.faces[:1])}
    boxes, overlaps = projected_boxes(samples, meshes), projected_box_ious(samples, meshes)
    assert np.isnan(boxes[3]).all() and overlaps[3] == 0.0
    for sample, box, overlap in zip(samples, boxes, overlaps, strict=True):
        angles = (sample.azimuth, sample.elevation, sample.theta, sample.distance)
        camera = Camera.centred(sample.focal, sample.height, sample.width, torch.float64)
        mesh = meshes.get(sample.cad_index, BODY)
        pixels, depth = camera.project(mesh.vertices.double(), Pose.of(*angles, dtype=torch.float64))
        if bool((depth > 0).all()):
            expected = np.concatenate([pixels.amin(0).numpy(), pixels.amax(0).numpy()])
            np.testing.assert_allclose(box, expected, rtol=1e-12)
            plain = float(box_ious(expected[None], np.array([sample.bbox]))[0])
            # what is cut off by the image's border may count for it
            inside = bool((expected >= 0).all() and (expected <= 100).all())
            assert overlap == pytest.approx(plain, rel=1e-9) if inside else overlap >= plain


def test_models_and_masks_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path, count=80)
    save_off(root / "CAD/thing/02.off", BODY)
    read: Counter[str] = Counter()

    def counted(function: Any) -> Any:
        def call(path: Path, **options: Any) -> Any:
            read[path.name] += 1
            return function(path, **options)

        return call

    monkeypatch.setattr(check, "load_mesh", counted(check.load_mesh))
    monkeypatch.setattr(check_masks, "load_mask", counted(check_masks.load_mask))
    assert check.check_dataset(root, decode=False, workers=1).findings == []
    assert read["01.off"] == read["02.off"] == 1
    masks = {name: count for name, count in read.items() if name.endswith(".png")}
    assert set(masks.values()) == {1} and 40 <= len(masks) <= 80


def test_a_mask_that_objects_share_is_that_of_none(tmp_path: Path) -> None:
    root = write(tmp_path, count=4)
    samples = samples_of(root)
    crowd = [*samples, replace(samples[0], object_index=1)]
    windows = check_masks.windows_of(crowd)
    assert windows[0] is None and windows[4] is None
    for sample, window in zip(samples[1:], windows[1:4], strict=True):
        assert window is not None and window.box == sample.bbox
        # its longer side takes half of the cells
        sides = (sample.bbox[2] - sample.bbox[0], sample.bbox[3] - sample.bbox[1])
        filled = [np.flatnonzero(window.cells.any(axis=axis)) for axis in (0, 1)]
        assert abs(max(np.ptp(line) + 1 for line in filled) - 24) <= 1
        assert window.cell == pytest.approx(max(sides) / 24)
