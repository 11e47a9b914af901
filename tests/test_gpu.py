"""What runs on a GPU answers what the processor answers; skipped where there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from compnet3d.bench.loss import LossProblem, bench_loss
from compnet3d.cli import main as cli
from compnet3d.data.augment import Augmentation
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.transforms import InputConfig
from compnet3d.evaluation.crops import Loading
from compnet3d.evaluation.evaluate import evaluate
from compnet3d.geometry.camera import Pose
from compnet3d.inference.matching import category_scores
from compnet3d.inference.pose_hypotheses import PoseGrid
from compnet3d.inference.pose_search import PoseSettings
from compnet3d.inference.pruned_matching import Pruning
from compnet3d.losses.blockwise import full_contrastive_loss, grouped_contrastive_loss
from compnet3d.losses.inputs import LossWeights, Queries
from compnet3d.losses.sampling import draw_negative_poses
from compnet3d.models.backbones import BackboneConfig
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
from compnet3d.models.registry import load_predictor
from compnet3d.rendering.fragments import Fragments
from compnet3d.robustness.shift import Shift
from compnet3d.training import builtin_recipes as recipes
from compnet3d.training.builtin_recipes import baselines_of
from compnet3d.training.objectives import scores_of_poses
from compnet3d.training.recipe_parts import (
    CompNetLossSettings,
    CompNetSearchSettings,
    ScheduleSettings,
)
from compnet3d.training.train import train
from tests.networks import TINY_RECIPE, TINY_RESNET

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

TINY = replace(
    TINY_RECIPE,
    name="tiny-gpu",
    loss=CompNetLossSettings(
        samples_per_category=8, classification_weight=0.4, classification_cells=20, pose_contrastive_weight=0.5
    ),
    search=CompNetSearchSettings(pose_score_weight=0.5, steps=3, starts=1, prior_weight=0.01),
    schedule=ScheduleSettings(
        epochs=4, batch_size=4, learning_rate=3e-3, head_learning_rate=3e-3, calibration_fraction=0.25
    ),
    augmentation=Augmentation(rotation=10, scale=(0.9, 1.1), shift=0.05, mirror=0.5, erasing=0.5, brightness=0.2),
)
METHODS = {recipe.name: recipe for recipe in (TINY, *baselines_of(TINY))}


def unit(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=generator), dim=-1)


def make_model(renderer: str = "cuboid") -> CompNet:
    """Three boxes, random tensors, everything in float32."""
    torch.manual_seed(0)
    bounds = (
        ((-0.45, -0.2, -0.15), (0.45, 0.2, 0.15)),
        ((-0.15, -0.2, -0.45), (0.2, 0.2, 0.5)),
        ((-0.4,) * 3, (0.4,) * 3),
    )
    model = CompNet(
        CompNetConfig(
            categories=("brick", "tower", "cube"),
            bounds=bounds,
            backbone=BackboneConfig("resnet", TINY_RESNET, dimension=16),
            input_config=InputConfig(height=48, width=64, focal=120.0, distance=3.0, box_fill=0.7),
            vertex_count=60,
            background_size=32,
            renderer=renderer,
            pose=PoseSettings(steps=4, starts=2, prior_weight=0.01),
            grid=PoseGrid(azimuths=6, elevations=2, thetas=1),
        )
    )
    model.feature_extractor.amp = False
    model.bank.vertex_features.copy_(unit(*model.bank.vertex_features.shape))
    model.bank.update_background(unit(20, 16, seed=1))
    model.fit_prior(list(poses(60).to_matrix().split(20)))
    return model.eval()


def random_maps() -> Tensor:
    return normalize(torch.randn(3, 16, 6, 8, generator=torch.Generator().manual_seed(4)), dim=1)


def poses(count: int) -> Pose:
    draw = torch.rand(count, 3, generator=torch.Generator().manual_seed(2))
    return Pose.of(6.28 * draw[:, 0], draw[:, 1] - 0.3, 0.6 * draw[:, 2] - 0.3, torch.full((count,), 3.0))


@pytest.mark.parametrize("kappa", [1 / 0.07, 60.0])
@pytest.mark.parametrize("kind", ["grouped", "sparse", "full"])
def test_losses_and_gradients(kind: str, kappa: float) -> None:
    values, gradients = [], []
    for device in ("cpu", DEVICE):
        problem = LossProblem.random(
            7, vertex_count=30, dimension=16, background=20, images=5, visible=12, device=device
        )
        valid = (torch.rand(5, 12, generator=torch.Generator().manual_seed(3)) < 0.8).to(device)
        observed = problem.observed.clone().requires_grad_(True)
        bank = problem.bank
        queries = Queries(observed, problem.category, problem.vertex, valid)
        if kind == "full":
            loss = full_contrastive_loss(queries, bank.feature_bank, kappa=kappa, background_weight=0.3)
        else:
            omega = bank.grouping_weights.clone()
            if kind == "sparse":
                omega[:, ::2] = 0
            sampled = torch.arange(0, 210, 3, device=device)
            features = replace(bank.feature_bank, grouping_weights=omega)
            weights = LossWeights(background=0.3)
            loss = grouped_contrastive_loss(queries, features, sampled, kappa=kappa, weights=weights).total
        loss.backward()
        assert observed.grad is not None
        values.append(float(loss.detach()))
        gradients.append(observed.grad.cpu())
    assert values[1] == pytest.approx(values[0], rel=1e-4)
    assert float(gradients[0].norm()) > 0
    assert float((gradients[1] - gradients[0]).norm()) < 1e-3 * float(gradients[0].norm())


@pytest.mark.parametrize("renderer", ["cuboid", "gaussian"])
@pytest.mark.parametrize("softness", [0.0, 0.5])
def test_fragments(renderer: str, softness: float) -> None:
    found: list[Fragments] = []
    category = torch.tensor([0, 1, 2, 0, 1])
    for device in ("cpu", DEVICE):
        model = make_model(renderer).to(device)
        pose, principal_point = poses(5).to(device), torch.tensor([32.0, 24.0], device=device).expand(5, 2)
        found.append(model.render(category.to(device), pose, principal_point, softness))
    cpu, gpu = found
    assert 0 < float((cpu.foreground > 0.5).float().mean()) < 1
    assert float((gpu.foreground.cpu() - cpu.foreground).abs().mean()) < 1e-3
    same = (gpu.vertex_index.cpu() == cpu.vertex_index).float().mean()
    assert float(same) > 0.99


def test_matching_and_its_gradient() -> None:
    model, maps = make_model(), random_maps()
    scores, gradients = [], []
    for device in ("cpu", DEVICE):
        model.to(device)
        where = maps.to(device).requires_grad_(True)
        bank = model.bank.feature_bank
        score = category_scores(where, bank)
        with torch.no_grad():
            plain = category_scores(where, bank)
        torch.testing.assert_close(score, plain, atol=3e-3, rtol=0)  # the best match is searched in bfloat16
        (gradient,) = torch.autograd.grad(score[:, 0].sum(), where)
        scores.append(plain.cpu())
        gradients.append(gradient.cpu())
    torch.testing.assert_close(scores[1], scores[0], atol=1e-5, rtol=0)
    assert float((gradients[1] - gradients[0]).norm()) < 0.2 * float(gradients[0].norm())


def test_scores_of_poses_and_their_gradient() -> None:
    model, maps = make_model(), random_maps()
    scores, gradients = [], []
    for device in ("cpu", DEVICE):
        model.to(device)
        where = maps.to(device).requires_grad_(True)
        order = torch.tensor([1, 0, 2], device=device)
        one, negatives = draw_negative_poses(poses(3).to(device), order, 7, torch.Generator(device))
        assert one.azimuth.device.type == negatives.device.type == torch.device(device).type
        pose = Pose.stack([poses(3), poses(3)]).to(device)
        pose = Pose(**{name: getattr(pose, name).T + 0.3 for name in ("azimuth", "elevation", "theta", "distance")})
        principal_point = torch.tensor([32.0, 24.0], device=device).expand(3, 2)
        score = scores_of_poses(model, where, torch.tensor([0, 1, 2], device=device), pose, principal_point)
        (gradient,) = torch.autograd.grad(score.sum(), where)
        scores.append(score.detach().cpu())
        gradients.append(gradient.cpu())
    torch.testing.assert_close(scores[1], scores[0], atol=3e-3, rtol=0)
    assert float((gradients[1] - gradients[0]).norm()) < 0.2 * float(gradients[0].norm())


@pytest.mark.parametrize("crop", ["oracle", "box"])
def test_predictions_and_a_model_that_moves(crop: str) -> None:
    """One model on the processor, on the GPU and back: tables and shapes follow it."""
    model = make_model()
    images = torch.randint(256, (6, 3, 48, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    answers = []
    for device in ("cpu", DEVICE, "cpu"):
        model.to(device)
        answers.append(model.predict_crops(images, crop=crop))  # type: ignore[arg-type]
        assert answers[-1].scores.device.type == torch.device(device).type
        unseen = model.predict_crops(images, unseen=True, crop=crop)  # type: ignore[arg-type]
        assert unseen.pose.azimuth.isfinite().all()
    cpu, gpu, again = answers
    torch.testing.assert_close(again.scores, cpu.scores, atol=0, rtol=0)
    torch.testing.assert_close(gpu.scores.cpu(), cpu.scores, atol=1e-3, rtol=0)
    agree = (gpu.category_index.cpu() == cpu.category_index).float().mean()
    assert float(agree) >= 0.8
    assert gpu.reconstruction_score is not None and cpu.reconstruction_score is not None
    difference = (gpu.reconstruction_score.cpu() - cpu.reconstruction_score).abs()
    assert float(difference.median()) < 1e-3
    model.pruning = Pruning(centroids=8, cells=48, shortlist=2)
    here = model.classify_crops(images)
    there = model.to(DEVICE).classify_crops(images)
    torch.testing.assert_close(there.cpu(), here, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", METHODS)
def test_training_resumes_and_the_model_loads_on_the_processor(name: str, tiny_data: Path, tmp_path: Path) -> None:
    recipe = METHODS[name]
    train(recipe, tiny_data, tmp_path / "run", device=DEVICE, workers=1, progress=False, stop_after=2)
    trained = train(recipe, tiny_data, tmp_path / "run", device=DEVICE, workers=1, progress=False, resume=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    samples = ImageNet3D(tiny_data).samples("val")
    loaded = load_predictor(tmp_path / "run" / "model")
    metrics = [
        evaluate(model, samples, shift=Shift("L1"), loading=Loading(workers=1, progress=False))
        for model in (trained, loaded)
    ]
    assert {parameter.device.type for parameter in trained.parameters()} == {"cuda"}
    assert {parameter.device.type for parameter in loaded.parameters()} == {"cpu"}
    # sixteen images, and bfloat16 in other places: two may turn
    accuracies = [result.accuracy for result in metrics]
    assert abs(accuracies[0] - accuracies[1]) <= 2 / 16
    assert metrics[0].resources.peak_gpu_memory_mb > 0


def test_training_there_learns_what_it_learns_here(tiny_data: Path, tmp_path: Path) -> None:
    losses = []
    recipe = TINY.with_settings(
        {"loss.pose_contrastive_weight": 0.0}
    )  # whose poses to be told apart are drawn on the device
    for device in ("cpu", DEVICE):
        train(recipe, tiny_data, tmp_path / device, device=device, workers=0, progress=False)
        log = (tmp_path / device / "log.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in log])
    # the first epoch begins from the same weights with the same images
    assert losses[1][0] == pytest.approx(losses[0][0], rel=0.05)
    assert losses[1][-1] < losses[1][0]


def test_the_commands(tiny_maker: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recipes.RECIPES, TINY.name, TINY)
    root = tiny_maker(tmp_path / "data", ("brick", "tower", "plank"))
    run, data = str(tmp_path / "run"), str(root)
    cli.main(["train", "--recipe", TINY.name, "--data", data, "--out", run, "--epochs", "1", "--without", "tower"])
    cli.main(["evaluate", run, "--data", data, "--categories", "unseen", "--json", str(tmp_path / "unseen.json")])
    unseen = json.loads((tmp_path / "unseen.json").read_text())
    assert unseen["peak_gpu_memory_mb"] > 0
    cli.main(["evaluate", run, "--data", data, "--categories", "common", "--report", str(tmp_path / "page.html")])
    assert (tmp_path / "page.html").stat().st_size > 10_000
    image = next((root / "images" / "brick").iterdir())
    cli.main(["predict", run, str(image)])


def test_the_loss_benchmark_counts_the_gpus_memory() -> None:
    problem = LossProblem.random(6, vertex_count=40, dimension=16, background=64, images=2, visible=20, device=DEVICE)
    result = bench_loss(rounds=1, device=DEVICE, problem=problem)
    assert 0 < result["grouped_s"] and 0 < result["novum_peak_mb"]
