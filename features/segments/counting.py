"""Counting: counts, n-th events, regular and resumed events over one user's events, and when time changes them."""

from typing import NamedTuple

from features.behaviour.compiled import Ints, compiled_inside, place
from features.behaviour.schema import MISSING
from features.instants import NEVER
from features.segments.nodes import AGO, CALENDAR, SESSION
from features.segments.program import FALSE, KIND, LOOK, TEST, TEST_END, TRUE, UNKNOWN, WINDOW, A, B, C, D, Program
from features.segments.windows import END, HIGH, LOW, MODE, RESET, START, UNKNOWN_HERE, after


class Room(NamedTuple):
    """One thread's room for one user at a time."""

    truths: Ints  # shape (n_nodes, so many users at once)
    changes: Ints  # per node
    numbers: Ints  # shape (n_looks, so many users at once), see `looks`
    known: Ints  # per user: whether anything ever happened
    spans: Ints  # see `windows.resolve`
    cuts: Ints  # per beginning and end of a window the number of events up to it
    order: Ints  # of those
    fills: Ints  # shape (2 * n_windows, n_kinds)
    starts: Ints  # the events of kind j are places[starts[j]:ends[j]]
    ends: Ints
    places: Ints
    closes: Ints  # per event the last event of its session
    found: Ints  # shape (n_looks, 2): the events of a look are places[found[look, 0]:found[look, 1]]
    lanes: Ints  # see `lanes.separate`, shape (n_lanes, n)
    edges: Ints  # shape (n_lanes, n + 2)
    combinations: Ints  # per group of lanes
    heads: Ints  # scratch of lanes, shape (n,)
    reach: Ints  # scratch of sequences, shape (n_steps, n)
    back: Ints  # the same
    sizes: Ints  # shape (n_steps,)
    chosen: Ints  # the same
    tally: Ints  # of `regularly`
    evidence: Ints  # shape (n_nodes, EVIDENCE), -1 where there is no more; (0, EVIDENCE) where nobody asks


class Facts(NamedTuple):
    """One user's events as of an instant, ready to be asked."""

    slots: Ints  # everybody's records
    rows: Ints  # event k is the record slots[rows[k]]
    ts: Ints
    n: int
    carry: Ints
    until: int  # when time changes a truth is told exactly up to here, and never too late; MISSING: nobody asks
    room: Room


EVIDENCE = 12
"""Events that an explanation names of a node, at most."""


@compiled_inside
def passes(value: int, tests: Ints, first: int, end: int) -> bool:
    """Whether an integer lies in one of the intervals."""
    found = False
    for k in range(first, end):
        found = found or (tests[place(k), 0] <= value <= tests[place(k), 1])
    return found


@compiled_inside
def witness(facts: Facts, node: int, low: int, high: int) -> None:
    """Note the newest of the events `places[low:high]` as evidence."""
    if len(facts.room.evidence) == 0:
        return
    for k in range(min(EVIDENCE, high - low)):
        facts.room.evidence[node, k] = facts.room.places[high - 1 - k]


@compiled_inside
def within(facts: Facts, look: int) -> tuple[int, int]:
    """The events of a look: places[low:high]."""
    return facts.room.found[place(look), 0], facts.room.found[place(look), 1]


@compiled_inside
def next_slide(facts: Facts, end: int, low: int, high: int, back: int, ahead: int) -> int:
    """When an event next leaves, or enters, the window of ages ahead <= age < back that holds places[low:high]."""
    leaves = facts.ts[facts.room.places[low]] + back if low < high else NEVER
    enters = facts.ts[facts.room.places[high]] + ahead if high < end else NEVER
    return min(leaves, enters)


@compiled_inside
def slid(facts: Facts, end: int, low: int, high: int, back: int, ahead: int, instant: int) -> tuple[int, int]:
    """The same window at a later instant."""
    while low < high and facts.ts[facts.room.places[low]] + back <= instant:
        low += 1
    while high < end and facts.ts[facts.room.places[high]] + ahead <= instant:
        high += 1
    return low, high


@compiled_inside
def count(facts: Facts, program: Program, node: int, truth: int) -> int:
    """The next change of a count's truth."""
    row = program.nodes[place(node)]
    first, end, holds = row[TEST], row[TEST_END], truth == TRUE
    low, high = within(facts, row[LOOK])
    witness(facts, node, low, high)
    mode = program.windows[place(row[WINDOW]), MODE]
    if truth == UNKNOWN or (mode in (SESSION, CALENDAR) and passes(0, program.tests, first, end) == holds):
        return NEVER
    return _slides(facts, program, row, low, high, holds) if mode == AGO else int(facts.room.spans[row[WINDOW], RESET])


