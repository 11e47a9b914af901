"""Whether confidences mean what they say: of answers with 80 % confidence, 80 % should be right."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from compnet3d.utils.files import Json
from compnet3d.utils.settings import known, read, setting

BINS = 15


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """The images whose confidence lies in one of the equal parts of [0, 1].

    Attributes:
        images: their number.
        confidence, accuracy: their mean confidence and the share that is right; None without an image.
    """

    images: int = setting(least=0)
    confidence: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How well confidences agree with what is right.

    Attributes:
        images: their number.
        mean_confidence, accuracy: over all of them.
        ece: expected calibration error (Guo et al. 2017), the mean over images of the gap between confidence and
            accuracy of their bin, of `BINS` equally wide ones.
        brier: mean squared difference between confidence and 1 (right) or 0 (wrong).
        nll: mean negative log likelihood of right and wrong, in nats.
        bins: from the lowest confidence to the highest.
    """

    images: int = setting(least=1)
    mean_confidence: float
    accuracy: float
    ece: float
    brier: float
    nll: float
    bins: tuple[ReliabilityBin, ...]

    def to_dict(self) -> Json:
        """For JSON."""
        return {**asdict(self), "bins": [asdict(entry) for entry in self.bins]}

    @classmethod
    def from_dict(cls, values: Json) -> Reliability:
        """From `to_dict`."""
        bins = tuple(read(ReliabilityBin, known(ReliabilityBin, entry)) for entry in values["bins"])
        return read(cls, {**known(cls, values), "bins": bins})


def summarise_reliability(confidence: Tensor, right: Tensor) -> Reliability:
    """Compare confidences [N] in [0, 1] with what is right, bool [N]; N is at least 1.

    Raises:
        ValueError: for other shapes, or without an image.
    """
    if confidence.shape != right.shape or confidence.ndim != 1 or not len(right):
        raise ValueError(f"need two tensors [N], N > 0, not {[*confidence.shape]} and {[*right.shape]}")
    sure, hit = confidence.double().clamp(0, 1), right.double()
    # a confidence of 1 belongs to the last bin
    place = (sure * BINS).long().clamp_max(BINS - 1)
    counts, sums, hits = (torch.bincount(place, weights=w, minlength=BINS) for w in (torch.ones_like(sure), sure, hit))
    bins = tuple(
        ReliabilityBin(images=int(n), confidence=s / n, accuracy=h / n) if n else ReliabilityBin(images=0)
        for n, s, h in zip(counts.tolist(), sums.tolist(), hits.tolist(), strict=True)
    )
    # of an answer that was sure and wrong, a finite number: float32 cannot be surer than this
    likelihood = torch.where(right, sure, 1 - sure).clamp_min(1e-7)
    return Reliability(
        images=len(sure),
        mean_confidence=float(sure.mean()),
        accuracy=float(hit.mean()),
        ece=float((sums - hits).abs().sum() / len(sure)),
        brier=float((sure - hit).square().mean()),
        nll=float(-likelihood.log().mean()),
        bins=bins,
    )
