"""Counts how the house stands: each mark of the package with the number it is to reach.

    python tools/house_marks.py          # the table
    python tools/house_marks.py -v       # also what is counted: files, functions, globals, lines

Counted over `src/compnet3d`. A module global is a name that a module's top level assigns, `__all__` and type aliases
included. A parameter is any that is written between the brackets of a `def` but `self` and `cls`. Lines of comment are
those that hold nothing else.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Module:
    """One file of the package.

    Attributes:
        name: the path inside the package, e.g. "bench/loss.py"; text: its contents; tree: what Python reads in it.
    """

    name: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> list[str]:
        """Its lines."""
        return self.text.splitlines()


@dataclass(frozen=True)
class Mark:
    """One line of the table.

    Attributes:
        what: is counted; value: the count; limit: at most this is wanted, None: only told.
        items: what is counted, one line each.
    """

    what: str
    value: float
    limit: float | None
    items: tuple[str, ...] = ()

    @property
    def reached(self) -> bool:
        """Whether the value is within the limit."""
        return self.limit is None or self.value <= self.limit


def read_modules(package: Path) -> list[Module]:
    """All modules of a package, sorted by name."""
    found = []
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found.append(Module(path.relative_to(package).as_posix(), text, ast.parse(text)))
    return found


def top_modules(modules: Sequence[Module]) -> list[str]:
    """Modules that lie flat in the package."""
    return [module.name for module in modules if "/" not in module.name]


def long_files(modules: Sequence[Module], most: int = 400) -> list[str]:
    """Files with more lines."""
    return [f"{module.name}: {len(module.lines)} lines" for module in modules if len(module.lines) > most]


def wide_functions(modules: Sequence[Module], most: int = 8) -> list[str]:
    """Functions and methods with more parameters."""
    found = []
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                listed = node.args
                every = [*listed.posonlyargs, *listed.args, *listed.kwonlyargs, listed.vararg, listed.kwarg]
                count = sum(one is not None and one.arg not in ("self", "cls") for one in every)
                if count > most:
                    found.append(f"{module.name}:{node.lineno} {node.name}: {count} parameters")
    return found


def module_globals(modules: Sequence[Module]) -> list[str]:
    """Names that the top level of a module assigns."""
    found = []
    for module in modules:
        for node in module.tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
            names = [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
            found += [f"{module.name}:{node.lineno} {name}" for name in names]
    return found


def lines_with(modules: Sequence[Module], text: str) -> list[str]:
    """Lines that contain a text."""
    return [
        f"{module.name}:{number} {line.strip()}"
        for module in modules
        for number, line in enumerate(module.lines, start=1)
        if text in line
    ]


def comment_lines(modules: Sequence[Module]) -> list[str]:
    """Lines that are a comment and nothing else."""
    return [line for module in modules for line in module.lines if line.lstrip().startswith("#")]


def shared_names(modules: Sequence[Module]) -> list[str]:
    """Pairs of files with one name; those in `cli/` and `bench/` bear the name of what they start or measure."""
    of_name = defaultdict(list)
    for module in modules:
        stem = module.name.rpartition("/")[2]
        if stem not in ("__init__.py", "__main__.py") and not module.name.startswith(("cli/", "bench/")):
            of_name[stem].append(module.name)
    return [" and ".join(names) for names in of_name.values() if len(names) > 1]


def words(path: Path) -> int:
    """Words of a page with its tables, without code and comments."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return len(re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL).split())


def marks(root: Path) -> list[Mark]:
    """All marks of a repository."""
    modules = read_modules(root / "src" / "compnet3d")
    lines = sum(len(module.lines) for module in modules)
    pages = [root / "README.md", root / "docs" / "guide" / "your-categories.md"]
    counts: list[tuple[str, Callable[[], list[str]], float]] = [
        ("modules at the top of the package", lambda: top_modules(modules), 3),
        ("files over 400 lines", lambda: long_files(modules), 2),
        ("functions with more than 8 parameters", lambda: wide_functions(modules), 3),
        ("lines with dict[str, Any]", lambda: lines_with(modules, "dict[str, Any]"), 40),
        ("pairs of files with one name", lambda: shared_names(modules), 0),
    ]
    found = []
    for what, count, limit in counts:
        items = count()
        found.append(Mark(what, len(items), limit, tuple(items)))
    named = module_globals(modules)
    found.insert(3, Mark("module globals per 1,000 lines", 1000 * len(named) / lines, 6, tuple(named)))
    commented = 100 * len(comment_lines(modules)) / lines
    per_page = tuple(f"{page.relative_to(root)}: {words(page)}" for page in pages)
    newcomer = Mark("words a newcomer reads to train on own images", sum(map(words, pages)), 1200, per_page)
    return [*found, newcomer, Mark("lines of comment [%]", commented, None), Mark("lines", lines, None)]


def table(found: Sequence[Mark]) -> str:
    """The marks as text, one line each."""
    rows = [("", "stands at", "mark", "")]
    for mark in found:
        limit = "-" if mark.limit is None else f"{mark.limit:g}"
        verdict = "" if mark.limit is None else "reached" if mark.reached else "NOT reached"
        rows.append((mark.what, f"{mark.value:.4g}" if mark.value < 1000 else f"{mark.value:,.0f}", limit, verdict))
    return "\n".join(f"{what:<48}{value:>10}{limit:>8}  {verdict}".rstrip() for what, value, limit, verdict in rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; fail if a mark is not reached and --check is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-v", "--verbose", action="store_true", help="also print what is counted")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a mark is not reached")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    options = parser.parse_args(arguments)
    found = marks(options.root)
    print(table(found))
    for mark in found if options.verbose else []:
        print(f"\n{mark.what}:", *mark.items, sep="\n  ")
    if options.check and not all(mark.reached for mark in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
