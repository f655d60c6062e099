"""Comparing: a figure of some events against a figure of others, or against a number; and inputs handed in."""

from math import ceil

import numpy as np

from features.behaviour.compiled import compiled_inside, place
from features.behaviour.schema import MISSING
from features.instants import NEVER, SECOND
from features.segments import program as p
from features.segments.counting import Facts, next_slide, passes, slid, within, witness
from features.segments.nodes import AGO, EXPIRY, THRESHOLD, TICK
from features.segments.windows import END as BACK_TO
from features.segments.windows import MODE, RESET, START, UNKNOWN_HERE

COUNT, SUM, MEAN, MIN, MAX, FIRST_OF, LAST_OF = range(7)
STEPS = 64
"""Sliding events looked at for the exact instant of a comparison's change; beyond, the next one to look again."""

TICK_SPAN = 3600 * SECOND
FAR = 1e15


@compiled_inside
def compared(facts: Facts, program: p.Program, node: int) -> int:
    """The truth of a comparison."""
    row = program.nodes[place(node)]
    left, right = row[p.FIRST], row[p.END] - 1
    if min(_reset(facts, program, left), _reset(facts, program, right)) == MISSING:
        return p.UNKNOWN
    low, high = within(facts, program.sides[place(left), p.SIDE_LOOK])
    start, end = within(facts, program.sides[place(right), p.SIDE_LOOK])
    return _compared(facts, program, node, low, high, start, end)


@compiled_inside
def compare(facts: Facts, program: p.Program, node: int, truth: int) -> int:
    """The next change of a comparison's truth."""
    row = program.nodes[place(node)]
    left, right = row[p.FIRST], row[p.END] - 1
    change = min(_reset(facts, program, left), _reset(facts, program, right))
    if change == MISSING:
        return NEVER
    low, high = within(facts, program.sides[place(left), p.SIDE_LOOK])
    start, end = within(facts, program.sides[place(right), p.SIDE_LOOK])
    witness(facts, node, low, high)
    instant = NEVER
    for _ in range(STEPS):
        instant = min(_slide(facts, program, left, low, high), _slide(facts, program, right, start, end))
        if instant >= change or instant > facts.until:
            return min(instant, change)
        low, high = _slid(facts, program, left, low, high, instant)
        start, end = _slid(facts, program, right, start, end, instant)
        if _compared(facts, program, node, low, high, start, end) != truth:
            return instant
    return instant


@compiled_inside
def _reset(facts: Facts, program: p.Program, side: int) -> int:
    """When a side's window starts anew; MISSING where it reaches behind what is kept."""
    window = place(program.sides[place(side), p.SIDE_WINDOW])
    return MISSING if facts.room.spans[window, UNKNOWN_HERE] else facts.room.spans[window, RESET]


@compiled_inside
def _slide(facts: Facts, program: p.Program, side: int, low: int, high: int) -> int:
    window, kind = program.sides[side, p.SIDE_WINDOW], program.sides[side, p.SIDE_KIND]
    if program.windows[window, MODE] != AGO:
        return NEVER
    end = facts.room.ends[kind]
    return next_slide(facts, end, low, high, program.windows[window, START], program.windows[window, BACK_TO])


@compiled_inside
def _slid(facts: Facts, program: p.Program, side: int, low: int, high: int, instant: int) -> tuple[int, int]:
    window, end = program.sides[side, p.SIDE_WINDOW], facts.room.ends[program.sides[side, p.SIDE_KIND]]
    if program.windows[window, MODE] != AGO:
        return low, high
    return slid(facts, end, low, high, program.windows[window, START], program.windows[window, BACK_TO], instant)


@compiled_inside
def _compared(facts: Facts, program: p.Program, node: int, low: int, high: int, start: int, end: int) -> int:
    """The truth, given the left side's events places[low:high] and the right side's places[start:end]."""
    row = program.nodes[place(node)]
    left = _figure(facts, program, row[p.FIRST], low, high)
    right = program.numbers[place(node), 1]
    if row[p.END] - row[p.FIRST] == 2:
        right = _figure(facts, program, row[p.FIRST] + 1, start, end)
    return holds(program.nodes[place(node), p.A], left, right * program.numbers[place(node), 0])


