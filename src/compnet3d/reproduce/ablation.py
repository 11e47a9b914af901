"""The ablation study: one base recipe, one change at a time (table 6 of the paper, N, and the dynamic weights)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compnet3d.errors import CompNetError
from compnet3d.reporting.provenance import provenance
from compnet3d.reporting.terminal import percent
from compnet3d.training.run_folder import read_log
from compnet3d.utils.files import read_json, write_json, write_text

if TYPE_CHECKING:
    from compnet3d.evaluation.metrics import PoseMetrics
    from compnet3d.evaluation.result import EvaluationResult
    from compnet3d.training.recipe import Recipe


SPLIT = "val"


@dataclass(frozen=True)
class Variant:
    """One row of the study.

    Attributes:
        name: of its folder, and what `only` takes.
        label: what the table calls it.
        changes: to the base recipe.
    """

    name: str
    label: str
    changes: dict[str, Any] = field(default_factory=dict)


# All rows but two have the paper's dynamic weights, from a calibration accuracy that short schedules reach too.
# None has the matching or the pose contrastive loss, which are no part of Eq. 5; table 6 of `reproduce` has rows for
# them.
BASE: dict[str, Any] = {
    "dynamic_weights": True,
    "grouping_accuracy": 0.5,
    "regroup_every": 2,
    "grouping_floor": 0.0,
    "classification_weight": 0.0,
}
VARIANTS = (
    Variant("both", "both losses"),
    Variant("in-category-only", "in-category loss only", {"cross_weight": 0.0}),
    Variant("cross-category-only", "cross-category loss only", {"in_weight": 0.0}),
    Variant("samples-8", "N = 8 sampled vertices per category", {"samples_per_category": 8}),
    Variant("samples-64", "N = 64 sampled vertices per category", {"samples_per_category": 64}),
    Variant("weight-floor", "dynamic weights of at least 0.015", {"grouping_floor": 0.015}),
    Variant("static-weights", "static weights: every category is contrasted", {"dynamic_weights": False}),
)
NAMES = tuple(variant.name for variant in VARIANTS)


def run_ablation(
    recipe: Recipe,
    data: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    only: Sequence[str] = (),
    device: str = "cpu",
    workers: int | None = None,
    progress: bool = True,
    command: str = "",
) -> dict[str, Any]:
    """Train and evaluate every variant, saying what it does.

    OUT gets, for each variant, NAME/run (the training run), NAME/metrics.json (all figures) and NAME/result.json (the
    row), and ablation.json and ablation.md, which hold the rows of all variants finished so far. A finished variant is
    taken as it is, a half-finished one goes on where it stopped.

    Args:
        recipe: the base that each variant changes.
        data: a data set with the lists train and val.
        out: the study's folder.
        seed: of every variant's training.
        only: names of the variants to run; all by default.
        device: where to train and evaluate.
        workers: as in `train`.
        progress: show progress bars.
        command: what the user typed, for the table's caption.

    Returns:
        The contents of ablation.json: `settings`, and `variants` with one entry per finished variant.

    Raises:
        CompNetError: if a name is unknown, the folder holds another study, or training and evaluation say so.
    """
    from compnet3d.data.imagenet3d import ImageNet3D
    from compnet3d.reproduce.study import claim_study

    out, data = Path(out), Path(data)
    unknown = [name for name in only if name not in NAMES]
    if unknown:
        raise CompNetError(f"variant {unknown[0]!r} is unknown; use one of {', '.join(NAMES)}")
    _require_split(ImageNet3D(data))
    claim_study(out / "settings.json", recipe, {"data": str(data.resolve()), "seed": seed}, "an ablation")
    chosen = [variant for variant in VARIANTS if not only or variant.name in only]
    study: dict[str, Any] = {}
    for number, variant in enumerate(chosen, start=1):
        print(f"[{number}/{len(chosen)}] {variant.name}: {variant.label}", flush=True)
        if (out / variant.name / "result.json").is_file():
            print(f"already there: {out / variant.name / 'result.json'}", flush=True)
        else:
            changed = recipe.without_pose_contrastive().with_options(**BASE | variant.changes)
            options = {"seed": seed, "device": device, "workers": workers, "progress": progress}
            _run_variant(out / variant.name, changed, data, options)
        study = collect(out, recipe, data, seed=seed, command=command)
        write_json(out / "ablation.json", study)
        write_text(out / "ablation.md", markdown(study))
    return study


def collect(out: Path, recipe: Recipe, data: Path, *, seed: int, command: str) -> dict[str, Any]:
    """The rows of all finished variants of a study, with what the table's caption needs."""
    found = {v.name: read_json(out / v.name / "result.json") for v in VARIANTS if (out / v.name).is_dir()
             and (out / v.name / "result.json").is_file()}  # fmt: skip
    return {
        "settings": {
            "recipe": recipe.name,
            "epochs": recipe.epochs,
            "samples_per_category": recipe.samples_per_category,
            "data": str(data),
            "split": SPLIT,
            "crop": "oracle",
            "seed": seed,
            **provenance(command),
        },
        "variants": found,
    }


