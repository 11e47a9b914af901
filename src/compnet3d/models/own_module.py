"""A feature extractor of the user's: any module that maps images to feature maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from compnet3d.errors import CompNetError
from compnet3d.models.backbones import BackboneConfig, FeatureExtractor
from compnet3d.models.families import OWN_MODULE
from compnet3d.utils.settings import shown


class ModuleExtractor(FeatureExtractor):
    """A module of the user's as Phi_w: its maps are centred and put on the sphere like those of every extractor.

    Attributes:
        backbone: the module; all its parameters have the backbone's learning rate.
    """

    def __init__(self, module: nn.Module, config: BackboneConfig) -> None:
        """Wrap a module whose channels and stride the configuration says."""
        super().__init__(config)
        self.backbone = module
        self.stride = int(config.architecture["stride"])
        self.train_backbone(frozen=config.frozen, checkpointing=config.checkpointing)

    def features(self, images: Tensor) -> Tensor:
        """See `FeatureExtractor.features`."""
        maps: Tensor = self.backbone(images)
        return maps


def wrap_module(module: nn.Module, height: int, width: int) -> FeatureExtractor:
    """A feature extractor over a module of the user's.

    Args:
        module: maps normalised RGB images, float [B, 3, height, width] (by ImageNet's mean and deviation), to maps
            [B, D, height / stride, width / stride]; it is tried once. A `FeatureExtractor` is taken as it is.
        height, width: of the network's input in pixels.

    Raises:
        CompNetError: if the module gives something else.
    """
    if isinstance(module, FeatureExtractor):
        return module
    name = type(module).__name__
    parameter = next(module.parameters(), torch.zeros(()))
    # of each part: some may be frozen in a module that is training
    training = {part: part.training for part in module.modules()}
    with torch.no_grad():
        # in eval mode, or the trial with zeros would enter batch-norm statistics and one image could be too few for
        # them
        maps = module.eval()(torch.zeros(1, 3, height, width, device=parameter.device))
    for part, mode in training.items():
        part.training = mode
    if not isinstance(maps, Tensor) or maps.ndim != 4 or len(maps) != 1:
        got = list(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise CompNetError(f"{name}: must give maps [B, D, height / stride, width / stride], not {got}")
    rows, columns = maps.shape[2:]
    # the stride is what the maps say and not what the module claims; both axes must agree, because a cell is square
    stride = height // rows
    if rows * stride != height or columns * stride != width:
        raise CompNetError(
            f"{name}: gives {rows} x {columns} cells for an input of {height} x {width} pixels, which is no whole "
            "stride; choose an input.height and input.width that are multiples of it"
        )
    # a stride that the module states itself would else be dropped in silence
    if getattr(module, "stride", stride) != stride:
        raise CompNetError(f"{name}: says a stride of {module.stride} and gives maps with a stride of {stride}")
    # the class's name is for messages: nothing is ever imported by it
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    return ModuleExtractor(module, BackboneConfig(OWN_MODULE, {"class": kind, "stride": stride}, maps.shape[1]))


def restore_module(config: BackboneConfig, module: nn.Module) -> FeatureExtractor:
    """The feature extractor of a saved model over the user's module, whose tensors are loaded afterwards."""
    return module if isinstance(module, FeatureExtractor) else ModuleExtractor(module, config)


def module_note(values: Any, module: nn.Module | None) -> str | None:
    """What is wrong where config.json and the module that is given, or not, do not belong together."""
    backbone = values.get("backbone") if isinstance(values, dict) else None
    if not isinstance(backbone, dict):
        return None  # whoever reads the configuration says so
    own = backbone.get("family") == OWN_MODULE
    if own and module is None:
        noted = backbone.get("architecture")
        kind = shown(noted.get("class", "a module") if isinstance(noted, dict) else "a module").strip("'")
        return (
            f"the feature extractor is a module of your own ({kind}), whose code is not in the folder; load the model "
            "with feature_extractor=YOUR_MODULE"
        )
    if not own and module is not None and not isinstance(module, FeatureExtractor):
        return "has a feature extractor of this package; load the model without one of your own"
    return None