@compiled_inside
def holds(op: int, left: float, right: float) -> int:
    """Whether one number is to another as asked; UNKNOWN where one is missing."""
    if np.isnan(left) or np.isnan(right):
        return p.UNKNOWN
    found = (
        (op == 0 and left == right)
        or (op == 1 and left != right)
        or (op == 2 and left > right)
        or (op == 3 and left >= right)
        or (op == 4 and left < right)
        or (op == 5 and left <= right)
    )
    return p.TRUE if found else p.FALSE


@compiled_inside
def _figure(facts: Facts, program: p.Program, side: int, low: int, high: int) -> float:
    """The figure of the events places[low:high], and of what is folded."""
    said = program.sides[place(side)]
    agg, slot, carry = said[p.AGG], said[p.SIDE_SLOT], said[p.SIDE_CARRY]
    total = facts.carry[place(carry)] if carry >= 0 else (0 if agg in (COUNT, SUM, MEAN) else MISSING)
    if agg == COUNT:
        return float(total + high - low)
    n = 0
    for k in range(low, high):
        value = facts.slots[place(facts.rows[place(facts.room.places[place(k)])]), place(slot)]
        if value == MISSING:
            continue
        n += 1
        if agg in (SUM, MEAN):
            total += value
        elif total == MISSING or agg == LAST_OF:
            total = value
        elif agg == MIN:
            total = min(total, value)
        elif agg == MAX:
            total = max(total, value)
    if total == MISSING or (agg == MEAN and n == 0):
        return np.nan
    return float(total / ((n if agg == MEAN else 1) * said[p.SIDE_FACTOR]))


@compiled_inside
def trait(facts: Facts, program: p.Program, node: int) -> int:
    """The truth about the newest value of a trait."""
    row = program.nodes[node]
    value = facts.carry[row[p.B]]
    first, end = facts.room.starts[row[p.KIND]], facts.room.ends[row[p.KIND]]
    for k in range(end - 1, first - 1, -1):
        said = facts.slots[facts.rows[facts.room.places[k]], row[p.A]]
        if said != MISSING:
            value = said
            witness(facts, node, k, k + 1)
            break
    if passes(value, program.tests, row[p.TEST], row[p.TEST_END]):
        return p.TRUE
    return row[p.C] if value == MISSING else p.FALSE


@compiled_inside
def given(facts: Facts, program: p.Program, node: int, at: int) -> int:
    """The next change of the truth about a number that is handed in."""
    row = program.nodes[place(node)]
    if row[p.A] == p.UNBOUND:
        return NEVER
    if row[p.C] == EXPIRY:
        low, high = within(facts, row[p.LOOK])
        witness(facts, node, low, high)
        return next_slide(facts, high, low, high, program.windows[row[p.WINDOW], START], 0)
    if row[p.C] == THRESHOLD:
        return _crossing(facts, program, node, at)
    return (at // TICK_SPAN + 1) * TICK_SPAN if row[p.C] == TICK else NEVER


@compiled_inside
def _crossing(facts: Facts, program: p.Program, node: int, at: int) -> int:
    """When the seconds since an event next enter or leave a range, or the event leaves the horizon."""
    row = program.nodes[node]
    first, end = facts.room.starts[row[p.KIND]], facts.room.ends[row[p.KIND]]
    tenure = row[p.D] == 1
    since = facts.carry[row[p.E]] if tenure else MISSING
    if since == MISSING and end > first:
        since = facts.ts[facts.room.places[first if tenure else end - 1]]
    if since == MISSING or (not tenure and since <= at - program.horizon):
        return NEVER
    change = NEVER if tenure else since + program.horizon
    for k in range(row[p.TEST], row[p.TEST_END]):
        change = min(change, _reaches(since, program.ranges[k, 0], at, False))
        change = min(change, _reaches(since, program.ranges[k, 1], at, True))
    return change


@compiled_inside
def _reaches(since: int, bound: float, at: int, beyond: bool) -> int:
    """The first instant after `at` whose seconds since then are at least, or beyond, a bound; NEVER if that was so."""
    if not (abs(bound) < FAR / SECOND):
        return NEVER
    instant = since + ceil(bound * SECOND)
    while (instant - since) / SECOND > bound or (not beyond and (instant - since) / SECOND == bound):
        instant -= 1
    while (instant - since) / SECOND < bound or (beyond and (instant - since) / SECOND == bound):
        instant += 1
    return instant if instant > at else NEVER
