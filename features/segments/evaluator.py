"""Evaluator: one loop over one user's gathered events gives every segment's truth, its evidence and its next change."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.behaviour.compiled import Floats, Ints, borrowed, compiled, place
from features.behaviour.gather import Scratch, gather, scratch
from features.behaviour.histories import Histories, empty_carry
from features.behaviour.kernel import Rows, _blocks
from features.behaviour.lifetime import boundary_of
from features.behaviour.marks import Filters, mark
from features.behaviour.schema import MISSING, StateSchema
from features.instants import DAY, NEVER
from features.segments import comparing, counting, sequences
from features.segments.counting import EVIDENCE, Facts
from features.segments.nodes import (
    ALL,
    ANY,
    COMPARE,
    COUNT,
    INPUT,
    KNOWN,
    MEMBER,
    NOT,
    NTH,
    REGULARLY,
    RESUMED,
    SEQUENCE,
    TRAIT,
)
from features.segments.program import ABSENT, END, FALSE, FIRST, OP, TRUE, UNKNOWN, A, Program
from features.segments.windows import resolve

PERIODS = 1000
"""Of `regularly`, at most."""


class Room(NamedTuple):
    """One thread's room for one user at a time."""

    truths: NDArray[np.int8]  # per node
    changes: Ints  # per node
    spans: Ints
    starts: Ints
    places: Ints
    closes: Ints
    reach: Ints
    back: Ints
    sizes: Ints
    chosen: Ints
    matched: Ints
    settled: Ints
    tally: Ints
    evidence: Ints


def room(program: Program, n_events: int, *, explained: bool = False) -> Room:
    """Room for users of up to `n_events` records."""
    n, n_nodes, n_kinds = max(n_events, 1), len(program.nodes), len(program.filters.tests) - 1
    sequences = program.nodes[program.nodes[:, OP] == SEQUENCE]
    steps = max([1, *(int((program.moves[row[FIRST] : row[END], ABSENT] == 0).sum()) for row in sequences)])
    per_event = int(np.diff(program.filters.places).max(initial=0))
    reach, back = (np.empty((steps, n), np.int64) for _ in range(2))
    closes, matched, settled = (np.empty(n, np.int64) for _ in range(3))
    return Room(
        np.empty(n_nodes, np.int8), np.empty(n_nodes, np.int64), np.empty((len(program.windows), 4), np.int64),
        np.empty(n_kinds + 1, np.int64), np.empty(n * max(per_event, 1), np.int64), closes, reach, back,
        np.empty(steps, np.int64), np.empty(steps, np.int64), matched, settled, np.empty(PERIODS, np.int64),
        np.full((n_nodes if explained else 0, EVIDENCE), -1, np.int64),
    )  # fmt: skip


@compiled
def by_kind(codes: Ints, marks: Ints, n: int, filters: Filters, starts: Ints, places: Ints) -> None:
    """The events of every kind, in order: those of kind j are places[starts[j]:starts[j + 1]]."""
    for kind in range(len(starts)):
        starts[kind] = 0
    for turn in range(2):
        for k in range(n):
            code = place(codes[place(k)])
            for each in range(filters.places[code], filters.places[code + place(1)]):
                kind = filters.of[place(each)]
                if marks[place(k * filters.n_words + (kind >> 6))] >> (kind & 63) & 1:
                    if turn:
                        places[place(starts[place(kind)])] = k
                    starts[place(kind + 1 - turn)] += 1
        if not turn:
            for kind in range(1, len(starts)):
                starts[kind] += starts[kind - 1]
    for kind in range(len(starts) - 1, 0, -1):
        starts[kind] = starts[kind - 1]
    starts[0] = 0


@compiled
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


@compiled
def combined(program: Program, node: int, truths: NDArray[np.int8], changes: Ints) -> tuple[int, int]:
    """(truth, next_change) of what joins other nodes.

    `all` stays FALSE while one child does, `any` stays TRUE while one does; otherwise the soonest change counts.
    """
    row = program.nodes[node]
    decisive = FALSE if row[OP] == ALL else TRUE
    truth, soonest, held = (TRUE if row[OP] == ALL else FALSE), NEVER, -1
    for k in range(row[FIRST], row[END]):
        child = program.children[k]
        truth = min(truth, truths[child]) if row[OP] == ALL else max(truth, truths[child])
        soonest = min(soonest, changes[child])
        if truths[child] == decisive:
            held = max(held, changes[child])
    return truth, soonest if held < 0 else held


@compiled
def evaluate(  # noqa: C901 - a branch an op
    facts: Facts, program: Program, inputs: Floats, at: int, seen: bool, room: Room
) -> None:
    """Fill the truths and next changes of all nodes, children first."""
    truths, changes = room.truths, room.changes
    for node in range(len(program.nodes)):
        row = program.nodes[node]
        op, truth, change = row[OP], FALSE, NEVER
        if op in (ALL, ANY):
            truth, change = combined(program, node, truths, changes)
        elif op in (NOT, KNOWN, MEMBER):
            child = program.children[row[FIRST]]
            truth, change = truths[child], changes[child]
            if op == NOT:
                truth = TRUE - truth
            elif truth == UNKNOWN or (op == MEMBER and row[A] and not seen):
                truth = FALSE
        elif op == COUNT:
            truth, change = counting.count(facts, program, node)
        elif op == INPUT:
            truth, change = comparing.given(facts, program, node, inputs, at)
        elif op == SEQUENCE:
            truth, change = sequences.sequence(facts, program, node, at)
        elif op == TRAIT:
            truth = comparing.trait(facts, program, node)
        elif op == NTH:
            truth, change = counting.nth(facts, program, node)
        elif op == REGULARLY:
            truth, change = counting.regularly(facts, program, node, at, room.tally)
        elif op == RESUMED:
            truth, change = counting.resumed(facts, program, node, at)
        elif op == COMPARE:
            truth, change = comparing.compare(facts, program, node)
        truths[node], changes[node] = truth, change


