"""Anchors: events that become rows: each as of the instant at which it was known, in the part of its time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from features.behaviour.histories import Histories
from features.behaviour.schema import CODE_MASK, FLAG_SHIFT, HEAD, ID, KNOWN, REMOVED, TS
from features.errors import StudyError
from features.instants import DAY, NEVER, format_duration, iso, parse_instant
from training.parts import EMBARGO, INCOMPLETE, TEST, TRAIN, VALIDATION, Candidates

Span = tuple[int, int]
"""Behind the first instant, up to the second."""


@dataclass(frozen=True)
class Anchors:
    """The spans of time whose anchors train, choose and judge; between them lies the embargo.

    Attributes:
        event: Whose events are rows.
        train: Learn from these.
        validation: Choose, stop and calibrate on these; None: a share of the persons does it.
        test: Judge on these; behind its end no label is complete.
    """

    event: str
    train: Span
    validation: Span | None
    test: Span

    @classmethod
    def within(cls, event: str, span: Span, *, every: int, last: int, embargo: int) -> "Anchors":
        """The newest `last` spans of length `every` whose labels are complete, the newest one for the test.

        Args:
            event: The anchor.
            span: First and last `ts` of the log.
            every: Length of the test's and the validation's span, microseconds.
            last: How many spans, the training's included.
            embargo: Label horizon and blind spot.

        Raises:
            StudyError: nothing is left to learn from.
        """
        end = (span[1] - embargo) // DAY * DAY
        begin = max(end - last * every, span[0] - 1)
        test = (end - every, end)
        choose = test[0] - embargo
        if begin < choose - every - embargo:
            return cls(event, (begin, choose - every - embargo), (choose - every, choose), test)
        if begin < choose:
            return cls(event, (begin, choose), None, test)
        raise StudyError(
            f"no {event} lies {format_duration(embargo)} before those of the test, which begin at {iso(test[0])}. "
            "Hint: more spans (`last`), a shorter `every` or `within`, or a longer log."
        )

    def to_dict(self) -> dict[str, list[str]]:
        """Plain values: the ends of the spans by part."""
        spans = {"train": self.train, "validation": self.validation or (), "test": self.test}
        return {name: [iso(instant) for instant in ends] for name, ends in spans.items()}

    @classmethod
    def from_dict(cls, event: str, data: Mapping[str, Sequence[str]]) -> Self:
        """What `to_dict` gave, of this event."""
        spans = {name: tuple(parse_instant(text) for text in texts) or None for name, texts in data.items()}
        return cls(event, **spans)  # type: ignore[arg-type] # spans of two instants, as `to_dict` wrote them

    @property
    def chooses_by_time(self) -> bool:
        """Whether a span of its own is there to choose on."""
        return self.validation is not None

    def candidates(self, histories: Histories) -> Iterator[Candidates]:
        """A row for every event, as of the instant at which it was first known."""
        rows, at = _known(histories, histories.schema.code(self.event))
        inside = at > self.train[0]
        yield Candidates(rows[inside], at[inside], self._parts(at[inside]))

    def _parts(self, at: NDArray[np.int64]) -> NDArray[np.int8]:
        parts = np.full(len(at), EMBARGO, np.int8)
        for part, span in ((TRAIN, self.train), (VALIDATION, self.validation), (TEST, self.test)):
            if span is not None:
                parts[(at > span[0]) & (at <= span[1])] = part
        parts[at > self.test[1]] = INCOMPLETE
        return parts


def _known(histories: Histories, code: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(row, instant) of every event of a code: the first known copy of its id counts, once it has happened.

    What was taken back before it happened never was there.
    """
    lengths = histories.ends - histories.starts
    rows = np.repeat(np.arange(len(histories)), lengths)
    records = np.repeat(histories.starts - np.cumsum(lengths) + lengths, lengths) + np.arange(len(rows))
    heads = histories.slots[records, HEAD]
    mine = (heads & CODE_MASK == code) | (code == 0)
    rows, records, removes = rows[mine], records[mine], (heads[mine] >> FLAG_SHIFT & REMOVED) != 0
    ids, known, ts = (histories.slots[records, column] for column in (ID, KNOWN, TS))
    order = np.lexsort((ts, known, ids, rows))
    first = np.ones(len(order), np.bool_)
    first[1:] = (rows[order][1:] != rows[order][:-1]) | (ids[order][1:] != ids[order][:-1])
    group = np.cumsum(first) - 1
    gone = np.full(int(first.sum()), NEVER)
    np.minimum.at(gone, group[removes[order]], known[order][removes[order]])
    chosen = order[first]
    at = np.maximum(known, ts)[chosen]
    found = np.unique(np.stack([rows[chosen], at])[:, gone > at], axis=1)
    return found[0], found[1]
