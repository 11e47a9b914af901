"""`python -m compnet3d` does what the command `compnet3d` does."""

from __future__ import annotations

from compnet3d.cli.main import main

if __name__ == "__main__":
    main()
