"""Prediction log: every answer with the features it came from, in a ring in memory, written as Parquet by a thread."""

import math
import os
import re
import shutil
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import polars as pl

from features.instants import HOUR, to_datetime
from features.people import pseudonym
from serving.periodic import Periodic
from serving.scorer import Answer, Scorer

CAPACITY = 16_384
SLICE, PAUSE_S = 128, 0.002
"""Rows whose texts are made in one go, which keeps the interpreter for half a millisecond, and the pause behind them:
what waited meanwhile is answered."""
HOURS = "%Y-%m-%dT%H"
NUMBERS = count(1)
"""Of rings: what they write is named by them."""
FOLDER = re.compile(r"\d{4}-\d\d-\d\dT\d\d")
"""Of an hour."""
FINGERPRINT = ("n_events", "sum_ids", "last_ts")
"""The columns that say which state an answer read."""


class Ring:
    """Room for so many answers of one bundle, filled by some threads and emptied by another; nothing grows.

    A queue of tuples would be walked by the garbage collector again and again: the worst answers would wait for it.
    """

    def __init__(self, scorer: Scorer, capacity: int) -> None:
        self.capacity = capacity
        self.number = next(NUMBERS)
        self.bundle = scorer.bundle.digest
        self.schema = scorer.schema.fingerprint
        self.names = scorer.bundle.features.names
        self.studies = {study: scorer.bundle.models[study].kind for study in scorer.studies}
        self._turn = threading.Lock()
        self._written = 0
        self._read = 0
        # Few numbers are put one by one: numpy would make an array of each answer's first.
        self._whole = [array("q", bytes(8 * capacity)) for _ in range(4)]  # at, n_events, sum_ids, last_ts
        self._scores = [array("d", bytes(8 * capacity)) for _ in self.studies]
        self._unscored = (math.nan,) * len(self.studies)
        self._features = np.full((capacity, len(self.names)), np.nan)
        self._who: list[str] = [""] * capacity
        self._request: list[str] = [""] * capacity
        self._source: list[str] = [""] * capacity
        self._arm: list[str] = [""] * capacity
        self._segments: list[tuple[str, ...]] = [()] * capacity

    def put(self, request_id: str, answer: Answer, arm: str = "") -> bool:
        """Keep an answer, given as this arm of a test of models; False where the ring is full and it is dropped."""
        with self._turn:
            if self._written - self._read >= self.capacity:
                return False
            place = self._written % self.capacity
            state = answer.state
            at, n_events, sum_ids, last_ts = self._whole
            at[place], n_events[place], sum_ids[place] = answer.at, state.n_events, state.sum_ids
            last_ts[place] = state.last_ts
            for scores, figure in zip(self._scores, answer.verdict.figures or self._unscored, strict=True):
                scores[place] = figure
            self._features[place] = np.nan if answer.values is None else answer.values
            self._who[place] = answer.canonical
            self._request[place] = request_id
            self._source[place] = answer.source
            self._arm[place] = arm
            self._segments[place] = answer.verdict.segments
            self._written += 1
        return True

    def __len__(self) -> int:
        return self._written - self._read

    def drain(self, key: bytes, write: Callable[[pl.DataFrame, str], object]) -> int:
        """Write what is in the ring, users as pseudonyms, then take it out; the number of rows.

        What cannot be written stays, and is written under the same name when it is tried again.
        """
        first, last = self._read, self._written
        frames = [self._frame(part, key) for part in self._spans(first, last)]
        if frames:
            write(pl.concat(frames), f"{self.number}-{first}")
        self._read = last
        return last - first

    def _spans(self, first: int, last: int) -> list[slice]:
        """Where these rows lie: in one stretch, or in two, at the end and at the beginning."""
        start, n = first % self.capacity, last - first
        spans = slice(start, min(start + n, self.capacity)), slice(0, max(0, start + n - self.capacity))
        return [span for span in spans if span.start < span.stop]

    def _frame(self, span: slice, key: bytes) -> pl.DataFrame:
        n, whole = span.stop - span.start, [np.frombuffer(column, np.int64)[span] for column in self._whole]
        users = list[str]()
        for start in range(span.start, span.stop, SLICE):
            users += [pseudonym(key, each) for each in self._who[start : min(start + SLICE, span.stop)]]
            time.sleep(PAUSE_S)
        head: dict[str, object] = {
            "request_id": self._request[span],
            "user": users,
            "at": whole[0],
            "bundle": pl.Series([self.bundle], dtype=pl.String).new_from_index(0, n),
            "source": self._source[span],
            "n_events": whole[1],
            "sum_ids": whole[2],
            "last_ts": whole[3],
            "schema": pl.Series([self.schema], dtype=pl.String).new_from_index(0, n),
            "segments": _lists(self._segments[span]),
            "arm": self._arm[span],
        }
        scores = {
            f"score_{study}": np.frombuffer(column, np.float64)[span]
            for study, column in zip(self.studies, self._scores, strict=True)
        }
        # One column of named fields: Parquet writes two hundred columns of their own at a third of the speed.
        features = pl.Series(self._features[span]).arr.to_struct(list(self.names))
        return pl.DataFrame({**head, **scores, "features": features})


