"""`compnet3d completion`."""

from __future__ import annotations

import io
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional


@dataclass(frozen=True)
class Completion:
    """Print what makes a shell complete commands, options and files at the Tab key.

    bash: write it to ~/.local/share/bash-completion/completions/compnet3d (or `source` it in ~/.bashrc).
    zsh: write it to ~/.zfunc/_compnet3d, and have `fpath+=~/.zfunc; autoload -U compinit; compinit` in ~/.zshrc.
    Then begin a new shell. Do so again after an update.
    """

    shell: Positional[Literal["bash", "zsh"]]
    """For which shell."""

    def run(self) -> None:
        """Print the script."""
        print(script(self.shell))


def script(shell: str) -> str:
    """The script for a shell, which the parser of our commands writes."""
    from compnet3d.cli.main import parse

    output = io.StringIO()
    with redirect_stdout(output), suppress(SystemExit):
        parse(["--tyro-print-completion", shell])
    # where it knows no word it shall complete files: the images of predict, say
    return output.getvalue().replace("complete -F ", "complete -o default -F ").rstrip()
