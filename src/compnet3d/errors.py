"""The one exception that users see."""

from __future__ import annotations


class CompNetError(Exception):
    """A problem that the user can fix: one clear sentence naming the file, the field and the fix.

    The command line prints it without a traceback and exits with status 2.
    """
