"""The order of the folders: each may import from those below it, and from no other."""

from __future__ import annotations

import re
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src" / "compnet3d"
ORDER = (
    *("cli", "apps", "reproduce", "bench", "reporting", "training", "evaluation", "models", "robustness", "inference"),
    *("procedural", "losses", "data", "rendering", "geometry", "utils", "errors"),
)


def test_imports_point_down():
    found = {path.stem for path in SOURCE.iterdir() if path.suffix in ("", ".py")} - {"__pycache__"}
    assert found == {*ORDER, "__init__", "__main__"}
    for place, name in enumerate(ORDER):
        for path in [*(SOURCE / name).rglob("*.py"), *SOURCE.glob(f"{name}.py")]:
            used = set(re.findall(r"^\s*(?:from|import) compnet3d\.(\w+)", path.read_text("utf-8"), re.MULTILINE))
            assert used <= {name, *ORDER[place:]}, f"{path} imports {used - set(ORDER[place:])}, which lies above it"
