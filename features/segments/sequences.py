"""Sequences: ordered steps with absence, of one anchor after the other.

A match of an anchor gives every positive step the event that completes it. Of several matches the one counts that ends
first; of those, the one whose step before ends last, and so on back. So an event may serve one step only, and a step
within an hour of the previous one is found wherever there is one.
"""

from features.behaviour.compiled import Ints, compiled_inside, place
from features.behaviour.schema import MISSING
from features.instants import NEVER
from features.segments import program as p
from features.segments.counting import EVIDENCE, Facts, next_slide, within
from features.segments.lanes import LOOKED
from features.segments.looks import KIND, WINDOW
from features.segments.nodes import AGO, EVER
from features.segments.windows import END, MODE, RESET, START, UNKNOWN_HERE, after, beyond

ANY_MATCH, FIRST_MATCH, LAST_MATCH = range(3)


@compiled_inside
def sequence(facts: Facts, program: p.Program, node: int, at: int) -> tuple[int, int]:
    """(truth, next_change) of a sequence: TRUE if it is for any combination of what its steps share."""
    row = program.nodes[place(node)]
    moved = _moved(facts, program, row)
    if moved < 0:
        return p.UNKNOWN, NEVER
    lane = program.moves[place(row[p.FIRST]), p.LANE]
    events, edges = facts.room.lanes[place(lane)], facts.room.edges[place(lane)]
    best, found, best_combination, held, soonest = p.FALSE, -1, 0, 0, NEVER
    for combination in range(facts.room.combinations[place(row[p.TEST])]):
        end = edges[place(combination + 1)]
        if end - edges[place(combination)] < row[p.TEST_END] or not _enough(facts, program, row, combination):
            continue
        begin = after(facts.ts, events, edges[place(combination)], end, at - row[p.A])
        for step in range(end - begin):
            at_anchor = begin + step if row[p.B] == FIRST_MATCH else end - 1 - step
            anchor = events[place(at_anchor)]
            if not _met(facts, program, row, at_anchor, combination):
                continue
            truth, due = _judged(facts, program, row, anchor, combination, at)
            change = _changes(row, facts.ts[anchor], truth, due)
            if found < 0 or truth > best or (truth == best and anchor > events[place(found)]):
                best, found, best_combination = truth, at_anchor, combination
            held = max(held, change) if truth == p.TRUE else held
            soonest = min(soonest, change)
            if row[p.B] != ANY_MATCH or truth == p.TRUE:
                break
        if best == p.TRUE and held > facts.until:
            break
    if len(facts.room.evidence) and found >= 0:
        _testify(facts, program, node, found, best_combination)
    return best, min(moved, held if best == p.TRUE else soonest)


@compiled_inside
def _moved(facts: Facts, program: p.Program, row: Ints) -> int:
    """When time next takes an event into or out of a step's window; -1 where a window is not known whole."""
    soonest = NEVER
    for move in range(row[p.FIRST], row[p.END]):
        look = place(program.lanes[place(program.moves[place(move), p.LANE]), LOOKED])
        kind, window = program.looks[look, KIND], program.looks[look, WINDOW]
        said, span = program.windows[place(window)], facts.room.spans[place(window)]
        if span[UNKNOWN_HERE]:
            return -1
        if said[MODE] == AGO:
            low, high = within(facts, look)
            end = facts.room.ends[place(kind)]
            soonest = min(soonest, next_slide(facts, end, low, high, said[START], said[END]))
        elif said[MODE] != EVER:
            soonest = min(soonest, span[RESET])
    return soonest


@compiled_inside
def _enough(facts: Facts, program: p.Program, row: Ints, combination: int) -> bool:
    """Whether a combination has as many events as its steps need."""
    for move in range(row[p.FIRST], row[p.END]):
        edges = facts.room.edges[place(program.moves[place(move), p.LANE])]
        if edges[place(combination + 1)] - edges[place(combination)] < program.moves[place(move), p.NEEDED]:
            return False
    return True


