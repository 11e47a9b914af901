"""What a model's files ask for is known and of an honest size before anything is built or fetched."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from compnet3d import load_predictor
from compnet3d.data.transforms import InputConfig
from compnet3d.errors import CompNetError
from compnet3d.geometry.cuboid import cuboid_mesh
from compnet3d.inference.pose_hypotheses import PoseGrid
from compnet3d.inference.pose_search import PoseSettings
from compnet3d.models.backbones import BackboneConfig, build_extractor
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
from compnet3d.models.dual_head import DualHead, DualHeadConfig
from compnet3d.models.families import checked_architecture
from compnet3d.models.pretrained import load_extractor
from compnet3d.models.registry import TrainedModel
from compnet3d.models.tensors import load_tensors
from compnet3d.rendering.spread import spread_vertices
from compnet3d.rendering.surface import Surfaces
from tests.networks import TINY_RESNET

VIT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "patch_size": 16,
       "image_size": 64}  # fmt: skip
DINOV2 = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 14, "image_size": 56}
BOX = ((-0.45, -0.2, -0.15), (0.45, 0.2, 0.15))
COMMON: dict[str, Any] = {
    "categories": ("brick", "tower"),
    "bounds": (BOX, tuple(corner[::-1] for corner in BOX)),
    "backbone": BackboneConfig("resnet", TINY_RESNET, dimension=16),
    "input_config": InputConfig(height=48, width=48, focal=120.0, distance=3.0, box_fill=0.7),
}
CONFIG = CompNetConfig(
    **COMMON,
    vertex_count=40,
    background_size=8,
    pose=PoseSettings(steps=2, starts=1, prior_weight=0.01),
    grid=PoseGrid(azimuths=4, elevations=1, thetas=1),
)


def mesh_model() -> CompNet:
    surfaces = [spread_vertices(cuboid_mesh(torch.tensor(box), 40).mesh, 30) for box in COMMON["bounds"]]
    return CompNet(replace(CONFIG, shape="mesh", surface_sizes=Surfaces.sizes(surfaces)), surfaces=surfaces)


MODELS: dict[str, Callable[[], TrainedModel]] = {
    "cuboid": lambda: CompNet(CONFIG),
    "mesh": mesh_model,
    "vit": lambda: CompNet(replace(CONFIG, backbone=BackboneConfig("vit", VIT, 16, upsampling=2))),
    "dual head": lambda: DualHead(DualHeadConfig(**COMMON)),
}


@pytest.fixture(scope="module", params=MODELS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of each kind on disk."""
    path = tmp_path_factory.mktemp("model") / "model"
    MODELS[request.param]().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def cuboids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cuboids") / "model"
    CompNet(CONFIG).save_pretrained(path)
    return path


@pytest.fixture
def copy(cuboids: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cuboids, tmp_path / "model"))


def edited(folder: Path, path: tuple[Any, ...], value: Any) -> None:
    values = place = json.loads((folder / "config.json").read_text())
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (folder / "config.json").write_text(json.dumps(values))


@pytest.mark.parametrize("name", MODELS)
def test_shapes_are_known_without_building(name: str) -> None:
    model = MODELS[name]()
    torch.manual_seed(5)
    shapes = type(model).tensor_shapes(json.loads(json.dumps(model.config.to_dict())))
    drawn = torch.rand(3)
    assert shapes == {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))  # no random number is drawn for it


# -- the architecture ------------------------------------------------------------------------------------------------

UNKNOWN = (
    "attn_implementation",
    "_attn_implementation",
    "auto_map",
    "trust_remote_code",
    "quantization_config",
    "dtype",
)


@pytest.mark.parametrize("entry", UNKNOWN)
@pytest.mark.parametrize(("family", "architecture"), [("resnet", TINY_RESNET), ("vit", VIT), ("dinov2", DINOV2)])
def test_an_unknown_entry_is_refused_by_name(family: str, architecture: dict[str, Any], entry: str) -> None:
    build_extractor(BackboneConfig(family, architecture))
    with pytest.raises(ValueError, match=f"^backbone.architecture.{entry} is unknown"):
        BackboneConfig(family, architecture | {entry: "someone/kernel"})


