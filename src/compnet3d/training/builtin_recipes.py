"""The named recipes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from compnet3d.data.augment import Augmentation
from compnet3d.errors import CompNetError
from compnet3d.inference.pose_search import PoseSettings
from compnet3d.training.recipe import Recipe
from compnet3d.utils.files import read_json

SMALL_RESNET: dict[str, Any] = {
    "embedding_size": 32,
    "hidden_sizes": [32, 64, 128, 256],
    "depths": [1, 1, 2, 1],
    "layer_type": "basic",
}
SMALL_DINOV2: dict[str, Any] = {
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
_AFTER_POSE_CONTRASTIVE = PoseSettings(truncation=0.5, foreground_bonus=0.15)

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

_QUICKSTART = Recipe(
    name="quickstart",
    description="small ResNet from scratch on 128-pixel procedural images, minutes on two cores",
    height=96,
    width=96,
    fill=0.85,
    architecture=SMALL_RESNET,
    vertex_count=200,
    background_size=256,
    background_weight=0.025,
    mirrored_scores=True,
    momentum=0.98,
    grouping_accuracy=0.93,
    grouping_floor=0.015,
    regroup_every=5,
    epochs=17,
    batch_size=32,
    processes=2,
    learning_rate=5e-3,
    head_learning_rate=5e-3,
    warmup_epochs=1.0,
    calibration_fraction=0.07,
    held_out_epochs=15,
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
    ),
)

_ETH80 = Recipe(
    name="eth80",
    description="pretrained ViT-Tiny on real images of 8 categories (ETH-80), two cores",
    height=224,
    width=224,
    fill=0.75,
    pretrained=("vit-tiny", "WinKawaks/vit-tiny-patch16-224"),
    # the later layers of a classifier tell new toys apart less well, and cost a third of the time
    pretrained_layers=8,
    family="vit",
    upsampling=2,
    vertex_count=300,
    mirrored_scores=True,
    momentum=0.99,
    # eight categories cost nothing to contrast, and a calibration split of one object each shows no confusion
    # long before unseen objects are safe: omega would be zero from the fourth epoch on
    dynamic_weights=False,
    epochs=26,
    batch_size=8,
    processes=2,
    learning_rate=1e-4,
    head_learning_rate=1e-3,
    # one toy in six is worth a lot
    calibration_fraction=0.17,
    held_out_epochs=6,
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
    ),
)

_COMPNETS = (
    _QUICKSTART,
    _QUICKSTART.with_options(
        name="robust",
        description="like quickstart, for occlusion: objects pasted over the crops, features that see less around them",
        # a cell that sees the whole image has another feature as soon as anything in it is covered
        stages=2,
        augmentation=_with_copy_paste(_QUICKSTART.augmentation),
        classification_weight=0.4,
        classification_cells=72,
        pose_contrastive_weight=0.4,
        pose=_AFTER_POSE_CONTRASTIVE,
        epochs=20,
        held_out_epochs=18,
    ),
    _ETH80,
    _ETH80.with_options(
        name="robust-photos",
        description="like eth80 at 160 pixels, for occlusion: objects and random shapes pasted over the crops",
        height=160,
        width=160,
        classification_weight=0.4,
        pose_contrastive_weight=2.0,
        # what is left of a covered object often fits several poses alike: the usual one of them is taken
        pose=replace(_AFTER_POSE_CONTRASTIVE, prior_weight=0.01),
        pose_score_weight=2 / 3,
        epochs=24,
        # toys and fruit cover toys and fruit: half of the covered crops have random shapes instead
        augmentation=replace(_with_copy_paste(_ETH80.augmentation), erasing=0.7, dead_leaves=0.5),
    ),
    Recipe(
        name="imagenet3d-resnet50",
        description="the paper's ResNet-50 at 640x800, stride 8",
        height=640,
        width=800,
        pretrained=("resnet-50", "microsoft/resnet-50"),
        batch_size=38,
        augmentation=_STRONG,
    ),
    Recipe(
        name="imagenet3d-vitb14",
        description="the paper's DINOv2 ViT-B/14 at 644x812, stride 14",
        height=644,
        width=812,
        pretrained=("dinov2-base", "facebook/dinov2-base"),
        family="dinov2",
        batch_size=32,
        augmentation=_STRONG,
    ),
)


def baselines_of(recipe: Recipe) -> tuple[Recipe, ...]:
    """The baselines with a recipe's backbone, input, augmentation and schedule: NOVUM and the two dual heads.

    NOVUM weighs the background by 0.005 in its one softmax, has neither matching nor pose contrastive loss nor dynamic
    weights, and takes all visible vertices. At the paper's size it has about 1,000 vertices a category (1,120 fit
    table 1's count) and needs 100 epochs.
    """
    papers_size = {"vertex_count": 1120, "epochs": 100} if recipe.name.startswith("imagenet3d") else {}
    novum = recipe.without_pose_contrastive().with_options(
        name=f"{recipe.name}-novum",
        description=f"NOVUM, like {recipe.name}",
        method="novum",
        background_weight=0.005,
        classification_weight=0.0,
        pose_score_weight=0.0,
        dynamic_weights=False,
        **papers_size,
    )
    heads = recipe.with_options(
        name=f"{recipe.name}-heads",
        description=f"classification head and pose head of 40 bins an angle, like {recipe.name}",
        method="dual-head",
        stages=3,  # a classifier stands on the last stage
        dynamic_weights=False,
    )
    regression = heads.with_options(
        name=f"{recipe.name}-heads-regression",
        description=f"classification head and regression of three angles, like {recipe.name}",
        pose_head="regression",
    )
    return novum, heads, regression


RECIPES: dict[str, Recipe] = {r.name: r for base in _COMPNETS for r in (base, *baselines_of(base))}


def get_recipe(name: str) -> Recipe:
    """A recipe by name, or that of an earlier run by the path of its config.json.

    Raises:
        CompNetError: listing the names there are, or naming the broken file.
    """
    if name in RECIPES:
        return RECIPES[name]
    if not name.endswith(".json"):
        raise CompNetError(
            f"recipe {name!r} is unknown; use one of {', '.join(sorted(RECIPES))}, or a run's config.json"
        )
    values = read_json(name)
    try:
        return Recipe.from_dict(values["recipe"])
    except ValueError as error:
        raise CompNetError(f"{name}: the recipe's {error}") from None
    except (KeyError, TypeError) as error:
        raise CompNetError(
            f"{name}: holds no recipe of this version ({error}); give the config.json of a run"
        ) from None
