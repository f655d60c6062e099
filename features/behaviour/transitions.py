"""Transitions: what comes after what within a session, and how predictable that is."""

from collections.abc import Iterator
from fractions import Fraction
from math import log2

import numpy as np
from pydantic import Field

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.feature import Feature
from features.behaviour.table import (
    CODE,
    COLUMN,
    DETAIL,
    FILTER,
    OF_STREAM,
    OPTION,
    PART,
    STAT,
    STEP,
    Family,
    Source,
    Table,
    User,
    asked,
    enters,
    first_of,
    of_steps,
)
from features.behaviour.words import Names, Words
from features.document import Duration
from features.instants import MINUTE

STATS = ("transition", "entropy", "transition_entropy", "moves")
TRANSITION, ENTROPY, MOVES = 0, 1, 3
TESTED = -2
"""The step of an event code whose first step depends on a filter."""

BITS = np.array([0.0, *(n * log2(n) for n in range(1, 256))])
"""n * log2(n): most counts are small, and logarithms slow."""


class Transitions(Declaration):
    """`{transitions: [product_viewed, product_added], alpha: 1, entropy: [page_viewed, scrolled], windows: [30d]}`.

    `{moves: [product_viewed, product_added], windows: [30d]}`.
    """

    transitions: Names = ()
    moves: Names = ()
    entropy: Names = ()
    alpha: float = Field(1.0, ge=0)
    gap: Duration = 30 * MINUTE
    windows: Spans

    def features(self, words: Words) -> Iterator[Feature]:
        """`transition_<event>_<next event>_<window>`, likewise `moves_`; `entropy_<window>`, `transition_entropy_`."""
        for text, window in self.windows:
            for stat, names in (("transition", self.transitions), ("moves", self.moves)):
                for part in range(len(names) ** 2):
                    one, other = (names[k] for k in divmod(part, len(names)))
                    name = f"{stat}_{one}_{other}{self.suffix}_{text}"
                    yield self._feature(name, stat, names, words, window, part, f"{one} to {other}")
            for stat in STATS[ENTROPY:MOVES] if self.entropy else ():
                yield self._feature(f"{stat}{self.suffix}_{text}", stat, self.entropy, words, window)

    def _feature(
        self, name: str, stat: str, names: Names, words: Words, window: int, part: int = 0, said: str = ""
    ) -> Feature:
        alpha, among = Fraction(str(self.alpha)), ", ".join(names)
        return Feature(
            name, "transitions", stat, among, window=window, option=self.gap, steps=self.steps(names, words, least=2),
            detail=alpha.as_integer_ratio(), part=part, said=said,
        )  # fmt: skip


@compiled_inside
def transitions(user: User, at: int, table: Table, out: Floats) -> None:
    """A pass a stream, from the newest event back; a move counts where both of its events are in the window.

    An event that fits several kinds is of the first of them; one that fits none is passed over. Where nothing comes
    after it in its session, the move leads to the end: without a branch, as no pause can be guessed.
    """
    for stream in range(len(table.sources)):
        n, gap = table.sources[place(stream), CODE], table.sources[place(stream), OPTION]
        moves, later, after, high = user.tally[0], at, n, user.n
        tested = _match(user.counts, stream, table)
        for cell in range(n * (n + 1)):
            moves[place(cell)] = 0
        for window in range(len(table.windows)):
            low = first_of(user, stream, window, table)
            for k in range(high - 1, low - 1, -1):
                step, ts = user.counts[place(user.codes[place(k)])], user.ts[place(k)]
                if tested and step == TESTED:
                    step = _tested(user, k, stream, table)
                after, later = n if later - ts > gap else after, ts
                if step >= 0:
                    moves[place(step * (n + 1) + after)] += 1
                    after = step
            high = low
            begin, end = asked(stream, window, table)
            if begin < end:
                _summed(moves, n)
            for each in range(begin, end):
                stat, column = table.features[place(each), STAT], place(table.features[place(each), COLUMN])
                if stat == TRANSITION:
                    out[column] = _chance(moves, table, stream, table.features[place(each), PART])
                elif stat == MOVES:
                    one, other = table.features[place(each), PART] // n, table.features[place(each), PART] % n
                    out[column] = moves[place(one * (n + 1) + other)]
                else:
                    out[column] = _entropy(moves, n, stat == ENTROPY)


@compiled_inside
def _match(steps: Ints, stream: int, table: Table) -> bool:
    """For each event code the step that it is, -1 without one, or TESTED; whether there is such a one."""
    tested = False
    for code in range(len(steps)):
        steps[place(code)] = -1
        for each in range(table.places[place(code)], table.places[place(code + 1)]):
            if table.entries[place(each), OF_STREAM] == stream and steps[place(code)] == -1:
                by_filter = table.entries[place(each), FILTER] >= 0
                steps[place(code)] = TESTED if by_filter else table.entries[place(each), STEP]
                tested = tested or by_filter
    return tested


@compiled_inside
def _tested(user: User, k: int, stream: int, table: Table) -> int:
    """The first step that event k is; -1 without one."""
    code = place(user.codes[place(k)])
    for each in range(table.places[code], table.places[code + place(1)]):
        if table.entries[place(each), OF_STREAM] == stream and enters(user, k, each, table):
            return int(table.entries[place(each), STEP])
    return -1


@compiled_inside
def _summed(moves: Ints, n: int) -> None:
    """Behind the moves, from each kind to each kind or the end, write how many begin at each; with the end, without."""
    for step in range(n):
        leaving = 0
        for after in range(n):
            leaving += moves[place(step * (n + 1) + after)]
        moves[place(n * (n + 1) + step)] = leaving + moves[place(step * (n + 1) + n)]
        moves[place(n * (n + 2) + step)] = leaving


@compiled_inside
def _chance(moves: Ints, table: Table, stream: int, part: int) -> float:
    """(moves + alpha) / (departures + n * alpha); missing without a departure."""
    n, begin = table.sources[place(stream), CODE], table.sources[place(stream), DETAIL]
    step, departures = part // n, moves[place(n * (n + 2) + part // n)]
    if departures == 0:
        return np.nan
    alpha, unit = table.details[place(begin)], table.details[place(begin + 1)]
    return float((moves[place(step * (n + 1) + part % n)] * unit + alpha) / (departures * unit + n * alpha))


@compiled_inside
def _entropy(moves: Ints, n: int, of_kinds: bool) -> float:
    """Bits: of the kinds, or of the next kind where the present one is known; missing without an event, or a move."""
    begin, total = n * (n + 1 if of_kinds else n + 2), 0
    for cell in range(begin, begin + n):
        total += moves[place(cell)]
    if total == 0:
        return np.nan
    if of_kinds:
        return (total * log2(total) - _bits(moves, begin, n)) / total
    together = 0.0
    for step in range(n):
        together += _bits(moves, step * (n + 1), n)
    return (_bits(moves, begin, n) - together) / total


@compiled_inside
def _bits(moves: Ints, begin: int, n: int) -> float:
    """The sum of c * log2(c) over n counts."""
    bits = 0.0
    for cell in range(begin, begin + n):
        count = moves[place(cell)]
        bits += BITS[place(count)] if count < len(BITS) else count * log2(count)
    return bits


def _cells(source: Source) -> int:
    return len(source.kinds) * (len(source.kinds) + 3)


FAMILY = Family("transitions", (Transitions,), STATS, of_steps, _cells)
