from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from compnet3d.data.augment import Augmentation
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.loader import CropDataset
from compnet3d.data.sample import split_calibration
from compnet3d.data.transforms import Crop
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Pose
from compnet3d.geometry.rotations import angles_to_rotmat
from compnet3d.inference.confidence import fit_temperature
from compnet3d.losses.contrastive import ContrastiveLoss
from compnet3d.losses.inputs import Queries
from compnet3d.losses.sampling import draw_negative_poses
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
from compnet3d.models.observation import observe
from compnet3d.models.pretrained import find_weights
from compnet3d.models.rotation_prior import fit_weights
from compnet3d.training.build import make_optimizer
from compnet3d.training.builtin_recipes import RECIPES, baselines_of, get_recipe
from compnet3d.training.loop import waiting_advice
from compnet3d.training.objectives import objective_of
from compnet3d.training.recipe import Recipe
from compnet3d.training.recipe_parts import (
    CompNetLossSettings,
    CompNetSearchSettings,
    ScheduleSettings,
    SearchSettings,
)
from compnet3d.training.run_checks import recipe_differences
from compnet3d.training.run_folder import Run
from compnet3d.training.sampler import EpochSampler
from compnet3d.training.step import LossOf, train_step
from compnet3d.training.train import train, train_or_load
from compnet3d.utils.distributed import ProcessGroup
from compnet3d.utils.files import write_json
from compnet3d.utils.settings import leaves
from tests.networks import TINY_RECIPE

TINY = replace(
    TINY_RECIPE,
    loss=CompNetLossSettings(samples_per_category=8),
    schedule=ScheduleSettings(
        epochs=4, batch_size=4, learning_rate=3e-3, head_learning_rate=3e-3, calibration_fraction=0.25
    ),
    search=CompNetSearchSettings(steps=3, starts=1),
    augmentation=Augmentation(rotation=10, scale=(0.9, 1.1), shift=0.05, mirror=0.5, erasing=0.5, brightness=0.2),
)


def options(**changes: object) -> dict[str, object]:
    return {"workers": 0, "progress": False, **changes}


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return CompNet.from_pretrained(folder).state_dict()


@pytest.fixture(scope="module")
def whole_run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(TINY, tiny_data, out, **options())  # type: ignore[arg-type]
    return out


