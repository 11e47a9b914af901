"""Poses that are turned round: the negatives made of them, how much they weigh, and what the calibration split says."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import default_collate

from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.loader import CropDataset
from compnet3d.data.symmetry import Symmetry
from compnet3d.errors import CompNetError
from compnet3d.evaluation.crops import Loading
from compnet3d.evaluation.evaluate import evaluate
from compnet3d.geometry.camera import Pose
from compnet3d.losses.sampling import draw_negative_poses, flipped_poses, near_vertices
from compnet3d.models.compnet import CompNet
from compnet3d.training.batch import Batch, observe_batch
from compnet3d.training.build import make_optimizer
from compnet3d.training.calibration import calibrate, flip_shares
from compnet3d.training.objectives import CompNetObjective, scores_of_poses
from compnet3d.training.recipe_parts import CompNetLossSettings, CompNetSearchSettings, ScheduleSettings
from compnet3d.training.run_folder import Run, read_log
from compnet3d.training.train import train
from compnet3d.utils.files import read_json, write_json
from tests.networks import TINY_RECIPE

RECIPE = replace(
    TINY_RECIPE,
    loss=CompNetLossSettings(
        samples_per_category=8, pose_contrastive_weight=0.5, negative_poses=6, flip_negatives=0.5, flip_gain=50.0
    ),
    schedule=ScheduleSettings(
        epochs=3, batch_size=4, learning_rate=3e-3, head_learning_rate=3e-3, calibration_fraction=0.5, calibrate_every=1
    ),
    search=CompNetSearchSettings(steps=1, starts=1),
)
QUIET: dict[str, Any] = {"workers": 0, "progress": False}


def poses_of_a_batch(count: int = 5) -> Pose:
    generator = torch.Generator().manual_seed(3)
    angles = (torch.rand(count, generator=generator) for _ in range(3))
    return Pose.of(*angles, 1 + torch.rand(count, generator=generator))


def degrees_between(first: Tensor, second: Tensor) -> float:
    return math.degrees(math.acos(max(-1.0, min(1.0, (float((first.T @ second).trace()) - 1) / 2))))


def turned_round(rotmat: Tensor) -> Tensor:
    return rotmat @ torch.diag(torch.tensor([-1.0, -1.0, 1.0]))


def test_flipped_negatives_are_near_half_a_turn_and_the_others_as_they_were() -> None:
    pose, order = poses_of_a_batch(), torch.tensor([1, 2, 0, 3, 1])
    generators = [torch.Generator().manual_seed(4) for _ in range(3)]
    usual, counted = draw_negative_poses(pose, order, 30, generators[0])
    poses, negatives = draw_negative_poses(pose, order, 30, generators[1], 10)
    none, _ = draw_negative_poses(pose, order, 30, generators[2], 0)
    for name in ("azimuth", "elevation", "theta", "distance"):
        first, second = getattr(usual, name), getattr(poses, name)
        assert torch.equal(first, getattr(none, name))
        assert torch.equal(first[:, :21], second[:, :21])
        assert torch.equal(first[1:3], second[1:3]), "half a turn changes nothing there"
    assert torch.equal(counted[:, :20], negatives[:, :20]) and torch.equal(counted[1:3], negatives[1:3])
    assert torch.equal(generators[0].get_state(), generators[2].get_state()), "nothing is drawn where none is wanted"
    for image in (0, 3, 4):
        own = turned_round(pose[image].to_matrix())
        off = [degrees_between(own, poses[image, 21 + number].to_matrix()) for number in range(10)]
        # at most 10 degrees in each of two angles, and not always the same
        assert max(off) < 14.2 and max(off) > 4 and len({round(x, 3) for x in off}) == 10
        assert torch.equal(poses.theta[image, 21:], pose.theta[image].expand(10)) and negatives[image, 20:].all()


def test_which_poses_are_flipped_equals_a_loop() -> None:
    pose, order = poses_of_a_batch(), torch.tensor([1, 2, 0, 3, 1])
    poses, _ = draw_negative_poses(pose, order, 60, torch.Generator().manual_seed(4), 5)
    found = flipped_poses(poses, order)
    assert found[[0, 3, 4]].sum() > 3 * 5 and not found.all()
    for image in range(5):
        turns = [2 * math.pi * k / 3 for k in range(3)] if order[image] == 3 else [0.0]
        for number in range(60):
            other = poses[image, 1 + number]
            own = turned_round(pose[image].to_matrix())
            angles = [degrees_between(own, replace(other, azimuth=other.azimuth + t).to_matrix()) for t in turns]
            if abs(min(angles) - 30) > 0.1:
                assert bool(found[image, number]) == (min(angles) < 30 and int(order[image]) in (1, 3))


def test_vertices_half_a_turn_away_equal_a_loop() -> None:
    generator = torch.Generator().manual_seed(1)
    vertices = torch.rand(2, 40, 3, generator=generator) * 2 - 1
    vertex = torch.randint(40, (2, 7), generator=generator)
    found = near_vertices(vertices, vertex, 0.6, half_turn=True)
    for image in range(2):
        for query in range(7):
            x, y, z = vertices[image, vertex[image, query]].tolist()
            for number in range(40):
                near = math.dist((-x, -y, z), vertices[image, number].tolist()) < 0.6
                assert bool(found[image, query, number]) == near
    assert 0 < found.float().mean() < 0.5


@pytest.fixture(scope="module")
def whole_run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("flips") / "whole"
    train(RECIPE, tiny_data, out, **QUIET)
    return out


def make_run(folder: Path, recipe: Any = RECIPE) -> Run:
    model = CompNet.from_pretrained(folder)
    return Run(recipe, 0, folder, model, make_optimizer(model, recipe))


def test_a_resumed_run_weighs_with_the_same_flips(tiny_data: Path, whole_run: Path, tmp_path: Path) -> None:
    train(RECIPE, tiny_data, tmp_path / "halves", stop_after=1, **QUIET)
    train(RECIPE, tiny_data, tmp_path / "halves", stop_after=2, resume=True, **QUIET)
    train(RECIPE, tiny_data, tmp_path / "halves", resume=True, **QUIET)
    log = read_log(whole_run / "log.jsonl")
    assert all(len(entry["flips"]) == 2 for entry in log) and max(log[0]["flips"] + log[1]["flips"]) > 0
    whole, halves = (CompNet.from_pretrained(out).state_dict() for out in (whole_run, tmp_path / "halves"))
    assert all(torch.equal(whole[name], halves[name]) for name in whole)
    assert "flips" not in (whole_run / "log.csv").read_text()
    # the comparison would not notice if the weights did nothing
    train(RECIPE.with_settings({"loss.flip_gain": 0.0}), tiny_data, tmp_path / "without", **QUIET)
    without = read_log(tmp_path / "without" / "log.jsonl")
    assert "flips" not in without[0]
    assert without[0]["pose_contrastive_loss"] == log[0]["pose_contrastive_loss"], "nobody has looked yet"
    assert without[-1]["pose_contrastive_loss"] < log[-1]["pose_contrastive_loss"]


def test_a_checkpoint_with_flips_of_other_categories_is_refused(
    tiny_data: Path, tmp_path: Path, whole_run: Path
) -> None:
    train(RECIPE, tiny_data, tmp_path / "run", stop_after=1, **QUIET)
    path = tmp_path / "run" / "checkpoint" / "progress.json"
    values = read_json(path)
    values["history"][0]["flips"] = [0.5] * 3
    write_json(path, values)
    with pytest.raises(CompNetError, match=r"progress.json: has flips of 3 categories, not of 2; copy"):
        train(RECIPE, tiny_data, tmp_path / "run", resume=True, **QUIET)


@pytest.mark.parametrize("orders", [(1, 1), (1, 2)])
def test_flips_of_a_split_are_those_of_the_evaluator(tiny_data: Path, whole_run: Path, orders: tuple[int, int]) -> None:
    run, samples = make_run(whole_run), ImageNet3D(tiny_data).samples("val")
    crops = CropDataset(samples, run.model.categories, run.model.input_config)
    found = flip_shares(run, CompNetObjective(RECIPE, torch.tensor(orders)), crops)
    symmetry = {name: Symmetry(order) for name, order in zip(run.model.categories, orders, strict=True)}
    result = evaluate(run.model, samples, symmetry=symmetry, loading=Loading(progress=False))
    expected = [result.per_category[name].pose.flips for name in run.model.categories]
    assert found.tolist() == [flips.true_category.share or 0.0 for flips in expected if flips is not None]
    assert found[0] > 0 and (orders[1] == 1 or found[1] == 0)


def test_flipped_negatives_weigh_as_the_calibration_split_says(
    tiny_data: Path, whole_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a look at the split leaves behind, and the loss that follows from it, against a loop over poses."""
    monkeypatch.setattr("compnet3d.inference.matching.bf16_is_fast", lambda: False)  # tested elsewhere
    run, samples = make_run(whole_run), ImageNet3D(tiny_data).samples("val")
    crops, shares = CropDataset(samples, run.model.categories, run.model.input_config), torch.tensor([0.25, 0.75])
    monkeypatch.setattr("compnet3d.training.calibration.flip_shares", lambda *_: shares.double())
    objective = CompNetObjective(RECIPE, torch.tensor([1, 3]))
    assert calibrate(run, objective, crops)["flips"] == [0.25, 0.75]
    off = CompNetObjective(RECIPE.with_settings({"loss.pose_contrastive_weight": 0.0}), torch.tensor([1, 3]))
    assert "flips" not in calibrate(run, off, crops)

    model = run.model
    assert isinstance(model, CompNet)
    batch = Batch.of(default_collate([crops[i] for i in (0, 9, 3, 12)]), torch.device("cpu"))
    order = objective.orders_of(batch.category)
    assert order.tolist() == [1, 3, 1, 3]
    with torch.no_grad():
        seen = observe_batch(model, batch, run.group)
        ours = objective._pose_contrastive(model, seen, batch, torch.Generator().manual_seed(1))
        poses, counts = draw_negative_poses(batch.pose, order, 6, torch.Generator().manual_seed(1), 3)
        scores = scores_of_poses(model, seen.feature_map, batch.category, poses, batch.principal_point).double()
    flipped, total, plain = flipped_poses(poses, order), 0.0, 0.0
    assert flipped[:, 3:].all()
    for image in range(4):
        weight = 1 + 50 * float(shares[batch.category[image]])
        true = math.exp(100 * float(scores[image, 0]))
        terms = [math.exp(100 * float(scores[image, 1 + n])) * bool(counts[image, n]) for n in range(6)]
        weighted = sum(t * (weight if flipped[image, n] else 1) for n, t in enumerate(terms))
        total += math.log((true + weighted) / true) / 4
        plain += math.log((true + sum(terms)) / true) / 4
    assert float(ours) == pytest.approx(total, rel=1e-3) and abs(total - plain) > 0.1
    objective.learn_flips(torch.zeros(2))
    with torch.no_grad():
        alone = objective._pose_contrastive(model, seen, batch, torch.Generator().manual_seed(1))
    assert float(alone) == pytest.approx(plain, rel=1e-3)


def test_where_nothing_is_switched_on_a_look_costs_and_notes_nothing(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("poses are estimated although nobody asked")

    monkeypatch.setattr("compnet3d.training.calibration.flip_shares", refuse)
    recipe = RECIPE.with_settings({"loss.flip_gain": 0.0, "schedule.epochs": 1})
    train(recipe, tiny_data, tmp_path / "run", **QUIET)
    (line,) = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert "flips" not in json.loads(line)
