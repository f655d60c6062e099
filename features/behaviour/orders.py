"""Orders: events that follow each other within a session, at once (n-grams) or with others between (patterns)."""

from collections.abc import Iterator

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
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
    Feature,
    Source,
    Table,
    User,
    asked,
    enters,
    first_of,
    leads,
    of_steps,
)
from features.behaviour.words import Names, Words
from features.document import Duration
from features.instants import MINUTE, parse_instant

STATS = ("ngram", "pattern", "has_pattern")
HAS_PATTERN = 2
BIT = 0
"""Place in a stream's tally: the bit of its first step."""
WORD = 62
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

    What is found at an event is kept, a bit an order, and counted afterwards: no find can be guessed.

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
    end, firsts, lasts, direct = _laid_out(user.tally, table, gap, begin)
    _match(user.counts, user.tally, table, gap, begin, end)
    following, awaited, later, finds = 0, lasts & ~direct, at, user.spare
    for k in range(user.n - 1, user.past - 1, -1):
        ts = user.ts[place(k)]
        if later - ts > gap:
            following, awaited = 0, lasts & ~direct
        later, steps = ts, user.counts[place(user.codes[place(k)])]
        if steps < 0:
            steps = _tested(user, k, steps & ~TESTED, table, gap, begin, end)
        following = (following >> 1 | lasts) & steps & direct
        came = awaited & steps
        awaited = awaited & ~came | (came & ~firsts) >> 1
        finds[place(k)] = following | came
    for stream in range(begin, end):
        if table.sources[place(stream), OPTION] == gap:
            _read_off(user, stream, table, out)
    return end


@compiled_inside
def _laid_out(tally: Ints, table: Table, gap: int, begin: int) -> tuple[int, int, int, int]:
    """Give each step of the streams from `begin` on a bit: (first stream without, first steps, last ones, n-grams)."""
    bit, end, firsts, lasts, direct = 0, begin, 0, 0, 0
    while end < len(table.sources):
        if table.sources[end, OPTION] == gap:
            n = table.sources[end, CODE]
            if bit + n > WORD:
                break
            firsts, lasts = firsts | 1 << bit, lasts | 1 << (bit + n - 1)
            if table.details[table.sources[end, DETAIL]]:
                direct |= ((1 << n) - 1) << bit
            tally[end, BIT] = bit
            bit += n
        end += 1
    return end, firsts, lasts, direct


@compiled_inside
def _match(steps: Ints, tally: Ints, table: Table, gap: int, begin: int, end: int) -> None:
    """For each event code the steps that it is, and whether others depend on a filter."""
    for code in range(len(steps)):
        steps[code] = 0
        for each in range(table.places[code], table.places[code + 1]):
            stream = table.entries[each, OF_STREAM]
            if begin <= stream < end and table.sources[stream, OPTION] == gap:
                tested = table.entries[each, FILTER] >= 0
                steps[code] |= TESTED if tested else 1 << (tally[stream, BIT] + table.entries[each, STEP])


@compiled_inside
def _tested(user: User, k: int, steps: int, table: Table, gap: int, begin: int, end: int) -> int:
    """The steps that event k is, those included that depend on a filter."""
    code = place(user.codes[place(k)])
    for each in range(table.places[code], table.places[code + place(1)]):
        stream = table.entries[place(each), OF_STREAM]
        if begin <= stream < end and table.sources[place(stream), OPTION] == gap and enters(user, k, each, table):
            steps |= 1 << (user.tally[place(stream), BIT] + table.entries[place(each), STEP])
    return steps


@compiled_inside
def _read_off(user: User, stream: int, table: Table, out: Floats) -> None:
    """Count the finds whose first event is in a window."""
    bit, count, high = user.tally[place(stream), BIT], 0, user.n
    for window in range(len(table.windows)):
        low = first_of(user, stream, window, table)
        for k in range(low, high):
            count += user.spare[place(k)] >> bit & 1
        high = low
        first, until = asked(stream, window, table)
        for each in range(first, until):
            once = table.features[place(each), STAT] == HAS_PATTERN
            out[place(table.features[place(each), COLUMN])] = min(count, 1) if once else count


def _cells(_source: Source) -> int:
    return BIT + 1


FAMILY = Family("orders", (Orders,), STATS, of_steps, _cells)
