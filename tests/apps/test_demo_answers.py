"""What the demo shows for one image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from compnet3d.apps.demo_answers import LARGEST, Change, answer, category_shares
from compnet3d.data.images import shrink
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Pose
from compnet3d.inference.prediction import SinglePrediction
from compnet3d.models.registry import TrainedModel
from tests.networks import TINY_CONFIG, random_compnet

BOX = (10.0, 20.0, 70.0, 60.0)


def picture(width: int = 120, height: int = 90) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def models() -> dict[str, TrainedModel]:
    torch.manual_seed(0)
    return {"first": random_compnet(TINY_CONFIG), "second": random_compnet(TINY_CONFIG)}


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_level_says_how_much_of_the_box_is_hidden(level: int, seed: int) -> None:
    image = Image.new("RGB", (120, 90), (1, 2, 3))
    change = Change(level=level, seed=seed)
    pixels = np.asarray(change.apply(image, BOX))
    hidden = (pixels != (1, 2, 3)).any(axis=-1)[20:60, 10:70].mean()
    # blobs have soft edges, whose outer pixels are not counted as hidden
    assert 0.2 * level - 0.02 <= hidden <= 0.2 * level + 0.3
    assert np.array_equal(pixels, np.asarray(change.apply(image, BOX)))
    assert np.asarray(image).max() == 3


def test_other_seeds_hide_other_parts_and_no_change_is_none() -> None:
    image = picture()
    first, second = (np.asarray(Change(2, seed=seed).apply(image, BOX)) for seed in (0, 1))
    assert not np.array_equal(first, second)
    assert np.array_equal(np.asarray(Change().apply(image, BOX)), np.asarray(image))


def test_a_corruption_comes_after_the_occluders() -> None:
    image = picture()
    hidden = np.asarray(Change(2).apply(image, BOX))
    spoilt = np.asarray(Change(2, "brightness", 5).apply(image, BOX))
    assert spoilt.mean() > hidden.mean() + 20 and spoilt.shape == hidden.shape


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=6), st.floats(0, 1), st.floats(0.1, 200))
def test_bars_add_up_and_the_best_one_is_the_confidence(scores: list[float], sure: float, temperature: float) -> None:
    named = {f"c{i}": score for i, score in enumerate(scores)}
    sure = 1.0 if len(scores) == 1 else sure
    one = SinglePrediction("c0", sure, named, Pose.of(0.0, 0.0, 0.0, 3.0), 100.0, torch.zeros(2))
    shares = category_shares(one, temperature)
    best = max(named, key=lambda name: named[name])
    assert list(shares) == list(named) and all(share >= 0 for share in shares.values())
    # of several that are equally good, any may be the best
    assert any(abs(share - sure) < 1e-12 for name, share in shares.items() if named[name] == named[best])
    # where the others round to nothing there is no telling how they share the rest
    assert sum(shares.values()) <= 1 + 1e-9


def test_bars_of_others_are_in_proportion_to_their_softmax() -> None:
    one = SinglePrediction("a", 0.4, {"a": 3.0, "b": 1.0, "c": 0.0}, Pose.of(0.0, 0.0, 0.0, 3.0), 1.0, torch.zeros(2))
    shares = category_shares(one, 2.0)
    assert shares["a"] == pytest.approx(0.4)
    assert shares["b"] / shares["c"] == pytest.approx(float(np.exp(2.0)))
    assert shares["b"] + shares["c"] == pytest.approx(0.6)


def test_all_models_answer_and_the_chosen_one_explains(models: dict[str, TrainedModel]) -> None:
    shown = answer(models, "second", picture(), "box", BOX, Change())
    assert [one.name for one in shown.answers] == ["second", "first"]
    alone = [model.predict(picture(), boxes=[BOX])[0] for model in (models["second"], models["first"])]
    for one, wanted in zip(shown.answers, alone, strict=True):
        assert one.answer.category == wanted.category and one.answer.confidence == pytest.approx(wanted.confidence)
        assert one.answer.angles() == pytest.approx(wanted.angles(), abs=1e-4)
    assert shown.search_seconds is None and shown.box == BOX
    assert all(picture is not None for picture in (shown.matches, shown.regions, shown.hypotheses))
    assert len(shown.colours) == len(shown.mesh.vertices)


def test_the_object_is_searched_or_taken_to_fill_the_image(models: dict[str, TrainedModel]) -> None:
    searched = answer(models, "first", picture(), "search", None, Change())
    (found,) = models["first"].object_search().detect(picture(), 1).boxes.tolist()
    assert searched.box == tuple(found) and searched.search_seconds is not None
    whole = answer(models, "first", picture(), "whole", BOX, Change())
    assert whole.box == (0, 0, 120, 90)
    assert whole.answers[0].answer.angles() == pytest.approx(
        models["first"].predict(picture(), boxes="whole")[0].angles(), abs=1e-4
    )


@pytest.mark.parametrize("box", [None, (5.0, 5.0, 5.0, 9.0), (500.0, 500.0, 600.0, 600.0)])
def test_a_missing_or_impossible_box_is_one_sentence(models: dict[str, TrainedModel], box: tuple[float, ...]) -> None:
    with pytest.raises(CompNetError):
        answer(models, "first", picture(), "box", box, Change(level=1))


def test_large_images_shrink_and_small_ones_stay() -> None:
    assert shrink(picture(2 * LARGEST, 100), LARGEST).size == (LARGEST, 50)
    assert np.array_equal(np.asarray(shrink(picture(), LARGEST)), np.asarray(picture()))
