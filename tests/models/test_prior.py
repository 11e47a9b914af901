"""The prior as a part of a model: what it keeps, and what it does to the pose that is found."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from compnet3d.data.transforms import InputSpec
from compnet3d.geometry.rotations import angles_to_rotmat, rotmat_geodesic_distance
from compnet3d.inference.pose import Bonus, PoseSettings, estimate_pose, reconstruction_loss
from compnet3d.inference.prior import PARTS, fit_weights, log_density
from compnet3d.models.backbones import BackboneConfig
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig, PoseGrid
from compnet3d.models.prior import KEPT, RotationPrior

SMALL = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
CONFIG = CompNetConfig(
    categories=("cube", "long"),
    bounds=(((-0.3, -0.3, -0.3), (0.3, 0.3, 0.3)), ((-0.2, -0.45, -0.15), (0.2, 0.45, 0.15))),
    backbone=BackboneConfig("resnet", SMALL, dimension=16),
    spec=InputSpec(height=64, width=64, focal=250.0, distance=5.0, box_fill=0.7),
    vertex_count=100,
    background_size=8,
    pose=PoseSettings(prior_weight=0.01, search_margin=0.0),
    grid=PoseGrid(azimuths=8, elevations=3, thetas=1),
)


def around(azimuth: float, elevation: float = 0.3, count: int = 40, spread: float = 0.1) -> Tensor:
    draw = torch.randn(3, count, generator=torch.Generator().manual_seed(0)) * spread
    return angles_to_rotmat(azimuth + draw[0], elevation + draw[1], draw[2])


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


def test_of_poses_that_explain_an_image_alike_the_usual_one_is_found() -> None:
    model, maps = same_everywhere()
    # two of the starting poses
    first, second = (math.pi / 2, math.pi / 12), (5 * math.pi / 4, math.pi / 3)
    usual = angles_to_rotmat(*torch.tensor([first, second]).unbind(1), torch.zeros(2))
    model.fit_prior([around(*first), around(*second)])
    found = model.estimate_poses(maps, torch.tensor([0, 1]))
    assert (rotmat_geodesic_distance(found.pose.rotmat(), usual) < 1e-3).all()
    model.fit_prior([around(*second), around(*first)])  # starts that were rated before do not stay
    found = model.estimate_poses(maps, torch.tensor([1, 0]))
    assert (rotmat_geodesic_distance(found.pose.rotmat(), usual) < 1e-3).all()


def test_the_prior_decides_between_refined_poses_too() -> None:
    """The starts were not rated by it, all are kept, and one of them is usual."""
    model, maps = same_everywhere()
    table = model.start_table(0)
    similarity, background = model.similarities(maps[:1], torch.tensor([0]))

    def found(bonus: Bonus | None) -> Tensor:
        settings = replace(CONFIG.pose, starts=len(table.bonus), steps=0)
        options = [similarity, background, torch.tensor([0]), [table], model.render, settings]
        return estimate_pose(*options, bonus=bonus).pose.rotmat()  # type: ignore[arg-type]

    assert not table.bonus.any()  # nothing is fitted yet
    starts = table.pose.rotmat()
    usual = int(rotmat_geodesic_distance(starts, found(None)).argmax())
    model.fit_prior([around(float(table.pose.azimuth[usual]), float(table.pose.elevation[usual]))] * 2)
    prior = model.prior
    assert prior is not None
    assert torch.equal(found(lambda number, pose: 0.01 * prior(number, pose.rotmat()))[0], starts[usual])


def test_the_loss_that_is_told_is_that_of_eq_8_alone() -> None:
    torch.manual_seed(0)
    model = CompNet(CONFIG).eval()
    model.fit_prior([around(1.2), around(4.0)])
    maps = normalize(torch.randn(2, 16, *model.map_size), dim=1)
    category = torch.tensor([0, 1])
    found = model.estimate_poses(maps, category)
    similarity, background = model.similarities(maps, category)
    fragments = model.render(category, found.pose, found.principal)
    loss, _ = reconstruction_loss(similarity, background, fragments, outlier_cost=CONFIG.pose.outlier_cost)
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
        again.estimate_poses(maps, category).pose.azimuth, model.estimate_poses(maps, category).pose.azimuth
    )
