"""Placeholder."""
import numpy as np


def make_ice(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """TODO."""
    return np.zeros((height, width, 3), np.uint8)
