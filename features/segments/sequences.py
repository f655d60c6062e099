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
    best, best_anchor, best_combination, held, soonest = p.FALSE, -1, 0, 0, NEVER
    for combination in range(facts.room.combinations[place(row[p.TEST])]):
        end = edges[place(combination + 1)]
        if end - edges[place(combination)] < row[p.TEST_END] or not _enough(facts, program, row, combination):
            continue
        begin = after(facts.ts, events, edges[place(combination)], end, at - row[p.A])
        for step in range(end - begin):
            anchor = events[place(begin + step if row[p.B] == FIRST_MATCH else end - 1 - step)]
            if not _met(facts, program, row, anchor, combination):
                continue
            truth, due = _judged(facts, program, row, anchor, combination, at)
            change = _changes(row, facts.ts[anchor], truth, due)
            if best_anchor < 0 or truth > best or (truth == best and anchor > best_anchor):
                best, best_anchor, best_combination = truth, anchor, combination
            held = max(held, change) if truth == p.TRUE else held
            soonest = min(soonest, change)
            if row[p.B] != ANY_MATCH or truth == p.TRUE:
                break
        if best == p.TRUE and not facts.timed:
            break
    if len(facts.room.evidence) and best_anchor >= 0:
        _testify(facts, program, node, best_anchor, best_combination)
    return best, min(moved, held if best == p.TRUE else soonest)


@compiled_inside
def _moved(facts: Facts, program: p.Program, row: Ints) -> int:
    """When time next takes an event into or out of a step's window; -1 where a window is not known whole."""
    soonest = NEVER
    for move in range(row[p.FIRST], row[p.END]):
        look = place(program.lanes[place(program.moves[place(move), p.LANE]), LOOKED])
        kind, window = program.looks[look]
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
    return int(facts.room.closes[anchor]) if row[p.C] else facts.n - 1


@compiled_inside
def _met(facts: Facts, program: p.Program, row: Ints, anchor: int, combination: int) -> bool:
    """Whether all positive steps are met from this anchor; then `facts.room.chosen` holds each step's last event."""
    limit = _limit(facts, row, anchor)
    deadline = facts.ts[anchor] + row[p.D] if row[p.D] else NEVER
    steps, last = 0, row[p.FIRST]
    for move in range(row[p.FIRST], row[p.END]):
        last = last if program.moves[move, p.ABSENT] else move
    for move in range(row[p.FIRST], row[p.END]):
        if program.moves[move, p.ABSENT]:
            continue
        if steps == 0:
            size = _begun(facts, program, move, anchor, combination, limit, deadline)
        else:
            size = _advanced(facts, program, row, move, anchor, combination, limit, deadline, steps, move == last)
        if size == 0:
            return False
        facts.room.sizes[steps] = size
        steps += 1
    k = 0
    for step in range(steps - 1, -1, -1):
        facts.room.chosen[step] = facts.room.reach[step, k]
        k = facts.room.back[step, k]
    return True


@compiled_inside
def _begun(
    facts: Facts, program: p.Program, move: int, anchor: int, combination: int, limit: int, deadline: int
) -> int:
    """Complete the first step, whose count begins with the anchor."""
    step = program.moves[move]
    events, edges = facts.room.lanes[step[p.LANE]], facts.room.edges[step[p.LANE]]
    end = edges[combination + 1]
    if step[p.WITHIN]:
        deadline = min(deadline, facts.ts[anchor] + step[p.WITHIN])
    k = beyond(events, edges[combination], end, anchor - 1) + step[p.N] - 1
    if k >= end or events[k] > limit or facts.ts[events[k]] > deadline:
        return 0
    if step[p.IMMEDIATE] and events[k] - anchor != step[p.N] - 1:
        return 0
    facts.room.reach[0, 0], facts.room.back[0, 0] = events[k], 0
    return 1


@compiled_inside
def _advanced(
    facts: Facts, program: p.Program, row: Ints, move: int, anchor: int, combination: int, limit: int, deadline: int,
    step: int, last: bool,
) -> int:  # fmt: skip
    """All events that can complete a step, each with the latest completion of the step before that allows it."""
    said = program.moves[move]
    n, span = said[p.N], said[p.WITHIN]
    events, edges = facts.room.lanes[said[p.LANE]], facts.room.edges[said[p.LANE]]
    if span:
        since = anchor if said[p.SINCE] < 0 else facts.room.reach[step - 1, facts.room.sizes[step - 1] - 1]
        deadline = min(deadline, facts.ts[since] + span)
    end = edges[combination + 1]
    pointer, size = -1, 0
    for k in range(beyond(events, edges[combination], end, facts.room.reach[step - 1, 0]) + n - 1, end):
        begins, event = events[k - n + 1], events[k]
        if event > limit or facts.ts[event] > deadline:
            break
        while pointer + 1 < facts.room.sizes[step - 1] and facts.room.reach[step - 1, pointer + 1] < begins:
            pointer += 1
        if pointer < 0:
            continue
        before = facts.room.reach[step - 1, pointer]
        if said[p.IMMEDIATE] and (before != begins - 1 or event - begins != n - 1):
            continue
        if span and said[p.SINCE] >= 0 and facts.ts[event] > facts.ts[before] + span:
            continue
        if _broken(facts, program, row, step, combination, before, event):
            continue
        facts.room.reach[step, size], facts.room.back[step, size] = event, pointer
        size += 1
        if last:
            break
    return size


@compiled_inside
def _broken(facts: Facts, program: p.Program, row: Ints, step: int, combination: int, before: int, event: int) -> bool:
    """Whether something came between two steps that must not."""
    for move in range(row[p.FIRST], row[p.END]):
        said = program.moves[move]
        between = said[p.UNTIL_NEXT] and said[p.AFTER] == step - 1
        if between and _found(facts, program.moves[move], combination, before, event - 1, NEVER) >= 0:
            return True
    return False


@compiled_inside
def _found(facts: Facts, said: Ints, combination: int, start: int, limit: int, deadline: int) -> int:
    """The event that makes the count of an absent step full; -1 while none does."""
    events, edges = facts.room.lanes[said[p.LANE]], facts.room.edges[said[p.LANE]]
    k = beyond(events, edges[combination], edges[combination + 1], start) + said[p.N] - 1
    if k >= edges[combination + 1] or events[k] > limit or facts.ts[events[k]] > deadline:
        return -1
    return int(events[k])


@compiled_inside
def _judged(facts: Facts, program: p.Program, row: Ints, anchor: int, combination: int, at: int) -> tuple[int, int]:
    """(truth, when the last pending step is due) of an anchor whose positive steps are met."""
    limit = _limit(facts, row, anchor)
    truth, due = p.TRUE, MISSING
    for move in range(row[p.FIRST], row[p.END]):
        said = program.moves[move]
        if not said[p.ABSENT] or said[p.UNTIL_NEXT]:
            continue
        if _violation(facts, said, anchor, combination, limit) >= 0:
            return p.FALSE, NEVER
        closes = facts.ts[limit] + program.gap + 1 if row[p.C] else NEVER
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
def _testify(facts: Facts, program: p.Program, node: int, anchor: int, combination: int) -> None:
    """Note the anchor, each step's last event, and what broke it."""
    row = program.nodes[node]
    _met(facts, program, row, anchor, combination)
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
