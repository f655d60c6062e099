"""Persistence: windows in a row. One that moved is a rumour; two of three, and not a weekly rhythm, are an alarm."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import polars as pl

from experiments.drift import FEWEST_USERS, DriftReport, Finding
from features.instants import DAY, iso

WINDOWS, NEEDED = 3, 2
MOST = 14
"""Windows looked back at to say since when."""
WEEK = 7 * DAY
Key = tuple[str, str]


@dataclass(frozen=True)
class Window:
    """Answers of a stretch of time.

    Attributes:
        first: Where it begins, microseconds UTC.
        last: Its last instant.
        rows: The answers, in order.
    """

    first: int
    last: int
    rows: pl.DataFrame

    @property
    def users(self) -> int:
        """Of whom there are answers."""
        return self.rows["user"].n_unique()


def windows(answers: pl.DataFrame, length: int) -> list[Window]:
    """Stretches back from the last answer, the newest first; later ones than the first are left out if too small.

    So a batch once a week is a window a week, and the length is the day of the batch. One that took up to an hour of a
    day longer than the newest is not cut: where nobody is asked for half of the length, windows end after the slowest.

    Args:
        answers: With columns `user` and `at`, at least one row.
        length: Of a window, microseconds.
    """
    at = answers["at"].to_numpy()
    last = int(at.max())
    phases = np.sort((last - at) % length)
    gaps = np.diff(phases)
    later = length - int(phases[gaps.argmax() + 1]) if gaps.max(initial=0) > length // 2 else 0
    last += later if later <= length // 24 else 0
    places = (last - pl.col("at")) // length
    parts = answers.with_columns(places.alias("_place")).partition_by("_place", as_dict=True, include_key=False)
    found = []
    for (place,) in sorted(parts):
        end = last - int(place) * length
        found.append(Window(end - length + 1, end, parts[(place,)]))
    return [found[0], *(each for each in found[1:] if each.users >= FEWEST_USERS)][:MOST]


Judge = Callable[[Window], DriftReport]


def persistent(
    answers: pl.DataFrame, length: int, judge: Judge, compare: Callable[[Window, Window], DriftReport] | None = None
) -> DriftReport:
    """The newest window's report, of which only what persists raises the alarm.

    What moved in two of the three newest windows persists, unless it is a weekly rhythm: it moved in the same window a
    week before too, has not moved since, and was calm in between.

    Args:
        answers: With columns `user` and `at`, at least one row.
        length: Of a window, microseconds.
        judge: One window against what it is compared with.
        compare: The same window a week before against the newest; without it there are no weekly rhythms.
    """
    seen = windows(answers, length)
    report = cache(lambda place: judge(seen[place]))  # made when it is asked for

    def moved(place: int) -> set[Key]:
        return {finding.key for finding in report(place).findings if finding.moved}

    newest, judged = report(0), min(len(seen), WINDOWS)
    if not any(finding.moved for finding in newest.findings):
        return replace(newest, windows=judged)
    before = a_week_before(seen)
    weekly = compare(seen[before], seen[0]) if before is not None and compare else None
    since_then = {finding.key for finding in weekly.findings if finding.moved} if weekly else set()

    def told(finding: Finding) -> Finding:
        if not finding.moved:
            return finding
        run = _run(finding.key, len(seen), moved)
        persists = sum(finding.key in moved(place) for place in range(judged)) >= NEEDED
        week = ""
        if before is not None and weekly:
            as_then = finding.key in moved(before) and finding.key not in since_then
            rhythm = as_then and run < before
            week = "a weekly rhythm" if rhythm else "as a week before" if as_then else "not so a week before"
            persists = persists and not rhythm
        return replace(finding, persists=persists, since=seen[run].first, week=week)

    told_of = tuple(told(finding) for finding in newest.findings)
    return replace(newest, findings=told_of, windows=judged, notes=(*newest.notes, _looked(seen, judged, before)))


def a_week_before(seen: Sequence[Window]) -> int | None:
    """The place of the same window a week before the newest, or of the one before a longer one; None if missing."""
    length = seen[0].last - seen[0].first + 1
    ends = [abs(seen[0].last - each.last - max(WEEK, length)) for each in seen]
    return next((place for place, apart in enumerate(ends) if apart < length / 2), None)


def _looked(seen: Sequence[Window], judged: int, before: int | None) -> str:
    week = "with the same window a week before" if before is not None else "with no window a week before"
    return f"{judged} windows were judged, the newest from {iso(seen[0].first)} to {iso(seen[0].last)}, {week}"


def _run(key: Key, n: int, moved: Callable[[int], set[Key]]) -> int:
    """The place of the oldest window since which it has moved; a single calm window does not end it."""
    oldest = 0
    for place in range(1, n):
        if key in moved(place):
            oldest = place
        elif place - oldest > 1:
            break
    return oldest
