"""Reading the object arrays of `.npz` annotations without running what they hold.

A pickle is a program: it names callables and calls them. This reader resolves every name to a stand-in of its own
that only records bytes, shapes and dtypes, so that nothing of the file reaches the import system or numpy's own
unpickling code. Whatever is not a numpy array, scalar or dtype or a plain Python container is an error.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from compnet3d.errors import CompNetError

# what reading a broken file raises, besides OSError
MALFORMED = (
    pickle.UnpicklingError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    OverflowError,
    MemoryError,
    RuntimeError,  # RecursionError too, and zipfile's own for encrypted entries
    UnicodeError,
    ImportError,
    AssertionError,
    struct.error,
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
    except (*MALFORMED, OSError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).strip().strip("'") or type(error).__name__
        raise CompNetError(
            f"{path} is not a readable annotation ({reason}); it must be an .npz file whose key {key!r} holds only "
            "numpy arrays and plain Python values. Restore or remove the file."
        ) from error


def _read_entry(path: Path, entry: str) -> bytes:
    max_entry_bytes = 64 * 2**20  # of one unpacked array: real ones hold a few kilobytes, a zip bomb gigabytes
    with zipfile.ZipFile(path) as archive:
        if entry not in archive.namelist():
            raise ValueError(f"it has no key {entry.removesuffix('.npy')!r}")
        with archive.open(entry) as stream:
            # one byte more than allowed tells that there is more; the size that the archive states may be a lie
            payload = stream.read(max_entry_bytes + 1)
    if len(payload) > max_entry_bytes:
        raise ValueError(f"its {entry} unpacks to more than {max_entry_bytes >> 20} MiB")
    return payload


def _parse_npy(payload: bytes) -> Any:
    max_depth = 32
    stream = io.BytesIO(payload)
    # numpy parses the header as a literal; only what follows it, the pickle, could run anything
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"unknown .npy version {version}")
    if not dtype.hasobject:
        # plain numbers need no pickle, and numpy reads them without one; such are the masks of Occluded-PASCAL3D+
        return np.lib.format.read_array(io.BytesIO(payload), allow_pickle=False)
    # a structured type with objects in it
    if dtype != np.dtype(object):
        raise ValueError(f"dtype {dtype}")
    # a list of one number, so that all levels of the recursion draw on one budget; annotations need a few hundred of
    # the million nodes
    tree = _finish(SafeUnpickler(stream).load(), max_depth, [1_000_000])
    if not isinstance(tree, list):
        raise ValueError("its pickle holds no array")
    return tree


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
            raise pickle.UnpicklingError(f"dtype {code!r} is not admitted")
        self.code = code

    def set_state(self, state: object) -> None:
        # (version, byte order, sub-array, names, fields, ...): the last three must be empty
        if not isinstance(state, tuple) or len(state) < 2 or any(state[2:5]):
            raise pickle.UnpicklingError("a structured dtype is not admitted")
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"byte order {order!r}")
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
        # frombuffer refuses data that do not fill whole elements, reshape a number of them that does not fit the shape
        flat = np.frombuffer(_to_bytes(raw), dtype=dtype.to_numpy())
        # a copy, as the buffer's memory is read-only
        self.value = flat.reshape(shape, order="F" if fortran else "C").copy()


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


def _is_shape(shape: object) -> bool:
    return isinstance(shape, tuple) and len(shape) <= 8 and all(type(n) is int and n >= 0 for n in shape)


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


class SafeUnpickler(_PurePython):
    """An unpickler that admits only numpy arrays, scalars and dtypes, and plain Python containers.

    The pure Python one: its memo is a dictionary, where the compiled one allocates whatever slot a file names.
    """

    # a copy: changing the inherited table would change Python's own unpickler for the whole process
    dispatch: dict[int, Any] = dict(_PurePython.dispatch)

    def __init__(self, stream: io.BytesIO) -> None:
        # latin1 maps each byte to one character and back, so that arrays which Python 2 wrote as text survive
        super().__init__(stream, encoding="latin1")

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
        self.append(function(*arguments))

    def _load_build(self) -> None:
        # BUILD leaves its target on the stack
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, _Dtype | _Array):
            raise pickle.UnpicklingError("it sets the state of something that is not an array")
        target.set_state(state)

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("it uses a pickle instruction that annotations do not need")

    dispatch[pickle.REDUCE[0]] = _load_reduce
    dispatch[pickle.BUILD[0]] = _load_build
    for _opcode in (
        # instructions that call a class, an extension or the reader's own functions, or hand over buffers; the
        # remaining ones only make and move plain values, or look up a name, which `find_class` decides on
        *(pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4),
        *(pickle.PERSID, pickle.BINPERSID, pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    ):
        dispatch[_opcode[0]] = _refuse


def _finish(value: Any, depth: int, budget: list[int]) -> Any:
    """Replace the stand-ins in the tree; the budget stops pickles that share one list a billion times."""
    # counted each time a node is reached, not once for each: a few lists that hold each other twice unfold to 2^n
    budget[0] -= 1
    if depth < 0 or budget[0] < 0:
        raise ValueError("it is nested too deeply or too large")
    if isinstance(value, _Array):
        value = value.value
    if isinstance(value, _ObjectCells):
        cells = np.empty(len(value.cells), dtype=object)
        for i, cell in enumerate(value.cells):
            cells[i] = _finish(cell, depth - 1, budget)
        return cells.reshape(value.shape, order="F" if value.fortran else "C").tolist()
    if isinstance(value, dict):
        return {_finish(k, depth - 1, budget): _finish(v, depth - 1, budget) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(_finish(v, depth - 1, budget) for v in value)
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.ndarray | np.generic):
        return value
    # such as a stand-in that was named but never called
    raise ValueError(f"it holds a {type(value).__name__.strip('_')}")
