"""New categories from a few images, on tiny data: what is fitted is what plain loops give, and the old stays."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from compnet3d.data.augment import Augmentation
from compnet3d.data.loader import CropDataset
from compnet3d.data.sample import split_calibration
from compnet3d.errors import CompNetError
from compnet3d.models.compnet import CompNet
from compnet3d.training.batch import Batch
from compnet3d.training.data import TrainingData
from compnet3d.training.growing import (
    GrowSettings,
    add_categories,
    begun,
    crops_of,
    fit_means,
    fitted,
    new_vertices_loss,
    read_new,
    read_old,
    unseen_evidence,
)
from compnet3d.training.recipe_parts import ModelSettings, ScheduleSettings
from compnet3d.training.train import train
from tests.networks import TINY_RECIPE

PLAIN = GrowSettings(passes=1, learning_rate=0.0, augmentation=Augmentation())
SHORT = GrowSettings(passes=2, batch_size=4, rehearsed=2)
RECIPE = replace(TINY_RECIPE, schedule=ScheduleSettings(epochs=2, batch_size=4, calibration_fraction=0.25))
OPTIONS: dict[str, Any] = {"workers": 0, "progress": False}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, tiny_maker: Callable[..., Path]) -> Path:
    return tiny_maker(tmp_path_factory.mktemp("grow") / "data", ("board", "brick", "tower"))


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> CompNet:
    trained = train(RECIPE, data, tmp_path_factory.mktemp("grow") / "run", without=("board",), **OPTIONS)
    assert isinstance(trained, CompNet)
    return trained


@pytest.fixture(scope="module")
def new(data: Path, model: CompNet) -> TrainingData:
    found = read_new(data, model, images=5)
    assert found.categories == ("board",) and len(found.samples) == 5
    return found


def visible_features(model: CompNet, item: dict[str, Tensor], category: int) -> dict[int, Tensor]:
    """What one crop shows of each visible vertex of a cuboid, read and looked at by hand."""
    with torch.no_grad():
        feature_map = model(item["image"][None])[0].numpy().astype(np.float64)
    height, width = item["image"].shape[1:]
    cuboid, stride = model.cuboids[category], model.feature_extractor.stride
    a, e, t, d = (float(item[key]) for key in ("azimuth", "elevation", "theta", "distance"))
    turn = lambda angle, axis: rotation(angle, axis)  # noqa: E731
    matrix = turn(t, 2) @ turn(e - np.pi / 2, 0) @ turn(-a, 2)
    centre = d * np.array([np.cos(e) * np.sin(a), -np.cos(e) * np.cos(a), np.sin(e)])
    u0, v0 = item["principal_point"].tolist()
    low, high = cuboid.bounds.double().numpy()
    found = {}
    for number, vertex in enumerate(cuboid.vertices.double().numpy()):
        seen = any(
            abs(vertex[axis] - side[axis]) < 1e-6 and sign * (centre[axis] - side[axis]) > 0
            for axis in range(3)
            for side, sign in ((low, -1), (high, 1))
        )
        x, y, z = matrix @ (vertex - centre)
        u, v = u0 + float(item["focal"]) * x / -z, v0 - float(item["focal"]) * y / -z
        if seen and 0 <= u < width and 0 <= v < height:
            value = bilinear(feature_map, v / stride - 0.5, u / stride - 0.5)
            found[number] = torch.from_numpy(value / np.linalg.norm(value))
    return found


def rotation(angle: float, axis: int) -> np.ndarray:
    matrix, (i, j) = np.eye(3), [k for k in range(3) if k != axis]
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix


def bilinear(feature_map: np.ndarray, row: float, column: float) -> np.ndarray:
    height, width = feature_map.shape[1:]
    row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
    i, j = min(int(row), height - 2), min(int(column), width - 2)
    r, c = row - i, column - j
    return (
        (1 - r) * (1 - c) * feature_map[:, i, j]
        + (1 - r) * c * feature_map[:, i, j + 1]
        + r * (1 - c) * feature_map[:, i + 1, j]
        + r * c * feature_map[:, i + 1, j + 1]
    )


def test_means_are_those_of_plain_loops(model: CompNet, new: TrainingData) -> None:
    grown = begun(model, new)
    start = grown.bank.category_features(2).clone()
    crops = crops_of(grown, new, Augmentation(), 0)
    fit_means(grown, crops, PLAIN)
    sums: dict[int, Tensor] = {}
    for index in range(len(crops)):
        for number, feature in visible_features(grown, crops[index], 2).items():
            sums[number] = sums.get(number, torch.zeros_like(feature)) + feature
    assert 10 < len(sums) < len(start)
    for number, feature in enumerate(grown.bank.category_features(2)):
        if number in sums:
            expected = (sums[number] / sums[number].norm()).float()
            torch.testing.assert_close(feature, expected, rtol=0, atol=2e-4)
        else:
            torch.testing.assert_close(feature, start[number])


@pytest.mark.parametrize("rehearse", [False, True])
def test_nothing_of_the_old_categories_changes(model: CompNet, new: TrainingData, data: Path, rehearse: bool) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grown = add_categories(model, new, read_old(data, model) if rehearse else None, SHORT)
    rows = len(model.bank.vertex_features)
    assert grown.categories == (*model.categories, "board") and not grown.training
    assert torch.equal(grown.bank.vertex_features[:rows], model.bank.vertex_features)
    assert torch.equal(grown.bank.background_features, model.bank.background_features)
    states = model.feature_extractor.state_dict(), grown.feature_extractor.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    # and the model that was given is as it was
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_steps_move_the_new_vertices_and_keep_them_unit_vectors(model: CompNet, new: TrainingData) -> None:
    mean = add_categories(model, new, settings=replace(SHORT, learning_rate=0.0))
    moved = add_categories(model, new, settings=SHORT)
    assert not torch.equal(mean.bank.category_features(2), moved.bank.category_features(2))
    for grown in (mean, moved):
        norms = grown.bank.vertex_features.norm(dim=1)
        torch.testing.assert_close(norms, torch.ones_like(norms))


def test_the_same_seed_gives_the_same_bits(model: CompNet, new: TrainingData) -> None:
    first, second = (add_categories(model, new, settings=SHORT) for _ in range(2))
    assert torch.equal(first.bank.vertex_features, second.bank.vertex_features)


def test_the_loss_is_the_sum_of_plain_loops(model: CompNet, new: TrainingData) -> None:
    grown = begun(model, new)
    grown.calibrate(7.0, grown.config.calibration)
    crops = crops_of(grown, new, Augmentation(), 0)
    items = [crops[index] for index in range(3)]
    batch = Batch.of(torch.utils.data.default_collate(items), grown.device)
    features = grown.bank.category_features(2).clone()
    bank, kappa = grown.bank, grown.config.kappa
    vertices = grown.cuboids[2].vertices
    diagonal = float((vertices.amax(0) - vertices.amin(0)).norm())
    with torch.no_grad():
        maps = grown(batch.images)
    entropy, terms = 0.0, []
    for number, item in enumerate(items):
        cells = maps[number].flatten(1).T
        scores = []
        for category in range(3):
            best = (cells @ bank.category_features(category).T).amax(1)
            scores.append(torch.maximum(best, (cells @ bank.background.T).amax(1)).mean())
        entropy += -float((7.0 * torch.stack(scores)).log_softmax(0)[2]) / len(items)
        for vertex, feature in visible_features(grown, item, 2).items():
            logits = kappa * (features.double() @ feature)
            far = (vertices - vertices[vertex]).norm(dim=1) / diagonal >= 0.1
            far[vertex] = True
            terms.append(float(logits[far].logsumexp(0) - logits[vertex]))
    loss = new_vertices_loss(grown, 2, features, batch, near_radius=0.1)
    assert float(loss) == pytest.approx(entropy + sum(terms) / len(terms), rel=2e-3)


def test_the_steps_tell_new_images_from_old_ones(model: CompNet, new: TrainingData) -> None:
    crops = CropDataset(new.samples, (*model.categories, "board"), model.input_config)
    images = torch.stack([crops[index]["image"] for index in range(len(crops))])

    def lead(grown: CompNet) -> float:
        scores = grown.classify_crops(images)
        return float((scores[:, 2] - scores[:, :2].amax(dim=1)).mean())

    settings = replace(SHORT, passes=8)
    assert lead(add_categories(model, new, settings=settings)) > lead(
        add_categories(model, new, settings=replace(settings, learning_rate=0.0))
    )


def test_new_objects_that_show_less_evidence_are_not_unknown(model: CompNet, new: TrainingData) -> None:
    evidence = unseen_evidence(model, new, None, SHORT)
    assert len(evidence) == len(new.samples)
    # by hand: each half is asked after a fit to the other
    halves, expected = split_calibration(new.samples, 0.5, SHORT.seed), []
    for shown, asked in (halves, halves[::-1]):
        grown = fitted(model, replace(new, samples=shown), None, SHORT)
        crops = CropDataset(asked, grown.categories, grown.input_config)
        expected += [float(grown.predict_crops(crops[i]["image"][None]).evidence[0]) for i in range(len(crops))]
    # of a batch and of single images, in bfloat16 where the processor is fast with it
    assert sorted(evidence.tolist()) == pytest.approx(sorted(expected), abs=5e-4)
    lowest = float(np.quantile(expected, 0.05))
    for before, after in ((lowest + 0.3, lowest), (lowest - 0.3, lowest - 0.3), (None, None)):
        strict = deepcopy(model)
        strict.calibrate(9.0, replace(strict.calibration, least_evidence=before))
        found = add_categories(strict, new, settings=SHORT)
        assert found.config.temperature == 9.0 and found.calibration.category == model.calibration.category
        assert found.calibration.least_evidence == (None if after is None else pytest.approx(after, abs=5e-4))


def test_of_one_image_there_are_no_halves(model: CompNet, new: TrainingData) -> None:
    assert not len(unseen_evidence(model, new.drawn(1, 0), None, SHORT))
    assert add_categories(model, new.drawn(1, 0), settings=SHORT).calibration.least_evidence == (
        model.calibration.least_evidence
    )


def test_one_old_category_and_two_new_ones(model: CompNet, data: Path) -> None:
    from compnet3d.models.category_models import remove_categories

    alone = remove_categories(model, ["tower"])
    alone.calibrate(1.0)  # what a model of one category is calibrated to
    grown = add_categories(alone, read_new(data, alone, images=3), settings=SHORT)
    assert grown.categories == ("brick", "board", "tower") and grown.config.temperature == 100.0
    images = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    assert grown.predict_crops(images).scores.shape == (2, 3)


def test_a_model_whose_vertices_are_on_cad_surfaces(data: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, model=ModelSettings(shape="mesh", vertex_count=30))
    trained = train(recipe, data, tmp_path / "run", without=("board",), **OPTIONS)
    assert isinstance(trained, CompNet)
    grown = add_categories(trained, read_new(data, trained, images=4), settings=SHORT)
    grown.save_pretrained(tmp_path / "grown")
    again = CompNet.from_pretrained(tmp_path / "grown")
    images = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    found, expected = (some.predict_crops(images) for some in (again, grown))
    assert torch.equal(found.scores, expected.scores) and torch.equal(found.pose.azimuth, expected.pose.azimuth)


def test_data_that_has_nothing_new(model: CompNet, data: Path, tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(CompNetError, match="knows all of its categories"):
        read_new(tiny_data, model)
    with pytest.raises(CompNetError, match="'brick' already"):
        read_new(data, model, ["board", "brick"])
    with pytest.raises(CompNetError, match="no list for mug"):
        read_new(data, model, ["mug"])


def test_data_without_a_cad_model_or_a_readable_annotation(
    model: CompNet, tiny_maker: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny_maker(tmp_path / "data", ("board",))
    broken = sorted((root / "annotations" / "board").iterdir())
    broken[0].write_bytes(b"nothing")
    assert len(read_new(root, model).samples) == 7
    assert "unreadable annotation" in capsys.readouterr().err
    for path in broken:
        path.write_bytes(b"nothing")
    with pytest.raises(CompNetError, match="no usable object"):
        read_new(root, model)
    whole = tiny_maker(tmp_path / "whole", ("board",))
    (whole / "CAD" / "board" / "01.off").unlink()
    with pytest.raises(CompNetError, match="has no CAD model; put at least one there"):
        read_new(whole, model)


def test_old_data_of_other_categories(model: CompNet, tiny_maker: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(CompNetError, match="none of the model's categories"):
        read_old(tiny_maker(tmp_path / "data", ("board",)), model)


@pytest.mark.parametrize("name", ["passes", "batch_size", "rehearsed"])
def test_settings_that_cannot_be(name: str) -> None:
    with pytest.raises(CompNetError, match=f"{name} must be at least 1"):
        GrowSettings(**{name: 0})
