"""Looks: one user's events of every kind, and how many of them lie in every window; settled once for all nodes."""

from features.behaviour.compiled import Ints, compiled_inside, place
from features.behaviour.gather import Scratch
from features.behaviour.marks import satisfied
from features.segments.counting import Facts
from features.segments.program import Program
from features.segments.windows import HIGH, LOW, UNKNOWN_HERE

KIND, WINDOW, CARRY = range(3)
UNTOLD = -1
"""Instead of a number of events: the window reaches behind what is kept."""


@compiled_inside
def settle(facts: Facts, program: Program, scratch: Scratch, column: int) -> None:
    """Fill `places`, `starts`, `ends`, `found` and a column of `numbers` of the room.

    Events are told apart by kind in one pass, oldest first; where a window begins or ends, the pass stops for a moment,
    and how far every kind was is where the window begins or ends in it.
    """
    room, n_kinds = facts.room, len(facts.room.starts)
    _edges(facts)
    apart = len(room.places) // max(n_kinds, 1)
    for kind in range(n_kinds):
        room.starts[place(kind)] = room.ends[place(kind)] = kind * apart
    k = 0
    for each in range(len(room.order)):
        edge = room.order[place(each)]
        _told_apart(facts, program, scratch, k, room.cuts[place(edge)])
        k = room.cuts[place(edge)]
        for kind in range(n_kinds):
            room.fills[place(edge), place(kind)] = room.ends[place(kind)]
    _told_apart(facts, program, scratch, k, facts.n)
    for look in range(len(program.looks)):
        kind, window = program.looks[place(look), KIND], program.looks[place(look), WINDOW]
        carry = program.looks[place(look), CARRY]
        low, high = room.fills[place(2 * window), place(kind)], room.fills[place(2 * window + 1), place(kind)]
        high = max(low, high)
        room.found[place(look), 0], room.found[place(look), 1] = low, high
        number = high - low + (facts.carry[place(carry)] if carry >= 0 else 0)
        room.numbers[place(look), place(column)] = UNTOLD if room.spans[place(window), UNKNOWN_HERE] else number


@compiled_inside
def _edges(facts: Facts) -> None:
    """How many of the events come before each window begins and until it ends, and the order of these edges."""
    cuts, order = facts.room.cuts, facts.room.order
    for edge in range(len(cuts)):
        instant = facts.room.spans[place(edge >> 1), place(HIGH if edge & 1 else LOW)]
        cut = _until(facts.ts, facts.n, instant)
        at = edge
        while at > 0 and cuts[place(order[place(at - 1)])] > cut:
            order[place(at)] = order[place(at - 1)]
            at -= 1
        cuts[place(edge)], order[place(at)] = cut, edge


@compiled_inside
def _told_apart(facts: Facts, program: Program, scratch: Scratch, first: int, last: int) -> None:
    """Add the events `first:last` to those of their kinds."""
    filters, room = program.filters, facts.room
    for k in range(first, last):
        code = scratch.codes[place(k)]
        for each in range(filters.places[place(code)], filters.places[place(code + 1)]):
            kind = place(filters.of[place(each)])
            if satisfied(facts.slots, scratch.rows[place(k)], kind, filters):
                room.places[place(room.ends[kind])] = k
                room.ends[kind] += 1


@compiled_inside
def _until(ts: Ints, n: int, edge: int) -> int:
    """How many of the first n instants are not after the edge."""
    if n == 0 or ts[place(n - 1)] <= edge:
        return n
    low = 0
    while n > 0:
        half = n >> 1
        later = ts[place(low + half)] <= edge
        low = low + half + 1 if later else low
        n = n - half - 1 if later else half
    return low
