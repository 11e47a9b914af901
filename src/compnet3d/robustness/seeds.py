"""Random numbers of one sample: they depend on the seed, the purpose and the sample's key alone."""

from __future__ import annotations

import numpy as np

from compnet3d.data.sample import Sample

# Rotations, occluders, corruptions and backgrounds must not share random numbers, so that asking for one changes no
# other; occlusion.py has 1.
_ROTATION, _CORRUPTION, _BACKGROUND = 0, 2, 3


def sample_generator(sample: Sample, seed: int, purpose: int) -> np.random.Generator:
    """Random numbers that depend on the seed, the purpose and the sample's key alone."""
    # numpy mixes all numbers of the list: neighbouring seeds and names give unrelated draws
    return np.random.default_rng([seed, purpose, *sample.key.encode()])


def corruption_generator(sample: Sample, seed: int) -> np.random.Generator:
    """The random numbers that a sample's image is corrupted with."""
    return sample_generator(sample, seed, _CORRUPTION)