HUGE = 10**9
REFUSED: list[tuple[str, str, Any]] = [
    *(("resnet", "depths", value) for value in ([1, 1, 1, HUGE], [1] * 10**6, [1, 1, -1, 1], [], "deep", [1, 1, 1.5])),
    *(("resnet", "hidden_sizes", value) for value in ([8, 8, 16, HUGE], [8, 8], [[8], 8, 16, 16], None, [0, 8, 8, 8])),
    *(("resnet", "embedding_size", value) for value in (HUGE, -1, 0, True, float("nan"), {"a": 1})),
    *(("resnet", "layer_type", value) for value in ("evil", 3, ["basic"])),
    *(("resnet", "num_channels", value) for value in (1, 3.0, "3")),
    *(("vit", "hidden_act", value) for value in ("os.system", None, ["gelu"], {"a": []})),
    *(("vit", "num_hidden_layers", value) for value in (HUGE, 101, 0, "2")),
    *(("vit", "hidden_size", value) for value in (HUGE, 25, -24)),
    *(("vit", "image_size", value) for value in (HUGE, 8, [64, 64])),
    *(("vit", "layer_norm_eps", value) for value in (float("inf"), -1.0, 10**400)),
    ("vit", "qkv_bias", 1),
    ("dinov2", "mlp_ratio", HUGE),
    ("dinov2", "drop_path_rate", 1.0),
]  # fmt: skip


@pytest.mark.parametrize(("family", "entry", "value"), REFUSED, ids=range(len(REFUSED)))
def test_an_entry_of_another_type_or_range_is_refused_by_name(family: str, entry: str, value: Any) -> None:
    architecture = {"resnet": TINY_RESNET, "vit": VIT, "dinov2": DINOV2}[family] | {entry: value}
    with pytest.raises(ValueError, match=entry) as refusal:
        checked_architecture(family, architecture)
    assert len(str(refusal.value)) < 400


def test_a_network_for_no_machine_is_refused() -> None:
    for family, more in (
        ("resnet", {"hidden_sizes": [8192] * 4, "depths": [100] * 4}),
        ("vit", {"hidden_size": 8192, "num_hidden_layers": 100, "num_attention_heads": 8}),
        ("dinov2", {"image_size": 4096, "patch_size": 1, "hidden_size": 1536}),
    ):
        with pytest.raises(ValueError, match="asks for [0-9,]+ numbers, more than"):
            checked_architecture(family, more)


def test_the_usual_backbones_are_small_enough() -> None:
    giant = {"hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24, "use_swiglu_ffn": True}
    for family, more in (("resnet", {"depths": [3, 8, 36, 3]}), ("vit", {}), ("dinov2", giant)):
        assert checked_architecture(family, more) == more


# -- config.json -----------------------------------------------------------------------------------------------------

PROMISES: list[tuple[tuple[Any, ...], Any]] = [
    (("vertex_count",), 10**9),
    (("vertex_count",), 9_999),
    (("background_size",), 10**12),
    (("background_size",), 1_000_000),
    (("input_config", "height"), 10**6),
    (("categories",), [str(number) for number in range(10**5)]),
    (("backbone", "dimension"), 16384),
    (("backbone", "architecture", "hidden_sizes"), [8, 8, 16, 8192]),
    (("backbone", "architecture", "hidden_sizes"), [8, 8, 16, 10**9]),
    (("grid", "azimuths"), 10**6),
    (("surface_sizes",), [[10**7] * 4] * 2),
]


@pytest.mark.parametrize(("path", "value"), PROMISES, ids=[".".join(map(str, path)) for path, _ in PROMISES])
def test_what_a_configuration_promises_takes_no_memory(copy: Path, path: tuple[Any, ...], value: Any) -> None:
    edited(copy, path, value)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CompNetError, match=str(copy)):
        load_predictor(copy)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


@pytest.mark.parametrize(
    "name", ["../brick", "a/b", "a\\b", "..", ".", "", "a\0b", "x" * 300, "\ud800", "a\nb", "tower"]
)
def test_a_category_that_cannot_be_a_files_name_is_refused(copy: Path, name: str) -> None:
    edited(copy, ("categories",), [name, "tower"])
    with pytest.raises(CompNetError, match="config.json: not a model's configuration .*categor"):
        load_predictor(copy)


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just(10**400), st.just([[[]]] * 3),
    st.lists(st.integers(-5, 5), max_size=5), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from([10**9, -1, 0, 1e308, "../x", "\ud800"]),
)  # fmt: skip


