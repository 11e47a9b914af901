from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.transforms import InputConfig
from compnet3d.errors import CompNetError
from compnet3d.evaluation.crops import Loading
from compnet3d.evaluation.evaluate import evaluate
from compnet3d.geometry.camera import Camera, Pose
from compnet3d.losses.inputs import Queries
from compnet3d.models.backbones import BackboneConfig, build_extractor
from compnet3d.models.compnet import CompNet
from compnet3d.models.dual_head import DualHead, DualHeadConfig, ImageEncoder
from compnet3d.models.registry import load_predictor
from compnet3d.training.builtin_recipes import RECIPES
from compnet3d.training.recipe import CompNetRecipe, DualHeadRecipe, NovumRecipe, recipe_like
from compnet3d.training.recipe_parts import BackboneSettings, InputSettings, ScheduleSettings
from compnet3d.training.train import train
from tests.networks import TINY_RESNET

RESNET = BackboneConfig(
    "resnet",
    TINY_RESNET,
    dimension=16,
)
TRANSFORMER = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}
BOXES = (((-0.5, -0.2, -0.1), (0.5, 0.2, 0.1)), ((-0.1, -0.1, -0.6), (0.1, 0.1, 0.6)))
SPEC = InputConfig(height=48, width=64, focal=80.0, distance=3.0, box_fill=0.7)


def heads(
    pose_head: str = "bins", bins: int = 40, mirrored: bool = False, backbone: BackboneConfig = RESNET
) -> DualHead:
    torch.manual_seed(0)
    return DualHead(DualHeadConfig(("brick", "tower"), BOXES, backbone, SPEC, pose_head, bins, mirrored)).eval()


def crops(count: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, 48, 64), generator=generator, dtype=torch.uint8)


def of_bins(*probabilities: dict[int, float], bins: int = 40) -> torch.Tensor:
    """The pose head's output for one image, with these probabilities of each angle's bins."""
    rows = []
    for some in probabilities:
        row = torch.full((bins,), 1e-30)
        for number, value in some.items():
            row[number] = value
        rows.append(row.log())
    return torch.cat(rows)[None]


def test_an_angle_is_the_mean_of_the_best_bin_and_its_neighbours() -> None:
    width = 2 * math.pi / 40
    output = of_bins({7: 1.0}, {39: 0.6, 0: 0.4}, {0: 0.5, 39: 0.25, 1: 0.1, 20: 0.15})
    angles = heads().angles(output)[0]
    assert float(angles[0]) == pytest.approx(7.5 * width, abs=1e-5)
    assert float(angles[1]) == pytest.approx((39.5 + 0.4) * width, abs=1e-5)  # towards bin 0, over the seam
    # far bins have no say: 0.5, 0.25 and 0.1 alone
    assert float(angles[2]) == pytest.approx((0.5 + (0.1 - 0.25) / 0.85) * width, abs=1e-5)


@pytest.mark.parametrize("bins", [40, 7, 1])
def test_the_loss_of_bins_against_loops(bins: int) -> None:
    model = heads(bins=bins)
    images = crops()
    category = torch.tensor([0, 1, 1])
    angles = [[0.0, -1e-9, 2 * math.pi - 1e-7], [1.0, -0.3, 6.0], [math.pi, 0.5, -math.pi]]
    pose = Pose.of(*torch.tensor(angles).unbind(1))
    logits, output = (x.detach() for x in model(images))
    of_category, of_pose = 0.0, 0.0
    for i in range(3):
        of_category -= float(logits[i].double().log_softmax(0)[category[i]]) / 3
        for j in range(3):
            number = min(bins - 1, int((angles[i][j] % (2 * math.pi)) / (2 * math.pi / bins)))
            of_pose -= float(output[i, j * bins : (j + 1) * bins].double().log_softmax(0)[number]) / 3
    expected = torch.tensor([of_category + of_pose, of_category, of_pose])
    torch.testing.assert_close(model.loss(images, category, pose).detach(), expected, rtol=1e-5, atol=1e-5)


@given(turns=st.lists(st.integers(-3, 3), min_size=3, max_size=3))
def test_the_regression_does_not_care_for_whole_turns(turns: list[int]) -> None:
    model, images, category = heads("regression"), crops(1), torch.tensor([1])
    angles = [0.3, -0.2, 3.0]
    output = model(images)[1][0].detach()
    expected = sum(1 - math.cos(float(output[j]) - angles[j]) for j in range(3))
    pose = Pose.of(*(torch.tensor([a + 2 * math.pi * n]) for a, n in zip(angles, turns, strict=True)))
    assert float(model.loss(images, category, pose)[2].detach()) == pytest.approx(expected, abs=1e-4)


