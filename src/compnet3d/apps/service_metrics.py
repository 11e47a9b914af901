"""What a service has done, in the text format of Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import ClassVar


@dataclass
class Metrics:
    """Counts of a service; of one thread.

    Attributes:
        requests: by the status of their answer; images: that were asked for.
        seconds: the sum over all requests from the first byte to the answer.
        inside: requests that wait or are computed now.
    """

    bounds: ClassVar[tuple[float, ...]] = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
    requests: Counter[int] = field(default_factory=Counter)
    images: int = 0
    seconds: float = 0.0
    inside: int = 0
    _buckets: Counter[int] = field(default_factory=Counter)

    def count(self, status: int, seconds: float) -> None:
        """Count a request that has been answered."""
        self.requests[status] += 1
        self.seconds += seconds
        self._buckets[bisect_left(self.bounds, seconds)] += 1

    def text(self) -> str:
        """All of it; see https://prometheus.io/docs/instrumenting/exposition_formats."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield from _head("requests_total", "counter", "Requests for predictions by the status of their answer.")
        for status, number in sorted(self.requests.items()):
            yield f'compnet3d_requests_total{{status="{status}"}} {number}'
        yield from _head("images_total", "counter", "Images in requests that could be read.")
        yield f"compnet3d_images_total {self.images}"
        yield from _head("queue_length", "gauge", "Requests for predictions that wait or are computed now.")
        yield f"compnet3d_queue_length {self.inside}"
        yield from _head("request_seconds", "histogram", "Seconds from a request for predictions to its answer.")
        # each bucket holds all that were faster
        below = accumulate(self._buckets[number] for number in range(len(self.bounds) + 1))
        for bound, number in zip([*map(str, self.bounds), "+Inf"], below, strict=True):
            yield f'compnet3d_request_seconds_bucket{{le="{bound}"}} {number}'
        yield f"compnet3d_request_seconds_sum {self.seconds}"
        yield f"compnet3d_request_seconds_count {sum(self.requests.values())}"


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP compnet3d_{name} {text}", f"# TYPE compnet3d_{name} {kind}"
