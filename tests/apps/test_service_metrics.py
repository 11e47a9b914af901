"""The service's counts as Prometheus reads them."""

from __future__ import annotations

import re

from compnet3d.apps.service_metrics import Metrics


def numbers(text: str) -> dict[str, float]:
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}


def test_a_histogram_counts_what_was_at_most_as_slow():
    metrics, seconds = Metrics(), [0.001, 0.01, 0.011, 0.3, 0.3, 7.0, 100.0]
    for number, value in enumerate(seconds):
        metrics.count(200 if number % 2 else 422, value)
    found = numbers(metrics.text())
    for bound in Metrics.bounds:
        expected = sum(value <= bound for value in seconds)
        assert found[f'compnet3d_request_seconds_bucket{{le="{bound}"}}'] == expected
    assert found['compnet3d_request_seconds_bucket{le="+Inf"}'] == found["compnet3d_request_seconds_count"] == 7
    assert abs(found["compnet3d_request_seconds_sum"] - sum(seconds)) < 1e-9
    assert found['compnet3d_requests_total{status="200"}'] == 3
    assert found['compnet3d_requests_total{status="422"}'] == 4


def test_every_line_has_the_form_of_the_format():
    metrics = Metrics(images=5, inside=2)
    metrics.count(200, 0.2)
    text = metrics.text()
    assert text.endswith("\n")
    sample = r'compnet3d_\w+(\{\w+="[^"]*"\})? \d+(\.\d+)?'
    for line in text.splitlines():
        assert re.fullmatch(rf"# HELP compnet3d_\w+ .+|# TYPE compnet3d_\w+ (counter|gauge|histogram)|{sample}", line)
    assert numbers(text)["compnet3d_images_total"] == 5 and numbers(text)["compnet3d_queue_length"] == 2
