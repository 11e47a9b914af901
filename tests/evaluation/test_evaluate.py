"""The evaluator with predictors whose answers are known: perfect, wrong by a category, wrong by an angle."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compnet3d.data.sample import Sample
from compnet3d.data.symmetry import Symmetry
from compnet3d.data.transforms import InputConfig
from compnet3d.errors import CompNetError
from compnet3d.evaluation.crops import EvaluationCrops, Loading
from compnet3d.evaluation.evaluate import evaluate
from compnet3d.geometry.camera import Pose
from compnet3d.inference.prediction import Prediction
from compnet3d.robustness.shift import Shift

CATEGORIES = ("bottle", "car", "mug", "table")
SYMMETRY = {"bottle": Symmetry(order=0), "table": Symmetry(order=2)}
SIZE = 24
SPEC = InputConfig(height=SIZE, width=SIZE, focal=60.0, distance=4.0, box_fill=0.8)
GREY_STEP = 10


def make_samples(folder: Path) -> list[Sample]:
    """Two samples a category; each image is a flat grey that tells its number."""
    samples = []
    for i in range(2 * len(CATEGORIES)):
        path = folder / f"{i}.png"
        Image.new("RGB", (SIZE, SIZE), (GREY_STEP * i,) * 3).save(path)
        sample = Sample(
            image=path, category=CATEGORIES[i // 2], name=f"object{i}", azimuth=0.7 * i, elevation=0.1 * i,
            theta=0.05 * i, distance=4.0, focal=60.0, principal_point=(SIZE / 2, SIZE / 2), bbox=(4, 4, 20, 20),
            width=SIZE, height=SIZE,
        )  # fmt: skip
        samples.append(sample)
    return samples


@dataclass
class FakePredictor:
    """Reads the image's number off its grey and answers from the annotation, with chosen mistakes.

    `turn` [radians] is added to every azimuth, `turn_if_wrong` to those of misclassified objects only; `misclassified`
    numbers get the next category.
    """

    samples: list[Sample]
    turn: float = 0.0
    turn_if_wrong: float = 0.0
    misclassified: frozenset[int] = frozenset()
    categories: tuple[str, ...] = CATEGORIES
    input_config: InputConfig = SPEC

    def __post_init__(self) -> None:
        self.images_seen = 0

    def predict_crops(self, images, *, category=None, unseen=False, crop="oracle"):
        assert images.dtype == torch.uint8 and images.shape[1:] == (3, SIZE, SIZE)
        self.images_seen += len(images)
        centre = images[:, 0, SIZE // 2, SIZE // 2].double()
        numbers = (centre / GREY_STEP).round().long().tolist()
        chosen = [self.samples[n] for n in numbers]
        true = torch.tensor([self.categories.index(s.category) for s in chosen])
        wrong = torch.tensor([n in self.misclassified for n in numbers])
        named = (true + wrong) % len(self.categories) if category is None else category
        turn = self.turn + self.turn_if_wrong * (named != true).double()
        azimuth = torch.tensor([s.azimuth for s in chosen], dtype=torch.float64) + turn
        names = ("elevation", "theta", "distance")
        elevation, theta, distance = (torch.tensor([getattr(s, n) for s in chosen]) for n in names)
        count = len(chosen)
        return Prediction(
            categories=self.categories,
            category_index=named,
            scores=torch.nn.functional.one_hot(named, len(self.categories)).float(),
            confidence=torch.full((count,), 0.9),
            pose=Pose(azimuth=azimuth, elevation=elevation, theta=theta, distance=distance),
            focal=torch.full((count,), 100.0),
            principal_point=torch.full((count, 2), SIZE / 2),
            reconstruction_score=torch.zeros(count),
            foreground=torch.zeros(count, 2, 2, dtype=torch.bool),
        )


@pytest.fixture
def samples(tmp_path):
    return make_samples(tmp_path)


def run(predictor, samples, *, batch_size=3, **options):
    loading = Loading(batch_size, progress=False)
    return evaluate(predictor, samples, **{"symmetry": SYMMETRY, "loading": loading} | options)


def triple(metrics):
    return [metrics.acc_pi6, metrics.acc_pi18, metrics.median_deg]


def test_a_perfect_predictor_gets_full_marks(samples):
    result = run(FakePredictor(samples), samples)
    assert result.accuracy == 1
    for form in (result.pose.plain, result.pose.symmetry_aware, result.pose.all_images):
        for metrics in (form.true_category, form.predicted_category, form.joint):
            assert triple(metrics) == pytest.approx([1, 1, 0], abs=1e-4)
    assert result.confusion.categories == CATEGORIES
    assert torch.equal(torch.tensor(result.confusion.matrix), torch.diag(torch.full((4,), 2)))
    assert result.images == 8
    assert result.resources.images_per_second > 0 and result.resources.peak_memory_mb > 10


def test_always_the_wrong_category_leaves_the_pose_of_the_true_one(samples):
    predictor = FakePredictor(samples, misclassified=frozenset(range(8)), turn_if_wrong=math.radians(20))
    result = run(predictor, samples)
    assert result.accuracy == 0
    assert triple(result.pose.plain.true_category) == pytest.approx([1, 1, 0], abs=1e-4)
    assert triple(result.pose.plain.predicted_category) == pytest.approx([1, 0, 20], abs=1e-4)
    assert triple(result.pose.plain.joint) == [0, 0, None]
    matrix = torch.tensor(result.confusion.matrix)
    assert matrix[0, 1] == matrix[1, 2] == matrix[2, 3] == matrix[3, 0] == 2
    assert predictor.images_seen == 16, "a second pass over the misclassified images only"


def test_only_misclassified_images_are_evaluated_twice(samples):
    predictor = FakePredictor(samples, misclassified=frozenset({1, 6}))
    run(predictor, samples)
    assert predictor.images_seen == 8 + 2


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize(("batch_size", "looks"), [(1, [1] * 5), (3, [3, 2]), (4, [4, 1]), (8, [5])])
def test_the_second_look_goes_to_the_image_it_was_taken_of(samples, batch_size, looks, unseen):
    sizes = []

    class TurnedByNumber(FakePredictor):
        """Turns an object of number n by 170 - n degrees where its true category is given."""

        def predict_crops(self, images, **options):
            prediction = super().predict_crops(images, **options)
            if options.get("category") is None:
                return prediction
            sizes.append(len(images))
            numbers = (images[:, 0, SIZE // 2, SIZE // 2].double() / GREY_STEP).round()
            azimuth = prediction.pose.azimuth + torch.deg2rad(170.0 - numbers)
            return replace(prediction, pose=replace(prediction.pose, azimuth=azimuth))

    misclassified = frozenset({0, 2, 3, 5, 7})
    predictor = TurnedByNumber(samples, misclassified=misclassified)
    records = run(predictor, samples, batch_size=batch_size, unseen=unseen).records
    turn = {n: 170.0 - n if n in misclassified else 0.0 for n in range(8)}
    # what is left after the best of an object's own symmetric turns
    order = {name: SYMMETRY[name].order if name in SYMMETRY else 1 for name in CATEGORIES}
    left = {
        n: 0.0 if order[s.category] == 0 else min(t := turn[n] % (360 / order[s.category]), 360 / order[s.category] - t)
        for n, s in enumerate(samples)
    }
    assert len(set(order.values())) > 1
    assert [math.degrees(r.error_true_category) for r in records] == pytest.approx([*turn.values()], abs=1e-4)
    assert [math.degrees(r.symmetric_error_true_category) for r in records] == pytest.approx([*left.values()], abs=1e-4)
    assert [record.error_predicted_category for record in records] == pytest.approx([0.0] * 8, abs=1e-6)
    assert sizes == looks, "as few looks as batches of that size allow"


def test_a_turn_by_a_known_angle_is_measured_and_symmetry_forgives_what_it_should(samples):
    # elevation tilts the crop, but an azimuth error of t is a rotation by exactly t
    result = run(FakePredictor(samples, turn=math.radians(25)), samples)
    assert triple(result.pose.plain.true_category) == pytest.approx([1, 0, 25], abs=1e-4)
    bottle = result.per_category["bottle"].pose
    assert triple(bottle.symmetry_aware.true_category) == pytest.approx([1, 1, 0], abs=1e-4)
    assert triple(bottle.plain.true_category) == [None, None, None] and bottle.plain.images == 0
    assert triple(bottle.all_images.true_category) == pytest.approx([1, 0, 25], abs=1e-4)
    result = run(FakePredictor(samples, turn=math.pi), samples)
    table = result.per_category["table"].pose
    assert table.symmetry_aware.true_category.acc_pi18 == 1
    assert table.plain.true_category.median_deg == pytest.approx(180, abs=1e-4)
    assert result.per_category["car"].pose.symmetry_aware.true_category.acc_pi6 == 0
    # bottle and table (4 of 8 images) are forgiven, car and mug are not
    assert result.pose.symmetry_aware.true_category.acc_pi6 == 0.5


def test_plain_pose_leaves_out_continuous_categories_and_says_so(samples):
    result = run(FakePredictor(samples), samples)
    assert result.excluded_categories == ("bottle",) and result.pose.plain.images == 6
    assert result.pose.symmetry_aware.images == result.pose.all_images.images == 8


def test_without_a_symmetry_table_all_forms_coincide(samples):
    result = run(FakePredictor(samples, turn=0.4, misclassified=frozenset({0, 5})), samples, symmetry=None)
    pose = result.pose
    assert result.excluded_categories == () and pose.plain.images == 8
    assert [name for name, _ in pose.plain.items()] == ["true_category", "predicted_category", "joint"]
    assert pose.plain == pose.symmetry_aware == pose.all_images


def test_joint_median_is_over_the_correctly_classified_images(samples):
    predictor = FakePredictor(samples, misclassified=frozenset({2, 3}), turn_if_wrong=1.0, turn=math.radians(5))
    pose = run(predictor, samples).pose.plain
    assert triple(pose.joint) == pytest.approx([4 / 6, 4 / 6, 5], abs=1e-4)


def test_metrics_are_valid_json_with_the_documented_keys(samples):
    result = run(FakePredictor(samples), samples, unseen=True).to_dict()
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert {"classification", "pose", "per_category", "confusion", "images", "seconds"} <= set(result)
    assert {"images_per_second", "peak_memory_mb", "settings"} <= set(result)
    assert result["pose"]["unseen"]["acc_pi6"] == 1 and result["pose"]["unseen"]["category_accuracy"] == 1
    assert set(result["per_category"]) == set(CATEGORIES)
    assert result["per_category"]["car"]["images"] == 2 and result["per_category"]["car"]["accuracy"] == 1
    expected = {"crop": "oracle", "occlusion": None, "occlusion_protocol": None, "occluders": None, "rotate_deg": 0.0,
                "seed": 0, "batch_size": 3}  # fmt: skip
    expected |= {"corruption": None, "severity": None, "frost": None, "backgrounds": None}
    assert result["settings"] == expected and result["occlusion"] is None


def test_records_follow_the_samples(samples):
    predictor = FakePredictor(samples, misclassified=frozenset({4}), turn=0.1)
    records = run(predictor, samples).records
    assert [r.name for r in records] == [s.name for s in samples]
    assert [r.correct for r in records] == [i != 4 for i in range(8)]
    assert records[4].category == "mug" and records[4].predicted == "table"
    assert records[2].error_true_category == pytest.approx(0.1, abs=1e-5)
    assert records[0].symmetric_error_predicted_category == pytest.approx(0, abs=1e-5)
    assert records[3].true_pose[0] == pytest.approx(samples[3].azimuth, abs=1e-5)


def test_flips_are_those_of_the_pose_whose_error_is_reported(samples):
    class TurnedRound(FakePredictor):
        """Half a turn off where it says so: with the true category given, and with its own choice."""

        def predict_crops(self, images, **options):
            prediction = super().predict_crops(images, **options)
            numbers = (images[:, 0, SIZE // 2, SIZE // 2].double() / GREY_STEP).round().long().tolist()
            off = (2, 5, 6) if options.get("category") is None else (3, 4)
            turn = torch.tensor([math.pi * (n in off) for n in numbers], dtype=torch.float64)
            return replace(prediction, pose=replace(prediction.pose, azimuth=prediction.pose.azimuth + turn))

    # cars are 2 and 3, mugs 4 and 5; bottles and tables cannot be flipped
    result = run(TurnedRound(samples, misclassified=frozenset({3, 4, 5})), samples)
    assert [record.flipped for record in result.records] == [None, None, True, True, True, False, None, None]
    flips = result.pose.flips
    assert flips.images == 4
    assert asdict(flips.true_category) == {"share": 0.75, "of_errors": 1}
    assert asdict(flips.predicted_category) == {"share": 0.5, "of_errors": 1}
    car, mug = (result.per_category[name].pose.flips for name in ("car", "mug"))
    assert (car.true_category.share, car.predicted_category.share) == (1, 0.5)
    assert (mug.true_category.share, mug.predicted_category.share) == (0.5, 0.5)
    for name in ("bottle", "table"):
        nothing = result.per_category[name].pose.flips
        assert nothing.images == 0 and asdict(nothing.true_category) == {"share": None, "of_errors": None}
    errors = run(FakePredictor(samples, turn=math.radians(100)), samples).pose.flips
    assert asdict(errors.true_category) == {"share": 0, "of_errors": 0}


def test_rotated_crops_rotate_the_annotation_with_them(samples):
    # The fake answers the unturned pose, so that its error is the angle that each image was turned by.
    result = run(FakePredictor(samples), samples, shift=Shift(rotation=25.0), symmetry=None)
    errors = [math.degrees(record.error_true_category) for record in result.records]
    assert all(0 < error <= 25 for error in errors) and len(set(errors)) == len(errors)
    again = run(FakePredictor(samples), samples, shift=Shift(rotation=25.0), symmetry=None, batch_size=5)
    assert again.pose == result.pose, "the angles do not depend on the batches"
    other = run(FakePredictor(samples), samples, shift=Shift(rotation=25.0, seed=1), symmetry=None)
    assert other.pose != result.pose


def test_an_image_is_turned_alike_in_any_list(samples):
    whole = run(FakePredictor(samples), samples, shift=Shift(rotation=25.0)).records
    part = run(FakePredictor(samples), samples[5:], shift=Shift(rotation=25.0)).records
    assert [r.error_true_category for r in part] == [r.error_true_category for r in whole[5:]]


def test_box_crop_runs(samples):
    shifted = [replace(s, bbox=(2, 6, 18, 22)) for s in samples]
    assert run(FakePredictor(samples), shifted, crop="box").accuracy == 1


def occluded(samples, seed=0):
    crops = EvaluationCrops(samples, CATEGORIES, SPEC, shift=Shift("L2", seed=seed))
    return torch.stack([crops[i]["image"] for i in range(len(crops))])


def test_occluders_hide_what_the_level_says_by_box_and_by_mask(samples, tmp_path):
    mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
    mask[2:22, 8:14] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for chosen in (samples, [replace(s, mask=tmp_path / "mask.png") for s in samples]):
        crops = EvaluationCrops(chosen, CATEGORIES, SPEC, shift=Shift("L2"))
        for i, sample in enumerate(chosen):
            item = crops[i]
            assert 0.4 <= item["hidden_object"] <= 0.6 and 0.2 <= item["hidden_background"] <= 0.4
            region = np.zeros((SIZE, SIZE), dtype=bool)
            region[(slice(4, 20), slice(4, 20)) if sample.mask is None else (slice(2, 22), slice(8, 14))] = True
            hidden = crops.occlusion.apply(Image.open(sample.image), sample).mask
            assert float(item["hidden_object"]) == pytest.approx(hidden[region].mean())
            assert float(item["hidden_background"]) == pytest.approx(hidden[~region].mean())
            # the crop is the image, pixel by pixel
            changed = (item["image"] != round(GREY_STEP * i)).any(dim=0).numpy()
            assert changed[hidden].mean() > 0.95


def test_the_image_is_occluded_and_not_the_crop(tmp_path):
    """A small object in a large image: most occluders lie outside the crop, the shares are the image's."""
    Image.new("RGB", (240, 160)).save(tmp_path / "large.png")
    sample = replace(
        make_samples(tmp_path)[0], image=tmp_path / "large.png", width=240, height=160, bbox=(190, 100, 206, 116),
        principal_point=(198.0, 108.0),
    )  # fmt: skip
    crops = EvaluationCrops([sample], CATEGORIES, SPEC, shift=Shift("L3", rotation=30.0))
    item = crops[0]
    occluded = crops.occlusion.apply(Image.open(sample.image), sample)
    assert float(item["hidden_object"]) == pytest.approx(occluded.hidden_object)
    assert float(item["hidden_background"]) == pytest.approx(occluded.hidden_background)
    assert 0.6 <= occluded.hidden_object <= 0.8 and 0.4 <= occluded.hidden_background <= 0.6
    Image.fromarray(np.asarray(occluded.image)).save(tmp_path / "written.png")
    copy = replace(sample, image=tmp_path / "written.png")
    written = EvaluationCrops([copy], CATEGORIES, SPEC, shift=Shift(rotation=30.0))
    assert torch.equal(item["image"], written[0]["image"])


