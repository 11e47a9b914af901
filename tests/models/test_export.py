"""Exported files answer what the model answers, at any batch and size, and a file that does not stops the export."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.transforms import InputConfig
from compnet3d.errors import CompNetError
from compnet3d.inference.confidence import Calibration
from compnet3d.inference.pose_hypotheses import PoseGrid
from compnet3d.inference.pose_search import PoseSettings
from compnet3d.models import export, onnx_files
from compnet3d.models.backbones import BackboneConfig
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
from compnet3d.models.dual_head import DualHead, DualHeadConfig
from compnet3d.models.export import ExportSettings, export_model
from compnet3d.models.onnx_predictor import OnnxPredictor
from tests.networks import TINY_RESNET, random_compnet

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

RESNET = BackboneConfig("resnet", TINY_RESNET, dimension=16)
SMALL_VIT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8, "image_size": 32,
             "intermediate_size": 16}  # fmt: skip
VIT = BackboneConfig("vit", SMALL_VIT, dimension=16, upsampling=2)
SPEC = InputConfig(height=64, width=80, focal=160.0, distance=3.0, box_fill=0.7)
BOXES = (((-0.45, -0.2, -0.15), (0.45, 0.2, 0.15)), ((-0.15, -0.2, -0.45), (0.2, 0.2, 0.5)),
         ((-0.4, -0.01, -0.4), (0.4, 0.01, 0.4)))  # fmt: skip
NAMES = ("brick", "tower", "board")
CONFIG = CompNetConfig(
    categories=NAMES,
    bounds=BOXES,
    backbone=RESNET,
    input_config=SPEC,
    vertex_count=30,
    background_size=16,
    mirrored_scores=True,
    calibration=Calibration(category=(-0.5, 0.8, 2.0)),
    pose=PoseSettings(steps=0, starts=1),
    grid=PoseGrid(azimuths=5, elevations=2, thetas=1),
)


def crops(count: int, height: int = 64, width: int = 80, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def model() -> CompNet:
    return random_compnet(CONFIG)


@pytest.fixture(scope="module")
def exported(model: CompNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "out"
    settings = ExportSettings(categories=["board"], int8="static")
    written = export_model(model, out, settings, calibration=crops(8))
    assert sorted(written) == sorted(out.iterdir())
    return out


def test_each_graph_has_its_files(exported: Path) -> None:
    graphs = ("matching", "pose-board")
    wanted = {f"{name}{ending}" for name in graphs for ending in (".onnx", ".int8.onnx", ".pt2", ".json")}
    assert {path.name for path in exported.iterdir()} == wanted


def test_files_say_how_they_are_used(exported: Path, model: CompNet) -> None:
    about = json.loads((exported / "pose-board.json").read_text())
    assert about["category"] == "board" and about["categories"] == list(NAMES)
    assert about["crop"] == {"mode": "box", **json.loads(json.dumps(SPEC.__dict__))}
    assert about["temperature"] == model.config.temperature
    assert onnx_files.OnnxSession(exported / "pose-board.onnx").about == about
    assert onnx_files.OnnxSession(exported / "pose-board.int8.onnx").about == about


def test_a_file_answers_like_the_model_for_its_user(exported: Path, model: CompNet) -> None:
    # crops that the export itself has not tried
    images, category = crops(4), torch.tensor([2, 2, 2, 2])
    found = OnnxPredictor(exported).predict_crops(images, category=category, crop="box")
    same = export.float32_copy(model).predict_crops(images, category=category, crop="box")
    torch.testing.assert_close(found.scores, same.scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.confidence, same.confidence, atol=1e-3, rtol=0)
    # the grid's best pose, because the model's settings refine nothing
    torch.testing.assert_close(found.pose.to_matrix(), same.pose.to_matrix(), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.pose.distance, same.pose.distance)
    torch.testing.assert_close(found.principal_point, same.principal_point)


def test_matching_takes_any_size(exported: Path, model: CompNet) -> None:
    images = crops(2, 72, 112)
    answers = onnx_files.OnnxSession(exported / "matching.onnx")(images)
    copied = export.float32_copy(model)
    assert answers["feature_map"].shape == (2, 16, 9, 14)
    with torch.no_grad():
        torch.testing.assert_close(answers["feature_map"], copied(images), atol=1e-5, rtol=0)
        torch.testing.assert_close(answers["scores"], copied.classify_crops(images), atol=1e-5, rtol=0)


def test_a_torch_program_answers_the_same(exported: Path) -> None:
    program = torch.export.load(exported / "pose-board.pt2").module()
    images = crops(3)
    answers = onnx_files.OnnxSession(exported / "pose-board.onnx")(images)
    for name, value in zip(answers, program(images), strict=True):
        torch.testing.assert_close(answers[name], value, atol=1e-5, rtol=0, msg=name)


def test_int8_is_near(exported: Path) -> None:
    images = crops(6)
    exact = OnnxPredictor(exported).scores(images)
    rounded = OnnxPredictor(exported, int8=True).scores(images)
    cosine = (exact["feature_map"] * rounded["feature_map"]).sum(dim=1)
    # rounded for sure, and not by much
    assert 0.95 < float(cosine.mean()) and float((exact["feature_map"] - rounded["feature_map"]).abs().max()) > 1e-4


def test_only_the_network_is_quantised(exported: Path) -> None:
    import onnx

    exact, rounded = (onnx.load(str(exported / f"matching{kind}.onnx")).graph for kind in ("", ".int8"))
    kinds = [[node.op_type for node in graph.node] for graph in (exact, rounded)]
    # with the background and with each category, and the confidence's: as before
    assert kinds[0].count("MatMul") == kinds[1].count("MatMul") == 1 + len(NAMES) + 1
    makers = {output: node.op_type for node in rounded.node for output in node.output}
    inputs = {makers.get(name) for node in rounded.node if node.op_type == "MatMul" for name in node.input}
    convolutions = [node for node in rounded.node if node.op_type == "Conv"]
    assert "DequantizeLinear" not in inputs
    assert all(makers.get(node.input[1]) == "DequantizeLinear" for node in convolutions) and len(convolutions) > 5
    assert not any(node.metadata_props for node in exact.node)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        replace(CONFIG, backbone=BackboneConfig("vit", SMALL_VIT, dimension=16, upsampling=2)),
        # more categories than the shortlist has places, so that it decides
        replace(CONFIG, categories=tuple("abcdefg"), bounds=(*BOXES, *BOXES, BOXES[0]), pose_score_weight=0.4),
        replace(CONFIG, pose=replace(CONFIG.pose, truncation=None, prior_weight=0.5), background_size=0),
        replace(CONFIG, categories=NAMES[:1], bounds=BOXES[:1], pose_score_weight=0.4),
    ],
    ids=["transformer", "poses count", "prior", "one category"],
)
def test_every_kind_of_model_is_compared(config: CompNetConfig, tmp_path: Path) -> None:
    model = random_compnet(config)
    settings = ExportSettings(categories=config.categories[:1], forms=("onnx",), crop="oracle")
    export_model(model, tmp_path / "out", settings)
    images = crops(4, seed=9)
    answers = OnnxPredictor(tmp_path / "out").scores(images)
    expected = export.float32_copy(model).classify_crops(images)
    torch.testing.assert_close(answers["scores"], expected, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("crop", ["box", "oracle"])
def test_a_dual_head_is_one_graph(crop: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = DualHead(DualHeadConfig(NAMES, BOXES, RESNET, SPEC, "bins", 12, mirrored_scores=True)).eval()
    settings = ExportSettings(crop=crop, int8="dynamic")
    export_model(model, tmp_path / "out", settings)
    images = crops(3)
    found = OnnxPredictor(tmp_path / "out").predict_crops(images, crop=crop)
    same = export.float32_copy(model).predict_crops(images, crop=crop)
    assert torch.equal(found.category_index, same.category_index)
    torch.testing.assert_close(found.pose.to_matrix(), same.pose.to_matrix(), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.pose.distance, same.pose.distance, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.principal_point, same.principal_point, atol=1e-2, rtol=0)


def test_a_file_that_differs_stops_the_export(model: CompNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classify = CompNet.classify_crops

    def off(self, images):
        return classify(self, images) + (2e-4 if len(images) == 5 else 0)

    monkeypatch.setattr(CompNet, "classify_crops", off)
    with pytest.raises(CompNetError, match=r"matching.pt2: its scores for 5 crops of 64 x 80 pixels differ .* 0.0002"):
        export_model(model, tmp_path / "out", ExportSettings(forms=("pt2",)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ExportSettings(categories=["car"]), "does not know the category 'car'; choose one of brick"),
        (ExportSettings(int8="static"), "needs crops to calibrate"),
    ],
)
def test_what_cannot_be_exported_is_refused_at_once(
    settings: ExportSettings, message: str, model: CompNet, tmp_path: Path
) -> None:
    with pytest.raises(CompNetError, match=message):
        export_model(model, tmp_path / "out", settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of a process")
def test_a_full_disk_is_one_sentence_and_nothing_stays(tmp_path: Path) -> None:
    """In a process of its own, since PyTorch's writer would end it; a limit on files stands for the disk."""
    program = """if True:
        import resource, signal, sys
        from compnet3d.errors import CompNetError
        from compnet3d.models.export import ExportSettings, export_model
        from tests.networks import TINY_CONFIG, random_compnet
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            export_model(random_compnet(TINY_CONFIG), sys.argv[1], ExportSettings(forms=("pt2",)))
        except CompNetError as error:
            print(error)"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout.startswith(f"{tmp_path / 'out'}: cannot be written (File too large)")
    assert not list(tmp_path.iterdir())


def test_wrong_uses_of_the_files_are_named(exported: Path, tmp_path: Path) -> None:
    predictor, images = OnnxPredictor(exported), crops(1)
    with pytest.raises(CompNetError, match="exported for box crops, not oracle"):
        predictor.predict_crops(images, crop="oracle")
    with pytest.raises(CompNetError, match="pose-tower.onnx: is missing; export the pose search of tower"):
        predictor.predict_crops(images, category=torch.tensor([1]), crop="box")
    with pytest.raises(CompNetError, match=r"has no matching\.onnx"):
        OnnxPredictor(tmp_path)


def test_the_model_stays_as_it_was(exported: Path, model: CompNet) -> None:
    fresh = random_compnet(CONFIG)
    assert model.feature_extractor.amp == fresh.feature_extractor.amp
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, fresh.state_dict()[name]), name


@pytest.mark.slow
def test_the_cost_of_files_is_measured(tiny_data: Path, tmp_path: Path) -> None:
    from compnet3d.bench.exported import compare_exported

    model = random_compnet(replace(CONFIG, categories=NAMES[:2], bounds=BOXES[:2]))
    export_model(model, tmp_path / "out", ExportSettings(["tower"], forms=("onnx",), int8="dynamic"))
    samples = ImageNet3D(tiny_data).samples("val")
    ways = compare_exported(model, tmp_path / "out", samples, crop="box", posed=["tower"], int8=True)
    _, float_way, int8_way = ways
    assert [way.name for way in ways] == ["PyTorch", "ONNX float32", "ONNX int8"]
    assert float_way.images == len(samples) == 2 * float_way.posed and 0 <= int8_way.accuracy <= 1
    assert min(way.single_s for way in ways) > 0
