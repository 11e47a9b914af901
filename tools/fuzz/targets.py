"""The readers, each with whole files to break and the call that reads them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from compnet3d.errors import CompNetError
from tools.fuzz.judge import Limits
from tools.fuzz.mutate import Form, Seed
from tools.fuzz.pretrained import family_seeds, read_families, read_shards, shard_seeds
from tools.fuzz.walks import read_videos, read_walk, video_seeds, walk_seeds


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        name: of the target.
        prepare: writes what it needs into a folder and gives the whole files to break.
        read: reads what stands in the folder.
        engine: who makes inputs; atheris sees Python code alone, so for the rest it would be blind.
        limits: of one input.
        weight: its part of all inputs.
    """

    name: str
    prepare: Callable[[Path], Sequence[Seed]]
    read: Callable[[Path], object]
    engine: Literal["atheris", "hypothesis"] = "hypothesis"
    limits: Limits = Limits()
    weight: float = 1.0


# -- annotations ----------------------------------------------------------------------------------------------------


def _whole_annotation() -> dict[str, Any]:
    from compnet3d.data.annotations import annotation_dict

    return annotation_dict(
        category="car", azimuth=1.0, elevation=0.2, theta=0.1, distance=5.0, focal=3000.0,
        principal_point=(40.0, 30.0), bbox=(10.0, 5.0, 70.0, 55.0), width=80, height=60,
    )  # fmt: skip


def annotation_seeds(folder: Path) -> list[Seed]:
    """As our writer and as numpy write it, in several protocols of pickle."""
    import pickle

    import numpy as np

    from compnet3d.data.annotations import write_annotation

    write_annotation(folder / "a.npz", [_whole_annotation()] * 2)
    made = [Seed("a.npz", (folder / "a.npz").read_bytes(), "npz")]
    for protocol in (2, 3, 4):
        stream, entry = io.BytesIO(), io.BytesIO()
        cells = np.empty(1, dtype=object)
        cells[0] = _whole_annotation()
        np.lib.format.write_array_header_1_0(entry, np.lib.format.header_data_from_array_1_0(cells))
        pickle.dump(cells, entry, protocol=protocol)
        import zipfile

        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("annotations.npy", entry.getvalue())
        made.append(Seed("a.npz", stream.getvalue(), "npz"))
    return made


def read_annotations(folder: Path) -> None:
    """Every object of the file as a sample."""
    from compnet3d.data.annotations import SkipObject, parse_object, read_annotation

    for entry in read_annotation(folder / "a.npz"):
        try:
            parse_object(entry, image=folder / "a.jpg", category="car", name="a")
        except SkipObject:
            continue


def mat_seeds(folder: Path) -> list[Seed]:
    """Two records as PASCAL3D+ has them, packed and not."""
    import numpy as np
    from scipy.io import savemat

    view = {"azimuth": 30.0, "elevation": 10.0, "theta": 2.0, "distance": 7.0, "focal": 1.0, "viewport": 3000.0,
            "px": 40.0, "py": 30.0}  # fmt: skip
    entry = {"class": "car", "bbox": np.array([10.0, 5.0, 70.0, 55.0]), "viewpoint": view, "cad_index": 1,
             "occluded": 0, "truncated": 0, "difficult": 0}  # fmt: skip
    made = []
    for packed, objects in ((True, entry), (False, [entry, entry])):
        stream = io.BytesIO()
        record = {"objects": objects, "imgsize": np.array([80, 60, 3]), "filename": "a.jpg"}
        savemat(stream, {"record": record}, do_compression=packed)
        made.append(Seed("a.mat", stream.getvalue()))
    return made


@cache
def _mat_reader() -> Any:
    """One for all inputs, as an import of the data set has; it ends with this process."""
    from compnet3d.data.mat_reader import MatReader

    return MatReader().__enter__()


def read_mat(folder: Path) -> None:
    """Every object of the record as our annotation."""
    from compnet3d.data.annotations import SkipObject
    from compnet3d.data.importers.pascal_record import pascal3d_annotation

    for entry in _mat_reader().read(folder / "a.mat")["objects"]:
        try:
            pascal3d_annotation(entry, "car", (80, 60))
        except SkipObject:
            continue


