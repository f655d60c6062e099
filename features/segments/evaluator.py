"""Evaluator: one loop over one user's gathered events gives every segment's truth, its evidence and its next change."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from features.behaviour.compiled import Floats, Ints, compiled, compiled_inside, grid, place, vector, views
from features.behaviour.gather import Scratch, gather, room_of, scratch
from features.behaviour.histories import Histories, empty_carry
from features.behaviour.kernel import _blocks
from features.behaviour.lifetime import boundary_of
from features.behaviour.marks import Filters, satisfied
from features.behaviour.schema import MISSING, StateSchema
from features.instants import DAY, NEVER
from features.segments import comparing, counting, lanes, nodes, sequences
from features.segments.counting import EVIDENCE, Facts, Room
from features.segments.program import ABSENT, END, FALSE, FIRST, OP, TRUE, UNKNOWN, A, Program, handed, program_of
from features.segments.windows import resolve

PERIODS = 1000
"""Of `regularly`, at most."""


def room(program: Program, n_events: int, *, explained: bool = False) -> Room:
    """Room for users of up to `n_events` records."""
    n, n_nodes, n_kinds = max(n_events, 1), len(program.nodes), len(program.filters.tests) - 1
    sequences = program.nodes[program.nodes[:, OP] == nodes.SEQUENCE]
    steps = max([1, *(int((program.moves[row[FIRST] : row[END], ABSENT] == 0).sum()) for row in sequences)])
    per_event = max(int(np.diff(program.filters.places).max(initial=0)), 1)

    def empty(*shape: int) -> Ints:
        return np.empty(shape, np.int64)

    return Room(
        empty(n_nodes), empty(n_nodes), empty(len(program.windows), 4), empty(n_kinds), empty(n_kinds),
        empty(n * per_event), empty(n), empty(len(program.looks), 2), empty(len(program.lanes), n),
        empty(len(program.lanes), n + 2), empty(len(program.groups) - 1), empty(n), empty(steps, n), empty(steps, n),
        empty(steps), empty(steps), empty(PERIODS), np.full((n_nodes if explained else 0, EVIDENCE), -1, np.int64),
    )  # fmt: skip


@compiled_inside
def _room_of(arrays: Ints) -> Room:
    """The room whose arrays these are the views of."""
    return Room(
        vector(arrays, 0), vector(arrays, 1), grid(arrays, 2), vector(arrays, 3), vector(arrays, 4), vector(arrays, 5),
        vector(arrays, 6), grid(arrays, 7), grid(arrays, 8), grid(arrays, 9), vector(arrays, 10), vector(arrays, 11),
        grid(arrays, 12), grid(arrays, 13), vector(arrays, 14), vector(arrays, 15), vector(arrays, 16),
        grid(arrays, 17),
    )  # fmt: skip


@compiled_inside
def by_kind(slots: Ints, scratch: Scratch, n: int, filters: Filters, room: Room) -> None:
    """The events of every kind, in order: those of kind j are places[starts[j]:ends[j]]."""
    starts, ends, counts = room.starts, room.ends, scratch.counts
    for code in range(len(counts)):
        counts[place(code)] = 0
    for k in range(n):
        counts[place(scratch.codes[place(k)])] += 1
    for kind in range(len(ends)):
        ends[place(kind)] = 0
    for code in range(len(counts)):
        for each in range(filters.places[place(code)], filters.places[place(code + 1)]):
            ends[place(filters.of[place(each)])] += counts[place(code)]
    total = 0
    for kind in range(len(ends)):
        starts[place(kind)] = total
        total, ends[place(kind)] = total + ends[place(kind)], total
    for k in range(n):
        code = scratch.codes[place(k)]
        for each in range(filters.places[place(code)], filters.places[place(code + 1)]):
            kind = place(filters.of[place(each)])
            if satisfied(slots, scratch.rows[place(k)], kind, filters):
                room.places[place(ends[kind])] = k
                ends[kind] += 1


@compiled_inside
def sessions(ts: Ints, past: int, n: int, gap: int, at: int, closes: Ints) -> tuple[int, int]:
    """Per event its session's last one; (first instant, instant from which it is over) of the open session."""
    first, over = NEVER, NEVER
    end = n - 1
    for k in range(n - 1, -1, -1):
        closes[k] = end
        if k == past or k == 0 or ts[k] - ts[k - 1] > gap:
            if end == n - 1 and at - ts[end] <= gap and k >= past:
                first, over = ts[k], ts[end] + gap + 1
            end = k - 1
    return first, over