def test_occluders_depend_on_the_seed_and_the_name_alone(samples):
    assert torch.equal(occluded(samples)[3:], occluded(samples[3:]))
    assert not torch.equal(occluded(samples), occluded(samples, seed=1))


def test_rotation_draws_are_the_same_with_and_without_occluders(samples):
    clean = EvaluationCrops(samples, CATEGORIES, SPEC, shift=Shift(rotation=30.0))
    hidden = EvaluationCrops(samples, CATEGORIES, SPEC, shift=Shift("L1", rotation=30.0))
    assert [clean.crop_at(i).theta for i in range(8)] == [hidden.crop_at(i).theta for i in range(8)]


class Blind(FakePredictor):
    """Answers by place, since occluders hide the grey."""

    def predict_crops(self, images, *, category=None, unseen=False, crop="oracle"):
        numbers = torch.arange(len(images), dtype=torch.uint8) * GREY_STEP
        return super().predict_crops(numbers[:, None, None, None].expand_as(images), category=category)


def test_evaluation_reports_how_much_was_hidden(samples):
    result = run(Blind(samples), samples, shift=Shift("L3"), batch_size=8)
    assert 0.6 <= result.occlusion.hidden_object <= 0.8
    assert 0.4 <= result.occlusion.hidden_background <= 0.6
    settings = result.settings.to_dict()
    assert settings["occlusion"] == "L3" and settings["occluders"] == "blobs"
    assert settings["occlusion_protocol"] == "generator"
    paper = run(Blind(samples), samples, shift=Shift("L3", "paper"), batch_size=8)
    assert 0.45 <= paper.occlusion.hidden_object <= 0.55
    assert paper.settings.to_dict()["occlusion_protocol"] == "paper"


