"""What kills mutants: fixed random logs, and what the oracle says of them around the edges of windows."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from features.behaviour.carry import fold_carry
from features.behaviour.feature_set import FeatureSet
from features.behaviour.gather import ERA, MIX
from features.behaviour.histories import Histories, empty_carry
from features.behaviour.mining import sequences_of
from features.behaviour.schema import ID, TS
from features.instants import DAY, HOUR, MINUTE, parse_instant
from tests.features.behaviour.oracle import Oracle
from tests.features.behaviour.shop import INPUTS, PLAN, SETTINGS, log_frame
from tests.features.behaviour.test_days import BACK
from tests.features.behaviour.test_laws import EDGES, SPRING, edges
from tests.mutation_entries import EVENTS, apart, declared_for, features_of
from tests.mutation_gather import gather_cases

N_LOGS, N_EDGES, N_ALONE = 40, 9, 3
NIGHTS = (
    *[("America/St_Johns", BACK)] * 3,
    ("America/St_Johns", parse_instant("2005-04-03T03:31:00")),
    ("Pacific/Apia", parse_instant("2011-12-30T10:00:00")),
    ("UTC", parse_instant("2005-10-30T00:01:00")),
)
"""Zones, and when clocks were changed there: back into the day before, forward, forward by a day, never."""
CROWDED = [value for value in range(20_000) if (value * MIX >> 32) & 127 == 0]
"""Cents that want one seat of any table of up to 128."""
NAMES = ("page_viewed", "product_viewed", "product_viewed", "order_completed", "identify")


@cache
def logs() -> list[list[dict]]:
    """As a source might send them, in order, crowded into a few hours, and on grids."""
    draw = random.Random(5)
    styles = ("wild", "settled", "dense", "grid") * (N_LOGS // 4) + ("hours",) * (N_LOGS // 8)
    return [log(draw, style) for style in styles] + [exact(draw) for _ in range(N_LOGS // 2)]


def log(draw: random.Random, style: str) -> list[dict]:
    n = 70 if style in ("rich", "crowded") else draw.choice([0, 1, 4, 12, 24, 24, 30])
    events = [event(draw, place, style) for place in range(n)]
    if style == "settled":
        return sorted(events, key=lambda e: (e["ts"], e["seq"], e["id"]))
    copies = [{**e, "known": e["known"] + draw.choice([1, HOUR]), "ts": e["ts"] + draw.choice([0, 1, -DAY])}
              for e in events if draw.random() < 0.15]  # fmt: skip
    draw.shuffle(events := events + copies)
    return events


def exact(draw: random.Random) -> list[dict]:
    """From one event to the next just as long as something lasts, or a microsecond more or less."""
    ts, log, names = SPRING + 2 * DAY, [], draw.sample(sorted({*NAMES}), 2)
    for place in range(24, 0, -1):
        log.insert(0, {**event(draw, place, "settled", names), "ts": ts, "known": ts})
        ts -= draw.choice([1, 10 * MINUTE, 30 * MINUTE, HOUR, HOUR, 2 * HOUR, DAY]) + draw.choice([0, 0, 1, -1])
    return sorted(log, key=lambda e: (e["ts"], e["seq"], e["id"]))


def all_different(n: int) -> list[dict]:
    """Each event says what no other one does."""
    one = event(random.Random(1), 0, "settled", ["product_viewed"]) | {"until": None}
    times = [SPRING + 2 * DAY - k for k in range(n)]
    return [{**one, "ts": ts, "known": ts, "id": k, "properties": {"price": k}} for k, ts in enumerate(times)]


def event(draw: random.Random, place: int, style: str, names: Sequence[str] = NAMES) -> dict:
    name = draw.choice(names)
    far = [draw.choice(EDGES) + draw.choice([-1, 0, 1]), draw.randrange(40 * DAY), draw.randrange(4 * HOUR)]
    near = [draw.randrange(30) * 10 * MINUTE, draw.randrange(2 * HOUR), draw.randrange(3) * MINUTE]
    ago = {"dense": near, "grid": near[:1]}.get(style, far + near)
    ts = SPRING + 2 * DAY - (draw.randrange(60) * HOUR if style == "hours" else draw.choice(ago))
    given = {
        "page_viewed": {"seconds": draw.randrange(100)},
        "product_viewed": {
            "product_id": draw.choice("abc"), "price": draw.choice([-0.05, 1, 5, 5.01, 6.99, 7, 9.5]),
            "pieces": draw.randint(1, 30) / 10,
        },
        "order_completed": {"revenue": draw.choice([0.5, 1, 5, 15.5, 20, 30.01]), "gift": draw.random() < 0.5},
        "identify": {"country": draw.choice(["de", "fr"]), "vip": draw.random() < 0.5},
    }[name] | {"device": draw.choice(["mobile", "desktop", "tablet"])}  # fmt: skip
    if style in ("rich", "crowded") and name == "product_viewed":
        given |= {"product_id": chr(97 + place), "price": 6 + place if style == "rich" else CROWDED[place % 30] / 100}
    known = ts + (draw.choice([0, 0, 0, 1, HOUR, 3 * DAY, -HOUR]) if style == "wild" else 0)
    removed = draw.choice([None, None, None, None, 0, 1, DAY]) if style == "wild" else None
    return {
        "event": name, "ts": ts, "known": known, "until": None if removed is None else known + removed, "id": place,
        "seq": draw.randint(0, 2), "offset": draw.choice([0, 60, -480, 345]),
        "consent": (None, 0, 5, 7)[place % 4],
        "properties": {key: value for key, value in given.items() if draw.random() < 0.8},
    }  # fmt: skip


def instants(log: list[dict]) -> np.ndarray:
    """Some of the edges of a log, and when it all has happened."""
    at = edges(log).tolist()
    chosen = random.Random(len(log)).sample(at, min(len(at), N_EDGES))
    last = max((e["ts"] for e in log), default=SPRING)
    return np.array(sorted({*chosen, last, last + 10 * MINUTE}), np.int64)


def cases_of(module: str) -> list[Callable[[], bool]]:
    """What has to be true of every log."""
    if module == "mining":
        return [mining_case(log) for log in logs()]
    declared = declared_for(module)
    features = features_of(declared)
    cases = [case_of(log, features, declared) for log in logs()]
    long = [log for log in logs() if len(log) > 20][:N_ALONE]
    cases += [case_of(log, features_of([entry]), [entry]) for entry in apart(declared)[:40] for log in long]
    many = features_of(declared, bound=500, bounds={})
    styles = ("rich", "crowded") * 3
    cases += [case_of(log(random.Random(seed), style), many, declared) for seed, style in enumerate(styles)]
    if module in ("days", "streaks"):
        cases = [night_case(seed, declared) for seed in range(200)] + cases[::4]
    if module in ("carry", "lifetime"):
        cases += [folded_case(log, features, declared) for log in logs()]
        nothing = [{"recency": "any"}]
        cases += [case_of(log, features_of(nothing), nothing) for log in long]
    if module == "frequencies":
        cases += [case_of(all_different(n), many, declared) for n in (4, 30)]
    if module == "transitions":
        cases += [minutes_case()]
    if module == "kernel":
        cases = [one_instant_case(log, features, declared) for log in long] + cases[::2]
        cases += [case_at(log, instants(log)[:2], features, declared) for log in long]
        cases += [folded_case(log, features, declared) for log in long]
    if module == "gather":
        cases = gather_cases() + cases[::8]
        cases += [folded_case(log(random.Random(seed), "settled")[:3], features, declared) for seed in range(12)]
    return cases


def expected(log: list[dict], at: np.ndarray, features: FeatureSet, declared: list[dict]) -> tuple[bytes, list[bool]]:
    """The bits of (values, capped) of a row for each instant."""
    settings = {**SETTINGS, **{name: getattr(features.schema, name) for name in ("zone", "bound", "bounds")}}
    oracles = [Oracle(log, int(instant), PLAN, kinds=EVENTS, **settings) for instant in at]
    named = [each.features(INPUTS + declared) for each in oracles]
    values = np.array([[values[name] for name in features.names] for values in named])
    return values.tobytes(), [each.capped for each in oracles]


def computed(user: Histories, at: np.ndarray, features: FeatureSet) -> tuple[bytes, list[bool]]:
    """The same by the loops, in a room that just fits, where no other log has been, and no seat was ever younger."""
    rooms = features.kernel._rooms
    vars(rooms).clear()
    features.kernel.room(-(-int((user.ends - user.starts).max()) // 2))
    rooms.scratch.seats[:, 1] = ERA
    matrix = features.compute(user.take(np.zeros(len(at), np.int64)), at, threads=1)
    return matrix.values.tobytes(), matrix.capped.tolist()


def history(log: list[dict], features: FeatureSet, **options: bool) -> Histories:
    user = Histories.from_frame(features.schema, log_frame(log), **options)
    return user if len(user) else Histories.from_states(features.schema, ["ann"], [b""])


def case_of(log: list[dict], features: FeatureSet, declared: list[dict]) -> Callable[[], bool]:
    return case_at(log, instants(log), features, declared)


def case_at(log: list[dict], at: np.ndarray, features: FeatureSet, declared: list[dict]) -> Callable[[], bool]:
    user, wanted = history(log, features), expected(log, at, features, declared)
    return lambda: computed(user, at, features) == wanted


def night_case(seed: int, declared: list[dict]) -> Callable[[], bool]:
    """A few days around a night in which clocks were changed, asked during it; UTC's were not."""
    draw = random.Random(seed)
    zone, night = draw.choice(NIGHTS)
    steps = [-2 * HOUR, -MINUTE - 1, -MINUTE, -1, 0, 10 * MINUTE, HOUR - MINUTE - 1, HOUR - MINUTE, 3 * HOUR]
    moments = [*(night + day * DAY for day in (-6, -4, -3, -2, -1, 1, 2)), *(night + step for step in steps)]
    few = [ts + draw.randrange(2) for ts in moments if draw.random() < 0.4]
    log = [{**event(draw, place, "settled", NAMES[2:4]), "ts": ts, "known": ts} for place, ts in enumerate(few)]
    at = np.array(sorted(night + step for step in (*steps[2:], -DAY, DAY, 2 * DAY)), np.int64)
    entry = draw.choice([*declared, *apart(declared)])
    return case_at(log, at, features_of([entry], zone=zone, bounds={}, bound=50), [entry])