@compiled_inside
def _changes(row: Ints, anchored: int, truth: int, due: int) -> int:
    """When time next changes what one anchor says: a deadline passes, or the anchor leaves what is looked at."""
    leaves = anchored + row[p.A]
    if truth == p.UNKNOWN:
        return int(min(due, leaves))
    return NEVER if truth == p.FALSE and row[p.B] != FIRST_MATCH else int(leaves)


@compiled_inside
def _limit(facts: Facts, row: Ints, anchor: int) -> int:
    """The last event that may take part."""
    return int(facts.room.closes[place(anchor)]) if row[p.C] else facts.n - 1


@compiled_inside
def _met(facts: Facts, program: p.Program, row: Ints, at_anchor: int, combination: int) -> bool:
    """Whether all positive steps are met from this anchor; then `facts.room.chosen` holds each step's last event."""
    anchor = facts.room.lanes[place(program.moves[place(row[p.FIRST]), p.LANE]), place(at_anchor)]
    limit = _limit(facts, row, anchor)
    deadline = facts.ts[place(anchor)] + row[p.D] if row[p.D] else NEVER
    steps = 0
    for move in range(row[p.FIRST], row[p.E] + 1):
        if program.moves[place(move), p.ABSENT]:
            continue
        if steps == 0:
            size = _begun(facts, program, move, at_anchor, combination, limit, deadline)
        else:
            size = _advanced(facts, program, row, move, anchor, combination, limit, deadline, steps)
        if size == 0:
            return False
        facts.room.sizes[place(steps)] = size
        steps += 1
    k = 0
    for step in range(steps - 1, -1, -1):
        facts.room.chosen[place(step)] = facts.room.reach[place(step), place(k)]
        k = facts.room.back[place(step), place(k)]
    return True


@compiled_inside
def _begun(
    facts: Facts, program: p.Program, move: int, at_anchor: int, combination: int, limit: int, deadline: int
) -> int:
    """Complete the first step, whose count begins with the anchor."""
    step = program.moves[place(move)]
    lane = place(step[p.LANE])
    k = at_anchor + step[p.N] - 1
    if k >= facts.room.edges[lane, place(combination + 1)]:
        return 0
    anchor, event = facts.room.lanes[lane, place(at_anchor)], facts.room.lanes[lane, place(k)]
    if step[p.WITHIN]:
        deadline = min(deadline, facts.ts[place(anchor)] + step[p.WITHIN])
    if event > limit or facts.ts[place(event)] > deadline:
        return 0
    if step[p.IMMEDIATE] and event - anchor != step[p.N] - 1:
        return 0
    facts.room.reach[0, 0], facts.room.back[0, 0] = event, 0
    return 1


@compiled_inside
def _advanced(
    facts: Facts, program: p.Program, row: Ints, move: int, anchor: int, combination: int, limit: int, deadline: int,
    step: int,
) -> int:  # fmt: skip
    """All events that can complete a step, each with the latest completion of the step before that allows it."""
    said, reach, before = program.moves[place(move)], facts.room.reach[place(step)], facts.room.reach[place(step - 1)]
    n, span, n_before = said[p.N], said[p.WITHIN], facts.room.sizes[place(step - 1)]
    events, edges = facts.room.lanes[place(said[p.LANE])], facts.room.edges[place(said[p.LANE])]
    if span:
        since = anchor if said[p.SINCE] < 0 else before[place(n_before - 1)]
        deadline = min(deadline, facts.ts[place(since)] + span)
    end = edges[place(combination + 1)]
    pointer, size = -1, 0
    for k in range(beyond(events, edges[place(combination)], end, before[0]) + n - 1, end):
        begins, event = events[place(k - n + 1)], events[place(k)]
        if event > limit or facts.ts[place(event)] > deadline:
            break
        while pointer + 1 < n_before and before[place(pointer + 1)] < begins:
            pointer += 1
        if pointer < 0:
            continue
        latest = before[place(pointer)]
        if said[p.IMMEDIATE] and (latest != begins - 1 or event - begins != n - 1):
            continue
        if span and said[p.SINCE] >= 0 and facts.ts[place(event)] > facts.ts[place(latest)] + span:
            continue
        if _broken(facts, program, row, step, combination, latest, event):
            continue
        reach[place(size)], facts.room.back[place(step), place(size)] = event, pointer
        size += 1
        if move == row[p.E]:
            break
    return size


