"""Several processes that do the same and talk to each other by gloo, as torchrun would start them."""

from __future__ import annotations

import io
import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import pytest
import torch

from compnet3d.utils.distributed import ProcessGroup, joined


def in_ranks(size: int, work: Callable[[ProcessGroup], Any], *, seconds: float = 120) -> list[Any]:
    """What `work` returns in each of `size` processes, forked from this one; it fails where one of them does."""
    context = multiprocessing.get_context("fork")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pairs = [context.Pipe(duplex=False) for _ in range(size)]
    processes: list[Any] = [
        context.Process(target=_member, args=(rank, size, port, pairs[rank][1], work)) for rank in range(size)
    ]
    for process in processes:
        process.start()
    results = []
    try:
        for process, (theirs, ours) in zip(processes, pairs, strict=True):
            ours.close()
            assert theirs.poll(seconds), "a process does not end"
            ok, content = theirs.recv()
            if not ok:
                pytest.fail(content)
            results.append(torch.load(io.BytesIO(content), weights_only=False))
            process.join()
    finally:
        for process in processes:
            process.kill()
            process.join()
    return results


def _member(rank: int, size: int, port: int, answer: Connection, work: Callable[[ProcessGroup], Any]) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    try:
        with joined("cpu") as group:
            found = io.BytesIO()
            torch.save(work(group), found)
        answer.send((True, found.getvalue()))
    except BaseException:
        answer.send((False, traceback.format_exc()))
