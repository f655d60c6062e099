"""Proof: what definitions.py computes is put through the laws that every feature keeps, on random logs of the plan.

The laws: a request gives what batch gave, in another process, one user at a time, in another order, with another clock;
events delivered again, split and merged states, and events that happen or become known after `at` change nothing.
"""

import datetime as dt
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.random import Generator
from numpy.typing import NDArray

from features.behaviour.extension import FAMILY, written
from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.behaviour.schema import StateSchema
from features.errors import DefinitionError
from features.events.batch import PREFIX
from features.events.plan import CONTEXT, PropertySpec, TrackingPlan
from features.instants import DAY, HOUR, MINUTE, SECOND, iso, parse_instant

Event = dict[str, Any]
AT = parse_instant("2026-03-29T12:00:00")
"""Around here the random logs lie."""
PER_LOG = 4
"""Instants at which a law is asked of a log."""
SHOWN = 12


@dataclass(frozen=True)
class Proof:
    """What came of it.

    Attributes:
        names: The features.
        rows: How many (user, at) each law was asked of.
        microseconds: Of processor time a row, all of the features.
        broken: The counterexample, in words; empty where every law is kept.
    """

    names: tuple[str, ...]
    rows: int
    microseconds: float
    broken: str = ""

    def __str__(self) -> str:
        if not self.names:
            return "no feature is declared in definitions.py"
        told = f"{len(self.names)} features in Python, slower than declared ones: {self.microseconds:.0f} us a row"
        return self.broken or f"{told}; {self.rows:,} rows keep {len(LAWS)} laws."

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


def keep(features: FeatureSet, plan: TrackingPlan, folder: Path) -> None:
    """Prove what definitions.py says once; a file in the folder remembers it until the code or the schema changes.

    Raises:
        DefinitionError: a law is broken; the counterexample is shown.
    """
    mark = folder / _own(features).fingerprint
    if mark.exists():
        return
    found = prove(features, plan)
    if found.broken:
        raise DefinitionError(found.broken)
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()


def _own(features: FeatureSet) -> FeatureSet:
    mine = [replace(each, hidden=False) for each in features.features if each.family == FAMILY.name]
    return FeatureSet(tuple(mine), features.schema)


def prove(features: FeatureSet, plan: TrackingPlan, *, n_logs: int = 100, seed: int = 0) -> Proof:
    """Ask every law of random logs.

    Args:
        features: Those that are not functions of definitions.py are left out.
        plan: What events there are and what they carry.
        n_logs: How many users.
        seed: Of the logs.

    Raises:
        DefinitionError: the code fails; the line is named.
    """
    own, random = _own(features), np.random.default_rng(seed)
    if not len(own):
        return Proof((), 0, 0.0)
    windows = [each.window for each in own.features]
    logs = [_log(plan, windows, own.schema.horizon, random) for _ in range(n_logs)]
    asked = [(log, at) for log in logs for at in _instants(log, windows, random)]
    at = np.array([instant for _, instant in asked])
    users, rows = np.arange(n_logs).astype(str).astype(object), np.repeat(np.arange(n_logs), PER_LOG)
    batch = Histories.from_frame(own.schema, _frame(list(chain(*logs)), plan, np.repeat(users, [len(x) for x in logs])))
    places = np.argsort(batch.users.astype(int))
    own.compute(batch.take(places[:1]), AT)  # compiled, and the file read
    begun = time.process_time()
    wanted = own.compute(batch.take(places[rows]), at, threads=1).values
    spent = (time.process_time() - begun) * 1e6 / len(at)
    parts = [law(log, at, plan, random) for law in LAWS.values() for log, at in asked]
    names = [str(row) for _ in LAWS for row in rows]
    given = Histories.from_states(own.schema, names, _states(own, parts, plan, random))
    found = _elsewhere(own, given, np.tile(at, len(LAWS)), random).reshape(len(LAWS), *wanted.shape)
    wrong = wanted.view(np.int64) != found.view(np.int64)
    if not wrong.any():
        return Proof(own.names, len(at), spent)
    law, row, column = min(np.argwhere(wrong).tolist(), key=lambda place: len(_counted(*asked[place[1]])))
    feature, values = own.features[column], (repr(float(each[row, column])) for each in (wanted, found[law]))
    where = written(feature.code)[feature.name.rpartition("_")[0]].where
    return Proof(own.names, len(at), spent, _counterexample(where, feature.name, list(LAWS)[law], *asked[row], *values))


