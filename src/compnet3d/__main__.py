"""`python -m compnet3d` does what the command `compnet3d` does."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line; Ctrl-C is no fault while Python still reads the program, or ends, either."""
    try:
        from compnet3d.cli.main import main as run
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)
    try:
        run()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
