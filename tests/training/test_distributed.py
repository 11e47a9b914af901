"""Several processes that train one model, by gloo: what they tell each other, and that they learn what one would."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.loader import CropDataset
from compnet3d.errors import CompNetError, Terminated
from compnet3d.evaluation.crops import Loading
from compnet3d.evaluation.evaluate import evaluate
from compnet3d.evaluation.unseen import evaluate_unseen, unseen_samples
from compnet3d.models.registry import TrainedModel, load_predictor
from compnet3d.robustness.shift import Shift
from compnet3d.training import launch as training_launch
from compnet3d.training import loop
from compnet3d.training import step as training_step
from compnet3d.training.batch_statistics import share_statistics
from compnet3d.training.build import make_optimizer
from compnet3d.training.builtin_recipes import get_recipe
from compnet3d.training.data import TrainingData
from compnet3d.training.data_parallel import checksum, in_parallel
from compnet3d.training.job import resolve_job
from compnet3d.training.objectives import objective_of
from compnet3d.training.recipe import Recipe
from compnet3d.training.recipe_parts import ScheduleSettings
from compnet3d.training.run_folder import Progress, Run, read_log
from compnet3d.training.sampler import EpochSampler
from compnet3d.training.step import LossOf, train_step
from compnet3d.training.train import train
from compnet3d.utils.distributed import STORE_OF_RANK_ZERO, LostRankError, ProcessGroup, joined
from tests.networks import TINY_RECIPE
from tests.training.ranks import in_ranks

QUIET: Any = {"workers": 0, "progress": False}
RECIPE = replace(
    TINY_RECIPE, schedule=ScheduleSettings(epochs=2, batch_size=6, calibration_fraction=0.2, held_out_epochs=1)
)
EVERYTHING = RECIPE.with_settings(
    {
        "loss.classification_weight": 0.5,
        "loss.classification_cells": 7,
        "loss.pose_contrastive_weight": 0.7,
        "loss.flip_negatives": 0.5,
        "loss.queries_per_image": 5,
    }
)


# -- what they tell each other -------------------------------------------------------------------------------------


def test_what_members_tell_each_other() -> None:
    def work(group: ProcessGroup) -> Any:
        rank = group.rank
        # 3, 0 and 1 rows of several types and shapes
        count = (3, 0, 1)[rank]
        rows = group.gather(
            torch.arange(count) + 10 * rank,
            torch.full((count, 2, 2), rank + 0.5),
            torch.ones(count, dtype=torch.bool),
        )
        nothing = group.gather(torch.zeros(0, 4))
        # more than a header has room for, and where all know how much
        many = torch.arange(3000 * rank).view(-1, 3)
        (long,) = group.gather(many)
        (known,) = group.gather_later(many, counts=[0, 1000, 2000])()
        assert torch.equal(long, known) and group.gather_later(many[:0], counts=[0, 0, 0])()[0].shape == (0, 3)
        assert torch.equal(known, torch.cat([torch.arange(3000), torch.arange(6000)]).view(-1, 3))
        # of two members that have nothing, and a third whose rows are of another type
        (late,) = group.gather(torch.tensor([[0.1]], dtype=torch.float64) if rank == 2 else torch.zeros(0, 1))
        assert late.dtype == torch.float64 and late.tolist() == [[0.1]]
        numbers = torch.tensor([1.0, 10.0]) * (rank + 1)
        return (
            rows,
            nothing[0].shape,
            group.mean(numbers).tolist(),
            int(group.sum(torch.tensor(rank))),
            numbers.tolist(),
            [group.agrees(torch.tensor([1, 2])), group.agrees(torch.tensor([1, int(rank == 2)]))],
            group.shard("abcdefgh"),
        )

    found = in_ranks(3, work)
    for rank, (rows, empty, mean, total, numbers, agreed, _) in enumerate(found):
        assert rows[0].tolist() == [0, 1, 2, 20]
        assert rows[1].shape == (4, 2, 2) and rows[1][:, 0, 1].tolist() == [0.5, 0.5, 0.5, 2.5]
        assert rows[2].dtype == torch.bool and rows[2].tolist() == [True] * 4
        assert empty == (0, 4) and mean == [2.0, 20.0] and total == 3 and agreed == [True, False]
        assert numbers == [rank + 1.0, 10.0 * (rank + 1)]
    assert "".join(share for *_, share in found) == "abcdefgh"


def test_a_group_of_one_keeps_what_it_is_given() -> None:
    group, rows = ProcessGroup(), torch.rand(3, 2)
    assert group.gather(rows)[0] is rows and group.mean(rows) is rows and group.sum(rows) is rows
    assert group.agrees(rows) and group.shard([1, 2]) == [1, 2] and group.is_rank_zero


def test_a_mean_has_the_same_bits_wherever_in_a_message_a_number_lies() -> None:
    generator = torch.Generator().manual_seed(0)
    # more than are sent to all, and no multiple of three
    numbers = torch.randn(3, 70_001, generator=generator) * torch.logspace(-3, 3, 70_001)
    order = torch.randperm(70_001, generator=generator)

    def work(group: ProcessGroup) -> list[tuple[Tensor, Tensor, Tensor]]:
        own = numbers[group.rank]
        return [(group.mean(own), group.mean(own[order])[order.argsort()], group.mean(own[:4000].view(40, 100)))]

    expected = ((numbers[0] + numbers[1]) + numbers[2]) / 3
    for ((mean, shuffled, few),) in in_ranks(3, work):
        assert torch.equal(mean, expected) and torch.equal(shuffled, expected)
        assert torch.equal(few, expected[:4000].view(40, 100))


def test_a_member_that_has_gone_is_noticed() -> None:
    def work(group: ProcessGroup) -> str:
        group.sum(torch.ones(1))
        if group.rank == 1:
            return "gone"
        with pytest.raises(LostRankError, match="cannot be reached any more"):
            for _ in range(50):
                group.sum(torch.ones(1))
        return "noticed"

    assert in_ranks(2, work) == ["noticed", "gone"]


def test_one_that_has_gone_is_noticed_in_the_backward_pass() -> None:
    """`DistributedDataParallel` raises torch's own error, which the command line would call a fault of ours."""

    def work(group: ProcessGroup) -> str:
        model = in_parallel(nn.Linear(3, 2), group, some_unused=False)
        if group.rank == 1:
            return "gone"
        with pytest.raises(LostRankError, match="what it printed says why"), joined("cpu"):
            for _ in range(50):
                model(torch.ones(1, 3)).sum().backward()
        with pytest.raises(RuntimeError, match="^of ours$"), joined("cpu"):
            raise RuntimeError("of ours")
        return "noticed"

    assert in_ranks(2, work) == ["noticed", "gone"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bfloat16, torch.bool])
