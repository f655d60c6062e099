"""Ledger: who was in which segment when: Parquet, written by `segments apply`, read as of any instant."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

import polars as pl
from msgspec import convert

from features.behaviour.schema import MISSING
from features.errors import AnalysisError, nearest
from features.events.parts import locked
from features.files import write_json, write_parquet
from features.segments.program import Snapshot

MANIFEST = "ledger.json"
CHANGES = {"user": pl.String, "segment": pl.String, "at": pl.Int64, "entered": pl.Boolean, "cause": pl.String}
STATES = {
    "user": pl.String, "segment": pl.String, "inside": pl.Boolean,
    "entered": pl.Int64, "left": pl.Int64, "ready": pl.Boolean,
}  # fmt: skip


@dataclass(frozen=True)
class Applied:
    """A segment as it was last applied.

    Attributes:
        version: Of its definition.
        fit: A digest of the bounds and models that it compares with; empty where there are none.
        size: Members.
        entered: When somebody last entered, microseconds UTC; None where nobody ever did.
        min_size: With fewer members nothing is told of it.
        since: When it was applied first.
        status: `active` or `paused`.
    """

    version: str
    fit: str
    size: int
    entered: int | None
    min_size: int = 0
    since: int = 0
    status: str = "active"


@dataclass(frozen=True)
class Ledger:
    """What is written of memberships.

    Attributes:
        folder: Where.
        at: As of, microseconds UTC; None where nothing was applied yet.
        segments: By name.
        bounds: Those of percentiles and fifths that were compared with, by `Cut.key`.
        features: The fingerprint of the features that the bounds are of.
        erased: Per segment how many members were erased since.
        parts: Files of changes, the oldest first.
        states: The file of states.
        least: Per segment that was ever applied its `min_size` as known last.
    """

    folder: Path
    at: int | None = None
    segments: Mapping[str, Applied] = field(default_factory=dict)
    bounds: Mapping[str, Snapshot] = field(default_factory=dict)
    features: str = ""
    erased: Mapping[str, int] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    states: str = ""
    least: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The ledger in a folder; an empty one where there is none."""
        try:
            said = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls(folder)
        applied = convert(said["segments"], dict[str, Applied])
        bounds = convert(said.get("bounds", {}), dict[str, Snapshot])
        known = bounds, said.get("features", ""), said.get("erased", {})
        least = {name: each.min_size for name, each in applied.items()} | said.get("least", {})
        return cls(folder, said["at"], applied, *known, tuple(said["parts"]), said["states"], least)

    def state_frame(self) -> pl.DataFrame:
        """Columns of STATES: everybody who is in a segment, or of whom it matters how they left."""
        return pl.read_parquet(self.folder / self.states) if self.states else pl.DataFrame(schema=STATES)

    def changes(self) -> pl.LazyFrame:
        """Columns of CHANGES, in the order in which they were written."""
        files = [self.folder / each for each in self.parts]
        return pl.scan_parquet(files) if files else pl.LazyFrame(schema=CHANGES)

    @property
    def small(self) -> set[str]:
        """Segments of which nothing is told: too few are in."""
        return {name for name, each in self.segments.items() if each.size < each.min_size}

    def members(self, at: int, *, segment: str | None = None, user: str | None = None) -> pl.DataFrame:
        """Who was in what as of an instant: columns user, segment, since, cause; by segment and user.

        Raises:
            AnalysisError: nothing was applied yet.
        """
        if self.at is None:
            raise AnalysisError("no membership was written yet. Hint: `ethogram segments apply`.")
        wanted = [pl.col(name) == value for name, value in (("segment", segment), ("user", user)) if value is not None]
        known = self.changes().filter(pl.col("at") <= at, *wanted).with_row_index("turn")
        newest = known.sort("at", "turn").group_by("user", "segment").last().filter("entered")
        told = newest.select("user", "segment", pl.col("at").alias("since"), "cause").sort("segment", "user")
        return told.collect()

    def states_at(self, at: int, user: str) -> dict[str, dict[str, object]]:
        """Per segment that a user had entered by an instant, whether in then, and when they last came and left."""
        known = self.changes().filter(pl.col("at") <= at, pl.col("user") == user).with_row_index("turn")
        came, instants = pl.col("entered"), pl.col("at")
        told = known.sort("at", "turn").group_by("segment", maintain_order=True).agg(
            came.last().alias("inside"), instants.filter(came).max().alias("entered"),
            instants.filter(~came).max().alias("left"),
        )  # fmt: skip
        rows = told.with_columns(pl.col("entered", "left").fill_null(MISSING)).collect().to_dicts()
        return {row["segment"]: row for row in rows}

    def told(self, at: int, *, segment: str | None = None, user: str | None = None) -> pl.DataFrame:
        """`members`, but of segments that had fewer as of then than their `min_size` nothing.

        Raises:
            AnalysisError: nothing was applied yet, or not this segment.
        """
        members = self.members(at, segment=segment)
        if segment is not None and segment not in (names := {*self.least, *self._changed()}):
            raise AnalysisError(f"no segment {segment!r} was applied. {nearest(segment, names)}")
        sizes = members.group_by("segment").len().iter_rows()
        few = [name for name, size in sizes if size < self.least.get(name, 0)]
        hidden = pl.col("segment").is_in(few)
        return members.filter(~hidden if user is None else ~hidden & (pl.col("user") == user))

    def _changed(self) -> list[str]:
        """Segments that anybody ever entered."""
        return self.changes().select("segment").unique().collect()["segment"].to_list()

    def written(
        self,
        at: int,
        segments: Mapping[str, Applied],
        bounds: Mapping[str, Snapshot],
        features: str,
        states: pl.DataFrame,
        changes: pl.DataFrame,
    ) -> "Ledger":
        """The ledger with these changes; killed at any moment, the one before stands."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / ".lock"):
            if Ledger.read(self.folder) != self:
                raise AnalysisError("the memberships were written meanwhile. Hint: `ethogram segments plan` again.")
            name = f"{at}-{len(self.parts)}"
            parts = self.parts
            if changes.height:
                parts = (*parts, f"changes-{name}.parquet")
                write_parquet(self.folder / parts[-1], changes.select(*CHANGES))
            least = {**self.least, **{name: each.min_size for name, each in segments.items()}}
            made = Ledger(self.folder, at, segments, bounds, features, {}, parts, f"states-{name}.parquet", least)
            write_parquet(self.folder / made.states, states.select(*STATES))
            made._keep()
        return made

    def forget(self, users: Iterable[str]) -> "Ledger":
        """Remove everything about these users, but for how many of them were in which segment."""
        named = list(users)
        if self.at is None or not named:
            return self
        gone = pl.col("user").is_in(named)
        with locked(self.folder / ".lock"):
            now = Ledger.read(self.folder)
            members = now.state_frame().filter("inside", gone)["segment"].to_list()
            made = replace(now, erased=dict(Counter(now.erased) + Counter(members)))
            made._keep()
            for name in (*now.parts, now.states):
                frame = pl.read_parquet(self.folder / name)
                kept = frame.filter(~gone)
                if kept.height < frame.height:
                    write_parquet(self.folder / name, kept)
        return made if now == self else self

    def _keep(self) -> None:
        """Write the manifest, then remove what it does not name."""
        told = {name: getattr(self, name) for name in ("at", "features", "erased", "parts", "states", "least")}
        described = {name: {k: asdict(v) for k, v in getattr(self, name).items()} for name in ("segments", "bounds")}
        write_json(self.folder / MANIFEST, {"version": 1, **told, **described})
        for file in self.folder.glob("*.parquet"):
            if file.name not in (*self.parts, self.states):
                file.unlink()
