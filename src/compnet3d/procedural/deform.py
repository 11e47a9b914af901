"""Other shapes from one: proportions and gentle swellings, for categories of which there are few models."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from compnet3d.procedural.model import Model, prepare
from compnet3d.procedural.parts import Array, Part


def deformed(rng: Generator, model: Model, amount: float) -> Model:
    """The model in other proportions; what is mirror-symmetric in x stays so, and what stands on the floor, too.

    Args:
        rng: random numbers.
        model: centred, unit diagonal; so is the result.
        amount: how much lengths change along each axis, as a share, >= 0.
    """
    vertices = _bent(rng, model.mesh.vertices.double().numpy(), amount)
    return prepare(Part(vertices, model.mesh.faces.numpy(), model.roles, model.skin).normalised())


def _bent(rng: Generator, vertices: Array, amount: float) -> Array:
    x, y, z = vertices.T
    above = z - z.min()
    # a wave along y or z is longer than the object
    frequency, phase = rng.uniform(1.5, 5.0, 4), rng.uniform(0, 2 * np.pi, 4)
    along = [1 + 0.5 * amount * np.sin(frequency[k] * (y if k < 2 else above) + phase[k]) for k in range(4)]
    scale = np.exp(rng.uniform(-amount, amount, 3))
    return np.stack([x * along[0] * along[2], y * along[3], above * along[1]], axis=1) * scale
