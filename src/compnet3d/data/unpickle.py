"""Reading the object arrays of `.npz` annotations without running what they hold.

A pickle is a program: it names callables and calls them. This reader resolves every name to a stand-in of its own
that only records bytes, shapes and dtypes, so that nothing of the file reaches the import system or numpy's own
unpickling code. Whatever is not a numpy array, scalar or dtype or a plain Python container is an error.

A few bytes can also stand for years of work, so everything is counted before it is done: instructions, bytes that are
handed over, sides of arrays, nodes of the tree; and nothing that the file holds is hashed but plain short values.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import zipfile
from collections.abc import Iterable, Sized
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from compnet3d.errors import CompNetError
from compnet3d.utils.files import read_bytes


class MissingKey(CompNetError):
    """An `.npz` file without the key that was asked for; `keys` are those that it has."""

    def __init__(self, path: Path, key: str, keys: Iterable[str]) -> None:
        self.keys = frozenset(keys)
        super().__init__(
            f"{path} is not a readable annotation (it has no key {key!r}); it must be an .npz file whose key {key!r} "
            "holds only numpy arrays and plain Python values. Restore or remove the file."
        )


def load_npz_objects(path: Path | str, key: str) -> Any:
    """The entry `key` of an `.npz` file: plain Python containers, numbers, strings and numpy arrays.

    Object arrays come back as nested lists. Nothing that the file holds is ever executed.

    Raises:
        CompNetError: naming the file, if it is missing, broken, or holds anything else.
    """
    path = Path(path)
    try:
        payload = _read_entry(path, f"{key}.npy")
        return _parse_npy(payload)
    except FileNotFoundError as error:
        raise CompNetError(f"{path} does not exist.") from error
    except CompNetError:
        raise
    except Exception as error:
        # numpy's parser of headers and those of zip and pickle raise anything on broken bytes
        reason = " ".join(str(error).strip().strip("'").split())[:120] or type(error).__name__
        raise CompNetError(
            f"{path} is not a readable annotation ({reason}); it must be an .npz file whose key {key!r} holds only "
            "numpy arrays and plain Python values. Restore or remove the file."
        ) from error


def _read_entry(path: Path, entry: str) -> bytes:
    max_bytes = 64 * 2**20  # of the file and of one unpacked array: real ones hold a few kilobytes, a bomb gigabytes
    max_entries = 1000
    data = read_bytes(path, max_bytes)
    # in the archive's directory each entry begins like this
    if data.count(b"PK\x01\x02") > max_entries:
        raise ValueError("it is an archive of too many files")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if entry not in archive.namelist():
            keys = (name.removesuffix(".npy") for name in archive.namelist())
            raise MissingKey(path, entry.removesuffix(".npy"), keys)
        if archive.getinfo(entry).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("it is compressed in a way that numpy does not use")
        with archive.open(entry) as stream:
            # one byte more than allowed tells that there is more; the size that the archive states may be a lie
            payload = stream.read(max_bytes + 1)
    if len(payload) > max_bytes:
        raise ValueError(f"its {entry} unpacks to more than {max_bytes >> 20} MiB")
    return payload


def _parse_npy(payload: bytes) -> Any:
    max_depth = 32
    stream = io.BytesIO(payload)
    # numpy parses the header as a literal; only what follows it, the pickle, could run anything
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        size = int.from_bytes(payload[8:10], "little")
        shape, fortran, dtype = _header(payload[8 : 10 + size])
        stream.seek(10 + size)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"unknown .npy version {version}")
    if not dtype.hasobject:
        # plain numbers need no pickle; such are the masks of Occluded-PASCAL3D+
        return _plain_array(payload[stream.tell() :], shape, dtype, fortran)
    # a structured type with objects in it
    if dtype != np.dtype(object):
        raise ValueError("its type is a structure")
    # a list of one number, so that all levels of the recursion draw on one budget; annotations need a few hundred of
    # these nodes
    tree = _finish(SafeUnpickler(stream).load(), max_depth, [250_000])
    if not isinstance(tree, list):
        raise ValueError("its pickle holds no array")
    return tree


@lru_cache(maxsize=64)
def _header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran's order and type of a header of version 1; the files of a data set have a few different ones."""
    return np.lib.format.read_array_header_1_0(io.BytesIO(header))


def _plain_array(raw: bytes, shape: object, dtype: np.dtype[Any], fortran: object) -> np.ndarray:
    """The array that bytes hold; neither type nor shape is believed before they fit the bytes."""
    if dtype.kind not in "biufcSU" or not _is_shape(shape):
        raise ValueError("its type or shape is not that of plain numbers")
    # frombuffer refuses data that do not fill whole elements, reshape a number of them that does not fit the shape
    flat = np.frombuffer(raw, dtype=dtype)
    # a copy, as the buffer's memory is read-only
    return flat.reshape(shape, order="F" if fortran else "C").copy()


