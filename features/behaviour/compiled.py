"""Compiled: the one door to numba; kernels are cached on disk under a digest of every kernel's source."""

import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numba
import numpy as np
from llvmlite.ir import Constant, FunctionType, IntType, VoidType
from numba import types
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.caching import _CacheLocator as CacheLocator
from numba.core.cgutils import get_or_insert_function, unpack_tuple
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array
from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

DECORATOR = b"@compiled"
HERE = Path(__file__).parent


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """The function as machine code: releases the GIL, keeps IEEE arithmetic, cached on disk; it makes no arrays.

    Numba counts references to every array of a tuple that a loop hands on, for each event, which takes longer than the
    loops themselves. What makes no array needs no count.

    Numba itself looks for edits in the function's own file only. The digest in the cache's path covers every kernel,
    so an edit in a callee is seen. Without a writable folder kernels are compiled anew in each process.
    """
    return _machine_code(function, _nrt=False)


def compiled_inside(function: Callable[P, R]) -> Callable[P, R]:
    """The same for a function that other loops call, and Python never.

    It has no door for Python, which takes longer to compile than a small loop does, and becomes a part of its caller:
    handing on the arrays of a user and a table, two hundred words, would take longer than most loops.
    """
    return _machine_code(function, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)


def compiled_allocating(function: Callable[P, R]) -> Callable[P, R]:
    """The same for a function that makes arrays."""
    return _machine_code(function)


def _machine_code(function: Callable[P, R], **options: bool) -> Callable[P, R]:
    dispatcher = numba.njit(nogil=True, error_model="numpy", **options)(function)
    if cache_folder(Path(function.__code__.co_filename).parent) is not None:
        dispatcher._cache = _Cache(function)
    return dispatcher  # type: ignore[no-any-return] # numba ships no types


class _ByDigest(CacheLocator):  # type: ignore[misc] # numba ships no types
    """Where machine code is kept: found by what the sources say, so that a copy of them, as in a Bento, finds it."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._line = function.__code__.co_firstlineno
        self._folder = cache_folder(Path(function.__code__.co_filename).parent)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return self._folder.name if self._folder else ""

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, function: Callable[..., object], _file: str) -> "_ByDigest":
        return cls(function)


class _Implementation(CompileResultCacheImpl):  # type: ignore[misc] # numba ships no types
    _locator_classes = (_ByDigest,)


class _Cache(FunctionCache):  # type: ignore[misc] # numba ships no types
    _impl_class = _Implementation


@intrinsic  # type: ignore[untyped-decorator] # numba ships no types
def place(typing: Any, k: Any) -> Any:  # noqa: ANN401 - numba's own types
    """The integer as an index that is not negative: spares each access the look for one that counts from the end.

    For indices only: numba makes a float of an unsigned and a signed integer.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        return context.cast(builder, arguments[0], k, types.uint64)

    return types.uint64(k), generate


