"""The network of the tests: a ResNet of four stages with a few channels each, which runs in milliseconds."""

from __future__ import annotations

from typing import Any

TINY_RESNET: dict[str, Any] = {
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
