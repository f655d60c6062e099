"""Program: segments compiled to integer arrays, run by one loop; the tree is for parsing and explaining."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, nextafter
from typing import NamedTuple, TypeVar

import numpy as np

from features.behaviour.compiled import Floats, Ints, compiled_inside, grid, vector, views
from features.behaviour.kinds import ANYTHING, Kind
from features.behaviour.marks import Filters, filters, filters_of
from features.behaviour.schema import Lifetime, StateSchema
from features.segments.nodes import (
    CHANGES,
    COMPARE,
    COUNT,
    INPUT,
    MEMBER,
    NTH,
    OPS,
    REGULARLY,
    RESUMED,
    SEQUENCE,
    TRAIT,
    WINDOWS,
    Cut,
    Input,
    Move,
    Node,
    Ranges,
    Side,
    Window,
)

FALSE, UNKNOWN, TRUE = range(3)
T = TypeVar("T")

OP, FIRST, END, KIND, WINDOW, LOOK, TEST, TEST_END, A, B, C, D, E = range(13)
"""The columns of a node. FIRST to END are its children, sides or moves; TEST to TEST_END its tests or ranges; LOOK is
the place of its kind and window among the looks. A sequence has in TEST the group of its lanes, in TEST_END how many
events of its first lane it needs.

An nth has in A the place of its life-time count in the carry, and n in B; regularly its four numbers in A to D;
resumed `last`, `after_gap` and the place of the count in A to C; compare in A the operator, in B whether of counts
alone; a sequence `last`, match, scope and max_duration in A to D, in E its last step that has to come; a trait its
slot, its place in the carry, and what missing data is in A to C; an input its column, what missing
data is, how time changes it, whether it is a tenure, and the place of the first instant in the carry in A to E; a
member in A whether unknown users are out."""

UNBOUND, COUNTED = -1, -2
"""Instead of an input's column: its bounds are not known yet; it is the number of events of its look."""

SIDE_KIND, SIDE_WINDOW, SIDE_LOOK, AGG, SIDE_SLOT, SIDE_CARRY, SIDE_FACTOR = range(7)
LANE, ABSENT, N, NEEDED, WITHIN, SINCE, AFTER, IMMEDIATE, UNTIL_NEXT = range(9)
"""NEEDED: so many events of its lane take part in a step and those before it, where it is one that has to come."""
AGGS = ("count", "sum", "mean", "min", "max", "first", "last")


@dataclass(frozen=True)
class Snapshot:
    """What the population looked like: bounds that are compared with, and never refitted, at request time.

    Attributes:
        values: One bound of a percentile; four between fifths.
        method: How they were taken.
        population: Of whom.
        n: Of how many.
        at: As of, microseconds UTC.
    """

    values: tuple[float, ...]
    method: str
    population: str
    n: int
    at: int


class Program(NamedTuple):
    """Everything about the segments that the loop reads."""

    nodes: Ints  # shape (n_nodes, 13), children before parents
    children: Ints
    roots: Ints  # per segment
    windows: Ints  # shape (n_windows, 3): mode, start, end
    looks: Ints  # shape (n_looks, 3): kind, window, place of the life-time count in the carry (-1: none); found once
    tests: Ints  # shape (n, 2), closed intervals
    sides: Ints  # shape (n, 7)
    moves: Ints  # shape (n, 9)
    lanes: Ints  # shape (n_lanes, 2): look, group (see `lanes`)
    groups: Ints  # shape (n_groups + 1,): the events of group g share same[groups[g]:groups[g + 1]]
    same: Ints  # slots
    events: Ints  # the nodes whose truth is told of one user's events, not of their numbers
    bounds: Ints
    zone_starts: Ints
    zone_offsets: Ints
    filters: Filters  # one filter a kind, in the order of the kinds
    numbers: Floats  # shape (n_nodes, 2): factor and constant of comparisons
    ranges: Floats  # shape (n, 2), closed intervals
    horizon: int
    gap: int
    seen: int  # the place of the first event's instant in the carry
    sessions: bool  # whether anything asks for them


N_ARRAYS = Program._fields.index("filters")


def handed(program: Program) -> tuple[Ints, Ints]:
    """(views of a program's arrays of integers, its numbers): what `program_of` makes it from again."""
    own: list[Ints] = list(program[:N_ARRAYS])  # type: ignore[arg-type] # the first fields are all arrays
    return views([*own, *program.filters[:-1]]), np.array(
        [program.filters.n_words, program.horizon, program.gap, program.seen, program.sessions], np.int64
    )


