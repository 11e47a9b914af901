"""The named recipes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from compnet3d.data.augment import Augmentation
from compnet3d.errors import CompNetError
from compnet3d.training.recipe import CompNetRecipe, DualHeadRecipe, NovumRecipe, Recipe, recipe_like
from compnet3d.training.recipe_parts import (
    BackboneSettings,
    BankSettings,
    CompNetLossSettings,
    GroupingSettings,
    InputSettings,
    ModelSettings,
    ScheduleSettings,
)
from compnet3d.utils.files import Json, read_bytes, read_json
from compnet3d.utils.settings import shown
from compnet3d.utils.yaml_text import parse_yaml

# no downloads: trained from scratch in minutes on a CPU
SMALL_RESNET: Json = {
    "embedding_size": 32,
    "hidden_sizes": [32, 64, 128, 256],
    "depths": [1, 1, 2, 1],
    "layer_type": "basic",
}
SMALL_DINOV2: Json = {
    "hidden_size": 192,
    "num_hidden_layers": 6,
    "num_attention_heads": 3,
    "patch_size": 14,
    "image_size": 224,
}


def _with_copy_paste(augmentation: Augmentation) -> Augmentation:
    """An augmentation that also pastes up to three objects over half of the crops."""
    return replace(augmentation, erasing=0.5, erasing_count=3, erasing_area=(0.03, 0.25), copy_paste=1.0)


# features that have learned to tell poses apart may lose more in a covered cell, and need less help to cover any
_AFTER_POSE_CONTRASTIVE = {"search.truncation": 0.5, "search.foreground_bonus": 0.15}

# front and back of many things differ by little, and photographs show most of them from the front
_AGAINST_FLIPS = {"loss.flip_negatives": 0.25, "loss.flip_gain": 20.0, "loss.flip_vertex_weight": 4.0}

_STRONG = Augmentation(
    rotation=30.0,
    scale=(0.8, 1.25),
    shift=0.06,
    mirror=0.5,
    reflect=0.5,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    colour_jitter=0.1,
    gamma=0.2,
    grey=0.1,
    blur=0.2,
    noise=8.0,
    erasing=0.4,
)

_QUICKSTART = CompNetRecipe(
    name="quickstart",
    description="small ResNet from scratch on 128-pixel procedural images, minutes on two cores",
    input=InputSettings(height=96, width=96, fill=0.85),
    # on two cores the messages would take a third of a step
    backbone=BackboneSettings(architecture=SMALL_RESNET, whole_batch_statistics=False),
    model=ModelSettings(vertex_count=200, mirrored_scores=True),
    bank=BankSettings(momentum=0.98, background_size=256),
    # A network from scratch starts with the features of objects and background in one place. With many background terms
    # of weight 1 the loss is mostly about leaving it, and vertices are told apart epochs later (decision 17).
    loss=CompNetLossSettings(background_weight=0.025),
    grouping=GroupingSettings(least_accuracy=0.93, floor=0.015),
    schedule=ScheduleSettings(
        epochs=17,
        batch_size=32,
        processes=2,
        learning_rate=5e-3,
        head_learning_rate=5e-3,
        warmup_epochs=1.0,
        calibration_fraction=0.07,
        calibrate_every=5,
        # the calibration split joins the training for the last two epochs
        held_out_epochs=15,
    ),
    augmentation=Augmentation(
        rotation=6.0,
        scale=(0.93, 1.07),
        shift=0.02,
        mirror=0.5,
        brightness=0.15,
        contrast=0.15,
        saturation=0.3,
        colour_jitter=0.1,
        erasing=0.2,
        # `predict` has boxes alone
        box_crop=0.3,
    ),
)

_ETH80 = CompNetRecipe(
    name="eth80",
    description="pretrained ViT-Tiny on real images of 8 categories (ETH-80), two cores",
    input=InputSettings(height=224, width=224, fill=0.75),
    backbone=BackboneSettings(
        pretrained=("vit-tiny", "WinKawaks/vit-tiny-patch16-224"),
        # the later layers of a classifier tell held-out instances apart less well, and cost a third of the time
        pretrained_layers=8,
        family="vit",
        upsampling=2,
    ),
    model=ModelSettings(vertex_count=300, mirrored_scores=True),
    bank=BankSettings(momentum=0.99),
    # eight categories cost nothing to contrast, and a calibration split of one object each shows no confusion
    # long before unseen objects are safe: omega would be zero from the fourth epoch on
    grouping=GroupingSettings(dynamic=False),
    schedule=ScheduleSettings(
        epochs=26,
        batch_size=8,
        processes=2,
        learning_rate=1e-4,
        head_learning_rate=1e-3,
        # one toy in six is worth a lot
        calibration_fraction=0.17,
        held_out_epochs=6,
    ),
    # six toys of a kind: their colours and markings say little about the next one
    augmentation=replace(
        _STRONG,
        brightness=0.4,
        contrast=0.4,
        saturation=0.6,
        colour_jitter=0.25,
        tone_curve=0.5,
        grey=0.25,
        erasing=0.5,
        # six toys on one blue cloth: without it, the cloth is what the model learns
        background_swap=0.7,
        # of what users have, a box is the most
        box_crop=0.25,
    ),
)

_COMPNETS = (
    _QUICKSTART,
    _QUICKSTART.with_settings(
        {
            "name": "robust",
            "description": "like quickstart, for occlusion: objects pasted over the crops, features that see less "
            "around them",
            # a cell that sees the whole image has another feature as soon as anything in it is covered
            "backbone.stages": 2,
            # the tables of the paper are of crops by the annotated distance
            "augmentation": _with_copy_paste(replace(_QUICKSTART.augmentation, box_crop=0.0)),
            "loss.classification_weight": 0.4,
            "loss.classification_cells": 72,
            "loss.pose_contrastive_weight": 0.4,
            **_AFTER_POSE_CONTRASTIVE,
            "schedule.epochs": 20,
            "schedule.held_out_epochs": 18,
        }
    ),
    _ETH80.with_settings(
        {
            "loss.classification_weight": 0.4,
            "loss.pose_contrastive_weight": 2.0,
            "loss.flip_negatives": 0.25,
            "loss.flip_vertex_weight": 4.0,
            **_AFTER_POSE_CONTRASTIVE,
            "schedule.epochs": 28,
        }
    ),
    _ETH80.with_settings(
        {
            "name": "robust-photos",
            "description": "like eth80 at 160 pixels, for occlusion: objects and random shapes pasted over the crops",
            "input.height": 160,
            "input.width": 160,
            "loss.classification_weight": 0.4,
            "loss.pose_contrastive_weight": 2.0,
            **_AFTER_POSE_CONTRASTIVE,
            # what is left of a covered object often fits several poses alike: the usual one of them is taken
            "search.prior_weight": 0.01,
            "search.pose_score_weight": 2 / 3,
            "schedule.epochs": 24,
            # toys and fruit cover toys and fruit: half of the covered crops have random shapes instead
            "augmentation": replace(_with_copy_paste(_ETH80.augmentation), erasing=0.7, dead_leaves=0.5),
        }
    ),
    _ETH80.with_settings(
        {
            "name": "cad-to-real",
            "description": "pretrained ViT-Tiny on renderings of CAD models alone (data render --style photo)",
            "input.height": 192,
            "input.width": 192,
            "input.fill": 0.85,
            # less would be forgotten of photographs, which training never shows
            "schedule.learning_rate": 7e-5,
            "schedule.epochs": 26,
            "schedule.calibration_fraction": 0.08,
            "loss.classification_weight": 0.4,
            "loss.classification_cells": 72,
            "loss.pose_contrastive_weight": 2.0,
            **_AGAINST_FLIPS,
            **_AFTER_POSE_CONTRASTIVE,
            # renderings have backgrounds, tilt and things in front already; their users have boxes
            "augmentation": replace(
                _ETH80.augmentation, background_swap=0.0, box_crop=0.7, rotation=15.0, erasing=0.25
            ),
        }
    ),
    CompNetRecipe(
        name="imagenet3d-resnet50",
        description="the paper's ResNet-50 at 640x800, stride 8",
        input=InputSettings(height=640, width=800),
        backbone=BackboneSettings(pretrained=("resnet-50", "microsoft/resnet-50")),
        # the batch of NOVUM, whose backbone this is
        schedule=ScheduleSettings(batch_size=38),
        augmentation=_STRONG,
    ),
    CompNetRecipe(
        name="imagenet3d-vitb14",
        description="the paper's DINOv2 ViT-B/14 at 644x812, stride 14",
        input=InputSettings(height=644, width=812),
        backbone=BackboneSettings(pretrained=("dinov2-base", "facebook/dinov2-base"), family="dinov2"),
        augmentation=_STRONG,
    ),
)


def baselines_of(recipe: CompNetRecipe) -> tuple[NovumRecipe, DualHeadRecipe, DualHeadRecipe]:
    """The baselines with a recipe's backbone, input, augmentation and schedule: NOVUM and the two dual heads.

    NOVUM weighs the background by 0.005 in its one softmax, has neither classification nor pose contrastive loss nor
    dynamic weights, and takes all visible vertices. At the paper's size it has about 1,000 vertices a category (1,120
    fit table 1's count) and needs 100 epochs.
    """
    papers_size = recipe.name.startswith("imagenet3d")
    novum = recipe_like(
        NovumRecipe,
        recipe.without_pose_contrastive(),
        name=f"{recipe.name}-novum",
        description=f"NOVUM, like {recipe.name}",
    ).with_settings(
        {"loss.background_weight": 0.005}
        | ({"model.vertex_count": 1120, "schedule.epochs": 100} if papers_size else {})
    )
    heads = recipe_like(
        DualHeadRecipe,
        recipe,
        name=f"{recipe.name}-heads",
        description=f"classification head and pose head of 40 bins an angle, like {recipe.name}",
        backbone=replace(recipe.backbone, stages=3),  # a classifier stands on the last stage
    )
    regression = heads.with_settings(
        {
            "name": f"{recipe.name}-heads-regression",
            "description": f"classification head and regression of three angles, like {recipe.name}",
            "model.pose_head": "regression",
        }
    )
    return novum, heads, regression


# each method's recipe is followed by its baselines, which is also the order of the list that is printed
RECIPES: dict[str, Recipe] = {r.name: r for base in _COMPNETS for r in (base, *baselines_of(base))}


def get_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """A recipe by name, or from a JSON or YAML file: a recipe's own, or the config.json of a run.

    Args:
        changes: of its settings, each as "loss.kappa=20".

    Raises:
        CompNetError: listing the names there are, naming the broken file, or the setting that cannot be.
    """
    recipe = RECIPES[name] if name in RECIPES else _read_recipe(name)
    try:
        # a setting that is given twice has its last value
        return recipe.with_settings(dict(_parse_change(change) for change in changes))
    except ValueError as error:
        raise CompNetError(f"--set {error}; `compnet3d recipes {recipe.name}` prints all settings") from None


def get_compnet_recipe(name: str) -> CompNetRecipe:
    """A recipe of the method itself, not of a baseline; see `get_recipe`.

    Raises:
        CompNetError: if it is a baseline's; or see `get_recipe`.
    """
    recipe = get_recipe(name)
    if not isinstance(recipe, CompNetRecipe):
        raise CompNetError(f"recipe {name}: is a baseline; give the method's, its baselines follow")
    return recipe


def _read_recipe(name: str) -> Recipe:
    kind = Path(name).suffix.lower()
    if kind not in (".json", ".yaml", ".yml"):
        raise CompNetError(
            f"recipe {name!r} is unknown; use one of {', '.join(sorted(RECIPES))}, or a JSON or YAML file"
        )
    values = read_json(name, 2**24) if kind == ".json" else _read_yaml(name)
    try:
        # config.json of a run has the recipe as one entry among others
        return Recipe.from_dict(values.get("recipe", values))
    except ValueError as error:
        raise CompNetError(f"{name}: the recipe's {error}") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise CompNetError(
            f"{name}: holds no recipe of this version ({shown(str(error))[1:-1]}); give the config.json of a run, or a "
            "file like the one that `compnet3d recipes quickstart` prints"
        ) from None


def _read_yaml(name: str) -> Any:
    try:
        return parse_yaml(read_bytes(name, 2**17).decode("utf-8"))
    except (OSError, ValueError) as error:
        raise CompNetError(f"{name}: cannot be read ({' '.join(str(error).split())}); give a YAML file") from None


def _parse_change(change: str) -> tuple[str, Any]:
    """The name and the value of "loss.kappa=20"; values are written as in YAML."""
    name, sign, text = change.partition("=")
    if not sign:
        raise ValueError(f"{change} gives no value; write it as loss.kappa=20")
    try:
        # so that true, null, numbers and lists have their types; text that is no YAML, such as a lone colon, is text
        return name.strip(), parse_yaml(text)
    except ValueError:
        return name.strip(), text
