"""Texts of others on a terminal."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """A text with what steers a terminal escaped: a file's name may hold sequences that move the cursor or hide words.

    These are control characters but newline and tab, marks that turn the direction of writing, and bytes that are no
    character.
    """
    turns = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

    def shown(character: str) -> str:
        steers = unicodedata.category(character) in ("Cc", "Cs") or character in turns
        return character.encode("unicode_escape").decode() if steers and character not in "\n\t" else character

    return text if text.isprintable() else "".join(map(shown, text))
