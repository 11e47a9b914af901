"""Training with the surface of a category's CAD model in place of its cuboid."""

from __future__ import annotations

from pathlib import Path

import torch

from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.transforms import InputConfig
from compnet3d.evaluation.evaluate import evaluate
from compnet3d.geometry.cuboid import cuboid_mesh
from compnet3d.models.backbones import BackboneConfig
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
from compnet3d.models.registry import load_predictor
from compnet3d.rendering.spread import representative, spread_vertices
from compnet3d.rendering.surface import Surfaces
from compnet3d.training.train import train
from tests.networks import TINY_RESNET
from tests.training.test_train import TINY


def test_a_mesh_trains_and_is_saved_with_the_model(tiny_data: Path, tmp_path: Path) -> None:
    recipe = TINY.with_settings({"model.shape": "mesh", "model.vertex_count": 40})
    train(recipe, tiny_data, tmp_path / "whole", workers=0, progress=False)
    train(recipe, tiny_data, tmp_path / "parts", workers=0, progress=False, stop_after=1)
    train(recipe, tiny_data, tmp_path / "parts", workers=0, progress=False, resume=True)
    model, resumed = (load_predictor(tmp_path / name) for name in ("whole", "parts"))
    assert isinstance(model, CompNet) and model.surfaces is not None
    state = resumed.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    dataset = ImageNet3D(tiny_data)
    assert model.bank.offsets.diff().tolist() == [40] * len(model.categories)
    for number, category in enumerate(model.categories):
        surface = spread_vertices(representative(dataset.meshes(category)), 40)
        assert torch.equal(model.surfaces.vertices[number], surface.vertices)
        assert torch.equal(model.surfaces.mesh(number).faces, surface.mesh.faces)
    fresh = CompNet(model.config).state_dict()
    assert not torch.equal(model.bank.vertex_features, fresh["bank.vertex_features"])
    result = evaluate(model, dataset.samples("val"))
    assert result.images == len(dataset.samples("val"))


def test_initial_poses_follow_the_surface_that_is_loaded() -> None:
    boxes = [cuboid_mesh(torch.tensor([[-x, -y, -0.2], [x, y, 0.2]]), 40).mesh for x, y in ((0.4, 0.1), (0.1, 0.4))]
    wide, long = ([spread_vertices(box, 40)] for box in boxes)
    config = CompNetConfig(
        categories=("box",),
        bounds=(((-0.4, -0.4, -0.2), (0.4, 0.4, 0.2)),),
        backbone=BackboneConfig("resnet", TINY_RESNET, dimension=16),
        input_config=InputConfig(height=48, width=48, focal=120.0, distance=3.0, box_fill=0.7),
        shape="mesh",
        surface_sizes=Surfaces.sizes(wide),
    )
    model, other = CompNet(config, surfaces=wide), CompNet(config, surfaces=long)
    before, expected = model.pose_hypotheses(0), other.pose_hypotheses(0)
    assert not torch.equal(before.nearest_vertex, expected.nearest_vertex)
    model.load_state_dict(other.state_dict())
    assert torch.equal(model.pose_hypotheses(0).nearest_vertex, expected.nearest_vertex)


def test_a_cuboid_keeps_no_surface(tiny_data: Path, tmp_path: Path) -> None:
    model = train(TINY, tiny_data, tmp_path / "run", workers=0, progress=False)
    assert isinstance(model, CompNet) and model.surfaces is None
    assert model.config.shape == "cuboid" and model.config.surface_sizes == ()
