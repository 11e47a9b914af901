"""Settings kept in dataclasses within dataclasses: read from JSON, YAML and text, changed by dotted names, checked."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, field, fields, is_dataclass, replace
from difflib import SequenceMatcher
from functools import cache
from reprlib import Repr
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

S = TypeVar("S")


def setting(
    default: Any = MISSING,
    *,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    later: bool = False,
) -> Any:
    """A dataclass field with the range of its number or numbers: at least `least`, below `below`, at most `most`.

    One that came `later` is lacking in files of earlier versions (see `check_groups`).
    """
    return field(default=default, metadata={"least": least, "below": below, "most": most, "later": later})


def leaves(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of all settings, those within other settings too."""
    for entry in fields(settings):
        value = getattr(settings, entry.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{entry.name}.")
        else:
            yield prefix + entry.name, value


def check_ranges(settings: Any, prefix: str = "") -> None:
    """Check that every number is in the range of its field.

    Raises:
        ValueError: naming the setting, its range and the value.
    """
    owner: Any = type(settings)
    for entry in fields(settings):
        value, name = getattr(settings, entry.name), prefix + entry.name
        if is_dataclass(value):
            check_ranges(value, f"{name}.")
            continue
        kind = _hints(owner)[entry.name]
        # the range is that of the number where there is one
        if (value is None and _is_optional(kind)) or _fits(value, entry.metadata):
            continue
        raise _refused(name, value, kind, entry)


def read(kind: type[S], values: Mapping[str, Any], prefix: str = "") -> S:
    """Settings from what JSON or YAML gives; those that it does not give have their defaults.

    Raises:
        ValueError: naming the setting that is unknown, of another type or not finite, or out of range.
        TypeError: naming a setting that is missing and has no default.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{prefix.rstrip('.') or 'content'} must be a group of settings, not {shown(values)}")
    given = {str(name): value for name, value in values.items()}
    known = {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            raise _unknown(prefix + name, [prefix + other for other in known])
    for name, entry in known.items():
        if name not in given and entry.default is MISSING and entry.default_factory is MISSING:
            # not a ValueError: callers tell a file that is no recipe at all from one with a wrong value
            raise TypeError(f"{prefix}{name} is missing")
    return kind(**{name: _converted(kind, known[name], value, prefix) for name, value in given.items()})


def check_groups(kind: type, values: Any) -> None:
    """Check that every group of settings within what is to be read is given, and whole.

    Raises:
        ValueError: naming the first that is missing.
    """
    for name, inner in _hints(kind).items():
        if is_dataclass(inner):
            group = values.get(name) if isinstance(values, Mapping) else None
            for entry in fields(inner):
                # what earlier versions did not write yet has its default
                if not isinstance(group, Mapping) or (entry.name not in group and not entry.metadata.get("later")):
                    raise ValueError(f"{name}.{entry.name} is missing")


def known(kind: type, values: Any) -> dict[str, Any]:
    """Those entries of a mapping that are settings of this kind."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{shown(values)} is no group of entries")
    return {entry.name: values[entry.name] for entry in fields(kind) if entry.name in values}


def changed(settings: S, changes: Mapping[str, Any], prefix: str = "", names: list[str] | None = None) -> S:
    """A copy with some settings changed.

    Args:
        changes: new values by dotted name, such as {"loss.kappa": 20}. Text is taken where it says a number.

    Raises:
        ValueError: naming the setting that is unknown (and the nearest one), of another type or out of range.
    """
    # of the whole recipe, also in the recursion: the nearest name may lie in another part
    names = [name for name, _ in leaves(settings)] if names is None else names
    known = {entry.name: entry for entry in fields(settings)}  # type: ignore[arg-type]
    new: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        first, _, rest = name.partition(".")
        if first not in known or (rest and not is_dataclass(getattr(settings, first))):
            raise _unknown(prefix + name, names)
        if rest:
            inner.setdefault(first, {})[rest] = value
        else:
            new[first] = _converted(type(settings), known[first], value, prefix)
    for first, values in inner.items():
        # all changes of a part at once, on top of the part itself where that was replaced too, whichever came first
        new[first] = changed(new.get(first, getattr(settings, first)), values, f"{prefix}{first}.", names)
    copy: S = replace(settings, **new)  # type: ignore[type-var]
    return copy


def plain(settings: Any) -> Any:
    """Settings as JSON and YAML have them: mappings, lists, numbers and text."""
    if is_dataclass(settings):
        return {entry.name: plain(getattr(settings, entry.name)) for entry in fields(settings)}
    if isinstance(settings, Mapping):
        return {name: plain(value) for name, value in settings.items()}
    return [plain(value) for value in settings] if isinstance(settings, list | tuple) else settings


def nearest(name: str, names: list[str]) -> str:
    """The known name that is most like another; the last part of a dotted name counts by itself, too."""

    def likeness(other: str) -> float:
        whole = SequenceMatcher(None, name, other).ratio()
        # a little less than a match of the whole name: of two parts with the same last name the more alike one wins
        return max(whole, 0.99 * SequenceMatcher(None, name.rpartition(".")[2], other.rpartition(".")[2]).ratio())

    return max(names, key=likeness)


