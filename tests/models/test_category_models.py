"""Taking models apart and putting them together: nothing but what was asked for changes, to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from compnet3d.errors import CompNetError
from compnet3d.geometry.cuboid import cuboid_mesh
from compnet3d.geometry.mesh import Mesh
from compnet3d.inference.confidence import Calibration
from compnet3d.inference.matching import category_matches, cells_of
from compnet3d.inference.pose_search import PoseSettings
from compnet3d.models.category_models import CategoryModel, add_category, parts_of, remove_categories, rename_category
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
from compnet3d.rendering.surface import Surface, Surfaces
from tests.models.test_compnet import CONFIG
from tests.networks import random_compnet

NEW_BOX = [[-0.3, -0.1, -0.2], [0.3, 0.25, 0.2]]


def box(bounds: list[list[float]], count: int = 8) -> Mesh:
    return cuboid_mesh(torch.tensor(bounds), count).mesh


def cuboid_model() -> CompNet:
    config = replace(
        CONFIG,
        pose=PoseSettings(steps=2, starts=1, prior_weight=0.1),
        temperature=23.0,
        calibration=Calibration(category=(0.5, 0.9, 0.1), least_evidence=0.2, symmetry_orders=(1, 0, 2)),
    )
    return filled(random_compnet(config))


def mesh_model() -> CompNet:
    surfaces = [Surface.of(box([*map(list, bounds)], 8 + 12 * n)) for n, bounds in enumerate(CONFIG.bounds)]
    config = replace(CONFIG, shape="mesh", surface_sizes=Surfaces.sizes(surfaces), vertex_count=20)
    torch.manual_seed(3)
    model = CompNet(config, surfaces=surfaces)
    model.bank.vertex_features.copy_(normalize(torch.randn_like(model.bank.vertex_features), dim=1))
    return filled(model)


def filled(model: CompNet) -> CompNet:
    torch.manual_seed(5)
    model.bank.set_grouping_weights(torch.rand_like(model.bank.grouping_weights))
    model.cad_meshes = {"tower": box([[-1, -1, -1], [1, 1, 1]])}
    return model.eval()


def begun(model: CompNet, name: str = "mug", order: int = 0) -> CategoryModel:
    rotations = torch.linalg.qr(torch.randn(5, 3, 3))[0]
    return CategoryModel.begun(model, name, [box(NEW_BOX)], rotations, order)


def one_category(model: CompNet) -> CompNet:
    return remove_categories(model, ["tower", "board"])


def assert_same(first: CompNet, second: CompNet) -> None:
    assert first.config == second.config
    states = first.state_dict(), second.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert first.cad_meshes.keys() == second.cad_meshes.keys()
    for name, mesh in first.cad_meshes.items():
        assert torch.equal(mesh.vertices, second.cad_meshes[name].vertices)


def matched(model: CompNet, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The features of all cells, and each one's best match with each category."""
    cells = cells_of(model(images)).flatten(0, 1)
    return cells, category_matches(cells, model.bank.vertex_features, model.bank.offsets.tolist())


MODELS = pytest.mark.parametrize("make", [cuboid_model, mesh_model, lambda: one_category(cuboid_model())])


@MODELS
def test_without_what_was_added_it_is_the_model_from_before(make) -> None:
    model = make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    larger = add_category(model, begun(model))
    again = remove_categories(add_category(larger, begun(larger, "cup", 3)), ["cup", "mug"])
    assert_same(again, model)
    # nor has the given model changed
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@MODELS
def test_an_added_category_is_the_last_and_has_what_the_others_have(make) -> None:
    model = make()
    count, rows = len(model.categories), len(model.bank.vertex_features)
    larger = add_category(model, part := begun(model))
    assert larger.categories == (*model.categories, "mug")
    assert larger.calibration.symmetry_orders[-1] == 0 and len(larger.calibration.symmetry_orders) == count + 1
    assert larger.config.temperature == model.config.temperature
    assert torch.equal(larger.bank.vertex_features[:rows], model.bank.vertex_features)
    assert torch.equal(larger.bank.category_features(count), part.vertex_features)
    assert larger.bank.offsets.tolist() == [*model.bank.offsets.tolist(), rows + len(part.vertex_features)]
    assert torch.equal(larger.bank.background, model.bank.background) and len(model.bank.background) in (0, 10)
    weights = larger.bank.grouping_weights
    assert torch.equal(weights[:count, :count], model.bank.grouping_weights)
    assert weights[count].tolist() == weights[:, count].tolist() == [1.0] * count + [0.0]
    larger.check_loaded()  # the numbers that others count with are right
    torch.testing.assert_close(larger.bank.vertex_features.norm(dim=1), torch.ones(len(larger.bank.vertex_features)))
    assert torch.equal(larger.cad_meshes["mug"].vertices, box(NEW_BOX).vertices)
    if larger.prior is not None and model.prior is not None:
        assert larger.prior.centres.shape[0] == larger.prior.log_share.shape[0] == count + 1
        assert torch.equal(larger.prior.weights[:count], model.prior.weights)
        assert int(larger.prior.log_share[count].isfinite().sum()) == 5


