"""A program of its own that reads PASCAL3D+ annotations: SciPy's reader of `.mat` files may crash on a damaged one.

`mat_reader` starts it by its path, so that it loads nothing of this package. It answers each message on stdin, a `.mat`
file, with one on stdout, in JSON; a message is 8 bytes that tell its length, and so many bytes. It ends with its stdin,
that is with the process that asks.
"""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import IO, Any


def plain_record(data: bytes) -> dict[str, Any]:
    """What is used of a file's `record`: numbers (those of an array as a list), texts, dicts; the rest is left out.

    `objects` is always a list of dicts. A broken file raises anything, or ends the process.
    """
    from scipy.io import loadmat

    most_objects = 1000
    # structs as dicts; hence a record of one object comes without a list around it
    file: Any = io.BytesIO(data)  # its stubs know names of files alone
    record = loadmat(file, simplify_cells=True, variable_names=["record"])["record"]
    objects = record["objects"]
    objects = [objects] if isinstance(objects, dict) else list(objects)
    if len(objects) > most_objects or not all(isinstance(entry, dict) for entry in objects):
        raise TypeError("record.objects is not a struct")
    return _numbers(record, ("imgsize",)) | {"objects": [_plain_object(entry) for entry in objects]}


def _plain_object(entry: dict[str, Any]) -> dict[str, Any]:
    angles = ("azimuth", "elevation", "theta", "azimuth_coarse", "elevation_coarse")
    views = (*angles, "distance", "focal", "viewport", "px", "py")
    plain = _numbers(entry, ("bbox", "cad_index", "occluded", "truncated", "difficult"))
    if isinstance(entry.get("viewpoint"), dict):
        plain["viewpoint"] = _numbers(entry["viewpoint"], views)
    if isinstance(entry.get("class"), str):
        plain["class"] = entry["class"][:256]
    return plain


def _numbers(fields: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    import numpy as np

    longest = 16
    found: dict[str, Any] = {}
    for key in keys:
        value = np.asarray(fields.get(key))
        if value.dtype.kind in "buif" and value.size <= longest:
            # MATLAB knows no scalars and no vectors: what is left of its dimensions says nothing
            found[key] = value.ravel().tolist() if value.ndim else value.item()
    return found


def receive(stream: IO[bytes], largest: int = 16 * 2**20) -> bytes | None:
    """The next message; None if the other side has gone, or sends more than `largest` bytes."""
    head = stream.read(8)
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else largest + 1
    body = stream.read(length) if length <= largest else b""
    return body if len(body) == length else None


def send(stream: IO[bytes], body: bytes) -> None:
    """Send a message."""
    stream.write(struct.pack("<Q", len(body)) + body)
    stream.flush()


def _limit_memory() -> None:
    """Let this process take 2 GiB and leave no core file, where a system has such limits (Windows has none)."""
    most = 2 * 2**30
    # on some systems a limit exists and cannot be set
    with suppress(ImportError, AttributeError, ValueError, OSError):
        import resource

        for kind, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, most)):
            _, hard = resource.getrlimit(kind)
            wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (wanted, hard))


def main() -> None:
    """Answer until stdin ends; the first message, without a request, says that the reader is there."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # what libraries print must not get between the answers
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    # Ctrl-C is for the process that asks; if it ends, so does this one
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # beside this file lie modules of the package, which are not to be found under bare names
    sys.path[:] = [folder for folder in sys.path if folder != os.path.dirname(os.path.abspath(__file__))]
    import scipy.io  # noqa: F401  # now, before memory is limited

    _limit_memory()
    send(answers, b"{}")
    while (data := receive(requests)) is not None:
        # ends this process if nobody is left to do so; Windows has no such clock
        getattr(signal, "alarm", int)(60)
        try:
            answer = plain_record(data)
        except Exception as error:
            # SciPy raises anything on damaged files
            answer = {"error": " ".join(str(error).split())[:200] or type(error).__name__}
        getattr(signal, "alarm", int)(0)
        send(answers, json.dumps(answer).encode())


if __name__ == "__main__":
    main()
