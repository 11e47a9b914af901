from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from compnet3d.data.transforms import CropMode, InputConfig, crop_box
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Camera, Pose, feature_grid
from compnet3d.geometry.mesh import Mesh
from compnet3d.inference.category_search import CategorySearch
from compnet3d.inference.matching import background_similarity, category_scores
from compnet3d.inference.pose_hypotheses import PoseGrid
from compnet3d.inference.pose_search import PoseSettings
from compnet3d.inference.prediction import Prediction
from compnet3d.inference.pruned_matching import Centroids, Pruning, category_centroids, pruned_scores
from compnet3d.inference.reconstruction import reconstruction_loss
from compnet3d.losses.inputs import Queries
from compnet3d.models.backbones import BackboneConfig
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
from compnet3d.models.observation import observe, sample_background
from compnet3d.rendering.shape import Shape
from compnet3d.training.objectives import excluded_vertices, scores_of_poses
from tests.networks import TINY_RESNET

BOUNDS = (
    ((-0.45, -0.2, -0.15), (0.45, 0.2, 0.15)),
    ((-0.15, -0.2, -0.45), (0.2, 0.2, 0.5)),
    ((-0.4, -0.01, -0.4), (0.4, 0.01, 0.4)),
)
CONFIG = CompNetConfig(
    categories=("brick", "tower", "board"),
    bounds=BOUNDS,
    backbone=BackboneConfig("resnet", TINY_RESNET, dimension=16),
    input_config=InputConfig(height=48, width=64, focal=120.0, distance=3.0, box_fill=0.7),
    vertex_count=60,
    background_size=32,
    pose=PoseSettings(steps=4, starts=2),
    grid=PoseGrid(azimuths=6, elevations=2, thetas=1),
)
STRIDE, ROWS, COLUMNS = 8, 6, 8
POSE = Pose.of([0.3, 2.5, 4.0, 5.9], [0.2, -0.3, 0.9, 0.0], [0.1, 6.0, 0.4, 0.0], [3.0, 2.6, 3.4, 2.0])
PRINCIPAL = torch.tensor([[32.0, 24.0], [20.0, 30.0], [32.0, 24.0], [50.0, 10.0]])
CATEGORY = torch.tensor([0, 1, 2, 0])


def make_model(config: CompNetConfig = CONFIG, seed: int = 0) -> CompNet:
    """A model whose every tensor is random, as if it had learned something."""
    torch.manual_seed(seed)
    model = CompNet(config)
    model.feature_extractor.amp = False
    generator = torch.Generator().manual_seed(seed)
    model.bank.vertex_features.copy_(_units(*model.bank.vertex_features.shape, generator=generator))
    model.bank.update_background(_units(20, 16, generator=generator))
    model.bank.set_grouping_weights(torch.rand(3, 3, generator=generator))
    for name, buffer in model.feature_extractor.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1, generator=generator)
    return model.eval()


def _units(*shape: int, generator: torch.Generator) -> Tensor:
    return normalize(torch.randn(*shape, generator=generator), dim=-1)


@pytest.fixture(scope="module")
def model() -> CompNet:
    return make_model()


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = [(60, 80), (48, 64), (30, 90)]
    return [Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)) for size in sizes]


def same(a: Prediction, b: Prediction, tolerance: float = 0.0) -> None:
    """Check that two answers are equal."""
    assert torch.equal(a.category_index, b.category_index)
    pairs = [(getattr(a, n), getattr(b, n)) for n in ("scores", "confidence", "focal", "principal_point")]
    pairs.append((a.reconstruction_score, b.reconstruction_score))
    pairs += [(a.pose.to_matrix(), b.pose.to_matrix()), (a.pose.distance, b.pose.distance)]
    for first, second in pairs:
        assert torch.allclose(first, second, atol=tolerance, rtol=tolerance)


# -- learning --------------------------------------------------------------------------------------------------------


def visible_by_planes(vertex: Tensor, category: int, camera: Tensor) -> bool:
    """Whether a vertex of a box lies on a side whose outward plane has the camera in front of it."""
    for axis in range(3):
        for end, sign in ((0, -1.0), (1, 1.0)):
            plane = BOUNDS[category][end][axis]
            if abs(float(vertex[axis]) - plane) < 1e-5 and sign * (float(camera[axis]) - plane) > 0:
                return True
    return False


