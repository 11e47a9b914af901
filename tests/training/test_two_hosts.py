"""Training on two hosts: network namespaces with addresses of their own. It needs root: `make test-distributed`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from compnet3d.training.recipe_parts import ScheduleSettings
from compnet3d.training.train import train
from compnet3d.utils.distributed import STORE_OF_RANK_ZERO
from compnet3d.utils.files import write_json
from tests.networks import TINY_RECIPE

pytestmark = pytest.mark.slow
HOSTS = {"compnet3d-a": "10.77.31.1", "compnet3d-b": "10.77.31.2"}
RECIPE = replace(
    TINY_RECIPE, schedule=ScheduleSettings(epochs=60, batch_size=4, calibration_fraction=0.25, calibrate_every=20)
)


def ip(*words: str, check: bool = True) -> bool:
    return subprocess.run(["ip", *words], capture_output=True, check=check).returncode == 0


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    """Two namespaces with a cable between them; its ends are called like the hosts' last letters."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux")
    first, second = HOSTS
    try:
        if not ip("netns", "add", first, check=False):
            pytest.skip("no network namespaces here")
        ip("netns", "add", second)
        ip("link", "add", "c3d-a", "netns", first, "type", "veth", "peer", "name", "c3d-b", "netns", second)
        for host, address in HOSTS.items():
            end = f"c3d-{host[-1]}"
            ip("-n", host, "addr", "add", f"{address}/24", "dev", end)
            ip("-n", host, "link", "set", end, "up")
            ip("-n", host, "link", "set", "lo", "up")
        yield
    finally:
        for host in HOSTS:
            ip("netns", "del", host, check=False)


@pytest.fixture(scope="module")
def expected(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """What two processes on one host learn."""
    out = tmp_path_factory.mktemp("runs") / "pair"
    train(RECIPE, tiny_data, out, processes=2, workers=0, progress=False)
    return load_file(out / "model" / "model.safetensors")


def start(host: str, data: Path, out: Path) -> subprocess.Popen[bytes]:
    """torchrun with one process on a host; it waits there for the other."""
    recipe = out.parent / "recipe.json"
    write_json(recipe, RECIPE.to_dict())
    address = HOSTS[host]
    words = ["ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"]
    words += ["--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", out.name, "--max-restarts", "5"]
    words += ["--rdzv-endpoint", f"{HOSTS['compnet3d-a']}:29511", "--local-addr", address]
    # both have the name of this machine, by which torchrun would look for the meeting point
    words += ["--rdzv-conf", f"is_host={int(host == 'compnet3d-a')}", "-m", "compnet3d", "train"]
    words += ["--recipe", str(recipe), "--data", str(data), "--out", str(out), "--workers", "0", "--device", "cpu"]
    words += ["--checkpoint-minutes", "0"]
    environment = {
        **os.environ,
        "GLOO_SOCKET_IFNAME": f"c3d-{host[-1]}",
        "OMP_NUM_THREADS": "1",
        STORE_OF_RANK_ZERO: "1",
    }
    with (out.parent / f"{host}-{time.time():.0f}.txt").open("wb") as said:
        return subprocess.Popen(words, env=environment, stdout=said, stderr=said, start_new_session=True)


def wait_for_checkpoint(out: Path, seconds: float = 180) -> None:
    until = time.monotonic() + seconds
    while not (out / "checkpoint" / "progress.json").is_file():
        assert time.monotonic() < until, "no checkpoint: " + said(out)
        time.sleep(0.2)


def said(out: Path) -> str:
    return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-2000:]}" for path in out.parent.glob("*.txt"))


def finish(processes: list[subprocess.Popen[bytes]], out: Path, expected: dict[str, torch.Tensor]) -> None:
    """Both end well, within minutes, and what is learned is the same to the bit."""
    try:
        for process in processes:
            assert process.wait(300) == 0, said(out)
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    found = load_file(out / "model" / "model.safetensors")
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


def test_two_hosts_learn_what_two_processes_learn(
    network: None, tiny_data: Path, tmp_path: Path, expected: dict[str, torch.Tensor]
) -> None:
    out = tmp_path / "run"
    finish([start(host, tiny_data, out) for host in HOSTS], out, expected)


def test_a_host_that_is_cut_off_for_half_a_minute(
    network: None, tiny_data: Path, tmp_path: Path, expected: dict[str, torch.Tensor]
) -> None:
    """torchrun gives up hosts that are silent for longer than it waits, and starts all again when they are back."""
    out = tmp_path / "run"
    processes = [start(host, tiny_data, out) for host in HOSTS]
    wait_for_checkpoint(out)
    ip("-n", "compnet3d-b", "link", "set", "c3d-b", "down")
    time.sleep(30)
    ip("-n", "compnet3d-b", "link", "set", "c3d-b", "up")
    finish(processes, out, expected)


def test_a_host_that_dies_and_comes_back(
    network: None, tiny_data: Path, tmp_path: Path, expected: dict[str, torch.Tensor]
) -> None:
    out = tmp_path / "run"
    first, second = [start(host, tiny_data, out) for host in HOSTS]
    wait_for_checkpoint(out)
    os.killpg(second.pid, signal.SIGKILL)
    second.wait()
    # the process that it had started has a session of its own, and ends by itself
    time.sleep(3)
    finish([first, start("compnet3d-b", tiny_data, out)], out, expected)