@compiled_inside
def program_of(arrays: Ints, rest: Ints, numbers: Floats, ranges: Floats) -> Program:
    """The program that was handed on."""
    return Program(
        grid(arrays, 0), vector(arrays, 1), vector(arrays, 2), grid(arrays, 3), grid(arrays, 4), grid(arrays, 5),
        grid(arrays, 6), grid(arrays, 7), grid(arrays, 8), vector(arrays, 9), vector(arrays, 10), vector(arrays, 11),
        vector(arrays, 12), vector(arrays, 13), vector(arrays, 14), filters(arrays, 15, rest[0]), numbers, ranges,
        rest[1], rest[2], rest[3], rest[4] != 0,
    )  # fmt: skip


def lifetimes(node: Node) -> list[Lifetime]:
    """What a node needs of all that ever happened."""
    ever = node.window.mode == "ever"
    kind = node.kind or ANYTHING
    if node.op in ("nth", "resumed") or (node.op == "count" and ever):
        return [Lifetime(kind, "count")]
    if node.op == "trait":
        return [Lifetime(kind, "last", node.trait)]
    if node.op == "input" and node.numbers == (1,):
        return [Lifetime(kind, "first")]
    return [Lifetime(s.kind, s.agg, s.property) for s in node.sides if s.window.mode == "ever"]


FIRST_SEEN = Lifetime(ANYTHING, "first")


def program(
    nodes: Sequence[Node],
    roots: Sequence[int],
    inputs: Mapping[Input, int],
    schema: StateSchema,
    *,
    gap: int,
    snapshots: Mapping[str, Snapshot],
) -> Program:
    """The arrays for these nodes over a schema.

    Args:
        nodes: Children before parents.
        roots: Per segment its node.
        inputs: The column of every input.
        schema: Where properties and life-time figures are.
        gap: What ends a session, microseconds.
        snapshots: By `Cut.key`; a cut without one is unknown.
    """
    maker = _Maker(schema, inputs, snapshots, list(dict.fromkeys(k for node in nodes for k in node.kinds)))
    rows = [maker.row(node) for node in nodes]
    return Program(
        nodes=np.array(rows, np.int64).reshape(-1, 13),
        numbers=np.array([(node.factor, node.constant) for node in nodes], np.float64).reshape(-1, 2),
        children=np.array(maker.children, np.int64),
        roots=np.array(roots, np.int64),
        windows=np.array([(WINDOWS.index(w.mode), w.start, w.end) for w in maker.windows], np.int64).reshape(-1, 3),
        tests=np.array(maker.tests, np.int64).reshape(-1, 2),
        ranges=np.array(maker.ranges, np.float64).reshape(-1, 2),
        looks=np.array(list(maker.looks), np.int64).reshape(-1, 3),
        sides=np.array(maker.sides, np.int64).reshape(-1, 7),
        moves=np.array(maker.moves, np.int64).reshape(-1, 9),
        lanes=np.array(list(maker.lanes), np.int64).reshape(-1, 2),
        groups=np.cumsum([0, *map(len, maker.groups)], dtype=np.int64),
        same=np.array([schema.slot(name) for group in maker.groups for name in group], np.int64),
        filters=filters_of(maker.kinds, schema),
        events=np.array([k for k, row in enumerate(rows) if _of_events(row)], np.int64),
        bounds=schema.code_bounds,
        zone_starts=schema.zone_steps[0],
        zone_offsets=schema.zone_steps[1],
        horizon=schema.horizon,
        gap=gap,
        seen=1 + schema.lifetime.index(FIRST_SEEN),
        sessions=any(w.mode == "session" for w in maker.windows)
        or any(n.op == "sequence" and n.numbers[2] for n in nodes),
    )


def _of_events(row: Sequence[int]) -> bool:
    return row[OP] in (NTH, REGULARLY, RESUMED, SEQUENCE, TRAIT) or (row[OP] == COMPARE and not row[B])


