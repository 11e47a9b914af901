"""Tries `compnet3d serve`: many clients, broken and huge requests among them, memory, and throughput beside `predict`.

    python tools/service_trial.py MODEL DATA --clients 16 --requests 2000

Every request has an image of DATA under a name of its own, and its answer is compared with that of `predict_images`.
One in ten is broken (422) and one in fifty too large (413). Then, in turn, `--rounds` times: all images by
`predict_images` in batches, and the same images by the clients; the clients are threads of a process of their own,
model and service share one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import httpx
import uvicorn

from compnet3d.apps.jobs import JobPredictor
from compnet3d.apps.service import Limits, Service, build_app, listen
from compnet3d.data.images import images_in
from compnet3d.inference.prediction import predict_images
from compnet3d.models.registry import TrainedModel, load_predictor
from compnet3d.utils.memory import resident_mb

WHOLE = {"boxes": '["whole"]'}
BODY = 2_000_000  # the service's limit
Answer = tuple[int, int, str, list[float]]  # number of the request, status, name, scores


def ask(url: str, client: int, clients: int, requests: int, files: Sequence[Path], bad: bool) -> list[Answer]:
    """What one client is answered: every `clients`-th request, beginning with its own number."""
    answers: list[Answer] = []
    with httpx.Client(base_url=url, timeout=300, verify=False) as http:  # reading certificates would take long
        for number in range(client, requests, clients):
            data = files[number % len(files)].read_bytes()
            if bad and number % 50 == 7:
                data = b"\0" * (2 * BODY)
            elif bad and number % 10 == 3:
                data = data[: len(data) // 3]
            while True:
                response = http.post("/v1/predict", files={"image": (f"{number}.jpg", data)}, data=WHOLE)
                if response.status_code != 503:
                    break
                time.sleep(float(response.headers["retry-after"]))
            found = response.json()
            if response.status_code == 200:
                answers.append((number, 200, found[0]["image"], list(found[0]["scores"].values())))
            else:
                answers.append((number, response.status_code, found["detail"], []))
    return answers


def ask_all(url: str, clients: int, requests: int, files: Sequence[Path], bad: bool) -> list[Answer]:
    """The answers of all clients, each a thread of this process."""
    with ThreadPoolExecutor(clients) as threads:
        parts = [threads.submit(ask, url, client, clients, requests, files, bad) for client in range(clients)]
        return [answer for part in parts for answer in part.result()]


def expected_status(number: int) -> int:
    """What a request deserves."""
    return 413 if number % 50 == 7 else 422 if number % 10 == 3 else 200


def mistakes(answers: Sequence[Answer], requests: int, scores: Sequence[list[float]]) -> Counter[str]:
    """What is wrong with answers to requests with bad ones among them."""
    found: Counter[str] = Counter()
    numbers = Counter(number for number, *_ in answers)
    found["lost"] = sum(numbers[number] != 1 for number in range(requests))
    for number, status, text, given in answers:
        wanted = expected_status(number)
        found["wrong status"] += status != wanted
        if status == 200:
            furthest = max(abs(a - b) for a, b in zip(given, scores[number % len(scores)], strict=True))
            found["another's answer"] += text != f"{number}.jpg" or furthest > 1e-3
        elif wanted == status == 422:
            found["another's answer"] += f"({number}.jpg)" not in text
    return found


def memory_over_time(stop: threading.Event, seconds: float, kept: list[float]) -> None:
    """Note the memory of this process every so many seconds."""
    while not stop.wait(seconds):
        kept.append(resident_mb())


def main() -> None:
    """Run it and print what was measured as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    files = images_in(options.data)[:: max(1, len(images_in(options.data)) // options.images)][: options.images]
    model: TrainedModel = load_predictor(options.model)
    scores = predict_images(model, files, boxes="whole", batch_size=16).scores.tolist()

    service = Service(JobPredictor(model, None, 16, 50_000_000), Limits(body=BODY, seconds=300))
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(build_app(service, options.model.name), log_level="error"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    result: dict[str, object] = {"clients": options.clients, "requests": options.requests, "images": len(files)}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
        other.submit(ask_all, url, 2, 20, files, False).result()  # both have begun by now
        memory: list[float] = []
        stop = threading.Event()
        watch = threading.Thread(target=memory_over_time, args=(stop, 1.0, memory))
        watch.start()
        answers = other.submit(ask_all, url, options.clients, options.requests, files, True).result()
        stop.set()
        watch.join()
        result |= {name: number for name, number in mistakes(answers, options.requests, scores).items()}
        result["statuses"] = dict(Counter(status for _, status, *_ in answers))
        quarter = len(memory) // 4
        result["memory, second and last quarter [MB]"] = [
            round(statistics.median(memory[part : part + quarter or None])) for part in (quarter, 3 * quarter)
        ]
        rounds = []
        for _ in range(options.rounds):
            wall, used = time.perf_counter(), time.process_time()
            predict_images(model, files, boxes="whole", batch_size=16)
            direct = (time.perf_counter() - wall, time.process_time() - used)
            wall, used = time.perf_counter(), time.process_time()
            other.submit(ask_all, url, options.clients, len(files), files, False).result()
            rounds.append((*direct, time.perf_counter() - wall, time.process_time() - used))
            print(*(f"{seconds:.2f}" for seconds in rounds[-1]), file=sys.stderr)
        names = ("predict wall", "predict CPU", "service wall", "service CPU")
        result["seconds for all images"] = {
            name: round(statistics.median(values), 3)
            for name, values in zip(names, zip(*rounds, strict=True), strict=True)
        }
        result["throughput of the service over predict"] = {
            kind: round(statistics.median(row[at] / row[at + 2] for row in rounds), 3)
            for at, kind in enumerate(("wall", "CPU"))
        }
    server.should_exit = True
    thread.join()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