def minutes_case() -> Callable[[], bool]:
    """As many moves as there are logarithms in the table, one fewer and one more."""
    entry = {"entropy": ["page_viewed", "product_viewed"], "windows": ["20d"]}
    features = features_of([entry], bound=500, bounds={})
    plain = event(random.Random(1), 0, "settled") | {"event": "page_viewed", "properties": {}, "seq": 0}
    log = [{**plain, "ts": SPRING + k * MINUTE, "known": SPRING, "id": k} for k in range(300)]
    at = np.array([SPRING + k * MINUTE for k in range(253, 260)], np.int64)
    return case_at(log, at, features, [entry])


def folded_case(log: list[dict], features: FeatureSet, declared: list[dict]) -> Callable[[], bool]:
    """Folded, all of it delivered once more, and folded again, the history says the same from the boundary on."""
    last = max([e["known"] for e in log] + [e["until"] or 0 for e in log], default=SPRING)
    boundary = sorted(e["ts"] for e in log)[len(log) // 2] if log else SPRING
    first = max(last, boundary + 4 * DAY + SETTINGS["horizon"])
    at = np.array([first, first + 1, first + DAY], np.int64)
    wanted, user = expected(log, at, features, declared), history(log, features)
    apart = expected(log, at[:1], features, declared)[0] + expected([], at[1:2], features, declared)[0]

    def right() -> bool:
        once = fold_carry(user, boundary)
        again = replace(once, slots=user.slots, starts=user.starts, ends=user.ends)
        twice = fold_carry(again, boundary + 3 * DAY)
        gone = user.slots[user.slots[:, TS] <= boundary, ID]
        left = not np.isin(once.slots[:, ID], gone).any() if plain(log) else bool((once.slots[:, TS] > boundary).all())
        same = all(computed(each, at, features) == wanted for each in (once, again, twice))
        return left and same and features.compute(beside_nobody(once), at[:2], threads=1).values.tobytes() == apart

    return right


def beside_nobody(user: Histories) -> Histories:
    """The same user, and one of whom there is nothing: each row has its own carry."""
    two = user.take(np.zeros(2, np.int64))
    carry = np.stack([two.carry[0], empty_carry(user.schema)])
    return replace(two, starts=np.append(user.starts, user.ends), ends=np.repeat(user.ends, 2), carry=carry)


def one_instant_case(log: list[dict], features: FeatureSet, declared: list[dict]) -> Callable[[], bool]:
    """An instant of one row holds for all."""
    user, at = history(log, features), instants(log)[-2:-1]
    wanted, shown = expected(log, at, features, declared)[0], len(features.names)

    def right() -> bool:
        rows = [user.take(np.zeros(n, np.int64)) for n in (1, 2, 3)]
        values = [features.kernel.compute(each, at, threads=1)[0][:, :shown].tobytes() for each in rows]
        return values == [wanted, 2 * wanted, 3 * wanted]

    return right


def plain(log: list[dict]) -> bool:
    """Whether nothing is taken back and nothing comes twice."""
    return all(e["until"] is None for e in log) and len({e["id"] for e in log}) == len(log)


def mining_case(log: list[dict]) -> Callable[[], bool]:
    """Sessions, each as the places of the kinds that its events are."""
    at, names = instants(log), ["dear", "product_viewed", "page_viewed"]
    declared = [{"patterns": [names], "windows": ["20d"]}]
    features = features_of(declared)
    kinds, user = features.features[0].steps, history(log, features)
    wanted = []
    for instant in at:
        oracle = Oracle(log, int(instant), PLAN, kinds=EVENTS, **SETTINGS)
        runs = [oracle.kinds_in(run, names) for run in oracle.runs(30 * MINUTE)]
        wanted += [[names.index(name) for name in run] for run in runs if run]

    def right() -> bool:
        found = sequences_of(user.take(np.zeros(len(at), np.int64)), at, kinds, gap=30 * MINUTE)
        return [run.tolist() for run in np.split(found.items, found.ends)[:-1]] == wanted

    return right
