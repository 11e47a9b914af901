"""The scripts beside the package: they run with the modules as they are now, and the marks are counted as they say."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted([*(ROOT / "tools").glob("*.py"), *(ROOT / "research").glob("*.py")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_finds_what_it_imports(script: Path) -> None:
    assert callable(runpy.run_path(str(script), run_name="not_main")["main"])


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A package whose every mark has been counted by hand."""
    files = {
        "__init__.py": "VERSION, NAME = 1, 'x'\n",
        "flat.py": "# one comment\ndef wide(a, b, /, c, d, *e, f, g, h, **i): pass\ndef narrow(a, b, c): pass\n",
        "models/pose.py": "class A:\n    i = 1\n    def six(self, a, b, c, d, e, f): pass\nX: dict[str, Any] = {}\n",
        "losses/pose.py": "line = 1\n" * 401,
        "cli/pose.py": "pass\n",
    }
    for name, text in files.items():
        path = tmp_path / "src" / "compnet3d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "README.md").write_text("Four words are here.\n```\nnone of these\n```\n<!-- nor these -->\n")
    return tmp_path


def test_marks_are_counted(house: Path) -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "house_marks.py"), run_name="not_main")
    found = {mark.what: mark for mark in tool["marks"](house)}
    lines = 1 + 3 + 4 + 401 + 1
    assert {what: mark.value for what, mark in found.items()} == {
        "modules at the top of the package": 2,
        "files over 400 lines": 1,
        "functions with more than 8 parameters": 1,
        "module globals per 1,000 lines": pytest.approx(1000 * (2 + 1 + 401) / lines),
        "lines with dict[str, Any]": 1,
        "pairs of files with one name": 1,
        "words a newcomer reads to train on own images": 4,
        "lines of comment [%]": pytest.approx(100 / lines),
        "lines": lines,
    }
    (wide,) = found["functions with more than 8 parameters"].items
    assert wide == "flat.py:2 wide: 9 parameters"
    assert found["pairs of files with one name"].items == ("losses/pose.py and models/pose.py",)
    assert not found["module globals per 1,000 lines"].reached and found["files over 400 lines"].reached


def test_check_fails_where_a_mark_is_not_reached(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "house_marks.py"), run_name="not_main")
    with pytest.raises(SystemExit):
        tool["main"](["--check", "--root", str(house)])
    assert "NOT reached" in capsys.readouterr().out