@compiled_inside
def combined(program: Program, node: int, truths: Ints, changes: Ints) -> tuple[int, int]:
    """(truth, next_change) of what joins other nodes.

    `all` stays FALSE while one child does, `any` stays TRUE while one does; otherwise the soonest change counts.
    """
    row = program.nodes[node]
    decisive = FALSE if row[OP] == nodes.ALL else TRUE
    truth, soonest, held = (TRUE if row[OP] == nodes.ALL else FALSE), NEVER, -1
    for k in range(row[FIRST], row[END]):
        child = place(program.children[place(k)])
        truth = min(truth, truths[child]) if row[OP] == nodes.ALL else max(truth, truths[child])
        soonest = min(soonest, changes[child])
        if truths[child] == decisive:
            held = max(held, changes[child])
    return truth, soonest if held < 0 else held


@compiled_inside
def evaluate(facts: Facts, program: Program, inputs: Floats, at: int, seen: bool) -> None:  # noqa: C901 - a branch an op
    """Fill the truths and next changes of all nodes, children first."""
    truths, changes = facts.room.truths, facts.room.changes
    for node in range(len(program.nodes)):
        row = program.nodes[place(node)]
        op, truth, change = row[OP], FALSE, NEVER
        if op in (nodes.ALL, nodes.ANY):
            truth, change = combined(program, node, truths, changes)
        elif op in (nodes.NOT, nodes.KNOWN, nodes.MEMBER):
            child = place(program.children[place(row[FIRST])])
            truth, change = truths[child], changes[child]
            if op == nodes.NOT:
                truth = TRUE - truth
            elif truth == UNKNOWN or (op == nodes.MEMBER and row[A] and not seen):
                truth = FALSE
        elif op == nodes.COUNT:
            truth, change = counting.count(facts, program, node)
        elif op == nodes.INPUT:
            truth, change = comparing.given(facts, program, node, inputs, at)
        elif op == nodes.SEQUENCE:
            truth, change = sequences.sequence(facts, program, node, at)
        elif op == nodes.TRAIT:
            truth = comparing.trait(facts, program, node)
        elif op == nodes.NTH:
            truth, change = counting.nth(facts, program, node)
        elif op == nodes.REGULARLY:
            truth, change = counting.regularly(facts, program, node, at)
        elif op == nodes.RESUMED:
            truth, change = counting.resumed(facts, program, node, at)
        elif op == nodes.COMPARE:
            truth, change = comparing.compare(facts, program, node)
        truths[place(node)], changes[place(node)] = truth, change