def table_seeds(folder: Path) -> list[Seed]:
    """Tables in each format and with each kind of pose, of one image."""
    from PIL import Image

    Image.new("RGB", (40, 30)).save(folder / "a.png")
    angles = "image,category,x1,y1,x2,y2,azimuth_deg,elevation_deg,split\na.png,car,4,4,30,20,10,20,train\n"
    turned = {"image": "a.png", "category": "car", "box": [4, 4, 30, 20], "quaternion_wxyz": [1, 0, 0, 0]}
    whole = {**turned, "rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "t": [0, 0, -5], "K": [9, 0, 2, 0, 9, 2, 0, 0, 1]}
    del whole["quaternion_wxyz"]
    lines = [json.dumps({**entry, "convention": "opengl"}) for entry in (turned, whole)]
    names = ("a.csv", angles), ("a.tsv", angles.replace(",", "\t")), *(("a.jsonl", f"{line}\n") for line in lines)
    return [Seed(name, text.encode(), "json" if name == "a.jsonl" else "text") for name, text in names]


def read_tables(folder: Path) -> None:
    """Every line of each table as records."""
    from compnet3d.data.importers.table import Table

    for path in sorted(folder.glob("a.*")):
        if path.suffix != ".png":
            table = Table(path)
            for item in table.items()[0]:
                table.read(item)


def coco_seeds(folder: Path) -> list[Seed]:
    """A file of COCO with each kind of segmentation, and a table of poses."""
    from PIL import Image

    Image.new("RGB", (40, 30)).save(folder / "a.png")
    runs: list[object] = [{"size": [30, 40], "counts": [100, 100, 1000]}, {"size": [30, 40], "counts": "T3T3Xo0"}]
    shapes = [[[4, 4, 30, 4, 30, 20]], *runs]
    box = {"image_id": 1, "category_id": 1, "bbox": [4, 4, 26, 16]}
    values = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"id": n, "segmentation": shape, **box} for n, shape in enumerate(shapes)],
    }
    table = "annotation_id,azimuth_deg,elevation_deg\n0,1,2\n1,3,4\n2,5,6\n"
    return [Seed("coco.json", json.dumps(values).encode(), "json"), Seed("poses.csv", table.encode(), "text")]


def read_coco(folder: Path) -> None:
    """Every annotation as records."""
    from compnet3d.data.importers.coco import Coco

    source = Coco(folder / "coco.json", folder / "poses.csv")
    for item in source.items()[0]:
        source.read(item)


def bop_seeds(folder: Path) -> list[Seed]:
    """A scene of BOP with one object."""
    from PIL import Image

    scene = folder / "train" / "000001"
    (scene / "rgb").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(scene / "rgb" / "000003.png")
    pose = {"cam_R_m2c": [1, 0, 0, 0, -1, 0, 0, 0, -1], "cam_t_m2c": [0, 0, 500], "obj_id": 1}
    files = {
        "scene_gt.json": {"3": [pose]},
        "scene_gt_info.json": {"3": [{"bbox_obj": [4, 4, 20, 10]}]},
        "scene_camera.json": {"3": {"cam_K": [500, 0, 20, 0, 500, 15, 0, 0, 1]}},
    }
    return [Seed(f"train/000001/{name}", json.dumps(value).encode(), "json") for name, value in files.items()]


def read_bop(folder: Path) -> None:
    """Every object as records."""
    from compnet3d.data.importers.bop import Bop

    source = Bop(folder)
    for item in source.items()[0]:
        source.read(item)


def cut_seeds(folder: Path) -> list[Seed]:
    """An object that the tools of ImageNet3D cut out."""
    import numpy as np
    from PIL import Image

    for part in ("images", "annotations", "lists"):
        (folder / part / "car_train").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(folder / "images/car_train/a.JPEG")
    path = folder / "annotations/car_train/a.npz"
    np.savez(
        path, azimuth=1.0, elevation=0.1, theta=0.0, distance=4.0, focal=1, viewport=3000, px=20.0, py=15.0,
        principal=np.array([20.0, 15.0]), bbox=np.array([4.0, 4.0, 30.0, 20.0]), cad_index=1,
        padding_params=np.array([1, 2, 3, 4, 0, 0]),
    )  # fmt: skip
    (folder / "lists/car_train/mesh01.txt").write_text("a\n")
    npz = Seed("annotations/car_train/a.npz", path.read_bytes(), "npz")
    return [npz, Seed("lists/car_train/mesh01.txt", b"a\n", "text")]


