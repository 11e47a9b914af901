"""Training on what is the user's own: samples, a module, a model to start from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.errors import CompNetError
from compnet3d.models.compnet import CompNet
from compnet3d.models.own_module import ModuleExtractor, wrap_module
from compnet3d.models.registry import load_predictor
from compnet3d.training.data import TrainingData
from compnet3d.training.output import duration
from compnet3d.training.recipe import DualHeadRecipe, recipe_like
from compnet3d.training.recipe_parts import (
    CompNetSearchSettings,
    ScheduleSettings,
)
from compnet3d.training.train import train
from tests.networks import TINY_RECIPE

TINY = replace(
    TINY_RECIPE,
    schedule=ScheduleSettings(epochs=2, batch_size=8, learning_rate=3e-3, calibration_fraction=0.25),
    search=CompNetSearchSettings(steps=1, starts=1),
)


class Patches(nn.Module):
    """One patch, one feature."""

    def __init__(self, stride: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, stride, stride=stride)

    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh(self.patches(images))


def train_tiny(data: Any, out: Path, recipe: Any = TINY, **options: Any) -> Any:
    return train(recipe, data, out, workers=0, **{"progress": False, **options})


def samples_of(root: Path) -> TrainingData:
    dataset = ImageNet3D(root)
    meshes = {name: dataset.meshes(name) for name in dataset.categories}
    return TrainingData(dataset.samples("train"), meshes, dataset.symmetry)


@pytest.fixture(scope="module")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("own") / "run"
    train_tiny(tiny_data, out)
    return out


def test_samples_train_the_model_that_their_folder_does(tiny_data: Path, trained: Path, tmp_path: Path) -> None:
    found = train_tiny(samples_of(tiny_data), tmp_path / "run").state_dict()
    expected = CompNet.from_pretrained(trained).state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"] is None


def test_samples_that_nothing_can_be_learned_from_are_refused(tiny_data: Path) -> None:
    data = samples_of(tiny_data)
    brick = [sample for sample in data.samples if sample.category == "brick"]
    with pytest.raises(CompNetError, match="no usable training object in 'tower'"):
        TrainingData(brick, data.meshes)
    with pytest.raises(CompNetError, match="no category to learn"):
        TrainingData([], {})
    with pytest.raises(CompNetError, match="has samples of 'tower' and no mesh of it"):
        TrainingData(data.samples, {"brick": data.meshes["brick"], "slab": data.meshes["brick"]})
    with pytest.raises(CompNetError, match="no category 'car' to leave out"):
        data.leaving_out(["car"])


def test_a_folder_that_nothing_can_be_learned_from_is_refused_naming_the_list(
    tiny_maker: Callable[..., Path], tmp_path: Path
) -> None:
    data = tiny_maker(tmp_path / "data", images=2)
    (data / "lists" / "tower_imagenet_train.txt").write_text("")
    with pytest.raises(CompNetError, match=r"no usable training object in tower; fill lists/tower_imagenet_train.txt"):
        TrainingData.read(data)


def test_a_module_of_the_users_is_trained_saved_and_loaded(tiny_data: Path, tmp_path: Path) -> None:
    module = Patches()
    before = module.patches.weight.detach().clone()
    out = tmp_path / "run"
    model = train_tiny(tiny_data, out, feature_extractor=module)
    assert isinstance(model.feature_extractor, ModuleExtractor) and model.map_size == (6, 6)
    assert not torch.equal(module.patches.weight, before)
    again = CompNet.from_pretrained(out, feature_extractor=Patches())
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    images = torch.randint(256, (2, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.classify_crops(images), model.classify_crops(images))
    assert load_predictor(out, Patches()).config == again.config
    with pytest.raises(CompNetError, match=r"config.json: the feature extractor is a module of your own \(.*Patches\)"):
        load_predictor(out)


def test_a_module_of_the_users_resumes_to_the_same_bits(tiny_data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first, second = Patches(), Patches()
    second.load_state_dict(first.state_dict())
    whole = train_tiny(tiny_data, tmp_path / "whole", feature_extractor=first)
    train_tiny(tiny_data, tmp_path / "parts", feature_extractor=second, stop_after=1)
    parts = train_tiny(tiny_data, tmp_path / "parts", feature_extractor=Patches(), resume=True)
    assert all(torch.equal(parts.state_dict()[name], value) for name, value in whole.state_dict().items())


def test_a_dual_head_stands_on_a_module_of_the_users_too(tiny_data: Path, tmp_path: Path) -> None:
    model = train_tiny(tiny_data, tmp_path / "run", recipe_like(DualHeadRecipe, TINY), feature_extractor=Patches())
    assert model.encoder.size == 12
    assert load_predictor(tmp_path / "run", Patches()).config == model.config


def test_a_module_that_gives_no_map_is_refused() -> None:
    with pytest.raises(CompNetError, match=r"Flatten: must give maps .*, not \[1, 6912\]"):
        wrap_module(nn.Flatten(), 48, 48)
    with pytest.raises(CompNetError, match=r"Patches: gives 6 x 6 cells for an input of 50 x 48 pixels"):
        wrap_module(Patches(), 50, 48)


@pytest.mark.parametrize("training", [True, False])
def test_the_trial_leaves_each_part_of_a_module_in_its_mode(training: bool) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.BatchNorm2d(4), nn.BatchNorm2d(4)).train(training)
    module[1].eval()  # frozen
    module[2].train()
    wrap_module(module, 32, 48)
    assert [part.training for part in module.modules()] == [training, training, False, True]
    assert torch.equal(module[2].running_mean, torch.zeros(4))


def test_a_model_with_a_network_of_this_package_takes_no_other(trained: Path) -> None:
    with pytest.raises(CompNetError, match="load the model without one of your own"):
        CompNet.from_pretrained(trained, feature_extractor=Patches())


def test_training_starts_from_a_model_of_the_same_categories(tiny_data: Path, trained: Path, tmp_path: Path) -> None:
    """Without a step to learn from, it is that model."""
    still = TINY.with_settings(
        {"schedule.learning_rate": 0.0, "schedule.head_learning_rate": 0.0, "bank.momentum": 0.999999}
    )
    before = CompNet.from_pretrained(trained).state_dict()
    found = train_tiny(tiny_data, tmp_path / "run", still, init_from=trained).state_dict()
    for name in before:
        if "running" not in name and "bank" not in name and "tracked" not in name:
            assert torch.equal(found[name], before[name]), name
    torch.testing.assert_close(found["bank.vertex_features"], before["bank.vertex_features"], atol=1e-3, rtol=0)


def test_a_model_of_other_categories_gives_its_feature_extractor(
    trained: Path, tmp_path: Path, tiny_maker: Any
) -> None:
    other = tiny_maker(tmp_path / "data", ("brick", "slab", "tower"))
    still = TINY.with_settings({"schedule.learning_rate": 0.0, "schedule.head_learning_rate": 0.0})
    before = CompNet.from_pretrained(trained)
    model = train_tiny(other, tmp_path / "run", still, init_from=before)
    assert model.categories == ("brick", "slab", "tower")
    name = "feature_extractor.projection.weight"
    assert torch.equal(model.state_dict()[name], before.state_dict()[name])


def test_lines_say_how_far_a_training_is(tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_tiny(tiny_data, tmp_path / "run", progress=True, stop_after=1)
    train_tiny(tiny_data, tmp_path / "run", progress=True, resume=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "training on cpu: 16 images of 2 categories, 4 of them for calibration; backbone resnet from scratch; "
        "about 1 MB for gradients and activations"
    )
    parts = r"epoch {}/2: loss \d+\.\d{{3}} \(in \d+\.\d{{3}}, cross \d+\.\d{{3}}\), [\d.e+]+ images/s"
    waited, seconds = r"(, waited \d+ %)?", r", \d+\.\d s"
    assert re.fullmatch(parts.format(1) + waited + seconds + r", \d+ s left", lines[1])
    assert "backbone from the checkpoint; about" in lines[2]
    assert re.fullmatch(parts.format(2) + waited + r", calibration accuracy \d+\.\d %" + seconds, lines[3])
    assert len(lines) == 4
    assert [duration(s) for s in (0.4, 89, 90, 3600, 9000)] == ["0 s", "89 s", "2 min", "60 min", "2.5 h"]
