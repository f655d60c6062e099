"""Spread: standard deviation and median over nested windows."""

from collections.abc import Iterator

import numpy as np

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.schema import MISSING
from features.behaviour.table import (
    COLUMN,
    FACTOR,
    OF_STREAM,
    STAT,
    STREAM,
    Family,
    Feature,
    Table,
    User,
    of_property,
    value_of,
)
from features.behaviour.words import Names, Words

STATS = ("std", "median")
STD = 0
COUNT, NEWEST, SUM, SQUARES, BEGIN = range(5)
"""Places in a stream's tally; sums are of the differences from the newest value, its values are at `heap[BEGIN]`."""


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
    """One pass that numbers every stream's values, one from the newest event back that takes them in."""
    n_windows, window = len(table.windows), 0
    if n_windows == 0:
        return
    _make_room(user, at - table.windows[n_windows - 1], table)
    edge = at - table.windows[0]
    for k in range(user.n - 1, user.past - 1, -1):
        while user.ts[place(k)] <= edge:
            _read_off(user, table, window, out)
            window += 1
            if window == n_windows:
                return
            edge = at - table.windows[window]
        code = place(user.codes[place(k)])
        for each in range(table.places[code], table.places[code + place(1)]):
            value = value_of(user, k, each, table)
            if value != MISSING:
                _add(user.tally, user.heap, place(table.entries[place(each), OF_STREAM]), value)
    for rest in range(window, n_windows):
        _read_off(user, table, rest, out)


@compiled_inside
def _make_room(user: User, since: int, table: Table) -> None:
    """Give every stream the part of the heap that its values after `since` will fill."""
    tally = user.tally
    for stream in range(len(table.sources)):
        tally[stream, COUNT] = 0
    for k in range(user.n - 1, user.past - 1, -1):
        if user.ts[place(k)] <= since:
            break
        code = place(user.codes[place(k)])
        for each in range(table.places[code], table.places[code + place(1)]):
            if value_of(user, k, each, table) != MISSING:
                tally[place(table.entries[place(each), OF_STREAM]), COUNT] += 1
    begin = 0
    for stream in range(len(table.sources)):
        tally[stream, BEGIN] = begin
        begin += tally[stream, COUNT]
        tally[stream, COUNT] = tally[stream, SUM] = tally[stream, SQUARES] = 0


@compiled_inside
def _add(tally: Ints, heap: Ints, stream: int, value: int) -> None:
    if tally[stream, COUNT] == 0:
        tally[stream, NEWEST] = value
    difference = value - tally[stream, NEWEST]
    tally[stream, SUM] += difference
    tally[stream, SQUARES] += difference * difference
    heap[place(tally[stream, BEGIN] + tally[stream, COUNT])] = value
    tally[stream, COUNT] += 1


@compiled_inside
def _read_off(user: User, table: Table, window: int, out: Floats) -> None:
    for each in range(table.edges[window], table.edges[window + 1]):
        k = place(each)
        stream, column = place(table.features[k, STREAM]), place(table.features[k, COLUMN])
        n, begin = user.tally[stream, COUNT], user.tally[stream, BEGIN]
        if n == 0:
            out[column] = np.nan
        elif table.features[k, STAT] == STD:
            # The newest value is one of them, so the mean difference is at most sqrt(n) deviations: little is lost.
            mean = user.tally[stream, SUM] / n
            square = user.tally[stream, SQUARES] / n - mean * mean
            out[column] = np.sqrt(max(square, 0.0)) / table.features[k, FACTOR]
        else:
            out[column] = _twice_the_median(user.heap, begin, begin + n) / (2 * table.features[k, FACTOR])


@compiled_inside
def _twice_the_median(heap: Ints, begin: int, end: int) -> int:
    """The sum of the two middle values, or of the middle one and itself."""
    middle = begin + (end - begin) // 2
    _select(heap, begin, end, middle)
    upper, lower = int(heap[middle]), int(heap[begin])
    if (end - begin) % 2:
        return 2 * upper
    for k in range(begin + 1, middle):
        lower = max(lower, heap[k])
    return lower + upper


@compiled_inside
def _select(heap: Ints, begin: int, end: int, wanted: int) -> None:
    """Put at `wanted` what would be there if `heap[begin:end]` were sorted, and nothing greater before it (Hoare)."""
    low, high = begin, end - 1
    while low < high:
        pivot, left, right = heap[(low + high) // 2], low, high
        while left <= right:
            while heap[left] < pivot:
                left += 1
            while heap[right] > pivot:
                right -= 1
            if left <= right:
                heap[left], heap[right] = heap[right], heap[left]
                left, right = left + 1, right - 1
        if right < wanted:
            low = left
        if wanted < left:
            high = right


FAMILY = Family("spread", (Spread,), STATS, of_property)