def read_cut(folder: Path) -> None:
    """Every image as records."""
    from compnet3d.data.importers.imagenet3d_layouts import ImageNet3dSource

    source = ImageNet3dSource(folder)
    for item in source.items()[0]:
        source.read(item)


# -- other files of a data set --------------------------------------------------------------------------------------


def off_seeds(folder: Path) -> list[Seed]:
    """A box, one as careless exporters write it, and one in binary."""
    import struct

    import torch

    from compnet3d.geometry.cuboid import cuboid_mesh
    from compnet3d.geometry.mesh import save_off

    save_off(folder / "a.off", cuboid_mesh(torch.tensor([[-0.4, -0.2, -0.1], [0.4, 0.2, 0.1]]), 40).mesh)
    loose = b"OFF8 1 0\n# note\n\n0 0 0\n1 0 0 255 0 0\n1 1 0\n0 1 0\n0 0 1\n1 0 1\n1 1 1\n0 1 1\n4 0 1 2 3 9 9 9\n"
    corners = [number for place in ((0, 0, 0), (1, 0, 0), (0, 1, 0)) for number in (*place, 1, 0, 0, 1)]
    binary = b"COFF BINARY\n" + struct.pack(">3i21f", 3, 1, 0, *corners) + struct.pack(">5i3f", 3, 0, 1, 2, 3, 1, 0, 0)
    whole = (folder / "a.off").read_bytes()
    return [Seed("a.off", whole, "text"), Seed("a.off", loose, "text"), Seed("a.off", binary)]


def read_off(folder: Path) -> None:
    """The mesh and the box that it fills."""
    from compnet3d.geometry.mesh import cuboid_bounds, load_off

    cuboid_bounds([load_off(folder / "a.off")])


def _box_file(suffix: str) -> bytes:
    """A small box with colours, as trimesh writes it; it is imported here, before anything is measured."""
    import trimesh

    box = trimesh.creation.box((1.0, 2.0, 3.0))
    box.visual.vertex_colors = [200, 100, 50, 255]
    written = box.export(file_type=suffix)
    return written.encode() if isinstance(written, str) else bytes(written)


def obj_seeds(folder: Path) -> list[Seed]:
    """A model with a material and a picture, and one with colours of vertices."""
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 50, 50)).save(stream, "PNG")
    text = b"mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 1\nvt 0 0\nvt 1 0\nvt 1 1\nusemtl m\nf 1/1 2/2 3/3 -1/1\n"
    library = b"newmtl m\nKd 0.5 0.2 0.1\nmap_Kd -s 1 1 1 a.png\n"
    files = [Seed("a.obj", text, "text"), Seed("a.mtl", library, "text"), Seed("a.png", stream.getvalue())]
    for seed in files:
        (folder / seed.path).write_bytes(seed.data)
    return [*files, Seed("a.obj", _box_file("obj"), "text")]


def ply_seeds(folder: Path) -> list[Seed]:
    """As text and in bytes."""
    text = b"ply\nformat ascii 1.0\nelement vertex 4\n" + b"".join(b"property float %c\n" % axis for axis in b"xyz")
    text += b"element face 2\nproperty list uchar int vertex_indices\nend_header\n"
    text += b"0 0 0\n1 0 0\n1 1 0\n0 1 1\n4 0 1 2 3\n3 0 1 2\n"
    return [Seed("a.ply", text, "text"), Seed("a.ply", _box_file("ply"))]


def stl_seeds(folder: Path) -> list[Seed]:
    """As text and in bytes."""
    return [Seed("a.stl", _box_file("stl_ascii"), "text"), Seed("a.stl", _box_file("stl"))]


