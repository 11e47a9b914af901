from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compnet3d.utils.text import printable


@pytest.mark.parametrize("text", ["car/a 1.jpg", "测试.jpg", "naïve\u00a0name", "a\n\tb", ""])
def test_what_people_write_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Ja.jpg", "\\x1b[2Ja.jpg"),
        ("a\rb", "a\\rb"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        ("\udcff", "\\udcff"),
        ("\x00", "\\x00"),
    ],
)
def test_what_steers_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_no_control_character_is_left(text: str) -> None:
    assert not any(ord(c) < 32 and c not in "\n\t" or 127 <= ord(c) < 160 for c in printable(text))
