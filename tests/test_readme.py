"""The README and the docs say what is true: commands parse, snippets work, names and links exist, tables fill up."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from compnet3d.cli import main as cli
from compnet3d.errors import CompNetError

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OWN_CATEGORIES = ROOT / "docs" / "guide" / "your-categories.md"
RESULT = re.compile(r"<!-- result:.*?<!-- /result -->", re.DOTALL)


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def fences(path: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(path.read_text(encoding="utf-8")) if kind == language]


def inline_code(path: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", path.read_text(encoding="utf-8")))


def shell_lines(path: Path) -> list[str]:
    blocks = "\n".join(fences(path, "bash")).replace("\\\n", " ")
    return [line.split("  #")[0].strip() for line in blocks.splitlines() if line.strip() and line[0] != "#"]


def commands(path: Path) -> list[list[str]]:
    """Arguments of every `compnet3d ...` command, in blocks and in the text."""
    lines = [*shell_lines(path), *inline_code(path)]
    # what a shell does with the output is not the command's
    words = [shlex.split(line.partition(" > ")[0]) for line in lines if re.match(r"(\.venv/bin/)?compnet3d\s", line)]
    return [w[1:] for w in words]


COMMANDS = [(page_id(page), arguments) for page in PAGES for arguments in commands(page)]


@pytest.mark.parametrize(("page", "arguments"), COMMANDS, ids=[f"{p}: {' '.join(a)}" for p, a in COMMANDS])
def test_commands_parse(page, arguments, capsys):
    named = [word for word in arguments if not word.startswith("-")]
    # none of them goes without an option
    known = {*"train evaluate predict export data bench reproduce report calibrate completion serve".split()}
    known |= {"add-category", "remove-category", "rename-category"}
    if len(arguments) == len(named) <= 2 and named[0] in known:
        arguments = [*arguments, "--help"]  # the command is only mentioned
    if "--help" in arguments:
        with pytest.raises(SystemExit) as end:
            cli.parse(arguments)
        assert end.value.code == 0
    else:
        assert type(cli.parse(arguments)).__name__.lower() == named[0].replace("-", "")


def test_there_are_commands():
    assert len(COMMANDS) > 15
    assert {arguments[0] for _, arguments in COMMANDS} >= {"train", "evaluate", "predict", "data", "bench"}


def test_recipes_in_commands_exist():
    from compnet3d.training.builtin_recipes import RECIPES

    named = {a[a.index("--recipe") + 1] for _, a in COMMANDS if "--recipe" in a}
    named = {name for name in named if not name.endswith(".json")}  # a run's config
    assert named and named <= set(RECIPES)
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    # baselines are named after the recipe that they belong to, which one of them shows
    suffixes = ("-novum", "-heads", "-heads-regression")
    bases = [name for name in RECIPES if not name.endswith(suffixes)]
    assert len(RECIPES) == len(bases) * (1 + len(suffixes))
    assert all(f"`{name}`" in text for name in [*bases, *(f"eth80{suffix}" for suffix in suffixes)])


def test_the_parts_of_a_recipe_are_the_codes():
    from compnet3d.training.builtin_recipes import RECIPES

    table = re.findall(r"^\| `(\w+)` \| ", (ROOT / "docs/guide/training.md").read_text(encoding="utf-8"), re.MULTILINE)
    parts = [name for name, part in RECIPES["quickstart"].to_dict().items() if isinstance(part, dict)]
    assert [name for name in table if name not in RECIPES] == parts


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        line.split()[1]
        for page in PAGES
        for line in [*shell_lines(page), *inline_code(page)]
        if re.fullmatch(r"make [a-z-]+", line)
    }
    assert {"quickstart", "test", "test-all", "lint"} <= named <= targets


SNIPPETS = [(page, code) for page in PAGES for code in fences(page, "python")]


@pytest.mark.parametrize(("page", "code"), SNIPPETS, ids=[page_id(page) for page, _ in SNIPPETS])
def test_snippets_compile_and_import(page, code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                assert hasattr(module, alias.name), f"{page}: {node.module} has no {alias.name}"


def test_the_snippets_of_the_conventions_hold():
    run_snippets(ROOT / "docs" / "concepts" / "conventions.md")


def test_the_snippets_of_the_parts_hold():
    run_snippets(ROOT / "docs" / "guide" / "parts.md")


def run_snippets(page: Path) -> None:
    snippets = fences(page, "python")
    assert snippets
    for code in snippets:
        exec(compile(code, page.name, "exec"), {})


def write_tables(folder: Path) -> None:
    """The table of the page about own categories, and a plain image for each of its lines."""
    table = next(body for body in fences(OWN_CATEGORIES, "text") if body.startswith("category,"))
    (folder / "table.csv").write_text(table)
    rng = np.random.default_rng(0)
    for line in table.splitlines()[1:]:
        path = folder / line.split(",")[3]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (480, 640, 3), dtype=np.uint8)).save(path)


def test_the_pages_table_becomes_a_data_set(tmp_path, monkeypatch):
    """On plain images; the check then finds no error, and every model projects into its box."""
    from compnet3d.data.check import check_dataset
    from compnet3d.data.imagenet3d import ImageNet3D

    write_tables(tmp_path)
    monkeypatch.chdir(tmp_path)
    cli.main(next(arguments for arguments in commands(OWN_CATEGORIES) if arguments[:2] == ["data", "import"]))
    result = check_dataset(tmp_path / "data/mine")
    problems = {finding.problem for finding in result.findings}
    assert result.exit_code == 0 and not any("box" in problem for problem in problems), problems
    data = ImageNet3D(tmp_path / "data/mine")
    assert len(data.samples("train")) == len(data.samples("val")) == 2 and len(data.meshes("mug")) == 1
    assert all(sample.instance for sample in data.samples("train"))
    box = next(sample for sample in data.samples("val") if sample.category == "mug")
    assert box.instance == "blue_i02" and box.bbox == (150, 100, 350, 330)
    assert math.degrees(box.azimuth) == pytest.approx(90) and math.degrees(box.elevation) == pytest.approx(20)


# -- how much there is to read -------------------------------------------------------------------------------------


def words(path: Path, *, tables: bool) -> int:
    """Words of a page without code, with or without its tables and the commands that made them."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    text = re.sub(r"<!--.*?-->", "", text if tables else RESULT.sub("", text), flags=re.DOTALL)
    return sum(len(line.split()) for line in text.splitlines() if tables or not line.startswith("|"))