def _lists(rows: Sequence[tuple[str, ...]]) -> pl.Series:
    """A column of lists of texts; each different one is made once, of which polars takes ten microseconds."""
    places = {row: place for place, row in enumerate(dict.fromkeys(rows))}
    made = pl.Series([list(row) for row in places], dtype=pl.List(pl.String))
    return made.gather([places[row] for row in rows])


class PredictionLog:
    """Rings of the bundles in service and what empties them into `<day>T<hour>/*.parquet`; hours are kept for a while.

    Attributes:
        kept: How long an hour is kept, microseconds; 0: for ever.
    """

    def __init__(self, folder: Path, key: bytes, *, kept: int = 0) -> None:
        self.folder = folder
        self.key = key
        self.kept = kept
        self.on_failure: Callable[[], None] = lambda: None
        self.on_written: Callable[[str, int], None] = lambda _outcome, _rows: None
        self._rings: Sequence[Ring] = ()
        self._turn = threading.Lock()
        self._newest = -1
        self.thread = Periodic("predictions", self.flush, lambda: self.on_failure())

    def follow(self, scorer: Scorer) -> Ring:
        """The ring for a newly served bundle; rings before the last one are let go of once they are empty."""
        ring = Ring(scorer, CAPACITY)
        self._rings = (*(each for each in self._rings[:-1] if len(each)), *self._rings[-1:], ring)
        return ring

    def flush(self) -> int:
        """Write what the rings hold; the number of rows."""
        with self._turn:
            return sum(ring.drain(self.key, self._write) for ring in self._rings)

    def _write(self, frame: pl.DataFrame, name: str) -> None:
        hours = frame["at"] // HOUR
        for hour in hours.unique().to_list():
            rows = frame.filter(hours == hour)
            folder = self.folder / to_datetime(hour * HOUR).strftime(HOURS)
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"{rows['at'][0]}-{os.getpid()}-{name}.parquet"
            temporary = file.with_name(file.name + ".new")
            try:
                rows.write_parquet(temporary, compression="lz4")
                temporary.replace(file)
            finally:
                temporary.unlink(missing_ok=True)
            self._let_go(hour)
        self.on_written("written", frame.height)

    def _let_go(self, hour: int) -> None:
        """Of the hours that are older than what is kept, when a new hour begins."""
        if not self.kept or hour <= self._newest:
            return
        self._newest = hour
        last = to_datetime(hour * HOUR - self.kept).strftime(HOURS)
        for folder in self.folder.iterdir():
            if FOLDER.fullmatch(folder.name) and folder.name < last:
                shutil.rmtree(folder, ignore_errors=True)


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