def markdown(study: dict[str, Any]) -> str:
    """The study as a Markdown table, accuracies in percent."""
    settings = study["settings"]
    columns = ("variant", "classification", "pose pi/6", "pose pi/18", "pi/6, symmetry-aware", "pi/18, symmetry-aware",
               "joint pi/6", "joint pi/18", "contrasted pairs", "training [s]")  # fmt: skip
    lines = [
        "# Ablation",
        "",
        f"Recipe {settings['recipe']} ({settings['epochs']} epochs, N = {settings['samples_per_category']}, dynamic "
        "weights) with one change per row. Accuracies in percent on the "
        f"{settings['split']} list ({settings['crop']} crop); pose with the true category given, over the categories "
        "whose pose is defined, and symmetry-aware over all images.",
        "",
        "| " + " | ".join(columns) + " |",
        "|---" + "|---:" * (len(columns) - 1) + "|",
    ]
    for name, row in study["variants"].items():
        pose = row["pose"]
        blocks = (pose["true_category"], pose["symmetry_aware"], pose["joint"])
        shares = [row["classification"], *(block[key] for block in blocks for key in ("acc_pi6", "acc_pi18"))]
        shares.append(row["contrasted_pairs"])
        label = next(variant.label for variant in VARIANTS if variant.name == name)
        lines.append(f"| {label} | " + " | ".join(percent(x) for x in shares) + f" | {row['seconds']:.0f} |")
    images = next(iter(study["variants"].values()))["images"] if study["variants"] else 0
    lines += [
        "",
        f"Data: {settings['data']}, {images} images; seed {settings['seed']}. Made by `{settings['command']}` on "
        f"{settings['machine']}, {settings['date']}.",
    ]
    return "\n".join(lines) + "\n"


def _require_split(dataset: Any) -> None:
    if SPLIT not in dataset.splits:
        raise CompNetError(f"{dataset.root}: has no {SPLIT} list to evaluate on; add CATEGORY_imagenet_{SPLIT}.txt")


def _run_variant(folder: Path, recipe: Recipe, data: Path, options: dict[str, Any]) -> None:
    """Train one variant if need be, evaluate it, and write metrics.json and result.json."""
    from compnet3d.data.imagenet3d import ImageNet3D
    from compnet3d.evaluation.crops import Loading
    from compnet3d.evaluation.evaluate import evaluate
    from compnet3d.training.train import train_or_load

    model = train_or_load(recipe, data, folder / "run", **options)
    dataset = ImageNet3D(data)
    samples = dataset.samples(SPLIT)
    print(f"evaluating {len(samples)} images", flush=True)
    result = evaluate(model, samples, symmetry=dataset.symmetry, loading=Loading(progress=options["progress"]))
    write_json(folder / "metrics.json", result.to_dict())
    log = read_log(folder / "run" / "log.jsonl")
    write_json(folder / "result.json", result_row(result, log))


def result_row(result: EvaluationResult, log: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a variant's evaluation and log say, as shares of 1 and seconds."""
    told = [entry["contrasted_pairs"] for entry in log if "contrasted_pairs" in entry]
    pose = result.pose
    return {
        "images": result.images,
        "classification": result.accuracy,
        "pose": {
            "true_category": _accuracies(pose.plain.true_category),
            "symmetry_aware": _accuracies(pose.symmetry_aware.true_category),
            "joint": _accuracies(pose.plain.joint),
            "joint_symmetry_aware": _accuracies(pose.symmetry_aware.joint),
        },
        "contrasted_pairs": told[-1] if told else 1.0,
        "seconds": sum(entry["seconds"] for entry in log),
        "evaluation_seconds": result.resources.seconds,
    }


def _accuracies(metrics: PoseMetrics) -> dict[str, float | None]:
    return {"acc_pi6": metrics.acc_pi6, "acc_pi18": metrics.acc_pi18}