@compiled_inside
def _broken(facts: Facts, program: p.Program, row: Ints, step: int, combination: int, before: int, event: int) -> bool:
    """Whether something came between two steps that must not."""
    for move in range(row[p.FIRST], row[p.END]):
        said = program.moves[place(move)]
        between = said[p.UNTIL_NEXT] and said[p.AFTER] == step - 1
        if between and _found(facts, said, combination, before, event - 1, NEVER) >= 0:
            return True
    return False


@compiled_inside
def _found(facts: Facts, said: Ints, combination: int, start: int, limit: int, deadline: int) -> int:
    """The event that makes the count of an absent step full; -1 while none does."""
    events, edges = facts.room.lanes[place(said[p.LANE])], facts.room.edges[place(said[p.LANE])]
    end = edges[place(combination + 1)]
    k = beyond(events, edges[place(combination)], end, start) + said[p.N] - 1
    if k >= end or events[place(k)] > limit or facts.ts[place(events[place(k)])] > deadline:
        return -1
    return int(events[place(k)])


@compiled_inside
def _judged(facts: Facts, program: p.Program, row: Ints, anchor: int, combination: int, at: int) -> tuple[int, int]:
    """(truth, when the last pending step is due) of an anchor whose positive steps are met."""
    limit = _limit(facts, row, anchor)
    truth, due = p.TRUE, MISSING
    for move in range(row[p.FIRST], row[p.END]):
        said = program.moves[place(move)]
        if not said[p.ABSENT] or said[p.UNTIL_NEXT]:
            continue
        if _violation(facts, said, anchor, combination, limit) >= 0:
            return p.FALSE, NEVER
        closes = facts.ts[place(limit)] + program.gap + 1 if row[p.C] else NEVER
        passed = min(closes, _deadline(facts, said, anchor))
        if at < passed:
            truth, due = p.UNKNOWN, max(due, passed)
    return truth, due


@compiled_inside
def _deadline(facts: Facts, said: Ints, anchor: int) -> int:
    if said[p.WITHIN] == 0:
        return NEVER
    return int(facts.ts[anchor if said[p.SINCE] < 0 else facts.room.chosen[said[p.SINCE]]] + said[p.WITHIN])


@compiled_inside
def _violation(facts: Facts, said: Ints, anchor: int, combination: int, limit: int) -> int:
    start = anchor if said[p.AFTER] < 0 else facts.room.chosen[said[p.AFTER]]
    return _found(facts, said, combination, start, limit, _deadline(facts, said, anchor))


@compiled_inside
def _testify(facts: Facts, program: p.Program, node: int, at_anchor: int, combination: int) -> None:
    """Note the anchor, each step's last event, and what broke it."""
    row = program.nodes[node]
    anchor = facts.room.lanes[program.moves[row[p.FIRST], p.LANE], at_anchor]
    _met(facts, program, row, at_anchor, combination)
    facts.room.evidence[node, 0] = anchor
    noted, step = 1, 0
    for move in range(row[p.FIRST], row[p.END]):
        said = program.moves[move]
        event = -1
        if not said[p.ABSENT]:
            event = facts.room.chosen[step]
            step += 1
        elif not said[p.UNTIL_NEXT]:
            event = _violation(facts, said, anchor, combination, _limit(facts, row, anchor))
        if event >= 0 and event != anchor and noted < EVIDENCE:
            facts.room.evidence[node, noted] = event
            noted += 1