def drawn(schema: StateSchema, plan: TrackingPlan, *, n_users: int = 200, seed: int = 0) -> Histories:
    """Made-up histories of everything that the plan knows, around `AT`; one of them has some two hundred events."""
    random = np.random.default_rng(seed)
    logs = [_log(plan, [schema.horizon], schema.horizon, random) for _ in range(n_users)]
    logs.append([{**event, "id": place} for place, event in enumerate(chain(*logs[:25]))])
    users = np.repeat(np.arange(len(logs)).astype(str).astype(object), [len(log) for log in logs])
    return Histories.from_frame(schema, _frame(list(chain(*logs)), plan, users))


def _request(log: list[Event], _at: int, _plan: TrackingPlan, _random: Generator) -> Sequence[list[Event]]:
    return [log]


def _again(log: list[Event], _at: int, _plan: TrackingPlan, random: Generator) -> Sequence[list[Event]]:
    copied = [event for event in log if random.random() < 0.5]
    return [log + [{**event, "known": event["known"] + int(random.integers(1, DAY))} for event in copied]]


def _split(log: list[Event], _at: int, _plan: TrackingPlan, random: Generator) -> Sequence[list[Event]]:
    first = random.random(len(log)) < 0.5
    return [[event for event, mine in zip(log, first, strict=True) if mine == side] for side in (True, False)]


def _later(log: list[Event], at: int, plan: TrackingPlan, random: Generator) -> Sequence[list[Event]]:
    after = [
        {**_event(plan, at + int(ago), random), "id": 1000 + k} for k, ago in enumerate(random.integers(1, DAY, 3))
    ]
    late = [{**_event(plan, at - ago, random), "known": at + 1, "id": 2000 + k} for k, ago in enumerate((0, HOUR, DAY))]
    return [log + after + late]


LAWS: Mapping[str, Callable[[list[Event], int, TrackingPlan, Generator], Sequence[list[Event]]]] = {
    "a request gives what batch gave": _request,
    "an event that is delivered again changes nothing": _again,
    "a state that was split and merged gives the same": _split,
    "what happens, or becomes known, after `at` changes nothing": _later,
}
"""What each law makes of a user's log; the parts are appended to the state one after the other."""


def _log(plan: TrackingPlan, windows: Sequence[int], horizon: int, random: Generator) -> list[Event]:
    """One user's events: few or some, with ties, late, taken back, at the edges of windows."""
    ago = [0, 1, MINUTE, HOUR, DAY, horizon, *windows]
    log = []
    for place in range(random.integers(1, 16)):
        span = random.choice([HOUR, DAY, max(windows), horizon + DAY])
        some = random.choice(ago) + random.integers(-1, 2) if random.random() < 0.4 else random.integers(0, span)
        event = _event(plan, AT - int(some), random)
        known = event["ts"] + int(random.choice([0, 0, 0, HOUR, 3 * DAY]))
        until = None if random.random() < 0.9 else known + int(random.choice([1, DAY]))
        log.append({**event, "id": place + 1, "known": known, "until": until})
    return log


def _instants(log: list[Event], windows: Sequence[int], random: Generator) -> list[int]:
    edges = [event["ts"] + int(random.choice(windows)) * (k % 2) for k, event in enumerate(log)]
    chosen = random.choice(edges, PER_LOG - 1) + random.integers(-1, 2, PER_LOG - 1)
    return [AT + int(random.integers(0, DAY)), *chosen.tolist()]


def _event(plan: TrackingPlan, ts: int, random: Generator) -> Event:
    name = str(random.choice(list(plan.events)))
    specs = {**CONTEXT, **{PREFIX + key: spec for key, spec in plan.events[name].properties.items()}}
    said = {key: _value(spec, random) for key, spec in specs.items() if random.random() < 0.8}
    return {"event": name, "ts": ts, "known": ts, "seq": int(random.integers(0, 3)), **said}


def _value(spec: PropertySpec, random: Generator) -> float | str | bool:
    if spec.type == "flag":
        return bool(random.random() < 0.5)
    if not spec.numeric:
        return str(random.choice(spec.allowed or ("a", "b", "c", "d")))
    if spec.type == "time":
        return (AT - int(random.integers(0, DAY))) / SECOND
    low = 0.0 if spec.min is None else spec.min
    high = low + 100 if spec.max is None else spec.max
    return float(np.clip(round(random.uniform(low, high) * spec.factor) / spec.factor, low, high))