def test_a_newcomer_reads_at_most_1200_words_until_training_on_own_images():
    assert words(ROOT / "README.md", tables=True) + words(OWN_CATEGORIES, tables=True) <= 1200


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("[gcr]*/*.md")), ids=page_id)
def test_a_users_page_is_read_in_five_minutes(page):
    assert words(page, tables=False) <= 1000


DECISIONS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))


@pytest.mark.parametrize("page", DECISIONS, ids=page_id)
def test_a_decision_says_context_choice_evidence_and_status_in_200_words(page):
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Choice", "Evidence", "Status"]
    assert words(page, tables=True) <= 200
    title = re.match(r"# (\d{3}) (.+)\n", text)
    assert title and page.name.startswith(f"{title[1]}-")
    row = f"| {title[1]} | [{title[2]}]({page.name}) |"
    assert row in (page.parent / "index.md").read_text(encoding="utf-8")


def test_no_page_for_users_links_to_the_research_notes():
    for page in {*PAGES} - {*DECISIONS}:
        assert "research/" not in page.read_text(encoding="utf-8"), page_id(page)


def test_the_site_shows_every_page_and_every_public_package():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert site["strict"] and site["validation"]["links"]["anchors"] == "warn"  # strict makes an error of a warning
    sections = [page for entry in site["nav"] for page in entry.values()]
    shown = [list(page.values())[0] if isinstance(page, dict) else page
             for section in sections for page in (section if isinstance(section, list) else [section])]  # fmt: skip
    for page in shown:
        assert (ROOT / "docs" / page).is_file(), page
    packages = "losses rendering geometry inference models data training evaluation robustness".split()
    for name in ["compnet3d", *packages]:
        assert f"api/{name}.md" in shown
        module = name if name == "compnet3d" else f"compnet3d.{name}"
        assert f"::: {module}\n" in (ROOT / "docs" / "api" / f"{name}.md").read_text(encoding="utf-8")


