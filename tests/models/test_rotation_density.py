"""The density of rotations against turned kernels, integrals over all rotations, and cases with a known end."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compnet3d.geometry.rotations import angles_to_rotmat, rotmat_geodesic_distance
from compnet3d.models.rotation_prior import PARTS, UNIFORM_SHARE, WIDTHS, fit_weights, log_density, log_kernels

ANGLE = st.floats(-7, 7)


def rotmats(azimuth: object, elevation: object, theta: object) -> Tensor:
    angles = [torch.as_tensor(a, dtype=torch.float64) for a in (azimuth, elevation, theta)]
    return angles_to_rotmat(*torch.broadcast_tensors(*angles))


def any_rotations(count: int, seed: int = 0) -> Tensor:
    """Uniform over SO(3): azimuth and theta uniform, and the sine of the elevation."""
    draw = torch.rand(3, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return rotmats(2 * math.pi * draw[0], torch.asin(2 * draw[1] - 1), 2 * math.pi * draw[2])


def plain_kernel(angle: float, width: float) -> float:
    """exp(kappa cos(angle)) over its mean; uniform rotations have angles of density (1 - cos t) / pi. Midpoint rule."""
    steps, kappa = 20000, width**-2
    middles = [math.pi * (i + 0.5) / steps for i in range(steps)]
    mean = sum(math.exp(kappa * (math.cos(t) - 1)) * (1 - math.cos(t)) for t in middles) / steps
    return math.exp(kappa * (math.cos(angle) - 1)) / mean


@pytest.mark.parametrize("number", range(len(WIDTHS)))
def test_kernels_are_those_of_von_mises_and_fisher(number: int) -> None:
    rotmat = any_rotations(6)
    kernels = log_kernels(rotmat[:, None], rotmat).exp()
    angle = rotmat_geodesic_distance(rotmat[:, None], rotmat)
    for i in range(6):
        for j in range(6):
            expected = plain_kernel(float(angle[i, j]), WIDTHS[number])
            assert float(kernels[i, j, number]) == pytest.approx(expected, rel=1e-5, abs=1e-12)


@given(azimuth=ANGLE, elevation=st.floats(-1.5, 1.5), theta=ANGLE, own=ANGLE)
def test_the_turned_kernel_is_the_mean_over_all_azimuths(
    azimuth: float, elevation: float, theta: float, own: float
) -> None:
    rotmat, centre = rotmats(azimuth, elevation, theta), rotmats(own, 0.2, -0.1)
    turns = torch.arange(720, dtype=torch.float64) * math.pi / 360
    turned = log_kernels(rotmats(azimuth + turns, elevation, theta), centre)[:, : len(WIDTHS)].exp().mean(dim=0)
    torch.testing.assert_close(log_kernels(rotmat, centre)[len(WIDTHS) :].exp(), turned, rtol=1e-4, atol=1e-12)


def test_every_part_is_a_density() -> None:
    """The mean over uniform rotations is 1, as that of the uniform density."""
    kernels = log_kernels(any_rotations(400_000), rotmats(1.0, 0.3, 0.2)).exp()
    torch.testing.assert_close(kernels.mean(dim=0), torch.ones(PARTS - 1, dtype=torch.float64), rtol=0.05, atol=0)


def test_the_mixture_is_the_sum_of_its_parts() -> None:
    centres, rotmat = any_rotations(3, seed=1), any_rotations(4, seed=2)
    share = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    weights = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25], dtype=torch.float64)
    found = log_density(rotmat, centres.expand(4, -1, -1, -1), share.log(), weights)
    for row in range(4):
        total = float(weights[0])
        for part in range(1, PARTS):
            for centre in range(3):
                kernel = float(log_kernels(rotmat[row], centres[centre])[part - 1].exp())
                total += float(weights[part]) * float(share[centre]) * kernel
        assert float(found[row]) == pytest.approx(math.log(total), abs=1e-9)


def test_padding_has_no_part_in_it() -> None:
    centres, rotmat = any_rotations(5), any_rotations(4, seed=2)
    weights = torch.full((PARTS,), 1 / PARTS, dtype=torch.float64)
    share = torch.full((5,), -math.log(3), dtype=torch.float64)
    alone = log_density(rotmat, centres[:3], share[:3], weights)
    share[3:] = -torch.inf
    assert torch.equal(log_density(rotmat, centres, share, weights), alone)


def test_objects_that_face_any_way_have_a_density_of_elevation_and_theta() -> None:
    draw = torch.rand(3, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    upright = rotmats(2 * math.pi * draw[0], 0.3 + 0.2 * draw[1], 0.1 * draw[2])
    weights = fit_weights(upright)
    assert float(weights[1 + len(WIDTHS) :].sum()) > 0.5
    log_share = torch.full((300,), -math.log(300), dtype=torch.float64)
    level, upside_down = (
        log_density(rotmats(torch.arange(12) / 2, elevation, theta), upright, log_share, weights)
        for elevation, theta in ((0.4, 0.05), (0.4, math.pi))
    )
    assert (level > 2).all() and (upside_down < -2).all()
    assert float(level.max() - level.min()) < 1  # hardly any azimuth is preferred


def test_objects_that_face_the_camera_say_so() -> None:
    draw = torch.rand(3, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = fit_weights(rotmats(0.4 * draw[0] - 0.2, 0.3 + 0.2 * draw[1], 0.1 * draw[2]))
    assert float(weights[1 : 1 + len(WIDTHS)].sum()) > 0.8


def test_rotations_without_a_rule_are_best_described_by_the_uniform_density() -> None:
    assert int(fit_weights(any_rotations(200)).argmax()) == 0


@given(count=st.integers(2, 12), seed=st.integers(0, 1000))
def test_the_weights_are_no_worse_than_equal_ones(count: int, seed: int) -> None:
    rotmat = any_rotations(count, seed)
    weights = fit_weights(rotmat)
    assert float(weights.sum()) == pytest.approx(1) and float(weights[0]) >= UNIFORM_SHARE - 1e-9
    # the share that the uniform density is given on top costs each rotation at most its logarithm
    fitted, equal = (
        sum(
            float(log_density(rotmat[i], others, torch.full((count - 1,), -math.log(count - 1)).double(), w))
            for i in range(count)
            for others in [torch.cat([rotmat[:i], rotmat[i + 1 :]])]
        )
        for w in (weights, torch.full((PARTS,), 1 / PARTS, dtype=torch.float64))
    )
    assert fitted >= equal + count * math.log(1 - UNIFORM_SHARE) - 1e-6


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_rotations_are_uniform(count: int) -> None:
    assert fit_weights(any_rotations(2)[:count]).tolist() == [1] + (PARTS - 1) * [0]