def scene(model: CompNet) -> tuple[Shape, Pose, Camera]:
    """The objects in the four images, their poses, and the cameras."""
    return model.shape(CATEGORY), POSE, model.input_config.camera(PRINCIPAL)


def covered(model: CompNet) -> Tensor:
    """The cells that show the objects, bool [4, ROWS, COLUMNS]."""
    return model.render(CATEGORY, POSE, PRINCIPAL).foreground > 0


def linear_map() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A feature map that is linear in the pixel coordinates, and its coefficients: f = a + b u + c v."""
    generator = torch.Generator().manual_seed(3)
    a, b, c = (torch.randn(16, generator=generator) * s for s in (1.0, 0.03, 0.03))
    grid = feature_grid(ROWS, COLUMNS, STRIDE)
    values = a + grid[..., :1] * b + grid[..., 1:] * c
    return values.permute(2, 0, 1).expand(len(CATEGORY), -1, -1, -1), a, b, c


@pytest.mark.parametrize("with_occluder", [False, True])
def test_observed_features_are_those_at_the_visible_vertices(model: CompNet, with_occluder: bool) -> None:
    feature_map, a, b, c = linear_map()
    occluded = torch.zeros(4, 48, 64, dtype=torch.bool)
    if with_occluder:
        occluded[:, 10:26, 15:33] = True
    seen = observe(feature_map, *scene(model), occluded if with_occluder else None)
    for i, category in enumerate(CATEGORY.tolist()):
        camera = Camera(focal=torch.tensor(120.0), principal_point=PRINCIPAL[i], height=48, width=64)
        vertices = model.cuboids[category].vertices
        pixels, _ = camera.project(vertices, POSE[i])
        centre = POSE[i].camera_centre()
        expected: dict[int, Tensor] = {}
        for k, (u, v) in enumerate(pixels.tolist()):
            inside = 0 <= u < 64 and 0 <= v < 48
            if inside and visible_by_planes(vertices[k], category, centre) and not occluded[i, int(v), int(u)]:
                # beyond the centres of the outermost cells the map goes on as a constant
                cu, cv = min(max(u, 4.0), 60.0), min(max(v, 4.0), 44.0)
                expected[k] = normalize(a + b * cu + c * cv, dim=0)
        found = {int(k): f for k, f, ok in zip(seen.vertex[i], seen.features[i], seen.valid[i], strict=True) if ok}
        assert found.keys() == expected.keys() and len(found) > 3
        for k in found:
            assert torch.allclose(found[k], expected[k], atol=1e-5)


def test_an_object_out_of_the_image_shows_nothing(model: CompNet) -> None:
    feature_map = linear_map()[0][:1]
    camera = model.input_config.camera(torch.tensor([[-300.0, 24.0]]))
    seen = observe(feature_map, model.shape(CATEGORY[:1]), POSE[:1], camera)
    assert not seen.valid.any() and torch.isfinite(seen.features).all()


def numbered_cells() -> Tensor:
    """A map of unit vectors whose angle tells the cell."""
    angle = torch.arange(ROWS * COLUMNS) * (2 * math.pi / (ROWS * COLUMNS))
    cells = torch.zeros(16, ROWS * COLUMNS)
    cells[0], cells[1] = angle.cos(), angle.sin()
    return cells.unflatten(1, (ROWS, COLUMNS)).expand(len(CATEGORY), -1, -1, -1)


def cell_numbers(features: Tensor) -> list[int]:
    angle = torch.atan2(features[:, 1], features[:, 0]) % (2 * math.pi)
    return [round(x) % (ROWS * COLUMNS) for x in (angle * ROWS * COLUMNS / (2 * math.pi)).tolist()]


def touched_cells(i: int) -> set[int]:
    """Cells that any point of the object's surface, densely sampled, falls into."""
    low, high = (torch.tensor(corner) for corner in BOUNDS[int(CATEGORY[i])])
    steps = torch.linspace(0, 1, 60)
    grid = torch.stack(torch.meshgrid(steps, steps, torch.tensor([0.0, 1.0]), indexing="ij"), dim=-1).reshape(-1, 3)
    points = low + torch.cat([grid, grid[:, [0, 2, 1]], grid[:, [2, 0, 1]]]) * (high - low)
    camera = Camera(focal=torch.tensor(120.0), principal_point=PRINCIPAL[i], height=48, width=64)
    pixels, _ = camera.project(points, POSE[i])
    inside = ((pixels >= 0) & (pixels < torch.tensor([64.0, 48.0]))).all(dim=1)
    column, row = (pixels[inside] / STRIDE).long().unbind(1)
    return set((row * COLUMNS + column).tolist())


