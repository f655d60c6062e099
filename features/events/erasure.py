"""Erasure: tombstones of erased persons, so that a late event or an old file cannot bring anybody back."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import polars as pl

from features.errors import LogError
from features.events import quarantine
from features.events.parts import Part
from features.events.report import CleaningReport, count
from features.files import rewrite, write_json, write_parquet
from features.instants import iso
from features.people import pseudonym

IDS = ("user_id", "anonymous_id", "previous_id")


@dataclass(frozen=True)
class ErasureReport:
    """What was removed of one person.

    Attributes:
        ids: How many ids the person had.
        events: Rows removed from the log.
        quarantined: Rows removed from the quarantine.
        erased_at: Microseconds UTC; nothing from before it can come back.
    """

    ids: int
    events: int
    quarantined: int
    erased_at: int

    def __add__(self, other: "ErasureReport") -> "ErasureReport":
        ids, events, quarantined = (
            self.ids + other.ids,
            self.events + other.events,
            self.quarantined + other.quarantined,
        )
        return ErasureReport(ids, events, quarantined, max(self.erased_at, other.erased_at))

    def __str__(self) -> str:
        return (
            f"erased {self.events:,} events and {self.quarantined:,} quarantined rows of one person with {self.ids:,} "
            f"id{'s' if self.ids != 1 else ''}; what happened before {iso(self.erased_at)} cannot come back"
        )


@dataclass(frozen=True)
class Tombstones:
    """Pseudonyms of erased ids, each with the instant of its erasure.

    What an erased id did up to that instant never enters the log again; what it does later is a new beginning.
    """

    erased: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The tombstones in a file; none where there is no file."""
        try:
            return cls(json.loads(path.read_text(encoding="utf-8"))["erased"])
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError):
            raise LogError(
                f"{path.name} is damaged. Hint: restore it from a backup; it keeps erased people out."
            ) from None

    def write(self, path: Path) -> None:
        """Replace the file whole."""
        rewrite(path, json.dumps({"version": 1, "erased": dict(self.erased)}, indent=1))

    def adding(self, ids: Iterable[str], key: bytes, at: int) -> "Tombstones":
        """These and the ids erased at `at`."""
        return Tombstones({**self.erased, **{pseudonym(key, name): at for name in sorted(ids)}})

    def cover(self, frame: pl.DataFrame, key: bytes, columns: Iterable[str], *, hashed: bool = False) -> pl.Series:
        """Per row, whether one of the ids in `columns` was erased at or after the row's ts (a row without one: yes).

        Args:
            frame: Has `columns` and ts.
            key: The project's key.
            columns: Names of id columns.
            hashed: The columns hold pseudonyms already.
        """
        covered = pl.Series("covered", [False]).new_from_index(0, frame.height)
        if not self.erased:
            return covered
        for name in columns:
            ids = frame[name].unique().drop_nulls()
            known = {each: self.erased.get(each if hashed else pseudonym(key, each)) for each in ids}
            times = {each: at for each, at in known.items() if at is not None}
            if times:
                until = frame[name].replace_strict(times, default=None, return_dtype=pl.Int64)
                covered = covered | (until.is_not_null() & (frame["ts"].is_null() | (frame["ts"] <= until)))
        return covered


def erase_from(part: Part, ids: set[str], tombstones: Tombstones, key: bytes) -> tuple[int, int]:
    """Remove the rows of these ids from a part; its counts follow. Done again, it changes nothing.

    Whatever a tombstone covers goes too: an erasure that was killed half-way has lost the links between the ids.

    Returns:
        Events and quarantined rows removed.
    """
    header = part.header()
    report = CleaningReport.from_dict(header["report"])
    names = list(ids)
    fresh = CleaningReport()
    for block in part.blocks:
        frame = pl.read_parquet(block.events)
        theirs = pl.any_horizontal(pl.col("user_id", "anonymous_id", "previous_id").is_in(names).fill_null(value=False))
        kept = frame.filter(~theirs & ~tombstones.cover(frame, key, IDS))
        block.keep(kept)
        count(kept, fresh)
    held = _held_without(part, ids, tombstones, key)
    events, quarantined = report.accepted - fresh.accepted, report.quarantined.total() - held.height
    if events or quarantined:
        report.accepted, report.marked, report.inventory = fresh.accepted, fresh.marked, fresh.inventory
        report.quarantined = Counter(dict(held["reason"].value_counts().iter_rows()))
        report.erased += events + quarantined
        write_json(part.path / "part.json", {**header, "report": report.to_dict()})
    return events, quarantined


def _held_without(part: Part, ids: set[str], tombstones: Tombstones, key: bytes) -> pl.DataFrame:
    """The quarantine without the rows of these ids: those that say so, and those whose payload names one."""
    if not part.quarantine.exists():
        return quarantine.empty()
    held = pl.read_parquet(part.quarantine)
    hidden = [pseudonym(key, name) for name in ids]
    theirs = pl.any_horizontal(pl.col("user", "anonymous").is_in(hidden).fill_null(value=False))
    named = pl.col("payload").str.contains_any([json.dumps(name) for name in ids])
    nobodys = pl.col("user").is_null() & pl.col("anonymous").is_null()
    mentioned = nobodys & pl.col("payload").str.contains_any([name for name in ids if len(name) > 2])
    covered = tombstones.cover(held, key, ("user", "anonymous"), hashed=True)
    kept = held.filter(~covered & ~(theirs | named.fill_null(value=False) | mentioned.fill_null(value=False)))
    if kept.height < held.height:
        write_parquet(part.quarantine, kept)
    return kept
