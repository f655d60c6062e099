"""Kernel: gathers a user's events and calls every family's loop over them; blocks of users run on threads."""

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.behaviour import distinct, lifetime, recency, sessions, spread, totals
from features.behaviour.compiled import Floats, Ints, compiled
from features.behaviour.gather import Scratch, gather, scratch
from features.behaviour.histories import Histories, empty_carry
from features.behaviour.marks import Filters, filters_of, mark
from features.behaviour.schema import StateSchema
from features.behaviour.table import Feature, Table, User, tabulate

FAMILIES = (totals.FAMILY, distinct.FAMILY, recency.FAMILY, sessions.FAMILY, lifetime.FAMILY, spread.FAMILY)
"""Every family; the places of their tables."""

BLOCK = 1 << 16
"""Records in a block: with their slots they fit the cache of a core, and a thread is asked for rarely."""


@compiled
def all_families(user: User, at: int, tables: tuple[Table, ...], out: Floats) -> None:
    """One user's row; a family's line here has the place of its table in FAMILIES."""
    totals.totals(user, at, tables[0], out)
    distinct.distinct(user, at, tables[1], out)
    recency.recency(user, at, tables[2], out)
    sessions.sessions(user, at, tables[3], out)
    lifetime.lifetime(user, at, tables[4], out)
    spread.spread(user, at, tables[5], out)


class Program(NamedTuple):
    """Everything about the definitions that the loops read."""

    tables: tuple[Table, ...]
    filters: Filters
    bounds: Ints
    zone_starts: Ints
    zone_offsets: Ints
    horizon: int


class Rows(NamedTuple):
    """Everything about the users that the loops read; a carry of one row holds for all."""

    slots: Ints
    starts: Ints
    ends: Ints
    carry: Ints
    at: Ints
    settled: bool


def program(features: Sequence[Feature], schema: StateSchema) -> Program:
    """The tables of these features, in the order of FAMILIES."""
    folds = {lifetime.FAMILY.name: [lifetime.stream_of(each, schema) for each in schema.lifetime]}
    first = [folds.get(family.name, []) for family in FAMILIES]
    sources = [family.sources(features, schema, mine) for family, mine in zip(FAMILIES, first, strict=True)]
    kinds = list(dict.fromkeys(k for mine in sources for source in mine for k in source.kinds if k.where))
    tables = [tabulate(family, features, schema, kinds, mine) for family, mine in zip(FAMILIES, first, strict=True)]
    return Program(tuple(tables), filters_of(kinds, schema), schema.code_bounds, *schema.zone_steps, schema.horizon)


@compiled
def run(
    rows: Rows, first: int, last: int, program: Program, room: Scratch, values: Floats, capped: NDArray[np.bool_]
) -> None:
    """Fill the rows `first:last` of `values` and `capped`."""
    for row in range(first, last):
        at = rows.at[row]
        carry = rows.carry[row if len(rows.carry) > 1 else 0]
        boundary = lifetime.boundary_of(at, program.horizon)
        start, end = rows.starts[row], rows.ends[row]
        n, capped[row] = gather(rows.slots, start, end, rows.settled, at, carry[0], boundary, program.bounds, room)
        mark(rows.slots, room.rows, room.codes, n, program.filters, room.marks)
        past = n
        while past > 0 and room.ts[past - 1] > at - program.horizon:
            past -= 1
        user = User(
            rows.slots, room.rows, room.ts, room.codes, room.marks, program.filters.n_words, past, n, carry,
            program.zone_starts, program.zone_offsets,
            room.spare, room.seats, room.era, room.counts, room.tally, room.folds, room.heap,
        )  # fmt: skip
        all_families(user, at, program.tables, values[row])


class Kernel:
    """The loops for one set of definitions; may be called from many threads at once."""

    def __init__(self, features: Sequence[Feature], schema: StateSchema) -> None:
        self.schema = schema
        self.n_features = len(features)
        self.program = program(features, schema)
        self._cells = max([6, *(f.cells(s) for f in FAMILIES for s in f.sources(features, schema))])
        self._no_carry = empty_carry(schema)[None]
        self._rooms = threading.local()

    def compute(
        self, histories: Histories, at: Ints, *, threads: int | None = None
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """(values, capped) of every row; blocks of rows on `threads` threads, by default one a core."""
        values = np.empty((len(histories), self.n_features))
        capped = np.zeros(len(histories), np.bool_)
        carry = histories.carry if histories.carry is not None else self._no_carry
        rows = Rows(histories.slots, histories.starts, histories.ends, carry, at, histories.settled)
        lengths = histories.ends - histories.starts

        def work(block: tuple[int, int]) -> None:
            room = self._room(int(lengths[slice(*block)].max()))
            run(rows, *block, self.program, room, values, capped)

        if len(lengths) == 1:
            work((0, 1))
            return values, capped
        blocks = _blocks(lengths)
        with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            list(pool.map(work, blocks) if len(blocks) > 1 else map(work, blocks))
        return values, capped

    def _room(self, n_events: int) -> Scratch:
        """This thread's scratch, made anew when a longer history comes."""
        room: Scratch | None = getattr(self._rooms, "room", None)
        if room is None or len(room.rows) < n_events:
            tables = self.program.tables
            room = self._rooms.room = scratch(
                n_events=2 * n_events,
                n_codes=self.schema.n_codes,
                n_streams=max(len(table.sources) for table in tables),
                n_folds=len(self.schema.lifetime),
                per_event=max(int(np.diff(table.places).max()) for table in tables),
                cells=self._cells,
                n_words=self.program.filters.n_words,
            )
        return room


def _blocks(lengths: Ints) -> list[tuple[int, int]]:
    """Rows in blocks of about BLOCK records."""
    total = np.cumsum(lengths)
    if not len(total):
        return []
    cuts = np.unique(np.searchsorted(total, np.arange(BLOCK, total[-1], BLOCK)) + 1)
    edges = [0, *cuts[cuts < len(total)].tolist(), len(total)]
    return list(pairwise(edges))
