"""Exposures: who was shown which arm, kept before it is acknowledged, moved to Parquet by a thread."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
import polars as pl

from features.errors import DefinitionError
from serving.abtests import AbTests
from serving.periodic import Periodic
from serving.store import SqliteStore

LOGGER = logging.getLogger("ethogram.exposures")
LOOK_S = 1.0
ROWS = 10_000
"""Exposures of one file."""
COLUMNS: dict[str, type[pl.DataType]] = {
    "row": pl.String,
    "test": pl.String,
    "user": pl.String,
    "arm": pl.String,
    "segment": pl.String,
    "at": pl.Int64,
    "known": pl.Int64,
    "message_id": pl.String,
}


class Exposure(msgspec.Struct):
    """One showing, as it is kept.

    Attributes:
        test: Which test.
        user: The id that was told.
        arm: What was shown.
        segment: The person's stratum at the first exposure.
        at: When it was shown, microseconds UTC.
        known: When it arrived.
        message_id: The caller's; what comes twice is one exposure.
    """

    test: str
    user: str
    arm: str
    segment: str
    at: int
    known: int
    message_id: str | None = None


class ExposureLog:
    """Rows in the journal's file, and what moves them into `folder`."""

    def __init__(self, journal: SqliteStore, folder: Path, failed: Callable[[], None]) -> None:
        self.journal = journal
        self.folder = folder
        self.thread = Periodic("exposures", self.roll, failed)

    def keep(self, rows: Sequence[Exposure]) -> None:
        """Write rows; once this returns they survive a power cut."""
        encode = msgspec.json.Encoder().encode
        with self.journal.writing() as db:
            values = ((row.user, encode(row)) for row in rows)
            db.executemany("INSERT INTO exposures (person, row) VALUES (?, ?)", values)

    def roll(self) -> int:
        """Move what waits; the number of rows. A process that dies on the way moves some again, under the same name."""
        moved = 0
        while part := self._part():
            moved += part
        return moved

    def _part(self) -> int:
        name = self.journal.name
        with self.journal.writing() as db:  # the transaction keeps other processes from moving the same rows
            rows = db.execute("SELECT id, row FROM exposures ORDER BY id LIMIT ?", (ROWS,)).fetchall()
            if rows:
                told = [{"row": f"{name}-{place}", **msgspec.json.decode(row)} for place, row in rows]
                self.folder.mkdir(parents=True, exist_ok=True)
                _write(self.folder / f"{name}-{rows[0][0]:012d}.parquet", pl.DataFrame(told, schema=COLUMNS))
                db.execute("DELETE FROM exposures WHERE id <= ?", (rows[-1][0],))
        return len(rows)


def _write(path: Path, frame: pl.DataFrame) -> None:
    temporary = path.with_name(path.name + ".new")
    frame.write_parquet(temporary)
    temporary.replace(path)


def read(folder: Path, test: str | None = None) -> pl.DataFrame:
    """The exposures of a test, or of all, each once; an empty frame where there are none."""
    files = sorted(folder.glob("*.parquet"))
    frames = [pl.read_parquet(file) for file in files]
    found = pl.concat([pl.DataFrame(schema=COLUMNS), *frames]).unique("row", maintain_order=True)
    return found.filter(pl.col("test") == test) if test is not None else found


def forget(folder: Path, ids: Iterable[str]) -> int:
    """Remove the exposures of these ids; the number of rows removed."""
    names, removed = sorted(ids), 0
    for path in sorted(folder.glob("*.parquet")):
        rows = pl.read_parquet(path)
        kept = rows.filter(~pl.col("user").is_in(names))
        if kept.height < rows.height:
            _write(path, kept)
            removed += rows.height - kept.height
    return removed


class Followed:
    """`ab.yaml` as it is now; while it is wrong, as it was before.

    Attributes:
        fault: What is wrong with the file; empty where nothing is.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.clock = clock
        self.fault = ""
        self._looked = -LOOK_S
        self._seen: tuple[int, int] | None = None
        self._tests = AbTests()

    def __call__(self) -> AbTests:
        """The tests; the file is looked at once a second."""
        now = self.clock()
        if now - self._looked >= LOOK_S:
            self._looked = now
            self._look()
        return self._tests

    def _look(self) -> None:
        try:
            about = self.path.stat()
            seen = (about.st_mtime_ns, about.st_size)
        except FileNotFoundError:
            seen = None
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._tests, self.fault = AbTests.read(self.path), ""
        except DefinitionError as error:
            self.fault = str(error)
            LOGGER.error("the A/B tests stay as they were: %s", error)