def test_a_prediction_is_that_of_the_heads() -> None:
    model, images = heads(), crops()
    with torch.no_grad():
        logits, output = model(images)
    prediction = model.predict_crops(images)
    assert torch.equal(prediction.category_index, logits.argmax(1))
    torch.testing.assert_close(prediction.scores.exp().sum(1), torch.ones(3))
    assert torch.allclose(prediction.confidence, logits.softmax(1).amax(1))
    expected = model.angles(output)
    ours = torch.stack([prediction.pose.azimuth, prediction.pose.elevation, prediction.pose.theta], dim=1)
    folded = Pose.of(*expected.unbind(1)).wrapped()
    torch.testing.assert_close(ours, torch.stack([folded.azimuth, folded.elevation, folded.theta], dim=1))
    assert prediction.reconstruction_score is None and prediction.foreground is None
    assert prediction.pose.distance.tolist() == pytest.approx([3.0] * 3)
    assert prediction.principal_point.tolist() == [[32.0, 24.0]] * 3
    json.dumps(prediction.to_dicts())


def test_the_pose_is_the_same_whatever_the_category() -> None:
    model, images = heads(), crops()
    free, given_one = model.predict_crops(images), model.predict_crops(images, category=torch.tensor([1, 0, 1]))
    assert given_one.category_index.tolist() == [1, 0, 1]
    assert torch.equal(free.pose.azimuth, given_one.pose.azimuth)
    assert torch.equal(free.pose.azimuth, model.predict_crops(images, unseen=True).pose.azimuth)


def test_mirrored_scores_are_the_mean_of_both_sides() -> None:
    model, images = heads(mirrored=True), crops()
    sides = [model(x)[0].log_softmax(1) for x in (images, images.flip(-1))]
    torch.testing.assert_close(model.classify_crops(images), ((sides[0] + sides[1]) / 2).detach())
    assert torch.allclose(model.classify_crops(images), model.classify_crops(images.flip(-1)), atol=1e-5)


def test_after_a_box_crop_the_categorys_box_fills_the_crop() -> None:
    model = heads()
    prediction = model.predict_crops(crops(), category=torch.tensor([0, 1, 1]), crop="box")
    for i, number in enumerate([0, 1, 1]):
        (x0, y0, z0), (x1, y1, z1) = BOXES[number]
        corners = torch.tensor([(x, y, z) for x in (x0, x1) for y in (y0, y1) for z in (z0, z1)])
        camera = Camera(focal=prediction.focal[i], principal_point=prediction.principal_point[i], height=48, width=64)
        pixels, _ = camera.project(corners, prediction.pose[i])
        size = pixels.amax(0) - pixels.amin(0)
        middle = (pixels.amax(0) + pixels.amin(0)) / 2
        assert float(size.max()) == pytest.approx(0.7 * 48, rel=1e-3)
        assert middle.tolist() == pytest.approx([32, 24], abs=0.2)


def test_an_empty_batch_has_empty_answers() -> None:
    for crop in ("oracle", "box"):
        assert len(heads().predict_crops(crops(0), crop=crop)) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("family", "architecture", "size"),
    [("resnet", RESNET.architecture, 16), ("vit", TRANSFORMER, 24), ("dinov2", TRANSFORMER, 48)],
)
def test_the_encoder_is_the_extractors_backbone(family: str, architecture: dict[str, object], size: int) -> None:
    extractor = build_extractor(BackboneConfig(family, dict(architecture), dimension=16)).eval()
    encoder = ImageEncoder(extractor).eval()
    images = crops(2).float() / 255
    vectors = encoder(images)
    assert encoder.size == size and vectors.shape == (2, size) and vectors.dtype == torch.float32
    normalised = (images - extractor.mean) / extractor.std
    encoder.amp = False
    if family == "resnet":
        expected = extractor.backbone(normalised).feature_maps[-1].flatten(2).mean(2)
    elif family == "vit":
        expected = extractor.backbone(normalised, interpolate_pos_encoding=True).last_hidden_state[:, 0]
    else:
        tokens = extractor.backbone(normalised).last_hidden_state
        expected = torch.cat([tokens[:, 0], tokens[:, 1:].sum(1) / (tokens.shape[1] - 1)], dim=1)
    torch.testing.assert_close(encoder(images), expected, rtol=1e-4, atol=1e-5)


def test_frozen_statistics_stay_frozen() -> None:
    config = BackboneConfig("resnet", RESNET.architecture, 16, freeze_statistics=True)
    model = heads(backbone=config).train()
    before = {name: tensor.clone() for name, tensor in model.encoder.named_buffers()}
    model(crops())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.encoder.named_buffers())


def test_a_model_is_saved_and_loaded(tmp_path: Path) -> None:
    model = heads("regression")
    model.calibrate(1.5)
    model.save_pretrained(tmp_path / "run" / "model")
    for folder in (tmp_path / "run", tmp_path / "run" / "model"):
        for loaded in (load_predictor(folder), DualHead.from_pretrained(folder)):
            assert isinstance(loaded, DualHead) and loaded.config == model.config and not loaded.training
            torch.testing.assert_close(loaded.classify_crops(crops()), model.classify_crops(crops()))


