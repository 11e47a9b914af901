"""Samples in blocks of memory: what comes out is what went in."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from compnet3d.data.members import Member
from compnet3d.data.sample import Sample
from compnet3d.data.sample_table import SampleTable


def made(number: int) -> Sample:
    return Sample(
        image=Path(f"images/mug/{number}.JPEG"), category="mug", name=str(number), azimuth=0.1 * number, elevation=0.3,
        theta=1e-17, distance=3.0, focal=90.0, principal_point=(15.0, 10.5), bbox=(3.0, 2.0, 25.0, 18.0), width=30,
        height=20,
    )  # fmt: skip


def test_what_comes_out_is_what_went_in() -> None:
    member = Member("http://host/train-000000.tar", "mug/1.JPEG", 512, 100, 7, True)
    samples = [made(0), replace(made(1), image=member, mask=replace(member, name="mug/1.mask.png")), made(2)]
    samples[2] = replace(samples[2], hidden=(0.25, 1 / 3), occluder_mask=Path("a.png"), instance="mug_i2")
    every = samples * 3
    table = SampleTable(every)
    assert len(table) == 9 and list(table) == every and table[4] == every[4] and table[-1] == every[-1]
    assert table[1:3] == every[1:3] and table[::-4] == every[::-4] and samples[1] in table
    assert table.shards == [None, "http://host/train-000000.tar", None] * 3
    with pytest.raises(IndexError):
        table[9]
    for other in (SampleTable(table), copy.copy(table), pickle.loads(pickle.dumps(table))):
        assert list(other) == every and other.shards == table.shards
    # what comes several times is kept once
    assert len(pickle.dumps(SampleTable(samples * 1000))) < len(pickle.dumps(table)) + 40_000
    assert len(SampleTable([])) == 0 and list(SampleTable([])) == []
