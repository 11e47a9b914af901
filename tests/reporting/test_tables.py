from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest

from compnet3d.reporting.tables import Row, Spread, Table, show
from compnet3d.reproduce.measures import mean_of, over_categories
from compnet3d.reproduce.paper_numbers import Paper


def test_a_spread_has_the_sample_deviation() -> None:
    spread = Spread((0.5, 0.7, 0.9))
    assert spread.mean == pytest.approx(0.7)
    assert spread.deviation == pytest.approx(math.sqrt((0.2**2 + 0 + 0.2**2) / 2))
    assert Spread((0.5,)).deviation is None


def test_cells_are_shown_in_percent() -> None:
    assert [show(cell) for cell in (0.5, None, "x", Spread((0.1234,)), Spread((0.5, 0.7)))] == [
        "50.0",
        "-",
        "x",
        "12.3",
        f"60.0 ± {100 * math.sqrt(0.02):.1f}",
    ]


def test_the_mean_over_conditions_is_taken_seed_by_seed() -> None:
    mean = mean_of([Spread((0.1, 0.5)), Spread((0.3, 0.9))])
    assert mean.values == pytest.approx((0.2, 0.7))


def table() -> Table:
    rows = (Row("ours", (Spread((0.5, 0.7)), 0.25)), Row("theirs <b>", (None, "slow")))
    return Table("table9", "a title", ("method", "first", "second"), rows, ("A note.",), "key")


def test_a_table_survives_json() -> None:
    assert Table.from_dict(json.loads(json.dumps(table().to_dict()))) == table()


def test_markdown_and_html_hold_every_cell() -> None:
    lines = table().markdown().splitlines()
    assert lines[2:6] == [
        "| method | first | second |",
        "|---|---:|---:|",
        "| ours | 60.0 ± 14.1 | 25.0 |",
        "| theirs <b> | - | slow |",
    ]
    assert "<td>60.0 ± 14.1</td>" in table().html() and "theirs &lt;b&gt;" in table().html()


def test_a_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        Table("table9", "", ("method", "first"), (Row("ours", (1.0, 2.0)),))


def test_some_categories_are_weighed_by_their_images() -> None:
    found = {"a": (1, 1.0), "b": (3, 0.0), "c": (9, 0.5), "d": (5, None)}
    entries = {name: SimpleNamespace(images=images, accuracy=share) for name, (images, share) in found.items()}
    measure = over_categories(["a", "b", "d"], "classification")
    assert measure(SimpleNamespace(per_category=entries)) == pytest.approx(0.25)


def test_the_papers_averages_follow_from_its_rows() -> None:
    """Those that reference.md says are misprinted come out as recomputed there."""

    def mean(values: tuple[float, ...]) -> float:
        return sum(values) / len(values)

    rows = {name: (mean(v[1:4]), mean(v[4:8])) for name, v in Paper.TABLE4_CLASSIFICATION.items()}
    assert rows["ResNet50"] == pytest.approx((34.9, 48.0), abs=0.051)
    assert rows["3D-CompNets"] == pytest.approx((43.7, 59.2), abs=0.051)
    assert [mean(v) for v in Paper.TABLE3.values()] == pytest.approx([14.6, 38.0, 47.4], abs=0.051)
