"""Tuning a grown model on tiny data: what is held is held, and what a step costs is what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compnet3d.data.augment import Augmentation
from compnet3d.errors import CompNetError
from compnet3d.models.compnet import CompNet
from compnet3d.training.batch import Batch
from compnet3d.training.builtin_recipes import get_recipe
from compnet3d.training.data import TrainingData
from compnet3d.training.growing import GrowSettings, add_categories, crops_of, read_new, read_old
from compnet3d.training.objectives import objective_of
from compnet3d.training.recipe_parts import ScheduleSettings
from compnet3d.training.train import train
from compnet3d.training.tuning import KeepingObjective, TuneSettings, tuned
from compnet3d.utils.distributed import ProcessGroup
from tests.networks import TINY_RECIPE

RECIPE = replace(
    TINY_RECIPE,
    schedule=ScheduleSettings(
        epochs=2, batch_size=4, learning_rate=3e-3, head_learning_rate=3e-3, calibration_fraction=0.25
    ),
)
SHORT = TuneSettings(epochs=2, images=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, tiny_maker: Callable[..., Path]) -> Path:
    return tiny_maker(tmp_path_factory.mktemp("tune") / "data", ("board", "brick", "tower"))


@pytest.fixture(scope="module")
def grown(data: Path, tmp_path_factory: pytest.TempPathFactory) -> CompNet:
    out = tmp_path_factory.mktemp("tune") / "run"
    model = train(RECIPE, data, out, without=("board",), workers=0, progress=False)
    assert isinstance(model, CompNet)
    return add_categories(model, read_new(data, model, images=3), settings=GrowSettings(passes=1))


@pytest.fixture(scope="module")
def new(data: Path, grown: CompNet) -> TrainingData:
    every = TrainingData.read(data)
    return every.leaving_out(["brick", "tower"]).drawn(3, 0)


def statistics(model: CompNet) -> list[torch.Tensor]:
    return [buffer.clone() for name, buffer in model.named_buffers() if "running" in name]


def test_without_old_images_the_old_vertices_and_the_statistics_are_held(grown: CompNet, new: TrainingData) -> None:
    before = {name: tensor.clone() for name, tensor in grown.state_dict().items()}
    result = tuned(grown, new, RECIPE, settings=SHORT)
    rows = int(grown.bank.offsets[2])
    assert torch.equal(result.bank.vertex_features[:rows], grown.bank.vertex_features[:rows])
    assert not torch.equal(result.bank.vertex_features[rows:], grown.bank.vertex_features[rows:])
    pairs = zip(statistics(result), statistics(grown), strict=True)
    assert all(torch.equal(*pair) for pair in pairs) and statistics(grown)
    parameters = dict(grown.named_parameters())
    assert any(not torch.equal(parameter, parameters[name]) for name, parameter in result.named_parameters())
    assert not result.training and result.config == grown.config
    assert all(torch.equal(before[name], tensor) for name, tensor in grown.state_dict().items())


def test_with_old_images_the_old_vertices_learn_as_in_training(grown: CompNet, new: TrainingData, data: Path) -> None:
    old = read_old(data, grown).leaving_out(["board"])
    result = tuned(grown, new, RECIPE, old, SHORT)
    for category in range(3):
        assert not torch.equal(result.bank.category_features(category), grown.bank.category_features(category))
    again = tuned(grown, new, RECIPE, old, SHORT)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in result.state_dict().items())


def test_a_larger_weight_keeps_the_network_nearer(grown: CompNet, new: TrainingData) -> None:
    images = torch.randint(0, 256, (4, 3, 48, 48), dtype=torch.uint8)

    def change(keep: float) -> float:
        result = tuned(grown, new, RECIPE, settings=replace(SHORT, epochs=4, keep=keep))
        with torch.no_grad():
            return float((result(images) - grown(images)).norm())

    assert change(1000.0) < change(0.0)


def test_the_loss_has_the_change_of_all_cells(grown: CompNet, new: TrainingData) -> None:
    crops = crops_of(grown, new, Augmentation(), 0)
    batch = Batch.of(torch.utils.data.default_collate([crops[0], crops[1]]), grown.device)
    objective = objective_of(RECIPE)
    keeping = KeepingObjective(objective, grown, 2, weight=3.0)
    plain = objective.loss(grown, batch, torch.Generator().manual_seed(0), ProcessGroup()).by_name["loss"]
    same = keeping.loss(grown, batch, torch.Generator().manual_seed(0), ProcessGroup())
    torch.testing.assert_close(same.by_name["loss"], plain)  # nothing has changed yet
    with torch.no_grad():
        before = grown(batch.images)
        for parameter in keeping.before.parameters():
            parameter.mul_(1.3).add_(0.05)
        other = keeping.before(batch.images)
    expected = 0.0
    for image in range(2):
        for i in range(before.shape[2]):
            for j in range(before.shape[3]):
                expected += 1 - float(before[image, :, i, j] @ other[image, :, i, j])
    expected /= 2 * before.shape[2] * before.shape[3]
    losses = keeping.loss(grown, batch, torch.Generator().manual_seed(0), ProcessGroup())
    found = {name: value.detach() for name, value in losses.by_name.items()}
    assert expected > 0.01 and float(found["change"]) == pytest.approx(expected, rel=1e-3)
    assert float(found["loss"] - plain.detach()) == pytest.approx(3 * expected, rel=1e-2)


def test_a_recipe_of_another_kind_is_refused(grown: CompNet, new: TrainingData) -> None:
    with pytest.raises(CompNetError, match="dual head"):
        tuned(grown, new, get_recipe("quickstart-heads"), settings=SHORT)


def test_a_loss_that_is_not_finite_ends_it_in_a_sentence(grown: CompNet, new: TrainingData) -> None:
    with pytest.raises(CompNetError, match="tuning stops where"):
        tuned(grown, new, RECIPE, settings=replace(SHORT, keep=float("inf")))
