"""Event ids: 64-bit hashes of message ids, or of rows and their ordinals among identical rows."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.people import hash_text, stable_hash


class RowIds:
    """Ids for the rows of one source without message ids, read in order, block by block.

    The n-th of identical rows has another id than the first, the same whenever the file is read again, however it is
    cut into blocks.
    """

    def __init__(self) -> None:
        self._seen: NDArray[np.int64] = np.empty(0, np.int64)

    def of(self, rows: pl.Series) -> pl.Series:
        """An id per row (its content as text)."""
        hashes = stable_hash(rows).rename("hash")
        ordinal = hashes.to_frame().select(pl.int_range(pl.len(), dtype=pl.Int64).over("hash")).to_series().to_numpy()
        values = hashes.to_numpy()
        earlier = np.searchsorted(self._seen, values, "right") - np.searchsorted(self._seen, values, "left")
        self._seen = np.sort(np.concatenate([self._seen, values]), kind="stable")
        return pl.Series("id", _nth(values, ordinal + earlier))


def _nth(hashes: NDArray[np.int64], ordinals: NDArray[np.int64]) -> NDArray[np.int64]:
    ids = hashes.copy()
    for place in np.flatnonzero(ordinals):
        ids[place] = hash_text(f"{hashes[place]}:{ordinals[place]}")
    return ids


def of_source(ids: pl.Series, sources: pl.Series) -> pl.Series:
    """The ids made different for each source: (source, id) is the key of an event, and histories hold the id alone."""
    if sources.is_empty():
        return ids
    first = sources[0]
    if first is not None and (sources == first).all():
        return ids.to_frame("id").select(pl.col("id").xor(pl.lit(hash_text(first)))).to_series()
    salt = stable_hash(sources).fill_null(0).rename("salt")
    return ids.to_frame("id").with_columns(salt).select(pl.col("id").xor("salt")).to_series()


def contents(frame: pl.DataFrame) -> pl.Series:
    """Every row's columns as one text, whatever the order of the columns."""
    columns = [pl.col(name) for name in sorted(frame.columns)]
    return frame.select(pl.struct(columns).struct.json_encode().alias("row")).to_series()
