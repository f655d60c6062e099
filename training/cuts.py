"""Cuts: the instants at which histories are frozen into rows, and which of them train, choose and judge."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from features.behaviour.histories import Histories
from features.document import Definition, Duration, Instant
from features.errors import StudyError
from features.instants import DAY, format_duration, iso, parse_instant
from training.anchors import Anchors
from training.parts import EMBARGO, INCOMPLETE, Candidates


class CutsSpec(Definition):
    """When rows are made.

    `{every: 7d, last: 8}`: everybody, week by week. `{train: [DATES], test: DATE}`, with `validation: DATE` or without:
    everybody at these dates. `{on: EVENT, every: 7d, last: 8}`: whenever it happens, the newest week to judge on.
    """

    every: Duration | None = None
    last: int | None = Field(None, ge=1, le=520)
    train: tuple[Instant, ...] = ()
    validation: Instant | None = None
    test: Instant | None = None
    on: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        weekly, dated = self.every is not None and self.last is not None, bool(self.train) and self.test is not None
        half = (self.every is None) != (self.last is None) or (bool(self.train) != (self.test is not None))
        if weekly == dated or half or (weekly and self.validation is not None) or (dated and self.on is not None):
            raise ValueError(
                "cuts are {every: 7d, last: 8}, {train: [2026-01-05], test: 2026-02-02} or "
                "{on: EVENT, every: 7d, last: 8}"
            )
        dates = [*self.train, *(date for date in (self.validation, self.test) if date is not None)]
        if dated and dates != sorted(set(dates)):
            raise ValueError("the dates of train, validation and test must rise")
        return self

    def resolve(self, span: tuple[int, int], *, horizon: int, blind_spot: int) -> "Cuts | Anchors":
        """The instants, within what the log can answer; without a label, back from the midnight after its last event.

        Args:
            span: First and last `ts` of the log.
            horizon: H of the label; 0 without one.
            blind_spot: How late an event may become known.

        Raises:
            StudyError: the log is too short for a cut to learn from and a later one to judge on.
        """
        latest = span[1] - horizon - blind_spot
        embargo = horizon + blind_spot
        if self.test is not None:
            return _dated(self, latest, embargo)
        every, last = int(self.every or DAY), int(self.last or 1)
        if self.on is not None:
            return Anchors.within(self.on, span, every=every, last=last, embargo=embargo)
        newest = latest // DAY * DAY if horizon else -(-span[1] // DAY) * DAY
        instants = [newest - place * every for place in reversed(range(last))]
        known = [instant for instant in instants if instant > span[0]]
        if not known:
            raise StudyError(
                f"the log goes from {iso(span[0])} to {iso(span[1])}: too short for one cut with a label horizon of "
                f"{format_duration(horizon) if horizon else 'nothing'}. Hint: a shorter `within`, or more events."
            )
        later = tuple(range(newest + every, span[1], every))
        return _rolled(known, embargo, later) if horizon else Cuts((known[-1],), (), (), tuple(known[:-1]))


@dataclass(frozen=True)
class Cuts:
    """Instants by part; `unused` ones would let a label reach into the next part's features.

    Attributes:
        train: Learn from these.
        validation: Choose, stop and calibrate on these; empty: a share of the persons does it.
        test: Judge on these.
        unused: Given up for the embargo.
        incomplete: Later ones, whose labels are not complete yet.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    unused: tuple[int, ...] = ()
    incomplete: tuple[int, ...] = ()

    @property
    def chooses_by_time(self) -> bool:
        """Whether a cut of its own is there to choose on, or nothing to judge."""
        return bool(self.validation) or not self.test

    def candidates(self, histories: Histories) -> Iterator[Candidates]:
        """Everybody at every cut."""
        parts = (self.train, self.validation, self.test)
        instants = [(instant, part) for part, instants in enumerate(parts) for instant in instants]
        instants += [(instant, EMBARGO) for instant in self.unused]
        instants += [(instant, INCOMPLETE) for instant in self.incomplete]
        rows = np.arange(len(histories))
        for instant, part in instants:
            yield Candidates(rows, np.full(len(rows), instant, np.int64), np.full(len(rows), part, np.int8))

    def to_dict(self) -> dict[str, list[str]]:
        """Plain values: ISO texts by part."""
        return {name: [iso(instant) for instant in instants] for name, instants in vars(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Sequence[str]]) -> Self:
        """What `to_dict` gave."""
        return cls(**{name: tuple(parse_instant(text) for text in texts) for name, texts in data.items()})


def _dated(spec: CutsSpec, latest: int, embargo: int) -> Cuts:
    test = int(spec.test or 0)
    if test > latest:
        raise StudyError(
            f"the label of the test cut {iso(test)} is not complete: the log can answer cuts up to {iso(latest)}. "
            "Hint: an earlier `test`, a shorter `within`, or more events."
        )
    if spec.validation is not None:
        usable = tuple(cut for cut in spec.train if cut + embargo <= spec.validation)
        cuts = Cuts(usable, (spec.validation,), (test,), tuple(cut for cut in spec.train if cut not in usable))
        _refuse_overlap(spec.validation, test, embargo)
    else:
        usable = tuple(cut for cut in spec.train if cut + embargo <= test)
        cuts = Cuts(usable, (), (test,), tuple(cut for cut in spec.train if cut not in usable))
    if not cuts.train:
        _refuse_overlap(spec.train[0], spec.validation or test, embargo)
    return cuts


def _refuse_overlap(earlier: int, later: int, embargo: int) -> None:
    if earlier + embargo > later:
        raise StudyError(
            f"the label of the cut {iso(earlier)} ends at {iso(earlier + embargo)}, after the next part's cut "
            f"{iso(later)}: it would know what that part is asked. Hint: move them {format_duration(embargo)} apart."
        )


def _rolled(known: list[int], embargo: int, later: tuple[int, ...]) -> Cuts:
    test = known[-1]
    before = [cut for cut in known if cut + embargo <= test]
    if not before:
        raise StudyError(
            f"no cut is {format_duration(embargo)} before the test cut {iso(test)}. "
            "Hint: more cuts (`last`), a shorter `within`, or a longer log."
        )
    validation = before[-1]
    train = [cut for cut in before if cut + embargo <= validation]
    if not train:
        return Cuts(tuple(before), (), (test,), tuple(cut for cut in known[:-1] if cut not in before), later)
    used = {*train, validation, test}
    return Cuts(tuple(train), (validation,), (test,), tuple(cut for cut in known if cut not in used), later)
