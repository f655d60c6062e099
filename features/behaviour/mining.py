"""Mining: the orders of events that many sessions go through, found by PrefixSpan and frozen as declared patterns."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.behaviour.compiled import Ints, compiled, compiled_inside, place
from features.behaviour.gather import Scratch, gather, scratch
from features.behaviour.histories import Histories
from features.behaviour.kinds import Kind
from features.behaviour.lifetime import boundary_of
from features.behaviour.marks import Filters, filters_of, mark
from features.behaviour.schema import MISSING
from features.behaviour.table import STEP, Asked, Family, Source, Table, User, enters, tabulate
from features.errors import StudyError
from features.instants import MINUTE, format_duration, iso

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Pattern = tuple[int, ...]


class Sequences(NamedTuple):
    """Sessions as runs of items.

    Attributes:
        items: Places in the list of kinds, session after session.
        ends: Where each session ends in `items`; none is empty.
    """

    items: Ints
    ends: Ints


@dataclass(frozen=True)
class Mined:
    """The most frequent patterns, frozen: what they are, as of when, and how and from whom they were found.

    Attributes:
        patterns: Names of events, and the number of sessions that go through them; the most frequent first.
        gap: Microseconds of silence that end a session.
        origin: As of when, by which method, from how many sessions of whom.
    """

    patterns: tuple[tuple[tuple[str, ...], int], ...]
    gap: int
    origin: str

    def __str__(self) -> str:
        """The entry of features.yaml that counts them."""
        lines = [f"      - [{', '.join(names)}]  # {n:,} sessions" for names, n in self.patterns]
        head = f"  - patterns:\n{chr(10).join(lines)}\n    mined: {self.origin}\n"
        return head + f"    gap: {format_duration(self.gap)}\n    windows: [30d]"

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        found = [{"pattern": list(names), "sessions": n} for names, n in self.patterns]
        return {"patterns": found, "gap": format_duration(self.gap), "mined": self.origin}


def mine(
    histories: Histories,
    at: NDArray[np.int64],
    kinds: Mapping[str, Kind],
    *,
    population: str,
    gap: int = 30 * MINUTE,
    support: float = 0.05,
    longest: int = 4,
    most: int = 20,
    spark: "SparkSession | None" = None,
) -> Mined:
    """The patterns of at least two events that most sessions go through, in any user's sessions as of the user's `at`.

    Args:
        histories: A row a user, whose schema holds what the kinds test.
        at: As of when each row is known, shape (n_rows,); training rows' instants and no others.
        kinds: By name; an event that fits several is of the first of them, one that fits none is passed over.
        population: Whose rows these are, in words.
        gap: The silence that ends a session, in microseconds.
        support: The least share of sessions with any of these events.
        longest: Events of a pattern, at most.
        most: Patterns, at most.
        spark: Where given, Spark's PrefixSpan does the search; it finds the same.

    Raises:
        StudyError: no session has any of these events, or no pattern is frequent enough.
    """
    sequences = sequences_of(histories, at, tuple(kinds.values()), gap=gap)
    if not len(sequences.ends):
        raise StudyError(f"no session of anybody ({population}) has any of the events {', '.join(kinds)}.")
    least = ceil(support * len(sequences.ends))
    if spark is None:
        found = prefixspan(sequences, least=least, longest=longest)
    else:
        found = spark_prefixspan(sequences, least=least, longest=longest, spark=spark)
    ranked = sorted((-n, pattern) for pattern, n in found.items() if len(pattern) > 1)[:most]
    if not ranked:
        raise StudyError(f"no two events follow each other in {support:.1%} of the sessions. Hint: a lower support.")
    names, method = list(kinds), "PrefixSpan" if spark is None else f"PrefixSpan of Spark {spark.version}"
    return Mined(
        tuple((tuple(names[item] for item in pattern), -n) for n, pattern in ranked),
        gap,
        f"{iso(int(at.max()))} by {method} (support {support:g}, at most {longest} events) from "
        f"{len(sequences.ends):,} sessions of {len(histories):,} users, {population}",
    )


def sequences_of(histories: Histories, at: NDArray[np.int64], kinds: tuple[Kind, ...], *, gap: int) -> Sequences:
    """The sessions of each row within the horizon, as of its instant."""
    schema = histories.schema
    one = Source(kinds if len(kinds) > 1 else 2 * kinds, option=gap)  # a stream of one kind has no steps
    asked = Asked.of((), [one], schema.horizon)
    filters = filters_of(asked.marked, schema)
    table = tabulate(Family("mining", (), (), lambda _, __: one), (), schema, asked, [one])
    lengths = histories.ends - histories.starts
    room = scratch(n_events=int(lengths.max(initial=0)), n_codes=schema.n_codes, n_words=filters.n_words)
    items, ends = np.empty(int(lengths.sum()), np.int64), np.empty(int(lengths.sum()), np.int64)
    n, n_sessions = _sessions(
        histories.slots, histories.starts, histories.ends, histories.settled, at, schema.horizon, gap,
        schema.code_bounds, table, filters, room, items, ends,
    )  # fmt: skip
    return Sequences(items[:n], ends[:n_sessions])


@compiled
def _sessions(
    slots: Ints, starts: Ints, ends: Ints, settled: bool, at: Ints, horizon: int, gap: int, bounds: Ints, table: Table,
    filters: Filters, room: Scratch, items: Ints, item_ends: Ints,
) -> tuple[int, int]:  # fmt: skip
    """Fill `items` and where each session's end; (their numbers)."""
    total, n_sessions = 0, 0
    for row in range(len(starts)):
        boundary = boundary_of(at[row], horizon)
        n, _ = gather(slots, starts[row], ends[row], settled, at[row], MISSING, boundary, bounds, room)
        mark(slots, room.rows, room.codes, n, filters, room.marks)
        user = User(
            slots, room.rows, room.ts, room.codes, room.marks, filters.n_words, 0, n, room.spare,
            room.spare, room.spare, room.spare, room.seats, room.era, room.counts, room.tally, room.folds, room.heap,
            room.members, room.begins, room.ends, room.firsts,
        )  # fmt: skip
        begin = total
        for k in range(n):
            if k > 0 and room.ts[k] - room.ts[k - 1] > gap and total > begin:
                item_ends[n_sessions] = total
                begin, n_sessions = total, n_sessions + 1
            item = _kind_of(user, k, table)
            if item >= 0 and room.ts[k] > at[row] - horizon:
                items[total] = item
                total += 1
        if total > begin:
            item_ends[n_sessions] = total
            n_sessions += 1
    return total, n_sessions