def test_a_checksum_changes_with_any_bit_and_with_the_order(dtype: torch.dtype) -> None:
    tensor = (10 * torch.rand(5, 7, generator=torch.Generator().manual_seed(1))).to(dtype)
    tensor[0, 0] = 1
    tensor[4, 6] = 0
    same, flipped, swapped = tensor.clone(), tensor.clone(), tensor.clone()
    flipped.view(torch.uint8).flatten()[0] ^= 1
    swapped[0, 0], swapped[4, 6] = tensor[4, 6], tensor[0, 0]
    first, second, third, fourth = (int(checksum([one])) for one in (tensor, same, flipped, swapped))
    assert first == second and third != first and fourth != first


# -- statistics and gradients of the whole batch -------------------------------------------------------------------


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("momentum", [0.3, None])
def test_batch_norm_is_that_of_the_whole_batch(affine: bool, momentum: float | None) -> None:
    """Against `BatchNorm2d` on one process: output, gradients and running statistics, over shares of unequal size."""
    generator = torch.Generator().manual_seed(0)
    # a mean far larger than the deviation, as features have before they are centred
    images = 30 + torch.randn(7, 3, 4, 5, generator=generator)
    outer = torch.randn(7, 3, 4, 5, generator=generator)
    layer = nn.BatchNorm2d(3, affine=affine, momentum=momentum)
    if affine:
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([0.5, -2.0, 1.0]))
            layer.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))

    def run(some: nn.BatchNorm2d, part: slice) -> dict[str, Tensor]:
        given = images[part].clone().requires_grad_()
        output = some(given)
        output.backward(outer[part])
        some(2 * images[part])
        some.eval()
        found = {"output": output.detach(), "evaluated": some(images[:1]).detach()}
        assert given.grad is not None and some.running_mean is not None and some.running_var is not None
        found |= {"gradient": given.grad, "mean": some.running_mean, "variance": some.running_var}
        if affine:
            assert some.weight.grad is not None and some.bias.grad is not None
            found |= {"weight": some.weight.grad, "bias": some.bias.grad}
        return found

    def work(group: ProcessGroup) -> dict[str, Tensor]:
        own = copy.deepcopy(layer)
        share_statistics(own, group)
        rows = group.shard(range(7))
        return run(own, slice(rows[0], rows[-1] + 1))

    whole, parts = run(copy.deepcopy(layer), slice(0, 7)), in_ranks(3, work)
    close = {"rtol": 1e-4, "atol": 1e-5}
    for name in ("output", "gradient"):
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), whole[name], **close)
    for name in ("weight", "bias") if affine else ():
        torch.testing.assert_close(sum(part[name] for part in parts), whole[name], **close)
    for part in parts:
        for name in ("mean", "variance", "evaluated"):
            torch.testing.assert_close(part[name], whole[name], **close)
            assert torch.equal(part[name], parts[0][name])


