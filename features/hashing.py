"""Hashing: xxh64 over columns of text, equal to the xxhash package's, at the speed of the bytes; and of categories."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.behaviour.compiled import compiled, compiled_allocating

ROWS = 1 << 22
LOWEST = np.uint64(1 << 63)
P1, P2 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F)
P3, P4, P5 = np.uint64(0x165667B19E3779F9), np.uint64(0x85EBCA77C2B2AE63), np.uint64(0x27D4EB2F165667C5)


def hash_column(column: pl.Series) -> pl.Series:
    """The signed xxh64 of every text, null for null."""
    pieces = [_hash(column.slice(start, ROWS)) for start in range(0, len(column), ROWS)]
    return pl.concat(pieces) if pieces else pl.Series(column.name, [], pl.Int64)


def _hash(column: pl.Series) -> pl.Series:
    ends = column.str.len_bytes().fill_null(0).cast(pl.Int64).cum_sum().to_numpy()
    joined = column.str.join("", ignore_nulls=True).item() or ""
    data = np.frombuffer(joined.encode(), np.uint8)
    hashes = pl.Series(column.name, hash_slices(data, ends).view(np.int64))
    if not column.null_count():
        return hashes
    return hashes.to_frame().select(pl.when(column.is_not_null()).then(pl.first()).alias(column.name)).to_series()


@compiled
def _rotated(value: np.uint64, bits: int) -> np.uint64:
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))


@compiled
def _word(data: NDArray[np.uint8], place: int, size: int) -> np.uint64:
    word = np.uint64(0)
    for byte in range(size):
        word |= np.uint64(data[place + byte]) << np.uint64(8 * byte)
    return word


@compiled
def _round(lane: np.uint64, word: np.uint64) -> np.uint64:
    return _rotated(lane + word * P2, 31) * P1


@compiled
def _stripes(data: NDArray[np.uint8], place: int, last: int) -> np.uint64:
    """The four lanes of texts of 32 bytes and more."""
    zero = np.uint64(0)
    one, two, three, four = P1 + P2, P2, zero, zero - P1
    while place <= last - 32:
        one = _round(one, _word(data, place, 8))
        two = _round(two, _word(data, place + 8, 8))
        three = _round(three, _word(data, place + 16, 8))
        four = _round(four, _word(data, place + 24, 8))
        place += 32
    total = _rotated(one, 1) + _rotated(two, 7) + _rotated(three, 12) + _rotated(four, 18)
    for lane in (one, two, three, four):
        total = (total ^ _round(zero, lane)) * P1 + P4
    return total


@compiled_allocating
def hash_slices(data: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """xxh64 with seed 0 of `data[ends[i - 1]:ends[i]]`, for every i."""
    out = np.empty(len(ends), np.uint64)
    place = 0
    for row in range(len(ends)):
        last = ends[row]
        size = last - place
        total = P5
        if size >= 32:
            total = _stripes(data, place, last)
            place += size // 32 * 32
        total += np.uint64(size)
        while place <= last - 8:
            total = _rotated(total ^ _round(np.uint64(0), _word(data, place, 8)), 27) * P1 + P4
            place += 8
        if place <= last - 4:
            total = _rotated(total ^ (_word(data, place, 4) * P1), 23) * P2 + P3
            place += 4
        while place < last:
            total = _rotated(total ^ (np.uint64(data[place]) * P5), 11) * P1
            place += 1
        total = (total ^ (total >> np.uint64(33))) * P2
        total = (total ^ (total >> np.uint64(29))) * P3
        total ^= total >> np.uint64(32)
        out[row] = total if total != LOWEST else np.uint64(0)  # the lowest integer stands for a missing property
    return out


@compiled_allocating
def some_rows(numbers: NDArray[np.uint32], n: int) -> NDArray[np.int64]:
    """For each number below n a row that has it; -1 where none does."""
    rows = np.full(n, -1)
    for row in range(len(numbers)):
        rows[numbers[row]] = row
    return rows


@compiled_allocating
def looked_up(numbers: NDArray[np.uint32], table: NDArray[np.int64]) -> NDArray[np.int64]:
    """Per row what the table says of its number."""
    out = np.empty(len(numbers), np.int64)
    for row in range(len(numbers)):
        out[row] = table[numbers[row]]
    return out