@compiled
def run(
    slots: Ints, starts: Ints, ends: Ints, carry: Ints, at: Ints, settled: bool, first: int, last: int,
    arrays: Ints, rest: Ints, numbers: Floats, ranges: Floats, inputs: Floats, scratched: Ints, roomy: Ints,
    truths: NDArray[np.int8], changes: Ints,
) -> None:  # fmt: skip
    """Fill the rows `first:last` of `truths` and, if it has rows, `changes`; a carry of one row holds for all."""
    program, scratch, room = program_of(arrays, rest, numbers, ranges), room_of(scratched), _room_of(roomy)
    for row in range(first, last):
        now, mine = at[row], carry[row if len(carry) > 1 else 0]
        boundary = boundary_of(now, program.horizon)
        n, capped = gather(slots, starts[row], ends[row], settled, now, mine[0], boundary, program.bounds, scratch)
        by_kind(slots, scratch, n, program.filters, room)
        open_session = (NEVER, NEVER)
        if program.sessions:
            past = n
            while past > 0 and scratch.ts[past - 1] > now - program.horizon:
                past -= 1
            open_session = sessions(scratch.ts, past, n, program.gap, now, room.closes)
        seen = mine[program.seen]
        if seen == MISSING and n > 0:
            seen = scratch.ts[0]
        midnight = (now // DAY + 1) * DAY if capped else NEVER
        resolve(
            program.windows, now, program.horizon, seen, open_session, midnight,
            program.zone_starts, program.zone_offsets, room.spans,
        )  # fmt: skip
        facts = Facts(slots, scratch.rows, scratch.ts, n, mine, len(changes) > 0, room)
        counting.find(facts, program.looks)
        lanes.separate(facts, program, scratch)
        evaluate(facts, program, inputs[row], now, seen != MISSING)
        for segment in range(len(program.roots)):
            truths[row, segment] = room.truths[place(program.roots[place(segment)])]
            if facts.timed:
                changes[row, segment] = room.changes[program.roots[segment]]


class Evaluator:
    """The loop for one program; may be called from many threads at once."""

    def __init__(self, program: Program, schema: StateSchema) -> None:
        self.program = program
        self.schema = schema
        self._integers = handed(program)
        self._floats = program.numbers, program.ranges
        self._no_carry = empty_carry(schema)[None]
        self._rooms = threading.local()

    def run(
        self, histories: Histories, at: Ints, inputs: Floats, *, timed: bool, threads: int | None = None
    ) -> tuple[NDArray[np.int8], Ints]:
        """(truths, next changes), shape (n_rows, n_segments); blocks of rows on `threads` threads."""
        n, n_segments = len(histories), len(self.program.roots)
        truths, changes = np.empty((n, n_segments), np.int8), np.empty((n if timed else 0, n_segments), np.int64)
        lengths, rows = histories.ends - histories.starts, self._rows(histories, at)

        def work(block: tuple[int, int]) -> None:
            rooms = self._room(int(lengths[slice(*block)].max()))
            run(*rows, *block, *self._integers, *self._floats, inputs, *rooms, truths, changes)

        in_blocks(work, lengths, threads)
        return truths, changes

    def explain(self, histories: Histories, at: Ints, inputs: Floats) -> tuple[Room, Scratch]:
        """Every node's truth, next change and evidence of the only row; evidence are places in the second's `rows`."""
        scratched, full = self._made(int((histories.ends - histories.starts).max()), explained=True)
        shape = (1, len(self.program.roots))
        truths, changes = np.empty(shape, np.int8), np.empty(shape, np.int64)
        rooms = views(scratched), views(full)
        run(*self._rows(histories, at), 0, 1, *self._integers, *self._floats, inputs, *rooms, truths, changes)
        return full, scratched

    def _rows(self, histories: Histories, at: Ints) -> tuple[Ints, Ints, Ints, Ints, Ints, bool]:
        carry = histories.carry if histories.carry is not None else self._no_carry
        return histories.slots, histories.starts, histories.ends, carry, at, histories.settled

    def _room(self, n_events: int) -> tuple[Ints, Ints]:
        """The views of this thread's room, made anew when a longer history comes."""
        if getattr(self._rooms, "n_events", -1) < n_events:
            self._rooms.alive = self._made(2 * n_events)
            self._rooms.views = tuple(views(each) for each in self._rooms.alive)
            self._rooms.n_events = 2 * n_events
        return self._rooms.views  # type: ignore[no-any-return] # a thread's own

    def _made(self, n_events: int, *, explained: bool = False) -> tuple[Scratch, Room]:
        sizes = {"n_events": n_events, "n_codes": self.schema.n_codes}
        return scratch(**sizes), room(self.program, n_events, explained=explained)


def in_blocks(work: Callable[[tuple[int, int]], None], lengths: Ints, threads: int | None) -> None:
    """Do blocks of rows on threads; a single row at once."""
    blocks = _blocks(lengths)
    if len(blocks) < 2:
        for block in blocks:
            work(block)
        return
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        list(pool.map(work, blocks))
