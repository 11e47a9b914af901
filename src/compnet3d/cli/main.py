"""The command line: every subcommand is a dataclass whose fields are its options and whose `run` does the work.

Nothing heavy is imported before a command runs, so that help is instant.
"""

from __future__ import annotations

import errno
import io
import os
import platform
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Protocol

import tyro
from tyro.conf import subcommand

from compnet3d import __version__
from compnet3d.cli.annotate import Annotate
from compnet3d.cli.bench import Bench
from compnet3d.cli.calibrate import Calibrate
from compnet3d.cli.completion import Completion
from compnet3d.cli.data import Data
from compnet3d.cli.demo import Demo
from compnet3d.cli.doctor import Doctor
from compnet3d.cli.evaluate import Evaluate
from compnet3d.cli.examples import example_for
from compnet3d.cli.export import Export
from compnet3d.cli.grow import AddCategory, RemoveCategory, RenameCategory
from compnet3d.cli.models import Models
from compnet3d.cli.predict import Predict
from compnet3d.cli.quickstart import Quickstart
from compnet3d.cli.recipes import Recipes
from compnet3d.cli.reproduce import Report, Reproduce
from compnet3d.cli.runs import Runs
from compnet3d.cli.serve import Serve
from compnet3d.cli.train import Train
from compnet3d.errors import CompNetError, Terminated
from compnet3d.utils.text import printable

Command = (
    Annotated[Quickstart, subcommand("quickstart")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Recipes, subcommand("recipes")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Calibrate, subcommand("calibrate")]
    | Annotated[AddCategory, subcommand("add-category")]
    | Annotated[RemoveCategory, subcommand("remove-category")]
    | Annotated[RenameCategory, subcommand("rename-category")]
    | Annotated[Predict, subcommand("predict")]
    | Annotated[Demo, subcommand("demo")]
    | Annotated[Serve, subcommand("serve")]
    | Annotated[Export, subcommand("export")]
    | Annotated[Reproduce, subcommand("reproduce")]
    | Annotated[Report, subcommand("report")]
    | Annotated[Data, subcommand("data")]
    | Annotated[Annotate, subcommand("annotate")]
    | Annotated[Runs, subcommand("runs")]
    | Annotated[Models, subcommand("models")]
    | Annotated[Bench, subcommand("bench")]
    | Annotated[Doctor, subcommand("doctor")]
    | Annotated[Completion, subcommand("completion")]
)


class Runnable(Protocol):
    """Any of the commands."""

    def run(self) -> None:
        """Do what was asked for."""
        ...


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Exits with 0, 1 where a check found something, 2 for an error that the user can fix, 70 for a fault of ours, 130
    after Ctrl-C, 143 after SIGTERM.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    open_closed_streams()
    show_what_can_be_shown()
    try:
        with heeding_sigterm():
            # by hand: all that tyro parses are commands, and this is none
            if arguments == ["--version"]:
                print(f"compnet3d {__version__}")
            else:
                command = parse(arguments or ["--help"])
                keep_out_noise()
                command.run()
            sys.stdout.flush()  # here a full disk is still one sentence
    except KeyboardInterrupt as stop:
        # 128 and the signal's number, as shells count a program that a signal ended
        what, status = ("terminated", 143) if isinstance(stop, Terminated) else ("interrupted", 130)
        with heeding_no_signal():
            close_what_was_begun(stop)
            fail(str(stop) or what, status)
    except BrokenPipeError:  # the reader of our output has gone
        drop_output()
    except Exception as error:
        if os.environ.get("COMPNET3D_TRACEBACK"):
            raise
        close_what_was_begun(error)
        if not _is_users(error):
            report_fault(error)
        fail(sentence(error))


@contextmanager
def heeding_sigterm() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: without what is half-written and the processes that it started."""

    def end(*_: Any) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # signals are the business of that one
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def heeding_no_signal() -> Iterator[None]:
    """Let an impatient second Ctrl-C not disturb the last words."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def parse(arguments: list[str]) -> Runnable:
    """The command that the arguments ask for; leaves the program with help or a usage error."""
    options = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff)
    description = (
        "3D compositional models: one image in, the object's category and 3D pose out.\n"
        "`compnet3d COMMAND --help` lists a command's options, `compnet3d --version` the version."
    )
    try:
        return tyro.cli(Command, prog="compnet3d", description=description, args=arguments, config=options)
    except SystemExit as end:
        if not end.code and {"-h", "--help"} & {*arguments}:
            print(f"example:\n  {example_for(arguments)}")
            sys.stdout.flush()
        raise


def keep_out_noise() -> None:
    """Keep the libraries' notes to developers off the terminal; what a user can act on, we say ourselves."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for library in ("torch", "transformers", "huggingface_hub"):
        # by library, so that warnings of our own and of the user's code still show
        warnings.filterwarnings("ignore", module=rf"{library}(\..*)?$")


def open_closed_streams() -> None:
    """Let a stream that the caller has closed lead nowhere, before a file of ours takes its number and what is said."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))


def drop_output() -> None:
    """Let what could not be printed lead nowhere: Python would complain once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_what_can_be_shown() -> None:
    """Let the output streams escape what they cannot encode, such as a file name of another system's, and go on."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_users(error: Exception) -> bool:
    """Whether the user can do something about it; anything else is a fault of ours."""
    return isinstance(error, CompNetError | OSError) or _is_for_want_of_memory(error)


def _is_for_want_of_memory(error: Exception) -> bool:
    # by name, since torch may not be loaded: its RuntimeError where a device's memory is full
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def sentence(error: Exception) -> str:
    """One line for the user."""
    if _is_for_want_of_memory(error):
        return "not enough memory; use smaller batches or images, or a machine with more"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        if error.errno == errno.ENOSPC:
            return f"{where}no space left on the disk; free some and run again"
        return f"{where}{error.strerror or error}"
    text = str(error)
    # A reading process wraps its error in the text of a traceback; the sentence is what follows the last name.
    return text.rpartition("CompNetError: ")[2].strip() if "Original Traceback" in text else text


def close_what_was_begun(error: BaseException) -> None:
    """Let go of what the frames of a failed command hold: a progress bar that is left half-way ends with an empty line.

    It would come after the last words, and is about to come in any case: nothing goes on in these frames.
    """
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__


def report_fault(error: Exception) -> None:
    """Print what a report of a fault of ours should hold, and leave the program."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    print(printable("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    versions = f"compnet3d {__version__}, Python {platform.python_version()}"
    if "torch" in sys.modules:
        versions += f", PyTorch {sys.modules['torch'].__version__}"
    print(f"{versions}, {platform.platform()}", file=sys.stderr)
    what = f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"
    fail(f"a fault of compnet3d ({what}); please report it with the command and the lines above", status=70)


def fail(message: str, status: int = 2) -> None:
    """Print one red line on stderr and leave the program."""
    from rich.console import Console
    from rich.text import Text

    try:
        sys.stdout.flush()  # the line is the last one, also where both streams go to one file
    except OSError:
        drop_output()
    console = Console(stderr=True, soft_wrap=True)
    with suppress(OSError):  # the status still tells
        console.print(Text.assemble(("error: ", "bold red"), (printable(" ".join(message.split())), "red")))
    raise SystemExit(status)


if __name__ == "__main__":
    main()
