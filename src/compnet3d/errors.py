"""The one exception that users see, and the one of a command that is to end."""

from __future__ import annotations


class CompNetError(Exception):
    """A problem that the user can fix: one clear sentence naming the file, the field and the fix.

    The command line prints it without a traceback and exits with status 2.
    """


class Terminated(KeyboardInterrupt):
    """SIGTERM has come: a command ends as after Ctrl-C, with the status of that signal."""
