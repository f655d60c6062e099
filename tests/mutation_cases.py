"""What kills mutants: fixed random logs, and what the oracle says of them around the edges of windows."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np

from features.behaviour import gather
from features.behaviour.carry import fold_carry
from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.behaviour.mining import sequences_of
from features.behaviour.schema import ID, TS
from features.instants import DAY, HOUR, MINUTE
from tests.features.behaviour.oracle import Oracle
from tests.features.behaviour.shop import CODES, DECLARED, INPUTS, KINDS, PLAN, SETTINGS, log_frame
from tests.features.behaviour.test_days import BACK
from tests.features.behaviour.test_laws import EDGES, SPRING, edges
from tests.mutation import SHARED

N_LOGS, N_EDGES = 40, 9
NAMES = ("page_viewed", "product_viewed", "product_viewed", "order_completed", "identify")


@cache
def logs() -> list[list[dict]]:
    """As a source might send them, in order, crowded into a few hours, and on grids."""
    draw = random.Random(5)
    styles = ("wild", "settled", "dense", "grid") * (N_LOGS // 4) + ("hours",) * (N_LOGS // 8)
    return [log(draw, style) for style in styles]


def log(draw: random.Random, style: str) -> list[dict]:
    n = 70 if style == "rich" else draw.choice([0, 1, 4, 12, 24, 24, 30])
    events = [event(draw, place, style) for place in range(n)]
    if style == "settled":
        return sorted(events, key=lambda e: (e["ts"], e["seq"], e["id"]))
    copies = [{**e, "known": e["known"] + draw.choice([1, HOUR]), "ts": e["ts"] + draw.choice([0, 1, -DAY])}
              for e in events if draw.random() < 0.15]  # fmt: skip
    draw.shuffle(events := events + copies)
    return events


def event(draw: random.Random, place: int, style: str) -> dict:
    name = draw.choice(NAMES)
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
    if style == "rich" and name == "product_viewed":
        given |= {"product_id": chr(97 + place), "price": 6 + place}
    known = ts + (draw.choice([0, 0, 0, 1, HOUR, 3 * DAY, -HOUR]) if style == "wild" else 0)
    removed = draw.choice([None, None, None, None, 0, 1, DAY]) if style == "wild" else None
    return {
        "event": name, "ts": ts, "known": known, "until": None if removed is None else known + removed, "id": place,
        "seq": draw.randint(0, 2), "offset": draw.choice([0, 60, -480, 345]),
        "consent": (None, 0, 5, 7)[place % 4],
        "properties": {key: value for key, value in given.items() if draw.random() < 0.8},
    }  # fmt: skip


def in_order(seed: int) -> list[dict]:
    """Settled, but for perhaps one pair of neighbours that agree in all but seq, or id."""
    draw = random.Random(seed)
    ts, seq = sorted(draw.randrange(3) * HOUR + SPRING for _ in range(6)), [0, 0, 0, 1, 1, 1]
    log = [
        {**event(draw, place, "settled"), "ts": ts[place], "known": ts[place], "seq": seq[place]} for place in range(6)
    ]
    if seed % 3:
        log[seed % 5], log[seed % 5 + 1] = log[seed % 5 + 1], log[seed % 5]
    return log


def instants(log: list[dict]) -> np.ndarray:
    """Some of the edges of a log, and when it all has happened."""
    at = edges(log).tolist()
    chosen = random.Random(len(log)).sample(at, min(len(at), N_EDGES))
    last = max((e["ts"] for e in log), default=SPRING)
    return np.array(sorted({*chosen, last, last + 10 * MINUTE}), np.int64)


def declared_for(module: str) -> list[dict]:
    """The entries of the tests' shop that a module's loops compute."""
    named = [{"as": f"above_{k}", "where": {"price": {"gt": k / 10}}} for k in range(70)]
    above = [{"count": "product_viewed", **each, "windows": ["20d"]} for each in named]
    if module == "kernel":
        return DECLARED
    if module in SHARED:
        mine = [entry for entry in DECLARED if set(SHARED[module]) & set(entry)]
        return mine + above if module in ("marks", "table") else mine
    alone = [entry for entry in DECLARED if not {"ratio", "difference", "score"} & set(entry)]
    mine = [entry for entry in alone if module in {each.family for each in features_of([entry]).features}]
    return [*mine, many_orders()] if module == "orders" else mine


def many_orders() -> dict:
    """More steps than a word has bits."""
    draw = random.Random(3)
    many = [[draw.choice([*NAMES[:4], "dear", "any"]) for _ in range(draw.randint(2, 5))] for _ in range(40)]
    return {"ngrams": many[:20], "patterns": many[20:], "as": "many", "windows": ["1d", "20d"]}


def features_of(declared: list[dict], **settings: object) -> FeatureSet:
    inputs = INPUTS if any("ratio" in entry for entry in declared) else []
    return FeatureSet.from_dict(
        {"events": KINDS, "inputs": inputs, "features": declared}, PLAN, CODES, **SETTINGS | settings
    )


def cases_of(module: str) -> list[Callable[[], bool]]:
    """What has to be true of every log."""
    if module == "mining":
        return [mining_case(log) for log in logs()]
    declared = declared_for(module)
    features = features_of(declared)
    cases = [case_of(log, features, declared) for log in logs()]
    narrow = [{**entry, "windows": entry["windows"][-1:]} for entry in declared if "windows" in entry]
    cases += [case_of(log, features_of(narrow[:1]), narrow[:1]) for log in logs()[:3] if narrow]
    many = features_of(declared, bound=500, bounds={})
    cases += [case_of(log(random.Random(seed), "rich"), many, declared) for seed in range(4)]
    if module in ("days", "streaks"):
        cases += [abroad_case(log, declared, zone) for log in logs() for zone in ("America/St_Johns", "UTC")]
    if module in ("carry", "lifetime"):
        cases += [folded_case(log, features, declared) for log in logs()]
    if module == "gather":
        cases += [
            settled_case(each, features) for each in [*logs(), *map(versions, range(9)), *map(in_order, range(9))]
        ]
        cases += [case_of(versions(seed), features, declared) for seed in range(40)]
        brief = [{"count": "any", "sum": "order_completed.revenue", "windows": ["20d"]}]
        cases += [case_of(log, features_of(brief), brief) for log in logs()]
    return cases


def expected(log: list[dict], at: np.ndarray, features: FeatureSet, declared: list[dict]) -> tuple[bytes, list[bool]]:
    """The bits of (values, capped) of a row for each instant."""
    settings = {**SETTINGS, **{name: getattr(features.schema, name) for name in ("zone", "bound", "bounds")}}
    oracles = [Oracle(log, int(instant), PLAN, kinds=KINDS, **settings) for instant in at]
    named = [each.features(INPUTS + declared) for each in oracles]
    values = np.array([[values[name] for name in features.names] for values in named])
    return values.tobytes(), [each.capped for each in oracles]


def computed(user: Histories, at: np.ndarray, features: FeatureSet) -> tuple[bytes, list[bool]]:
    """The same by the loops."""
    matrix = features.compute(user.take(np.zeros(len(at), np.int64)), at, threads=1)
    return matrix.values.tobytes(), matrix.capped.tolist()


def history(log: list[dict], features: FeatureSet, **options: bool) -> Histories:
    user = Histories.from_frame(features.schema, log_frame(log), **options)
    return user if len(user) else Histories.from_states(features.schema, ["ann"], [b""])


def case_of(log: list[dict], features: FeatureSet, declared: list[dict]) -> Callable[[], bool]:
    at, user = instants(log), history(log, features)
    wanted = expected(log, at, features, declared)
    return lambda: computed(user, at, features) == wanted


def abroad_case(log: list[dict], declared: list[dict], zone: str) -> Callable[[], bool]:
    """The same around the night in which St. John's clocks went back into the day before."""
    later = BACK + HOUR - SPRING - 2 * DAY
    moved = [{**e, "ts": e["ts"] + later, "known": e["known"] + later, "until": None} for e in log]
    return case_of(moved, features_of(declared, zone=zone), declared)


