"""Orders: events that follow each other within a session, at once (n-grams) or with others between (patterns)."""

from collections.abc import Iterator

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.table import (
    CODE,
    COLUMN,
    DETAIL,
    OF_STREAM,
    OPTION,
    STAT,
    STEP,
    STREAM,
    Family,
    Feature,
    Table,
    User,
    enters,
    leads,
    of_steps,
)
from features.behaviour.words import Names, Words
from features.document import Duration
from features.instants import MINUTE, parse_instant

STATS = ("ngram", "pattern", "has_pattern")
HAS_PATTERN = 2
COUNT, SESSION, MET, NOW, BEFORE = range(5)
"""Places in a stream's tally: finds, the session and the event met last. Of n-grams `NOW` and `BEFORE` have bit s where
that event, or the one after it, begins the steps from s on; of patterns NOW is the step looked for next."""


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
    """There is rarely more than one gap."""
    for stream in range(len(table.sources)):
        if leads(stream, table):
            _of_gap(user, at, table, table.sources[stream, OPTION], out)


@compiled_inside
def _of_gap(user: User, at: int, table: Table, gap: int, out: Floats) -> None:
    """One pass from the newest event back, so that a find is in the windows that its first event is in."""
    tally, n_windows, window, session = user.tally, len(table.windows), 0, 0
    for stream in range(len(table.sources)):
        tally[stream, COUNT], tally[stream, SESSION], tally[stream, MET] = 0, -1, -1
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
            if table.sources[stream, OPTION] != gap or not enters(user, k, each, table):
                continue
            n, step = table.sources[stream, CODE], table.entries[place(each), STEP]
            if table.details[place(table.sources[stream, DETAIL])]:
                _directly(tally, stream, n, step, k, session)
            else:
                _at_last(tally, stream, n, step, session)
    for rest in range(window, n_windows):
        _read_off(tally, table, rest, gap, out)


@compiled_inside
def _directly(tally: Ints, stream: int, n: int, step: int, k: int, session: int) -> None:
    """Event k is a step of an n-gram, found when all that follow it come directly after."""
    if tally[stream, MET] != k:
        follows = tally[stream, MET] == k + 1 and tally[stream, SESSION] == session
        tally[stream, BEFORE] = tally[stream, NOW] if follows else 0
        tally[stream, MET], tally[stream, SESSION], tally[stream, NOW] = k, session, 0
    if step == n - 1 or tally[stream, BEFORE] >> (step + 1) & 1:
        tally[stream, NOW] |= 1 << step
        tally[stream, COUNT] += step == 0


@compiled_inside
def _at_last(tally: Ints, stream: int, n: int, step: int, session: int) -> None:
    """An event is a step of a pattern, found once a session, at the last events that make it; it serves one step."""
    if tally[stream, SESSION] != session:
        tally[stream, SESSION], tally[stream, NOW] = session, n - 1
    if tally[stream, NOW] == step:
        tally[stream, NOW] -= 1
        tally[stream, COUNT] += step == 0


@compiled_inside
def _read_off(tally: Ints, table: Table, window: int, gap: int, out: Floats) -> None:
    for k in range(table.edges[window], table.edges[window + 1]):
        stream, column = table.features[k, STREAM], table.features[k, COLUMN]
        if table.sources[stream, OPTION] == gap:
            count = tally[stream, COUNT]
            out[column] = min(count, 1) if table.features[k, STAT] == HAS_PATTERN else count


FAMILY = Family("orders", (Orders,), STATS, of_steps)