@pytest.mark.parametrize("seed", range(5))
def test_background_never_comes_from_cells_of_the_object(model: CompNet, seed: int) -> None:
    everything = ROWS * COLUMNS
    for i in range(len(CATEGORY)):
        one = slice(i, i + 1)
        generator = torch.Generator().manual_seed(seed)
        maps = numbered_cells()[one]
        for count in (5, everything):
            draw = torch.rand(1, everything, generator=generator)
            features, free = sample_background(maps, covered(model)[one], count, draw)
            cells = cell_numbers(features[free])
            assert 0 < len(cells) == len(set(cells)) <= count
            assert not set(cells) & touched_cells(i)


def test_background_is_drawn_anew_and_the_seed_decides(model: CompNet) -> None:
    def draw(seed: int) -> list[int]:
        numbers = torch.rand(4, ROWS * COLUMNS, generator=torch.Generator().manual_seed(seed))
        features, free = sample_background(numbered_cells(), covered(model), 4, numbers)
        return cell_numbers(features[free])

    assert draw(0) == draw(0) != draw(1)
    assert len(draw(0)) == 16


def test_what_hides_the_object_is_background(model: CompNet) -> None:
    hidden = torch.ones(4, 48, 64, dtype=torch.bool)
    _, free = sample_background(numbered_cells(), covered(model), 48, torch.rand(4, ROWS * COLUMNS), hidden)
    assert free.shape == (4, 48) and free.all()


def test_an_object_that_fills_the_image_leaves_no_background(model: CompNet) -> None:
    near = replace(POSE[:1], distance=torch.tensor([0.6]))
    filled = model.render(CATEGORY[:1], near, PRINCIPAL[:1]).foreground > 0
    features, free = sample_background(numbered_cells()[:1], filled, 5, torch.rand(1, ROWS * COLUMNS))
    assert features.shape == (1, 5, 16) and not free.any()


def test_pose_scores_are_those_of_eq8_pose_by_pose(monkeypatch: pytest.MonkeyPatch) -> None:
    """With their gradient, against the loss that pose estimation refines, one rendering after the other."""
    monkeypatch.setattr("compnet3d.inference.matching.bf16_is_fast", lambda: False)  # tested elsewhere
    model = make_model()
    maps = _units(4, ROWS, COLUMNS, 16, generator=torch.Generator().manual_seed(7)).permute(0, 3, 1, 2)
    turns = torch.tensor([0.0, 1.5, 3.0])
    pose = Pose(
        azimuth=POSE.azimuth[:, None] + turns,
        elevation=POSE.elevation[:, None] - 0.1 * turns,
        theta=POSE.theta[:, None].expand(-1, 3),
        distance=POSE.distance[:, None].expand(-1, 3),
    )
    weight = torch.rand(4, 3, generator=torch.Generator().manual_seed(8)) - 0.3
    ours_at = maps.clone().requires_grad_()
    ours = scores_of_poses(model, ours_at, CATEGORY, pose, PRINCIPAL)
    (ours_gradient,) = torch.autograd.grad((weight * ours).sum(), ours_at)

    plain_at = maps.clone().requires_grad_()
    rows = []
    for image in range(4):
        cells = plain_at[image].flatten(1).T
        similarity = cells @ model.bank.category_features(int(CATEGORY[image])).T
        background = (cells @ model.bank.background.T).amax(dim=1)
        for number in range(3):
            one = slice(image, image + 1)
            seen = model.render(CATEGORY[one], pose[one, number], PRINCIPAL[one])
            cost = model.config.pose.truncation
            rows.append(-reconstruction_loss(similarity[None], background[None], seen, truncation=cost)[0][0])
    plain = torch.stack(rows).reshape(4, 3)
    (gradient,) = torch.autograd.grad((weight * plain).sum(), plain_at)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(ours_gradient, gradient, atol=1e-5, rtol=1e-3)
    assert len(plain.detach().unique()) == 12


