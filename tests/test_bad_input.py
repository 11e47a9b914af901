"""Bad input through the real entry points: one clear sentence that names the file and the fix, never a traceback."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import weakref
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from compnet3d.cli import main as cli
from compnet3d.data import images, sources
from compnet3d.data.annotations import read_annotation, write_annotation
from compnet3d.data.images import load_image
from compnet3d.errors import CompNetError
from compnet3d.models.compnet import CompNet
from compnet3d.training import builtin_recipes as recipes
from compnet3d.training.recipe_parts import (
    CompNetSearchSettings,
    ScheduleSettings,
)
from compnet3d.training.train import train
from tests.networks import TINY_CONFIG, TINY_RECIPE

TINY = replace(
    TINY_RECIPE,
    schedule=ScheduleSettings(epochs=1, batch_size=8, calibration_fraction=0.25),
    search=CompNetSearchSettings(steps=2, starts=1, grid=TINY_CONFIG.grid),
)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model on disk."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "model"
    CompNet(TINY_CONFIG).save_pretrained(folder)
    return folder


@pytest.fixture
def model_copy(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tiny data set to break, and a recipe small enough for it."""
    monkeypatch.setitem(recipes.RECIPES, "tiny", TINY)
    return Path(shutil.copytree(tiny_data, tmp_path / "data"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: status, output, errors."""
    monkeypatch.setenv("COLUMNS", "250")  # keeps tables from breaking what is looked for

    def run_main(*arguments: object) -> tuple[int, str, str]:
        status = 0
        try:
            cli.main([str(x) for x in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return status, captured.out, captured.err

    return run_main


def sentence(result: tuple[int, str, str], *parts: object) -> str:
    """Check that a run ended with one sentence that holds the parts, and return it."""
    status, _, err = result
    assert status == 2, err
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), err
    for part in parts:
        assert str(part) in lines[0], f"{part!r} is not in {lines[0]!r}"
    return lines[0]


def train_line(data: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("train", "--recipe", "tiny", "--data", data, "--out", out, "--device", "cpu", "--workers", 0, *more)


# -- images ----------------------------------------------------------------------------------------------------------


def opened() -> Image.Image:
    """An image-like image: smooth, coloured, not symmetric."""
    v, u = np.mgrid[0:60, 0:80]
    return Image.fromarray(np.stack([3 * u, 4 * v, 255 - 2 * u], axis=-1).clip(0, 255).astype(np.uint8))


def predicted(run: Any, model: Path, image: Path, *more: object) -> dict[str, Any]:
    status, out, err = run("predict", model, image, "--json", "-", "--device", "cpu", *more)
    assert status == 0 and err == "", err
    (answer,) = json.loads(out)
    assert all(np.isfinite(answer[key]) for key in ("azimuth", "elevation", "theta", "distance", "focal"))
    return {key: value for key, value in answer.items() if key != "image"}


def check_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a["category"] == b["category"]
    for key in ("azimuth", "elevation", "theta", "distance", "principal_point"):
        assert a[key] == pytest.approx(b[key], abs=1e-3), key


def test_odd_but_sound_images_are_predicted_like_their_plain_copies(
    run: Any, model_folder: Path, tmp_path: Path
) -> None:
    colour, grey = opened(), opened().convert("L")
    rgb_of_grey, transparent = grey.convert("RGB"), colour.convert("RGBA")
    colour.save(tmp_path / "colour.png")
    rgb_of_grey.save(tmp_path / "grey_rgb.png")
    plain, plain_grey = (predicted(run, model_folder, tmp_path / f"{n}.png") for n in ("colour", "grey_rgb"))
    grey.save(tmp_path / "grey.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "16-bit.png")
    transparent.save(tmp_path / "rgba.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned by 90 degrees clockwise
    colour.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    for name in ("grey", "16-bit"):
        check_same(predicted(run, model_folder, tmp_path / f"{name}.png"), plain_grey)
    for name in ("rgba", "turned"):
        check_same(predicted(run, model_folder, tmp_path / f"{name}.png"), plain)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 12), (20_000, 1), (3, 5_000)], ids=str)
def test_tiny_and_huge_images_are_predicted(
    run: Any, model_folder: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    path = tmp_path / "image.png"
    Image.new("RGB", size, (200, 30, 90)).save(path)
    answer = predicted(run, model_folder, path, "--overlay", tmp_path / "drawn")
    assert answer["category"] in TINY_CONFIG.categories and (tmp_path / "drawn" / "image.png").is_file()
    predicted(run, model_folder, path, "--box", 0, 0, *size)


def test_cmyk_and_other_modes_are_predicted(run: Any, model_folder: Path, tmp_path: Path) -> None:
    for mode, suffix in [("CMYK", "jpg"), ("P", "png"), ("1", "png"), ("LA", "png"), ("I", "tiff"), ("F", "tiff")]:
        path = tmp_path / f"{mode}.{suffix}"
        opened().convert("L" if mode in ("I", "F") else "RGB").convert(mode).save(path)
        assert predicted(run, model_folder, path)["category"] in TINY_CONFIG.categories


def broken_images(folder: Path) -> dict[str, Path]:
    """One file of each kind that cannot be read."""
    paths = {name: folder / f"{name}.jpg" for name in ("missing", "truncated", "empty", "text", "folder", "header")}
    opened().save(paths["truncated"])
    whole = paths["truncated"].read_bytes()
    paths["truncated"].write_bytes(whole[: len(whole) // 2])
    paths["header"].write_bytes(whole[:20])
    paths["empty"].touch()
    paths["text"].write_text("not an image")
    paths["folder"].mkdir()
    return paths


@pytest.mark.parametrize("kind", ["missing", "truncated", "empty", "text", "folder", "header"])
def test_an_unreadable_image_is_one_sentence(run: Any, model_folder: Path, tmp_path: Path, kind: str) -> None:
    path = broken_images(tmp_path)[kind]
    result = run("predict", model_folder, path, "--device", "cpu")
    fix = {"missing": "check the path", "folder": "holds no image"}.get(kind, "replace it")
    sentence(result, path, fix)
    with pytest.raises(CompNetError, match=re.escape(str(path))):
        CompNet.from_pretrained(model_folder).predict(path)


def test_a_broken_image_among_sound_ones_is_reported_and_the_rest_predicted(
    run: Any, model_folder: Path, tmp_path: Path
) -> None:
    good = tmp_path / "good.png"
    opened().save(good)
    bad = broken_images(tmp_path)
    del bad["folder"]  # stands for the images in it, and is refused before anything is predicted where it has none
    status, out, err = run("predict", model_folder, good, *bad.values(), "--json", "-", "--device", "cpu")
    assert status == 2 and [answer["image"] for answer in json.loads(out)] == [str(good)]
    lines = err.splitlines()
    assert len(lines) == len(bad) + 1 and "5 of 6 images could not be predicted" in lines[-1]
    for path, line in zip(bad.values(), lines[:-1], strict=True):
        assert line.startswith("skipped: ") and str(path) in line


def test_arrays_of_wrong_shape_or_range_are_one_sentence(model_folder: Path) -> None:
    model = CompNet.from_pretrained(model_folder)
    for image in (np.zeros((3, 20, 20), np.uint8), np.zeros((0, 5, 3), np.uint8), np.full((5, 5, 3), np.nan), 7, None):
        with pytest.raises(CompNetError, match="^[^\n]+$"):
            model.predict(image)  # type: ignore[arg-type]
    with pytest.raises(CompNetError, match="no image"):
        model.predict([])
    for box in ([0, 0, 0, 5], [0, 0, float("nan"), 5], [0, 0, 5]):
        with pytest.raises(CompNetError, match="box"):
            model.predict(opened(), boxes=[box])
    with pytest.raises(CompNetError, match="boxes for 2 images were given for 1 images"):
        model.predict(opened(), boxes=[[0, 0, 5, 5]] * 2)


@pytest.mark.parametrize(
    "box", ["0 0 1e308 1e308", "-1e308 -1e308 1e308 1e308", "-1e18 0 1 1", "90 0 95 9", "-9 -9 0 5", "1 1 1.001 1.001"]
)
def test_a_box_of_absurd_numbers_or_beside_the_image_is_one_sentence(
    run: Any, model_folder: Path, tmp_path: Path, box: str
) -> None:
    path = tmp_path / "a.png"
    opened().save(path)
    sentence(run("predict", model_folder, path, "--device", "cpu", "--box", *box.split()), path, "80 x 60 pixels")
    with pytest.raises(CompNetError, match="80 x 60 pixels"):
        CompNet.from_pretrained(model_folder).predict(path, boxes=[[float(x) for x in box.split()]])


def test_one_image_of_a_batch_is_held_at_a_time(
    run: Any, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path in paths:
        opened().save(path)
    alive: list[weakref.ref[Image.Image]] = []

    def load(path: Path) -> Image.Image:
        assert all(image() is None for image in alive)
        image = load_image(path)
        alive.append(weakref.ref(image))
        return image

    monkeypatch.setattr(sources, "load_image", load)
    monkeypatch.setattr(images, "load_image", load)
    status, out, _ = run("predict", model_folder, *paths, "--whole", "--json", "-", "--device", "cpu")
    assert status == 0 and len(json.loads(out)) == len(alive) == 4
    assert len(CompNet.from_pretrained(model_folder).predict(paths, boxes="whole")) == 4 and len(alive) == 8


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", ["truncated", "text", "empty"])
def test_a_broken_training_image_is_one_sentence(run: Any, data: Path, tmp_path: Path, kind: str, workers: int) -> None:
    path = sorted((data / "images" / "brick").iterdir())[0]
    shutil.copy(broken_images(tmp_path)[kind], path)
    line = train_line(data, tmp_path / "run")
    status, _, err = run(*line[:-1], workers)
    errors = [row for row in err.splitlines() if row.startswith("error: ")]
    assert status == 2 and len(errors) == 1 and str(path) in errors[0] and "remove it from its list" in errors[0]
    status, out, _ = run("data", "check", data)
    assert status == 1 and "broken image" in out


def test_a_missing_training_image_is_skipped_and_counted(run: Any, data: Path, tmp_path: Path) -> None:
    sorted((data / "images" / "brick").iterdir())[0].unlink()
    status, out, _ = run("data", "check", data)
    assert status == 1 and "missing image" in out
    status, _, err = run(*train_line(data, tmp_path / "run"))
    assert status == 0 and "1 x missing image" in err
    counts = json.loads((tmp_path / "run" / "config.json").read_text())["counts"]
    assert counts["samples"] == 15


# -- annotations -----------------------------------------------------------------------------------------------------


class Hostile:
    """Unpickles by running a command that leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.trace}",)


def write_hostile(path: Path, trace: Path) -> None:
    cells = np.empty(1, dtype=object)
    cells[0] = {"azimuth": Hostile(trace)}
    with zipfile.ZipFile(path, "w") as archive, archive.open("annotations.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(cells))
        file.write(pickle.dumps(cells))


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "NaN azimuth": ({"azimuth": float("nan")}, "azimuth is not finite"),
    "infinite distance": ({"distance": float("inf")}, "distance is not finite"),
    "NaN in the box": ({"bbox": np.array([0, 0, np.nan, 5])}, "bbox is not finite"),
    "text": ({"elevation": "steep"}, "wrong type of elevation"),
    "a list": ({"theta": [1, 2]}, "wrong type of theta"),
    "None": ({"focal": None}, "wrong type of focal"),
    "a box of three": ({"bbox": np.array([0.0, 0, 5])}, "wrong type of bbox"),
    "an empty box": ({"bbox": np.array([5.0, 5, 5, 9])}, "empty bbox"),
    "a missing key": ({"distance": ...}, "missing key distance"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_an_unusable_annotation_is_skipped_counted_and_reported(
    run: Any, data: Path, tmp_path: Path, kind: str
) -> None:
    changes, reason = CHANGES[kind]
    path = sorted((data / "annotations" / "tower").iterdir())[0]
    (entry,) = read_annotation(path)
    write_annotation(path, [{k: v for k, v in (entry | changes).items() if v is not ...}])
    status, out, _ = run("data", "check", data)
    assert status == 0 and f"object skipped: {reason}" in " ".join(out.split())
    status, _, err = run(*train_line(data, tmp_path / "run"))
    assert status == 0 and f"1 x {reason}" in err and str(path) in err


@pytest.mark.parametrize("kind", ["hostile", "truncated", "text", "empty", "not a list"])
def test_an_unreadable_annotation_runs_nothing_and_is_counted(run: Any, data: Path, tmp_path: Path, kind: str) -> None:
    path, trace = sorted((data / "annotations" / "tower").iterdir())[0], tmp_path / "trace"
    if kind == "hostile":
        write_hostile(path, trace)
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "not a list":
        np.savez(path, annotations=np.arange(3))
    else:
        path.write_text("no archive" if kind == "text" else "")
    status, out, _ = run("data", "check", data)
    assert status == 1 and "unreadable annotation" in out and not trace.exists()
    status, _, err = run(*train_line(data, tmp_path / "run"))
    assert status == 0 and "1 x unreadable annotation" in err and not trace.exists()
    if kind == "hostile":  # the file is what it claims to be: numpy would have run it
        np.load(path, allow_pickle=True)["annotations"]
        assert trace.exists()


def test_a_data_set_whose_annotations_are_all_bad_is_one_sentence(run: Any, data: Path, tmp_path: Path) -> None:
    for path in (data / "annotations").rglob("*.npz"):
        path.write_text("nothing")
    sentence(run(*train_line(data, tmp_path / "run")), data, "16 x unreadable annotation")


# -- CAD models ------------------------------------------------------------------------------------------------------

CAD = {
    "empty": ("", "is empty"),
    "no OFF": ("solid cube\n", "convert it to ASCII OFF"),
    "cut short": ("OFF\n8 6 0\n0 0 0\n", "export the model again"),
    "no faces": ("OFF\n1 0 0\n0 0 0\n", "export the model again"),
    "words": ("OFF\n3 1 0\n0 0 a\n0 1 0\n1 0 0\n3 0 1 2\n", "vertex 0 is not three numbers"),
    "short vertex": ("OFF\n3 1 0\n0 0\n0 1 0\n1 0 0\n3 0 1 2\n", "vertex 0 is not three numbers"),
    "NaN": ("OFF\n3 1 0\n0 0 nan\n0 1 0\n1 0 0\n3 0 1 2\n", "vertex 0 is not finite"),
    "unexpected vertex": ("OFF\n3 1 0\n0 0 0\n0 1 0\n1 0 0\n3 0 1 9\n", "face 0 names vertices"),
    "one point": ("OFF\n3 1 0\n1 1 1\n1 1 1\n1 1 1\n3 0 1 2\n", "all vertices are one point"),
}


@pytest.mark.parametrize("kind", CAD)
def test_a_broken_cad_model_is_one_sentence(run: Any, data: Path, tmp_path: Path, kind: str) -> None:
    text, message = CAD[kind]
    path = data / "CAD" / "brick" / "01.off"
    path.write_text(text)
    sentence(run(*train_line(data, tmp_path / "run")), path, message)
    status, out, _ = run("data", "check", data)
    assert status == 1 and "broken CAD model" in out


def test_absent_cad_models_are_one_sentence(run: Any, data: Path, tmp_path: Path) -> None:
    (data / "CAD" / "brick" / "01.off").unlink()
    sentence(run(*train_line(data, tmp_path / "a")), data / "CAD" / "brick", "put at least one there as 01.off")
    shutil.rmtree(data / "CAD")
    sentence(run(*train_line(data, tmp_path / "b")), data / "CAD", "no CAD model")
    status, out, _ = run("data", "check", data)
    assert status == 1 and "no CAD model" in out


def test_cad_folders_that_cannot_be_rendered_are_one_sentence(run: Any, tmp_path: Path) -> None:
    cad, line = tmp_path / "cad", ("--train", 1, "--val", 0, "--size", 32, "--workers", 1)
    cad.mkdir()
    sentence(run("data", "render", tmp_path / "out", "--cad", cad, *line), cad)
    (cad / "mug").mkdir()
    sentence(run("data", "render", tmp_path / "out", "--cad", cad, *line), cad)
    (cad / "mug" / "01.off").touch()
    sentence(run("data", "render", tmp_path / "out", "--cad", cad, *line), cad / "mug" / "01.off", "is empty")


# -- data sets -------------------------------------------------------------------------------------------------------


def test_data_sets_that_nothing_can_be_learned_from_are_one_sentence(run: Any, data: Path, tmp_path: Path) -> None:
    lists = data / "lists"
    saved = Path(shutil.copytree(lists, tmp_path / "saved"))
    for path in lists.iterdir():
        path.write_text("\n\n")
    sentence(run(*train_line(data, tmp_path / "run")), data, "no usable object")
    status, out, _ = run("data", "check", data)
    assert status == 1 and "no usable object" in out
    for path in list(lists.iterdir()):
        path.unlink()
    sentence(run(*train_line(data, tmp_path / "run")), lists, "holds no list")
    lists.rmdir()
    sentence(run(*train_line(data, tmp_path / "run")), data, "lists")
    sentence(run("data", "check", data), data, "lists")
    shutil.copytree(saved, lists)
    (lists / "brick_imagenet_train.txt").write_bytes(b"\xff\xfe\x00broken")
    sentence(run(*train_line(data, tmp_path / "run")), lists / "brick_imagenet_train.txt", "cannot be read as a list")
    assert not (tmp_path / "run" / "model").exists()


def test_a_category_with_an_empty_list_is_one_sentence(run: Any, data: Path, tmp_path: Path) -> None:
    """Its name would be learned from nothing."""
    (data / "lists" / "tower_imagenet_train.txt").write_text("")
    sentence(run(*train_line(data, tmp_path / "run")), "tower")


def test_one_training_image_per_category_is_enough(run: Any, data: Path, tmp_path: Path) -> None:
    for path in (data / "lists").glob("*_train.txt"):
        path.write_text(path.read_text().splitlines()[0] + "\n")
    status, _, err = run(*train_line(data, tmp_path / "run"))
    assert status == 0 and (tmp_path / "run" / "model").is_dir(), err


def test_evaluating_on_data_of_other_categories_is_one_sentence(
    run: Any, data: Path, model_folder: Path, tmp_path: Path
) -> None:
    (data / "lists" / "zebra_imagenet_val.txt").write_text("zebra_1\n")
    for kind in ("images", "annotations"):
        shutil.copytree(data / kind / "tower", data / kind / "zebra")
    source = sorted((data / "images" / "zebra").iterdir())[0].stem
    (data / "lists" / "zebra_imagenet_val.txt").write_text(f"{source}\n")
    path = data / "annotations" / "zebra" / f"{source}.npz"
    write_annotation(path, [read_annotation(path)[0] | {"class": "zebra"}])
    evaluate = ("evaluate", model_folder, "--data", data, "--device", "cpu")
    sentence(run(*evaluate), "zebra")
    sentence(run(*evaluate, "--split", "test"), "no list for split 'test'", "train, val")


# -- checkpoints -----------------------------------------------------------------------------------------------------


def fail_to_load(run: Any, model: Path, image: Path) -> tuple[int, str, str]:
    result: tuple[int, str, str] = run("predict", model, image, "--device", "cpu")
    with pytest.raises(CompNetError):
        CompNet.from_pretrained(model)
    return result


@pytest.fixture
def image(tmp_path: Path) -> Path:
    opened().save(tmp_path / "image.png")
    return tmp_path / "image.png"


def test_missing_unexpected_and_misshapen_tensors_are_named(run: Any, model_copy: Path, image: Path) -> None:
    path = model_copy / "model.safetensors"
    tensors = load_file(path)
    name = "bank.vertex_features"
    save_file({k: v for k, v in tensors.items() if k != name}, path)
    sentence(fail_to_load(run, model_copy, image), path, f"missing tensor {name}", "train the model again")
    save_file(tensors | {"head.weight": torch.zeros(3)}, path)
    sentence(fail_to_load(run, model_copy, image), path, "unexpected tensor head.weight", "train the model again")
    save_file(tensors | {name: tensors[name][:-1].clone()}, path)
    sentence(fail_to_load(run, model_copy, image), path, f"{name} has shape", "train the model again")


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_weights_file_is_named(run: Any, model_copy: Path, image: Path, part: float) -> None:
    path = model_copy / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    sentence(fail_to_load(run, model_copy, image), path, "copy or train the model again")


def test_a_missing_model_is_named(run: Any, model_copy: Path, image: Path) -> None:
    (model_copy / "model.safetensors").unlink()
    sentence(fail_to_load(run, model_copy, image), model_copy, "give the folder that train wrote")


def test_a_missing_configuration_is_named(run: Any, model_copy: Path, image: Path) -> None:
    (model_copy / "config.json").unlink()
    sentence(fail_to_load(run, model_copy, image), model_copy / "config.json")


def _set(*keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        for key in keys[:-1]:
            config = config[key]
        if value is ...:
            del config[keys[-1]]
        else:
            config[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("categories", value=...),
        _set("categories", value=5),
        _set("categories", value=["brick"]),
        _set("categories", value=[]),
        _set("format", value=99),
        _set("bounds", value="wide"),
        _set("bounds", value=[[[0, 0, 0], [0, 0, 0]]] * 2),
        _set("bounds", value=[[[0, 0, 0]]] * 2),
        _set("input_config", value=None),
        _set("input_config", "height", value=-3),
        _set("input_config", "height", value="tall"),
        _set("backbone", "family", value="swin"),
        _set("backbone", "architecture", value={"hidden_sizes": [1]}),
        _set("backbone", "architecture", value={"hidden_sizes": "wide"}),
        _set("backbone", "dimension", value=8),
        _set("backbone", "mean", value=...),
        _set("backbone", "surprise", value=1),
        _set("pose", "betas", value=...),
        _set("pose", value=3),
        _set("grid", value={}),
        _set("renderer", value="painter"),
        _set("vertex_count", value=-1),
        _set("vertex_count", value=90),
        _set("background_size", value=None),
        _set("surprise", value=1),
    ],
    ids=range(25),
)
def test_a_broken_configuration_is_named(
    run: Any, model_copy: Path, image: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    path = model_copy / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    sentence(fail_to_load(run, model_copy, image), model_copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '"model"', "\x00\x01"])
def test_a_configuration_that_is_no_json_object_is_named(run: Any, model_copy: Path, image: Path, text: str) -> None:
    (model_copy / "config.json").write_text(text)
    sentence(fail_to_load(run, model_copy, image), model_copy / "config.json")


def test_a_broken_mesh_in_a_model_is_named(run: Any, model_copy: Path, image: Path) -> None:
    (model_copy / "meshes" / "brick.off").write_text("OFF\n")
    sentence(fail_to_load(run, model_copy, image), model_copy / "meshes" / "brick.off")


# -- resuming --------------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(data: Path, tmp_path: Path) -> Path:
    """A run that stopped after its first epoch."""
    out = tmp_path / "run"
    train(TINY.with_settings({"schedule.epochs": 2}), data, out, workers=0, progress=False, stop_after=1)
    return out


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def _halve(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:500]) and None


def _tensors(name: str, change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / name)
        change(tensors)
        save_file(tensors, folder / name)

    return apply


OPTIMIZER = "optimizer.safetensors"
STEP = "feature_extractor.projection.weight//exp_avg"
DAMAGE = {
    "no progress": ("progress.json", _remove("progress.json")),
    "broken progress": ("progress.json", _write("progress.json", "{")),
    "empty progress": ("progress.json", _write("progress.json", "{}")),
    "no model config": ("model.json", _remove("model.json")),
    "broken model config": ("model.json", _write("model.json", "{}")),
    "no tensors": ("model.safetensors", _remove("model.safetensors")),
    "half the tensors": ("model.safetensors", _halve("model.safetensors")),
    "no optimiser": (OPTIMIZER, _remove(OPTIMIZER)),
    "half an optimiser": (OPTIMIZER, _halve(OPTIMIZER)),
    "unexpected optimiser tensor": (OPTIMIZER, _tensors(OPTIMIZER, lambda t: t.update({"a//b": torch.zeros(2)}))),
    "nameless optimiser tensor": (OPTIMIZER, _tensors(OPTIMIZER, lambda t: t.update({"a": torch.zeros(2)}))),
    "missing optimiser tensor": (OPTIMIZER, _tensors(OPTIMIZER, lambda t: t.pop(STEP))),
    "misshapen optimiser tensor": (OPTIMIZER, _tensors(OPTIMIZER, lambda t: t.update({STEP: torch.zeros(2)}))),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_one_sentence(
    run: Any, data: Path, stopped: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, damage = DAMAGE[kind]
    damage(stopped / "checkpoint")
    monkeypatch.setitem(recipes.RECIPES, "tiny", TINY.with_settings({"schedule.epochs": 2}))
    sentence(run(*train_line(data, stopped, "--resume")), stopped / "checkpoint" / name)


def test_resuming_with_other_settings_is_one_sentence(run: Any, data: Path, stopped: Path) -> None:
    """The run was started for two epochs; the recipe of that name now says one."""
    sentence(run(*train_line(data, stopped, "--resume")), stopped / "config.json", "epochs")


def test_a_run_stopped_before_its_first_checkpoint_can_be_started_again(run: Any, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(TINY, data, out, workers=0, progress=False)
    for name in ("checkpoint", "model"):
        shutil.rmtree(out / name)
    for name in ("log.csv", "log.jsonl"):
        (out / name).unlink()
    (out / f".checkpoint.new-{os.getpid()}").mkdir()
    status, _, err = run(*train_line(data, out))
    assert status == 0, err
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint", "config.json", "log.csv", "log.jsonl", "model"]


@pytest.mark.parametrize("name", ["config.json", "log.csv", "log.jsonl", "notes.txt", ".hidden", "checkpoint.json"])
def test_a_folder_with_anybodys_file_is_left_alone(run: Any, data: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    for text in ("mine", '{"recipe": "mine"}', "[]"):
        (out / name).write_text(text)
        sentence(run(*train_line(data, out)), out, "holds something else")
        sentence(run(*train_line(data, out, "--resume")), out, "no checkpoint")
        assert [path.name for path in out.iterdir()] == [name] and (out / name).read_text() == text


def test_a_run_that_has_not_begun_is_only_begun_again_with_its_settings(run: Any, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(TINY, data, out, workers=0, progress=False)
    for name in ("checkpoint", "model"):
        shutil.rmtree(out / name)
    sentence(run(*train_line(data, out)), out, "holds something else")  # its logs
    for name in ("log.csv", "log.jsonl"):
        (out / name).unlink()
    sentence(run(*train_line(data, out, "--set", "loss.kappa=7")), out / "config.json", "loss.kappa")
    sentence(run(*train_line(data, out, "--seed", "7")), out / "config.json", "seed")
    (out / "notes.txt").touch()
    sentence(run(*train_line(data, out)), out, "holds something else")


def test_a_models_folder_is_no_runs(run: Any, data: Path, model_copy: Path) -> None:
    before = {path: path.read_bytes() for path in model_copy.rglob("*") if path.is_file()}
    sentence(run(*train_line(data, model_copy)), model_copy, "holds something else")
    assert {path: path.read_bytes() for path in model_copy.rglob("*") if path.is_file()} == before


def test_what_cannot_be_a_runs_folder_is_one_sentence(run: Any, data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link", "file/run"):
        sentence(run(*train_line(data, tmp_path / name)), tmp_path / name)
        line = ("data", "make", tmp_path / name, "--categories", 1, "--train", 1, "--val", 0, "--size", 32)
        sentence(run(*line, "--workers", 1), tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine" and (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "file", "link"]


def test_an_overlay_replaces_overlays_alone(run: Any, model_folder: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    opened().save(photos / "car.png")
    before = (photos / "car.png").read_bytes()
    line = ("predict", model_folder, photos / "car.png", "--device", "cpu", "--overlay")
    sentence(run(*line, photos), photos / "car.png", "is no overlay")
    assert (photos / "car.png").read_bytes() == before
    for _ in range(2):
        assert run(*line, tmp_path / "drawn")[0] == 0
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["car.png"]


# -- a full disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        done = False
    if not done:
        pytest.skip("may not mount a small disk here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Fill the disk up but for `leave` bytes."""
    free = shutil.disk_usage(disk).free
    (disk / "ballast").write_bytes(b"x" * max(0, free - leave))
    return disk / "ballast"


@pytest.mark.parametrize("leave", [0, 8192, 65536])
def test_a_full_disk_keeps_the_earlier_model(model_folder: Path, small_disk: Path, leave: int) -> None:
    model = CompNet.from_pretrained(model_folder)
    folder = small_disk / "model"
    model.save_pretrained(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    ballast = fill(small_disk, leave)
    with pytest.raises(CompNetError, match=f"^{folder}: no space left on the disk; free some[^\n]+$"):
        model.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert sorted(path.name for path in small_disk.iterdir()) == ["ballast", "model"]  # nothing half-written is left
    CompNet.from_pretrained(folder)
    ballast.unlink()
    model.save_pretrained(folder)


def test_a_full_disk_while_training_is_one_sentence_and_the_run_goes_on_later(
    run: Any, data: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = TINY.with_settings({"schedule.epochs": 2})
    monkeypatch.setitem(recipes.RECIPES, "tiny", recipe)
    out = small_disk / "run"
    train(recipe, data, out, workers=0, progress=False, stop_after=1)
    ballast = fill(small_disk, 20_000)
    status, _, err = run(*train_line(data, out, "--resume"))
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 2 and len(errors) == 1 and "no space left on the disk; free some" in errors[0]
    assert json.loads((out / "checkpoint" / "progress.json").read_text())["epoch"] == 1
    ballast.unlink()
    status, _, err = run(*train_line(data, out, "--resume"))
    assert status == 0 and CompNet.from_pretrained(out), err


def test_a_full_disk_while_writing_answers_is_one_sentence(
    run: Any, model_folder: Path, image: Path, data: Path, small_disk: Path
) -> None:
    fill(small_disk, 0)
    predict = ("predict", model_folder, image, "--device", "cpu")
    sentence(run(*predict, "--json", small_disk / "p.json"), small_disk / "p.json", "no space left")
    sentence(run(*predict, "--overlay", small_disk / "drawn"), small_disk / "drawn", "space")
    line = ("data", "make", small_disk / "data", "--categories", 1, "--train", 1, "--val", 0, "--size", 32)
    sentence(run(*line, "--workers", 1), small_disk / "data", "space")
    status, _, err = run("evaluate", model_folder, "--data", data, "--device", "cpu", "--json", small_disk / "m.json")
    errors = [row for row in err.splitlines() if row.startswith("error: ")]
    assert status == 2 and len(errors) == 1 and str(small_disk / "m.json") in errors[0] and "space" in errors[0]


def test_a_place_that_cannot_be_written_is_one_sentence(
    run: Any, model_folder: Path, image: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    inside = tmp_path / "file" / "inside"
    predict = ("predict", model_folder, image, "--device", "cpu")
    sentence(run(*predict, "--json", inside), inside)
    sentence(run(*predict, "--overlay", inside), inside)
    sentence(run(*train_line(data, inside)), inside)
    sentence(run("data", "make", inside, "--categories", 1, "--train", 1, "--val", 0, "--size", 32), inside)
    with pytest.raises(CompNetError, match=re.escape(str(inside))):
        CompNet.from_pretrained(model_folder).save_pretrained(inside)
