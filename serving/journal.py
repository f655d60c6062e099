"""Journal: events accepted but not yet in the event log; a roller moves them there, each exactly once."""

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import polars as pl

from features.events import quarantine
from features.events.batch import EventBatch
from features.events.plan import TrackingPlan
from features.people import pseudonym
from serving.periodic import Periodic

if TYPE_CHECKING:
    from serving.state import StateStore

ROLL_ROWS = 50_000
OWNER = pl.coalesce("user_id", "anonymous_id").alias("owner")


class Log(Protocol):
    """What the roller needs of the event log."""

    def append(self, batch: EventBatch, *, name: str, quarantine: pl.DataFrame | None = None) -> object:
        """Write a cleaned batch as one part; a part of this name that exists is left as it is."""


def write(db: sqlite3.Connection, frame: pl.DataFrame) -> None:
    """Append a cleaned batch's events, one row each."""
    if not frame.height:
        return
    present = [name for name in frame.columns if frame[name].null_count() < frame.height]
    rows = frame.select(present).to_dicts()
    owners = frame.select(OWNER)["owner"]
    encode = msgspec.json.Encoder().encode
    events = ((owner, encode(_said(row))) for owner, row in zip(owners, rows, strict=True))
    db.executemany("INSERT INTO arrivals (owner, event) VALUES (?, ?)", events)


def refuse(db: sqlite3.Connection, held: pl.DataFrame) -> None:
    """Append sealed rows that could not be used."""
    encode = msgspec.json.Encoder().encode
    db.executemany("INSERT INTO refusals (row) VALUES (?)", ((encode(_said(row)),) for row in held.to_dicts()))


def erase(db: sqlite3.Connection, ids: Iterable[str], *, key: bytes) -> None:
    """Remove what waits of a person; rows that could not be used name people by pseudonym."""
    for one in ids:
        db.execute("DELETE FROM arrivals WHERE owner = ?", (one,))
        db.execute("DELETE FROM exposures WHERE person = ?", (one,))
        db.execute("DELETE FROM refusals WHERE instr(row, CAST(? AS BLOB))", (pseudonym(key, one),))


def _said(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def read(db: sqlite3.Connection, plan: TrackingPlan, *, first: int = 0, last: int | None = None) -> EventBatch | None:
    """The waiting events from `first` to `last` as the batch they came in; None where there are none."""
    top = last if last is not None else (1 << 62)
    query = "SELECT event FROM arrivals WHERE id BETWEEN ? AND ? ORDER BY id"
    rows = [msgspec.json.decode(row[0]) for row in db.execute(query, (first, top))]
    if not rows:
        return None
    frame = pl.DataFrame(rows, infer_schema_length=None)
    known = [name for name in frame.columns if not name.startswith("p_") or name.removeprefix("p_") in plan.properties]
    return EventBatch(frame.select(known), plan)


def refused(db: sqlite3.Connection, last: int) -> pl.DataFrame:
    """The waiting rows that could not be used, up to `last`, as a quarantine."""
    query = "SELECT row FROM refusals WHERE id <= ? ORDER BY id"
    return quarantine.rejects(msgspec.json.decode(row[0]) for row in db.execute(query, (last,)))


@dataclass(frozen=True)
class Roll:
    """A closed stretch of the journal: arrivals from `first` to `last`, refusals up to `held`."""

    name: str
    first: int
    last: int
    held: int


class Roller:
    """Moves closed stretches of the journal into the event log.

    A stretch is closed under a name before it is written, and the log takes a name once: killed at any moment, the
    next run finishes the same stretch.
    """

    def __init__(self, store: "StateStore", log: Callable[[], Log], plan: Callable[[], TrackingPlan]) -> None:
        self.store = store
        self.journal = store.journal
        self.log = log
        self.plan = plan
        self.on_rolled: Callable[[int], None] = lambda _: None
        self.on_failure: Callable[[], None] = lambda: None
        self.thread = Periodic("roller", self.roll, lambda: self.on_failure())

    def roll(self) -> int:
        """Move everything that waits now; the number of events moved."""
        moved = 0
        while (stretch := self._close()) is not None:
            moved += self._move(stretch)
        if moved:
            self.on_rolled(moved)
        return moved

    def _close(self) -> Roll | None:
        with self.journal.writing() as db:
            row = db.execute("SELECT name, first, last, held FROM rolls ORDER BY first LIMIT 1").fetchone()
            if row:
                return Roll(*row)
            span = "SELECT min(id), max(id) FROM (SELECT id FROM {} ORDER BY id LIMIT ?)"
            first, last = db.execute(span.format("arrivals"), (ROLL_ROWS,)).fetchone()
            held = db.execute(span.format("refusals"), (ROLL_ROWS,)).fetchone()[1] or 0
            if first is None and not held:
                return None
            name = f"journal-{self.journal.name}-{last or 0:012d}-{held:012d}"
            roll = Roll(name, first or 0, last or 0, held)
            db.execute("INSERT INTO rolls VALUES (?, ?, ?, ?)", (roll.name, roll.first, roll.last, roll.held))
            return roll

    def _move(self, roll: Roll) -> int:
        plan, reader = self.plan(), self.journal.reader
        batch = read(reader, plan, first=roll.first, last=roll.last) or EventBatch.empty(plan)
        self.log().append(batch, name=roll.name, quarantine=refused(reader, roll.held))
        self.store.catch_up(plan)  # a state filled from a log without this stretch still finds it in the journal
        with self.journal.writing() as db:
            db.execute("DELETE FROM arrivals WHERE id BETWEEN ? AND ?", (roll.first, roll.last))
            db.execute("DELETE FROM refusals WHERE id <= ?", (roll.held,))
            db.execute("DELETE FROM rolls WHERE name = ?", (roll.name,))
        return len(batch)
