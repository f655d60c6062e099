"""Spread: standard deviation and median over nested windows."""

from collections.abc import Iterator

import numpy as np

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.feature import Feature
from features.behaviour.schema import MISSING
from features.behaviour.table import (
    COLUMN,
    FACTOR,
    SLOT,
    STAT,
    Family,
    Table,
    User,
    asked,
    end_of,
    first_of,
    of_property,
    value_at,
)
from features.behaviour.words import Names, Words

STATS = ("std", "median")
STD = 0


class Spread(Declaration):
    """`{std: order_completed.revenue, median: order_completed.revenue, windows: [30d]}`."""

    std: Names = ()
    median: Names = ()
    windows: Spans

    def features(self, words: Words) -> Iterator[Feature]:
        """`std_<event>_<property>_<window>`, `median_<event>_<property>_<window>`."""
        for text, window in self.windows:
            for stat in STATS:
                for name, kind, prop in self.properties(getattr(self, stat), words, numeric=True):
                    yield Feature(f"{stat}_{name}_{prop}_{text}", "spread", stat, name, kind, prop, window)


@compiled_inside
def spread(user: User, at: int, table: Table, out: Floats) -> None:
    """A pass a stream, from the newest event back; its values are collected in `heap`.

    Sums are of the differences from the newest value, which is one of them: so the mean difference is at most sqrt(n)
    deviations, and little is lost.
    """
    for stream in range(len(table.sources)):
        slot, high = table.sources[place(stream), SLOT], end_of(user, stream, table)
        n, newest, total, squares = 0, 0, 0, 0
        for window in range(len(table.windows)):
            low = first_of(user, stream, window, table)
            for j in range(high - 1, low - 1, -1):
                value = value_at(user, user.members[place(j)], slot)
                if value == MISSING:
                    continue
                newest = newest if n else value
                total, squares = total + value - newest, squares + (value - newest) * (value - newest)
                user.heap[place(n)] = value
                n += 1
            high = low
            begin, end = asked(stream, window, table)
            for each in range(begin, end):
                k = place(each)
                column, factor = place(table.features[k, COLUMN]), table.features[k, FACTOR]
                if n == 0:
                    out[column] = np.nan
                elif table.features[k, STAT] == STD:
                    mean = total / n
                    out[column] = np.sqrt(max(squares / n - mean * mean, 0.0)) / factor
                else:
                    out[column] = _twice_the_median(user.heap, n) / (2 * factor)


@compiled_inside
def _twice_the_median(heap: Ints, n: int) -> int:
    """The sum of the two middle values of the first n, or of the middle one and itself."""
    middle = n // 2
    _select(heap, 0, n, middle)
    upper, lower = int(heap[place(middle)]), int(heap[0])
    if n % 2:
        return 2 * upper
    for k in range(1, middle):
        lower = max(lower, heap[place(k)])
    return lower + upper


@compiled_inside
def _select(heap: Ints, begin: int, end: int, wanted: int) -> None:
    """Put at `wanted` what would be there if `heap[begin:end]` were sorted, and nothing greater before it (Hoare)."""
    low, high = begin, end - 1
    while low < high:
        pivot, left, right = heap[place((low + high) // 2)], low, high
        while left <= right:
            while heap[place(left)] < pivot:
                left += 1
            while heap[place(right)] > pivot:
                right -= 1
            if left <= right:
                heap[place(left)], heap[place(right)] = heap[place(right)], heap[place(left)]
                left, right = left + 1, right - 1
        if right < wanted:
            low = left
        if wanted < left:
            high = right


FAMILY = Family("spread", (Spread,), STATS, of_property)