def places(values: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every entry of a JSON value."""
    pairs = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [path for key, inner in pairs for path in [(*above, key), *places(inner, (*above, key))]]


@settings(max_examples=60)
@given(st.data())
def test_any_change_of_a_configuration_is_a_model_or_one_sentence(cuboids: Path, data: st.DataObject) -> None:
    path = cuboids.parent / "changed"
    shutil.copytree(cuboids, path, dirs_exist_ok=True)
    values = place = json.loads((path / "config.json").read_text())
    *above, last = data.draw(st.sampled_from(places(values)))
    for key in above:
        place = place[key]
    place[last] = data.draw(ODD)
    (path / "config.json").write_text(json.dumps(values))
    try:
        model = load_predictor(path)
    except CompNetError as error:
        assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) < 800
    else:
        scores = model.predict_crops(torch.zeros(1, 3, model.input_config.height, model.input_config.width)).scores
        assert scores.shape == (1, 2)


def test_loading_asks_for_no_kernel(copy: Path, tmp_path: Path) -> None:
    """A package `kernels`, which transformers would ask for attention of a hub, notes that it was imported."""
    stub = tmp_path / "stub"
    (stub / "kernels").mkdir(parents=True)
    (stub / "kernels" / "__init__.py").write_text(f"open({str(tmp_path / 'called')!r}, 'w')\n")
    (stub / "kernels-0.18.2.dist-info").mkdir()
    (stub / "kernels-0.18.2.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: kernels\nVersion: 0.18.2\n"
    )
    edited(copy, ("backbone", "architecture", "attn_implementation"), "someone/kernel")
    code = (
        "import sys, compnet3d\ntry: compnet3d.load_predictor(sys.argv[1])\n"
        "except compnet3d.CompNetError as error: print(error)"
    )
    source = str(Path(__file__).resolve().parents[2] / "src")
    done = subprocess.run(
        [sys.executable, "-c", code, str(copy)],
        env=os.environ | {"PYTHONPATH": f"{stub}{os.pathsep}{source}"},
        capture_output=True,
        text=True,
    )
    assert "attn_implementation is unknown" in done.stdout and done.stderr == "", done.stderr
    assert not (tmp_path / "called").exists()


# -- model.safetensors -----------------------------------------------------------------------------------------------


def test_numbers_that_are_not_finite_are_named(folder: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(folder, tmp_path / "model")) / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.ndim)
    for value in (float("nan"), float("inf"), -float("inf")):
        broken = tensors[name].clone()
        broken.view(-1)[-1] = value
        save_file(tensors | {name: broken}, path)
        with pytest.raises(CompNetError, match=f"{path}: .*not finite .*{name}.*train it again"):
            load_predictor(tmp_path / "model")


CHANGED: dict[str, Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]] = {
    "offsets": lambda t: {"bank.offsets": t["bank.offsets"] * 10**12},
    "offsets of other counts": lambda t: {"bank.offsets": t["bank.offsets"] - torch.tensor([0, 3, 0])},
    "a cursor": lambda t: {"bank.background_cursor": torch.tensor(8)},
    "a count": lambda t: {"bank.background_count": torch.tensor(-1)},
    "a type": lambda t: {"bank.vertex_features": t["bank.vertex_features"].long()},
    "complex numbers": lambda t: {"bank.vertex_features": t["bank.vertex_features"] + 0j},
    "a number as text": lambda t: {"bank.offsets": t["bank.offsets"].double()},
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGED)
def test_tensors_of_another_type_or_meaning_are_named(copy: Path, kind: str) -> None:
    path = copy / "model.safetensors"
    tensors = load_file(path)
    changes = CHANGED[kind](tensors)
    save_file(tensors | changes, path)
    with pytest.raises(CompNetError, match=f"{path}: .*{next(iter(changes)).partition('.')[2]}"):
        load_predictor(copy)


@pytest.mark.parametrize("name", ["faces", "lookup", "mesh_offsets", "lookup_offset", "divisions", "real"])
def test_a_mesh_that_names_what_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    mesh_model().save_pretrained(tmp_path / "model")
    load_predictor(tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    tensors = load_file(path)
    tensors[f"surfaces.{name}"].view(-1)[-1] = False if name == "real" else 10**15
    save_file(tensors, path)
    with pytest.raises(CompNetError, match=f"{path}: tensors? surfaces"):
        load_predictor(tmp_path / "model")


HEADERS = {
    "of any length": (2**40).to_bytes(8, "little") + b"{}",
    "of 90 megabytes": (9 * 10**7).to_bytes(8, "little") + b"{" * 100,
    "no JSON": (8).to_bytes(8, "little") + b"notjson!",
    "lies": (62).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[9999999],"data_offsets":[0,400]}}' + bytes(400),
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 22883000\n",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_that_lies_is_one_sentence(copy: Path, kind: str) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(HEADERS[kind])
    with pytest.raises(CompNetError, match=f"^{path}: [^\n]+$"):
        load_predictor(copy)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "meshes/brick.off"])
@pytest.mark.parametrize("kind", ["a FIFO", "a device", "a folder"])
def test_what_is_no_file_is_one_sentence(copy: Path, name: str, kind: str) -> None:
    path = copy / name
    path.unlink(missing_ok=True)
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(CompNetError, match=str(copy)):
        load_predictor(copy)


# -- folders of pretrained backbones ---------------------------------------------------------------------------------


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    """A small ViT as transformers saves it."""
    path = tmp_path / "vit"
    build_extractor(BackboneConfig("vit", VIT)).backbone.save_pretrained(path)
    return path


BACKBONES: dict[str, tuple[str, Any]] = {
    "timm": ("timm", lambda c: {"architecture": "vit_tiny", "pretrained_cfg": {"tag": "x"}}),
    "code": ("auto_map", lambda c: c | {"auto_map": {"AutoModel": "modeling.Evil"}}),
    "grey": ("num_channels must be 3, not 1", lambda c: c | {"num_channels": 1}),
    "an activation": ("hidden_act", lambda c: c | {"hidden_act": "evil"}),
    "a family": (
        "family 'dinov2_registers' is unknown, the nearest is dinov2_with_registers",
        lambda c: c | {"model_type": "dinov2_registers"},
    ),
    "a language": ("family 'bert' is unknown", lambda c: c | {"model_type": "bert"}),
    "a tower": ("vision_config must be a group", lambda c: {"model_type": "clip", "vision_config": [1]}),
    "no family": ("family", lambda c: c | {"model_type": [[]]}),
    "a list": ("no configuration", lambda c: [c]),
    "a promise": ("do not belong together", lambda c: c | {"hidden_size": 4096, "intermediate_size": 16384}),
    "another shape": (r"has shape \[.*asks for \[", lambda c: c | {"intermediate_size": 64}),
    "another size": ("num_attention_heads", lambda c: c | {"num_attention_heads": 5}),
}


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_backbone_that_cannot_be_is_one_sentence(backbone: Path, kind: str) -> None:
    message, change = BACKBONES[kind]
    config = json.loads((backbone / "config.json").read_text())
    (backbone / "config.json").write_text(json.dumps(change(config)))
    with pytest.raises(CompNetError, match=f"^{backbone}[^\n]*{message}"):
        load_extractor(backbone)


def test_bookkeeping_of_a_backbone_is_left_out(backbone: Path) -> None:
    config = json.loads((backbone / "config.json").read_text())
    more = {
        "_attn_implementation": "someone/kernel",
        "id2label": {"0": "x"},
        "torch_dtype": "float16",
        "problem_type": 3,
    }
    (backbone / "config.json").write_text(json.dumps(config | more))
    kept = load_extractor(backbone).config.architecture
    assert VIT.items() <= kept.items() and not kept.keys() & {*more, "model_type", "architectures"}


@pytest.mark.parametrize(
    "text", ['{"image_mean": [0.5,', '{"image_mean": null, "image_std": null}', '{"image_mean": [1], "image_std": [1]}',
             '{"image_mean": [123.7, 116.3, 103.5], "image_std": [58.4, 57.1, 57.4]}', "version https://git-lfs.github.com",
             '{"image_mean": 0.5, "image_std": 0}', '{"image_mean": [NaN, 0, 0], "image_std": 1}', "[]"]
)  # fmt: skip
def test_a_normalisation_that_is_none_is_one_sentence(backbone: Path, text: str) -> None:
    (backbone / "preprocessor_config.json").write_text(text)
    with pytest.raises(CompNetError, match=f"^{backbone / 'preprocessor_config.json'}: [^\n]+$"):
        load_extractor(backbone)


def test_colours_of_0_to_255_and_a_byte_order_mark(backbone: Path) -> None:
    path = backbone / "preprocessor_config.json"
    path.write_text('{"image_mean": [123.7, 116.3, 103.5], "image_std": [58.4, 57.1, 57.4]}')
    with pytest.raises(CompNetError, match="of pixels from 0 to 255, and these are 0 to 1; divide it"):
        load_extractor(backbone)
    path.write_text('{"image_mean": 0.4, "image_std": 0.25}', encoding="utf-8-sig")
    assert load_extractor(backbone).config.mean == (0.4, 0.4, 0.4)


@pytest.mark.parametrize("kind", [torch.int8, torch.bool, torch.float8_e4m3fn, torch.complex64], ids=str)
def test_packed_weights_are_refused(backbone: Path, kind: torch.dtype) -> None:
    path = backbone / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    name = sorted(name for name in tensors if name.endswith("weight"))[0]
    tensors[name] = tensors[name].to(kind)
    path.unlink()
    save_file(tensors, path)
    with pytest.raises(CompNetError, match=f"tensor {name} is of .*; packed weights are not read"):
        load_extractor(backbone)


def test_names_with_something_before_them_are_shown(backbone: Path) -> None:
    path = backbone / "model.safetensors"
    tensors = {f"module.{name}": tensor.clone() for name, tensor in load_file(path).items()}
    path.unlink()
    save_file(tensors, path)
    with pytest.raises(CompNetError, match=r"such as (\S+); module\.\1 is there: take off what stands before"):
        load_extractor(backbone)


@pytest.mark.parametrize(
    ("start", "words"),
    [(b"PK\x03\x04", "what torch.save writes"), (b"\x80\x02}q", "a pickle"), (b"\x1f\x8b\x08", "packed"),
     (b"\n<!DOCTYPE html>", "a web page"), (pickle.dumps({"a": 1}), "a pickle"), (pickle.dumps(1, 5), "a pickle"),
     (b'{"error": "Repository not found"}' + b" " * 40, "a text that begins with '{\"error"),
     (b"GGUF\3\0\0\0\3\0", "no safetensors file")],
)  # fmt: skip
def test_other_files_under_the_name_are_named(backbone: Path, start: bytes, words: str) -> None:
    (backbone / "model.safetensors").write_bytes(start + bytes(100))
    with pytest.raises(CompNetError, match=rf"model\.safetensors: is {words}"):
        load_extractor(backbone)


@pytest.mark.parametrize("length", [640, 896, 1152, 1408, 15392, 35615], ids=hex)
def test_a_header_of_any_length_is_read(length: int, tmp_path: Path) -> None:
    """A file begins with that length: 0x280 looks like a pickle, 0x3c20 like a web page, 0x8b1f like gzip."""
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    (tmp_path / "x").write_bytes(length.to_bytes(8, "little") + header + struct.pack("<f", 1.5))
    assert load_tensors(tmp_path / "x") == {"a": torch.tensor([1.5])}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_what_stands_for_a_file_elsewhere_is_named(backbone: Path, name: str) -> None:
    """As git-annex leaves them: a link to what was not fetched, or its name as a text."""
    path, goal = backbone / name, ".git/annex/objects/Kx/1w/SHA256E-s22883000--0a1b.json/SHA256E-s22883000--0a1b.json"
    path.unlink(missing_ok=True)
    path.symlink_to(goal)
    with pytest.raises(CompNetError, match=rf"{name}: is a link to {goal}, which is not there; .*git annex get"):
        load_extractor(backbone)
    path.unlink()
    path.write_text("/annex/objects/SHA256E-s22883000--0a1b.json\n")
    with pytest.raises(CompNetError, match=rf"{name}: is a git-annex pointer; .*git annex get"):
        load_extractor(backbone)


@pytest.mark.parametrize("values", [{"vision_config": 5}, {"vision_config_dict": 7}, {"vision_config": True}])
def test_an_entry_of_another_family_does_no_harm(backbone: Path, values: dict[str, Any]) -> None:
    path = backbone / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    assert load_extractor(backbone).config.family == "vit"


@pytest.mark.parametrize("kind", [None, 5, ["vit"]])
def test_a_configuration_of_no_family_is_one_sentence(backbone: Path, kind: Any) -> None:
    path = backbone / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": kind}))
    with pytest.raises(CompNetError, match=f"^{path}: has no model_type, the name of a family of models; copy it"):
        load_extractor(backbone)


def test_a_file_in_place_of_the_folder_is_no_hub_name(backbone: Path) -> None:
    with pytest.raises(CompNetError, match=f"^{backbone}/config.json: no backbone there .*Not a directory.*a folder"):
        load_extractor(str(backbone / "config.json"))


def test_one_number_normalises_all_channels(backbone: Path) -> None:
    (backbone / "preprocessor_config.json").write_text('{"image_mean": 0.4, "image_std": 0.25}')
    config = load_extractor(backbone).config
    assert config.mean == (0.4, 0.4, 0.4) and config.std == (0.25, 0.25, 0.25)


def test_weights_in_another_format_are_said_to_be_unread(backbone: Path) -> None:
    (backbone / "model.safetensors").rename(backbone / "pytorch_model.bin")
    with pytest.raises(CompNetError, match="pytorch_model.bin is not read; convert it to model.safetensors.*AutoModel"):
        load_extractor(backbone)


def test_a_folder_that_is_not_there_is_not_asked_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*arguments: Any, **options: Any) -> str:
        raise AssertionError("asked the hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", ask)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CompNetError, match="^someone/model: no backbone there"):
        load_extractor(Path("someone/model"))
