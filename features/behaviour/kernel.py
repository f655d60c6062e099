"""Kernel: gathers a user's events and calls every family's loop over them; blocks of users run on threads."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from features.behaviour import (
    carts,
    clicks,
    days,
    decay,
    distinct,
    dwell,
    extension,
    formulas,
    frequencies,
    funnel,
    intervals,
    lifetime,
    members,
    orders,
    recency,
    rhythm,
    sessions,
    spread,
    streaks,
    totals,
    transitions,
)
from features.behaviour.categories import Lists, listed, lists_of
from features.behaviour.compiled import Floats, Ints, compiled, compiled_inside, grid, vector, views
from features.behaviour.feature import Feature
from features.behaviour.gather import room_of, scratch
from features.behaviour.histories import Histories, empty_carry
from features.behaviour.marks import Filters, filters, filters_of, mark
from features.behaviour.members import gathered, kinds, kinds_of
from features.behaviour.schema import StateSchema
from features.behaviour.table import N_ARRAYS, Asked, User, table, tabulate

FAMILIES = (
    totals.FAMILY,
    distinct.FAMILY,
    recency.FAMILY,
    sessions.FAMILY,
    lifetime.FAMILY,
    spread.FAMILY,
    dwell.FAMILY,
    frequencies.FAMILY,
    transitions.FAMILY,
    orders.FAMILY,
    funnel.FAMILY,
    rhythm.FAMILY,
    intervals.FAMILY,
    streaks.FAMILY,
    decay.FAMILY,
    clicks.FAMILY,
    carts.FAMILY,
    days.FAMILY,
)
"""Every family that reads events; the places of their tables."""

DECLARABLE = (*FAMILIES, formulas.FAMILY, extension.FAMILY)
"""What features.yaml may declare."""

BLOCK = 1 << 16
"""Records in a block: with their slots they fit the cache of a core, and a thread is asked for rarely."""


@compiled_inside
def all_families(user: User, at: int, tables: Ints, out: Floats) -> None:
    """One user's row; a family's line here has the place of its table in FAMILIES."""
    totals.totals(user, at, table(tables, 0), out)
    distinct.distinct(user, at, table(tables, 1), out)
    recency.recency(user, at, table(tables, 2), out)
    sessions.sessions(user, at, table(tables, 3), out)
    lifetime.lifetime(user, at, table(tables, 4), out)
    spread.spread(user, at, table(tables, 5), out)
    dwell.dwell(user, at, table(tables, 6), out)
    frequencies.frequencies(user, at, table(tables, 7), out)
    transitions.transitions(user, at, table(tables, 8), out)
    orders.orders(user, at, table(tables, 9), out)
    funnel.funnel(user, at, table(tables, 10), out)
    rhythm.rhythm(user, at, table(tables, 11), out)
    intervals.intervals(user, at, table(tables, 12), out)
    streaks.streaks(user, at, table(tables, 13), out)
    decay.decay(user, at, table(tables, 14), out)
    clicks.clicks(user, at, table(tables, 15), out)
    carts.carts(user, at, table(tables, 16), out)
    days.days(user, at, table(tables, 17), out)


class Program:
    """Everything about the definitions that the loops read.

    Attributes:
        tables: In the order of FAMILIES.
        kinds: Whose members are settled before the families' loops.
        filters: Of the steps with a `where`.
        arrays: The views of the tables' arrays, the kinds', the filters', the bounds, the zone's steps, the
            categories' lists, and the formulas'.
        numbers: n_words, horizon, whether anything is folded over a life-time.
    """

    def __init__(self, features: Sequence[Feature], schema: StateSchema) -> None:
        folds = {lifetime.FAMILY.name: [lifetime.stream_of(each, schema) for each in schema.lifetime]}
        first = {family.name: folds.get(family.name, []) for family in FAMILIES}
        sources = [each for family in FAMILIES for each in family.sources(features, schema, first[family.name])]
        asked = Asked.of(features, sources, schema.horizon)
        self.tables = [tabulate(family, features, schema, asked, first[family.name]) for family in FAMILIES]
        self.kinds, self.filters = kinds_of(asked.kinds, asked.windows, schema), filters_of(asked.marked, schema)
        self._alive = [array for table in self.tables for array in table]
        self._alive += [*self.kinds[:-1], *self.kinds.filters[:-1]]
        self._alive += [*self.filters[:-1], schema.code_bounds, *schema.zone_steps]
        self._alive += [*lists_of(features), *formulas.formulas_of(features)]
        self.arrays = views(self._alive)
        self.numbers = np.array([self.filters.n_words, schema.horizon, bool(schema.lifetime)], np.int64)


KINDS = len(FAMILIES) * N_ARRAYS
FILTERS = KINDS + members.N_ARRAYS
BOUNDS, ZONE_STARTS, ZONE_OFFSETS, LISTS = (FILTERS + len(Filters._fields) - 1 + k for k in range(4))
FORMULAS = LISTS + len(Lists._fields)
"""Where a program's arrays are."""