@MODELS
def test_what_cells_match_and_poses_of_the_old_categories_are_the_same_bits(make) -> None:
    model = make()
    larger, count = add_category(model, begun(model)), len(model.categories)
    images = torch.randint(0, 256, (3, 3, 48, 64), dtype=torch.uint8)
    with torch.no_grad():
        (cells, matches), (others, more) = (matched(some, images) for some in (model, larger))
    assert torch.equal(cells, others) and torch.equal(more[:, :count], matches)
    # the mean over the cells is summed in an order that depends on how many categories there are
    scores = larger.category_scores(larger.features(images))[:, :count]
    torch.testing.assert_close(scores, model.category_scores(model.features(images)), rtol=0, atol=1e-6)
    category = torch.tensor([0, len(model.categories) - 1, 0])
    found, before = (some.predict_crops(images, category=category) for some in (larger, model))
    assert torch.equal(found.pose.azimuth, before.pose.azimuth)
    assert torch.equal(found.reconstruction_score, before.reconstruction_score)


def test_what_remains_after_removing_one_in_the_middle() -> None:
    model = cuboid_model()
    smaller = remove_categories(model, ["tower"])
    assert smaller.categories == ("brick", "board") and smaller.calibration.symmetry_orders == (1, 2)
    assert smaller.config.bounds == (CONFIG.bounds[0], CONFIG.bounds[2]) and not smaller.cad_meshes
    expected = torch.cat([model.bank.category_features(0), model.bank.category_features(2)])
    assert torch.equal(smaller.bank.vertex_features, expected)
    weights = model.bank.grouping_weights
    assert smaller.bank.grouping_weights[0, 1] == weights[0, 2] and smaller.bank.grouping_weights[1, 0] == weights[2, 0]
    assert model.prior is not None and smaller.prior is not None
    assert torch.equal(smaller.prior.centres[1], model.prior.centres[2])
    images = torch.randint(0, 256, (2, 3, 48, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(matched(smaller, images)[1], matched(model, images)[1][:, [0, 2]])


def test_renaming_changes_the_name_alone() -> None:
    model = cuboid_model()
    other = rename_category(model, "tower", "skyscraper")
    assert other.categories == ("brick", "skyscraper", "board") and set(other.cad_meshes) == {"skyscraper"}
    assert other.config == replace(model.config, categories=other.categories)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in other.state_dict().items())
    assert_same(rename_category(other, "skyscraper", "tower"), model)


@MODELS
def test_what_is_made_is_saved_and_loaded(make, tmp_path: Path) -> None:
    model = make()
    larger = add_category(model, begun(model))
    larger.save_pretrained(tmp_path / "model")
    assert_same(CompNet.from_pretrained(tmp_path / "model"), larger)


def test_nothing_is_shared_with_the_model_from_before() -> None:
    model = cuboid_model()
    larger = add_category(model, begun(model))
    with torch.no_grad():
        for tensor in larger.state_dict().values():
            tensor.zero_()
    assert all(tensor.abs().sum() > 0 for name, tensor in model.state_dict().items() if "vertex" in name)
    assert any(parameter.abs().sum() > 0 for parameter in model.feature_extractor.parameters())


def test_a_model_that_was_never_calibrated_stays_so() -> None:
    model = filled(random_compnet(CONFIG))
    assert model.config.calibration is None
    assert add_category(model, begun(model, order=1)).config.calibration is None
    assert remove_categories(add_category(model, begun(model, order=4)), ["mug"]).config.calibration is None


def test_a_surface_is_taken_out_as_it_was_put_in() -> None:
    made = [Surface.of(box(NEW_BOX, 8 + 20 * n)) for n in range(3)]
    for number, surface in enumerate(made):
        found = Surfaces(made)[number]
        assert torch.equal(found.vertices, surface.vertices) and torch.equal(found.normals, surface.normals)
        assert torch.equal(found.mesh.faces, surface.mesh.faces) and torch.equal(found.divisions, surface.divisions)
        assert torch.equal(found.lookup, surface.lookup) and found.spacing == pytest.approx(surface.spacing)


def test_categories_that_are_or_are_not_there() -> None:
    model = cuboid_model()
    with pytest.raises(CompNetError, match="'brick' already"):
        begun(model, "brick")
    with pytest.raises(CompNetError, match="no category 'mug'; choose one of brick, tower, board"):
        remove_categories(model, ["brick", "mug"])
    with pytest.raises(CompNetError, match="not all of them"):
        remove_categories(model, model.categories)
    with pytest.raises(CompNetError, match="no category 'mug'"):
        rename_category(model, "mug", "cup")
    with pytest.raises(CompNetError, match="'board' already"):
        rename_category(model, "brick", "board")
    with pytest.raises(CompNetError, match="cannot be a file's name"):
        rename_category(model, "brick", "../brick")


def test_parts_are_what_the_model_holds() -> None:
    model = mesh_model()
    for number, part in enumerate(parts_of(model)):
        assert part.name == model.categories[number] and part.surface is not None
        assert torch.equal(part.vertex_features, model.bank.category_features(number))
        assert len(part.surface.vertices) == len(part.vertex_features)


def test_two_categories_that_come_one_after_the_other_start_with_nothing_in_common() -> None:
    config: CompNetConfig = replace(CONFIG, backbone=replace(CONFIG.backbone, dimension=512))
    model = random_compnet(config)
    first, second = begun(model, "mug").vertex_features, begun(model, "cup").vertex_features
    assert float((first * first).sum(dim=1).min()) > 0.99
    assert float((first * second).sum(dim=1).abs().max()) < 0.3
