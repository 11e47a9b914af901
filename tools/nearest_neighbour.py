"""What a frozen backbone knows without any training: category and pose of the nearest training image.

    python tools/nearest_neighbour.py BACKBONE DATA OUT [--features token|map] [--size 160] [--fill 0.75]
        [--crop oracle|box] [--split val]

BACKBONE is the folder of a vision transformer. Images are compared by the cosine of their features: the class token, or
the whole feature map, which knows where things are. With the category given, the nearest image of that category is
taken. OUT is the JSON file of an evaluation, as `compnet3d evaluate --json` writes it.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoModel

from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.transforms import CropMode, InputConfig
from compnet3d.evaluation.crops import EvaluationCrops, Loading, crop_loader
from compnet3d.evaluation.evaluate import ANGLES, evaluate
from compnet3d.geometry.camera import Pose
from compnet3d.inference.prediction import Prediction
from compnet3d.reporting.provenance import provenance
from compnet3d.utils.files import write_json

Features = Literal["token", "map"]


class FrozenFeatures:
    """Unit vectors [B, D] of crops, uint8 [B, 3, H, W]."""

    def __init__(self, folder: Path, features: Features) -> None:
        """Load the backbone of that folder."""
        self.features = features
        model = AutoModel.from_pretrained(folder, use_safetensors=True, add_pooling_layer=False, dtype=torch.float32)
        self.backbone = model.eval()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Look at some images."""
        # both of the package's vision transformers are normalised so
        tokens = self.backbone(images / 127.5 - 1, interpolate_pos_encoding=True).last_hidden_state
        chosen = tokens[:, 0] if self.features == "token" else normalize(tokens[:, 1:], dim=-1).flatten(1)
        return normalize(chosen, dim=-1)


class NearestNeighbour:
    """A `Predictor` that answers with the category and the pose of the nearest of some labelled crops."""

    def __init__(
        self, embed: FrozenFeatures, input_config: InputConfig, categories: tuple[str, ...], crops: EvaluationCrops
    ) -> None:
        """Look at the labelled crops once."""
        self.embed, self.input_config, self.categories = embed, input_config, categories
        batches = [
            (embed(b["image"]), b["category"].long(), torch.stack([b[name].double() for name in ANGLES], dim=-1))
            for b in crop_loader(crops, Loading())
        ]
        self.gallery, self.labels, self.poses = (torch.cat(part) for part in zip(*batches, strict=True))

    def predict_crops(
        self, images: Tensor, *, category: Tensor | None = None, unseen: bool = False, crop: CropMode = "oracle"
    ) -> Prediction:
        """See `Predictor.predict_crops`."""
        similarity = self.embed(images) @ self.gallery.T
        # the best of each category, [B, Y]
        scores = torch.full((len(images), len(self.categories)), -1.0)
        scores.scatter_reduce_(1, self.labels.expand(len(images), -1), similarity, "amax")
        chosen = scores.argmax(dim=-1) if category is None else category.long()
        of_others = self.labels != chosen[:, None]
        nearest = similarity.masked_fill(of_others, -torch.inf).argmax(dim=-1)
        azimuth, elevation, theta, distance = self.poses[nearest].unbind(-1)
        centre = torch.tensor([self.input_config.width / 2, self.input_config.height / 2])
        return Prediction(
            categories=self.categories,
            category_index=chosen,
            scores=scores,
            confidence=scores.max(dim=-1).values.clamp(0, 1),
            pose=Pose(azimuth=azimuth, elevation=elevation, theta=theta, distance=distance),
            focal=torch.full((len(images),), self.input_config.focal),
            principal_point=centre.expand(len(images), 2),
        )


def main() -> None:
    """Evaluate and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--features", choices=("token", "map"), default="token")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--fill", type=float, default=0.75)
    parser.add_argument("--crop", choices=("oracle", "box"), default="oracle")
    parser.add_argument("--split", default="val")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = ImageNet3D(arguments.data)
    known = dataset.samples("train")
    input_config = InputConfig.fitted(known, arguments.size, arguments.size, arguments.fill)
    crops = EvaluationCrops(known, dataset.categories, input_config, crop=arguments.crop)
    predictor: Any = NearestNeighbour(
        FrozenFeatures(arguments.backbone, arguments.features), input_config, tuple(dataset.categories), crops
    )
    result = evaluate(
        predictor, dataset.samples(arguments.split), crop=arguments.crop, symmetry=dataset.symmetry, loading=Loading()
    )
    origin = {"model": str(arguments.backbone), "data": str(arguments.data), "split": arguments.split}
    write_json(arguments.out, result.with_origin(**origin, **provenance(shlex.join(["python", *sys.argv]))).to_dict())
    pose = result.to_dict()["pose"]
    print(f"top-1 accuracy {result.accuracy:.3f}", pose)


if __name__ == "__main__":
    main()