@compiled_inside
def _kind_of(user: User, k: int, table: Table) -> int:
    """The first step that event k fits; -1 without one."""
    code = place(user.codes[place(k)])
    for each in range(table.places[code], table.places[code + place(1)]):
        if enters(user, k, each, table):
            return int(table.entries[place(each), STEP])
    return -1


def prefixspan(sequences: Sequences, *, least: int, longest: int) -> dict[Pattern, int]:
    """Every order of at most `longest` items that at least `least` sequences go through, with their number.

    A sequence's projection (Pei et al. 2001) is where it goes on after the earliest events that make the pattern. Where
    the next item of a kind is stands in one table, so that all projections grow at once.
    """
    n = len(sequences.items)
    n_items = int(sequences.items.max(initial=-1)) + 1
    coming = np.full((n_items, n + 1), n, np.int64)
    for item in range(n_items):
        found = np.append(np.flatnonzero(sequences.items == item), n)
        coming[item] = found[np.searchsorted(found, np.arange(n + 1))]
    starts = np.concatenate([np.zeros(1, np.int64), sequences.ends])[:-1]
    return dict(_grown((), starts, sequences.ends, coming, least, longest))


def _grown(
    pattern: Pattern, begins: Ints, ends: Ints, coming: Ints, least: int, longest: int
) -> Iterator[tuple[Pattern, int]]:
    """The frequent patterns that begin with this one, whose projections are `begins:ends`."""
    if len(pattern) == longest:
        return
    for item, where in enumerate(coming):
        following = where[begins]
        there = following < ends
        count = int(there.sum())
        if count >= least:
            longer = (*pattern, item)
            yield longer, count
            yield from _grown(longer, following[there] + 1, ends[there], coming, least, longest)


def spark_prefixspan(sequences: Sequences, *, least: int, longest: int, spark: "SparkSession") -> dict[Pattern, int]:
    """The same by Spark."""
    from pyspark.ml.fpm import PrefixSpan

    runs = np.split(sequences.items, sequences.ends[:-1])
    rows: list[Any] = [([[int(item)] for item in run],) for run in runs]
    # Spark takes a share and rounds it up: half a session less than the count itself rounds up to it.
    search = PrefixSpan(minSupport=(least - 0.5) / len(rows), maxPatternLength=longest, maxLocalProjDBSize=2**31 - 1)
    found = search.findFrequentSequentialPatterns(spark.createDataFrame(rows, ["sequence"]))
    return {tuple(item for (item,) in row["sequence"]): int(row["freq"]) for row in found.collect()}
