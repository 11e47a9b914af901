"""Imports point down only, and importing the package is cheap: read from the source with ast, and tried for real."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "compnet3d"

# A module may import from its own layer and from those named here; the first prefix that fits counts.
GEOMETRY = ("errors", "geometry")
RENDERING = (*GEOMETRY, "rendering")
DATA = (*GEOMETRY, "data")
MODELS = (*RENDERING, "products", "files", "data", "losses", "sampling", "grouping", "inference", "models")
MEASURING = (*MODELS, "memory", "benchmarks", "baselines")
TRAINING = (*MEASURING, "recipes", "parallel", "run", "assembly", "steps")
ALLOWED: dict[str, tuple[str, ...]] = {
    "errors": (),
    "products": (),
    "files": ("errors",),
    "memory": (),
    "geometry": GEOMETRY,
    "losses": ("products",),
    "sampling": (),
    "grouping": (),
    "benchmarks.metrics": ("geometry",),
    "rendering": RENDERING,
    "data.procedural": (*DATA, "files", "rendering"),
    "data": (*DATA, "files"),
    "inference": (*RENDERING, "products", "data", "inference"),
    "models": MODELS,
    "benchmarks": MEASURING,
    "baselines": MEASURING,
    "recipes": (*MODELS, "recipes"),
    "parallel": ("errors", "files"),
    "run": (*MODELS, "baselines", "recipes", "parallel"),
    "assembly": (*MEASURING, "recipes"),
    "steps": (*MEASURING, "recipes", "parallel", "run"),
    "training": TRAINING,
    "viz": RENDERING,
}
TOP = (
    "cli",
    "cli_options",
    "cli_bench",
    "cli_data",
    "speed",
    "demo",
    "report",
    "report_style",
    "tables",
    "predict",
    "quickstart",
    "ablation",
    "reproduce",
    "cli_reproduce",
    "provenance",
    "__init__",
    "__main__",
)
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
                # `from compnet3d import viz` imports compnet3d.viz
                bare = child.module == "compnet3d"
                names.update(f"compnet3d.{alias.name}" if bare else str(child.module) for alias in child.names)
            visit(child)

    visit(tree)
    return names


def belongs(name: str, layer: str) -> bool:
    return name == layer or name.startswith(f"{layer}.")


MODULES = modules()


@pytest.mark.parametrize(("name", "tree"), MODULES, ids=[name for name, _ in MODULES])
def test_imports_point_down(name, tree):
    if any(belongs(name, top) for top in TOP):
        return
    layer = next((layer for layer in ALLOWED if belongs(name, layer)), None)
    assert layer is not None, f"{name} belongs to no layer: add it to ALLOWED with what it may import"
    for target in imported(tree):
        inner = target.removeprefix("compnet3d.")
        if inner != target and inner not in ("__version__",) and not belongs(inner, layer):
            assert any(belongs(inner, allowed) for allowed in ALLOWED[layer]), f"{name} must not import {target}"


@pytest.mark.parametrize(("name", "tree"), MODULES, ids=[name for name, _ in MODULES])
def test_heavy_packages_are_imported_inside_functions(name, tree):
    heavy = {target.split(".")[0] for target in imported(tree, at_import=True)} & set(HEAVY)
    assert heavy <= ({"tyro"} if name in ("cli", "cli_options", "cli_bench", "cli_data", "cli_reproduce") else set()), (
        f"{name} imports {heavy} when it is imported"
    )


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
    assert "torch" not in loaded_after("import compnet3d.cli")


def test_public_names_exist():
    import compnet3d

    for name in compnet3d.__all__:
        assert getattr(compnet3d, name) is not None
    assert set(compnet3d.__all__) <= set(dir(compnet3d))
    with pytest.raises(AttributeError, match="nonsense"):
        compnet3d.nonsense  # noqa: B018
