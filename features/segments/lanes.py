"""Lanes: the events of a kind in a window, apart by what a sequence's steps share; made once for all sequences."""

from features.behaviour.compiled import Ints, compiled_inside, place
from features.behaviour.gather import MIX, Scratch, freed
from features.behaviour.schema import MISSING
from features.segments.counting import Facts, within
from features.segments.program import Program

LOOKED, GROUP = range(2)


@compiled_inside
def separate(facts: Facts, program: Program, scratch: Scratch) -> None:
    """Fill the lanes: events of lane l in combination c are lanes[l, edges[l, c]:edges[l, c + 1]], in order.

    `facts.room.combinations` gets the number of combinations of every group.
    """
    for group in range(len(facts.room.combinations)):
        facts.room.combinations[group] = _combined(facts, program, group, scratch)
        for lane in range(len(program.lanes)):
            if program.lanes[lane, GROUP] == group:
                n = facts.room.combinations[group]
                _sorted(
                    facts, program.lanes[lane, LOOKED], n, facts.room.lanes[lane], facts.room.edges[lane], scratch.spare
                )


@compiled_inside
def _combined(facts: Facts, program: Program, group: int, scratch: Scratch) -> int:
    """How many combinations there are; `scratch.spare` holds that of an event in a lane, -1 where it lacks a value."""
    mask, era = freed(scratch.seats, scratch.era, facts.n)
    n = 0
    for lane in range(len(program.lanes)):
        if program.lanes[lane, GROUP] == group:
            low, high = within(facts, program.lanes[lane, LOOKED])
            for each in range(low, high):
                k = facts.room.places[place(each)]
                combination = _combination(facts, program, group, k, n, mask, era, scratch)
                scratch.spare[place(k)] = combination
                n = max(n, combination + 1)
    return n


@compiled_inside
def _combination(
    facts: Facts, program: Program, group: int, k: int, n: int, mask: int, era: int, scratch: Scratch
) -> int:
    """The number of an event's combination, n where it is a new one, -1 where the event lacks a value."""
    first, end = program.groups[group], program.groups[group + 1]
    key, whole = 0, True
    for each in range(first, end):
        value = facts.slots[place(facts.rows[place(k)]), place(program.same[place(each)])]
        key, whole = (key ^ value) * MIX, whole and value != MISSING
    if not whole:
        return -1
    seat = (key >> 32) & mask
    held = scratch.seats[place(seat), 1] - era
    while held > 0 and not _agree(facts, program, first, end, facts.room.heads[place(held - 1)], k):
        seat = (seat + 1) & mask
        held = scratch.seats[place(seat), 1] - era
    if held > 0:
        return int(held - 1)
    facts.room.heads[place(n)] = k
    scratch.seats[place(seat), 1] = era + n + 1
    return n


@compiled_inside
def _agree(facts: Facts, program: Program, first: int, end: int, one: int, other: int) -> bool:
    """Whether two events have the same values."""
    for each in range(first, end):
        slot = place(program.same[place(each)])
        if facts.slots[place(facts.rows[place(one)]), slot] != facts.slots[place(facts.rows[place(other)]), slot]:
            return False
    return True


@compiled_inside
def _sorted(facts: Facts, look: int, n: int, lane: Ints, edges: Ints, combination: Ints) -> None:
    low, high = within(facts, look)
    for c in range(n + 2):
        edges[place(c)] = 0
    for turn in range(2):
        for k in range(low, high):
            event = facts.room.places[place(k)]
            c = combination[place(event)]
            if c >= 0:
                if turn:
                    lane[place(edges[place(c + 1)])] = event
                edges[place(c + 2 - turn)] += 1
        if not turn:
            for c in range(n):
                edges[place(c + 2)] += edges[place(c + 1)]