def test_near_vertices_are_those_within_the_radius(model: CompNet) -> None:
    vertex = torch.tensor([[0, 5], [3, 1], [7, 2], [9, 9]])
    queries = Queries(torch.zeros(4, 2, 16), CATEGORY, vertex, torch.ones(4, 2, dtype=torch.bool))
    near = excluded_vertices(model, queries, 0.2)
    for i, category in enumerate(CATEGORY.tolist()):
        low, high = (torch.tensor(corner) for corner in BOUNDS[category])
        points = model.cuboids[category].vertices
        for q in range(2):
            for k in range(len(points)):
                distance = float((points[k] - points[vertex[i, q]]).norm() / (high - low).norm())
                if abs(distance - 0.2) > 1e-5:
                    assert bool(near[i, q, k]) == (distance < 0.2)


# -- inference -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [(10.0, 5.0, 50.0, 45.0), (-20.0, 10.0, 30.0, 90.0), None], ids=str)
def test_answers_are_in_pixels_of_the_image(
    model: CompNet, images: list[Image.Image], box: tuple[float, ...] | None
) -> None:
    """The object projected in the crop, carried over by the crop, is the object projected in the image."""
    image = images[0]
    crop = crop_box(image, box, CONFIG.input_config)
    view = torch.from_numpy(crop.image.copy()).permute(2, 0, 1)[None]
    there = model.predict_crops(view, crop="box")
    here = model.predict(image, boxes="whole" if box is None else [box])
    points = model.mesh(here[0].category).vertices
    camera = Camera(
        focal=here.focal[0], principal_point=here.principal_point[0], height=image.height, width=image.width
    )
    in_image, _ = camera.project(points, here.pose[0])
    camera = Camera(focal=there.focal[0], principal_point=there.principal_point[0], height=48, width=64)
    in_view, _ = camera.project(points, there.pose[0])
    matrix = torch.tensor(crop.matrix, dtype=torch.float32)
    assert torch.allclose(in_view @ matrix[:, :2].T + matrix[:, 2], in_image, atol=1e-3)
    assert float(here.focal[0]) == pytest.approx(120.0 / crop.scale)


def test_a_batch_is_answered_like_its_images_one_by_one(model: CompNet, images: list[Image.Image]) -> None:
    boxes = [[5, 5, 40, 50], [0, 0, 64, 48], [10, 2, 60, 28]]
    together = model.predict(images, boxes=boxes)
    alone = Prediction.cat([model.predict(p, boxes=[b]) for p, b in zip(images, boxes, strict=True)])
    same(together, alone, 1e-3)
    same(together, model.predict(images, boxes=boxes, batch_size=2), 1e-3)
    assert len(together) == 3 and together.scores.shape == (3, 3)


