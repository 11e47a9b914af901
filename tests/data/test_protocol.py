"""Published protocols: which categories take part, and how a copy of a data set deviates."""

from __future__ import annotations

from pathlib import Path

import pytest

from compnet3d.cli.main import main
from compnet3d.data.annotations import read_annotation, write_annotation
from compnet3d.data.check import check_dataset
from compnet3d.data.protocol import Protocol, load_protocol, missing_names, protocol_names
from compnet3d.errors import CompNetError
from compnet3d.procedural.writer import make_dataset

TWO = Protocol(
    name="two",
    categories=2,
    images={"train": 9, "val": 3},
    unseen=("go_kart",),
    elongated=("Pen Holder",),
    confused=(("pen-holder", "cup"),),
)


def test_the_papers_numbers() -> None:
    protocol = load_protocol("imagenet3d-188")
    # section 4.1: 61,230 images; sections 7 and 8: ten unseen and ten elongated categories
    assert sum(protocol.images.values()) == 61_230
    assert len(set(protocol.unseen)) == len(set(protocol.elongated)) == 10
    assert not set(protocol.unseen) & set(protocol.elongated)


def test_categories_with_the_most_training_images_take_part() -> None:
    images = {
        "d": {"train": 5, "val": 90},
        "b": {"train": 4, "val": 1},
        "a": {"train": 3, "val": 80},
        "c": {"train": 4, "val": 2},
        "e": {"train": 0, "val": 70},
    }
    # of b and c, which have as many, the first
    assert TWO.chosen(images) == ["b", "d"]
    assert TWO.chosen({"d": {"train": 5}}) == ["d"]
    assert TWO.chosen({}) == []


def test_a_copy_without_deviations() -> None:
    images = {"Pen_holder": {"train": 5, "val": 1}, "cup": {"train": 4, "val": 2}}
    assert TWO.deviations(images) == ["table 3 cannot be made as printed: no go_kart"]
    complete = Protocol("two", 2, TWO.images, ("cup",), TWO.elongated, TWO.confused)
    assert complete.deviations(images) == []


def test_deviations_name_what_differs() -> None:
    images = {"go kart": {"train": 6, "val": 3}, "cup": {"train": 4}, "mug": {"train": 1, "val": 1}}
    assert TWO.deviations(images) == [
        "3 categories where the protocol takes 2; train with --without mug",
        "10 usable images in train where the protocol has 9 (+11.1 %)",
        "table 7 cannot be made as printed: no Pen Holder",
        "table 5 cannot be made as printed: no pen-holder",
    ]
    assert TWO.deviations({"cup": {"train": 9, "val": 3}})[0] == (
        "1 categories with training images where the protocol has 2"
    )


def test_names_are_compared_whatever_their_spelling() -> None:
    assert missing_names(["french_horn", "RV", "rv", "go kart"], ["French Horn", "go-kart"]) == ["RV", "rv"]
    assert missing_names(["a", "a"], []) == ["a"]


def test_unknown_protocols_are_named() -> None:
    with pytest.raises(CompNetError, match=r"protocol 'imagenet' is unknown; use one of imagenet3d-188"):
        load_protocol("imagenet")
    assert protocol_names() == ["imagenet3d-188"]


def test_images_with_a_usable_object_are_counted(tmp_path: Path) -> None:
    names = make_dataset(tmp_path / "data", categories=2, train=3, val=2, size=32, workers=1)
    annotations = tmp_path / "data" / "annotations" / names[0]
    first = sorted(annotations.glob(f"{names[0]}_i000*"))[0]
    entry = read_annotation(first)[0]
    # two objects are one image, an object without a pose is none
    write_annotation(first, [entry, entry])
    second = sorted(annotations.glob("*"))[1]
    write_annotation(second, [{**read_annotation(second)[0], "distance": 0.0}])
    checked = check_dataset(tmp_path / "data")
    assert {name: counts.images for name, counts in checked.categories.items()} == {
        names[0]: {"train": 2, "val": 2},
        names[1]: {"train": 3, "val": 2},
    }


def test_the_check_prints_the_deviations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_dataset(tmp_path / "data", categories=2, train=2, val=1, size=32, workers=1)
    main(["data", "check", str(tmp_path / "data"), "--protocol", "imagenet3d-188"])
    printed = capsys.readouterr().out
    assert "- 2 categories with training images where the protocol has 188" in printed
    assert "- 4 usable images in train where the protocol has 30,630 (-100.0 %)" in printed
    assert "no tricycle, unicycle" in printed
    with pytest.raises(SystemExit):
        main(["data", "check", str(tmp_path / "data"), "--protocol", "imagenet3d"])
    assert "protocol 'imagenet3d' is unknown" in capsys.readouterr().err
