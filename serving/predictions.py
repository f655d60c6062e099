"""Prediction log: every answer with the features it came from, in a ring that a thread empties into files."""

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.instants import MINUTE
from features.people import pseudonym
from serving.periodic import Periodic
from serving.writing import Aside, Head, Part, Writer

if TYPE_CHECKING:
    from serving.scorer import Answer, Scorer

Number = TypeVar("Number", np.int64, np.float64)
CAPACITY = 16_384
SLICE = 512
"""Rows that are written in one go."""
ERASING = MINUTE
"""How long an erasure may take, from its instant to the last state."""
NUMBERS = count(1)
"""Of rings: what they write is named by them."""
WHOLE = Struct("4q")
"""at, n_events, sum_ids, last_ts."""
FINGERPRINT = ("n_events", "sum_ids", "last_ts")
"""The columns that say which state an answer read."""


class Ring:
    """Room for so many answers of one bundle, filled by some threads and emptied by another; nothing grows.

    A queue of tuples would be walked by the garbage collector again and again: the worst answers would wait for it.

    Attributes:
        on_half: Called by who fills the second half.
    """

    def __init__(self, scorer: "Scorer", capacity: int, on_half: Callable[[], None] = lambda: None) -> None:
        self.capacity = capacity
        self.on_half = on_half
        self.number = next(NUMBERS)
        self.bundle = scorer.bundle.digest
        self.schema = scorer.schema.fingerprint
        self.names = scorer.bundle.features.names
        self.studies = {study: scorer.bundle.models[study].kind for study in scorer.studies}
        self._turn = threading.Lock()
        self._written = 0
        self._read = 0
        # Few numbers are packed: numpy would make an array of each answer's first.
        self._whole, self._packed = bytearray(WHOLE.size * capacity), Struct(f"{len(self.studies)}d")
        self._scores = bytearray(self._packed.size * capacity)
        self._unscored = (math.nan,) * len(self.studies)
        self._features = np.full((capacity, len(self.names)), np.nan)
        self._who: list[str] = [""] * capacity
        self._request: list[str] = [""] * capacity
        self._source: list[str] = [""] * capacity
        self._arm: list[str] = [""] * capacity
        self._segments: list[tuple[str, ...]] = [()] * capacity

    def put(self, request_id: str, answer: "Answer", arm: str = "") -> bool:
        """Keep an answer, given as this arm of a test of models; False where the ring is full and it is dropped."""
        with self._turn:
            held = self._written - self._read
            if held >= self.capacity:
                return False
            if held == self.capacity // 2:
                self.on_half()
            place = self._written % self.capacity
            n_events, sum_ids, last_ts, _ = answer.state
            WHOLE.pack_into(self._whole, WHOLE.size * place, answer.at, n_events, sum_ids, last_ts)
            figures = answer.verdict.figures or self._unscored
            self._packed.pack_into(self._scores, self._packed.size * place, *figures)
            self._features[place] = np.nan if answer.values is None else answer.values
            self._who[place] = answer.canonical
            self._request[place] = request_id
            self._source[place] = answer.source
            self._arm[place] = arm
            self._segments[place] = answer.verdict.segments
            self._written += 1
        return True

    def blank(self, erased: Mapping[str, int], key: bytes) -> None:
        """Say nothing any more of who was erased, by pseudonym, after the answer or while it was given."""
        places = np.arange(self._read, self._written) % self.capacity
        ats = np.frombuffer(self._whole, np.int64).reshape(self.capacity, -1)[places, 0]
        for place in places[ats < max(erased.values()) + ERASING].tolist():
            (at, *_) = WHOLE.unpack_from(self._whole, WHOLE.size * place)
            if at < erased.get(pseudonym(key, self._who[place]), -ERASING) + ERASING:
                WHOLE.pack_into(self._whole, WHOLE.size * place, at, 0, 0, 0)
                self._packed.pack_into(self._scores, self._packed.size * place, *self._unscored)
                self._features[place] = np.nan
                self._who[place], self._source[place], self._segments[place] = "", "default", ()

    def __len__(self) -> int:
        return self._written - self._read

    def drain(self, write: Callable[[Iterator[Part], str], object]) -> int:
        """Write what is in the ring, then take it out; the number of rows.

        What cannot be written stays, and is written under the same name when it is tried again.
        """
        first, last = self._read, self._written
        if first < last:
            write(self._parts(first, last), f"{os.getpid()}-{self.number}-{first}")
        self._read = last
        return last - first

    def _parts(self, first: int, last: int) -> Iterator[Part]:
        """These rows; none of a part's arrays is a copy."""
        while first < last:
            start = first % self.capacity
            span = slice(start, min(start + SLICE, start + last - first, self.capacity))
            yield Part(
                Head(
                    self.bundle,
                    self.schema,
                    self.names,
                    tuple(self.studies),
                    self._request[span],
                    self._who[span],
                    self._source[span],
                    self._segments[span],
                    self._arm[span],
                ),
                _columns(np.frombuffer(self._whole, np.int64).reshape(self.capacity, -1)[span]),
                _columns(np.frombuffer(self._scores, np.float64).reshape(self.capacity, -1)[span]),
                self._features[span],
            )
            first += span.stop - span.start


