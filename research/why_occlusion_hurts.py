"""What occluders do to the features of cells that they do not cover, and what classification could be without that.

    python research/why_occlusion_hurts.py RUN DATA OCCLUDERS [--every 3]

Prints, for each level of occlusion: how much of the object's cells is hidden, the cosine between a visible object
cell's feature with and without the occluders elsewhere, and the accuracy of Eq. 7 over all cells, over those that are
not covered (as if the occluders were known), and over those with the features of the clean image: all of them, and
those of the bare background alone, where nothing of the object is to be seen.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from compnet3d import CompNet
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.evaluation.crops import EvaluationCrops, Loading, crop_loader
from compnet3d.geometry.camera import Pose
from compnet3d.robustness.occlusion import Level
from compnet3d.robustness.shift import Shift

COVERED = 8  # grey levels by which a covered pixel differs from the clean one


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("occluders", type=Path)
    parser.add_argument("--every", type=int, default=3)
    arguments = parser.parse_args()
    model = CompNet.from_pretrained(arguments.run)
    samples = ImageNet3D(arguments.data).samples("val")[:: arguments.every]
    print(
        "| level | object hidden | cosine | Eq. 7 | uncovered cells | uncovered, clean features | background alone, "
        "clean features |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    levels: tuple[Level, ...] = ("L1", "L2", "L3")
    for level in levels:
        loading, shift = Loading(64), Shift(level, occluders=str(arguments.occluders))
        clean = EvaluationCrops(samples, model.categories, model.input_config)
        occluded = EvaluationCrops(samples, model.categories, model.input_config, shift=shift)
        rows = [
            measure(model, a, b["image"])
            for a, b in zip(crop_loader(clean, loading), crop_loader(occluded, loading), strict=True)
        ]
        sums = torch.stack([row for row in rows]).sum(0)
        hidden, cosine = sums[0] / sums[1], sums[2] / sums[3]
        accuracies = sums[4:] / len(samples)
        cells = [f"{100 * x:.0f} %" for x in (hidden,)] + [f"{cosine:.2f}"] + [f"{100 * x:.1f}" for x in accuracies]
        print(f"| {level} | " + " | ".join(cells) + " |")


@torch.no_grad()
def measure(model: CompNet, batch: Mapping[str, Tensor], occluded: Tensor) -> Tensor:
    """Sums over a batch of clean crops and the same crops occluded.

    Hidden and all object cells, cosines and their number, correct answers of the four scores.
    """
    clean, true = batch["image"], batch["category"]
    stride = model.feature_extractor.stride
    pose = Pose(**{name: batch[name].float() for name in ("azimuth", "elevation", "theta", "distance")})
    bare = model.render(true, pose, batch["principal_point"].float()).foreground.flatten(1) == 0
    covered = (occluded.int() - clean.int()).abs().amax(1, keepdim=True) > COVERED
    share = torch.nn.functional.avg_pool2d(covered.float(), stride).flatten(1)
    visible = share < 0.02
    before, after = (model(images).flatten(2).transpose(1, 2) for images in (clean, occluded))
    scores_before, own_before = best(model, before, true)
    scores_after, _ = best(model, after, true)
    background = (before @ model.bank.background.T).amax(-1)
    on_object = own_before > background
    seen = visible & on_object
    cosine = (before * after).sum(-1)[seen]
    correct = [
        (scores.argmax(1) == true).sum()
        for scores in (
            scores_after.mean(1),
            (scores_after * visible[..., None]).sum(1),
            (scores_before * visible[..., None]).sum(1),
            (scores_before * (visible & bare)[..., None]).sum(1),
        )
    ]
    return torch.stack(
        [((share > 0.5) & on_object).sum(), on_object.sum(), cosine.sum(), seen.sum(), *correct]
    ).double()


def best(model: CompNet, cells: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """What each cell adds to each category's score (Eq. 7) [B, H W, Y], and its similarity with the true one."""
    offsets = model.bank.offsets.tolist()
    features = model.bank.vertex_features
    vertices = [(cells @ features[a:b].T).amax(-1) for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    similarity = torch.stack(vertices, dim=-1)
    own = similarity.gather(2, true[:, None, None].expand(-1, similarity.shape[1], 1))[..., 0]
    background = (cells @ model.bank.background.T).amax(-1, keepdim=True)
    return torch.maximum(similarity, background), own


if __name__ == "__main__":
    main()