def test_a_model_of_another_kind_is_reported(tmp_path: Path) -> None:
    heads().save_pretrained(tmp_path / "model")
    with pytest.raises(CompNetError, match=r"dual-head model, not a compnet one.*load_predictor"):
        CompNet.from_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(path.read_text().replace('"dual-head"', '"oracle"'))
    with pytest.raises(CompNetError, match=r"config\.json.*unknown kind 'oracle'"):
        load_predictor(tmp_path / "model")


def test_unknown_pose_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="pose_head must be one of"):
        heads("guess")


TINY = CompNetRecipe(
    name="tiny-heads",
    description="for tests",
    input=InputSettings(height=48, width=48),
    backbone=BackboneSettings(architecture=RESNET.architecture),
    schedule=ScheduleSettings(
        epochs=4,
        batch_size=4,
        learning_rate=3e-3,
        head_learning_rate=3e-3,
        calibration_fraction=0.25,
        calibrate_every=2,
    ),
)


@pytest.mark.parametrize("method", ["dual-head", "novum"])
def test_baselines_train_resume_and_are_evaluated(tiny_data: Path, tmp_path: Path, method: str) -> None:
    small = TINY.with_settings({"backbone.dimension": 16, "model.vertex_count": 40, "bank.background_size": 32})
    recipe = recipe_like({"novum": NovumRecipe, "dual-head": DualHeadRecipe}[method], small)
    options = {"workers": 0, "progress": False}
    train(recipe, tiny_data, tmp_path / "whole", **options)  # type: ignore[arg-type]
    train(recipe, tiny_data, tmp_path / "parts", stop_after=1, **options)  # type: ignore[arg-type]
    model = train(recipe, tiny_data, tmp_path / "parts", resume=True, **options)  # type: ignore[arg-type]
    whole = load_predictor(tmp_path / "whole").state_dict()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in model.state_dict().items())
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"] and "calibration_accuracy" in log[-1]
    parts = {"dual-head": {"category_loss", "pose_loss"}, "novum": set()}[method]
    assert parts == {name for name in log[0] if name.endswith("_loss")}
    dataset = ImageNet3D(tiny_data)
    metrics = evaluate(model, dataset.samples("val"), symmetry=dataset.symmetry, loading=Loading(progress=False))
    assert metrics.images == len(dataset.samples("val"))
    assert {name for name, _ in metrics.pose.plain.items()} == {"true_category", "predicted_category", "joint"}


def test_novum_descends_on_its_own_loss(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One softmax, every visible vertex a query, the background at 0.005."""
    calls = []

    def watched(queries: Queries, *_: object, **options: object) -> torch.Tensor:
        calls.append(options)
        return (normalize(queries.features, dim=-1).sum() * 0).reshape(())

    monkeypatch.setattr("compnet3d.training.objectives.full_contrastive_loss", watched)
    recipe = RECIPES["quickstart-novum"].with_settings(
        {
            "schedule.epochs": 1,
            "schedule.processes": 1,
            "input.height": 48,
            "input.width": 48,
            "backbone.architecture": RESNET.architecture,
            "backbone.dimension": 16,
            "model.vertex_count": 40,
        }
    )
    train(recipe, tiny_data, tmp_path / "run", workers=0, progress=False)
    assert calls and all(call["background_weight"] == 0.005 for call in calls)
    assert "weights" not in calls[0]


def test_every_recipe_has_its_baselines() -> None:
    bases = [name for name, recipe in RECIPES.items() if recipe.method == "compnet"]
    assert bases == [
        "quickstart",
        "robust",
        "eth80",
        "robust-photos",
        "cad-to-real",
        "imagenet3d-resnet50",
        "imagenet3d-vitb14",
    ]
    for name in bases:
        base = RECIPES[name]
        for suffix in ("novum", "heads", "heads-regression"):
            other = RECIPES[f"{name}-{suffix}"]
            for part in ("input", "augmentation"):
                assert getattr(other, part) == getattr(base, part)
            for setting in ("architecture", "pretrained"):
                assert getattr(other.backbone, setting) == getattr(base.backbone, setting)
            assert other.schedule.batch_size == base.schedule.batch_size
            # a classifier stands on the last stage
            assert other.backbone.stages == (base.backbone.stages if suffix == "novum" else 3)
            longer = suffix == "novum" and name.startswith("imagenet3d")  # table 1: 100 epochs instead of 12
            assert other.schedule.epochs == (100 if longer else base.schedule.epochs)
            if suffix == "novum":  # NOVUM's loss is the contrast alone
                assert "classification_weight" not in other.to_dict()["loss"]
    heads, regression = RECIPES["eth80-heads"], RECIPES["eth80-heads-regression"]
    assert heads.model.pose_bins == 40 and regression.model.pose_head == "regression"
