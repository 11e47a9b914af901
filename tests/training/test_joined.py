"""Trainings on several data sets together, and on a few images of one."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from compnet3d.cli import main as cli
from compnet3d.data.loader import CropDataset
from compnet3d.data.sample import Sample, draw_images
from compnet3d.data.symmetry import Symmetry
from compnet3d.data.transforms import InputConfig
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh
from compnet3d.models.compnet import CompNet
from compnet3d.training.data import TrainingData, frame_differences, gather
from compnet3d.training.job import resolve_job
from compnet3d.training.recipe_parts import CompNetLossSettings, CompNetSearchSettings, ScheduleSettings
from compnet3d.training.train import train, train_or_load
from tests.networks import TINY_RECIPE

RECIPE = replace(
    TINY_RECIPE,
    loss=CompNetLossSettings(samples_per_category=8),
    schedule=ScheduleSettings(epochs=2, batch_size=8, learning_rate=3e-3, calibration_fraction=0.25, held_out_epochs=1),
    search=CompNetSearchSettings(steps=1, starts=1),
)
OPTIONS: dict[str, Any] = {"workers": 0, "progress": False}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory, tiny_maker: Callable[..., Path]) -> Path:
    """A second data set: one category of `tiny_data`, and one that it has not."""
    return tiny_maker(tmp_path_factory.mktemp("rendered") / "data", ("tower", "slab"), images=6)


def moved(meshes: tuple[Mesh, ...], matrix: torch.Tensor, by: tuple[float, ...] = (0, 0, 0)) -> tuple[Mesh, ...]:
    return tuple(Mesh(mesh.vertices @ matrix.T + torch.tensor(by), mesh.faces) for mesh in meshes)


def in_other_units(data: TrainingData, factor: float) -> TrainingData:
    """The same pictures, described in units of another length."""
    meshes = {name: moved(tuple(models), factor * torch.eye(3)) for name, models in data.meshes.items()}
    return replace(data, samples=[replace(s, distance=factor * s.distance) for s in data.samples], meshes=meshes)


def named(category: str, names: list[str]) -> list[Sample]:
    return [
        Sample(Path(f"{n}.png"), category, n, 0, 0, 0, 1, 1, (0, 0), (0, 0, 1, 1), 1, 1, instance=n.partition("_v")[0])
        for n in names
    ]


# -- a few images ----------------------------------------------------------------------------------------------------


def test_fewer_images_are_among_more_and_spread_over_the_objects() -> None:
    samples = named("mug", [f"mug_i{i}_v{v}" for i in range(4) for v in range(3 + i)])
    drawn = [[s.name for s in draw_images(samples, count, seed=7)] for count in range(1, 20)]
    for fewer, more in zip(drawn, drawn[1:], strict=False):
        assert set(fewer) <= set(more)
        assert more == [s.name for s in samples if s.name in more]  # in the given order
    for count, names in enumerate(drawn, start=1):
        assert len(names) == min(count, 18)
        shown = Counter(name.partition("_v")[0] for name in names)
        # no object has two more than another, unless that has no more
        least = min(shown[f"mug_i{i}"] if shown[f"mug_i{i}"] < 3 + i else math.inf for i in range(4))
        assert max(shown.values()) <= least + 1
    assert {s.name for s in draw_images(samples, 5, seed=8)} != set(drawn[4])


def test_a_draw_of_images_does_not_depend_on_other_categories_or_on_the_order() -> None:
    mugs, cups = (named(c, [f"{c}_i{i}_v{v}" for i in range(3) for v in range(4)]) for c in ("mug", "cup"))
    alone = draw_images(mugs, 5, seed=0)
    assert [s for s in draw_images([*cups, *mugs], 5, seed=0) if s.category == "mug"] == alone
    assert draw_images(mugs[::-1], 5, seed=0) == alone[::-1]
    with_two_objects = [*mugs, *(replace(s, object_index=1) for s in mugs)]
    assert len(draw_images(with_two_objects, 5, seed=0)) == 10  # images are counted
    with pytest.raises(CompNetError, match="at least 1, not 0"):
        draw_images(mugs, 0, seed=0)


# -- several data sets -----------------------------------------------------------------------------------------------


def test_categories_of_one_name_are_one_with_the_first_data_sets_models(tiny_data: Path, rendered: Path) -> None:
    first, second = TrainingData.read(tiny_data), TrainingData.read(rendered)
    first = replace(first, symmetry={"brick": Symmetry(2), "slab": Symmetry(5)})
    second = replace(second, symmetry={"tower": Symmetry(4), "slab": Symmetry(3)})
    both = TrainingData.joined([first, second])
    assert both.categories == ("brick", "tower", "slab")
    assert both.meshes["tower"] is first.meshes["tower"] and both.meshes["slab"] is second.meshes["slab"]
    assert both.symmetry_orders.tolist() == [2, 1, 3]  # the first says nothing of its tower, and its word counts
    assert both.samples == first.samples
    assert [(s.image, s.distance) for s in both.more] == [(s.image, s.distance) for s in second.samples]
    assert both.root == tiny_data and both.sources == (str(tiny_data.resolve()), str(rendered.resolve()))
    assert (twice := TrainingData.joined([both, second])).more == [*both.more, *both.more]
    assert twice.sources == (*both.sources, *second.sources)
    assert TrainingData.joined([first]) == replace(first, more=[])


def test_other_units_are_brought_to_those_of_the_first(tiny_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = TrainingData.read(tiny_data)
    both = TrainingData.joined([first, in_other_units(first, 2.5)])
    config = InputConfig.fitted(first.samples, 48, 48)
    crops = (CropDataset(samples, both.categories, config) for samples in (first.samples, both.more))
    for own, other in zip(*crops, strict=True):
        # a distance that is a rounding away moves a pixel's grey by one at the most
        assert all(torch.allclose(own[n].double(), other[n].double(), atol=1 if n == "image" else 1e-3) for n in own)
    assert capsys.readouterr().err == ""
    same = TrainingData.joined([first, first])
    assert [s.distance for s in same.more] == [s.distance for s in first.samples]  # to the bit


def test_frames_that_differ_are_told(tiny_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = TrainingData.read(tiny_data)
    brick = tuple(first.meshes["brick"])
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert frame_differences(brick, moved(brick, 7 * torch.eye(3))) == []
    assert frame_differences(brick, moved(brick, quarter @ quarter)) == []  # no box tells front from back
    assert frame_differences(brick, moved(brick, torch.diag(torch.tensor([1.2, 0.9, 1.0])))) == []  # a shorter one
    (turned,) = frame_differences(brick, moved(brick, quarter))
    assert "turned" in turned and "0.87 x 0.39 x 0.29 and 0.39 x 0.87 x 0.29" in turned
    (shifted,) = frame_differences(brick, moved(brick, torch.eye(3), (0, 0, 0.2)))
    assert "origin" in shifted
    other = replace(first, meshes={**first.meshes, "brick": moved(brick, quarter)})
    TrainingData.joined([first, other])
    assert f"{tiny_data}: brick: {turned}\n" == capsys.readouterr().err


def test_a_category_is_left_out_of_all_data_sets(tiny_data: Path, rendered: Path) -> None:
    data = gather(tiny_data, (rendered,), without=("tower",))
    assert data.categories == ("brick", "slab") and {s.category for s in (*data.samples, *data.more)} == {
        "brick",
        "slab",
    }
    assert gather(tiny_data, (TrainingData.read(rendered),), ("slab", "tower")).categories == ("brick",)
    assert gather(tiny_data, (rendered,), ("slab", "tower")).more == []
    with pytest.raises(CompNetError, match="none of the data sets has a category 'cup'"):
        gather(tiny_data, (rendered,), ("cup",))


@pytest.mark.parametrize(
    ("options", "times"),
    [({}, 1), ({"repeat": 1}, 1), ({"repeat": 5}, 5), ({"images_per_category": 4}, 2), ({"images_per_category": 3}, 3)],
)
def test_the_first_data_set_is_half_of_an_epoch_or_as_often_in_it_as_wanted(
    tiny_data: Path, rendered: Path, tmp_path: Path, options: dict[str, Any], times: int
) -> None:
    """All of its 16 images, 8 or 6 of them, less a quarter for calibration, beside 12 rendered ones."""
    job = resolve_job(RECIPE, tiny_data, tmp_path, more_data=(rendered,), **options)
    counted = 2 * options.get("images_per_category", 8)
    assert len(job.calibration) == max(2, counted // 4) and len(job.training) == counted - len(job.calibration)
    assert len(job.data.more) == 12
    assert {s.image.is_relative_to(tiny_data) for s in (*job.training, *job.calibration)} == {True}
    for held_out, own in ((True, job.training), (False, [*job.training, *job.calibration])):
        shown = Counter(s.image for s in job.epoch_samples(held_out=held_out))
        assert shown == Counter({s.image: times for s in own} | {s.image: 1 for s in job.data.more})
    lacking = [s for s in job.data.more if s.category == "slab"]
    assert job.typical_samples == [*job.training, *lacking] and len(lacking) == 6


def test_one_data_set_alone_is_gone_through_as_ever(tiny_data: Path, tmp_path: Path) -> None:
    job = resolve_job(RECIPE, tiny_data, tmp_path)
    assert job.epoch_samples(held_out=True) == job.typical_samples == list(job.training)
    assert job.epoch_samples(held_out=False) == [*job.training, *job.calibration]


# -- trainings -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def together(rendered: Path) -> dict[str, Any]:
    return {"more_data": (rendered,), "images_per_category": 4, "repeat": 3}


@pytest.fixture(scope="module")
def run(tiny_data: Path, together: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("joined") / "run"
    train(RECIPE, tiny_data, out, **together, **OPTIONS)
    return out


def test_a_joined_training_notes_what_it_was_of(run: Path, tiny_data: Path, rendered: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    assert config["data"] == str(tiny_data) and config["more_data"] == [str(rendered)]
    assert config["images_per_category"] == 4 and config["repeat"] == 3
    assert config["counts"] == {"samples": 8, "calibration": 2, "more": 12, "backgrounds": 0}
    model = CompNet.from_pretrained(run)
    assert model.categories == ("brick", "tower", "slab") and set(model.cad_meshes) == set(model.categories)
    first = json.loads((run / "log.jsonl").read_text().splitlines()[0])
    assert [sum(row) for row in first["confusion"]] == [2, 2, 0]  # a plain and an augmented crop of each


def test_a_joined_training_goes_on_to_the_same_bits(
    run: Path, tiny_data: Path, together: dict[str, Any], tmp_path: Path
) -> None:
    train(RECIPE, tiny_data, tmp_path / "one", stop_after=1, **together, **OPTIONS)
    one = train(RECIPE, tiny_data, tmp_path / "one", resume=True, **together, **OPTIONS).state_dict()
    assert all(torch.equal(one[name], value) for name, value in CompNet.from_pretrained(run).state_dict().items())


def test_another_choice_of_images_is_not_gone_on_with(
    tiny_data: Path, rendered: Path, together: dict[str, Any], tmp_path: Path
) -> None:
    out, fewer = tmp_path / "run", Path(shutil.copytree(rendered, tmp_path / "fewer"))
    train(RECIPE, tiny_data, out, stop_after=1, **together, **OPTIONS)
    names = (fewer / "lists" / "slab_imagenet_train.txt").read_text().split()
    (fewer / "lists" / "slab_imagenet_train.txt").write_text("\n".join(names[1:]))
    for changes, message in (
        ({"images_per_category": 5}, "made with --images-per-category 4;"),
        ({"repeat": None}, "made with --repeat 3;"),
        ({"more_data": (fewer,)}, "12 samples of more data, and there are 11"),
        ({"more_data": ()}, "other categories"),
    ):
        with pytest.raises(CompNetError, match=message):
            train(RECIPE, tiny_data, out, resume=True, **together | changes, **OPTIONS)


def test_a_finished_joined_training_is_loaded(run: Path, tiny_data: Path, together: dict[str, Any]) -> None:
    model = train_or_load(RECIPE, tiny_data, run, **together, **OPTIONS)
    assert model.categories == ("brick", "tower", "slab")
    with pytest.raises(CompNetError, match="made with --images-per-category 4;"):
        train_or_load(RECIPE, tiny_data, run, **together | {"images_per_category": None}, **OPTIONS)


def test_the_command_joins_data_sets(tiny_data: Path, rendered: Path, run: Path, tmp_path: Path) -> None:
    recipe = str(run / "config.json")
    line = ["train", "--recipe", recipe, "--data", str(tiny_data), "--more-data", str(rendered), "--workers", "0"]
    line += ["--images-per-category", "4", "--repeat", "3", "--device", "cpu", "--out", str(tmp_path / "run")]
    cli.main(line)
    found = CompNet.from_pretrained(tmp_path / "run").state_dict()
    assert all(torch.equal(found[name], value) for name, value in CompNet.from_pretrained(run).state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--images-per-category", "0"], "--images-per-category must be at least 1"),
        (["--repeat", "0"], "--repeat must be at least 1"),
        (["--more-data", "no/such/folder"], "no/such/folder: does not exist"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--recipe", "quickstart", "--data", str(tiny_data), "--out", str(tmp_path / "o"), *options])
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "o").exists()
