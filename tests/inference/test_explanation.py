"""An explanation against plain loops over cells and hypotheses, and what a model makes of an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compnet3d.data.transforms import InputConfig, crop_box
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Pose, pose_grid
from compnet3d.inference.explanation import Subject, explain_category, fine_crop
from compnet3d.inference.pose_hypotheses import PoseGrid
from compnet3d.inference.pose_search import PoseSettings
from compnet3d.models.backbones import BackboneConfig
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
from compnet3d.models.dual_head import DualHead, DualHeadConfig
from tests.networks import TINY_RESNET, crop_features

BOUNDS = (((-0.45, -0.2, -0.15), (0.45, 0.2, 0.15)), ((-0.15, -0.2, -0.45), (0.2, 0.2, 0.5)))
BACKBONE = BackboneConfig("resnet", TINY_RESNET, dimension=16)
SPEC = InputConfig(height=48, width=64, focal=120.0, distance=3.0, box_fill=0.7)
GRID = PoseGrid(azimuths=6, elevations=3, thetas=2)


def make_model(categories: int = 2, **pose: float) -> CompNet:
    torch.manual_seed(0)
    config = CompNetConfig(
        categories=("brick", "tower")[:categories], bounds=BOUNDS[:categories], backbone=BACKBONE, input_config=SPEC,
        vertex_count=60, background_size=8, pose=replace(PoseSettings(steps=3, starts=2), **pose), grid=GRID,
    )  # fmt: skip
    model = CompNet(config).eval()
    model.feature_extractor.amp = False
    model.bank.update_background(torch.nn.functional.normalize(torch.randn(8, 16), dim=-1))
    return model


def random_map(seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(1, 16, 6, 8, generator=generator), dim=1)


def picture(width: int = 90, height: int = 70) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


def test_cells_are_those_of_plain_loops() -> None:
    model, feature_map = make_model(), random_map()
    subject = Subject(1, "tower", model.mesh("tower"), model.cuboids[1].vertices)
    found = explain_category(model.render_and_compare, crop_features(model, feature_map, "box"), subject)
    seen = model.render(torch.tensor([1]), Pose.of(*[[float(x)] for x in vars(found.pose).values()]),
                        found.principal_point[None])  # fmt: skip
    vertices, background = model.bank.category_features(1), model.bank.background
    states = set()
    for i in range(6):
        for j in range(8):
            cell = feature_map[0, :, i, j]
            similarity = [float(cell @ c) for c in vertices]
            other = max(float(cell @ b) for b in background)
            assert float(found.similarity[i, j]) == pytest.approx(max(similarity), abs=1e-5)
            best = similarity.index(max(similarity)) if max(similarity) > other else -1
            assert int(found.matched_vertex[i, j]) == best
            weights, index = seen.weight[0, i, j].tolist(), seen.vertex_index[0, i, j].tolist()
            covered = float(seen.foreground[0, i, j]) == 1
            assert int(found.rendered_vertex[i, j]) == (index[weights.index(max(weights))] if covered else -1)
            rendered = sum(w * similarity[k] for w, k in zip(weights, index, strict=True))
            assert bool(found.explained[i, j]) == (covered and rendered > other)
            assert bool(found.occluded[i, j]) == (covered and rendered <= other)
            states.add((covered, bool(found.explained[i, j]), best >= 0))
    assert len(states) >= 5, "the example shows every kind of cell"


@pytest.mark.parametrize("truncation", [None, 0.1])
def test_losses_of_hypotheses_are_those_of_their_renderings(truncation: float | None) -> None:
    model, feature_map = make_model(truncation=truncation, foreground_bonus=0.2), random_map()
    subject = Subject(0, "brick", model.mesh("brick"), model.cuboids[0].vertices)
    found = explain_category(model.render_and_compare, crop_features(model, feature_map), subject).hypotheses
    grid = pose_grid(6, 3, 2, distance=SPEC.distance)
    assert torch.equal(found.azimuth, grid.azimuth[::6]) and torch.equal(found.theta, grid.theta[:2])
    assert torch.equal(found.elevation, grid.elevation[:6:2]) and found.loss.shape == (6, 3, 2)
    for number in (0, 7, 20, 35):
        seen = model.render(torch.tensor([0]), grid[number : number + 1], torch.tensor([[32.0, 24.0]]))
        total = 0.0
        for i in range(6):
            for j in range(8):
                cell = feature_map[0, :, i, j]
                gain, limit = 0.0, max(float(cell @ b) for b in model.bank.background)
                if float(seen.foreground[0, i, j]) == 1:
                    vertex = seen.vertex_index[0, i, j][seen.weight[0, i, j].argmax()]
                    gain = float(cell @ model.bank.category_features(0)[vertex]) - limit
                    gain = 0.2 + (gain if truncation is None else max(gain, -truncation))
                total -= (limit + gain) / 48
        assert float(found.loss.flatten()[number]) == pytest.approx(total, abs=1e-5)
    assert torch.equal(found.sphere, torch.minimum(found.loss[..., 0], found.loss[..., 1]))


def test_a_model_explains_what_it_predicts(tmp_path: Path) -> None:
    model, path, box = make_model(), tmp_path / "image.png", (10, 5, 70, 60)
    picture().save(path)
    explanation, predicted = model.explain(path, box=box), model.predict([path], boxes=[box])[0]
    assert explanation.answer.to_dict() == predicted.to_dict()
    best, other = explanation.best, explanation.runner_up
    assert other is not None and (best.category, other.category) == (predicted.category, "brick tower".replace(
        predicted.category, "").strip())  # fmt: skip
    assert best.reconstruction_score == pytest.approx(predicted.reconstruction_score, abs=1e-6)
    assert torch.equal(best.explained, predicted.foreground) and torch.equal(best.occluded, predicted.occluded)
    cut = crop_box(picture(), box, SPEC)
    matrix = torch.tensor(cut.matrix, dtype=torch.float32)
    moved = matrix[:, :2] @ best.principal_point + matrix[:, 2]
    assert torch.allclose(moved, predicted.principal_point, atol=1e-3)
    assert (best.runner_up is None) == (predicted.runner_up is None)
    assert torch.allclose(best.pose.azimuth, predicted.pose.azimuth, atol=1e-6)


def test_the_crop_is_the_same_window_as_fine_as_the_image_has_it() -> None:
    # a smooth image, of which a coarse copy is about the mean of a fine one
    x = np.linspace(0, 255, 640).astype(np.uint8)
    image = Image.fromarray(np.stack([np.tile(x, (480, 1)), np.tile(x[:480, None], (1, 640)), np.zeros((480, 640))],
                                     axis=-1).astype(np.uint8))  # fmt: skip
    for box in (None, (250, 200, 350, 280)):
        cut = crop_box(image, box, SPEC)
        fine, coarse = fine_crop(image, cut, SPEC), torch.from_numpy(cut.image.copy())
        zoom = fine.shape[1] // 48
        assert zoom > 1 and fine.shape == (3, 48 * zoom, 64 * zoom)
        mean = torch.nn.functional.avg_pool2d(fine.float(), zoom)
        assert (mean - coarse.permute(2, 0, 1).float()).abs()[:, 2:-2, 2:-2].max() < 4
    small = picture(32, 24)
    assert fine_crop(small, crop_box(small, None, SPEC), SPEC).shape == (3, 48, 64), "no pixels are made up"


def test_a_category_may_be_asked_for() -> None:
    model = make_model()
    named = {model.explain(picture(), box="whole").best.category}
    (other,) = {"brick", "tower"} - named
    assert model.explain(picture(), box="whole", against=other).runner_up.category == other
    for wrong in ("car", *named):
        with pytest.raises(CompNetError, match=f"cannot be compared with '{wrong}'; take {other}"):
            model.explain(picture(), box="whole", against=wrong)


def test_one_category_has_no_runner_up_and_dual_heads_nothing_to_show() -> None:
    assert make_model(1).explain(picture(), box="whole").runner_up is None
    heads = DualHead(DualHeadConfig(("brick", "tower"), BOUNDS, BACKBONE, SPEC)).eval()
    with pytest.raises(CompNetError, match="explain those of a CompNet"):
        heads.explain(picture())
    with pytest.raises(CompNetError, match='four numbers or "whole"'):
        make_model(1).explain(picture(), box="all")


def test_without_a_box_the_object_is_searched() -> None:
    model = make_model()
    assert model.explain(picture()).answer.to_dict() == model.predict(picture())[0].to_dict()
