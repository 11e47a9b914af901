"""Train on a feature extractor of your own: any module that maps images to a map of features.

    python examples/my_backbone.py DATA OUT

DATA is a data set in the ImageNet3D layout (`compnet3d data make` makes one).
"""

from __future__ import annotations

import sys

from torch import Tensor, nn

from compnet3d import CompNet, get_recipe, train
from compnet3d.data.imagenet3d import ImageNet3D


class MyBackbone(nn.Module):
    """Four convolutions: [B, 3, height, width] to [B, 64, height / 8, width / 8]."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (3, 16, 32, 64)
        layers: list[nn.Module] = []
        for before, after in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(64, 64, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Features of normalised RGB images."""
        features: Tensor = self.layers(images)
        return features


def main(data: str, out: str, epochs: int = 10) -> CompNet:
    """Train, load the model again (its folder holds the tensors, your code the architecture), and predict."""
    recipe = get_recipe("quickstart", [f"schedule.epochs={epochs}", "schedule.learning_rate=0.003"])
    train(recipe, data, out, feature_extractor=MyBackbone(), workers=0)
    model = CompNet.from_pretrained(out, feature_extractor=MyBackbone())
    print(f"{len(model.categories)} categories, stride {model.feature_extractor.stride}")
    sample = ImageNet3D(data).samples("val")[0]
    prediction = model.predict(sample.image, boxes=sample.bbox)
    print(f"{sample.category}: taken for {model.categories[int(prediction.category_index[0])]}")
    return model


if __name__ == "__main__":
    main(*sys.argv[1:3])
