"""Broken files made from whole ones: of bytes, of what a zip archive holds, of JSON values."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from hypothesis import strategies as st

Form = Literal["bytes", "text", "json", "npz"]


@dataclass(frozen=True)
class Seed:
    """A whole file that is to be broken.

    Attributes:
        path: below the target's folder.
        data: what is in it.
        form: what may be changed without the outermost parser's noticing: an entry of an archive, a JSON value.
    """

    path: str
    data: bytes
    form: Form = "bytes"


def broken(seed: Seed) -> st.SearchStrategy[bytes]:
    """Files made from a whole one, by a few changes."""
    plain = st.lists(_changes(), min_size=1, max_size=6).map(lambda changes: change(seed.data, changes))
    if seed.form == "npz":
        inner = st.lists(_changes(), min_size=1, max_size=6)
        return inner.map(lambda changes: rezip(seed.data, lambda entry: change(entry, changes))) | plain
    if seed.form == "json":
        odd = st.tuples(st.integers(0, 10**6), st.sampled_from(("set", "drop", "rename", "repeat")), odd_values())
        edits = st.lists(odd, min_size=1, max_size=3)
        return edits.map(lambda many: edit_json(seed.data, many)) | plain
    return plain


def odd_values() -> st.SearchStrategy[Any]:
    """JSON values that nobody means: of any type, far too large, too deep, not finite."""
    leaves = (
        st.none() | st.booleans() | st.text(max_size=8) | st.floats() | st.integers(-(10**30), 10**30)
        | st.sampled_from([0, -1, 1, 2**31, 2**63, 10**9, 1e308, -1e308, 1e-320, "", "..", "/etc/passwd", "a" * 300])
        | st.sampled_from([[], {}, [[]], "nan", "\x00", "\ud800", True, [10**9], [0] * 1000])
    )  # fmt: skip
    return st.recursive(leaves, lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=4), x, max_size=3))


Change = tuple[str, float, int, bytes]


def _changes() -> st.SearchStrategy[Change]:
    tokens = [b"", b"-", b"nan", b"inf", b"1e308", b"1e-40", b"99999999999999999999", b"\x00", b"\xff\xfe", b"\n" * 9]
    return st.tuples(
        st.sampled_from(("flip", "set", "insert", "cut", "copy", "end", "word")),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 2**32 - 1),
        st.sampled_from(tokens) | st.binary(max_size=12),
    )


def change(data: bytes, changes: list[Change]) -> bytes:
    """Apply changes one after the other, each at its place, a share of the length."""
    made = bytearray(data)
    for kind, where, number, token in changes:
        at = int(where * len(made))
        if kind == "flip" and made:
            made[at] ^= 1 << (number % 8)
        elif kind == "set" and made:
            made[at] = number % 256
        elif kind == "insert":
            made[at:at] = token
        elif kind == "cut":
            del made[at : at + 1 + number % 64]
        elif kind == "copy":
            made[at:at] = made[at : at + number % 4096]
        elif kind == "end":
            del made[at:]
        elif kind == "word":  # a length or an offset, in either order of bytes
            made[at : at + 4] = number.to_bytes(4, "little" if number % 2 else "big")
    return bytes(made)


def rezip(data: bytes, edit: Callable[[bytes], bytes]) -> bytes:
    """An archive with every entry edited and its checksum right."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as whole, zipfile.ZipFile(stream, "w") as made:
        for info in whole.infolist():
            made.writestr(info.filename, edit(whole.read(info)))
    return stream.getvalue()


def edit_json(data: bytes, edits: list[tuple[int, str, Any]]) -> bytes:
    """A JSON file with some of its values set, dropped, renamed or repeated."""
    tree = json.loads(data)
    for number, kind, value in edits:
        places = list(_places(tree))
        value = copy.deepcopy(value)  # or a later edit could put it into itself
        if not places:
            return json.dumps(value).encode()
        holder, key = places[number % len(places)]
        if kind == "drop":
            del holder[key]
        elif kind == "rename" and isinstance(holder, dict):
            holder[str(value)[:40]] = holder.pop(key)
        elif kind == "repeat" and isinstance(holder, list):
            holder.extend([holder[key]] * (number % 300))
        else:
            holder[key] = value
    return json.dumps(tree).encode()


def _places(tree: Any) -> Any:
    """All holders and keys of a JSON value, from the top down."""
    entries = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    for key, value in entries:
        yield tree, key
        yield from _places(value)
