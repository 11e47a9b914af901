"""Reading the `.mat` files of PASCAL3D+ in another process, which a damaged file may crash or keep busy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Timer
from types import TracebackType

from compnet3d.data import mat_child
from compnet3d.data.annotations import OtherLayoutError
from compnet3d.errors import CompNetError
from compnet3d.utils.files import Json, read_bytes


class MatReader:
    """Reads records by one process that serves any number of files; to be used in a `with` statement, which ends it.

    A file that crashes the process, or keeps it busy for longer than `seconds`, is an unreadable one like any other;
    the next file gets a new process.
    """

    def __init__(self, seconds: float = 20.0) -> None:
        self.seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> MatReader:
        # now, so that a SciPy that cannot be loaded is not taken for a damaged file
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, path: Path | str) -> Json:
        """What `mat_child.plain_record` finds in a file.

        Raises:
            CompNetError: naming the file, if it is missing, broken, too large, or ends the reading process.
            OtherLayoutError: if it is of MATLAB 7.3.
        """
        largest = 16 * 2**20  # bytes: records have a few kilobytes
        try:
            data = read_bytes(path, largest)
        except (OSError, ValueError) as error:  # a ValueError is of a name that no system has
            reason = error.strerror if isinstance(error, OSError) else error
            raise CompNetError(f"{path} is not a readable PASCAL3D+ annotation ({reason}); restore it") from None
        # HDF5, after MATLAB's own 512 bytes or without them
        if b"\x89HDF\r\n\x1a\n" in (data[:8], data[512:520]):
            raise OtherLayoutError("annotation is of MATLAB 7.3: save it in MATLAB with -v7")
        try:
            answer = self._ask(data)
        except BaseException:
            # an answer may still be under way, which would be taken for that to the next file
            self.close()
            raise
        problem = "it stopped the reader" if answer is None else answer.get("error")
        if answer is None or problem is not None:
            raise CompNetError(f"{path} is not a readable PASCAL3D+ annotation ({problem}); restore it")
        return answer

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            # what could not be sent is of no use any more
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        process.wait()

    def _ask(self, data: bytes) -> Json | None:
        """The answer to a file; None if the process has ended, by itself or because it took too long."""
        answer = self._exchange(self._process or self._start(), data)
        if answer is None:
            self.close()
            return None
        plain: Json = json.loads(answer)
        return plain

    def _start(self) -> subprocess.Popen[bytes]:
        """A process that has said that it is there."""
        # found where they are found here; one thread, as others would only take memory
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = process = subprocess.Popen(
            [sys.executable, mat_child.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        if self._exchange(process, None, patience=3.0) is None:
            self.close()
            raise CompNetError("the process that reads .mat files cannot be started; check that SciPy is installed")
        return process

    def _exchange(self, process: subprocess.Popen[bytes], data: bytes | None, patience: float = 1.0) -> bytes | None:
        """Send a file, if there is one, and wait for a message; None if the process ends before it comes."""
        assert process.stdin is not None and process.stdout is not None
        # works on all systems, where waiting for a pipe does not
        clock = Timer(patience * self.seconds, process.kill)
        clock.daemon = True
        clock.start()
        try:
            if data is not None:
                mat_child.send(process.stdin, data)
            return mat_child.receive(process.stdout)
        except OSError:  # it has gone before it read all of it
            return None
        finally:
            clock.cancel()
