"""Examples of every command, which the real parser takes, and completion at the Tab key."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest

from compnet3d.cli import main as cli
from compnet3d.cli.completion import script
from compnet3d.cli.examples import EXAMPLES, example_for


def commands(union: Any, above: str = "") -> Iterator[tuple[str, type]]:
    """Every command below a union of classes, by its words."""
    for annotated in get_args(union):
        kind, named = get_args(annotated)[:2]
        words = f"{above} {named.name}".strip()
        yield words, kind
        if "command" in kind.__dataclass_fields__:
            yield from commands(get_type_hints(kind, include_extras=True)["command"], words)


COMMANDS = dict(commands(cli.Command))


def test_every_command_has_an_example_and_no_other_has():
    assert {"train", "data make", "bench loss"} <= set(COMMANDS)
    assert set(EXAMPLES) == {"", *COMMANDS}


@pytest.mark.parametrize("words", [words for words in EXAMPLES if words], ids=str)
def test_an_example_is_one_of_its_command(words):
    typed = shlex.split(EXAMPLES[words].partition(" > ")[0])
    count = len(words.split())
    assert typed[0] == "compnet3d" and typed[1 : 1 + count] == words.split()
    parsed: Any = cli.parse(typed[1:])
    chosen = parsed
    for _ in words.split()[1:]:
        chosen = chosen.command
    assert type(chosen) is COMMANDS[words]


def test_help_ends_with_the_example(capsys):
    for arguments in (["--help"], ["train", "-h"], ["data", "show", "--help"], ["data", "--help"]):
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        assert end.value.code == 0
        words = " ".join(word for word in arguments if word[0] != "-")
        assert capsys.readouterr().out.rstrip().endswith(EXAMPLES[words])
    with pytest.raises(SystemExit):
        cli.main([])
    assert capsys.readouterr().out.rstrip().endswith(EXAMPLES[""])


def test_the_example_is_that_of_the_longest_command():
    assert example_for(["data", "make", "--help"]) == EXAMPLES["data make"]
    assert example_for(["train", "data", "-h"]) == EXAMPLES["train"]
    assert example_for(["nonsense", "-h"]) == EXAMPLES[""]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_reads_the_completion(shell, tmp_path):
    text = script(shell)
    assert "compnet3d" in text and "occluded-pascal3d" in text and "--backbone-weights" in text
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    (tmp_path / "completion").write_text(text)
    subprocess.run([shell, "-n", tmp_path / "completion"], check=True)


def test_bash_completes_commands_and_options(tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    (tmp_path / "completion").write_text(script("bash"))
    lines = """
        source completion
        function=$(complete -p compnet3d | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
        try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); $function; echo "${COMPREPLY[*]}"; }
        try compnet3d ev
        try compnet3d data im
        try compnet3d train --back
        complete -p compnet3d
    """
    done = subprocess.run(["bash", "-c", lines], cwd=tmp_path, capture_output=True, text=True, check=True)
    command, import_, options, default = done.stdout.strip().splitlines()
    assert (command, import_) == ("evaluate", "import")
    assert set(options.split()) == {"--backbone-weights", "--backgrounds"}
    assert "-o default" in default  # files where it knows no word
