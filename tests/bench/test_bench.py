"""The benchmarks: that they time and measure what they say, and that the slow baselines compute the same things."""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from compnet3d.bench.distributed import bench_distributed
from compnet3d.bench.input import InputResult, bench_input
from compnet3d.bench.loss import (
    LossProblem,
    LossResult,
    bench_loss,
    grouped_step,
    novum_step,
    sparse_weights,
)
from compnet3d.bench.matching import Agreement, bench_matching
from compnet3d.bench.pose import PoseResult, bench_pose, estimate_by_rendering, expected_maps, paper_sized_model
from compnet3d.bench.scale import ScaleResult, bench_scale, draw_scale
from compnet3d.bench.step import StepResult, time_backbone
from compnet3d.bench.timing import peak_mb, time_in_turn
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Pose
from compnet3d.geometry.rotations import rotmat_geodesic_distance
from compnet3d.inference.category_search import CategorySearch
from compnet3d.inference.pruned_matching import Pruning, category_centroids, pruned_scores
from compnet3d.losses.sampling import near_vertices
from compnet3d.models.backbones import BackboneConfig
from compnet3d.models.compnet import CompNet
from compnet3d.training.builtin_recipes import SMALL_RESNET, get_recipe
from tests.networks import crop_features, estimate_poses


def tiny_problem(categories: int = 5, seed: int = 0) -> LossProblem:
    return LossProblem.random(categories, vertex_count=12, dimension=16, background=7, images=2, visible=5, seed=seed)


def test_tasks_take_turns_and_the_median_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, order = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    durations = {"a": iter([50.0, 1.0, 9.0, 2.0]), "b": iter([70.0, 4.0, 5.0, 30.0])}

    def task(name: str) -> None:
        order.append(name)
        clock[0] += next(durations[name])

    seconds = time_in_turn({name: lambda n=name: task(n) for name in "ab"}, rounds=3, warm_up=1)
    assert order == list("abababab") and seconds == {"a": 2.0, "b": 5.0}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_peak_counts_what_a_task_has_at_once() -> None:
    def task() -> None:
        for _ in range(3):
            torch.ones(25_000_000)  # 100 MB, freed before the next

    peak = peak_mb(task)
    assert peak is not None and 95 < peak < 130


def test_novum_is_one_softmax_over_everything() -> None:
    problem = tiny_problem()
    bank = problem.bank
    start = bank.vertex_features.clone()
    values = []
    for image, y in enumerate(problem.category.tolist()):
        near = near_vertices(problem.vertices[image : image + 1], torch.arange(12)[None], problem.near)[0]
        for q, k in enumerate(problem.vertex[image].tolist()):
            f, total = problem.observed[image, q], 0.0
            for m in range(len(start)):
                if m // 12 == y and m % 12 != k and near[k, m % 12]:
                    continue
                total += math.exp(problem.kappa * float(f @ start[m]))
            total += sum(math.exp(problem.kappa * float(f @ b)) for b in bank.background)
            values.append(math.log(total) - problem.kappa * float(f @ start[12 * y + k]))
    assert float(novum_step(problem)) == pytest.approx(sum(values) / len(values), rel=1e-4)
    # the bank has moved, and only the visible vertices of the two categories
    moved = (bank.vertex_features != start).any(dim=1).nonzero()[:, 0]
    seen = (12 * problem.category[:, None] + problem.vertex).flatten()
    assert torch.equal(moved, seen.sort().values)


def test_the_step_moves_the_bank_and_samples_matter_little() -> None:
    """All vertices of all categories give at least the loss of a sample, and zero weights leave only Eq. 2."""
    losses = {}
    for samples in (2, None):
        problem = replace(tiny_problem(), samples_per_category=samples)
        losses[samples] = float(grouped_step(problem))
    alone = float(grouped_step(tiny_problem().with_weights(torch.eye(5))))
    assert alone < losses[2] < losses[None]


def test_sparse_weights_have_so_many_pairs() -> None:
    weights = sparse_weights(400, 3.0)
    off = weights - torch.diag(weights.diag())
    assert float((off > 0).sum(1).float().mean()) == pytest.approx(3.0, abs=0.3)
    assert (off[off > 0] >= 0.05).all() and (weights.diag() > 0).all()


def small_model() -> CompNet:
    model = paper_sized_model(2)
    input_config = replace(model.input_config, height=128, width=160, focal=500.0)
    model = CompNet(replace(model.config, input_config=input_config, vertex_count=200)).eval()
    model.bank.update_background(normalize(torch.randn(9, 128, generator=torch.Generator().manual_seed(0)), dim=1))
    return model