class _Maker:
    """Rows of nodes, and the lists that they point into."""

    def __init__(
        self, schema: StateSchema, inputs: Mapping[Input, int], snapshots: Mapping[str, Snapshot], kinds: list[Kind]
    ) -> None:
        self.schema, self.inputs, self.snapshots, self.kinds = schema, inputs, snapshots, kinds
        self.windows: dict[Window, int] = {}
        self.looks: dict[tuple[int, int, int], int] = {}
        self.lanes: dict[tuple[int, int], int] = {}
        self.groups: dict[tuple[str, ...], int] = {}
        self.children: list[int] = []
        self.tests: list[tuple[int, int]] = []
        self.ranges: list[tuple[float, float]] = []
        self.sides: list[tuple[int, ...]] = []
        self.moves: list[tuple[int, ...]] = []

    def row(self, node: Node) -> list[int]:
        """The node's columns."""
        op, window = OPS.index(node.op), _place(self.windows, node.window)
        kind = self.kinds.index(node.kind) if node.kind else -1
        carry = self._carry(lifetimes(node)[0]) if op == COUNT and lifetimes(node) else -1
        row = [op, 0, 0, kind, window, _place(self.looks, (kind, window, carry)) if node.kind else -1, *[0] * 7]
        if op <= MEMBER:
            row[FIRST], row[END] = _appended(self.children, node.children)
            row[A] = int(node.level > 0)
        elif op == COMPARE:
            row[FIRST], row[END] = _appended(self.sides, [self._side(side) for side in node.sides])
        elif op == SEQUENCE:
            row[TEST] = _place(self.groups, node.same)
            moves = list(self._moves(node.moves, row[TEST]))
            row[FIRST], row[END] = _appended(self.moves, moves)
            row[TEST_END] = max(move[NEEDED] for move in moves if move[LANE] == moves[0][LANE])
            row[E] = max(place for place, move in enumerate(moves, row[FIRST]) if not move[ABSENT])
        elif op == INPUT:
            row[TEST], row[TEST_END] = _appended(self.ranges, ranges_of(node, self.snapshots) or ())
        else:
            row[TEST], row[TEST_END] = _appended(self.tests, node.tests)
        for place, number in enumerate(self._numbers(op, node)):
            row[A + place] = number
        return row

    def _numbers(self, op: int, node: Node) -> list[int]:
        if op in (NTH, RESUMED):
            carried = [self._carry(each) for each in lifetimes(node)]
            return [*node.numbers, *carried] if op == RESUMED else [*carried, *node.numbers]
        if op == COMPARE:
            return [*node.numbers, int(all(side.agg == "count" for side in node.sides))]
        if op in (REGULARLY, SEQUENCE):
            return list(node.numbers)
        missing = TRUE if node.absent else FALSE if node.decided else UNKNOWN
        if op == TRAIT:
            return [self.schema.slot(node.trait), *(self._carry(each) for each in lifetimes(node)), missing]
        if op == INPUT and node.input is not None:
            column = UNBOUND if ranges_of(node, self.snapshots) is None else self.inputs.get(node.input, COUNTED)
            first = [self._carry(each) for each in lifetimes(node)] or [-1]
            return [column, missing, CHANGES.index(node.change), int(node.numbers == (1,)), *first]
        return []

    def _carry(self, lifetime: Lifetime) -> int:
        return 1 + self.schema.lifetime.index(lifetime)

    def _side(self, side: Side) -> tuple[int, ...]:
        slot = self.schema.slot(side.property) if side.property else -1
        ever = side.window.mode == "ever" and side.agg != "mean"
        carry = self._carry(Lifetime(side.kind, side.agg, side.property)) if ever else -1
        factor = self.schema.factor(side.property)
        kind, window = self.kinds.index(side.kind), _place(self.windows, side.window)
        look = _place(self.looks, (kind, window, carry if side.agg == "count" else -1))
        return kind, window, look, AGGS.index(side.agg), slot, carry, factor

    def _moves(self, moves: Sequence[Move], group: int) -> Iterator[tuple[int, ...]]:
        needed = Counter[int]()
        for move in moves:
            look = _place(self.looks, (self.kinds.index(move.kind), _place(self.windows, move.window), -1))
            lane = _place(self.lanes, (look, group))
            needed[lane] += 0 if move.absent else move.n
            figures = move.n, 0 if move.absent else needed[lane], move.within, move.since, move.after
            yield lane, int(move.absent), *figures, int(move.immediately), int(move.until_next)


def _place(known: dict[T, int], wanted: T) -> int:
    return known.setdefault(wanted, len(known))


def _appended(into: list, items: Sequence) -> tuple[int, int]:  # type: ignore[type-arg] # lists of several kinds
    first = len(into)
    into.extend(items)
    return first, len(into)


def ranges_of(node: Node, snapshots: Mapping[str, Snapshot]) -> Ranges | None:
    """Which numbers pass an input's node; None while the snapshot that it needs is not there."""
    if node.cut is None:
        return node.ranges
    snapshot = snapshots.get(node.cut.key)
    return None if snapshot is None else _cut(node.cut, snapshot.values, node)


def _cut(cut: Cut, values: tuple[float, ...], node: Node) -> Ranges:
    if cut.what == "percentile":
        return ((values[0], inf),) if cut.side == "gte" else ((-inf, values[0]),)
    edges = (-inf, *values, inf)
    fifths = [(nextafter(low, inf) if low > -inf else low, high) for low, high in pairwise(edges)]
    scored = fifths if cut.side == "up" else fifths[::-1]
    return tuple(
        each
        for score, each in enumerate(scored, 1)
        if each[0] <= each[1] and any(low <= score <= high for low, high in node.tests)
    )
