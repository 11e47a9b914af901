"""Metrics against scipy rotations, plain loops and closed forms."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from compnet3d.evaluation import metrics
from compnet3d.geometry import rotations


def random_rotations(count: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(Rotation.random(count, random_state=seed).as_matrix())


def turned(rotmat: torch.Tensor, angle: float) -> torch.Tensor:
    return rotmat @ torch.from_numpy(Rotation.from_euler("z", angle).as_matrix())


def test_accuracy_counts_equal_entries():
    assert metrics.accuracy(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2])) == 0.75
    assert metrics.accuracy(torch.zeros(0), torch.zeros(0)) is None


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=40))
def test_confusion_matrix_equals_a_plain_count(pairs):
    expected = [[0] * 5 for _ in range(5)]
    for true, predicted in pairs:
        expected[true][predicted] += 1
    true = torch.tensor([t for t, _ in pairs], dtype=torch.long)
    predicted = torch.tensor([p for _, p in pairs], dtype=torch.long)
    assert metrics.confusion_matrix(predicted, true, 5).tolist() == expected


@pytest.mark.parametrize("bad", [-1, 3])
def test_confusion_matrix_refuses_an_index_out_of_range(bad):
    with pytest.raises(ValueError, match="outside 0 ... 2"):
        metrics.confusion_matrix(torch.tensor([bad]), torch.tensor([0]), 3)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 6, 12])
def test_symmetric_error_equals_the_smallest_scipy_angle(order):
    predicted, true = random_rotations(20, seed=order), random_rotations(20, seed=order + 50)
    expected = []
    for p, t in zip(predicted.numpy(), true.numpy(), strict=True):
        turns = [Rotation.from_matrix(p) * Rotation.from_euler("z", 2 * math.pi * k / order) for k in range(order)]
        expected.append(min((turn.inv() * Rotation.from_matrix(t)).magnitude() for turn in turns))
    result = rotations.symmetric_rotation_error(predicted, true, torch.full((20,), order))
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-9)


def test_continuous_error_is_the_limit_of_many_turns():
    predicted, true = random_rotations(10, seed=1), random_rotations(10, seed=2)
    closed = rotations.symmetric_rotation_error(predicted, true, torch.zeros(10, dtype=torch.long))
    many = rotations.symmetric_rotation_error(predicted, true, torch.full((10,), 3600))
    assert bool((closed <= many + 1e-12).all())
    np.testing.assert_allclose(closed.numpy(), many.numpy(), atol=2e-3)


@given(st.floats(-10, 10), st.integers(0, 1000))
def test_a_turn_about_z_costs_nothing_where_the_symmetry_is_continuous(angle, seed):
    true = random_rotations(1, seed)
    error = rotations.symmetric_rotation_error(turned(true, angle), true, torch.tensor([rotations.CONTINUOUS]))
    assert float(error) < 1e-7


@given(st.integers(2, 8), st.integers(0, 20), st.integers(0, 1000))
def test_turns_of_the_group_cost_nothing(order, k, seed):
    true = random_rotations(1, seed)
    predicted = turned(true, 2 * math.pi * k / order)
    assert float(rotations.symmetric_rotation_error(predicted, true, torch.tensor([order]))) < 1e-6


def test_orders_may_differ_within_a_batch():
    true = random_rotations(1, 3).expand(3, 3, 3).clone()
    predicted = turned(true, math.pi)
    error = rotations.symmetric_rotation_error(predicted, true, torch.tensor([1, 2, 0]))
    np.testing.assert_allclose(error.numpy(), [math.pi, 0, 0], atol=1e-6)


def test_symmetric_error_refuses_wrong_shapes_and_orders():
    turns = random_rotations(2, 0)
    with pytest.raises(ValueError, match="need"):
        rotations.symmetric_rotation_error(turns, turns, torch.tensor([1]))
    with pytest.raises(ValueError, match="symmetry order"):
        rotations.symmetric_rotation_error(turns, turns, torch.tensor([1, -2]))


def test_summary_counts_the_two_thresholds():
    error = torch.tensor([0.0, 9.9, 10.1, 29.9, 30.1, 170.0]).deg2rad()
    assert asdict(metrics.summarise_pose(error)) == pytest.approx(
        {"acc_pi6": 4 / 6, "acc_pi18": 2 / 6, "median_deg": (10.1 + 29.9) / 2}, abs=1e-5
    )


def test_joint_needs_the_right_category_too():
    error = torch.tensor([1.0, 2.0, 20.0, 100.0]).deg2rad()
    right = torch.tensor([True, False, True, False])
    assert asdict(metrics.summarise_joint(error, right)) == pytest.approx(
        {"acc_pi6": 0.5, "acc_pi18": 0.25, "median_deg": 10.5}, abs=1e-5
    )


def plain_flips(predicted, true, order):
    """Whether each pose is flipped, by scipy: all turns of the group, then half a turn and all turns again."""
    found = []
    for p, t in zip(predicted.numpy(), true.numpy(), strict=True):
        turns = [Rotation.from_euler("z", 360 * k / order, degrees=True) for k in range(order)]
        half = Rotation.from_euler("z", 180, degrees=True)
        p, t = Rotation.from_matrix(p), Rotation.from_matrix(t)
        error = min((p.inv() * t * turn).magnitude() for turn in turns)
        off = min((p.inv() * t * half * turn).magnitude() for turn in turns)
        found.append(error >= math.pi / 6 and off < math.pi / 6)
    return found


@pytest.mark.parametrize("order", [1, 3, 5, 7])
def test_flips_equal_a_plain_loop(order):
    count = 300
    true = random_rotations(count, seed=order)
    # some near the truth, some near half a turn from it, some anywhere
    noise = Rotation.from_rotvec(np.random.default_rng(order).normal(0, 0.3, (count, 3))).as_matrix()
    predicted = torch.from_numpy(noise) @ true
    predicted[:100] = turned(predicted[:100], math.pi)
    predicted[200:] = random_rotations(100, seed=order + 50)
    orders = torch.full((count,), order)
    error = rotations.symmetric_rotation_error(predicted, true, orders)
    off = rotations.symmetric_rotation_error(predicted, rotations.half_turned(true), orders)
    expected = plain_flips(predicted, true, order)
    assert metrics.is_flipped(off, error).tolist() == expected
    wrong = [e >= math.pi / 6 for e in error.tolist()]
    assert any(expected) and sum(wrong) > sum(expected)
    found = metrics.summarise_flips(off, error)
    assert found.share == pytest.approx(sum(expected) / count)
    assert found.of_errors == pytest.approx(sum(expected) / sum(wrong))


def test_half_a_turn_is_a_turn_by_pi_and_shows_where_no_turn_of_the_group_is_one():
    true = random_rotations(5, 4)
    np.testing.assert_allclose(rotations.half_turned(true).numpy(), turned(true, math.pi).numpy(), atol=1e-15)
    orders = torch.arange(8)
    undone = rotations.symmetric_rotation_error(
        rotations.half_turned(true[:1]).expand(8, 3, 3), true[:1].expand(8, 3, 3), orders
    )
    assert rotations.half_turn_shows(orders).tolist() == (undone > 1e-6).tolist()


def test_flips_need_an_error_to_be_a_share_of():
    near = torch.tensor([0.1, 0.2])
    assert asdict(metrics.summarise_flips(math.pi - near, near)) == {"share": 0, "of_errors": None}
    assert asdict(metrics.summarise_flips(near, math.pi - near)) == {"share": 1, "of_errors": 1}


def test_no_images_give_no_metrics():
    nothing = torch.zeros(0)
    empty = metrics.PoseMetrics(acc_pi6=None, acc_pi18=None, median_deg=None)
    assert metrics.summarise_pose(nothing) == empty
    assert metrics.summarise_joint(nothing, nothing.bool()) == empty
    assert metrics.summarise_flips(nothing, nothing) == metrics.FlipMetrics(None, None)
    assert metrics.summarise_joint(torch.ones(2), torch.tensor([False, False])).median_deg is None