def test_files_pil_images_and_arrays_are_the_same_image(
    model: CompNet, images: list[Image.Image], tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    images[0].save(path)
    expected = model.predict(images[0])
    for image in (path, str(path), [path], np.asarray(images[0])):
        same(model.predict(image), expected)


def test_confidence_is_the_softmax_of_the_scores(model: CompNet, images: list[Image.Image]) -> None:
    answer = model.predict(images)
    expected = (CONFIG.temperature * answer.scores).softmax(dim=1).max(dim=1)
    assert torch.allclose(answer.confidence, expected.values) and torch.equal(answer.category_index, expected.indices)


def test_the_pose_is_that_of_the_category_asked_for(model: CompNet, images: list[Image.Image]) -> None:
    crops = torch.stack([torch.from_numpy(crop_box(p, None, CONFIG.input_config).image.copy()) for p in images])
    crops = crops.permute(0, 3, 1, 2)
    free = model.predict_crops(crops)
    given = torch.tensor([2, 0, 1])
    answer = model.predict_crops(crops, category=given)
    assert torch.equal(answer.category_index, given) and torch.equal(answer.scores, free.scores)
    with torch.no_grad():
        alone = model.render_and_compare.estimate_poses(model.features(crops), given)
    assert torch.allclose(answer.reconstruction_score, -alone.loss)
    assert torch.equal(answer.pose.distance, torch.full((3,), 3.0))  # known after an oracle crop
    assert torch.equal(answer.principal_point, torch.tensor([[32.0, 24.0]] * 3))


def test_the_unseen_category_reconstructs_no_worse_than_any(model: CompNet, images: list[Image.Image]) -> None:
    crops = torch.from_numpy(crop_box(images[0], None, CONFIG.input_config).image.copy()).permute(2, 0, 1)[None]
    unseen = model.predict_crops(crops, unseen=True)
    each = [model.predict_crops(crops, category=torch.tensor([y])).reconstruction_score for y in range(3)]
    assert float(unseen.reconstruction_score) == pytest.approx(max(float(score) for score in each), abs=1e-5)


def test_feature_activation_is_the_best_vertex_of_each_cell(model: CompNet, images: list[Image.Image]) -> None:
    crops = torch.from_numpy(crop_box(images[0], None, CONFIG.input_config).image.copy()).permute(2, 0, 1)[None]
    activation = model.feature_activation(crops, torch.tensor([1]))[0]
    with torch.no_grad():
        features = model(crops)[0]
    for i in range(ROWS):
        for j in range(COLUMNS):
            best = max(float(c @ features[:, i, j]) for c in model.bank.category_features(1))
            assert float(activation[i, j]) == pytest.approx(best, abs=1e-5)


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_saved_model_answers_the_same(model: CompNet, images: list[Image.Image], tmp_path: Path) -> None:
    model = make_model(replace(CONFIG, temperature=37.5))
    model.cad_meshes = {"brick": make_model().cuboids[0].mesh}
    model.save_pretrained(tmp_path / "model")
    loaded = CompNet.from_pretrained(tmp_path / "model")
    loaded.feature_extractor.amp = False
    assert loaded.config == model.config and not loaded.training
    for crop in (None, [[0, 0, 20, 20]] * 3):
        same(loaded.predict(images, boxes=crop), model.predict(images, boxes=crop))
    assert torch.equal(loaded.mesh("brick").vertices, model.cad_meshes["brick"].vertices)
    assert torch.equal(loaded.mesh("tower").vertices, model.cuboids[1].vertices)
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    loaded.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before


def test_everything_learned_is_in_the_state(model: CompNet, images: list[Image.Image]) -> None:
    other = make_model(seed=1)
    assert not torch.equal(other.predict(images).scores, model.predict(images).scores)
    assert other.pose_hypotheses(0) is other.pose_hypotheses(0)
    other.load_state_dict(model.state_dict())
    same(other.predict(images), model.predict(images))
    for name, buffer in model.bank.named_buffers():
        assert torch.equal(buffer, model.state_dict()[f"bank.{name}"])
    assert {name for name, _ in model.named_parameters()} <= model.state_dict().keys()


@pytest.mark.parametrize("crop", ["oracle", "box"])
def test_a_changed_grid_makes_new_initial_poses(crop: CropMode) -> None:
    model = make_model()
    before = model.pose_hypotheses(0, crop)
    assert model.pose_hypotheses(0, crop) is before
    model.config = replace(model.config, grid=PoseGrid(azimuths=5, elevations=1, thetas=1))
    changed = model.pose_hypotheses(0, crop)
    assert changed.pose.shape == (5,) and changed.nearest_vertex.shape[1] == 5
    assert torch.equal(changed.nearest_vertex, make_model(model.config).pose_hypotheses(0, crop).nearest_vertex)


@pytest.mark.parametrize(
    "change",
    [
        {"input_config": replace(CONFIG.input_config, distance=CONFIG.input_config.distance * 1.5)},
        {"input_config": replace(CONFIG.input_config, focal=CONFIG.input_config.focal * 1.5)},
        {"renderer": "gaussian"},
        {"renderer": "gaussian", "foreground_threshold": 0.1},
    ],
)
def test_initial_poses_follow_what_they_show(change: dict[str, Any]) -> None:
    model = make_model()
    before = model.pose_hypotheses(0)
    model.config = replace(model.config, temperature=3.0)  # nothing that is seen
    assert model.pose_hypotheses(0) is before
    model.config = replace(model.config, **change)
    after = model.pose_hypotheses(0)
    assert not torch.equal(after.nearest_vertex, before.nearest_vertex)
    assert torch.equal(after.nearest_vertex, make_model(model.config).pose_hypotheses(0).nearest_vertex)


def test_initial_poses_after_a_box_crop_follow_the_cad_model() -> None:
    model = make_model()
    oracle, box = model.pose_hypotheses(0), model.pose_hypotheses(0, "box")
    name, mesh = model.categories[0], model.mesh(model.categories[0])
    model.cad_meshes[name] = Mesh(2 * mesh.vertices, mesh.faces)
    assert model.pose_hypotheses(0) is oracle
    changed = model.pose_hypotheses(0, "box")
    assert float((changed.pose.distance / box.pose.distance).min()) > 1.5
    assert model.pose_hypotheses(0, "box") is changed


def test_the_whole_model_moves_and_its_cuboids_are_not_saved() -> None:
    model = make_model()
    assert not [name for name in model.state_dict() if "cuboid" in name or "surface" in name]
    model.to("meta")
    assert model.device.type == "meta" and model.cuboids.bounds.device.type == "meta"
    assert {tensor.device.type for tensor in [*model.buffers(), *model.parameters()]} == {"meta"}


def test_the_gaussian_renderer_serves_the_same_model(images: list[Image.Image]) -> None:
    model = make_model(replace(CONFIG, renderer="gaussian"))
    answer = model.predict(images[:1])
    assert torch.isfinite(answer.pose.to_matrix()).all()
    same(model.predict(images[:1]), answer)


def test_a_config_survives_json_and_an_unknown_renderer_does_not_pass() -> None:
    assert CompNetConfig.from_dict(CONFIG.to_dict()) == CONFIG
    with pytest.raises(ValueError, match="renderer must be one of"):
        CompNet(replace(CONFIG, renderer="painter"))


@pytest.mark.parametrize("boxes", [5, 0.5, ["5", "5", "40", "40"], ["whole"], [None], [[5, None]], [[[5, 5, 40]]]])
def test_boxes_of_other_things_are_one_sentence(model: CompNet, boxes: Any) -> None:
    with pytest.raises(CompNetError, match="x1 y1 x2 y2 in pixels"):
        model.predict(Image.new("RGB", (48, 48)), boxes=boxes)


def test_a_number_that_no_float_holds_is_no_box(model: CompNet) -> None:
    with pytest.raises(CompNetError, match="is not of numbers; give x1 y1 x2 y2 in pixels"):
        model.predict(Image.new("RGB", (48, 48)), boxes=[5, 5, 10**400, 40])


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None, True])
@pytest.mark.parametrize("name", ["objects", "batch_size"])
def test_counts_are_whole_numbers_of_at_least_one(model: CompNet, name: str, value: Any) -> None:
    with pytest.raises(CompNetError, match=f"^{name} must be a whole number of at least 1, not "):
        model.predict(Image.new("RGB", (48, 48)), boxes="whole", **{name: value})