class _Dtype:
    """Stand-in for a pickled numpy.dtype."""

    __slots__ = ("code",)

    def __init__(self, code: object, align: object = False, copy: object = True) -> None:
        # as Python 2 writes it
        if isinstance(code, bytes):
            code = code.decode("ascii")
        # plain numbers, truth values, texts and objects; no times, no records, and nothing that numpy would have to
        # look up
        if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?([biufc](1|2|4|8|16)|\?|[SU]\d{1,6}|O8?)", code):
            raise pickle.UnpicklingError("it has a dtype that is not admitted")
        self.code = code

    def set_state(self, state: object) -> None:
        # (version, byte order, sub-array, names, fields, ...): the last three must be empty
        if not isinstance(state, tuple) or len(state) < 2 or any(state[2:5]):
            raise pickle.UnpicklingError("a structured dtype is not admitted")
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("it has an unknown byte order")
        # the name has no byte order in pickles, it comes with the state
        if self.code[0] not in "<>|=":
            self.code = order + self.code

    @property
    def is_object(self) -> bool:
        return self.code.lstrip("<>|=").startswith("O")

    def to_numpy(self) -> np.dtype[Any]:
        return np.dtype(self.code)


class _Array:
    """Stand-in for a pickled numpy array: filled by its state, converted when the pickle is complete."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Any = None

    def set_state(self, state: object) -> None:
        # (version, shape, dtype, whether in Fortran's order, data); old pickles have no version
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise pickle.UnpicklingError("a malformed array state")
        shape, dtype, fortran, raw = state[-4:]
        if not isinstance(dtype, _Dtype) or not _is_shape(shape):
            raise pickle.UnpicklingError("a malformed array state")
        if dtype.is_object:
            if not isinstance(raw, list) or len(raw) != math.prod(shape):
                raise pickle.UnpicklingError("an object array whose size and shape differ")
            self.value = _ObjectCells(shape, raw, bool(fortran))
            return
        self.value = _plain_array(_to_bytes(raw), shape, dtype.to_numpy(), fortran)


class _ObjectCells:
    __slots__ = ("cells", "fortran", "shape")

    def __init__(self, shape: tuple[int, ...], cells: list[Any], fortran: bool) -> None:
        self.shape, self.cells, self.fortran = shape, cells, fortran


class _NdarrayType:
    """Stand-in for the type numpy.ndarray, which pickles name as an argument only."""

    __slots__ = ()


def _reconstruct(kind: object, shape: object, code: object) -> _Array:
    # shape and type given here are those of an empty array; the state that follows has the real ones
    if kind is not _NdarrayType:
        raise pickle.UnpicklingError("an array of an unexpected type")
    return _Array()


def _scalar(dtype: object, raw: object = b"") -> Any:
    if not isinstance(dtype, _Dtype) or dtype.is_object:
        raise pickle.UnpicklingError("a malformed scalar")
    return np.frombuffer(_to_bytes(raw), dtype=dtype.to_numpy(), count=1)[0]


# how Python 3 writes bytes in the old protocols: as a text and a call that turns it back
def _encode(text: object, encoding: object = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("an encoding other than latin1")
    return text.encode("latin-1")


def _to_bytes(raw: object) -> bytes:
    # Pickles written by Python 2 hold array bytes as text; SafeUnpickler decodes such text as latin1.
    return raw if isinstance(raw, bytes) else _encode(raw)


def _is_shape(shape: Any) -> TypeGuard[tuple[int, ...]]:
    longest_side, most_without_any = 2**26, 1000
    if not isinstance(shape, tuple) or len(shape) > 8 or not all(type(n) is int for n in shape):
        return False
    # beside a side of zero the others may be anything, and each of them would become a list
    return all(0 <= n <= longest_side for n in shape) and (
        0 not in shape or math.prod(n for n in shape if n) <= most_without_any
    )


def _check_hashable(keys: Iterable[Any]) -> None:
    """Admit as keys and elements of sets what is hashed and compared at once: a tuple may hold itself 2^60 times."""
    longest = 1000
    for key in keys:
        small = key.bit_length() <= 64 if isinstance(key, int) else key is None or isinstance(key, float | np.number)
        if not small and not (isinstance(key, str | bytes) and len(key) <= longest) and not isinstance(key, np.bool_):
            raise pickle.UnpicklingError("it has a key that is no short text and no number")


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NdarrayType,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.multiarray", name): stand_in
        # numpy 2 has renamed the module
        for core in ("core", "_core")
        for name, stand_in in (("_reconstruct", _reconstruct), ("scalar", _scalar))
    },
}


_PurePython: Any = pickle._Unpickler  # type: ignore[attr-defined,unused-ignore]


class _Counted:
    """A table of instructions that counts each before it is followed; an error after so many."""

    def __init__(self, table: dict[int, Any], most: int) -> None:
        self._table, self._left = table, most

    def __getitem__(self, code: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise pickle.UnpicklingError("it is too large")
        return self._table[code]


class SafeUnpickler(_PurePython):
    """An unpickler that admits only numpy arrays, scalars and dtypes, and plain Python containers.

    The pure Python one: its memo is a dictionary, where the compiled one allocates whatever slot a file names.
    """

    # a copy: changing the inherited table would change Python's own unpickler for the whole process
    dispatch: Any = dict(_PurePython.dispatch)

    def __init__(self, stream: io.BytesIO) -> None:
        # latin1 maps each byte to one character and back, so that arrays which Python 2 wrote as text survive
        super().__init__(stream, encoding="latin1")
        # annotations need a few hundred instructions and bytes; a part of the file may be handed over many times
        most, self._work_left = 250_000, 128 * 2**20
        # an instruction is a byte or more, so that those of small files need no counting
        if stream.getbuffer().nbytes > most:
            self.dispatch = _Counted(type(self).dispatch, most)

    def _count_work(self, handed_over: tuple[Any, ...]) -> None:
        self._work_left -= len(handed_over) + sum(len(x) for x in handed_over if isinstance(x, str | bytes | tuple))
        if self._work_left < 0:
            raise pickle.UnpicklingError("it is too large")

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of an admitted name; an error for every other."""
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no annotation needs: do not trust it")
        return _ADMITTED[(module, name)]

    def _load_reduce(self) -> None:
        callables = (_Dtype, _reconstruct, _scalar, _encode)
        arguments, function = self.stack.pop(), self.stack.pop()
        # compared by identity: what lies on the stack may be anything, and == could call a method of it
        if not any(function is admitted for admitted in callables) or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("it calls something that is not admitted")
        self._count_work(arguments)
        self.append(function(*arguments))

    def _load_build(self) -> None:
        # BUILD leaves its target on the stack
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, _Dtype | _Array) or not isinstance(state, tuple):
            raise pickle.UnpicklingError("it sets the state of something that is not an array")
        self._count_work(state)
        target.set_state(state)

    def _load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill_dict([key, value])

    def _load_setitems(self) -> None:
        self._fill_dict(self.pop_mark())

    def _load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._fill_dict(items)

    def _fill_dict(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict:
            raise pickle.UnpicklingError("it fills something that is not a dict")
        _check_hashable(items[::2])
        target.update(zip(items[::2], items[1::2], strict=True))

    def _load_additems(self) -> None:
        items, target = self.pop_mark(), self.stack[-1]
        if type(target) is not set:
            raise pickle.UnpicklingError("it fills something that is not a set")
        _check_hashable(items)
        target.update(items)

    def _load_frozenset(self) -> None:
        items = self.pop_mark()
        _check_hashable(items)
        self.append(frozenset(items))

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("it uses a pickle instruction that annotations do not need")

    dispatch[pickle.REDUCE[0]] = _load_reduce
    dispatch[pickle.BUILD[0]] = _load_build
    dispatch[pickle.SETITEM[0]], dispatch[pickle.SETITEMS[0]] = _load_setitem, _load_setitems
    dispatch[pickle.DICT[0]], dispatch[pickle.ADDITEMS[0]] = _load_dict, _load_additems
    dispatch[pickle.FROZENSET[0]] = _load_frozenset
    for _opcode in (
        # instructions that call a class, an extension or the reader's own functions, or hand over buffers; the
        # remaining ones only make and move plain values, or look up a name, which `find_class` decides on
        *(pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4),
        *(pickle.PERSID, pickle.BINPERSID, pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    ):
        dispatch[_opcode[0]] = _refuse


def _finish(value: Any, depth: int, budget: list[int]) -> Any:
    """Replace the stand-ins in the tree; the budget stops pickles that share one list a billion times."""
    if isinstance(value, _Array):
        value = value.value
    if isinstance(value, _ObjectCells):
        _enter(value.cells, depth, budget)
        cells = np.empty(len(value.cells), dtype=object)
        for i, cell in enumerate(value.cells):
            cells[i] = _finish(cell, depth - 1, budget)
        return cells.reshape(value.shape, order="F" if value.fortran else "C").tolist()
    if isinstance(value, dict):
        _enter(value, depth, budget)
        return {k: _finish(v, depth - 1, budget) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        _enter(value, depth, budget)
        return type(value)(_finish(v, depth - 1, budget) for v in value)
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.ndarray | np.generic):
        return value
    # such as a stand-in that was named but never called
    raise ValueError(f"it holds a {type(value).__name__.strip('_')}")


def _enter(container: Sized, depth: int, budget: list[int]) -> None:
    """Count the nodes in a container before any of them is looked at."""
    # counted each time they are reached, not once for each: a few lists that hold each other twice unfold to 2^n
    budget[0] -= len(container)
    if depth <= 0 or budget[0] < 0:
        raise ValueError("it is nested too deeply or too large")
