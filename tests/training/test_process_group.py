"""Teams of processes: the collectives against plain sums, and failures that must reach the user as one sentence."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from compnet3d.errors import CompNetError
from compnet3d.training.process_group import FlatGradients, ProcessGroup, start_process_group

HERE = Path(__file__).parent


# -- what the workers run: this module is imported by them ---------------------------------------------------------


def collect(group: ProcessGroup, out: str) -> None:
    """Use every collective once and write down what came back."""
    results = collectives(group)
    Path(out, f"{group.rank}.json").write_text(json.dumps({name: value.tolist() for name, value in results.items()}))


def collectives(group: ProcessGroup) -> dict[str, Tensor]:
    mean = torch.tensor([1.0, 10.0]) * (group.rank + 1)
    group.average([mean])
    rows = torch.full((group.rank + 2, 3), float(group.rank))
    gathered, numbers = group.gather(rows, torch.arange(len(rows)) + 100 * group.rank)
    (empty,) = group.gather(torch.zeros(group.rank, 2))
    return {"mean": mean, "gathered": gathered, "numbers": numbers, "empty": empty}


def weighted(group: ProcessGroup, out: str) -> None:
    """Average the gradients of sums over rank + 1 terms, each of them (rank + 1) times the parameter."""
    Path(out, f"{group.rank}.json").write_text(json.dumps(weighted_gradient(group)))


def weighted_gradient(group: ProcessGroup) -> list[float]:
    parameter = torch.nn.Parameter(torch.zeros(2))
    flat = FlatGradients([parameter])
    count = group.rank + 1
    (count * (count * parameter).sum()).backward()
    flat.average(group, torch.tensor(count))
    assert parameter.grad is not None
    return parameter.grad.tolist()


def refuse(group: ProcessGroup) -> None:
    raise CompNetError("image.png: cannot be read; replace it")


def crash(group: ProcessGroup) -> None:
    raise ZeroDivisionError("a mistake in the code")


def crash_if_last(group: ProcessGroup) -> None:
    if group.rank == group.size - 1:
        raise ZeroDivisionError("a mistake of the last one")
    group.average([torch.zeros(1)])


def wait_for_ever(group: ProcessGroup) -> None:
    group.average([torch.zeros(1)])
    time.sleep(600)


@pytest.fixture
def visible_to_followers(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(HERE))
    return "test_process_group"


# -- tests -----------------------------------------------------------------------------------------------------------


def test_collectives_of_three_processes(visible_to_followers: str, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    with start_process_group(3, f"{visible_to_followers}:collect", {"out": str(tmp_path)}) as group:
        assert group.is_rank_zero and group.size == 3
        mine = {name: value.tolist() for name, value in collectives(group).items()}
    assert mine["mean"] == [2.0, 20.0]
    assert mine["gathered"] == [[0.0] * 3] * 2 + [[1.0] * 3] * 3 + [[2.0] * 3] * 4
    assert mine["numbers"] == [0, 1, 100, 101, 102, 200, 201, 202, 203]
    assert mine["empty"] == [[0.0, 0.0]] * 3
    for rank in (1, 2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == mine
    assert torch.get_num_threads() == threads


def test_gradients_are_averaged_over_all_terms(visible_to_followers: str, tmp_path: Path) -> None:
    with start_process_group(3, f"{visible_to_followers}:weighted", {"out": str(tmp_path)}) as group:
        mine = weighted_gradient(group)
    # one term of gradient 1, two of 2, three of 3
    assert mine == pytest.approx([(1 + 4 + 9) / 6] * 2)
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (1, 2)] == [mine, mine]
    assert weighted_gradient(ProcessGroup()) == [1.0, 1.0]


def test_no_terms_leave_no_gradient() -> None:
    flat = FlatGradients([torch.nn.Parameter(torch.ones(3))])
    flat.average(ProcessGroup(), torch.tensor(0))
    assert flat.vector.tolist() == [0.0, 0.0, 0.0]


def test_a_team_of_one_talks_to_nobody() -> None:
    with start_process_group(1, "no.such.module:nothing", {}) as group:
        results = collectives(group)
    assert results["mean"].tolist() == [1.0, 10.0]
    assert results["gathered"].shape == (2, 3)
    assert group.shard([3, 4, 5]) == [3, 4, 5]


def test_shares_cover_everything_once() -> None:
    items = list(range(11))
    shares = [ProcessGroup(rank, 4).shard(items) for rank in range(4)]
    assert sorted(i for share in shares for i in share) == items
    assert {len(share) for share in shares} == {2, 3}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("refuse", r"^image.png: cannot be read; replace it$"),
        ("crash", "a mistake in the code"),
        ("crash_if_last", "a mistake of the last one"),
        ("no_such_function", "no_such_function"),
    ],
)
def test_what_ends_a_worker_is_reported_by_rank_0(visible_to_followers: str, function: str, message: str) -> None:
    with (
        pytest.raises(CompNetError, match=message),
        start_process_group(3, f"{visible_to_followers}:{function}", {}) as group,
    ):
        group.average([torch.zeros(1)])


def test_an_error_of_the_leader_ends_the_followers(visible_to_followers: str) -> None:
    started = time.monotonic()
    with (
        pytest.raises(CompNetError, match="mine"),
        start_process_group(2, f"{visible_to_followers}:wait_for_ever", {}) as group,
    ):
        group.average([torch.zeros(1)])
        raise CompNetError("mine")
    assert time.monotonic() - started < 120


def test_flat_gradients_are_the_parameters_gradients() -> None:
    torch.manual_seed(3)
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4, 2))
    layers[0].weight.data = layers[0].weight.data.contiguous(memory_format=torch.channels_last)
    images = torch.randn(5, 3, 3, 3)
    expected = torch.autograd.grad(layers(images).square().sum(), list(layers.parameters()))
    flat = FlatGradients(layers.parameters())
    for _ in range(2):  # the second round must not add to the first
        flat.clear()
        layers(images).square().sum().backward()
    for parameter, gradient in zip(layers.parameters(), expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient)
    norm = torch.cat([g.flatten() for g in expected]).norm()
    assert flat.vector.norm() == pytest.approx(float(norm), rel=1e-5)
    flat.clip(float(norm) * 2)
    assert flat.vector.norm() == pytest.approx(float(norm), rel=1e-5)
    flat.clip(float(norm) / 2)
    assert flat.vector.norm() == pytest.approx(float(norm) / 2, rel=1e-4)
    assert layers[0].weight.grad is not None and layers[0].weight.grad.norm() < expected[0].norm()
