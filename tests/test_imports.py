"""Importing the package is cheap and needs no vision extras: read from the source with ast, and tried for real."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "compnet3d"
HEAVY = ("transformers", "matplotlib", "gradio", "scipy", "tyro")


def modules() -> list[tuple[str, ast.Module]]:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found.append((name, ast.parse(path.read_text(encoding="utf-8"))))
    return found


def imported(tree: ast.AST, *, at_import: bool = False) -> set[str]:
    """Modules that a file imports, absolute; with `at_import` only those that importing it runs."""
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if at_import and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                if not at_import:
                    visit(child)
                continue
            if isinstance(child, ast.Import):
                names.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, "relative imports hide the direction"
                # `from compnet3d import errors` imports compnet3d.errors
                bare = child.module == "compnet3d"
                names.update(f"compnet3d.{alias.name}" if bare else str(child.module) for alias in child.names)
            visit(child)

    visit(tree)
    return names


MODULES = modules()


@pytest.mark.parametrize(("name", "tree"), MODULES, ids=[name for name, _ in MODULES])
def test_heavy_packages_are_imported_inside_functions(name, tree):
    heavy = {target.split(".")[0] for target in imported(tree, at_import=True)} & set(HEAVY)
    # what draws the demo's page is nothing without it; its command imports it when it runs
    allowed = {"gradio"} if name == "apps.demo" else {"tyro"} if name.startswith("cli.") else set()
    assert heavy <= allowed, f"{name} imports {heavy} when it is imported"


@pytest.mark.parametrize(("name", "tree"), MODULES, ids=[name for name, _ in MODULES])
def test_no_vision_extras(name, tree):
    assert not {t.split(".")[0] for t in imported(tree)} & {"torchvision", "timm", "pytorch3d"}


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_after("import compnet3d") & {*HEAVY, "torch"}


def test_the_public_names_load_without_the_heavy_packages():
    assert not loaded_after("import compnet3d; compnet3d.CompNet, compnet3d.Pose") & set(HEAVY)


def test_the_command_line_starts_without_torch():
    assert "torch" not in loaded_after("import compnet3d.cli.main")


def test_public_names_exist():
    import compnet3d

    for name in compnet3d.__all__:
        assert getattr(compnet3d, name) is not None
    assert set(compnet3d.__all__) <= set(dir(compnet3d))
    with pytest.raises(AttributeError, match="nonsense"):
        compnet3d.nonsense  # noqa: B018


@pytest.mark.parametrize("package", ["data", "geometry"])
def test_packages_export_their_public_names(package):
    module = importlib.import_module(f"compnet3d.{package}")
    assert list(module.__all__) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
