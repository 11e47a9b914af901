"""The card of a published model, README.md: what it was trained on, how well it does, its use and its limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import yaml

from compnet3d.evaluation.result import EvaluationResult
from compnet3d.utils.files import Json
from compnet3d.utils.text import printable


@dataclass(frozen=True)
class CardFacts:
    """What a card is written from.

    Attributes:
        name: OWNER/NAME on the hub.
        licence: as the hub calls it, such as cc-by-4.0; who publishes a model says it.
        model: the config.json of the model's folder.
        run: that of its training run; None where that is not there.
        results: evaluations, of plain images and of others.
        about: a sentence or more of who publishes it.
    """

    name: str
    licence: str
    model: Json
    run: Json | None = None
    results: Sequence[EvaluationResult] = ()
    about: str = ""


def model_card(facts: CardFacts) -> str:
    """README.md, with the front matter that the hub reads."""
    conventions = (
        "Object frame: x right, y backward (the front faces -y), z up. With azimuth A, elevation E, in-plane\n"
        "rotation theta (radians) and distance d the camera is at d (cos E sin A, -cos E cos A, sin E), and the "
        "rotation from\nthe object to the camera is Rz(theta) Rx(E - pi/2) Rz(-A); the camera's x is right, its y up, "
        "it looks along -z."
    )
    parts = [
        f"---\n{yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True)}---",
        f"# {facts.name.partition('/')[2]}",
        _summary(facts),
        *([printable(facts.about)] if facts.about else []),
        f"## Use it\n\n{_usage(facts)}",
        f"## Trained on\n\n{_training(facts)}",
        f"## How well it does\n\n{_results(facts.results)}",
        f"## Poses\n\n{conventions}",
        f"## Limits\n\n{_limits(facts)}",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(facts: CardFacts) -> Json:
    tags = ("compnet3d", "3d-object-pose-estimation", "image-classification", "analysis-by-synthesis")
    values: Json = {"library_name": "compnet3d", "license": facts.licence, "tags": list(tags)}
    if facts.results:
        values["model-index"] = [{"name": facts.name, "results": [_index_entry(result) for result in facts.results]}]
    return values


def _index_entry(result: EvaluationResult) -> Json:
    pose = result.pose.plain.joint
    named = (("category, top 1", result.accuracy), ("category and pose within pi/6", pose.acc_pi6))
    return {
        "task": {"type": "image-classification", "name": "category and 3D pose"},
        "dataset": {"type": "imagefolder", "name": _data_name(result)},
        "metrics": [
            {"type": "accuracy", "name": name, "value": round(100 * value, 2)}
            for name, value in named
            if value is not None
        ],
    }


def _summary(facts: CardFacts) -> str:
    kinds = {"compnet": "3D compositional model", "dual-head": "dual head (a baseline)"}
    kind = kinds.get(facts.model.get("kind", "compnet"), "model")
    names = [_line(name) for name in facts.model["categories"]]
    size, backbone = facts.model["input_config"], facts.model["backbone"]["family"]
    return (
        f"A {kind} of compnet3d: from one image of an object its category and "
        f"its 3D pose.\n\n"
        f"- {len(names)} {'category' if len(names) == 1 else 'categories'}: {', '.join(names)}\n"
        f"- backbone: {backbone}; input: {size['height']} x {size['width']} pixels\n"
        f"- written by compnet3d {facts.model.get('version') or '(an early version)'}, format {facts.model['format']}"
    )


def _usage(facts: CardFacts) -> str:
    code = [
        "from compnet3d import load_predictor",
        "",
        f'model = load_predictor("{facts.name}")',
        'prediction = model.predict("photo.jpg", boxes=(40, 30, 200, 180))  # x1, y1, x2, y2 in pixels',
        "print(prediction[0])",
    ]
    own = facts.model["backbone"]["family"] == "module"
    note = "Its feature extractor is a module of the authors': load it with `feature_extractor=` and their code.\n\n"
    return (note if own else "") + "```python\n" + "\n".join(code) + "\n```\n\nLoading it runs no code of this folder."


def _training(facts: CardFacts) -> str:
    if facts.run is None:
        return "What it was trained on was not kept with the model."
    recipe, counts = facts.run.get("recipe", {}), facts.run.get("counts", {})
    # names of folders alone: where they lie is nobody's business
    places = [facts.run.get("data"), *facts.run.get("more_data", [])]
    data = [PurePath(str(place)).name for place in places if place]
    rows = [
        ("data", ", ".join(map(_line, data)) or "samples given in Python"),
        ("images", f"{counts.get('samples', '-')}, {counts.get('calibration', '-')} of them for calibration"),
        ("recipe", _line(f"{recipe.get('name', '-')}: {recipe.get('description', '')}".rstrip(": "))),
        ("epochs", str(recipe.get("schedule", {}).get("epochs", "-"))),
        (
            "pretrained backbone",
            ", ".join(_line(str(name)) for name in recipe.get("backbone", {}).get("pretrained", [])) or "none",
        ),
        ("left out", ", ".join(map(_line, facts.run.get("without", []))) or "nothing"),
        ("seed", str(facts.run.get("seed", "-"))),
    ]
    return _table(("", ""), rows)


def _results(results: Sequence[EvaluationResult]) -> str:
    if not results:
        return "It was not measured."
    rows = []
    for result in results:
        pose = result.pose.plain
        shares: tuple[Any, ...] = (None, None, None)
        if pose.images:
            shares = (pose.true_category.acc_pi6, pose.true_category.acc_pi18, pose.joint.acc_pi6)
        rows.append(
            (_data_name(result), str(result.images), *(_percent(share) for share in (result.accuracy, *shares)))
        )
    heads = ("images of", "number", "category [%]", "pose at pi/6 [%]", "pose at pi/18 [%]", "both at pi/6 [%]")
    left_out = sorted({name for result in results for name in result.excluded_categories})
    note = f"\n\nWithout a pose, since they turn without changing: {', '.join(left_out)}." if left_out else ""
    crops = sorted({result.settings.crop for result in results})
    how = {"oracle": "by the annotated distance", "box": "by the bounding box"}
    return f"{_table(heads, rows)}\n\nCrops are cut {' and '.join(how[crop] for crop in crops)}.{note}"


def _data_name(result: EvaluationResult) -> str:
    """A data set's name and what was done to its images."""
    origin, shift = result.settings.origin, result.settings.shift
    name = _line(PurePath(str(origin.get("data", "images"))).name)
    parts = [f"{name} ({origin['split']})" if "split" in origin else name]
    parts += [f"occluded, {shift.occlusion}"] if shift.occlusion else []
    parts += [f"{shift.corruption}, severity {shift.severity}"] if shift.corruption else []
    parts += ["other backgrounds"] if shift.backgrounds else []
    parts += [f"turned by up to {shift.rotation:g} degrees"] if shift.rotation else []
    return ", ".join(parts)


def _limits(facts: CardFacts) -> str:
    lines = [
        "It knows the categories above alone. What is none of them is taken for one, unless the answer is `unknown`.",
        "It answers for one object in a box. Which objects an image has, and where, a detector tells better.",
        "Poses of shapes far from those that it was trained on are less exact; of objects that turn without changing "
        "the azimuth means nothing.",
        "It must not be used where a wrong answer can harm anybody.",
    ]
    if not any(result.settings.shift.occlusion for result in facts.results):
        lines.insert(0, "How it does under occlusion was not measured.")
    if facts.model.get("calibration") is None:
        lines.insert(0, "Its confidences are not calibrated.")
    return "\n".join(f"- {line}" for line in lines)


def _line(text: str) -> str:
    """In one line, as tables and lists have it."""
    return " ".join(printable(text).split())


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