def test_boxes_must_match_the_images(model: CompNet, images: list[Image.Image]) -> None:
    with pytest.raises(CompNetError, match="boxes for 1 images were given for 3 images"):
        model.predict(images, boxes=[[0, 0, 5, 5]])


def test_pruned_matching_follows_the_bank() -> None:
    model = make_model()
    images = torch.randint(256, (3, 3, 48, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    exact = model.predict_crops(images)
    model.pruning = Pruning(centroids=4, shortlist=3)
    torch.testing.assert_close(model.predict_crops(images).scores, exact.scores)
    model.pruning = Pruning(centroids=4, shortlist=1)
    bank, kept = model.bank.feature_bank, Centroids()
    before = kept.of(bank, 4)
    assert kept.of(bank, 4) is before
    assert kept.of(bank, 5).shape[1] == 5
    before = kept.of(bank, 4)
    model.bank.update_vertices(torch.arange(9), _units(9, 16, generator=torch.Generator().manual_seed(2)), 0.0)
    changed = kept.of(model.bank.feature_bank, 4)
    assert not torch.equal(changed[0], before[0]) and torch.equal(changed[1:], before[1:])
    scores = model.predict_crops(images).scores
    assert (scores.argmax(1) == model.predict_crops(images).category_index).all()


def test_mirrored_scores_are_the_mean_of_both_sides() -> None:
    images = torch.randint(256, (3, 3, 48, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    plain, both = make_model(), make_model(replace(CONFIG, mirrored_scores=True))
    expected = (plain.predict_crops(images).scores + plain.predict_crops(images.flip(-1)).scores) / 2
    found = both.predict_crops(images)
    torch.testing.assert_close(found.scores, expected)
    torch.testing.assert_close(both.predict_crops(images.flip(-1)).scores, expected)
    assert not torch.allclose(expected, plain.predict_crops(images).scores)
    # the pose is that of the image itself
    given = torch.tensor([0, 1, 2])
    poses = [model.predict_crops(images, category=given).pose.azimuth for model in (plain, both)]
    assert torch.equal(*poses)


def _lowest_losses(model: CompNet, feature_map: Tensor, crop: CropMode, margin: float) -> Tensor:
    """The least over each category's initial poses of Eq. 8 less the margin for covered cells, loop by loop."""
    losses = torch.empty(len(feature_map), len(model.categories))
    cost = model.config.pose.truncation
    assert cost is not None
    for b, image in enumerate(feature_map.flatten(2).transpose(1, 2)):
        for y in range(len(model.categories)):
            table = model.pose_hypotheses(y, crop)
            vertices = model.bank.category_features(y)
            totals = []
            for vertex_of_cell in table.nearest_vertex.T.tolist():
                total = 0.0
                for feature, k in zip(image, vertex_of_cell, strict=True):
                    background = float((model.bank.background @ feature).max())
                    if k < len(vertices):
                        total -= max(float(vertices[k] @ feature), background - cost) + margin
                    else:
                        total -= background
                totals.append(total / len(image))
            losses[b, y] = min(totals)
    return losses


@pytest.mark.parametrize("crop", ["oracle", "box"])
def test_classification_may_count_the_best_initial_pose(crop: CropMode) -> None:
    grid = PoseGrid(azimuths=3, elevations=1, thetas=2)
    settings = PoseSettings(starts=1, steps=2, truncation=0.2, foreground_bonus=0.1)
    plain = make_model(replace(CONFIG, grid=grid, pose=settings))
    generator = torch.Generator().manual_seed(3)
    plain.bank.update_background(_units(12, 16, generator=generator))
    share = make_model(replace(plain.config, pose_score_weight=0.25))
    share.load_state_dict(plain.state_dict())
    images = torch.randint(256, (2, 3, 48, 64), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        expected = 0.75 * plain.predict_crops(images, crop=crop).scores
        expected -= 0.25 * _lowest_losses(plain, plain(images), crop, margin=0.1)
    found = share.predict_crops(images, crop=crop)
    torch.testing.assert_close(found.scores, expected)
    assert torch.equal(found.category_index, expected.argmax(dim=1))
    if crop == "oracle":
        torch.testing.assert_close(share.classify_crops(images), expected)


@pytest.mark.parametrize("pruning", [None, Pruning(centroids=8, cells=20, shortlist=2)])
def test_what_the_background_matches_is_computed_once_for_a_crop(
    pruning: Pruning | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(replace(CONFIG, pose_score_weight=0.5, mirrored_scores=True))
    model.pruning = pruning
    images = torch.randint(256, (3, 3, 48, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    asked: list[int] = []

    def counted(features: Tensor, background: Tensor) -> Tensor:
        asked.append(len(features))
        return background_similarity(features, background)

    for module in ("inference.matching", "inference.pruned_matching"):
        monkeypatch.setattr(f"compnet3d.{module}.background_similarity", counted)
    found = model.predict_crops(images)
    assert asked == [3, 3]  # the crop's own cells and its mirror image's
    with torch.no_grad():
        features = model.features(images)  # computes it again
    assert asked == [3, 3, 3]
    apart = model.render_and_compare.estimate_poses(features, found.category_index)
    model.render_and_compare.search_categories(features)
    assert asked == [3, 3, 3] and torch.equal(found.pose.azimuth, apart.pose.wrapped().azimuth)
    bank, maps = model.bank.feature_bank, features.feature_map
    assert torch.equal(category_scores(maps, bank), category_scores(maps, bank, features.background))
    centroids, few = category_centroids(bank, 8), Pruning(centroids=8, cells=20, shortlist=2)
    known = pruned_scores(maps, bank, centroids, few, features.background)
    assert torch.equal(pruned_scores(maps, bank, centroids, few), known)


def test_only_the_likely_categories_are_searched() -> None:
    model = make_model(replace(CONFIG, grid=PoseGrid(azimuths=3, elevations=1, thetas=1)))
    with torch.no_grad():
        features = model.features(torch.rand(4, 3, 48, 64, generator=torch.Generator().manual_seed(5)))
    cost = model.config.pose.truncation
    exact = model.render_and_compare.search_categories(features)
    likely = torch.tensor([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [2.0, 1.0, 3.0], [1.0, 2.0, 3.0]])
    for count in (1, 2):
        search = CategorySearch(shortlist=count, truncation=cost)
        found = model.render_and_compare.search_categories(features, search, likely)
        kept = likely > 3 - count
        torch.testing.assert_close(found[kept], exact[kept])
        worst = torch.stack([row[chosen].max() for row, chosen in zip(exact, kept, strict=True)])
        torch.testing.assert_close(found[~kept], worst.repeat_interleave(3 - count))
