"""Probabilities of answers: against plain loops and closed forms, at the ends of what numbers can say."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest
import torch

from compnet3d.geometry.camera import Pose
from compnet3d.inference.ambiguity import MOST, pose_log_odds, runner_up
from compnet3d.inference.confidence import (
    TEMPERATURE_ALONE,
    Calibration,
    category_confidence,
    category_log_odds,
    fit_logistic,
    least_evidence,
    logistic,
)
from compnet3d.utils.settings import read

NOT_KNOWN = (0.0, 0.0, 0.0)


def poses(*azimuths: float) -> Pose:
    """Poses that differ in azimuth alone, [N]."""
    zeros = torch.zeros(len(azimuths))
    return Pose(azimuth=torch.tensor(azimuths), elevation=zeros, theta=zeros, distance=zeros + 1)


def test_the_temperature_alone_is_its_softmax() -> None:
    scores = torch.randn(20, 5)
    expected = [max(math.exp(3 * s) for s in row) / sum(math.exp(3 * s) for s in row) for row in scores.tolist()]
    torch.testing.assert_close(category_confidence(scores, 3.0, TEMPERATURE_ALONE), torch.tensor(expected))
    odds = [math.log(p / (1 - p)) for p in expected]
    torch.testing.assert_close(category_log_odds(scores, 3.0).float(), torch.tensor(odds), rtol=1e-4, atol=1e-4)


def test_log_odds_stay_finite_where_the_probability_rounds_to_one() -> None:
    scores = torch.tensor([[5.0, 0.0, 0.0]])
    assert float(category_log_odds(scores, 100.0)) == pytest.approx(500 - math.log(2))
    assert float(category_confidence(scores, 100.0, TEMPERATURE_ALONE)) == 1


def test_one_category_is_certain() -> None:
    assert category_confidence(torch.tensor([[-3.0]]), 5.0, (9.0, 9.0, 9.0)).tolist() == [1.0]


def test_the_fit_finds_the_weights_that_made_the_data() -> None:
    true = (-1.5, 0.8, 20.0)
    x = torch.stack([torch.randn(40_000) * 3, torch.rand(40_000) * 0.2], dim=1).double()
    hit = torch.rand(40_000) < logistic(true, *x.T)
    assert fit_logistic(x, hit, NOT_KNOWN) == pytest.approx(true, rel=0.1)
    # the unit of a feature changes its factor and nothing else
    _, _, last = fit_logistic(x * torch.tensor([1.0, 10.0]), hit, NOT_KNOWN)
    assert last == pytest.approx(fit_logistic(x, hit, NOT_KNOWN)[2] / 10, rel=1e-3)


def test_weighted_images_count_as_if_they_came_up_more_often() -> None:
    x, hit = torch.randn(50, 2), torch.rand(50) < 0.6
    share = torch.where(torch.arange(50) < 20, 3.0, 1.0)
    repeated = torch.cat([torch.arange(20)] * 3 + [torch.arange(20, 50)])
    # the prior counts by the number of images, which is all that differs
    found = torch.tensor(fit_logistic(x, hit, NOT_KNOWN, share))
    torch.testing.assert_close(
        found, torch.tensor(fit_logistic(x[repeated], hit[repeated], NOT_KNOWN)), rtol=0.1, atol=0.05
    )


def test_a_few_images_all_right_give_no_boundless_weights() -> None:
    x = torch.tensor([[1.0, 2.0], [2.0, 2.0], [3.0, 2.0]])
    weights = fit_logistic(x, torch.ones(3, dtype=torch.bool), TEMPERATURE_ALONE)
    assert all(abs(w) < 10 for w in weights)
    # surer than before, and what does not vary has no say
    assert (logistic(weights, *x.T) > x[:, 0].sigmoid()).all() and weights[2] == 0
    assert fit_logistic(x[:0], torch.zeros(0, dtype=torch.bool), TEMPERATURE_ALONE) == TEMPERATURE_ALONE


def test_one_in_twenty_known_objects_is_called_unknown() -> None:
    evidence = torch.randperm(1000).float()
    calibration = Calibration(least_evidence=least_evidence(evidence))
    unknown = calibration.is_unknown(evidence)
    assert unknown is not None and int(unknown.sum()) == 50
    assert Calibration().is_unknown(evidence) is None and least_evidence(evidence[:0]) is None


def test_a_calibration_survives_json() -> None:
    calibration = Calibration((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), -0.5, (1, 0, 4))
    assert read(Calibration, asdict(calibration)) == calibration
    assert calibration.orders(torch.tensor([2, 1])).tolist() == [4, 0]
    assert Calibration().orders(torch.tensor([2, 1])).tolist() == [1, 1]


def test_log_odds_of_a_pose_compare_likelihoods_on_both_sides() -> None:
    hypotheses = poses(0.0, 0.4, 1.0, 3.0)
    losses = torch.tensor([[-0.50, -0.52, -0.51, -0.49]])
    near, far = (sum(math.exp(-100 * x) for x in part) for part in ((-0.50, -0.52), (-0.51, -0.49)))
    answer = poses(0.1).to_matrix()
    found = pose_log_odds(answer, hypotheses.to_matrix()[None], losses, torch.tensor([1]))
    assert float(found) == pytest.approx(math.log(near / far), abs=1e-4)
    # of an object that is the same from all azimuths, all of them are the answer
    assert float(pose_log_odds(answer, hypotheses.to_matrix()[None], losses, torch.tensor([0]))) == MOST


def test_the_second_best_pose_is_another_one_that_fits_nearly_as_well() -> None:
    several = [poses(0.0, 0.3, 3.0, 1.5)] * 3
    pose = Pose(
        **{n: torch.stack([getattr(p, n) for p in several]) for n in ("azimuth", "elevation", "theta", "distance")}
    )
    losses = torch.tensor([[-0.60, -0.59, -0.585, -0.58], [-0.60, -0.59, -0.50, -0.50], [-0.50, -0.49, -0.60, -0.49]])
    second = runner_up(pose, losses, torch.tensor([1, 1, 1])).azimuth
    assert second[0] == 3.0 and second[1:].isnan().all()
    # half a turn changes nothing: the third pose is the first one
    assert float(runner_up(pose, losses, torch.tensor([2, 2, 2])).azimuth[0]) == 1.5