def _frame(events: Sequence[Event], plan: TrackingPlan, users: NDArray[np.object_]) -> pl.DataFrame:
    """A log frame (see `StateSchema.encode`)."""
    types: dict[str, Any] = {"event": pl.String, "ts": pl.Int64, "known": pl.Int64, "until": pl.Int64, "id": pl.Int64}
    types |= {"seq": pl.Int64, "offset": pl.Int16, "consent": pl.Int8, "mark": pl.String}
    types |= dict.fromkeys(CONTEXT, pl.String)
    for name, spec in plan.properties.items():
        types[PREFIX + name] = pl.Float64 if spec.numeric else pl.Boolean if spec.type == "flag" else pl.String
    columns = {name: [event.get(name) for event in events] for name in types}
    return pl.DataFrame(columns, schema=types).with_columns(user=pl.Series(users.tolist(), dtype=pl.String))


def _states(
    own: FeatureSet, parts: Sequence[Sequence[list[Event]]], plan: TrackingPlan, random: Generator
) -> list[bytes]:
    """Per row the records of its parts, one part behind the other, each in the order in which they might arrive."""
    flat = list(chain(*parts))
    names = np.repeat(np.arange(len(flat)).astype(str).astype(object), [len(part) for part in flat])
    held = Histories.from_frame(own.schema, _frame(list(chain(*flat)), plan, names))
    records = zip(held.users, held.starts, held.ends, strict=True)
    states = {user: random.permutation(held.slots[start:end]).tobytes() for user, start, end in records}
    places = iter(range(len(flat)))
    return [b"".join(states.get(str(next(places)), b"") for _ in mine) for mine in parts]


def _counted(log: list[Event], at: int) -> list[Event]:
    known = [event for event in log if event["ts"] <= at and event["known"] <= at < (event["until"] or at + 1)]
    return sorted(known, key=lambda event: (event["ts"], event["seq"]))


def _counterexample(where: str, name: str, law: str, log: list[Event], at: int, one: str, other: str) -> str:
    rest = ("event", "ts", "known", "until", "id", "seq")
    lines = [
        f"  {iso(event['ts'])} {event['event']} "
        + " ".join(f"{key.removeprefix(PREFIX)}={value}" for key, value in event.items() if key not in rest)
        for event in _counted(log, at)
    ]
    lines = lines[-SHOWN:] or ["  (none that counts)"]
    hint = (
        "Hint: a feature is made of `user` and `at` alone: no clock, no random numbers, no order of a set, "
        "nothing kept between calls."
    )
    told = f"{where}: {name} breaks a law: {law}. As of {iso(at)}, batch gave {one} and the request {other}, of"
    return "\n".join([told, *lines, hint])


def _elsewhere(own: FeatureSet, given: Histories, at: NDArray[np.int64], random: Generator) -> NDArray[np.float64]:
    """The features of each row alone, in a new process with other hashes, another clock and no files."""
    order = random.permutation(len(given))
    task = pickle.dumps((own.to_dict(), given, at, order))
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(  # noqa: S603 - this module
            [sys.executable, "-m", __name__],
            input=task,
            capture_output=True,
            cwd=empty,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            check=False,
        )
    if done.returncode:
        raise DefinitionError(done.stderr.decode(errors="replace").strip().splitlines()[-1])
    return np.frombuffer(done.stdout).reshape(len(given), -1)


class _Date(dt.date):
    @classmethod
    def today(cls) -> Self:
        return super().today() + _AHEAD


class _Datetime(dt.datetime):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Self:
        return super().now(tz) + _AHEAD

    @classmethod
    def today(cls) -> Self:
        return cls.now()

    @classmethod
    def utcnow(cls) -> Self:
        return cls.now(dt.UTC).replace(tzinfo=None)


_AHEAD = dt.timedelta(days=399, hours=7)


def _answer() -> None:
    """What runs in the new process."""
    features, given, at, order = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by `_elsewhere`
    own, out = FeatureSet.load(features), sys.stdout.buffer
    sys.stdout = sys.stderr
    clock = time.time
    time.time = lambda: clock() + _AHEAD.total_seconds()
    dt.date, dt.datetime = _Date, _Datetime  # type: ignore[misc] # for definitions.py to see
    values = np.empty((len(given), len(own)))
    for row in order:
        values[row] = own.compute(given.take(np.array([row])), at[row]).values[0]
    out.write(values.tobytes())


if __name__ == "__main__":
    try:
        _answer()
    except DefinitionError as fault:
        sys.exit(str(fault))
