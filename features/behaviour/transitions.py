"""Transitions: what comes after what within a session, and how predictable that is."""

from collections.abc import Iterator
from fractions import Fraction
from math import log2

import numpy as np
from pydantic import Field

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.table import (
    CODE,
    COLUMN,
    DETAIL,
    OF_STREAM,
    OPTION,
    PART,
    STAT,
    STEP,
    STREAM,
    Family,
    Feature,
    Source,
    Table,
    User,
    enters,
    leads,
    of_steps,
)
from features.behaviour.words import Names, Words
from features.document import Duration
from features.instants import MINUTE

STATS = ("transition", "entropy", "transition_entropy", "moves")
TRANSITION, ENTROPY, MOVES = 0, 1, 3
AFTER, SESSION, MET, FIRST = range(4)
"""Places in a stream's tally: the step that came after, its session, the event met last. Of n kinds there follow n
counts of events, n of departures, and n * n of moves from one to the next."""


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
    """There is rarely more than one gap."""
    for stream in range(len(table.sources)):
        if leads(stream, table):
            _of_gap(user, at, table, table.sources[stream, OPTION], out)


@compiled_inside
def _of_gap(user: User, at: int, table: Table, gap: int, out: Floats) -> None:
    """One pass from the newest event back; a move counts where both of its events are in the window.

    An event that fits several kinds is of the first of them; one that fits none is passed over.
    """
    tally, n_windows, window, session = user.tally, len(table.windows), 0, 0
    _forget(tally, table, gap)
    edge = at - table.windows[0]
    for k in range(user.n - 1, user.past - 1, -1):
        ts = user.ts[place(k)]
        while ts <= edge:
            _read_off(tally, table, window, gap, out)
            window += 1
            if window == n_windows:
                return
            edge = at - table.windows[window]
        if k < user.n - 1 and user.ts[place(k + 1)] - ts > gap:
            session += 1
        code = place(user.codes[place(k)])
        for each in range(table.places[code], table.places[code + place(1)]):
            stream = place(table.entries[place(each), OF_STREAM])
            ours = table.sources[stream, OPTION] == gap and tally[stream, MET] != k
            if ours and enters(user, k, each, table):
                tally[stream, MET] = k
                _move(tally, stream, table.sources[stream, CODE], table.entries[place(each), STEP], session)
    for rest in range(window, n_windows):
        _read_off(tally, table, rest, gap, out)


@compiled_inside
def _forget(tally: Ints, table: Table, gap: int) -> None:
    for stream in range(len(table.sources)):
        if table.sources[stream, OPTION] == gap:
            n = table.sources[stream, CODE]
            for cell in range(FIRST + n * (n + 2)):
                tally[stream, cell] = 0
            tally[stream, SESSION] = tally[stream, MET] = -1


@compiled_inside
def _move(tally: Ints, stream: int, n: int, step: int, session: int) -> None:
    """An event of kind `step`, older than those before it."""
    tally[stream, place(FIRST + step)] += 1
    if tally[stream, SESSION] == session:
        tally[stream, place(FIRST + n + step)] += 1
        tally[stream, place(FIRST + n * (2 + step) + tally[stream, AFTER])] += 1
    tally[stream, AFTER], tally[stream, SESSION] = step, session


@compiled_inside
def _read_off(tally: Ints, table: Table, window: int, gap: int, out: Floats) -> None:
    for each in range(table.edges[window], table.edges[window + 1]):
        stream, stat, column = table.features[each, STREAM], table.features[each, STAT], table.features[each, COLUMN]
        if table.sources[stream, OPTION] != gap:
            continue
        if stat == TRANSITION:
            out[column] = _chance(tally, table, stream, table.features[each, PART])
        elif stat == MOVES:
            out[column] = tally[stream, FIRST + 2 * table.sources[stream, CODE] + table.features[each, PART]]
        else:
            out[column] = _entropy(tally, stream, table.sources[stream, CODE], stat == ENTROPY)


@compiled_inside
def _chance(tally: Ints, table: Table, stream: int, part: int) -> float:
    """(moves + alpha) / (departures + n * alpha); missing without a departure."""
    n, begin = table.sources[stream, CODE], table.sources[stream, DETAIL]
    departures = tally[stream, FIRST + n + part // n]
    if departures == 0:
        return np.nan
    alpha, unit = table.details[begin], table.details[begin + 1]
    return float((tally[stream, FIRST + 2 * n + part] * unit + alpha) / (departures * unit + n * alpha))


@compiled_inside
def _entropy(tally: Ints, stream: int, n: int, of_kinds: bool) -> float:
    """Bits: of the kinds, or of the next kind where the present one is known; missing without an event, or a move."""
    begin = FIRST if of_kinds else FIRST + n
    total = 0
    for cell in range(begin, begin + n):
        total += tally[stream, cell]
    if total == 0:
        return np.nan
    if of_kinds:
        return (total * log2(total) - _bits(tally, stream, begin, n)) / total
    return (_bits(tally, stream, begin, n) - _bits(tally, stream, begin + n, n * n)) / total


@compiled_inside
def _bits(tally: Ints, stream: int, begin: int, n: int) -> float:
    """The sum of c * log2(c) over n counts."""
    bits = 0.0
    for cell in range(begin, begin + n):
        count = tally[stream, cell]
        bits += BITS[place(count)] if count < len(BITS) else count * log2(count)
    return bits


def _cells(source: Source) -> int:
    return FIRST + len(source.kinds) * (len(source.kinds) + 2)


FAMILY = Family("transitions", (Transitions,), STATS, of_steps, _cells)
