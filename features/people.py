"""People: keyed pseudonyms and stable hashes; no identifier leaves the door in the clear."""

import hmac
from hashlib import sha256

import numpy as np
import polars as pl
import xxhash

PSEUDONYM_DIGITS = 32
MANY = 1 << 16  # from here on, starting the compiled hash is worth its while


def pseudonym(key: bytes, value: str) -> str:
    """HMAC-SHA-256 of a direct identifier under the project's key, 32 hexadecimal digits."""
    return hmac.new(key, value.encode(), sha256).hexdigest()[:PSEUDONYM_DIGITS]


def hash_text(value: str) -> int:
    """The signed 64-bit xxh64 of a text: the same on every machine and in every version."""
    digest = xxhash.xxh64_intdigest(value.encode())
    signed = digest - (1 << 64) if digest >= 1 << 63 else digest
    return signed if signed != -(1 << 63) else 0  # the lowest value stands for a missing property


def stable_hash(column: pl.Series) -> pl.Series:
    """`hash_text` of every text; null stays null. Of categories each is hashed once."""
    if column.dtype == pl.Categorical:
        return _hash_categories(column)
    if len(column) >= MANY:
        from features.hashing import hash_column

        return hash_column(column)
    distinct = column.unique().drop_nulls()
    hashes = [hash_text(value) for value in distinct]
    return column.replace_strict(distinct, pl.Series(hashes, dtype=pl.Int64), default=None, return_dtype=pl.Int64)


def _hash_categories(column: pl.Series) -> pl.Series:
    distinct = column.unique().drop_nulls()
    places = distinct.to_physical().to_numpy()
    table = np.zeros(int(places.max(initial=0)) + 1, np.int64)
    table[places] = stable_hash(distinct.cast(pl.String)).to_numpy()
    return pl.Series(column.name, table).gather(column.to_physical())
