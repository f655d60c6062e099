"""Orders: events that follow each other within a session, at once (n-grams) or with others between (patterns)."""

from collections.abc import Iterator

import numpy as np

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
    STAT,
    STEP,
    Family,
    Source,
    Table,
    User,
    asked,
    enters,
    leads,
    of_steps,
)
from features.behaviour.words import Names, Words
from features.document import Duration
from features.instants import MINUTE, parse_instant

STATS = ("ngram", "pattern", "has_pattern")
HAS_PATTERN = 2
BIT, COUNT = 0, 1
"""Places in a stream's tally: the bit of its first step; how often it was found."""
WORD = 62
BYTE, MOST = 8, 255
SPREAD = np.array([sum((number >> bit & 1) << BYTE * bit for bit in range(BYTE)) for number in range(1 << BYTE)])
"""The bits of a byte, each in a byte of its own, where as many as MOST of each can be added up at once."""
TESTED = -1 << 63
"""Of the steps that an event code is: more of them depend on filters."""


class Orders(Declaration):
    """`{ngrams: [[product_viewed, product_added]], patterns: [[cart_viewed, order_completed]], windows: [30d]}`.

    `{has_patterns: [[product_viewed, cart_viewed, order_completed]], gap: 30m, windows: [30d]}`.

    Attributes:
        ngrams: Events that come directly after each other.
        patterns: Events that come after each other; the sessions that go through them are counted.
        has_patterns: The same, whether there is such a session.
        mined: As of when, how and from whom the orders were mined (see `mining`); empty where they were not.
        gap: The silence that ends a session.
    """

    ngrams: tuple[Names, ...] = ()
    patterns: tuple[Names, ...] = ()
    has_patterns: tuple[Names, ...] = ()
    mined: str = ""
    gap: Duration = 30 * MINUTE
    windows: Spans

    def features(self, words: Words) -> Iterator[Feature]:
        """`ngram_<event>_<event>_<window>`, `pattern_<event>_<event>_<window>`, `has_pattern_...`."""
        if self.mined:
            parse_instant(self.mined.split()[0])
        for text, window in self.windows:
            for stat in STATS:
                for names in getattr(self, f"{stat}s"):
                    yield Feature(
                        f"{stat}_{'_'.join(names)}{self.suffix}_{text}", "orders", stat, ", ".join(names),
                        window=window, option=self.gap, steps=self.steps(names, words, least=2),
                        detail=(int(stat == "ngram"),), learnt=self.mined,
                    )  # fmt: skip


@compiled_inside
def orders(user: User, at: int, table: Table, out: Floats) -> None:
    """All orders of a gap that fit a word are looked for at once, a bit a step."""
    for lead in range(len(table.sources)):
        if leads(lead, table):
            begin = lead
            while begin < len(table.sources):
                begin = _of_word(user, at, table, table.sources[lead, OPTION], begin, out)


@compiled_inside
def _of_word(user: User, at: int, table: Table, gap: int, begin: int, out: Floats) -> int:
    """One pass from the newest event back, so that a find is in the windows that its first event is in.

    What is found at an event is kept, the bits of first steps, and counted afterwards: no find can be guessed. The
    steps of an order are `stride` bits apart; the first steps of all orders are the lowest bits.

    Args:
        user: Whose events.
        at: As of.
        table: The family's.
        gap: Of the streams to look for.
        begin: The first of them.
        out: The row.

    Returns:
        The first stream that did not fit.
    """
    end, stride = _fitting(table, gap, begin)
    lasts, direct = _laid_out(user.tally, table, gap, begin, end, stride)
    _match(user.counts, user.tally, table, gap, begin, end, stride)
    following, awaited, later, finds = 0, lasts & ~direct, at, user.spare
    for k in range(user.n - 1, user.past - 1, -1):
        ts = user.ts[place(k)]
        if later - ts > gap:
            following, awaited = 0, lasts & ~direct
        later, steps = ts, user.counts[place(user.codes[place(k)])]
        if steps < 0:
            steps = _tested(user, k, steps & ~TESTED, table, gap, begin, end, stride)
        following = (following >> stride | lasts) & steps & direct
        came = awaited & steps
        awaited = awaited & ~came | came >> stride
        finds[place(k)] = following | came
    _read_off(user, table, gap, begin, end, stride, out)
    return end


