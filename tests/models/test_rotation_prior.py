"""The prior as a part of a model: what it keeps, and what it does to the pose that is found."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from compnet3d.data.transforms import InputConfig
from compnet3d.geometry.rotations import angles_to_rotmat, rotmat_geodesic_distance
from compnet3d.inference.matching import background_similarity, cells_of, vertex_similarities
from compnet3d.inference.pose_hypotheses import PoseGrid
from compnet3d.inference.pose_search import PoseSettings
from compnet3d.inference.reconstruction import reconstruction_loss
from compnet3d.models.backbones import BackboneConfig
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
from compnet3d.models.rotation_prior import KEPT, PARTS, RotationPrior, fit_weights, log_density
from tests.networks import TINY_RESNET, crop_features, estimate_poses

CONFIG = CompNetConfig(
    categories=("cube", "long"),
    bounds=(((-0.3, -0.3, -0.3), (0.3, 0.3, 0.3)), ((-0.2, -0.45, -0.15), (0.2, 0.45, 0.15))),
    backbone=BackboneConfig("resnet", TINY_RESNET, dimension=16),
    input_config=InputConfig(height=64, width=64, focal=250.0, distance=5.0, box_fill=0.7),
    vertex_count=100,
    background_size=8,
    pose=PoseSettings(prior_weight=0.01, foreground_bonus=0.0),
    grid=PoseGrid(azimuths=8, elevations=3, thetas=1),
)


def around(azimuth: float, elevation: float = 0.3, count: int = 40, spread: float = 0.1) -> Tensor:
    draw = torch.randn(3, count, generator=torch.Generator().manual_seed(0)) * spread
    return angles_to_rotmat(azimuth + draw[0], elevation + draw[1], draw[2])


def any_rotations(count: int) -> Tensor:
    draw = torch.rand(3, count, generator=torch.Generator().manual_seed(1)) * 2 * math.pi
    return angles_to_rotmat(*draw)


def same_everywhere(config: CompNetConfig = CONFIG) -> tuple[CompNet, Tensor]:
    """A model whose vertices, background and cells are one feature: Eq. 8 is the same for every pose."""
    model = CompNet(config).eval()
    one = normalize(torch.ones(1, 16), dim=1)
    model.bank.vertex_features.copy_(one.expand_as(model.bank.vertex_features))
    model.bank.update_background(one)
    return model, one[..., None, None].expand(2, -1, *model.map_size)


def test_it_is_uniform_until_it_is_fitted() -> None:
    prior = RotationPrior(2)
    assert prior(torch.tensor([0, 1]), around(1.0, count=2)).abs().max() < 1e-6


def test_each_category_has_its_own() -> None:
    prior, front, back = RotationPrior(4), around(0.0), around(math.pi)
    prior.fit([front, back, front[:1], front[:0]])
    found = prior(
        torch.tensor([0, 0, 1, 1, 2, 3]), torch.cat([front[:1], back[:1], front[:1], back[:1], *2 * [front[:1]]])
    )
    expected = [
        log_density(rotmat[0], own, torch.full((40,), -math.log(40)), fit_weights(own))
        for own in (front, back)
        for rotmat in (front, back)
    ]
    torch.testing.assert_close(found[:4], torch.stack(expected), rtol=1e-4, atol=1e-4)
    assert found[4:].abs().max() < 1e-6  # one rotation, or none, says nothing


def test_more_rotations_than_are_kept_are_thinned_out() -> None:
    prior = RotationPrior(1)
    prior.fit([around(0.5, count=3 * KEPT + 7)])
    assert prior.centres.shape == (1, KEPT, 3, 3) and prior.weights.shape == (1, PARTS)
    assert float(prior.log_share.exp().sum()) == pytest.approx(1, abs=1e-4)
    assert len(prior.centres[0].flatten(1).unique(dim=0)) == KEPT
    with pytest.raises(ValueError, match="2 lists of rotations for 1 categories"):
        prior.fit([around(0.0), around(0.0)])


@pytest.mark.parametrize("rotmat", [torch.zeros(5, 2, 2), torch.eye(3), torch.full((4, 3, 3), torch.nan)], ids=str)
def test_what_is_no_rotation_is_refused(rotmat: Tensor) -> None:
    prior = RotationPrior(2)
    with pytest.raises(ValueError, match="category 1: rotations must be finite"):
        prior.fit([around(0.0), rotmat])
    assert prior(torch.tensor([0]), around(0.0)[:1]).abs() < 1e-6  # nothing of it was taken


@pytest.mark.parametrize("weight", [-0.01, math.nan, math.inf])
def test_a_weight_that_cannot_be(weight: float) -> None:
    with pytest.raises(ValueError, match="prior_weight must be at least 0"):
        PoseSettings(prior_weight=weight)


def test_a_list_in_the_order_of_its_poses_keeps_them_all() -> None:
    crops = any_rotations(41)
    prior = RotationPrior(1)
    prior.fit([crops.repeat(255, 1, 1)])
    assert len(prior.centres[0].flatten(1).unique(dim=0)) >= 35


def test_fitting_anew_leaves_nothing_of_before() -> None:
    once, twice = RotationPrior(2), RotationPrior(2)
    once.fit([around(1.0), around(2.0)[:0]])
    twice.fit([around(4.0, count=70), around(2.0)])
    twice.fit([around(1.0), around(2.0)[:0]])
    assert all(torch.equal(a, b) for a, b in zip(once.buffers(), twice.buffers(), strict=True))


@pytest.mark.parametrize("starts", [1, 24])
def test_of_poses_that_explain_an_image_alike_the_usual_one_is_found(starts: int) -> None:
    """By the comparison of the starts, where one is refined, and by that after it, where all 24 are."""
    model, maps = same_everywhere(replace(CONFIG, pose=replace(CONFIG.pose, starts=starts)))
    category = torch.tensor([0, 1])
    plain = estimate_poses(model, maps, category).pose.to_matrix()
    grid = model.pose_hypotheses(0).pose
    usual = [int(rotmat_geodesic_distance(grid.to_matrix(), rotmat).argmax()) for rotmat in plain]
    for numbers in (usual, usual[::-1]):  # what was estimated before does not stay
        model.fit_prior([around(float(grid.azimuth[n]), float(grid.elevation[n])) for n in numbers])
        found = estimate_poses(model, maps, category).pose.to_matrix()
        torch.testing.assert_close(found, grid.to_matrix()[numbers], rtol=0, atol=1e-5)


def test_loading_another_state_is_noticed() -> None:
    model, maps = same_everywhere()
    category = torch.tensor([0, 1])
    model.fit_prior([around(1.2, 0.5), around(4.0, 0.1)])
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = estimate_poses(model, maps, category).pose.azimuth
    model.fit_prior([around(3.0), around(5.5)])
    assert not torch.equal(estimate_poses(model, maps, category).pose.azimuth, expected)
    model.load_state_dict(state)
    assert torch.equal(estimate_poses(model, maps, category).pose.azimuth, expected)


def test_the_classification_does_not_depend_on_it() -> None:
    """Nor does the category that lends an unknown object its features: the loss alone counts there."""
    torch.manual_seed(0)
    model = CompNet(replace(CONFIG, pose_score_weight=0.5)).eval()
    maps = normalize(torch.randn(4, 16, *model.map_size), dim=1)
    images = torch.randint(0, 255, (4, 3, 64, 64), dtype=torch.uint8)
    before = model.classify_crops(images), model.render_and_compare.search_categories(crop_features(model, maps))
    model.fit_prior([around(1.2), around(4.0, spread=0.5)])
    after = model.classify_crops(images), model.render_and_compare.search_categories(crop_features(model, maps))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_reported_loss_is_that_of_eq_8_alone() -> None:
    torch.manual_seed(0)
    model = CompNet(CONFIG).eval()
    model.fit_prior([around(1.2), around(4.0)])
    maps = normalize(torch.randn(2, 16, *model.map_size), dim=1)
    category = torch.tensor([0, 1])
    found = estimate_poses(model, maps, category)
    similarity = vertex_similarities(maps, model.bank.feature_bank, category)
    background = background_similarity(cells_of(maps), model.bank.background)
    fragments = model.render(category, found.pose, found.principal_point)
    loss, _ = reconstruction_loss(similarity, background, fragments, truncation=CONFIG.pose.truncation)
    torch.testing.assert_close(found.loss, loss)


def test_a_model_without_the_weight_has_none() -> None:
    model, _ = same_everywhere(replace(CONFIG, pose=PoseSettings()))
    assert model.prior is None and not any("prior" in name for name in model.state_dict())
    with pytest.raises(ValueError, match="prior_weight of 0"):
        model.fit_prior([around(0.0), around(0.0)])


def test_it_is_saved_with_the_model(tmp_path: Path) -> None:
    model, maps = same_everywhere()
    model.fit_prior([around(1.2, 0.5), around(4.0, 0.1)])
    model.save_pretrained(tmp_path / "model")
    again = CompNet.from_pretrained(tmp_path / "model")
    category = torch.tensor([0, 1])
    assert torch.equal(
        estimate_poses(again, maps, category).pose.azimuth, estimate_poses(model, maps, category).pose.azimuth
    )