def gltf_seeds(folder: Path) -> list[Seed]:
    """In one file, and with a file beside it."""
    import trimesh

    box = trimesh.creation.box((1.0, 2.0, 3.0))
    box.visual.vertex_colors = [200, 100, 50, 255]
    files = trimesh.Scene(box).export(file_type="gltf")
    for name, data in files.items():
        (folder / ("a.gltf" if name == "model.gltf" else name)).write_bytes(data)
    beside = [Seed(name, data) for name, data in files.items() if name != "model.gltf"]
    return [Seed("a.gltf", files["model.gltf"], "json"), *beside, Seed("a.glb", _box_file("glb"))]


def collada_seeds(folder: Path) -> list[Seed]:
    """One file."""
    return [Seed("a.dae", _box_file("dae"), "text")]


def read_shapes(folder: Path) -> None:
    """Every model of the folder, with its colours."""
    import numpy as np

    from compnet3d.data.shapes import load_mesh, load_shape

    refused = None
    for path in [path for suffix in ("obj", "ply", "stl", "gltf", "glb", "dae") for path in folder.glob(f"a.{suffix}")]:
        try:
            shape = load_shape(path)
            if shape.skin is not None and len(shape.faces):
                shape.skin.at(np.arange(len(shape.faces)), np.full((len(shape.faces), 3), 1 / 3, dtype=np.float32))
            load_mesh(path)
        except CompNetError as error:
            refused = error
    if refused is not None:
        raise refused


def data_seeds(folder: Path) -> list[Seed]:
    """A small data set: its lists and its table of symmetries."""
    _make_data(folder)
    (folder / "symmetry.json").write_text('{"aeroplane": {"mirror": true}, "car": {"z": 2, "mirror": false}}')
    lists = sorted((folder / "lists").iterdir())
    seeds = [Seed(str(path.relative_to(folder)), path.read_bytes(), "text") for path in lists]
    return [*seeds, Seed("symmetry.json", (folder / "symmetry.json").read_bytes(), "json")]


def read_data(folder: Path) -> None:
    """All samples, and what their symmetries mean."""
    from compnet3d.data.imagenet3d import ImageNet3D

    dataset = ImageNet3D(folder)
    for split in ("train", "val"):
        dataset.samples(split)
    _ = dataset.symmetry


def check_seeds(folder: Path) -> list[Seed]:
    """One file of each kind in a data set."""
    _make_data(folder)
    kinds = {"annotations": "npz", "images": "bytes", "masks": "bytes", "CAD": "text", "lists": "text"}
    seeds = []
    for kind, form in kinds.items():
        path = sorted(path for path in (folder / kind).rglob("*") if path.is_file())[0]
        seeds.append(Seed(str(path.relative_to(folder)), path.read_bytes(), form))  # type: ignore[arg-type]
    return seeds


def check_data(folder: Path) -> None:
    """`data check`, which goes on after every broken file."""
    from compnet3d.data.check import check_dataset

    check_dataset(folder)


