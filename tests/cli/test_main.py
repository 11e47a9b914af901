"""The command line: help, options, and every error as one sentence with the right exit code."""

from __future__ import annotations

import errno
import io
import os
import shlex
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch

from compnet3d import __version__
from compnet3d.cli import (
    completion,
    data,
    data_import,
    data_show,
    doctor,
    evaluate,
    export,
    grow,
    options,
    predict,
    quickstart,
    recipes,
    reproduce,
    runs,
    train,
)
from compnet3d.cli import main as cli
from compnet3d.errors import CompNetError, Terminated
from compnet3d.training import step as training_step
from compnet3d.training.recipe_parts import ScheduleSettings
from compnet3d.utils.files import claim_folder, write_json
from tests.networks import TINY_RECIPE

# the class of each format, by its name
IMPORTS = {
    get_args(kind)[1].name: get_args(kind)[0]
    for kind in get_args(get_type_hints(data_import.DataImport, include_extras=True)["command"])
}
COMMANDS = [
    *([c] for c in "quickstart train recipes evaluate predict export reproduce report runs doctor completion".split()),
    *([f"{what}-category"] for what in ("add", "remove", "rename")),
    *(["data", c] for c in "make render occlude corrupt check show".split()),
    *(["data", "import", name] for name in IMPORTS),
]
FROM_A_WORKER = "Caught it\nOriginal Traceback (most recent call last):\n..\ncompnet3d.errors.CompNetError: b.png: bad"


def run_main(arguments: list[str], capsys) -> tuple[int, str, str]:
    status = 0
    try:
        cli.main(arguments)
    except SystemExit as end:
        status = int(end.code or 0)
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_a_sentence_for_every_option(command, capsys):
    status, out, _ = run_main([*command, "--help"], capsys)
    assert status == 0 and "None" not in out
    flat = " ".join(out.replace("│", " ").split())
    classes = {"quickstart": quickstart.Quickstart, "train": train.Train, "evaluate": evaluate.Evaluate,
               "predict": predict.Predict, "export": export.Export, "recipes": recipes.Recipes,
               "make": data.DataMake, "render": data.DataRender, "occlude": data.DataOcclude,
               "corrupt": data.DataCorrupt,
               "check": data.DataCheck, **IMPORTS,
               "reproduce": reproduce.Reproduce, "report": reproduce.Report, "doctor": doctor.Doctor, "runs": runs.Runs,
               "add-category": grow.AddCategory, "remove-category": grow.RemoveCategory,
               "rename-category": grow.RenameCategory,
               "completion": completion.Completion, "show": data_show.DataShow}  # fmt: skip
    for name in classes[command[-1]].__dataclass_fields__:
        positional = (
            "model",
            "name",
            "names",
            "old",
            "new",
            "images",
            "out",
            "data",
            "src",
            "what",
            "study",
            "folders",
            "shell",
        )
        assert f"--{name.replace('_', '-')}" in flat or name in positional


def test_no_arguments_show_the_commands(capsys):
    status, out, _ = run_main([], capsys)
    assert status == 0 and all(
        name in out for name in ("quickstart", "train", "recipes", "evaluate", "predict", "data")
    )


def test_version(capsys):
    assert run_main(["--version"], capsys) == (0, f"compnet3d {__version__}\n", "")


