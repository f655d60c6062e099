"""Quality: what became of every row ever read, and what the log holds."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from features.events.compaction import Manifest
from features.events.quarantine import REASONS
from features.events.report import CleaningReport
from features.instants import iso


@dataclass(frozen=True)
class Quality:
    """Counts over all parts, and an inventory.

    Attributes:
        parts: Files and journals in the log.
        report: All their reports together.
        manifest: Of the compaction.
        erased_ids: Ids with a tombstone.
    """

    parts: int
    report: CleaningReport
    manifest: Manifest
    erased_ids: int

    @classmethod
    def of(cls, reports: Iterable[CleaningReport], manifest: Manifest, erased_ids: int) -> Self:
        """The quality of a log with these parts."""
        listed = list(reports)
        return cls(len(listed), sum(listed, CleaningReport()), manifest, erased_ids)

    def inventory(self) -> Iterator[tuple[str, str, str, int, float, str, str]]:
        """Rows source, event, property (`-`: the event itself), events, coverage, first seen, last seen."""
        for (source, event), seen in sorted(self.report.inventory.items()):
            times = iso(seen.first), iso(seen.last)
            yield source, event, "-", seen.events, 1.0, *times
            for name, carried in sorted(seen.properties.items()):
                yield source, event, name, carried, carried / seen.events, *times

    def counts(self) -> dict[str, int]:
        """What a person asks first, in order."""
        report, manifest = self.report, self.manifest
        return {
            "rows read": report.rows,
            "events in the log": report.accepted,
            "events after duplicates": manifest.rows,
            "persons": manifest.users,
            "duplicates in a file": report.duplicates,
            "duplicates between files": manifest.duplicates,
            "quarantined": report.quarantined.total(),
            "marked as bots": report.marked.total(),
            "persons found too fast": manifest.too_fast,
            "ids joined to another": manifest.merged,
            "ids that stand for nobody": report.denied,
            "rows of erased persons": report.erased,
            "erased ids": self.erased_ids,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        names = ("source", "event", "property", "events", "coverage", "first", "last")
        report = self.report.to_dict()
        return {
            "parts": self.parts,
            "counts": {name.replace(" ", "_"): count for name, count in self.counts().items()},
            **{name: report[name] for name in ("quarantined", "marked", "undeclared", "missing")},
            "inventory": [dict(zip(names, row, strict=True)) for row in self.inventory()],
        }

    def __str__(self) -> str:
        width = max(len(name) for name in self.counts())
        lines = [f"{name.ljust(width)}  {count:>12,}" for name, count in self.counts().items()]
        lines += _section(
            "quarantined, by reason",
            {
                f"{reason}: {REASONS.get(reason, '')}": count
                for reason, count in sorted(self.report.quarantined.items())
            },
        )
        lines += _section("marked: in the log, out of histories", self.report.marked)
        lines += _section("values of undeclared properties", self.report.undeclared)
        lines += _section("missing values, by policy", self.report.missing)
        return "\n".join(lines)


def _section(title: str, counts: dict[str, int]) -> list[str]:
    rows = [f"  {count:>12,}  {name}" for name, count in sorted(counts.items())]
    return ["", title, *rows] if rows else []
