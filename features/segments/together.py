"""Together: the truths that are told of numbers, of counts, inputs and other truths, of many users at once."""

import numpy as np
from numpy.typing import NDArray

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.segments import nodes
from features.segments import program as p
from features.segments.comparing import holds
from features.segments.counting import Room
from features.segments.looks import UNTOLD


@compiled_inside
def evaluate(
    room: Room, program: p.Program, inputs: Floats, first: int, n: int, truths: NDArray[np.int8]
) -> None:  # fmt: skip
    """Fill n columns of the room's truths, children first, and with them the rows from `first` on of `truths`.

    The truths of `program.events`, and `numbers`, are there already.
    """
    for node in range(len(program.nodes)):
        row, said = program.nodes[place(node)], room.truths[place(node)]
        if row[p.OP] in (nodes.ALL, nodes.ANY):
            _joined(room, program, row, n, said)
        elif row[p.OP] in (nodes.NOT, nodes.KNOWN, nodes.MEMBER):
            _of_child(room, row, room.truths[place(program.children[place(row[p.FIRST])])], n, said)
        elif row[p.OP] == nodes.COUNT:
            _counted(program, row, room.numbers[place(row[p.LOOK])], n, said)
        elif row[p.OP] == nodes.INPUT:
            _handed_in(room, program, row, inputs, first, n, said)
        elif row[p.OP] == nodes.COMPARE and row[p.B]:
            _compared(room, program, node, n, said)
    for column in range(n):
        for segment in range(len(program.roots)):
            said = room.truths[place(program.roots[place(segment)])]
            truths[place(first + column), place(segment)] = said[place(column)]


@compiled_inside
def _joined(room: Room, program: p.Program, row: Ints, n: int, said: Ints) -> None:
    every = row[p.OP] == nodes.ALL
    for k in range(n):
        said[place(k)] = p.TRUE if every else p.FALSE
    for each in range(row[p.FIRST], row[p.END]):
        child = room.truths[place(program.children[place(each)])]
        for k in range(n):
            one, other = said[place(k)], child[place(k)]
            said[place(k)] = min(one, other) if every else max(one, other)


@compiled_inside
def _of_child(room: Room, row: Ints, child: Ints, n: int, said: Ints) -> None:
    for k in range(n):
        truth = child[place(k)]
        if row[p.OP] == nodes.NOT:
            truth = p.TRUE - truth
        elif truth == p.UNKNOWN or (row[p.OP] == nodes.MEMBER and row[p.A] and not room.known[place(k)]):
            truth = p.FALSE
        said[place(k)] = truth


@compiled_inside
def _counted(program: p.Program, row: Ints, numbers: Ints, n: int, said: Ints) -> None:
    for k in range(n):
        said[place(k)] = p.UNKNOWN if numbers[place(k)] == UNTOLD else p.FALSE
    for each in range(row[p.TEST], row[p.TEST_END]):
        low, high = program.tests[place(each), 0], program.tests[place(each), 1]
        for k in range(n):
            number = numbers[place(k)]
            said[place(k)] = p.TRUE if number != UNTOLD and low <= number <= high else said[place(k)]


@compiled_inside
def _handed_in(room: Room, program: p.Program, row: Ints, inputs: Floats, first: int, n: int, said: Ints) -> None:
    """UNKNOWN where the bounds it is compared with are; what missing data is where the number is missing."""
    for k in range(n):
        truth = p.UNKNOWN
        if row[p.A] != p.UNBOUND:
            if row[p.A] == p.COUNTED:
                value = float(room.numbers[place(row[p.LOOK]), place(k)])
            else:
                value = inputs[place(first + k), place(row[p.A])]
            truth = row[p.B] if np.isnan(value) else p.FALSE
            for each in range(row[p.TEST], row[p.TEST_END]):
                if program.ranges[place(each), 0] <= value <= program.ranges[place(each), 1]:
                    truth = p.TRUE
        said[place(k)] = truth


@compiled_inside
def _compared(room: Room, program: p.Program, node: int, n: int, said: Ints) -> None:
    """Counts against counts, or against a number."""
    row = program.nodes[place(node)]
    factor = program.numbers[place(node), 0]
    left = room.numbers[place(program.sides[place(row[p.FIRST]), p.SIDE_LOOK])]
    against = room.numbers[place(program.sides[place(row[p.END] - 1), p.SIDE_LOOK])]
    for k in range(n):
        one, other = left[place(k)], against[place(k)]
        right = float(other) if row[p.END] - row[p.FIRST] == 2 else program.numbers[place(node), 1]
        untold = one == UNTOLD or other == UNTOLD
        said[place(k)] = p.UNKNOWN if untold else holds(row[p.A], float(one), right * factor)