@intrinsic  # type: ignore[untyped-decorator] # numba ships no types
def ahead(typing: Any, slots: Any, row: Any) -> Any:  # noqa: ANN401 - numba's own types
    """Ask memory for a row that is read soon; one that does not exist is nothing to it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        array = make_array(signature.args[0])(context, builder, arguments[0])
        row = context.cast(builder, arguments[1], signature.args[1], types.int64)
        cell = builder.mul(row, unpack_tuple(builder, array.shape)[1])
        byte, number = IntType(8).as_pointer(), IntType(32)
        kind = FunctionType(VoidType(), [byte, number, number, number])
        asking = get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        address = builder.bitcast(builder.gep(array.data, [cell]), byte)
        builder.call(asking, [address, number(0), number(3), number(1)])  # to read, into the nearest cache, data
        return context.get_dummy_value()

    return types.void(slots, row), generate


def views(arrays: Sequence[NDArray[Any]]) -> Ints:
    """Where arrays are: address, length, width; handed to a loop as one array, which is a hundred times cheaper.

    The caller keeps the arrays alive. They are contiguous, of one dimension or two.

    Returns:
        Shape (n_arrays, 3).
    """
    return np.array([(each.ctypes.data, len(each), each.shape[-1]) for each in arrays], np.int64).reshape(-1, 3)


def _view(n_dimensions: int, dtype: Any = types.int64) -> Any:  # noqa: ANN401 - numba's own types
    """The k-th of `views`' arrays, for arrays of so many dimensions and a type."""
    kind = types.Array(dtype, n_dimensions, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        word = context.get_value_type(types.int64)
        first = builder.mul(context.cast(builder, arguments[1], signature.args[1], types.int64), Constant(word, 3))
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        cells = [builder.gep(data, [builder.add(first, Constant(word, cell))]) for cell in range(3)]
        address, *shape = (builder.load(cell) for cell in cells[: n_dimensions + 1])
        array, size = make_array(kind)(context, builder), Constant(word, dtype.bitwidth // 8)
        strides = [size] if n_dimensions == 1 else [builder.mul(shape[1], size), size]
        pointer = builder.inttoptr(address, array.data.type)
        populate_array(array, data=pointer, shape=shape, strides=strides, itemsize=size, meminfo=None)
        return array._getvalue()

    def view(typing: Any, arrays: Any, k: Any) -> Any:  # noqa: ANN401
        return kind(arrays, k), generate

    return intrinsic(view)


vector, grid = _view(1), _view(2)
reals, plane = _view(1, types.float64), _view(2, types.float64)
singles, singles_grid = _view(1, types.float32), _view(2, types.float32)
shorts, shorts_grid = _view(1, types.int32), _view(2, types.int32)
"""In loops, `vector(arrays, k)` is the k-th of the arrays that `views` was given; each for one type and shape."""


@intrinsic  # type: ignore[untyped-decorator] # numba ships no types
def table_of(typing: Any, words: Any, width: Any) -> Any:  # noqa: ANN401 - numba's own types
    """The memory of an array of one dimension, which may be a text's bytes, as rows so wide; nobody writes to it."""
    kind = types.Array(types.int64, 2, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        given, size = make_array(signature.args[0])(context, builder, arguments[0]), context.get_constant(types.intp, 8)
        columns = context.cast(builder, arguments[1], signature.args[1], types.intp)
        shape = [builder.sdiv(given.nitems, columns), columns]
        array = make_array(kind)(context, builder)
        strides = [builder.mul(columns, size), size]
        populate_array(array, data=given.data, shape=shape, strides=strides, itemsize=size, meminfo=None)
        return array._getvalue()

    return kind(words, width), generate


@cache
def cache_folder(sources: Path) -> Path | None:
    """Where machine code from `sources` is kept: under NUMBA_CACHE_DIR, the user's cache, or a temporary folder."""
    private = Path(tempfile.gettempdir()) / f"ethogram-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    places = [os.environ.get("NUMBA_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME"), Path.home() / ".cache", private]
    for place in [Path(each) / "ethogram" / digest(sources) for each in places if each]:
        if _writable(place):
            return place
    warnings.warn(
        "no folder for compiled kernels is writable: every process compiles them anew, which takes many seconds. "
        "Hint: set NUMBA_CACHE_DIR to a writable folder.",
        RuntimeWarning,
        stacklevel=3,
    )
    return None


def digest(sources: Path) -> str:
    """16 hexadecimal digits over numba's version and the sources of all kernels in `sources` and beside this module."""
    files = {file for folder in (HERE, sources) for file in folder.glob("*.py")}
    total = sha256(numba.__version__.encode())
    for file in sorted(files):
        text = file.read_bytes()
        if DECORATOR in text or file.name == "schema.py":  # the schema's slot numbers are baked into the code
            total.update(file.name.encode() + b"\0" + text)
    return total.hexdigest()[:16]


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