def shown(value: Any) -> str:
    """A value of any depth and length as a message shows it."""
    short = Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    return short.repr(value)


# -- types ---------------------------------------------------------------------------------------------------------


@cache
def _hints(kind: Any) -> dict[str, Any]:
    # a study reads thousands of recipes, and Python compiles the hints anew each time
    return get_type_hints(kind)


def _is_optional(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind)


def _converted(owner: type, entry: Field[Any], value: Any, prefix: str) -> Any:
    """A value as its field wants it."""
    kind, name = _hints(owner)[entry.name], prefix + entry.name
    found = _as(kind, value, name)
    # here as well as in `check_ranges`, to which settings within others are not known by their whole name
    if found is None or is_dataclass(found) or (found is not MISSING and _fits(found, entry.metadata)):
        return found
    raise _refused(name, value if found is MISSING else found, kind, entry)


def _as(kind: Any, value: Any, name: str) -> Any:
    """A value as a type; MISSING where it cannot be."""
    scalars: dict[type, Callable[[Any], Any]] = {
        bool: lambda value: value if isinstance(value, bool) else MISSING,
        int: _as_whole_number,
        float: _as_number,
        str: _as_text,
    }
    if _is_optional(kind):
        # "none" comes from the command line, where Python's spelling is as likely as YAML's
        if value is None or (isinstance(value, str) and value.lower() in ("none", "null")):
            return None
        (kind,) = (other for other in get_args(kind) if other is not type(None))
    if is_dataclass(kind):
        # from Python, a part may come as it is; from a file it is a mapping
        if isinstance(value, kind):  # type: ignore[arg-type]
            return value
        return read(kind, value, f"{name}.") if isinstance(value, Mapping) else MISSING  # type: ignore[arg-type]
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return next((other for other in inner if other == value and type(other) is type(value)), MISSING)
    if origin is tuple:
        return _as_tuple(inner, value, name)
    if origin in (dict, Mapping):
        return _as_mapping(inner, value, name)
    return scalars[kind](value)


def _as_tuple(inner: tuple[Any, ...], value: Any, name: str) -> Any:
    # text such as 0.8,1.25 is what --set gives where YAML sees no list
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        return MISSING
    kinds = [inner[0]] * len(parts) if inner[-1] is Ellipsis else list(inner)
    if len(kinds) != len(parts):
        return MISSING
    found = tuple(_as(kind, part, name) for kind, part in zip(kinds, parts, strict=True))
    return MISSING if any(part is MISSING for part in found) else found


def _as_mapping(inner: tuple[Any, ...], value: Any, name: str) -> Any:
    if not isinstance(value, Mapping):
        return MISSING
    if inner[1] is Any:
        return dict(value)
    found = {str(key): _as(inner[1], part, f"{name}.{key}") for key, part in value.items()}
    return MISSING if any(part is MISSING for part in found.values()) else found


def _as_number(value: Any) -> Any:
    """YAML takes 1e-4, without a point, for text."""
    # True is an int to Python; a switch where a number belongs is a mistake
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return MISSING
    try:
        number = float(value)
    except (ValueError, OverflowError):  # text of something else; a whole number of hundreds of digits
        return MISSING
    return number if math.isfinite(number) else MISSING


def _fits(value: Any, limits: Mapping[str, Any]) -> bool:
    """Whether a number, or all of a tuple's, are in a range; anything else is where there is no range."""
    if isinstance(value, tuple):
        return all(_fits(part, limits) for part in value)
    least, below, most = (limits.get(name) for name in ("least", "below", "most"))
    if least is None and below is None and most is None:
        return value is not None
    # written so that a number that is none (nan) is outside
    fits = value is not None and (least is None or value >= least) and (below is None or value < below)
    return fits and (most is None or value <= most)


def _as_whole_number(value: Any) -> Any:
    """One that fits a tensor, and that a float can say."""
    fits = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return value if fits else MISSING


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else MISSING


# -- messages ------------------------------------------------------------------------------------------------------


def _unknown(name: str, names: list[str]) -> ValueError:
    return ValueError(f"{shown(name)[1:-1]} is unknown; the nearest setting is {nearest(name[:100], names)}")


def _refused(name: str, value: Any, kind: Any, entry: Field[Any]) -> ValueError:
    """What a setting must be: "at least 1 (a whole number)"."""
    words = (("at least", "least"), ("below", "below"), ("at most", "most"))
    found = [(word, entry.metadata.get(name)) for word, name in words]
    limits = [f"{word} {limit:,}" for word, limit in found if limit is not None]
    described = _described(kind)
    allowed = f"{' and '.join(limits)} ({described})" if limits else described
    return ValueError(f"{name} must be {allowed}, not {shown(value)}")


def _described(kind: Any) -> str:
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text", dict: "a mapping"}
    if _is_optional(kind):
        (other,) = (inner for inner in get_args(kind) if inner is not type(None))
        return f"{_described(other)} or null"
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}" if len(inner) > 1 else str(inner[0])
    if origin is tuple:
        return (
            f"a list of {len(inner)} numbers" if inner[-1] is not Ellipsis else f"a list, each {_described(inner[0])}"
        )
    return "a group of settings" if is_dataclass(kind) else kinds[dict if origin is Mapping else origin or kind]
