"""People: keyed pseudonyms and stable hashes; no identifier leaves the door in the clear."""

import hmac
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import xxhash
from numpy.typing import NDArray

PSEUDONYM_DIGITS = 32
LOWEST = np.iinfo(np.int64).min
"""Stands for a missing text; no text has this hash."""
MANY = 1 << 16  # from here on, starting the compiled hash is worth its while


def pseudonym(key: bytes, value: str) -> str:
    """HMAC-SHA-256 of a direct identifier under the project's key, 32 hexadecimal digits."""
    return hmac.digest(key, value.encode(), "sha256").hex()[:PSEUDONYM_DIGITS]


def hash_text(value: str) -> int:
    """The signed 64-bit xxh64 of a text: the same on every machine and in every version."""
    digest = xxhash.xxh64_intdigest(value.encode())
    signed = digest - (1 << 64) if digest >= 1 << 63 else digest
    return signed if signed != -(1 << 63) else 0  # the lowest value stands for a missing property


def stable_hash(column: pl.Series) -> pl.Series:
    """`hash_text` of every text; null stays null. Of categories each is hashed once."""
    if column.dtype == pl.Categorical:
        return pl.Series(column.name, hashes(column)).replace(LOWEST, None)
    return _hashed(column, many=len(column) >= MANY)


def _hashed(column: pl.Series, *, many: bool) -> pl.Series:
    if many:
        from features.hashing import hash_column

        return hash_column(column)
    distinct = column.unique().drop_nulls()
    hashed = [hash_text(value) for value in distinct]
    return column.replace_strict(distinct, pl.Series(hashed, dtype=pl.Int64), default=None, return_dtype=pl.Int64)


def hashes(column: pl.Series) -> NDArray[np.int64]:
    """`stable_hash` as an array, the lowest integer for null."""
    if column.dtype == pl.Categorical:
        return per_category(column, lambda names: _hashed(names, many=len(column) >= MANY).to_numpy())
    return stable_hash(column).fill_null(LOWEST).to_numpy()


def per_category(column: pl.Series, say: Callable[[pl.Series], Sequence[int] | NDArray[np.int64]]) -> NDArray[np.int64]:
    """An integer per row: what is said of its text, asked once for each text; the lowest integer for null."""
    from features.hashing import looked_up

    rows, numbers = _numbered(column)
    found = np.flatnonzero(rows[:-1] >= 0)
    table = np.full(len(rows), LOWEST)
    table[found] = say(column.gather(rows[found]).cast(pl.String))
    return looked_up(numbers, table)


def distinct(column: pl.Series) -> list[str]:
    """The texts of a column of texts or categories."""
    rows, _ = _numbered(column)
    return column.gather(rows[:-1][rows[:-1] >= 0]).cast(pl.String).to_list()


def _numbered(column: pl.Series) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """(per number a row that has it, -1 where none does; per row its number): the last number stands for null."""
    from features.hashing import some_rows

    physical = column.cast(pl.Categorical).to_physical()
    n = int(physical.max() or 0) + 1  # type: ignore[arg-type] # integers
    numbers = physical.cast(pl.UInt32).fill_null(n).to_numpy()
    return some_rows(numbers, n + 1), numbers