@pytest.fixture(scope="module")
def made(tiny_data: Path) -> Callable[[Recipe], tuple[TrainedModel, list[Any]]]:
    """A recipe's model, untrained, and the crops of its first batch of ten, an uneven mixture of categories."""

    def make(recipe: Recipe) -> tuple[TrainedModel, list[Any]]:
        data = TrainingData.read(tiny_data)
        torch.manual_seed(0)
        extractor = loop.make_extractor(recipe, tiny_data, None, False)
        extractor.amp = False
        model = loop.make_model(recipe, data.meshes, data.samples, extractor)
        crops = CropDataset(data.samples, data.categories, model.input_config, augmentation=recipe.augmentation)
        return model, [crops[0, index] for index in EpochSampler(len(crops), 10, 0).batches()[0]]

    return make


def one_step(recipe: Recipe, model: TrainedModel, items: list[Any], group: ProcessGroup) -> dict[str, Tensor]:
    """What is learned and logged in two steps on one batch; the second has a background ring to compare with."""
    share_statistics(model, group)
    run = Run(recipe, 0, Path(), model.train(), make_optimizer(model, recipe), group)
    loss_of = in_parallel(LossOf(model, objective_of(recipe), group), group, some_unused=False)
    batch = torch.utils.data.default_collate(group.shard(items))
    found: dict[str, Tensor] = {}
    for number in range(2):
        # the gradient of Adam's first step is only its sign, which rounding may turn where it is nearly zero
        run.optimizer.param_groups[0]["lr"] = run.optimizer.param_groups[-1]["lr"] = 0.0
        losses = train_step(run, loss_of, batch, seed=5)
        found |= {f"{number} {name}": loss for name, loss in losses.items()}
    found |= {name: buffer for name, buffer in model.named_buffers() if "tracked" not in name}
    found |= {f"gradient of {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert all(group.agrees(number) for number in checksum(model.state_dict().values()))
    return {name: tensor.detach().double() for name, tensor in found.items()}


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("kind", ["compnet", "novum", "bins"])
def test_a_step_is_the_same_for_any_number_of_processes(
    kind: str, size: int, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compnet3d.inference.matching.bf16_is_fast", lambda: False)
    if kind == "compnet":
        recipe: Recipe = EVERYTHING
    else:
        of_kind = get_recipe("quickstart-novum" if kind == "novum" else "quickstart-heads")
        recipe = replace(of_kind, input=RECIPE.input, backbone=RECIPE.backbone, schedule=RECIPE.schedule)
    model, items = made(recipe)
    whole = one_step(recipe, copy.deepcopy(model), items, ProcessGroup())
    parts = in_ranks(size, lambda group: one_step(recipe, model, items, group))
    assert {"0 loss", "1 loss"} <= whole.keys()
    if kind == "compnet":
        assert all(float(whole[f"1 {name}"]) > 0 for name in ("classification_loss", "pose_contrastive_loss"))
    for part in parts:
        assert part.keys() == whole.keys()
        for name, expected in whole.items():
            assert float((part[name] - expected).norm()) <= 1e-5 * max(1.0, float(expected.norm())), name


def test_shares_with_statistics_of_their_own(tiny_data: Path, tmp_path: Path) -> None:
    """All members have one model after each step all the same, and a run that is stopped ends with the same bits."""
    recipe = RECIPE.with_settings({"backbone.whole_batch_statistics": False, "schedule.processes": 2})
    job = resolve_job(recipe, tiny_data, tmp_path / "run", checkpoint_minutes=0.0, **QUIET)
    (tmp_path / "run").mkdir()

    def work(group: ProcessGroup) -> tuple[list[bool], list[Tensor]]:
        agreed: list[bool] = []
        step = training_step.train_step

        def stepping(run: Run, *arguments: Any, **options: Any) -> Any:
            # it is heeded after the step in which it comes
            if group.is_rank_zero and run.epoch == 1 and run.part is not None:
                os.kill(os.getpid(), signal.SIGTERM)
            found = step(run, *arguments, **options)
            agreed.append(group.agrees(checksum(run.model.state_dict().values())))
            return found

        loop.train_step = stepping  # in this process, which ends here
        with pytest.raises(Terminated):
            loop.train_in_group(group, job)
        loop.train_step = step
        model = loop.train_in_group(group, replace(job, resume=True))
        return agreed, [layer.running_mean for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]  # type: ignore[misc]

    (agreed, first), (_, second) = in_ranks(2, work)
    assert len(agreed) == 4 and all(agreed)
    assert len(first) > 1 and all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    train(recipe, tiny_data, tmp_path / "whole", **QUIET)
    assert_same(tmp_path / "run", tmp_path / "whole")
    # else the setting would do nothing
    train(recipe.with_settings({"backbone.whole_batch_statistics": True}), tiny_data, tmp_path / "other", **QUIET)
    one, other = tensors(tmp_path / "whole"), tensors(tmp_path / "other")
    assert any(not torch.allclose(one[name].float(), other[name].float(), atol=1e-3) for name in one)


def test_parts_without_use_are_no_obstacle() -> None:
    """A module whose second layer has no part in the result, as a backbone's last norm may."""

    class Some(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(2, 1), nn.Linear(2, 1)

        def forward(self, values: Tensor) -> Tensor:
            return self.used(values).sum()

    def work(group: ProcessGroup) -> Tensor:
        torch.manual_seed(group.rank)
        module = Some()
        wrapped = in_parallel(module, group, some_unused=True)
        for _ in range(3):
            module.zero_grad()
            wrapped(torch.full((1, 2), float(group.rank))).backward()
        assert module.used.weight.grad is not None
        return torch.stack([module.used.weight.grad, module.used.weight.detach()])

    first, second = in_ranks(2, work)
    assert first[0].tolist() == [[0.5, 0.5]] and torch.equal(first, second)


# -- whole trainings -----------------------------------------------------------------------------------------------


def tensors(out: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(out / "model" / "model.safetensors")


def assert_same(first: Path, second: Path) -> None:
    """The models of two runs, to the bit, and their logs, but for what took how long."""
    one, other = tensors(first), tensors(second)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    timings = {"seconds", "images_per_second", "input_wait_seconds"}
    logs = [
        [{name: value for name, value in entry.items() if name not in timings} for entry in read_log(out / "log.jsonl")]
        for out in (first, second)
    ]
    assert logs[0] == logs[1]


def end_in(monkeypatch: pytest.MonkeyPatch, epoch: int, step: int, number: int = signal.SIGTERM) -> None:
    """Let a signal come while a step is done, once."""
    steps = {"done": 0}

    def interrupted(run: Run, *arguments: Any, **options: Any) -> Any:
        if run.epoch == epoch:
            steps["done"] += 1
            if steps["done"] == step:
                os.kill(os.getpid(), number)
        return training_step.train_step(run, *arguments, **options)

    monkeypatch.setattr(loop, "train_step", interrupted)


@pytest.fixture(scope="module")
def whole_run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(RECIPE, tiny_data, out, **QUIET)
    return out


@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (1, 2)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_a_training_after_its_step(
    number: int,
    epoch: int,
    step: int,
    tiny_data: Path,
    whole_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(number)
    end_in(monkeypatch, epoch, step, number)
    name = signal.Signals(number).name
    with pytest.raises(Terminated, match=f"stopped by {name} after step {step} of epoch {epoch + 1}, which the check"):
        train(RECIPE, tiny_data, tmp_path / "run", **QUIET)
    assert signal.getsignal(number) == before
    progress = Progress.read(tmp_path / "run" / "checkpoint" / "progress.json")
    assert progress.epoch == epoch and progress.part is not None and progress.part.steps == step
    assert not (tmp_path / "run" / "model").exists()
    monkeypatch.undo()
    train(RECIPE, tiny_data, tmp_path / "run", resume=True, **QUIET)
    assert_same(tmp_path / "run", whole_run)


def test_checkpoints_are_written_in_the_middle_of_an_epoch(
    tiny_data: Path, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the process is killed in the next step: what is in the checkpoint is not trained again."""
    seen: list[tuple[int, int]] = []

    def dying(run: Run, *arguments: Any, **options: Any) -> Any:
        seen.append((run.epoch, run.part.steps if run.part else 0))
        if seen[-1] == (1, 2):
            raise KeyboardInterrupt
        return training_step.train_step(run, *arguments, **options)

    monkeypatch.setattr(loop, "train_step", dying)
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, tiny_data, tmp_path / "run", checkpoint_minutes=0.0, **QUIET)
    assert seen[-3:] == [(1, 0), (1, 1), (1, 2)]
    monkeypatch.setattr(loop, "train_step", lambda run, *a, **o: seen.append((run.epoch, run.part.steps))  # type: ignore[func-returns-value]
                        or training_step.train_step(run, *a, **o))  # fmt: skip
    train(RECIPE, tiny_data, tmp_path / "run", resume=True, **QUIET)
    assert seen.count((1, 1)) == 1 and seen.count((1, 2)) == 2
    assert_same(tmp_path / "run", whole_run)


def test_a_model_that_is_not_sound_replaces_no_checkpoint(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has become infinite in the middle of an epoch, where a checkpoint is due after each step."""

    def spoilt(run: Run, *arguments: Any, **options: Any) -> Any:
        found = training_step.train_step(run, *arguments, **options)
        if run.epoch == 1 and run.part is None:
            next(run.model.parameters()).data.fill_(torch.inf)
        return found

    monkeypatch.setattr(loop, "train_step", spoilt)
    with pytest.raises(CompNetError, match="is not finite .the checkpoint of epoch 1 is kept"):
        train(RECIPE, tiny_data, tmp_path / "run", checkpoint_minutes=0.0, **QUIET)
    progress = Progress.read(tmp_path / "run" / "checkpoint" / "progress.json")
    assert progress.epoch == 1 and progress.part is None


@pytest.fixture(scope="module")
def pair_run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained by two processes, which this one has started."""
    out = tmp_path_factory.mktemp("runs") / "pair"
    model = train(RECIPE, tiny_data, out, processes=2, **QUIET)
    assert {name: tensor.sum() for name, tensor in model.state_dict().items()}.keys() == tensors(out).keys()
    return out


def test_processes_that_are_started_learn_what_those_of_a_launcher_learn(
    tiny_data: Path, pair_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"

    def work(group: ProcessGroup) -> tuple[Tensor, bool]:
        model = train(RECIPE, tiny_data, out, **QUIET)
        return checksum(model.state_dict().values()), model.training

    first, second = in_ranks(2, work)
    assert torch.equal(first[0], second[0]) and not first[1]
    assert_same(out, pair_run)
    assert not list(out.glob(".compnet3d*"))


def test_a_run_goes_on_with_another_number_of_processes(tiny_data: Path, tmp_path: Path, whole_run: Path) -> None:
    out = tmp_path / "run"
    job = resolve_job(RECIPE, tiny_data, out, stop_after=1, processes=3, **QUIET)
    out.mkdir()
    in_ranks(3, lambda group: loop.train_in_group(group, job).training)
    train(RECIPE, tiny_data, out, resume=True, **QUIET)
    # the same images in the same batches: the losses of either epoch are those of one process, but for rounding
    for one, other in zip(read_log(out / "log.jsonl"), read_log(whole_run / "log.jsonl"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.02)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_process_ends_all(
    rank: int, tiny_data: Path, pair_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    job = resolve_job(RECIPE, tiny_data, out, processes=2, **QUIET)
    out.mkdir()

    def work(group: ProcessGroup) -> str:
        if group.rank == rank:
            end_in(monkeypatch, 1, 1)
        with pytest.raises(Terminated) as end:
            loop.train_in_group(group, job)
        return str(end.value)

    said = in_ranks(2, work)
    assert all("after step 1 of epoch 2, which the checkpoint holds" in text for text in said)
    assert [text.startswith("stopped by SIGTERM") for text in said] == [rank == 0, rank == 1]
    in_ranks(2, lambda group: loop.train_in_group(group, replace(job, resume=True)).training)
    assert_same(out, pair_run)


def test_processes_that_learn_different_things_stop(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bit of one process's bank is turned in a step; the comparison comes every 100 steps, here after each."""
    out = tmp_path / "run"
    job = resolve_job(RECIPE, tiny_data, out, processes=2, **QUIET)
    out.mkdir()
    monkeypatch.setattr(loop, "STEPS_BETWEEN_COMPARISONS", 1)

    def work(group: ProcessGroup) -> str:
        def turning(run: Run, *arguments: Any, **options: Any) -> Any:
            found = training_step.train_step(run, *arguments, **options)
            if group.rank == 1:
                run.model.bank.background_features.view(torch.int32)[0, 0] ^= 1
            return found

        monkeypatch.setattr(loop, "train_step", turning)
        with pytest.raises(CompNetError) as error:
            loop.train_in_group(group, job)
        return str(error.value)

    said = in_ranks(2, work)
    assert all("have learned different things (tensor bank.background_features)" in text for text in said)
    assert not (out / "checkpoint").exists()


def test_the_launcher_opens_a_store_for_each_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept, it would name the places of processes that have died; `tools/faults.py --only "rank killed"` kills some."""
    monkeypatch.delenv(STORE_OF_RANK_ZERO, raising=False)
    monkeypatch.setenv("TORCHELASTIC_SIGNALS_TO_HANDLE", "SIGINT")
    with training_launch._undisturbed():
        assert os.environ[STORE_OF_RANK_ZERO] == "1"
        os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGUSR1"
    assert STORE_OF_RANK_ZERO not in os.environ and os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] == "SIGINT"


def test_processes_that_see_different_images_are_refused(tiny_data: Path) -> None:
    samples = ImageNet3D(tiny_data).samples("train")

    def work(group: ProcessGroup) -> str:
        # as many, one of them twice
        other = [*samples[:-1], samples[0]] if group.rank == 1 else samples
        loop.require_one_data_set(group, samples, torch.device("cpu"))
        with pytest.raises(CompNetError) as refusal:
            loop.require_one_data_set(group, other, torch.device("cpu"))
        return str(refusal.value)

    for message in in_ranks(2, work):
        assert f"({len(samples)}, {len(samples)} of them, by rank)" in message


def test_what_one_of_the_started_processes_refuses_is_one_sentence(tiny_maker: Any, tmp_path: Path) -> None:
    data = tiny_maker(tmp_path / "data")
    for path in (data / "images" / "brick").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CompNetError, match="images/brick.*cannot be read|brick_i") as error:
        train(RECIPE, data, tmp_path / "run", processes=2, **QUIET)
    assert "\n" not in str(error.value) and not (tmp_path / "run" / "checkpoint").exists()


def test_networks_with_and_without_parts_of_no_use(tiny_data: Path) -> None:
    from compnet3d.training.memory_need import has_unused

    recipe = RECIPE.with_settings({"backbone.stages": 2})
    model = loop.make_model(
        recipe, (data := TrainingData.read(tiny_data)).meshes, data.samples,
        loop.make_extractor(recipe, tiny_data, None, False),
    )  # fmt: skip
    before = checksum(state := model.state_dict().values())
    assert not has_unused(model) and torch.equal(before, checksum(state))
    model.feature_extractor.register_parameter("idle", nn.Parameter(torch.zeros(1)))  # type: ignore[union-attr]
    assert has_unused(model)
    model.feature_extractor.idle.requires_grad_(False)  # type: ignore[union-attr, operator]
    assert not has_unused(model)


def test_an_evaluation_by_several_processes_is_that_of_one(tiny_data: Path, whole_run: Path) -> None:
    """To the digit: rows, metrics and order; the first process alone draws the progress bar."""
    samples = ImageNet3D(tiny_data).samples("val")
    model = load_predictor(whole_run / "model")
    settings: Any = {"loading": Loading(batch_size=1, progress=False), "shift": Shift(rotation=20.0)}
    alone = evaluate(model, samples, **settings).to_dict()
    found = in_ranks(3, lambda group: evaluate(model, samples, **settings).to_dict())
    for name in ("seconds", "images_per_second", "model_images_per_second", "peak_memory_mb", "resources"):
        for result in (alone, *found):
            result.pop(name, None)
    assert len(samples) >= 3 * 4
    for result in found:
        assert result == alone


def test_unseen_categories_by_several_processes(tiny_data: Path, tmp_path: Path) -> None:
    model = train(RECIPE, tiny_data, tmp_path / "run", without=("tower",), stop_after=1, **QUIET)
    samples = unseen_samples(ImageNet3D(tiny_data).samples("val"), model.categories)
    loading = Loading(batch_size=2, progress=False)
    alone = evaluate_unseen(model, samples, loading=loading)
    for found in in_ranks(2, lambda group: evaluate_unseen(model, samples, loading=loading)):
        assert found.per_category == alone.per_category and found.images == alone.images == len(samples)
    with pytest.raises(pytest.fail.Exception, match="2 images in batches of 2 are too few for 2 processes"):
        in_ranks(2, lambda group: evaluate_unseen(model, samples[:2], loading=loading))