def test_rendering_feature_maps_finds_the_same_pose() -> None:
    model = small_model()
    category = torch.tensor([1])
    pose = Pose.of([0.9], [0.4], [0.1], [5.0])
    maps = expected_maps(model, category, pose)
    ours = estimate_poses(model, maps, category)
    found, loss = estimate_by_rendering(model, maps, category)
    best = found[loss.argmin()[None]]
    for estimate in (ours.pose, best):
        assert float(rotmat_geodesic_distance(estimate.to_matrix(), pose.to_matrix())) < math.radians(3)


def test_all_categories_are_searched_coarse_to_fine() -> None:
    model = small_model()
    maps = expected_maps(model, torch.tensor([1, 0]), Pose.of([0.9, 2.0], [0.4, 0.1], [0.1, 0.0], [5.0, 5.0]))
    features, estimator = crop_features(model, maps), model.render_and_compare
    exact = estimator.search_categories(features)
    assert exact.argmin(1).tolist() == [1, 0]
    coarse = estimator.search_categories(features, CategorySearch(80, 1, model.config.pose.truncation))
    torch.testing.assert_close(coarse.amin(1), exact.amin(1))
    assert coarse.argmin(1).tolist() == [1, 0]
    bank = model.bank.feature_bank
    pruned = pruned_scores(maps, bank, category_centroids(bank, 8), Pruning(shortlist=1))
    assert pruned.argmax(1).tolist() == [1, 0]


def test_results_become_tables(tmp_path: Path) -> None:
    loss = bench_loss(rounds=1, problem=tiny_problem())
    assert loss.grouped_over_lower_bound == pytest.approx(loss.grouped_s / loss.lower_bound_s)
    assert loss.to_dict()["grouped_over_lower_bound"] == loss.grouped_over_lower_bound
    matching = bench_matching(rounds=1, categories=9, growth=(3, 9))
    assert matching.growth.keys() == {"3", "9"} and matching.agreement is None
    scale = bench_scale(categories=(3, 6), rounds=1)
    assert len(scale.dense_s) == len(scale.sparse_mb) == 2
    assert (scale.growth_base, scale.sparse_growth) == (3, scale.sparse_s[1] / scale.sparse_s[0])
    draw_scale(scale, tmp_path / "scale.png")
    assert (tmp_path / "scale.png").stat().st_size > 5000
    with pytest.raises(CompNetError, match=r"scale.pdf: give it a name that ends in .png or .svg"):
        draw_scale(scale, tmp_path / "scale.pdf")
    for result in (loss, matching, replace(matching, agreement=Agreement(0.9, 5, 9, 0.8, 0.7)), scale):
        table = result.rows()
        assert len(table) >= 4 and all(what and value for what, value in table)
        assert len(dict(table)) == len(table)  # the docs' tables go by name
        assert type(result).from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_a_result_of_another_benchmark_is_refused() -> None:
    with pytest.raises(CompNetError, match="has no 'images'"):
        LossResult.from_dict({"device": "cpu"})
    with pytest.raises(CompNetError, match="has no 'categories'"):
        ScaleResult.from_dict({})


def test_the_step_is_timed_beside_its_extractor() -> None:
    recipe = get_recipe("imagenet3d-resnet50").with_settings({"input.height": 64, "input.width": 96})
    found = time_backbone(recipe, BackboneConfig("resnet", SMALL_RESNET), images=2, categories=3, rounds=2)
    assert found.peak_mb > 0 if sys.platform.startswith("linux") else found.peak_mb is None  # type: ignore[operator]
    assert all(0 < value < 60 for value in (found.bare_s, found.step_s)) and found.images == 2
    assert found.overhead == pytest.approx(found.step_s / found.bare_s - 1)
    result = StepResult({"resnet": found}, 3, 0.25, 2)
    assert StepResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result and len(result.rows()) == 3


@pytest.mark.slow
def test_pose_benchmark_at_the_papers_size() -> None:
    result = bench_pose(rounds=1, categories=9, images=1)
    assert result.search_s < result.category_s < result.all_categories_s
    assert result.rendered_maps_s > result.estimate_s
    assert result.hypotheses_mb == pytest.approx(8000 * 144 * 2 / 1e6)
    assert len(result.rows()) == 8 and PoseResult.from_dict(result.to_dict()) == result


def test_the_input_is_timed_by_parts() -> None:
    found = bench_input(width=120, height=90, images=3, rounds=2)
    assert 0 < found.decode_s < found.plain_s < found.whole_s < 1
    assert InputResult.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert [name for name, _ in found.rows()][0] == "decode a JPEG file of 120 x 90 pixels"


@pytest.mark.slow
def test_processes_are_timed_in_turn() -> None:
    found = bench_distributed(rounds=1, epochs=2)
    assert found.gain == found.several / found.one > 0.5 and found.processes == 2