def folded_case(log: list[dict], features: FeatureSet, declared: list[dict]) -> Callable[[], bool]:
    """Folded, all of it delivered once more, and folded again, the history says the same from the boundary on."""
    last = max([e["known"] for e in log] + [e["until"] or 0 for e in log], default=SPRING)
    boundary = sorted(e["ts"] for e in log)[len(log) // 2] if log else SPRING
    first = max(last, boundary + 4 * DAY + SETTINGS["horizon"])
    at = np.array([first, first + 1, first + DAY], np.int64)
    wanted, user = expected(log, at, features, declared), history(log, features)

    def right() -> bool:
        once = fold_carry(user, boundary)
        again = replace(once, slots=user.slots, starts=user.starts, ends=user.ends)
        twice = fold_carry(again, boundary + 3 * DAY)
        gone = user.slots[user.slots[:, TS] <= boundary, ID]
        left = not np.isin(once.slots[:, ID], gone).any() if plain(log) else bool((once.slots[:, TS] > boundary).all())
        return left and all(computed(each, at, features) == wanted for each in (once, again, twice))

    return right


def plain(log: list[dict]) -> bool:
    """Whether nothing is taken back and nothing comes twice."""
    return all(e["until"] is None for e in log) and len({e["id"] for e in log}) == len(log)


def settled_case(log: list[dict], features: FeatureSet) -> Callable[[], bool]:
    """Order, one of each id and no removal is what settled means."""
    kept = [e for e in log if e["until"] is None or e["known"] < e["until"]]
    order = [(e["ts"], e["seq"], e["id"]) for e in kept]
    settled, user = plain(kept) and order == sorted(order), history(log, features, settled=False)
    return lambda: gather.are_settled(user.slots, user.starts, user.ends) == settled


def versions(seed: int) -> list[dict]:
    """A few events, each in several versions: restated, taken back more than once, known at the same time."""
    draw, log = random.Random(seed), []
    for place in range(draw.randrange(3, 9)):
        first = event(draw, place, "grid")
        for version in range(draw.randrange(1, 6)):
            known = first["ts"] + draw.choice([0, 0, HOUR, 2 * HOUR, DAY])
            until = draw.choice([None, None, known, known + 1, known + HOUR, known + DAY])
            ts = first["ts"] + version * draw.choice([-HOUR, 1, 10 * MINUTE, HOUR])
            log.append({**event(draw, place, "grid"), "known": known, "until": until, "ts": ts, "seq": version % 2})
    draw.shuffle(log)
    return log


def mining_case(log: list[dict]) -> Callable[[], bool]:
    """Sessions, each as the places of the kinds that its events are."""
    at, names = instants(log), ["dear", "product_viewed", "page_viewed"]
    declared = [{"patterns": [names], "windows": ["20d"]}]
    features = features_of(declared)
    kinds, user = features.features[0].steps, history(log, features)
    wanted = []
    for instant in at:
        oracle = Oracle(log, int(instant), PLAN, kinds=KINDS, **SETTINGS)
        runs = [oracle.kinds_in(run, names) for run in oracle.runs(30 * MINUTE)]
        wanted += [[names.index(name) for name in run] for run in runs if run]

    def right() -> bool:
        found = sequences_of(user.take(np.zeros(len(at), np.int64)), at, kinds, gap=30 * MINUTE)
        return [run.tolist() for run in np.split(found.items, found.ends)[:-1]] == wanted

    return right
