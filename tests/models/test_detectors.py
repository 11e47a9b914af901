"""Detectors of others: YOLOX in ONNX, and those of transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from compnet3d.errors import CompNetError
from compnet3d.models.detectors import COCO_NAMES, load_detector, wanted_labels


@pytest.mark.parametrize(
    ("known", "categories", "expected"),
    [
        (["car", "cup", "dog"], ["car"], {"car"}),
        (["car", "cup", "dog"], ["car", "mug"], {"car", "cup"}),
        (["dining table", "car"], ["dining_table"], {"dining table"}),
        (["car", "cup"], ["car", "pear"], None),
    ],
)
def test_labels_that_are_wanted(known: list[str], categories: list[str], expected: set[str] | None) -> None:
    assert wanted_labels(known, categories) == expected


def test_cocos_categories() -> None:
    assert len(COCO_NAMES) == len(set(COCO_NAMES)) == 80
    assert [COCO_NAMES[i] for i in (0, 2, 41, 79)] == ["person", "car", "cup", "toothbrush"]


def test_a_real_detector_finds_cars_where_they_were_put(shared_dir: Path) -> None:
    pytest.importorskip("onnxruntime")
    names = sorted((shared_dir / "data" / "cars" / "images" / "car").glob("*"))[:3]
    weights = shared_dir / "weights" / "yolox-nano" / "yolox_nano.onnx"
    if not names or not weights.exists():
        pytest.skip("needs a detector and photographs of cars")
    detector = load_detector(weights, ["car"])
    for path in names:
        with Image.open(path) as image:
            car = image.convert("RGB")
        # photographs of the data set are cropped to the car: the box is known after pasting
        canvas = Image.new("RGB", (car.width * 3 // 2, car.height * 3 // 2), (120, 130, 125))
        left, top = car.width // 4, car.height // 3
        canvas.paste(car, (left, top))
        found = detector.detect(canvas, 1)
        assert found.labels == ("car",) and float(found.scores[0]) > 0.5
        expected = torch.tensor([left, top, left + car.width, top + car.height], dtype=torch.float32)
        assert torch.allclose(found.boxes[0], expected, atol=0.12 * car.width)
    assert len(detector.detect(Image.new("RGB", (300, 200)), 5)) == 0


@pytest.mark.parametrize("content", [b"", b"not onnx", None])
def test_an_onnx_file_that_is_none_is_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "d.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CompNetError, match=f"^{path}: ") as error:
        load_detector(path, ["car"])
    assert "\n" not in str(error.value)


def tiny_yolos(folder: Path) -> None:
    """A network whose every answer is the middle half of the image, label 2, with the probability of one in four."""
    from transformers import YolosConfig, YolosForObjectDetection
    from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil

    names = ["cup", "dog", "car"]
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    config = YolosConfig(**sizes, **labels, image_size=[64, 64], patch_size=16, num_detection_tokens=3)
    torch.manual_seed(0)
    network = YolosForObjectDetection(config)
    with torch.no_grad():
        for head, bias in (
            (network.class_labels_classifier, torch.tensor([0.0, 0.0, 3.0, 0.0])),
            (network.bbox_predictor, torch.zeros(4)),  # of a sigmoid: centre and size are 1/2
        ):
            head.layers[-1].weight.zero_()
            head.layers[-1].bias.copy_(bias)
    network.save_pretrained(folder)
    YolosImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)


def test_a_detector_of_transformers(tmp_path: Path) -> None:
    tiny_yolos(tmp_path)
    image = Image.new("RGB", (120, 80))
    found = load_detector(tmp_path, ["car"]).detect(image, 5)
    # three equal boxes are one object
    assert found.boxes.tolist() == [[30, 20, 90, 60]] and found.labels == ("car",)
    assert float(found.scores[0]) == pytest.approx(float(torch.tensor([0.0, 0, 3, 0]).softmax(0)[2]), abs=1e-4)
    # it knows cups, and has found none; what it does not know may be any of its labels
    assert len(load_detector(tmp_path, ["cup"]).detect(image, 5)) == 0
    assert len(load_detector(tmp_path, ["pear"]).detect(image, 5)) == 1


def test_folders_that_hold_no_detector_are_one_sentence(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "vit"}))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    for name in ("other", "broken"):
        with pytest.raises(CompNetError, match=f"^{tmp_path / name}: cannot be loaded as a detector") as error:
            load_detector(tmp_path / name, ["car"])
        assert "\n" not in str(error.value)