@compiled_inside
def _fitting(table: Table, gap: int, begin: int) -> tuple[int, int]:
    """How many of the streams from `begin` on fit a word: (the first that does not, their number)."""
    end, longest, n = begin, 0, 0
    while end < len(table.sources):
        if table.sources[place(end), OPTION] == gap:
            longest = max(longest, table.sources[place(end), CODE])
            if longest * (n + 1) > WORD:
                break
            n += 1
        end += 1
    return end, n


@compiled_inside
def _laid_out(tally: Ints, table: Table, gap: int, begin: int, end: int, stride: int) -> tuple[int, int]:
    """Give the streams their bits: (last steps, n-grams)."""
    bit, lasts, direct = 0, 0, 0
    for stream in range(begin, end):
        if table.sources[place(stream), OPTION] == gap:
            n = table.sources[place(stream), CODE]
            lasts |= 1 << ((n - 1) * stride + bit)
            if table.details[place(table.sources[place(stream), DETAIL])]:
                for step in range(n):
                    direct |= 1 << (step * stride + bit)
            tally[place(stream), BIT], tally[place(stream), COUNT] = bit, 0
            bit += 1
    return lasts, direct


@compiled_inside
def _match(steps: Ints, tally: Ints, table: Table, gap: int, begin: int, end: int, stride: int) -> None:
    """For each event code the steps that it is, and whether others depend on a filter."""
    for code in range(len(steps)):
        found = 0
        for each in range(table.places[place(code)], table.places[place(code + 1)]):
            stream, step = table.entries[place(each), OF_STREAM], table.entries[place(each), STEP]
            if begin <= stream < end and table.sources[place(stream), OPTION] == gap:
                tested = table.entries[place(each), FILTER] >= 0
                found |= TESTED if tested else 1 << (step * stride + tally[place(stream), BIT])
        steps[place(code)] = found


@compiled_inside
def _tested(user: User, k: int, steps: int, table: Table, gap: int, begin: int, end: int, stride: int) -> int:
    """The steps that event k is, those included that depend on a filter."""
    code = place(user.codes[place(k)])
    for each in range(table.places[code], table.places[code + place(1)]):
        stream, step = table.entries[place(each), OF_STREAM], table.entries[place(each), STEP]
        if begin <= stream < end and table.sources[place(stream), OPTION] == gap and enters(user, k, each, table):
            steps |= 1 << (step * stride + user.tally[place(stream), BIT])
    return steps


@compiled_inside
def _read_off(user: User, table: Table, gap: int, begin: int, end: int, stride: int, out: Floats) -> None:
    """Count the finds whose first event is in a window."""
    high = user.n
    for window in range(len(table.windows)):
        low = user.firsts[0, place(table.spans[place(window)])]
        while high > low:
            some = max(low, high - MOST)
            for bit in range(0, stride, BYTE):
                _add(user, some, high, bit, table, gap, begin, end)
            high = some
        for stream in range(begin, end):
            if table.sources[place(stream), OPTION] == gap:
                count = user.tally[place(stream), COUNT]
                first, until = asked(stream, window, table)
                for each in range(first, until):
                    once = table.features[place(each), STAT] == HAS_PATTERN
                    out[place(table.features[place(each), COLUMN])] = min(count, 1) if once else count


@compiled_inside
def _add(user: User, low: int, high: int, bit: int, table: Table, gap: int, begin: int, end: int) -> None:
    """Add the finds `low:high`, at most MOST of them, to the counts of the streams of eight bits, from `bit` on."""
    counts = 0
    for k in range(low, high):
        counts += SPREAD[place(user.spare[place(k)] >> bit & MOST)]
    for stream in range(begin, end):
        mine = user.tally[place(stream), BIT]
        if table.sources[place(stream), OPTION] == gap and mine // BYTE == bit // BYTE:
            user.tally[place(stream), COUNT] += counts >> BYTE * (mine % BYTE) & MOST


def _cells(_source: Source) -> int:
    return COUNT + 1


FAMILY = Family("orders", (Orders,), STATS, of_steps, _cells)