def _columns(rows: NDArray[Number]) -> list[NDArray[Number]]:
    return list(np.ascontiguousarray(rows.T))


class PredictionLog:
    """Rings of the bundles in service and what empties them into `folder`.

    Attributes:
        writer: Makes the files.
        erased: Per pseudonym when the person was erased; what was answered about them is not written after it.
    """

    def __init__(self, folder: Path, key: bytes, *, kept: int = 0, aside: bool = False) -> None:
        self.writer = (Aside if aside else Writer)(folder, key, kept)
        self.key = key
        self.erased: Callable[[], Mapping[str, int]] = dict
        self.on_failure: Callable[[], None] = lambda: None
        self.on_written: Callable[[str, int], None] = lambda _outcome, _rows: None
        self._rings: Sequence[Ring] = ()
        self._turn = threading.Lock()
        self.thread = Periodic("predictions", self.flush, lambda: self.on_failure())

    def start(self, every_s: float) -> None:
        """Empty the rings every so many seconds, and as soon as one is half full, until stopped."""
        self.writer.begin()
        self.thread.start(every_s)

    def follow(self, scorer: "Scorer") -> Ring:
        """The ring for a newly served bundle; rings before the last one are let go of once they are empty."""
        ring = Ring(scorer, CAPACITY, self.thread.wake)
        self._rings = (*(each for each in self._rings[:-1] if len(each)), *self._rings[-1:], ring)
        return ring

    def flush(self) -> int:
        """Write what the rings hold; the number of rows."""
        with self._turn:
            erased = self.erased()
            return sum(self._emptied(ring, erased) for ring in self._rings)

    def _emptied(self, ring: Ring, erased: Mapping[str, int]) -> int:
        if erased:
            ring.blank(erased, self.key)
        rows = ring.drain(self.writer.write)
        if rows:
            self.on_written("written", rows)
        if len(ring) > ring.capacity // 2:  # it filled while it was written
            self.thread.wake()
        return rows

    def stop(self) -> None:
        """Write what the rings hold, and no more."""
        self.thread.stop()
        self.writer.close()


def forget(folder: Path, ids: Iterable[str], *, key: bytes) -> int:
    """Remove the answers about these ids from the prediction log, the challenger's too; the number of rows removed."""
    hidden, removed = [pseudonym(key, one) for one in sorted(ids)], 0
    for path in sorted(folder.rglob("*.parquet")):
        rows = pl.read_parquet(path)
        kept = rows.filter(~pl.col("user").is_in(hidden))
        if kept.height < rows.height:
            temporary = path.with_name(path.name + ".new")
            kept.write_parquet(temporary)
            temporary.replace(path)
            removed += rows.height - kept.height
    return removed


def read(path: Path) -> pl.DataFrame:
    """A file of the prediction log, features in columns `f_<name>` of their own."""
    return pl.read_parquet(path).with_columns(pl.col("features").name.prefix_fields("f_")).unnest("features")


def columns(names: Sequence[str], studies: Mapping[str, str]) -> list[str]:
    """What `read` gives of these features and studies, in order."""
    head = [
        "request_id",
        "user",
        "at",
        "bundle",
        "source",
        "n_events",
        "sum_ids",
        "last_ts",
        "schema",
        "segments",
        "arm",
    ]
    return [*head, *(f"score_{study}" for study in studies), *(f"f_{name}" for name in names)]
