"""The list of `tools/mutations.py`: its texts stand in the package, its tests are there, and a broken list is named."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.inference.test_refinement import CHANGES
from tests.training.test_reference import BASES, SETTINGS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutations", ROOT / "tools" / "mutations.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutations"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_fault_can_be_put_into_the_package(tool: ModuleType) -> None:
    assert tool.problems() == [] and len(tool.MUTATIONS) >= 40


def test_the_tests_that_should_notice_are_there(tool: ModuleType) -> None:
    """With their parameters, as pytest names them."""
    cases = {*BASES, *(f"{base}-{name}-{value}" for base, name, value in SETTINGS), "starts-3"}
    cases |= {f"{name}-{value}" for name, value in CHANGES} | {"compnet-2", "bins-4"}
    for test in {test for mutation in tool.MUTATIONS for test in mutation.tests}:
        path, name, case = re.fullmatch(r"(.+)::(\w+)(?:\[(.+)\])?", test).groups()  # type: ignore[union-attr]
        assert f"\ndef {name}(" in (ROOT / path).read_text() and (case is None or case in cases), test


def test_a_list_that_does_not_fit_is_named(tool: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "src" / "compnet3d"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text("x = 1\ny = 1\n")
    fits = tool.Mutation("fits", "a.py", "x = 1", "x = 2")
    assert tool.problems([fits], tmp_path) == []
    for broken, said in (
        (tool.Mutation("gone", "a.py", "z = 1", "z = 2"), "stands 0 times in a.py"),
        (tool.Mutation("twice", "a.py", "= 1", "= 2"), "stands 2 times in a.py"),
        (tool.Mutation("moved", "b.py", "x = 1", "x = 2"), "stands 0 times in b.py"),
        (tool.Mutation("no Python", "a.py", "x = 1", "x = ("), "never closed"),
        (tool.Mutation("fits", "a.py", "y = 1", "y = 2"), "is there twice"),
    ):
        (problem,) = tool.problems([fits, broken], tmp_path)
        assert broken.name in problem and said in problem
