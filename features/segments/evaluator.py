"""Evaluator: one loop over one user's gathered events gives every segment's truth, its evidence and its next change."""

import threading

import numpy as np
from numpy.typing import NDArray

from features.behaviour.compiled import Floats, Ints, compiled, compiled_inside, grid, place, vector, views
from features.behaviour.gather import Scratch, gather, room_of, scratch
from features.behaviour.histories import Histories, empty_carry
from features.behaviour.kernel import in_blocks
from features.behaviour.lifetime import boundary_of
from features.behaviour.schema import MISSING, StateSchema
from features.instants import DAY, NEVER
from features.segments import comparing, counting, lanes, looks, nodes, sequences, together
from features.segments.counting import EVIDENCE, Facts, Room
from features.segments.program import ABSENT, END, FALSE, FIRST, OP, TRUE, Program, handed, program_of
from features.segments.windows import resolve

PERIODS = 1000
"""Of `regularly`, at most."""

AT_ONCE = 64
"""Users of whom what is told of numbers is told together."""


def room(program: Program, n_events: int, *, explained: bool = False) -> Room:
    """Room for users of up to `n_events` records."""
    n, n_nodes, n_kinds = max(n_events, 1), len(program.nodes), len(program.filters.tests) - 1
    sequences = program.nodes[program.nodes[:, OP] == nodes.SEQUENCE]
    steps = max([1, *(int((program.moves[row[FIRST] : row[END], ABSENT] == 0).sum()) for row in sequences)])

    def empty(*shape: int) -> Ints:
        return np.empty(shape, np.int64)

    n_edges, n_looks, n_lanes = 2 * len(program.windows), len(program.looks), len(program.lanes)
    return Room(
        empty(n_nodes, AT_ONCE), empty(n_nodes), empty(n_looks, AT_ONCE), empty(AT_ONCE), empty(n_edges // 2, 4),
        empty(n_edges), empty(n_edges), empty(n_edges, n_kinds), empty(n_kinds), empty(n_kinds), empty(n_kinds * n),
        empty(n), empty(n_looks, 2), empty(n_lanes, n), empty(n_lanes, n + 2), empty(len(program.groups) - 1), empty(n),
        empty(steps, n), empty(steps, n), empty(steps), empty(steps), empty(PERIODS),
        np.full((n_nodes if explained else 0, EVIDENCE), -1, np.int64),
    )  # fmt: skip


@compiled_inside
def _room_of(arrays: Ints) -> Room:
    """The room whose arrays these are the views of."""
    return Room(
        grid(arrays, 0), vector(arrays, 1), grid(arrays, 2), vector(arrays, 3), grid(arrays, 4), vector(arrays, 5),
        vector(arrays, 6), grid(arrays, 7), vector(arrays, 8), vector(arrays, 9), vector(arrays, 10),
        vector(arrays, 11), grid(arrays, 12), grid(arrays, 13), grid(arrays, 14), vector(arrays, 15),
        vector(arrays, 16), grid(arrays, 17), grid(arrays, 18), vector(arrays, 19), vector(arrays, 20),
        vector(arrays, 21), grid(arrays, 22),
    )  # fmt: skip


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
def of_events(facts: Facts, program: Program, at: int, column: int) -> None:
    """The truths, and next changes, of the nodes that look at single events."""
    for each in range(len(program.events)):
        node = program.events[place(each)]
        op, truth, change = program.nodes[place(node), OP], FALSE, NEVER
        if op == nodes.SEQUENCE:
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
            truth = comparing.compared(facts, program, node)
        facts.room.truths[place(node), place(column)], facts.room.changes[place(node)] = truth, change


@compiled_inside
def changing(facts: Facts, program: Program, at: int) -> None:
    """The next changes of all other nodes of one user, children first; truths are in the first column.

    `all` stays FALSE while one child does, `any` stays TRUE while one does; otherwise the soonest change counts.
    """
    truths, changes = facts.room.truths, facts.room.changes
    for node in range(len(program.nodes)):
        row, truth, change = program.nodes[place(node)], truths[place(node), 0], changes[place(node)]
        if row[OP] in (nodes.ALL, nodes.ANY):
            change, held = NEVER, -1
            for k in range(row[FIRST], row[END]):
                child = place(program.children[place(k)])
                change = min(change, changes[child])
                if truths[child, 0] == (FALSE if row[OP] == nodes.ALL else TRUE):
                    held = max(held, changes[child])
            change = change if held < 0 else held
        elif row[OP] in (nodes.NOT, nodes.KNOWN, nodes.MEMBER):
            change = changes[place(program.children[place(row[FIRST])])]
        elif row[OP] == nodes.COUNT:
            change = counting.count(facts, program, node, truth)
        elif row[OP] == nodes.INPUT:
            change = comparing.given(facts, program, node, at)
        elif row[OP] == nodes.COMPARE:
            change = comparing.compare(facts, program, node, truth)
        changes[place(node)] = change


@compiled
def run(
    slots: Ints, starts: Ints, ends: Ints, carry: Ints, at: Ints, settled: bool, first: int, last: int, until: int,
    arrays: Ints, rest: Ints, numbers: Floats, ranges: Floats, inputs: Floats, scratched: Ints, roomy: Ints,
    truths: NDArray[np.int8], changes: Ints,
) -> None:  # fmt: skip
    """Fill the rows `first:last` of `truths` and, if it has rows, `changes`; a carry of one row holds for all.

    What is told of numbers is told of many users at once; of one at a time where somebody asks when time changes it.
    """
    program, scratch, room = program_of(arrays, rest, numbers, ranges), room_of(scratched), _room_of(roomy)
    column, width = 0, 1 if len(changes) else room.truths.shape[1]
    for row in range(first, last):
        now, mine = at[row], carry[row if len(carry) > 1 else 0]
        boundary = boundary_of(now, program.horizon)
        n, capped = gather(slots, starts[row], ends[row], settled, now, mine[0], boundary, program.bounds, scratch)
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
        facts = Facts(slots, scratch.rows, scratch.ts, n, mine, until, room)
        room.known[place(column)] = seen != MISSING
        looks.settle(facts, program, scratch, column)
        lanes.separate(facts, program, scratch)
        of_events(facts, program, now, column)
        column += 1
        if column == width or row == last - 1:
            together.evaluate(room, program, inputs, row + 1 - column, column, truths)
            column = 0
        if len(changes):
            changing(facts, program, now)
            for segment in range(len(program.roots)):
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
        self, histories: Histories, at: Ints, inputs: Floats, *, until: int | None, threads: int | None = None
    ) -> tuple[NDArray[np.int8], Ints]:
        """(truths, next changes), shape (n_rows, n_segments); blocks of rows on `threads` threads."""
        n, n_segments = len(histories), len(self.program.roots)
        truths, changes = np.empty((n, n_segments), np.int8), np.empty((n * (until is not None), n_segments), np.int64)
        exact = MISSING if until is None else until
        lengths, rows = histories.ends - histories.starts, self._rows(histories, at)

        def work(block: tuple[int, int]) -> None:
            rooms = self._room(int(lengths[slice(*block)].max()))
            run(*rows, *block, exact, *self._integers, *self._floats, inputs, *rooms, truths, changes)

        in_blocks(work, lengths, threads)
        return truths, changes

    def explain(self, histories: Histories, at: Ints, inputs: Floats) -> tuple[Room, Scratch]:
        """Every node's truth, next change and evidence of the only row; evidence are places in the second's `rows`."""
        scratched, full = self._made(int((histories.ends - histories.starts).max()), explained=True)
        shape = (1, len(self.program.roots))
        truths, changes = np.empty(shape, np.int8), np.empty(shape, np.int64)
        rooms = views(scratched), views(full)
        run(*self._rows(histories, at), 0, 1, NEVER, *self._integers, *self._floats, inputs, *rooms, truths, changes)
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