@compiled_inside
def _slides(facts: Facts, program: Program, row: Ints, low: int, high: int, holds: bool) -> int:
    """The first instant at which leaving and entering events turn a count's truth."""
    end = facts.room.ends[row[KIND]]
    back, ahead = program.windows[row[WINDOW], START], program.windows[row[WINDOW], END]
    if high == end:
        left = _turning(high - low, program.tests, row[TEST], row[TEST_END], holds)
        if left < 0:
            return NEVER
        low = high - left - 1
    while True:
        instant = next_slide(facts, end, low, high, back, ahead)
        if instant == NEVER or instant > facts.until:
            return instant
        low, high = slid(facts, end, low, high, back, ahead, instant)
        if passes(high - low, program.tests, row[TEST], row[TEST_END]) != holds:
            return instant


@compiled_inside
def _turning(n: int, tests: Ints, first: int, end: int, holds: bool) -> int:
    """The largest count below n whose truth may be another; negative where there is none."""
    found = n if holds else -1
    for k in range(first, end):
        low, high = tests[place(k), 0], tests[place(k), 1]
        if holds and low <= n <= high:
            found = min(found, low - 1)
        elif not holds and high < n:
            found = max(found, high)
    return found


@compiled_inside
def nth(facts: Facts, program: Program, node: int) -> tuple[int, int]:
    """(truth, next_change): whether the n-th event ever fell within the window."""
    row = program.nodes[node]
    span, mode = facts.room.spans[row[WINDOW]], program.windows[row[WINDOW], MODE]
    if span[UNKNOWN_HERE]:
        return UNKNOWN, NEVER
    first, end = facts.room.starts[row[KIND]], facts.room.ends[row[KIND]]
    at = first + row[B] - facts.carry[row[A]] - 1
    if at >= end:
        return FALSE, span[RESET]
    if at < first:  # folded: longer ago than any window reaches
        return (TRUE if span[LOW] == MISSING else FALSE), span[RESET]
    ts = facts.ts[facts.room.places[at]]
    witness(facts, node, at, at + 1)
    truth = TRUE if span[LOW] < ts <= span[HIGH] else FALSE
    if mode == AGO:
        entered = ts + program.windows[row[WINDOW], END]
        left = ts + program.windows[row[WINDOW], START]
        return truth, (left if truth == TRUE else entered if ts > span[HIGH] else NEVER)
    return truth, (NEVER if truth == FALSE and mode in (SESSION, CALENDAR) else span[RESET])


@compiled_inside
def regularly(facts: Facts, program: Program, node: int, at: int) -> tuple[int, int]:
    """(truth, next_change): enough events in enough of the last periods."""
    row, tally = program.nodes[node], facts.room.tally
    least, per, wanted, of = row[A], row[B], row[C], row[D]
    first, end = facts.room.starts[row[KIND]], facts.room.ends[row[KIND]]
    low = after(facts.ts, facts.room.places, first, end, at - of * per)
    witness(facts, node, low, end)
    for k in range(of):
        tally[k] = 0
    change = NEVER
    for k in range(low, end):
        ts = facts.ts[facts.room.places[k]]
        which = (at - ts) // per
        tally[which] += 1
        change = min(change, ts + (which + 1) * per)
    found = 0
    for k in range(of):
        found += tally[k] >= least
    return (TRUE if found >= wanted else FALSE), change


@compiled_inside
def resumed(facts: Facts, program: Program, node: int, at: int) -> tuple[int, int]:
    """(truth, next_change): a recent event that came long after the one before."""
    row = program.nodes[node]
    last, gap = row[A], row[B]
    first, end = facts.room.starts[row[KIND]], facts.room.ends[row[KIND]]
    for k in range(end - 1, first - 1, -1):
        ts = facts.ts[facts.room.places[k]]
        if ts <= at - last:
            break
        long = facts.carry[row[C]] > 0 if k == first else ts - facts.ts[facts.room.places[k - 1]] >= gap
        if long:
            witness(facts, node, max(k - 1, first), k + 1)
            return TRUE, ts + last
    return FALSE, NEVER