def image_seeds(folder: Path) -> list[Seed]:
    """A small image in each format and mode that is read."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 4), dtype=np.uint8)
    colour, clear = Image.fromarray(pixels[..., :3]), Image.fromarray(pixels)
    deep = Image.fromarray(pixels[..., :2].copy().view(np.uint16)[..., 0])
    kinds: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("JPEG", colour, {}), ("JPEG", colour, {"progressive": True}), ("JPEG", colour.convert("CMYK"), {}),
        ("PNG", colour, {}), ("PNG", clear, {}), ("PNG", deep, {}), ("PNG", colour.convert("P"), {}),
        ("PNG", colour.convert("1"), {}), ("WEBP", clear, {}), ("WEBP", colour, {"lossless": True}),
        ("TIFF", colour, {}), ("TIFF", colour, {"compression": "tiff_lzw"}), ("TIFF", deep, {}),
        ("TIFF", colour, {"compression": "jpeg"}), ("TIFF", colour.convert("F"), {}),
        ("BMP", colour, {}), ("BMP", colour.convert("P"), {}), ("GIF", colour.convert("P"), {}),
        ("MPO", colour, {"save_all": True, "append_images": [colour]}),
    ]  # fmt: skip
    made = []
    for kind, image, options in kinds:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        made.append(Seed("a.img", stream.getvalue()))
    return made


def read_image(folder: Path) -> None:
    """As an image and as a mask."""
    from compnet3d.data.images import load_image, load_mask

    load_image(folder / "a.img", size=(30, 40))
    load_mask(folder / "a.img", size=(40, 30))


def cutout_seeds(folder: Path) -> list[Seed]:
    """A folder of occluders."""
    import numpy as np
    from PIL import Image

    pixels = np.full((20, 24, 4), 200, dtype=np.uint8)
    made = []
    for name, kind in (("thing/a.png", "PNG"), ("b.webp", "WEBP")):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, kind)
        made.append(Seed(name, stream.getvalue()))
    return made


def read_cutouts(folder: Path) -> None:
    """All of them."""
    from compnet3d.data.cutouts import load_cutouts

    load_cutouts(folder)


# -- models, checkpoints, studies -----------------------------------------------------------------------------------


def model_seeds(folder: Path) -> list[Seed]:
    """The folder that a training wrote."""
    from compnet3d.geometry.mesh import save_off

    model = _trained(folder.parent / "made")
    model.cad_meshes = {name: model.mesh(name) for name in model.categories}
    model.save_pretrained(folder)
    for name in model.categories:
        save_off(folder / "meshes" / f"{name}.off", model.mesh(name))
    mesh = sorted((folder / "meshes").iterdir())[0]
    return _seeds(folder, {"config.json": "json", "model.safetensors": "bytes", f"meshes/{mesh.name}": "text"}, again=3)


def read_model(folder: Path) -> None:
    """Ready for inference."""
    from compnet3d import load_predictor

    load_predictor(folder)


def backbone_seeds(folder: Path) -> list[Seed]:
    """A folder in the layout of transformers."""
    from transformers import ResNetConfig, ResNetModel

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}')
    names: dict[str, Form] = {
        "config.json": "json", "model.safetensors": "bytes", "preprocessor_config.json": "json"
    }  # fmt: skip
    return _seeds(folder, names)


def read_backbone(folder: Path) -> None:
    """As a feature extractor."""
    from compnet3d.models.pretrained import load_extractor

    load_extractor(folder, dimension=16)


def checkpoint_seeds(folder: Path) -> list[Seed]:
    """A run that stopped after its first epoch."""
    _trained(folder)
    names: dict[str, Form] = {
        "config.json": "json", "log.jsonl": "text", "checkpoint/progress.json": "json",
        "checkpoint/model.json": "json", "checkpoint/model.safetensors": "bytes",
        "checkpoint/optimizer.safetensors": "bytes",
    }  # fmt: skip
    return _seeds(folder / "run", names, under="run")


def resume(folder: Path) -> None:
    """Up to where the run would go on."""
    from compnet3d.training.train import train

    train(_recipe(), folder / "data", folder / "run", resume=True, stop_after=1, workers=0, progress=False)


def recipe_seeds(folder: Path) -> list[Seed]:
    """A recipe of every method, as YAML and as JSON."""
    from compnet3d.training.builtin_recipes import RECIPES

    names = ("quickstart", "quickstart-novum", "quickstart-heads")
    made = [Seed("a.yaml", RECIPES[name].to_yaml().encode(), "text") for name in names]
    return [*made, *(Seed("a.json", json.dumps(RECIPES[name].to_dict()).encode(), "json") for name in names)]


def read_recipe(folder: Path) -> None:
    """Both files."""
    from compnet3d.training.builtin_recipes import get_recipe

    for name in ("a.yaml", "a.json"):
        get_recipe(str(folder / name))


def study_seeds(folder: Path) -> list[Seed]:
    """An evaluation, a table and the log of a study."""
    from compnet3d.data.imagenet3d import ImageNet3D
    from compnet3d.evaluation.evaluate import evaluate
    from compnet3d.reporting.tables import Row, Spread, Table
    from compnet3d.training.builtin_recipes import get_recipe
    from compnet3d.utils.files import write_json

    made = folder.parent / "made"
    model = _trained(made)
    result = evaluate(model, ImageNet3D(made / "data").samples("val"))
    write_json(folder / "clean.json", result.to_dict())
    row = Row("ours", (Spread((0.5, 0.7)), "text"))
    table = Table("table2", "title", ("method", "a", "b"), (row,), ("a note",), "main")
    write_json(folder / "table2.json", {"tables": [table.to_dict()], "settings": {"version": "1", "evaluated": "now"}})
    write_json(folder / "study.json", {"recipe": get_recipe("quickstart").to_dict(), "data": "data", "seeds": "0"})
    (folder / "log.jsonl").write_bytes((made / "run" / "log.jsonl").read_bytes())
    names: dict[str, Form] = {"clean.json": "json", "table2.json": "json", "study.json": "json", "log.jsonl": "text"}
    return _seeds(folder, names)


def read_study(folder: Path) -> None:
    """Each file by its reader."""
    from compnet3d.evaluation.result import EvaluationResult
    from compnet3d.reproduce.report import write_page
    from compnet3d.reproduce.study import claim_study
    from compnet3d.training.builtin_recipes import get_recipe
    from compnet3d.training.run_folder import read_log
    from compnet3d.utils.files import read_json

    EvaluationResult.from_dict(read_json(folder / "clean.json"), str(folder / "clean.json"))
    read_log(folder / "log.jsonl")
    claim_study(folder / "study.json", get_recipe("quickstart"), {"data": "data", "seeds": "0"}, "a study")
    write_page(folder, folder / "report.html")


# -- shared ---------------------------------------------------------------------------------------------------------


def _make_data(folder: Path) -> None:
    from compnet3d.procedural.writer import make_dataset

    make_dataset(folder, categories=2, train=4, val=2, size=48, workers=1)


def _recipe() -> Any:
    from compnet3d.training.builtin_recipes import get_recipe

    network = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    changes = {"input.height": 48, "input.width": 48, "model.vertex_count": 40, "bank.background_size": 32}
    changes |= {"backbone.dimension": 16, "schedule.epochs": 2, "schedule.batch_size": 4, "schedule.processes": 1}
    return get_recipe("quickstart").with_settings({**changes, "backbone.architecture": network})


def _trained(folder: Path) -> Any:
    """A model after one of two epochs, with its data and its run in the folder."""
    from compnet3d.training.train import train

    if not (folder / "data").exists():
        _make_data(folder / "data")
    return train(_recipe(), folder / "data", folder / "run", stop_after=1, workers=0, progress=False)


def _seeds(folder: Path, names: dict[str, Form], *, under: str = "", again: int = 1) -> list[Seed]:
    """The files of a folder; the first, which says most, `again` times as often."""
    made = [Seed(str(Path(under) / name), (folder / name).read_bytes(), form) for name, form in names.items()]
    return made[:1] * (again - 1) + made


TARGETS = (
    Target("annotations", annotation_seeds, read_annotations, "atheris", weight=6),
    Target("mat", mat_seeds, read_mat, limits=Limits(seconds=2.0), weight=2),
    Target("tables", table_seeds, read_tables, weight=2),
    Target("coco", coco_seeds, read_coco, weight=1),
    Target("bop", bop_seeds, read_bop, weight=1),
    Target("cut objects", cut_seeds, read_cut, weight=1),
    Target("walks", walk_seeds, read_walk, weight=1),
    Target("videos", video_seeds, read_videos, weight=1),
    Target("off", off_seeds, read_off, "atheris", weight=4),
    Target("obj", obj_seeds, read_shapes, "atheris", weight=2),
    Target("ply", ply_seeds, read_shapes, "atheris", weight=2),
    Target("stl", stl_seeds, read_shapes, "atheris", weight=2),
    Target("gltf", gltf_seeds, read_shapes, weight=2),
    Target("collada", collada_seeds, read_shapes, weight=1),
    Target("lists", data_seeds, read_data, "atheris", weight=1),
    Target("images", image_seeds, read_image, weight=5),
    Target("data check", check_seeds, check_data, limits=Limits(seconds=5.0), weight=0.4),
    Target("occluders", cutout_seeds, read_cutouts, weight=1),
    Target("models", model_seeds, read_model, weight=0.6),
    Target("backbones", backbone_seeds, read_backbone, weight=0.4),
    Target("backbone families", family_seeds, read_families, weight=0.4),
    Target("backbone parts", shard_seeds, read_shards, weight=0.4),
    Target("checkpoints", checkpoint_seeds, resume, weight=0.2),
    Target("recipes", recipe_seeds, read_recipe, "atheris", weight=1),
    Target("studies", study_seeds, read_study, "atheris", weight=2),
)
