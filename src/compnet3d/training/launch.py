"""Starting the processes that train together on this machine, by the launcher that is behind torchrun."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from compnet3d.errors import CompNetError, Terminated
from compnet3d.training.job import TrainingJob
from compnet3d.utils.distributed import STORE_OF_RANK_ZERO, LostRankError, joined, own_device
from compnet3d.utils.exclusive import scratch_folder


def launch(job: TrainingJob, most_restarts: int = 3) -> None:
    """Train in as many processes as a job has, and wait for them.

    When one of them dies, the others end, and all are started anew from the last checkpoint, `most_restarts` times at
    most. SIGTERM, SIGINT and SIGUSR1 are passed on to them.

    Raises:
        CompNetError: what one of them raised, or what they said when they died too often.
        KeyboardInterrupt: after SIGINT; Terminated: after another signal.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with scratch_folder() as folder, _undisturbed():
        # one file that all read, instead of sending samples and meshes to each
        (folder / "job.pickle").write_bytes(pickle.dumps(job))
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=job.processes,
            run_id=folder.name,
            rdzv_backend="c10d",
            # any free port, of this machine alone
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=most_restarts,
            logs_specs=DefaultLogsSpecs(log_dir=str(folder / "logs")),
            signals_to_handle=",".join(name for name in _SIGNALS if hasattr(signal, name)),
        )
        threads = max(1, torch.get_num_threads() // job.processes)
        # our own search path: the current folder may hold modules of the same names
        code = f"import sys; sys.path[:] = {sys.path!r}; from compnet3d.training.launch import run_worker; "
        code += f"run_worker({str(folder)!r}, {threads})"
        try:
            elastic_launch(config, sys.executable)("-c", code)
        except SignalException as stop:
            said = folder / "stopped-0.txt"
            raise _interruption(stop.sigval)(said.read_text(encoding="utf-8") if said.exists() else "") from None
        except ChildFailedError as error:
            _raise_what_was_left(folder)
            how = "; ".join(
                f"process {rank} {_how_it_ended(failure.exitcode)}" for rank, failure in sorted(error.failures.items())
            )
            raise CompNetError(
                f"the processes of the training died {most_restarts + 1} times, at last so: {how}; is there enough "
                "memory? The last checkpoint is kept, if there is one: --resume goes on from it"
            ) from None
        _raise_what_was_left(folder)


_LAUNCHER = "torch.distributed.elastic"
_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1")


def _interruption(number: int) -> type[KeyboardInterrupt]:
    return KeyboardInterrupt if number == signal.SIGINT else Terminated


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Put back what the launcher and we change of this process, and keep its notes to developers off the terminal."""
    changed = ("TORCHELASTIC_SIGNALS_TO_HANDLE", STORE_OF_RANK_ZERO)
    variables = {name: os.environ.get(name) for name in changed}
    os.environ[STORE_OF_RANK_ZERO] = "1"
    # each of its modules has a logger with a level of its own
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith(_LAUNCHER)]
    levels = [logger.level for logger in loggers]
    in_main = threading.current_thread() is threading.main_thread()
    handlers = {}
    if in_main:
        handlers = {
            number: signal.getsignal(number) for number in (getattr(signal, name, None) for name in _SIGNALS) if number
        }
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for name, variable in variables.items():
            if variable is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = variable


def _raise_what_was_left(folder: Path) -> None:
    """Raise what one of the processes has left word of.

    Raises:
        CompNetError: what the user can put right; RuntimeError: a fault of ours.
    """
    # refusals first, by the order of the kinds
    for kind in (CompNetError, RuntimeError):
        for path in sorted(folder.glob("refusal-*.txt" if kind is CompNetError else "fault-*.txt")):
            raise kind(path.read_text(encoding="utf-8", errors="surrogateescape"))


def run_worker(folder: str, threads: int) -> None:
    """What each of the processes does that `launch` starts."""
    from compnet3d.training.loop import train_in_group

    place, rank = Path(folder), os.environ["RANK"]
    torch.set_num_threads(threads)
    if sys.platform == "linux":
        # they are all on this machine; its name may lead nowhere
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    # written a moment ago by the process that has started this one, into a folder that is its own
    job: TrainingJob = pickle.loads((place / "job.pickle").read_bytes())
    try:
        device = own_device(job.device)
        with joined(device) as group:
            train_in_group(group, replace(job.going_on() if group.is_rank_zero else job, device=device))
    except LostRankError:
        if not _is_told(place):
            sys.exit(1)
    except CompNetError as error:
        _leave(place / f"refusal-{rank}.txt", str(error))
    except KeyboardInterrupt as stop:
        _leave(place / f"stopped-{rank}.txt", str(stop))
        sys.exit(143)
    except Exception:
        _leave(place / f"fault-{rank}.txt", traceback.format_exc())


def _leave(path: Path, text: str) -> None:
    """Leave word for the process that has started this one, which then counts as done.

    What a user has to put right, or a fault of ours, would come again if all processes were started anew.
    """
    # surrogateescape: messages name files, and names need not be valid UTF-8
    path.with_suffix(".new").write_text(text, encoding="utf-8", errors="surrogateescape")
    path.with_suffix(".new").replace(path)


def _is_told(folder: Path, patience: float = 2.0) -> bool:
    """Whether another process has left word why it ends, or does so in a moment; one that was killed does not."""
    until = time.monotonic() + patience
    while not any(folder.glob("*-*.txt")):
        if time.monotonic() >= until:
            return False
        time.sleep(0.05)
    return True