def test_the_readme_is_one_screen():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 70


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.is_file(), f"{page_id(page)} links to {target}, which does not exist"
        assert not anchor or anchor in anchors(path), f"{page_id(page)}: {target} has no such heading"


def resolve(name: str) -> Any:
    """The object that a dotted name means."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if importlib.util.find_spec(parts[0]) and _is_module(".".join(parts[:end])):
            found: Any = importlib.import_module(".".join(parts[:end]))
            for attribute in parts[end:]:
                found = getattr(found, attribute)
            return found
    raise AttributeError(name)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_names_of_functions_exist():
    names = {c for page in PAGES for c in inline_code(page) if re.fullmatch(r"compnet3d(\.\w+)+", c)}
    assert len(names) > 25
    for name in sorted(names):
        resolve(name)


def test_named_files_exist():
    pattern = re.compile(r"(src|tests|docs)/[\w/.]+\.(py|md)")
    for page in PAGES:
        for code in inline_code(page):
            assert not pattern.fullmatch(code) or (ROOT / code).is_file(), f"{page_id(page)} names {code}"


def test_numbers_of_the_recipes_are_the_codes():
    from compnet3d.geometry.camera import pose_grid
    from compnet3d.inference.pose_search import PoseSettings
    from compnet3d.training.builtin_recipes import RECIPES

    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    decisions = " ".join(" ".join(record.read_text(encoding="utf-8") for record in records).split())
    stated = r"Momentum is ([\d.]+) in the eth80 recipe, ([\d.]+) in the quickstart, ([\d.]+) \(the paper's\)"
    eth80, quickstart, paper = re.search(stated, decisions).groups()
    for name, small in (("eth80", eth80), ("quickstart", quickstart)):
        assert RECIPES[name].bank.momentum == float(small), f"docs/decisions gives another momentum of {name}"
    for name in ("imagenet3d-resnet50", "imagenet3d-vitb14"):
        recipe = RECIPES[name]
        assert recipe.bank.momentum == float(paper) == 0.9
        assert (recipe.model.vertex_count, recipe.loss.samples_per_category, recipe.bank.background_size) == (
            500,
            32,
            2560,
        )
        assert (
            recipe.bank.background_per_image,
            recipe.backbone.dimension,
            recipe.schedule.epochs,
            recipe.schedule.calibrate_every,
        ) == (5, 128, 12, 2)
        assert recipe.grouping.threshold == 0.05 and recipe.schedule.calibration_fraction == 0.1
        assert recipe.loss.near_radius == 0.1 and recipe.loss.background_weight == 1.0
    assert (RECIPES["imagenet3d-resnet50"].input.height, RECIPES["imagenet3d-resnet50"].input.width) == (640, 800)
    assert (RECIPES["imagenet3d-vitb14"].input.height, RECIPES["imagenet3d-vitb14"].input.width) == (644, 812)
    accuracy, floor = re.search(
        r"only from a calibration accuracy of ([\d.]+) on, and down to (\d+\.\d+)\.", decisions
    ).groups()
    small = RECIPES["quickstart"]
    count, weight = re.search(r"weighs each of its (\d+) background terms by (\d+\.\d+)\.", decisions).groups()
    assert (small.bank.background_size, small.loss.background_weight) == (int(count), float(weight))
    assert f"are seen {small.schedule.epochs} times" in decisions
    paper_page = (ROOT / "docs" / "results" / "paper.md").read_text(encoding="utf-8")
    for stated in (
        f"but {small.loss.background_weight:g} in the quickstart",
        f"quickstart {small.grouping.least_accuracy:g})",
        f"but {small.grouping.floor:g} in the quickstart",
        f"but every {small.schedule.calibrate_every} in the quickstart",
        f"({100 * small.schedule.calibration_fraction:g} % in the quickstart",
        "in the quickstart for the last two",
    ):
        assert stated in paper_page, f"docs/results/paper.md does not say: {stated}"
    assert small.schedule.epochs - small.schedule.last_held_out_epoch == 2
    assert (small.grouping.least_accuracy, small.grouping.floor) == (float(accuracy), float(floor))
    assert not RECIPES["eth80"].grouping.dynamic
    for name in ("imagenet3d-resnet50", "imagenet3d-vitb14"):
        recipe = RECIPES[name]
        assert recipe.grouping.dynamic and (recipe.grouping.least_accuracy, recipe.grouping.floor) == (0.5, 0.0)
    assert PoseSettings() == PoseSettings(starts=3, steps=30, learning_rate=0.05, betas=(0.4, 0.6), truncation=0.3)
    assert len(pose_grid().azimuth) == 144


def test_counts_in_the_data_page_are_the_codes():
    from compnet3d.data.imagenet3d import IMAGE_SUFFIXES
    from compnet3d.procedural.categories import BUILTIN
    from compnet3d.procedural.variation import PLAIN

    text = " ".join((ROOT / "docs" / "guide" / "data-format.md").read_text(encoding="utf-8").split())
    assert f"Parametric models of {len(BUILTIN)} everyday objects" in text
    assert PLAIN.views == 1 and "Every image shows another instance." in text
    assert {".JPEG", ".jpg", ".jpeg", ".png"} <= set(IMAGE_SUFFIXES)


def test_the_occlusion_levels_are_the_codes():
    from compnet3d.robustness.occlusion import RANGES

    text = (ROOT / "docs" / "guide" / "robustness.md").read_text(encoding="utf-8")
    for level in RANGES["generator"]:
        ranges = [limits for protocol in ("generator", "paper") for limits in RANGES[protocol][level]]
        shares = [f"{round(100 * low)}-{round(100 * high)} %" for low, high in ranges]
        assert f"| {level} | {' | '.join(shares)} |" in text


def test_pages_name_no_machine():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"/(work|tmp|home|root)\b|\.\./shared", text), page_id(page)


# -- tools/fill_results.py ------------------------------------------------------------------------------------------


def load_filler() -> ModuleType:
    input_config = importlib.util.spec_from_file_location("fill_results", ROOT / "tools" / "fill_results.py")
    assert input_config is not None and input_config.loader is not None
    module = importlib.util.module_from_spec(input_config)
    sys.modules["fill_results"] = module  # dataclasses look their module up
    input_config.loader.exec_module(module)
    return module


FILLER = load_filler()


def block(pi6: float | None, pi18: float | None, median: float | None) -> dict[str, float | None]:
    return {"acc_pi6": pi6, "acc_pi18": pi18, "median_deg": median}


def evaluation(accuracy: float, **settings: Any) -> dict[str, Any]:
    """What evaluate writes, with a number of its own in every place that a table shows."""
    return {
        "images": 641,
        "classification": {"accuracy": accuracy},
        "pose": {
            "images": 407,
            "excluded_categories": ["bottle"],
            "true_category": block(0.911, 0.622, 7.33),
            "predicted_category": block(0.894, 0.605, 7.5),
            "joint": block(0.883, 0.594, 7.1),
            "symmetry_aware": {
                "images": 641,
                "true_category": block(0.955, 0.706, 6.4),
                "predicted_category": block(0.946, 0.7, 6.5),
                "joint": block(0.937, 0.69, 6.3),
            },
            "all_images": {
                "images": 641,
                "true_category": block(0.8, 0.5, 9.1),
                "predicted_category": block(0.79, 0.49, 9.2),
                "joint": block(0.78, 0.48, 9.3),
            },
        },
        "per_category": {},
        "occlusion": None,
        "confusion": {"categories": [], "matrix": []},
        "seconds": 61.24,
        "images_per_second": 10.47,
        "model_images_per_second": 12.58,
        "peak_memory_mb": 873.4,
        "peak_gpu_memory_mb": None,
        "settings": {"crop": "oracle", "batch_size": 32, "occlusion": None, "occlusion_protocol": None,
                     "occluders": None, "corruption": None, "severity": None, "frost": None,
                     "backgrounds": None, "rotate_deg": 0.0,
                     "seed": 0, "model": "runs/eth80", "data": "/somewhere/data/eth80", "split": "val", **settings},
    }  # fmt: skip


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """A copy of the pages with slots, to be filled."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("images", "__pycache__"))
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def put(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def slot(path: Path, name: str) -> str:
    found = re.search(rf"<!-- result:{name} -->\n(.*?)<!-- /result -->", path.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"{path.name} has no slot {name}"
    return found[1]


def test_a_studys_tables_are_filled_in(pages: Path, tmp_path: Path) -> None:
    from compnet3d.reporting.tables import Row, Spread, Table
    from compnet3d.reproduce.runner import write_tables

    table = Table("table9", "a title", ("method", "first"), (Row("ours", (Spread((0.5, 0.75)),)),), ("A note.",))
    write_tables(tmp_path, "table9", [table], "compnet3d reproduce table9 --data /far/away/data")
    page = pages / "docs" / "results" / "paper.md"
    page.write_text(page.read_text() + "\n<!-- result:study-nine -->\n<!-- /result -->\n")
    FILLER.main([f"study-nine={tmp_path / 'table9.json'}", "--root", str(pages)])
    text = slot(page, "study-nine")
    assert "| ours | 62.5 ± 17.7 |" in text and "A note." in text
    assert "- `compnet3d reproduce table9 --data data`" in text


def test_every_slot_is_closed_and_known():
    names = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        names += [match["name"] for match in FILLER.SLOT.finditer(text)]
        assert text.count("<!-- result:") == text.count("<!-- /result -->") == len(RESULT.findall(text))
    bench = [f"bench-{gpu}{kind}" for gpu in ("", "gpu-") for kind in ("loss", "matching", "pose", "scale", "step")]
    bench += ["bench-distributed", "bench-input"]
    study = ["study-scaling", "study-faults"] + [f"study-table{number}" for number in range(1, 8)] + ["study-times"]
    study += [f"study-{data}-table{number}" for data in ("eth80", "cad100") for number in (2, 4)]
    study += ["study-40-table4", "study-cad100-photos-table4", "aims", "world-eth80", "world-cars", "world-cad"]
    study += [
        "world-cars-val",
        "world-cad-val",
        "cad100-now",
        "quickstart-leads",
        "study-eth80-now-table4",
        "box-crops",
        "box-crops-chosen",
        "study-few-images",
        "study-few-images-eth80",
        "study-few-images-cars",
    ]
    study += ["study-streaming", "study-no-box-scenes", "study-no-box-cars", "study-grow-drawn", "study-grow-eth80"]
    assert sorted(names) == sorted(["study-variants", *bench, "eth80", "quickstart", "quickstart", "speed", *study])


def test_benchmarks_fill_their_slots(pages):
    metrics = {
        "backbones": {
            "resnet-50": {"images": 4, "step_s": 1.05, "bare_s": 1.0, "peak_mb": 512.34},
            "vit-b-14": {"images": 4, "step_s": 2.02, "bare_s": 2.0, "peak_mb": None},
        },
        "categories": 188,
        "input_wait": 0.0213,
        "workers": 2,
        "settings": {"bench": "step", "command": "compnet3d bench step", "machine": "m", "date": "2031-02-03"},
    }
    path = put(pages / "step.json", metrics)
    FILLER.main([f"bench-step={path}", f"bench-step:again={path}", "--root", str(pages)])
    text = slot(pages / "docs" / "results" / "speed.md", "bench-step")
    assert text.startswith("|  | measured | again |\n|---|---:|---:|\n")
    assert "| resnet-50: whole training step | 1,050.0 ms, +5.0 %, 512.3 MB | 1,050.0 ms, +5.0 %, 512.3 MB |\n" in text
    assert "| waiting for images, 2 workers | 2.1 % of an epoch | 2.1 % of an epoch |\n" in text
    assert text.endswith("- `compnet3d bench step`\n- m; 2031-02-03\n")


def test_tables_are_filled_from_the_files(pages):
    with (pages / "README.md").open("a") as readme:
        readme.write("\n<!-- result:eth80 -->\n<!-- /result -->\n")
    clean = put(pages / "clean.json", evaluation(0.953))
    turned = put(pages / "turned.json", evaluation(0.931, rotate_deg=25.0, crop="box", seed=3))
    options = ["--machine", "a small machine", "--date", "2031-02-03", "--root", str(pages)]
    FILLER.main([f"eth80:pretrained={clean}", f"eth80={turned}", f"speed={clean}", *options])
    short, full = slot(pages / "README.md", "eth80"), slot(pages / "docs" / "results" / "eth80.md", "eth80")
    assert "| pretrained | 641 | 95.3 | 91.1 | 62.2 | 7.3 | 95.5 | 70.6 | 88.3 |\n" in short
    assert "| turned by up to 25 degrees, box crop | 641 | 93.1 | 91.1 |" in short
    assert "| 88.3 | 59.4 | 89.4 | 60.5 | 93.7 | 407 | - |\n" in full
    for text in (short, full):
        assert "- `compnet3d evaluate runs/eth80 --data data/eth80`\n" in text
        assert "- `compnet3d evaluate runs/eth80 --data data/eth80 --crop box --rotate 25 --seed 3`\n" in text
        assert "- a small machine; 2031-02-03\n" in text and "somewhere" not in text
    speed = slot(pages / "docs" / "results" / "speed.md", "speed")
    assert "| clean | 641 | 61.2 | 10.5 | 12.6 | 873 | - |\n" in speed
    assert slot(pages / "README.md", "quickstart") == slot(ROOT / "README.md", "quickstart")


def test_the_quickstarts_file_gives_two_rows(pages):
    metrics = evaluation(0.98) | {"occluded": evaluation(0.82, occlusion="L1", occluders="blobs")}
    source = FILLER.read_source(f"quickstart={put(pages / 'metrics.json', metrics)}", machine="m")
    FILLER.fill(pages, [source])
    text = slot(pages / "README.md", "quickstart")
    assert "| clean | 641 | 98.0 |" in text and "| occluded L1 by blobs | 641 | 82.0 |" in text
    assert "- `make quickstart`\n" in text and source.date in text
    FILLER.fill(pages, [source])  # filling twice changes nothing
    assert slot(pages / "README.md", "quickstart") == text


def test_the_variants_have_a_row_each(pages):
    from compnet3d.reporting.tables import Row, Spread, Table
    from compnet3d.reproduce.runner import write_tables

    shares = tuple(Spread((share,)) for share in (0.9, 0.5, 0.25, 0.6, 0.35, 0.45, 0.2, 0.125))
    labels = ("both losses", "N = 8 sampled vertices per category")
    rows = tuple(Row(label, ("576", *shares, "321")) for label in labels)
    table = Table("table6-variants", "variants", ("variant", *map(str, range(10))), rows)
    command = "compnet3d reproduce table6-variants --data /a/b/data/q --out runs/variants"
    write_tables(pages, "table6-variants", [table], command)
    written = json.loads((pages / "table6-variants.json").read_text())
    put(pages / "table6-variants.json", written | {"settings": {"command": command, "machine": "two cores",
                                                               "date": "2030-01-01"}})  # fmt: skip
    FILLER.fill(pages, [FILLER.read_source(f"study-variants={pages / 'table6-variants.json'}")])
    text = slot(pages / "docs" / "results" / "paper.md", "study-variants")
    assert "| both losses | 576 | 90.0 | 50.0 | 25.0 | 60.0 | 35.0 | 45.0 | 20.0 | 12.5 | 321 |\n" in text
    assert "| N = 8 sampled vertices per category | 576 |" in text
    assert f"- `{command.replace('/a/b/', '')}`\n- two cores; 2030-01-01\n" in text


def test_aims_are_apart_from_the_leads_and_only_the_tables_asked_for_are_shown(pages):
    def lead(mean, deviation):
        return {"mean": mean, "deviation": deviation, "values": [mean]}

    def table(key, rows):
        columns = ["metric", "clean", "occluded, mean", "corrupted, mean"]
        return {"name": "table4", "title": key, "key": key, "columns": columns, "notes": [],
                "rows": [{"label": label, "cells": dict(zip(columns[1:], cells, strict=True))}
                         for label, cells in rows.items()]}  # fmt: skip

    names = (lead(-0.01, 0.02), lead(0.099, 0.01), lead(0.05, 0.0))
    poses = (lead(-0.03, 0.02), lead(0.1, 0.01), lead(0.049, 0.01))
    rows = {"classification, over dual head (40 bins)": names,
            "pose pi/6, true category given, over dual head (40 bins)": poses}  # fmt: skip
    settings = {"command": "compnet3d reproduce table4 --data data/q", "machine": "m", "date": "2030-01-01",
                "evaluated": "2029-12-31"}  # fmt: skip
    study = {"settings": settings, "tables": [table("lead", rows), table("other", {})]}
    path = put(pages / "table4.json", study)
    text = FILLER.slot_text("aims", [FILLER.read_source(f"aims:ours={path}")])
    cells = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in text.splitlines()[2:8]}
    named, posed = (
        "over dual head (40 bins): classification, ",
        "over dual head (40 bins): pose pi/6, true category given, ",
    )
    assert cells[named + "occluded"] == ["10", "9.9 ± 1.0"] and cells[named + "corrupted"] == ["5", "**5.0 ± 0.0**"]
    assert cells[named + "clean"] == ["none lost", "**-1.0 ± 2.0**"] and cells[posed + "clean"][1] == "-3.0 ± 2.0"
    assert cells[posed + "occluded"][1] == "**10.0 ± 1.0**" and cells[posed + "corrupted"][1] == "4.9 ± 1.0"
    assert text.count(" | - |") == 12  # it was not compared with the regression and with NOVUM
    assert "- evaluated 2029-12-31\n" in text
    part = FILLER.slot_text("study-table4", [FILLER.read_source(f"study-table4={path}#lead")])
    assert "**lead**" in part and "**other**" not in part
    with pytest.raises(CompNetError, match="has no table 'cost'; there are lead, other"):
        FILLER.read_source(f"study-table4={path}#lead,cost")


def test_commands_that_the_filler_writes_parse():
    for settings in ({}, {"rotate_deg": 25.0, "seed": 2}, {"occlusion": "L2", "occluders": "objects", "split": "test"}):
        line = FILLER.command(evaluation(0.9, **settings))
        assert isinstance(cli.parse(shlex.split(line)[1:]), cli.Evaluate)


@pytest.mark.parametrize(
    ("text", "message"),
    [("eth80", "is not SLOT=FILE"), ("eth80=absent.json", "absent.json"), ("eth80={list}", "has no settings"),
     ("eth80={good}", "give --machine")],
)  # fmt: skip
def test_what_cannot_be_filled_is_reported(text, message, tmp_path):
    files = {"list": put(tmp_path / "list.json", []), "good": put(tmp_path / "good.json", evaluation(0.9))}
    with pytest.raises(CompNetError, match=message):
        FILLER.read_source(text.format(**files))


def test_an_unknown_slot_is_reported(pages):
    source = FILLER.read_source(f"nonsense={put(pages / 'a.json', evaluation(0.9))}", machine="m")
    with pytest.raises(CompNetError, match="no file has the slot 'nonsense'"):
        FILLER.fill(pages, [source])


# -- the README, for real ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_readme_works(tmp_path):
    """The quickstart at a tiny size, then every command and snippet of the README that needs nothing else."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "compnet3d", *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    small = "--categories 2 --train 8 --val 4 --size 64 --epochs 1 --workers 1 --device cpu"
    run("quickstart", *small.split())
    metrics = json.loads((tmp_path / "runs/quickstart/metrics.json").read_text())
    assert metrics["images"] == metrics["occluded"]["images"] == 8
    assert (tmp_path / "runs/quickstart/report.html").stat().st_size > 10_000
    source = FILLER.read_source(f"quickstart={tmp_path / 'runs/quickstart/metrics.json'}", machine="m")
    assert "| clean | 8 |" in FILLER.slot_text("quickstart", [source])

    Image.effect_noise((480, 360), 60).convert("RGB").save(tmp_path / "photo.jpg")
    shutil.copytree(tmp_path / "runs/quickstart/data/CAD", tmp_path / "cad")
    for arguments in [*commands(ROOT / "README.md"), *drawn_commands()]:
        if len(arguments) == 1:  # only mentioned
            continue
        if arguments[:2] == ["data", "render"]:
            arguments = [*arguments, *"--train 8 --val 4 --size 64 --workers 1".split()]
        elif arguments[0] == "train":
            arguments = [*arguments, "--epochs", "1", "--workers", "0"]
        run(*arguments)
    assert (tmp_path / "overlays/photo.png").is_file() and (tmp_path / "runs/drawn/report.html").is_file()
    for code in fences(ROOT / "README.md", "python"):
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def drawn_commands() -> list[list[str]]:
    """The page's commands from CAD models to a report."""
    found = [arguments for arguments in commands(OWN_CATEGORIES) if "data/drawn" in arguments]
    assert [arguments[0] for arguments in found] == ["data", "data", "train", "evaluate"]
    return found