def test_an_interrupted_run_resumes_to_the_same_bits(tiny_data: Path, whole_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "halves"
    train(TINY, tiny_data, out, stop_after=1, **options())  # type: ignore[arg-type]
    assert not (out / "model").exists()
    train(TINY, tiny_data, out, resume=True, stop_after=3, **options())  # type: ignore[arg-type]
    train(TINY, tiny_data, out, resume=True, **options(workers=1))  # type: ignore[arg-type]
    whole, halves = tensors(whole_run), tensors(out)
    assert whole.keys() == halves.keys()
    for name in whole:
        assert torch.equal(whole[name], halves[name]), name
    assert (whole_run / "model" / "meshes" / "brick.off").is_file()
    for path in (whole_run / "model").rglob("*.*"):
        if path.suffix != ".safetensors":
            assert path.read_text() == (out / path.relative_to(whole_run)).read_text(), path.name


def test_everything_learned_is_in_the_state_and_moved(tiny_data: Path, whole_run: Path) -> None:
    model = CompNet.from_pretrained(whole_run)
    state = model.state_dict()
    assert {"bank.vertex_features", "bank.background_features", "bank.grouping_weights"} <= state.keys()
    fresh = CompNet(model.config).state_dict()
    assert not torch.equal(state["bank.vertex_features"], fresh["bank.vertex_features"])
    assert int(state["bank.background_count"]) == 32
    assert all(torch.isfinite(value).all() for value in state.values())


@pytest.mark.parametrize("size", [0.01, 100.0])
def test_a_step_goes_along_the_gradient_of_the_mean_loss(
    tiny_data: Path, whole_run: Path, monkeypatch: pytest.MonkeyPatch, size: float
) -> None:
    """With any loss that is a mean over the queries, and no longer than 5."""

    def stand_in(queries: Queries, *_: object, **__: object) -> Any:
        direction = torch.linspace(-1, 1, queries.features.shape[-1])
        total = size * (queries.features @ direction * queries.valid).sum() / queries.valid.sum()
        return ContrastiveLoss(total, total.detach(), total.detach())

    model = CompNet.from_pretrained(whole_run).train()
    data = ImageNet3D(tiny_data)
    crops = CropDataset(data.samples("train")[:4], model.categories, model.input_config)
    batch = next(iter(torch.utils.data.DataLoader(crops, batch_size=4)))
    pose = Pose(**{name: batch[name] for name in ("azimuth", "elevation", "theta", "distance")})
    shape, camera = model.shape(batch["category"]), model.input_config.camera(batch["principal_point"])
    seen = observe(model(batch["image"]), shape, pose, camera, batch["occluded"])
    loss = stand_in(Queries(seen.features, batch["category"], seen.vertex, seen.valid)).total
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    expected *= min(1.0, 5.0 / float(expected.norm()))

    run = Run(TINY, 0, Path(), model, make_optimizer(model, TINY))
    monkeypatch.setattr("compnet3d.training.objectives.grouped_contrastive_loss", stand_in)
    monkeypatch.setattr(run.optimizer, "step", lambda: None)
    train_step(run, LossOf(run.model, objective_of(run.recipe), run.group), batch, seed=0)
    found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert int(seen.valid.sum()) > 10 and float(expected.norm()) > 0
    # bfloat16 rounds the factor of the queries' number away from or towards zero
    assert float((found - expected).norm()) < 0.02 * float(expected.norm())


def test_the_matching_loss_and_its_gradient_are_those_of_the_scores(
    tiny_data: Path, whole_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing else in the loss, and scores written out with plain tensor operations."""

    def nothing(queries: Queries, *_: object, **__: object) -> Any:
        return ContrastiveLoss(0 * queries.features.sum(), torch.zeros(()), torch.zeros(()))

    data = ImageNet3D(tiny_data)
    model = CompNet.from_pretrained(whole_run).train()
    crops = CropDataset(data.samples("train")[:4], model.categories, model.input_config)
    batch = next(iter(torch.utils.data.DataLoader(crops, batch_size=4)))
    cells = model(batch["image"]).flatten(2).transpose(1, 2)
    background = (cells @ model.bank.background.T).amax(dim=2)
    own = [(cells @ model.bank.category_features(y).T).amax(dim=2) for y in range(len(model.categories))]
    scores = torch.stack([torch.maximum(best, background).mean(dim=1) for best in own], dim=1)
    loss = ((100 * scores).logsumexp(dim=1) - 100 * scores[torch.arange(4), batch["category"]]).mean()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(0.3 * loss, list(model.parameters()))])
    expected *= min(1.0, 5.0 / float(expected.norm()))

    again = CompNet.from_pretrained(whole_run).train()
    recipe = TINY.with_settings({"loss.classification_weight": 0.3})
    run = Run(recipe, 0, Path(), again, make_optimizer(again, recipe))
    monkeypatch.setattr("compnet3d.training.objectives.grouped_contrastive_loss", nothing)
    monkeypatch.setattr("compnet3d.inference.matching.bf16_is_fast", lambda: False)  # tested elsewhere
    monkeypatch.setattr(run.optimizer, "step", lambda: None)
    losses = train_step(run, LossOf(run.model, objective_of(run.recipe), run.group), batch, seed=0)
    total, matching = losses["loss"], losses["classification_loss"]
    value = float(loss.detach())
    assert value > 0 and float(matching) == pytest.approx(value, rel=1e-3)
    assert float(total) == pytest.approx(0.3 * value, rel=1e-3)
    found = torch.cat([p.grad.flatten() for p in again.parameters() if p.grad is not None])
    assert float(expected.norm()) > 0
    assert float((found - expected).norm()) < 0.02 * float(expected.norm())


def test_negative_poses_are_far_and_made_of_those_of_the_batch() -> None:
    generator = torch.Generator().manual_seed(3)
    pose = Pose.of(*(torch.rand(5, generator=generator) for _ in range(3)), 1 + torch.rand(5, generator=generator))
    order = torch.tensor([1, 1, 0, 2, 1])
    poses, negatives = draw_negative_poses(pose, order, 40, generator)
    assert poses.shape == (5, 41) and negatives.shape == (5, 40)
    for name in ("azimuth", "elevation", "theta", "distance"):
        assert torch.equal(getattr(poses, name)[:, 0], getattr(pose, name))
    assert torch.equal(poses.distance, pose.distance[:, None].expand(5, 41))
    donor = (poses.elevation[..., None] == pose.elevation).int().argmax(dim=-1)
    assert torch.equal(poses.elevation, pose.elevation[donor]) and torch.equal(poses.theta, pose.theta[donor])
    assert len(donor.unique()) == 5
    turn = (poses.azimuth - pose.azimuth[:, None])[:, 1:]
    assert 0 <= float(turn.min()) < 0.3 and 6.0 < float(turn.max()) < 6.2832
    for image in range(5):
        # turns of the object that nobody can see, in steps of half a degree where any turn is one
        unseen = (
            torch.arange(720) * (math.pi / 360) if order[image] == 0 else torch.tensor([0.0, math.pi])[: order[image]]
        )
        for number in range(40):
            other, angles = poses[image, 1 + number], []
            for turn in unseen:
                turned = replace(other, azimuth=other.azimuth + turn).to_matrix()
                relative = float((pose[image].to_matrix().T @ turned).trace())
                angles.append(math.degrees(math.acos(max(-1.0, min(1.0, (relative - 1) / 2)))))
            if abs(min(angles) - 25) > 0.5:
                assert bool(negatives[image, number]) == (min(angles) > 25)
    share = negatives.float().mean(dim=1)
    assert share[2] < share[3] < share[[0, 1, 4]].min()


def test_a_single_image_has_its_own_elevation_only() -> None:
    pose = Pose.of([0.1], [0.2], [0.3], [2.0])
    poses, _ = draw_negative_poses(pose, torch.tensor([1]), 6, torch.Generator().manual_seed(0))
    assert (poses.elevation == pose.elevation).all() and (poses.theta == pose.theta).all()


def test_the_pose_contrastive_loss_takes_part(tiny_data: Path, tmp_path: Path) -> None:
    recipe = TINY.with_settings(
        {
            "loss.pose_contrastive_weight": 0.5,
            "loss.negative_poses": 5,
            "search.pose_score_weight": 0.5,
            "schedule.epochs": 6,
            "schedule.learning_rate": 1e-3,
        }
    )
    model = train(recipe, tiny_data, tmp_path / "run", **options())  # type: ignore[arg-type]
    assert isinstance(model, CompNet) and model.config.pose_score_weight == 0.5
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[0]["pose_contrastive_loss"] > log[-1]["pose_contrastive_loss"] > 0
    parts = log[0]["in_category_loss"] + log[0]["cross_category_loss"] + 0.5 * log[0]["pose_contrastive_loss"]
    assert log[0]["loss"] == pytest.approx(parts, rel=1e-4)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_the_prior_is_that_of_the_training_images_and_changes_nothing_else(tiny_data: Path, tmp_path: Path) -> None:
    """Not the temperature or omega either, where names count the best initial pose."""
    plain = TINY.with_settings(
        {"search.pose_score_weight": 0.5, "grouping.least_accuracy": 0.0, "schedule.calibrate_every": 1}
    )
    recipe = plain.with_settings({"search.prior_weight": 0.01})
    train(plain, tiny_data, tmp_path / "plain", **options())  # type: ignore[arg-type]
    model = train(recipe, tiny_data, tmp_path / "run", **options())  # type: ignore[arg-type]
    assert isinstance(model, CompNet) and model.prior is not None
    found = tensors(tmp_path / "run" / "model")
    for name, tensor in tensors(tmp_path / "plain" / "model").items():
        assert torch.equal(found[name], tensor), name
    configs = [json.loads((tmp_path / run / "model" / "config.json").read_text()) for run in ("plain", "run")]
    assert configs[0]["temperature"] == configs[1]["temperature"]
    samples, _ = split_calibration(ImageNet3D(tiny_data).samples("train"), TINY.schedule.calibration_fraction, 0)
    for number, category in enumerate(model.categories):
        own = [sample for sample in samples if sample.category == category]
        angles = torch.tensor([[sample.azimuth, sample.elevation, sample.theta] for sample in own])
        kept = model.prior.centres[number, model.prior.log_share[number] > -torch.inf]
        expected = angles_to_rotmat(*angles.unbind(1))
        assert sorted(kept.flatten(1).tolist()) == sorted(expected.flatten(1).tolist())
        torch.testing.assert_close(model.prior.weights[number], fit_weights(expected))


def test_workers_read_the_calibration_split_to_the_same_end(tiny_data: Path, tmp_path: Path) -> None:
    recipe = TINY.with_settings(
        {
            "schedule.calibration_fraction": 0.5,
            "schedule.batch_size": 1,
            "schedule.epochs": 2,
            "schedule.calibrate_every": 1,
        }
    )
    for workers in (0, 1):
        train(recipe, tiny_data, tmp_path / str(workers), **options(workers=workers))  # type: ignore[arg-type]
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in "01"]
    kept = [[{k: v for k, v in json.loads(x).items() if "second" not in k} for x in lines] for lines in logs]
    assert kept[0] == kept[1] and "confusion" in kept[0][0]


def test_runs_may_differ_in_what_their_method_does_not_look_at() -> None:
    ours, novum, heads = (get_recipe(f"robust-photos{suffix}") for suffix in ("", "-novum", "-heads"))
    assert recipe_differences(
        {"recipe": ours.with_settings({"loss.pose_contrastive_weight": 1.0}).to_dict()}, ours
    ) == ["loss.pose_contrastive_weight"]
    assert recipe_differences({"recipe": ours.without_pose_contrastive().to_dict()}, ours) == [
        "loss.pose_contrastive_weight",
        "search.truncation",
        "search.foreground_bonus",
        "search.prior_weight",
        "search.pose_score_weight",
    ]
    for baseline in (novum, heads):
        for name in ("loss.pose_contrastive_weight", "loss.classification_cells", "loss.negative_poses"):
            with pytest.raises(ValueError, match=f"{name} is unknown"):
                baseline.with_settings({name: 2})
        assert recipe_differences({"recipe": baseline.to_dict()}, baseline) == []
        assert recipe_differences({"recipe": baseline.with_settings({"schedule.epochs": 99}).to_dict()}, baseline) == [
            "schedule.epochs"
        ]
    for recipe, name in ((heads, "search.pose_score_weight"), (heads, "search.steps"), (novum, "grouping.floor")):
        with pytest.raises(ValueError, match=f"{name} is unknown"):
            recipe.with_settings({name: 1})
    assert recipe_differences({"recipe": novum.with_settings({"search.steps": 1}).to_dict()}, novum) == ["search.steps"]


def test_without_the_pose_contrastive_loss_poses_are_searched_as_before_it() -> None:
    own = CompNetSearchSettings(steps=5, truncation=None, foreground_bonus=0.0)
    assert TINY.with_settings({"search": own}).without_pose_contrastive().search == own  # it had none
    recipe = TINY.with_settings(
        {
            "loss.pose_contrastive_weight": 1.0,
            "search": CompNetSearchSettings(
                steps=5, truncation=0.7, foreground_bonus=0.0, prior_weight=0.1, pose_score_weight=0.5
            ),
        }
    )
    assert recipe.without_pose_contrastive() == TINY.with_settings({"search": CompNetSearchSettings(steps=5)})
    novum, heads, _ = baselines_of(recipe)
    assert novum.search == SearchSettings(steps=5)
    assert {"loss.pose_contrastive_weight", "search.pose_score_weight"}.isdisjoint(dict(leaves(novum)))
    assert not hasattr(heads, "search")


def test_no_pair_is_contrasted_less_than_the_floor(tiny_data: Path, tmp_path: Path) -> None:
    recipe = TINY.with_settings({"grouping.least_accuracy": 0.0, "grouping.floor": 0.25, "schedule.epochs": 2})
    model = train(recipe, tiny_data, tmp_path / "run", **options())  # type: ignore[arg-type]
    omega = model.bank.grouping_weights
    assert omega.diagonal().tolist() == [0, 0] and 0.25 <= float(omega[0, 1].minimum(omega[1, 0])) < 1
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert last["contrasted_pairs"] == sum(float(omega[i, 1 - i]) > 0.25 for i in range(2)) / 2


def test_the_run_is_written_down(tiny_data: Path, whole_run: Path) -> None:
    config = json.loads((whole_run / "config.json").read_text())
    assert config["recipe"]["model"]["vertex_count"] == 40 and config["seed"] == 0
    assert config["counts"] == {"samples": 16, "calibration": 4, "more": 0, "backgrounds": 0}
    log = [json.loads(line) for line in (whole_run / "log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == [1, 2, 3, 4]
    assert log[-1]["loss"] < log[0]["loss"]
    assert "calibration_accuracy" in log[1] and "calibration_accuracy" not in log[0]
    rows = (whole_run / "log.csv").read_text().splitlines()
    assert len(rows) == 5 and rows[0].split(",")[0] == "loss"


def test_another_seed_gives_another_model(tiny_data: Path, whole_run: Path, tmp_path: Path) -> None:
    train(TINY, tiny_data, tmp_path / "other", seed=1, **options())  # type: ignore[arg-type]
    name = "bank.vertex_features"
    assert not torch.equal(tensors(whole_run)[name], tensors(tmp_path / "other")[name])


def test_a_run_is_not_overwritten_and_another_seed_not_resumed(
    tiny_data: Path, whole_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(CompNetError, match="--resume"):
        train(TINY, tiny_data, whole_run, **options())  # type: ignore[arg-type]
    with pytest.raises(CompNetError, match="no checkpoint"):
        train(TINY, tiny_data, tmp_path / "none", resume=True, **options())  # type: ignore[arg-type]
    with pytest.raises(CompNetError, match="seed 0"):
        train(TINY, tiny_data, whole_run, resume=True, seed=3, **options())  # type: ignore[arg-type]


def test_a_run_does_not_go_on_with_other_categories_or_images(
    tiny_data: Path, whole_run: Path, tmp_path: Path, tiny_maker: Callable[..., Path]
) -> None:
    """They are numbered: with others the labels would be wrong."""
    other = tiny_maker(tmp_path / "other", ("brick", "slab"))
    halves = tmp_path / "halves"
    train(TINY, tiny_data, halves, stop_after=1, **options())  # type: ignore[arg-type]
    with pytest.raises(CompNetError, match=r"halves: was trained on other categories .*\(slab, tower\)"):
        train(TINY, other, halves, resume=True, **options())  # type: ignore[arg-type]
    with pytest.raises(CompNetError, match=r"was trained on other categories .*\(slab, tower\)"):
        train_or_load(TINY, other, whole_run, **options())
    assert train_or_load(TINY, tiny_data, whole_run, **options()).categories == ("brick", "tower")
    fewer = tiny_maker(tmp_path / "fewer", images=6)
    with pytest.raises(CompNetError, match=r"started with 16 samples, and there are 12 now"):
        train(TINY, fewer, halves, resume=True, **options())  # type: ignore[arg-type]


def test_a_crash_between_two_renames_loses_nothing(tiny_data: Path, whole_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "crashed"
    shutil.copytree(whole_run, out)
    (out / "checkpoint").rename(out / ".checkpoint.old")
    (out / "model").rename(out / ".model.old")
    assert CompNet.from_pretrained(out).categories == ("brick", "tower")
    train(TINY, tiny_data, out, resume=True, **options())  # type: ignore[arg-type]


def test_temperature_is_the_maximum_likelihood_one() -> None:
    """Two categories whose scores differ by 0.1 and that are right 9 times in 10: t = log 9 / 0.1."""
    scores = torch.tensor([[0.5, 0.4]]).repeat(1000, 1)
    true = (torch.arange(1000) % 10 == 0).long()
    assert fit_temperature(scores, true) == pytest.approx(math.log(9) / 0.1, rel=0.05)


def test_every_sample_once_an_epoch_in_an_order_of_its_own() -> None:
    sampler = EpochSampler(10, 4, seed=0, epoch=3)
    batches = list(sampler)
    assert [len(b) for b in batches] == [3, 3, 4] and len(sampler) == 3
    keys = [key for batch in batches for key in batch]
    assert {epoch for epoch, _ in keys} == {3} and sorted(i for _, i in keys) == list(range(10))
    sampler.epoch = 4
    other = [key[1] for batch in sampler for key in batch]
    assert other != [i for _, i in keys]


@pytest.mark.parametrize(("size", "batch_size", "members"), [(10, 4, 2), (4, 2, 2), (7, 1, 1), (6, 4, 3), (96, 32, 2)])
def test_every_member_has_a_share_of_every_batch(size: int, batch_size: int, members: int) -> None:
    whole = list(EpochSampler(size, batch_size, seed=2))
    shares = [
        list(EpochSampler(size, batch_size, seed=2, group=ProcessGroup(rank, members))) for rank in range(members)
    ]
    # the shares of each batch follow each other in the order of the ranks
    assert [sum(parts, []) for parts in zip(*shares, strict=True)] == whole
    sizes = [len(batch) for batches in shares for batch in batches]
    assert min(sizes) > 0 and max(sizes) - min(sizes) <= 2


def test_a_set_too_large_to_be_shuffled_as_a_whole_is_read_by_shards() -> None:
    """200,000 samples in 200 shards: each once an epoch, few shards in use at a time, other orders in other epochs."""
    shards = [f"{index // 1000:03d}.tar" for index in range(200_000)]
    sampler = EpochSampler(200_000, 1000, seed=1, shards=shards)
    batches = sampler.batches()
    assert sorted(index for batch in batches for index in batch) == list(range(200_000))
    in_use = [len({shards[index] for batch in batches[start : start + 5] for index in batch}) for start in (0, 100)]
    whole = EpochSampler(200_000, 1000, seed=1).batches()
    assert max(in_use) < 100 and len({shards[index] for batch in whole[:5] for index in batch}) == 200
    # of two processes, the shares are those of one
    halves = [list(EpochSampler(200_000, 1000, seed=1, group=ProcessGroup(rank, 2), shards=shards)) for rank in (0, 1)]
    assert [[index for _, index in a + b] for a, b in zip(*halves, strict=True)] == batches
    sampler.epoch = 1
    assert sampler.batches() != batches


def test_a_process_without_an_image_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(CompNetError, match="5 processes have too little to do: there are batches of 4 images"):
        train(TINY, tiny_data, tmp_path / "run", processes=5, **options())  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_the_calibration_split_joins_the_training_images_when_asked(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[tuple[bool, int], set[str]] = {}
    view = CropDataset.crop_at

    def watched(crops: CropDataset, index: int, epoch: int = 0) -> Crop:
        seen.setdefault((torch.is_grad_enabled(), epoch), set()).add(str(crops.samples[index].image))
        return view(crops, index, epoch)

    monkeypatch.setattr(CropDataset, "crop_at", watched)
    recipe = TINY.with_settings({"schedule.held_out_epochs": 2})
    train(recipe, tiny_data, tmp_path / "whole", **options())  # type: ignore[arg-type]
    before, after = seen[True, 0], seen[True, 2]
    assert len(before) == 12 and seen[True, 1] == before
    assert len(after) == 16 and seen[True, 3] == after and before < after
    looked_at = {name for (training, _), names in seen.items() if not training for name in names}
    assert looked_at == after - before
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert ["calibration_accuracy" in entry for entry in log] == [False, True, False, False]
    monkeypatch.undo()
    for stop in (1, 2, 3, None):
        train(recipe, tiny_data, tmp_path / "parts", resume=stop != 1, stop_after=stop, **options())  # type: ignore[arg-type]
    whole, parts = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    config = (tmp_path / "whole" / "model" / "config.json").read_text()
    assert config == (tmp_path / "parts" / "model" / "config.json").read_text()
    assert json.loads(config)["temperature"] != CompNetConfig.temperature


PAIR = TINY.with_settings({"schedule.processes": 2, "schedule.epochs": 2})


def test_two_processes_resume_to_the_same_bits(tiny_data: Path, tmp_path: Path) -> None:
    train(PAIR, tiny_data, tmp_path / "whole", **options())  # type: ignore[arg-type]
    train(PAIR, tiny_data, tmp_path / "halves", stop_after=1, **options())  # type: ignore[arg-type]
    train(PAIR, tiny_data, tmp_path / "halves", resume=True, **options(workers=1))  # type: ignore[arg-type]
    whole, halves = tensors(tmp_path / "whole"), tensors(tmp_path / "halves")
    assert whole.keys() == halves.keys()
    for name in whole:
        assert torch.equal(whole[name], halves[name]), name


def test_a_broken_image_stops_both_processes_with_its_name(tiny_data: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_data, tmp_path / "data")
    for path in (tmp_path / "data" / "images" / "brick").glob("*i0*"):
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CompNetError, match="brick_i0"):
        train(PAIR, tmp_path / "data", tmp_path / "run", **options())  # type: ignore[arg-type]
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_pretrained_weights_are_found_beside_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights" / "vit-tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    monkeypatch.delenv("COMPNET3D_WEIGHTS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert find_weights(("vit-tiny", "hub/name"), tmp_path / "data" / "set").name == "vit-tiny"  # type: ignore[union-attr]
    assert find_weights(("other", "hub/name"), tmp_path / "data" / "set") == "hub/name"


def test_a_run_is_repeated_from_its_config_alone(whole_run: Path, tmp_path: Path) -> None:
    config = json.loads((whole_run / "config.json").read_text())
    recipe = get_recipe(str(whole_run / "config.json"))
    assert recipe == TINY
    train(recipe, config["data"], tmp_path / "again", seed=config["seed"], **options())  # type: ignore[arg-type]
    first, again = tensors(whole_run), tensors(tmp_path / "again")
    assert all(torch.equal(first[name], again[name]) for name in first)
    (tmp_path / "config.json").write_text('{"recipe": {"name": "x"}}')
    with pytest.raises(CompNetError, match="holds no recipe"):
        get_recipe(str(tmp_path / "config.json"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("loss.classification_cells", 0, "at least 1"), ("loss.classification_weight", -0.1, "at least 0"),
     ("schedule.batch_size", 0, "at least 1"),
     ("loss.negative_poses", None, "at least 1"), ("loss.pose_contrastive_weight", math.nan, "at least 0"),
     ("bank.momentum", 1, "at least 0 and below 1"), ("schedule.calibration_fraction", -0.1, "at least 0")],
)  # fmt: skip
def test_a_recipe_that_cannot_be(tmp_path: Path, field: str, value: float, message: str) -> None:
    noted = RECIPES["robust"].to_dict()
    part, name = field.split(".")
    noted[part][name] = value
    write_json(tmp_path / "own.json", {"recipe": noted})
    with pytest.raises(CompNetError, match=f"own.json: the recipe's {field} must be {message}.*not {value}"):
        get_recipe(str(tmp_path / "own.json"))
    for name in RECIPES:
        assert Recipe.from_dict(json.loads(json.dumps(RECIPES[name].to_dict()))) == RECIPES[name]


def test_recipes_hold_the_papers_numbers() -> None:
    for name in ("imagenet3d-resnet50", "imagenet3d-vitb14"):
        recipe = get_recipe(name)
        assert (recipe.model.vertex_count, recipe.loss.samples_per_category, recipe.bank.background_size) == (
            500,
            32,
            2560,
        )
        assert (
            recipe.bank.momentum,
            recipe.bank.background_per_image,
            recipe.schedule.epochs,
            recipe.backbone.dimension,
        ) == (0.9, 5, 12, 128)
        assert (recipe.schedule.calibrate_every, recipe.grouping.threshold) == (2, 0.05)
        assert recipe.loss.kappa == pytest.approx(14.3, abs=0.02)
    assert (RECIPES["imagenet3d-resnet50"].input.height, RECIPES["imagenet3d-resnet50"].input.width) == (640, 800)
    assert (RECIPES["imagenet3d-vitb14"].input.height, RECIPES["imagenet3d-vitb14"].input.width) == (644, 812)
    with pytest.raises(CompNetError, match="quickstart"):
        get_recipe("nothing")


def test_training_says_when_it_waits_for_images() -> None:
    entry = {"epoch": 3, "seconds": 20.0, "input_wait_seconds": 1.0}
    assert waiting_advice(entry, workers=2) is None  # 5 % is fine
    advice = waiting_advice({**entry, "input_wait_seconds": 5.0}, workers=2)
    assert advice is not None and "epoch 3" in advice and "25 %" in advice and "more than 2 --workers" in advice
    assert waiting_advice({**entry, "input_wait_seconds": 20.0}, workers=0) is None
    assert waiting_advice({**entry, "seconds": 0.0, "input_wait_seconds": 0.0}, workers=1) is None
