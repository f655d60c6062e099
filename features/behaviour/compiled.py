"""Compiled: the one door to numba; kernels are cached on disk under a digest of every kernel's source."""

import os
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import ParamSpec, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

DECORATOR = b"@compiled"
HERE = Path(__file__).parent


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """The function as machine code: releases the GIL, keeps IEEE arithmetic, cached on disk.

    Numba itself looks for edits in the function's own file only. The digest in the cache's path covers every kernel,
    so an edit in a callee is seen. Without a writable folder kernels are compiled anew in each process.
    """
    folder = cache_folder(Path(function.__code__.co_filename).parent)
    if folder is None:
        return numba.njit(nogil=True, error_model="numpy")(function)  # type: ignore[no-any-return] # numba ships no types
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder)
    try:
        return numba.njit(nogil=True, error_model="numpy", cache=True)(function)  # type: ignore[no-any-return] # numba ships no types
    finally:
        numba.config.CACHE_DIR = before


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