def test_module_can_be_run():
    done = subprocess.run([sys.executable, "-m", "compnet3d", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"compnet3d {__version__}\n"


def run_in_shell(rest):
    return subprocess.run(
        f"{shlex.quote(sys.executable)} -m compnet3d {rest}", shell=True, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
@pytest.mark.parametrize("line", ["--version", "--help", "recipes"])
def test_output_on_a_full_disk_is_one_sentence(line):
    done = run_in_shell(f"{line} > /dev/full")
    assert done.returncode == 2 and done.stderr == "error: no space left on the disk; free some and run again\n"


@pytest.mark.parametrize("error", ["CompNetError('why')", "Terminated('why')", "OSError('why')"])
def test_the_error_is_the_last_line_where_both_streams_go_to_one_file(error, tmp_path):
    code = f"""
from compnet3d.cli import main as cli
from compnet3d.errors import CompNetError, Terminated
from compnet3d.utils.progress import tracked

class Command:
    def run(self):
        print("what was done")
        for _ in tracked(range(3), "half-way", enabled=True):
            raise {error}

cli.parse = lambda arguments: Command()
cli.main(["x"])
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open(tmp_path / "log", "w") as log:
        done = subprocess.run([sys.executable, "-c", code], stdout=log, stderr=log, check=False, env=environment)
    assert done.returncode in (2, 143)
    lines = (tmp_path / "log").read_text().splitlines()
    assert "what was done" in lines and lines[-1] == "error: why"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_closed_streams_are_no_fault():
    assert run_in_shell("--help >&-").stderr == ""
    assert run_in_shell("recipes >&- <&- 2>&-").returncode == 0
    assert run_in_shell("runs /nowhere 2>&-").returncode == 2


def test_options_reach_the_command():
    line = "evaluate RUN --data D --split test --crop box --rotate 25 --occlusion L2 --json m.json --unseen"
    command = cli.parse(line.split())
    assert command == evaluate.Evaluate(
        model=Path("RUN"), data="D", split="test", crop="box", rotate=25.0, occlusion="L2",
        json=Path("m.json"), unseen=True,
    )  # fmt: skip
    command = cli.parse("predict RUN a.jpg b.jpg --box 1 2.5 30 40 --overlay O".split())
    assert command.images == ("a.jpg", "b.jpg") and command.box == (1.0, 2.5, 30.0, 40.0)
    assert cli.parse("train --recipe eth80 --data D --out R --resume".split()).resume
    assert cli.parse("data make OUT --categories 188".split()).command.categories == 188


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("quickstart --categories 1", "--categories must be at least 2, not 1"),
        ("quickstart --epochs 0", "--epochs must be at least 1, not 0"),
        ("data make OUT --size 0", "--size must be at least 32, not 0"),
        ("data make OUT --train -3", "--train must be at least 0, not -3"),
        ("data make OUT --workers 0", "--workers must be at least 1, not 0"),
        ("data render OUT --cad nowhere", "nowhere: does not exist; give --cad an existing folder"),
        ("data occlude nowhere OUT --level L1", "nowhere: does not exist; give DIR"),
        ("data occlude . OUT --level L1 --occluders nowhere", "nowhere: does not exist; give --occluders"),
        ("data occlude . OUT --level L1 --seed -1", "--seed must be at least 0, not -1"),
        ("evaluate . --data . --occlusion L1 --occluders nowhere", "nowhere: does not exist; give --occluders"),
        ("data import pascal3d nowhere OUT", "nowhere: does not exist; give SRC"),
        (
            "data import occluded-pascal3d . OUT --level L1 --pascal3d nowhere",
            "nowhere: does not exist; give --pascal3d",
        ),
        ("data import pascal3d . OUT", "does not look like PASCAL3D+; SRC must be its folder"),
        ("data check nowhere", "nowhere: does not exist"),
        ("train --recipe quickstart --data nowhere --out R", "nowhere: does not exist; give --data"),
        ("train --recipe quickstart --data . --out R --backbone-weights no", "no: does not exist; give --backbone"),
        ("train --recipe magic --data . --out R", "'magic' is unknown; use one of"),
        ("evaluate nowhere --data .", "nowhere: does not exist; give the folder of a model"),
        ("evaluate . --data nowhere", "nowhere: does not exist; give --data"),
        ("evaluate . --data . --batch-size 0", "--batch-size must be at least 1"),
        (
            "evaluate . --data . --corruption rust",
            "Unknown corruption 'rust'; choose one of gaussian_noise, shot_noise",
        ),
        ("evaluate . --data . --corruption fog --severity 6", "Unknown severity 6; choose 1, 2, 3, 4 or 5"),
        ("evaluate . --data . --corruption frost --frost nowhere", "nowhere: does not exist; give --frost"),
        ("data corrupt . OUT --corruption rust", "Unknown corruption 'rust'"),
        ("data corrupt nowhere OUT --corruption fog", "nowhere: does not exist"),
        ("predict nowhere a.jpg", "nowhere: does not exist; give the folder of a model"),
        ("predict .", "no image given"),
        ("predict . a.jpg --box 5 5 5 9", "--box needs X1 Y1 X2 Y2"),
        ("predict . a.jpg --whole --detector d.onnx", "--detector and --whole both say where the objects are"),
        ("predict . a.jpg --json - --csv -", "two formats cannot both go to the standard output"),
        ("predict . a.jpg --objects 0", "--objects must be at least 1, not 0"),
        ("predict . a.jpg --every 0", "--every must be at least 1, not 0"),
        ("predict . a.jpg --device warp", "--device warp: unknown"),
    ],
)
def test_errors_are_one_line_and_status_2(line, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run_main(line.split(), capsys)
    assert status == 2 and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err


@pytest.mark.parametrize("line", ["train --recipe", "fly", "evaluate M --data D --crop round", "data make"])
def test_usage_errors_have_status_2(line, capsys):
    status, _, err = run_main(line.split(), capsys)
    assert status == 2 and "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (CompNetError("a file is broken\nfix it"), 2, "error: a file is broken fix it"),
        (OSError(errno.ENOSPC, "No space left on device", "out/x"), 2, "out/x: no space left on the disk"),
        (PermissionError(errno.EACCES, "Permission denied", "x.json"), 2, "error: x.json: Permission denied"),
        (CompNetError(FROM_A_WORKER), 2, "error: b.png: bad"),
        (MemoryError(), 2, "error: not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), 2, "error: not enough memory"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (Terminated(), 143, "error: terminated"),
    ],
)
def test_failures_of_a_command(error, status, message, capsys, monkeypatch):
    def run(self):
        raise error

    monkeypatch.setattr(data.DataCheck, "run", run)
    got, _, err = run_main(["data", "check", "."], capsys)
    assert got == status and message in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("epochs_done", "sent", "ended_with", "advice"),
    [
        (0, signal.SIGINT, 130, "interrupted before the first epoch was done; run the same command again"),
        (1, signal.SIGINT, 130, "interrupted; the same command with --resume goes on from the last checkpoint"),
        (0, signal.SIGTERM, 143, "stopped by SIGTERM after step 2 of epoch 1, which the checkpoint holds; the same"),
        (1, signal.SIGTERM, 143, "stopped by SIGTERM after step 2 of epoch 2, which the checkpoint holds; the same"),
    ],
)
def test_an_interrupted_training_says_how_it_goes_on(
    sent, ended_with, epochs_done, advice, tiny_data, tmp_path, capsys, monkeypatch
):
    """Ctrl-C or SIGTERM in the middle of an epoch; then the command that it advises runs to the end."""
    step, before = training_step.train_step, signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # make starts its children without
    steps = 0

    def interrupted(run, *arguments, **options):
        nonlocal steps
        if run.epoch == epochs_done:
            steps += 1
            if steps == 2:
                signal.raise_signal(sent)
        return step(run, *arguments, **options)

    monkeypatch.setattr("compnet3d.training.loop.train_step", interrupted)
    recipe, out = tmp_path / "tiny.json", tmp_path / "run"
    write_json(recipe, replace(TINY_RECIPE, schedule=ScheduleSettings(epochs=2, batch_size=4)).to_dict())
    line = ["train", "--recipe", str(recipe), "--data", str(tiny_data), "--out", str(out), "--workers", "0"]
    line += ["--device", "cpu"]
    status, _, errors = run_main(line, capsys)
    assert status == ended_with and errors.rstrip().splitlines()[-1].startswith(f"error: {advice}")
    assert {path.name for path in out.iterdir()} <= {"config.json", "checkpoint", "log.csv", "log.jsonl"}
    assert signal.getsignal(signal.SIGTERM) == before
    monkeypatch.setattr("compnet3d.training.loop.train_step", step)
    status, printed, _ = run_main([*line, "--resume"] if (out / "checkpoint").is_dir() else line, capsys)
    assert status == 0 and str(out / "model") in "".join(printed.split()) and (out / "model").is_dir()


@pytest.mark.parametrize(
    ("module", "shown"),
    [("torch.nn.modules.linear", False), ("transformers", False), ("huggingface_hub.utils", False)]
    + [("compnet3d.data.images", True), ("torchmetrics.functional", True), ("my_torch", True)],
)
def test_only_the_libraries_own_warnings_are_kept_out(module, shown):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        cli.keep_out_noise()
        warnings.warn_explicit("deprecated", UserWarning, "file.py", 1, module=module)
    assert bool(heard) == shown


def test_a_fault_of_ours_is_called_one_and_can_be_reported(capsys, monkeypatch):
    monkeypatch.setattr(data.DataCheck, "run", lambda self: 1 / 0)
    status, _, err = run_main(["data", "check", "."], capsys)
    lines = err.splitlines()
    assert status == 70 and lines[0] == "Traceback (most recent call last):" and "ZeroDivisionError" in err
    assert lines[-1].startswith("error: a fault of compnet3d (ZeroDivisionError in test_main.py, line ")
    assert lines[-2].startswith(f"compnet3d {__version__}, Python 3.")
    monkeypatch.setenv("COMPNET3D_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main(["data", "check", "."])


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_a_stream_cannot_show_is_escaped(encoding, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(data.DataCheck, "run", lambda self: print("测试 \udcff"))
    cli.main(["data", "check", "."])
    stream.flush()
    shown = stream.buffer.getvalue().decode(encoding)
    assert shown.split() == ["测试" if encoding == "utf-8" else "\\u6d4b\\u8bd5", "\\udcff"]


def test_a_run_has_its_log_whether_it_or_its_model_is_named(tmp_path):
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    (run / "log.jsonl").touch()
    assert options.run_log(run) == options.run_log(run / "model") == run / "log.jsonl"


def test_a_folder_is_claimed_once(tmp_path):
    claim_folder(tmp_path / "new" / "quickstart.json", {"seed": 0, "list": (1, 2)}, "a quickstart")
    claim_folder(tmp_path / "new" / "quickstart.json", {"seed": 0, "list": [1, 2]}, "a quickstart")
    with pytest.raises(CompNetError, match=r"a quickstart with other settings \(seed\)"):
        claim_folder(tmp_path / "new" / "quickstart.json", {"seed": 1, "list": [1, 2]}, "a quickstart")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.tex").touch()
    with pytest.raises(CompNetError, match="holds something else"):
        claim_folder(tmp_path / "used" / "quickstart.json", {"seed": 0}, "a quickstart")
