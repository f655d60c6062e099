"""Back-test: who would have been in a segment on past dates, and what they did next, against everybody else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from experiments.audience import Audience
from experiments.inference import Summary, fold, lift
from features.errors import AnalysisError
from features.instants import NEVER, format_duration, iso
from features.project import Project
from features.segments.program import TRUE
from features.segments.segment_set import SegmentSet
from training.label import Label
from training.outcome import Source

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """What is looked at after each date.

    Attributes:
        goal: The event that counts as conversion.
        value: `EVENT.property` that is summed; empty for none.
        within: How long after the date, microseconds.
    """

    goal: str
    value: str
    within: int

    def of(self, audience: Audience, names: Sequence[str]) -> tuple[Audience, SegmentSet, dict[str, Source]]:
        """Everybody with what the figures need, the named segments, by default the active ones, and the sources.

        Raises:
            DefinitionError: there is no such segment, event or property.
        """
        sources, chosen = self.sources(audience), audience.named(names)
        wider = audience.wider({name for source in sources.values() for name in source.schema.properties})
        return wider, wider.segments.only(chosen), sources

    def sources(self, audience: Audience) -> dict[str, Source]:
        """Per figure what gives it: conversion, value, retention."""
        within = format_duration(self.within)
        said: dict[str, Mapping[str, object]] = {"conversion": {"did": self.goal}, "retention": {"did": "any"}}
        said |= {"value": {"value": self.value}} if self.value else {}
        plan, codes, zone = audience.log.plan, audience.log.codes, audience.schema.zone
        return {
            name: Label.from_dict({**each, "within": within}).source(plan, codes, zone=zone)
            for name, each in said.items()
        }


@dataclass(frozen=True)
class Row:
    """One segment on one date.

    Attributes:
        segment: Its name.
        at: The date, microseconds UTC.
        size: People in it; None below its minimum size, and then nothing else is told.
        share: Of all people seen by then.
        figures: Per figure its mean inside, its mean among everybody else, the lift and its 95 % interval.
    """

    segment: str
    at: int
    size: int | None
    share: float
    figures: Mapping[str, tuple[float, float, float | None, float | None, float | None]]


@dataclass(frozen=True)
class Backtest:
    """All segments on all dates."""

    asked: Asked
    rows: tuple[Row, ...]

    @classmethod
    def of(
        cls,
        project: Project,
        asked: Asked,
        *,
        begin: int,
        end: int | None = None,
        every: int,
        names: Sequence[str] = (),
        told: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """The back-test of a project's segments, as known on each date.

        Args:
            project: Whose segments and log.
            asked: What is looked at afterwards.
            begin: The first date.
            end: None after this one; by default the last whose outcome is known.
            every: Between dates, microseconds.
            names: Of segments; all active ones where none are named.
            told: Hears of every step.

        Raises:
            AnalysisError: the outcome of no date is known yet.
        """
        audience = Audience.of(project)
        last = min(audience.at - asked.within, NEVER if end is None else end)
        dates = list(range(begin, last + 1, every))
        if not dates:
            raise AnalysisError(
                f"no date from {iso(begin)} on has {format_duration(asked.within)} of log after it, which ends at "
                f"{iso(audience.at)}."
            )
        audience, segments, sources = asked.of(audience, names)
        sums = np.zeros((len(dates), len(segments), 2, len(sources), 3))
        for histories in audience.everybody(told=told):
            for place, date in enumerate(dates):
                mine = histories.take(np.flatnonzero(audience.seen(histories, date)))
                inside = audience.truths(mine, date, segments).values == TRUE
                later = np.full(len(mine), date + asked.within)
                outcome = np.array([_outcome(name, source.numbers(mine, later)) for name, source in sources.items()])
                sums[place] += _sums(inside, outcome)
        least = {each.name: each.min_size for each in segments.segments}
        rows = [
            _row(name, date, sums[place, k], list(sources), least[name])
            for place, date in enumerate(dates)
            for k, name in enumerate(segments.names)
        ]
        return cls(asked, tuple(rows))

    def __str__(self) -> str:
        head = f"in the {format_duration(self.asked.within)} after each date, inside against everybody else"
        lines = [head]
        for row in self.rows:
            where = f"  {iso(row.at)} {row.segment}: "
            if row.size is None:
                lines.append(f"{where}fewer than its min_size")
                continue
            figures = [f"{name} {_told(*each)}" for name, each in row.figures.items()]
            lines.append(f"{where}{row.size:,} ({row.share:.1%}); {'; '.join(figures) or 'nobody to compare'}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        keys = ("inside", "others", "lift", "low", "high")
        rows = [
            {
                "segment": row.segment,
                "at": iso(row.at),
                "size": row.size,
                "share": row.share,
                **{name: dict(zip(keys, each, strict=True)) for name, each in row.figures.items()},
            }
            for row in self.rows
        ]
        return {"within": format_duration(self.asked.within), "goal": self.asked.goal, "rows": rows}


def _outcome(name: str, numbers: Floats) -> Floats:
    return numbers if name == "value" else (numbers > 0).astype(np.float64)


def _sums(inside: NDArray[np.bool_], outcome: Floats) -> Floats:
    """Shape (n_segments, 2, n_figures, 3): rows, sum and sum of squares of everybody else, then of those inside."""
    powers = np.stack([np.ones_like(outcome), outcome, outcome**2], axis=-1)  # (n_figures, n_rows, 3)
    within = np.einsum("rs,frp->sfp", inside.astype(np.float64), powers)
    return np.stack([powers.sum(axis=1)[None] - within, within], axis=1)


def _row(name: str, at: int, sums: Floats, figures: Sequence[str], least: int) -> Row:
    """One segment on one date, from shape (2, n_figures, 3)."""
    others, inside = int(sums[0, 0, 0]), int(sums[1, 0, 0])
    share = inside / max(others + inside, 1)
    if inside < least:
        return Row(name, at, None, 0.0, {})
    told = {}
    for k, figure in enumerate(figures):
        control, arm = (Summary.of_sums(*sums[side, k].tolist()) for side in (0, 1))
        found = (fold(arm, control) or lift(arm, control)) if arm.n > 1 and control.n > 1 else None
        more = (found.value, found.low, found.high) if found is not None else (None, None, None)
        told[figure] = (arm.mean, control.mean, *more)
    return Row(name, at, inside, share, told if inside and others else {})


def _told(inside: float, others: float, value: float | None, low: float | None, high: float | None) -> str:
    if value is None or low is None or high is None:
        return f"{inside:.3g} against {others:.3g}"
    return f"{inside:.3g} against {others:.3g} ({1 + value:.2f}x [{1 + low:.2f}, {1 + high:.2f}])"
