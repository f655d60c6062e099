"""Cleaning report: what became of every row, and what was seen of every property; reports add up."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import polars as pl

from features.events.batch import PREFIX
from features.instants import iso


@dataclass
class Sighting:
    """One event of one source: how often, from when to when, and how often with each property."""

    events: int
    first: int
    last: int
    properties: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Sighting") -> "Sighting":
        first, last = min(self.first, other.first), max(self.last, other.last)
        return Sighting(self.events + other.events, first, last, self.properties + other.properties)


UNSUMMED = ("inventory", "repeated")


@dataclass
class CleaningReport:
    """Counts of one cleaning, or of many together.

    Attributes:
        rows: Rows read: accepted + duplicates + quarantined + erased.
        accepted: Events that go into the log; marked ones among them.
        duplicates: Copies of an event in the same batch or file.
        erased: Rows of persons who were erased.
        quarantined: Rows per reason.
        marked: Accepted events per mark (bot, address, too_fast): in the log, out of histories.
        undeclared: Values dropped (or kept as extra) per undeclared property.
        missing: Values per `property: policy` where a property was missing and its policy acted.
        denied: Ids that stand for nobody, set aside beside a usable one.
        inventory: Per (source, event), what was seen.
        repeated: The file was in the log already; nothing changed.
    """

    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    erased: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    marked: Counter[str] = field(default_factory=Counter)
    undeclared: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    denied: int = 0
    inventory: dict[tuple[str, str], Sighting] = field(default_factory=dict)
    repeated: bool = False

    def __add__(self, other: "CleaningReport") -> "CleaningReport":
        inventory = dict(self.inventory)
        for place, seen in other.inventory.items():
            inventory[place] = inventory[place] + seen if place in inventory else seen
        sums = {name: value + getattr(other, name) for name, value in vars(self).items() if name not in UNSUMMED}
        return CleaningReport(**sums, inventory=inventory)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, in an order that does not depend on the order of additions."""
        data = dict(vars(self))
        for name in ("quarantined", "marked", "undeclared", "missing"):
            data[name] = dict(sorted(data[name].items()))
        data["inventory"] = [
            {"source": source, "event": event, "events": seen.events, "first": seen.first, "last": seen.last}
            | {"properties": dict(sorted(seen.properties.items()))}
            for (source, event), seen in sorted(self.inventory.items())
        ]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The report that `to_dict` described."""
        values = dict(data)
        for name in ("quarantined", "marked", "undeclared", "missing"):
            values[name] = Counter(values[name])
        values["inventory"] = {
            (each["source"], each["event"]): Sighting(
                each["events"], each["first"], each["last"], Counter(each["properties"])
            )
            for each in values["inventory"]
        }
        return cls(**values)

    def __str__(self) -> str:
        parts = [f"{self.rows:,} rows: {self.accepted:,} events"]
        parts += [f"{count:,} {what}" for what, count in self._others() if count]
        text = ", ".join(parts)
        if self.inventory:
            first, last = (
                min(seen.first for seen in self.inventory.values()),
                max(seen.last for seen in self.inventory.values()),
            )
            text += f"; {iso(first)} to {iso(last)}"
        return text + (" (already in the log)" if self.repeated else "")

    def _others(self) -> list[tuple[str, int]]:
        marks = ", ".join(f"{count:,} {mark}" for mark, count in sorted(self.marked.items()))
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.quarantined.items()))
        return [
            ("duplicates", self.duplicates),
            (f"quarantined ({reasons})", self.quarantined.total()),
            (f"marked ({marks})", self.marked.total()),
            ("of erased persons", self.erased),
        ]


def count(frame: pl.DataFrame, report: CleaningReport) -> None:
    """Add accepted events, marks and the inventory of a cleaned frame to a report."""
    report.accepted += frame.height
    report.marked.update(dict(frame["mark"].drop_nulls().value_counts().iter_rows()))
    properties = [name for name in frame.columns if name.startswith(PREFIX)]
    seen = frame.group_by("source", "event").agg(
        pl.len(), pl.col("ts").min().alias("first"), pl.col("ts").max().alias("last"), pl.col(properties).count()
    )
    for row in seen.iter_rows(named=True):
        carried = Counter({name.removeprefix(PREFIX): row[name] for name in properties if row[name]})
        place = row["source"], row["event"]
        sighting = Sighting(row["len"], row["first"], row["last"], carried)
        earlier = report.inventory.get(place)
        report.inventory[place] = sighting if earlier is None else earlier + sighting