@compiled
def run(
    slots: Ints, starts: Ints, ends: Ints, carry: Ints, at: Ints, settled: bool, first: int, last: int,
    arrays: Ints, numbers: Ints, scratch: Ints, values: Floats, capped: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Fill the rows `first:last` of `values` and `capped`; a carry or an instant of one row holds for all."""
    room, n_words, horizon = room_of(scratch), numbers[0], numbers[1]
    asked, passing, bounds = kinds(arrays, KINDS), filters(arrays, FILTERS, n_words), vector(arrays, BOUNDS)
    zone_starts, zone_offsets = vector(arrays, ZONE_STARTS), vector(arrays, ZONE_OFFSETS)
    lists = Lists(vector(arrays, LISTS), vector(arrays, LISTS + 1), vector(arrays, LISTS + 2))
    made = formulas.Formulas(
        grid(arrays, FORMULAS), vector(arrays, FORMULAS + 1), vector(arrays, FORMULAS + 2),
        vector(arrays, FORMULAS + 3), vector(arrays, FORMULAS + 4),
    )  # fmt: skip
    for row in range(first, last):
        now, mine = at[row if len(at) > 1 else 0], carry[row if len(carry) > 1 else 0]
        boundary = lifetime.boundary_of(now, horizon)
        floor = mine[0] if numbers[2] else boundary
        n, capped[row] = gathered(
            slots, starts[row], ends[row], settled, now, floor, boundary, bounds, asked, room
        )  # fmt: skip
        mark(slots, room.rows, room.codes, n, passing, room.marks)
        user = User(
            slots, room.rows, room.ts, room.codes, room.marks, n_words, room.firsts[0, len(asked.windows) - 1], n, mine,
            zone_starts, zone_offsets, room.spare, room.seats, room.era, room.counts, room.tally, room.folds, room.heap,
            room.members, room.begins, room.ends, room.firsts,
        )  # fmt: skip
        all_families(user, now, arrays, values[row])
        listed(values[row], lists)
        formulas.formulas(values[row], made)


class Kernel:
    """The loops for one set of definitions; may be called from many threads at once.

    Attributes:
        program: What the loops read.
        n_features: Columns, the hidden ones included.
        no_carry: For `run` where nothing is folded.
        extension: What is computed in Python.
    """

    def __init__(self, features: Sequence[Feature], schema: StateSchema) -> None:
        self.schema = schema
        self.n_features = len(features)
        self.program = Program(features, schema)
        self._cells = max([1, *(f.cells(s) for f in FAMILIES for s in f.sources(features, schema))])
        self.no_carry = empty_carry(schema)[None]
        self.extension = extension.Extension(features, schema)
        self._rooms = threading.local()

    def compute(
        self, histories: Histories, at: Ints, *, threads: int | None = None
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """(values, capped) of every row; blocks of rows on `threads` threads, by default one a core."""
        values = np.empty((len(histories), self.n_features))
        capped = np.zeros(len(histories), np.bool_)
        carry = histories.carry if histories.carry is not None else self.no_carry
        rows = histories.slots, histories.starts, histories.ends, carry, at, histories.settled
        program = self.program.arrays, self.program.numbers
        if len(values) == 1 and not self.extension:
            run(*rows, 0, 1, *program, self.room(int(histories.ends[0] - histories.starts[0])), values, capped)
            return values, capped
        lengths = histories.ends - histories.starts
        if self.extension:  # before the loops, whose formulas may be made of it
            self.extension.fill(histories, at, carry, self.room(int(lengths.max(initial=0))), values)

        def work(block: tuple[int, int]) -> None:
            room = self.room(int(lengths[slice(*block)].max()))
            run(*rows, *block, *program, room, values, capped)

        in_blocks(work, lengths, threads)
        return values, capped

    def room(self, n_events: int) -> Ints:
        """The views of this thread's scratch, made anew when a longer history comes."""
        if getattr(self._rooms, "n_events", -1) < n_events:
            tables = self.program.tables
            self._rooms.scratch = scratch(
                n_events=2 * n_events,
                n_codes=self.schema.n_codes,
                n_streams=max(len(table.sources) for table in tables),
                n_folds=len(self.schema.lifetime),
                cells=self._cells,
                n_words=self.program.filters.n_words,
                n_kinds=len(self.program.kinds.codes),
                n_windows=len(self.program.kinds.windows),
            )
            self._rooms.views, self._rooms.n_events = views(self._rooms.scratch), 2 * n_events
        return self._rooms.views  # type: ignore[no-any-return] # a thread's own


def in_blocks(work: Callable[[tuple[int, int]], None], lengths: Ints, threads: int | None) -> None:
    """Do blocks of rows on threads, by default one a core; on one, or of few records, in the thread that asks."""
    blocks = [(0, len(lengths))] if len(lengths) == 1 else _blocks(lengths)
    threads = threads or os.cpu_count() or 1
    if threads == 1 or len(blocks) < 2:
        for block in blocks:
            work(block)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, blocks))


def _blocks(lengths: Ints) -> list[tuple[int, int]]:
    """Rows in blocks of about BLOCK records."""
    total = np.cumsum(lengths)
    if not len(total):
        return []
    cuts = np.unique(np.searchsorted(total, np.arange(BLOCK, total[-1], BLOCK)) + 1)
    edges = [0, *cuts[cuts < len(total)].tolist(), len(total)]
    return list(pairwise(edges))
