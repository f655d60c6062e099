"""What kills mutants of gather: records of few instants, ids and codes, against lists that are searched."""

import random
from collections.abc import Callable

import numpy as np

from features.behaviour import gather
from features.behaviour.compiled import views
from features.behaviour.schema import CODE_BITS, CODE_MASK, FLAG_SHIFT, MISSING, REMOVED, SEQ_SHIFT
from features.instants import NEVER

Record = tuple[int, int, int, int, int]
"""ts, known, id, head, what it says."""

N_CODES, LONGEST = 3, 40


def record(draw: random.Random, few: int) -> Record:
    """Of few instants, so that there are ties in everything; what stands between code and flags is noise."""
    removed = REMOVED if draw.random() < 0.2 else 0
    noise = draw.randrange(2) << CODE_BITS
    head = draw.randrange(3) << SEQ_SHIFT | removed << FLAG_SHIFT | noise | draw.randrange(N_CODES)
    key = draw.choice([-1, 1]) * draw.randrange(2 * few) << draw.choice([0, 0, 32, 50])
    return draw.randrange(few), draw.randrange(few), key, head, draw.randrange(2)


def records(draw: random.Random) -> list[Record]:
    few = draw.choice([2, 4, 9, 30])
    return [record(draw, few) for _ in range(draw.choice([0, 1, 2, 3, 5, 9, 17, LONGEST]))]


def removed(one: Record) -> bool:
    return bool(one[3] >> FLAG_SHIFT & REMOVED)


def place_of(one: Record) -> tuple[int, int, int]:
    return one[0], one[3] >> SEQ_SHIFT, one[2]


def tidy(log: list[Record]) -> list[Record]:
    """Settled: each id once, none taken back, in order."""
    return sorted({one[2]: one for one in log if not removed(one)}.values(), key=place_of)


def is_tidy(log: list[Record]) -> bool:
    return not any(map(removed, log)) and len({one[2] for one in log}) == len(log) and log == sorted(log, key=place_of)


def counting(
    log: list[Record], at: int, floor: int, boundary: int, bounds: list[int]
) -> tuple[list[Record], bool]:  # fmt: skip
    """Of the copies that are left the first known, whatever it is, in order, so many of a code; whether any is not."""
    known = [one for one in log if one[1] <= at]
    copies = [
        one for one in known if not removed(one)
        and not any(removed(other) and other[2] == one[2] and one[1] < other[1] for other in known)
    ]  # fmt: skip
    first = [min((one for one in copies if one[2] == key), key=lambda e: (e[1], e)) for key in {e[2] for e in copies}]
    events = sorted((one for one in first if floor < one[0] <= at), key=place_of)
    code = [one[3] & CODE_MASK for one in events]
    kept = [
        one for k, one in enumerate(events) if one[0] <= boundary or code[k:].count(code[k]) <= bounds[code[k]]
    ]  # fmt: skip
    return kept, len(kept) < len(events)


def gathered_case(seed: int) -> Callable[[], bool]:
    """A few users' records in one array, gathered one after another in one room, and each in a room that just fits."""
    draw, asked = random.Random(seed), []
    logs = [records(draw) for _ in range(6)]
    logs = [tidy(log) if draw.random() < 0.3 else log for log in logs]
    ends = np.cumsum([len(log) for log in logs])
    slots = np.array([one for log in logs for one in log] or np.zeros((0, 5)), np.int64).reshape(-1, 5)
    for log, end in zip(logs, ends.tolist(), strict=True):
        few = max([one[0] for one in log], default=1)
        for _ in range(4):
            at, floor = draw.choice([few, few // 2, NEVER, 0]), draw.choice([MISSING, -1, 0, few // 2])
            boundary, bounds = draw.choice([MISSING, 0, few // 2]), [draw.choice([0, 1, 2, 5, 99]) for _ in range(3)]
            wanted = counting(log, at, floor, boundary, bounds)
            options = at, floor, boundary, np.array(bounds)
            asked += [(end - len(log), end, settled, options, wanted) for settled in {False, is_tidy(log)}]
    return lambda: (
        all(right(slots, shared, *each) for shared in [roomy(LONGEST)] for each in asked)
        and all(right(slots, roomy(each[1] - each[0]), *each) for each in asked)
    )


def roomy(n: int) -> gather.Scratch:
    """A room whose seats are as young as a free one may be."""
    room = gather.scratch(n_events=n, n_codes=N_CODES)
    room.seats[:, 1] = gather.ERA
    return room


def right(
    slots: np.ndarray, room: gather.Scratch, start: int, end: int, settled: bool, options: tuple, wanted: tuple
) -> bool:
    """What is in the room, and what Python is told of it, is what counts."""
    n, capped = gather.gather(slots, start, end, settled, *options, room)
    found = [tuple(one) for one in slots[room.rows[:n]].tolist()]
    told = list(zip(room.ts[:n].tolist(), room.codes[:n].tolist(), strict=True))
    rows = np.full(n, -1)
    same = (
        gather.counting(slots, start, end, settled, *options, views(room), rows) == n and (rows == room.rows[:n]).all()
    )
    same = same and told == [(one[0], one[3] & CODE_MASK) for one in found] and all(start <= k < end for k in rows)
    return bool(same) and (found, capped) == wanted


def settled_case(seed: int) -> Callable[[], bool]:
    """Users whose records are settled, but for perhaps one change in one of them."""
    draw = random.Random(seed)
    logs = [tidy(records(draw)) for _ in range(draw.randrange(4))]
    long = [log for log in logs if len(log) > 1]
    if long and seed % 3:
        log = draw.choice(long)
        k = draw.randrange(len(log) - 1)
        ts, known, key, head, said = log[k + 1]
        log[k : k + 2] = draw.choice([
            [log[k + 1], log[k]],
            [log[k], (ts, known, key, head | REMOVED << FLAG_SHIFT, said)],
            [log[k], (ts, known, log[k][2], head, said)],
            [log[k], (log[k][0], known, key, log[k][3], said)],
            [log[k], (log[k][0], known, key, head, said)],
        ])  # fmt: skip
    slots = np.array([one for log in logs for one in log] or np.zeros((0, 5)), np.int64).reshape(-1, 5)
    ends = np.cumsum([0, *map(len, logs)])
    wanted = all(map(is_tidy, logs))
    return lambda: gather.are_settled(slots, ends[:-1], ends[1:]) == wanted


def woven_case(n: int) -> Callable[[], bool]:
    """Columns stand in the slots as they were given, also where they are longer than what is filled together."""
    columns = [np.arange(n) * 3 + k for k in range(2)]

    def right() -> bool:
        slots = np.full((n, 2), -1)
        gather.weave(views(columns), slots)
        return bool((slots == np.stack(columns, axis=1)).all())

    return right


def seats_case() -> bool:
    """Half of the seats stay free, and not for want of keys."""
    seats = [gather.seats_for(n) for n in range(70)]
    return all(max(2, 2 * n) <= k < max(3, 4 * n) and k & (k - 1) == 0 for n, k in enumerate(seats))


def gather_cases() -> list[Callable[[], bool]]:
    woven = [woven_case(n) for n in (0, 1, gather.WOVEN, 2 * gather.WOVEN + 1)]
    return [*woven, seats_case, *map(gathered_case, range(60)), *map(settled_case, range(90))]