def test_samples_that_are_occluded_already_say_how_much(samples):
    hidden = [replace(s, hidden=(0.25 + 0.01 * i, 0.5)) for i, s in enumerate(samples)]
    result = run(FakePredictor(samples), hidden)
    assert asdict(result.occlusion) == pytest.approx({"hidden_object": 0.285, "hidden_background": 0.5})
    mixed = run(FakePredictor(samples), [*hidden[:4], *samples[4:]])
    assert mixed.occlusion is None, "a mean over some of the images would mislead"
    with pytest.raises(CompNetError, match="occluded already"):
        run(FakePredictor(samples), hidden, shift=Shift("L1"))


def test_occluders_that_are_not_there_are_named(samples, tmp_path):
    with pytest.raises(CompNetError, match="no object can be cut out"):
        run(FakePredictor(samples), samples, shift=Shift("L1", occluders="objects"))
    with pytest.raises(CompNetError, match="cutouts is not a folder"):
        run(FakePredictor(samples), samples, shift=Shift("L1", occluders=tmp_path / "cutouts"))


def test_evaluation_sees_corrupted_images_and_says_so(samples, tmp_path):
    class Recorder(FakePredictor):
        """Keeps what it was shown, and answers by place."""

        def predict_crops(self, images, *, category=None, unseen=False, crop="oracle"):
            seen.append(images)
            numbers = torch.arange(len(images), dtype=torch.uint8) * GREY_STEP
            return super().predict_crops(numbers[:, None, None, None].expand_as(images), category=category)

    seen: list[torch.Tensor] = []
    (tmp_path / "ice").mkdir()
    Image.new("RGB", (40, 40), (100, 100, 100)).save(tmp_path / "ice" / "1.png")
    shift = Shift(corruption="frost", severity=1, frost=tmp_path / "ice")
    settings = run(Recorder(samples), samples, shift=shift, batch_size=8).settings.to_dict()
    assert settings["corruption"] == "frost" and settings["severity"] == 1
    assert settings["frost"] == str(tmp_path / "ice")
    # the weights of the first severity: all of the image and 0.4 of the ice
    assert [int(image[0, SIZE // 2, SIZE // 2]) for image in seen[0]] == [GREY_STEP * i + 40 for i in range(8)]
    shift = Shift(corruption="fog", frost=tmp_path / "ice")
    settings = run(Recorder(samples), samples, shift=shift, batch_size=8).settings.to_dict()
    assert settings["corruption"] == "fog" and settings["severity"] == 4 and settings["frost"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corruption": "rain"}, "Unknown corruption 'rain'"),
        ({"corruption": "fog", "severity": 6}, "Unknown severity 6"),
        ({"corruption": "frost", "frost": "nowhere"}, "nowhere is not a folder"),
        ({"rotation": -1.0}, "between 0 and 180"),
        ({"rotation": math.nan}, "between 0 and 180"),
        ({"occlusion": "L4"}, "Unknown occlusion level 'L4'"),
        ({"protocol": "mine"}, "Unknown occlusion protocol 'mine'"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_bad_shifts_are_refused(samples, change, message):
    with pytest.raises(CompNetError, match=message):
        run(FakePredictor(samples), samples, shift=Shift(**change))


@pytest.mark.parametrize(("change", "message"), [({"batch_size": 0}, "batch size"), ({"workers": -1}, "workers")])
def test_numbers_that_are_too_small_are_refused(change, message):
    with pytest.raises(CompNetError, match=f"{message} must be at least"):
        Loading(**change)


def test_nothing_to_evaluate_and_unknown_categories_are_refused(samples):
    with pytest.raises(CompNetError, match="nothing to evaluate"):
        run(FakePredictor(samples), [])
    with pytest.raises(CompNetError, match="not trained on zebra"):
        run(FakePredictor(samples), [replace(samples[0], category="zebra")])


def test_a_missing_image_is_named(samples, tmp_path):
    samples[1].image.unlink()
    with pytest.raises(CompNetError, match="1.png"):
        run(FakePredictor(samples), samples)