@compiled
def run(
    rows: Rows, first: int, last: int, program: Program, inputs: Floats, scratched: Scratch, room: Room,
    truths: NDArray[np.int8], changes: Ints,
) -> None:  # fmt: skip
    """Fill the rows `first:last` of `truths` and `changes`, a column a segment."""
    slots, carries, program, scratched, room = (
        borrowed(rows.slots),
        borrowed(rows.carry),
        borrowed(program),
        borrowed(scratched),
        borrowed(room),
    )
    for row in range(first, last):
        at = rows.at[row]
        carry = carries[row if len(carries) > 1 else 0]
        boundary = boundary_of(at, program.horizon)
        n, capped = gather(slots, rows.starts[row], rows.ends[row], at, carry[0], boundary, program.bounds, scratched)
        mark(slots, scratched.rows, scratched.codes, n, program.filters, scratched.marks)
        by_kind(scratched.codes, scratched.marks, n, program.filters, room.starts, room.places)
        past = n
        while past > 0 and scratched.ts[past - 1] > at - program.horizon:
            past -= 1
        open_session = sessions(scratched.ts, past, n, program.gap, at, room.closes)
        seen = carry[program.seen]
        if seen == MISSING and n > 0:
            seen = scratched.ts[0]
        midnight = (at // DAY + 1) * DAY if capped else NEVER
        resolve(
            program.windows, at, program.horizon, seen, open_session, midnight,
            program.zone_starts, program.zone_offsets, room.spans,
        )  # fmt: skip
        facts = Facts(
            slots, scratched.rows, scratched.ts, n, room.starts, room.places, carry, room.spans, room.closes,
            room.reach, room.back, room.sizes, room.chosen, room.matched, room.settled, room.evidence,
        )  # fmt: skip
        evaluate(facts, program, inputs[row], at, seen != MISSING, room)
        for segment in range(len(program.roots)):
            truths[row, segment] = room.truths[program.roots[segment]]
            changes[row, segment] = room.changes[program.roots[segment]]


class Evaluator:
    """The loop for one program; may be called from many threads at once."""

    def __init__(self, program: Program, schema: StateSchema) -> None:
        self.program = program
        self.schema = schema
        self._no_carry = empty_carry(schema)[None]
        self._rooms = threading.local()

    def run(
        self, histories: Histories, at: Ints, inputs: Floats, *, threads: int | None = None
    ) -> tuple[NDArray[np.int8], Ints]:
        """(truths, next changes), shape (n_rows, n_segments); blocks of rows on `threads` threads."""
        rows, shape = self._rows(histories, at), (len(histories), len(self.program.roots))
        truths, changes = np.empty(shape, np.int8), np.empty(shape, np.int64)
        lengths = histories.ends - histories.starts

        def work(block: tuple[int, int]) -> None:
            scratched, room = self._room(int(lengths[slice(*block)].max()))
            run(rows, *block, self.program, inputs, scratched, room, truths, changes)

        in_blocks(work, lengths, threads)
        return truths, changes

    def explain(self, histories: Histories, at: Ints, inputs: Floats) -> tuple[Room, Scratch]:
        """Every node's truth, next change and evidence of the only row; evidence are places in the second's `rows`."""
        scratched, full = self._made(int((histories.ends - histories.starts).max()), explained=True)
        shape = (1, len(self.program.roots))
        truths, changes = np.empty(shape, np.int8), np.empty(shape, np.int64)
        run(self._rows(histories, at), 0, 1, self.program, inputs, scratched, full, truths, changes)
        return full, scratched

    def _rows(self, histories: Histories, at: Ints) -> Rows:
        carry = histories.carry if histories.carry is not None else self._no_carry
        return Rows(histories.slots, histories.starts, histories.ends, carry, at)

    def _room(self, n_events: int) -> tuple[Scratch, Room]:
        rooms: tuple[Scratch, Room] | None = getattr(self._rooms, "rooms", None)
        if rooms is None or len(rooms[0].rows) < n_events:
            rooms = self._rooms.rooms = self._made(2 * n_events)
        return rooms

    def _made(self, n_events: int, *, explained: bool = False) -> tuple[Scratch, Room]:
        words = self.program.filters.n_words
        sizes = {"n_events": n_events, "n_codes": self.schema.n_codes, "n_streams": 1, "n_folds": 0, "per_event": 1}
        return scratch(**sizes, n_words=words), room(self.program, n_events, explained=explained)


def in_blocks(work: Callable[[tuple[int, int]], None], lengths: Ints, threads: int | None) -> None:
    """Do blocks of rows on threads; a single row at once."""
    blocks = _blocks(lengths)
    if len(blocks) < 2:
        for block in blocks:
            work(block)
        return
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        list(pool.map(work, blocks))
