"""Slots: a bucket's histories beside it, as the kernels read them: mapped into memory where Parquet would be decoded.

A file for each state schema that was asked for, made when it is asked for first. It goes with the bucket, whose name
tells what it was made of; so it is never brought up to date.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.behaviour.histories import Histories
from features.behaviour.schema import StateSchema
from features.files import replacing

VERSION = 1
"""To be raised where the same events give other slots than before."""

MOST = 3
"""Schemas of which a bucket keeps slots: those that were asked for last."""

HEAD = 3
"""Words before the persons' numbers of records: version, whether settled, persons."""

UNFINISHED = ".slots-*.new"


def mapped(folder: Path, schema: StateSchema, users: pl.Series) -> Histories | None:
    """The histories that are kept; None where there is no whole file of them.

    Args:
        folder: The bucket's own.
        schema: What the slots mean.
        users: All persons of the bucket, in order.
    """
    file = _file(folder, schema)
    try:
        # Copied on write, though nobody writes: the kernels are compiled for arrays that may be written.
        words = np.memmap(file, np.int64, "c").view(np.ndarray)
    except (OSError, ValueError):
        return None
    begin = HEAD + len(users)
    if len(words) < begin or (words[0], words[2]) != (VERSION, len(users)):
        return None
    sizes, slots = words[HEAD:begin], words[begin:]
    if len(slots) != sizes.sum() * schema.n_slots:
        return None
    with suppress(OSError):
        os.utime(file)
    here = sizes > 0
    ends = np.cumsum(sizes[here])
    return Histories(
        schema, users.filter(pl.Series(here)).to_numpy().astype(object), slots.reshape(-1, schema.n_slots),
        ends - sizes[here], ends, settled=bool(words[1]),
    )  # fmt: skip


def keep(folder: Path, histories: Histories, users: pl.Series) -> None:
    """Keep the histories for `mapped`; where the folder is gone, full or not ours to write in, nothing is kept.

    Args:
        folder: The bucket's own.
        histories: Of its persons, one after the other.
        users: All persons of the bucket, in order.
    """
    file = _file(folder, histories.schema)
    sizes = np.zeros(len(users), np.int64)
    sizes[users.is_in(histories.users.tolist()).to_numpy()] = histories.ends - histories.starts
    with suppress(OSError):
        for path in folder.glob(UNFINISHED):
            path.unlink(missing_ok=True)
    with suppress(OSError):
        with replacing(file) as draft:
            _write(draft, [np.array([VERSION, histories.settled, len(users)], np.int64), sizes, histories.slots])
        for path in sorted(folder.glob("slots-*.bin"), key=lambda path: path.stat().st_mtime_ns)[:-MOST]:
            path.unlink(missing_ok=True)


def _file(folder: Path, schema: StateSchema) -> Path:
    return folder / f"slots-{schema.fingerprint}.bin"


def _write(file: Path, arrays: Sequence[NDArray[np.int64]]) -> None:
    with file.open("wb") as out:
        for array in arrays:
            array.tofile(out)
