"""Random numbers of one sample: they depend on the seed, the purpose and the sample's key alone."""

from __future__ import annotations

from enum import Enum

import numpy as np

from compnet3d.data.sample import Sample


class Purpose(Enum):
    """What is drawn; no two share random numbers, so that asking for one changes no other."""

    ROTATION = 0
    OCCLUDERS = 1
    CORRUPTION = 2
    BACKGROUND = 3


def sample_generator(sample: Sample, seed: int, purpose: Purpose) -> np.random.Generator:
    """Random numbers that depend on the seed, the purpose and the sample's key alone."""
    # numpy mixes all numbers of the list: neighbouring seeds and names give unrelated draws
    return np.random.default_rng([seed, purpose.value, *sample.key.encode()])


def corruption_generator(sample: Sample, seed: int) -> np.random.Generator:
    """The random numbers that a sample's image is corrupted with."""
    return sample_generator(sample, seed, Purpose.CORRUPTION)
