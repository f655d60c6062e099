"""Scale: compaction, features and training rows of 1, 10 and 100 million events on disk, in a process held to 4 GiB.

`python -m benchmarks.scale [--small] [--json]`. Seconds are of all cores together; --small takes a tenth of the events.
"""

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import polars as pl

from benchmarks import report, shop
from benchmarks.report import Figure, at_most, note
from features.behaviour.feature_set import FeatureSet
from features.events import engine
from features.events.batch import EventBatch
from features.events.log import EventLog
from features.events.plan import Codes
from features.events.rows import Rows
from features.instants import DAY, HOUR, MINUTE
from training.cuts import CutsSpec
from training.label import Condition, Label
from training.training_set import TrainingSet

T = TypeVar("T")

SIZES = (1_000_000, 10_000_000, 100_000_000)
LIMIT, LOOK_S = 4 << 30, 0.01
DAYS, PER_USER, PER_VISIT = 120, 100, 4


class Done(NamedTuple):
    """What was done of a log, in CPU seconds and bytes at most resident."""

    compaction: float
    features: float
    rows: float
    peak: int
    n_counted: int
    n_rows: int


def main() -> int:
    """Measure, print, and say by the exit code whether the targets hold."""
    options = report.arguments(__doc__ or "")
    sizes = [n // 10 for n in SIZES] if options.small else SIZES
    done = {}
    for n_events in sizes:
        with tempfile.TemporaryDirectory() as folder:
            confined(partial(write, Path(folder), n_events, block=sizes[0]))
            note(f"{n_events:,} events are on disk")
            done[n_events] = confined(partial(work, Path(folder)), limit=LIMIT)
        note(str(done[n_events]))
    return report.report([*figures(done), *linear(done)], as_json=options.json)


def figures(done: dict[int, Done]) -> list[Figure]:
    """What an event costs, step by step, and the memory."""
    told = []
    for n, each in done.items():
        steps = zip(("compaction", "features", "training rows"), each[:3], strict=True)
        told += [Figure(f"{n:,} events: {step}", seconds * 1e9 / n, "ns an event") for step, seconds in steps]
        told.append(at_most(f"{n:,} events: memory", each.peak / 2**30, "GiB", LIMIT / 2**30))
    return told


def linear(done: dict[int, Done]) -> list[Figure]:
    """What an event of the largest and of the second log costs, by what one of the smallest does."""
    (first, base), *others = ((n, sum(each[:3]) / n) for n, each in done.items())
    return [at_most(f"an event of {n:,} by one of {first:,}", cost / base, "x", 1.5) for n, cost in others]


def confined(work: Callable[[], T], *, limit: int | None = None) -> T:
    """The work in a process of its own, which is killed where it holds more than `limit` bytes, as in a container.

    Raises:
        BrokenProcessPool: It was killed.
    """
    fresh = multiprocessing.get_context("spawn")
    with (
        tempfile.NamedTemporaryFile("w", encoding="ascii") as told,
        ProcessPoolExecutor(1, mp_context=fresh, initializer=_tell, initargs=(told.name,)) as pool,
    ):
        told.write("max" if limit is None else str(limit))
        told.flush()
        pid = pool.submit(os.getpid).result()
        done = pool.submit(work)
        while limit is not None and not wait([done], LOOK_S).done:
            if held(pid) > limit:
                os.kill(pid, signal.SIGKILL)
        return done.result()


def _tell(file: str) -> None:
    engine.CONTAINER = Path(file)  # where a container says its limit


def held(pid: int) -> int:
    """Bytes that a process holds in memory and no file could give back; 0 when it has ended. Of Linux.

    Addresses are not counted, as RLIMIT_DATA would: Polars' allocator keeps twice as many as it has memory for.
    """
    try:
        told = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in told if line.startswith(("RssAnon", "RssShmem")))


def peak() -> int:
    """Bytes that this process has had in memory at most; of Linux."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def write(folder: Path, n_events: int, *, block: int) -> None:
    """A log's parts: visits of users over 120 days, a block each, in the order of time as they come."""
    log = EventLog(folder, shop.PLAN, key=b"benchmark")
    n_blocks, n_visits = n_events // block, block // PER_VISIT
    for place in range(n_blocks):
        random = np.random.default_rng(place)
        frame = shop.events(block, n_visits, seed=place)
        visit = frame["user"].to_numpy()
        begin = shop.AT + HOUR - DAYS * DAY * (n_blocks - place - random.random(n_visits)) / n_blocks
        ts = begin.astype(np.int64)[visit] + random.integers(0, 40 * MINUTE, block)
        users = random.integers(0, n_events // PER_USER, n_visits)[visit]
        frame = frame.with_columns(user=pl.Series(users), ts=pl.Series(ts)).sort("ts")
        frame = shop.log_frame(frame).rename({"user": "user_id"}).drop("known", "until")
        log.append(EventBatch(frame.with_columns(source=pl.lit("benchmark")), shop.PLAN), name=f"part-{place:03}")


def work(folder: Path) -> Done:
    """Everything that batch work does, in this order, bucket by bucket."""
    features, log = shop.feature_set(), EventLog(folder, shop.PLAN, key=b"benchmark")
    features.compute(shop.histories(shop.events(10, 1), features), shop.AT)  # compiled
    clock = [time.process_time()]
    log.compact()
    clock.append(time.process_time())
    counted = sum(log.map(partial(count, features)))
    clock.append(time.process_time())
    rows = training_rows(log, features)
    clock.append(time.process_time())
    return Done(*np.diff(clock).tolist(), peak(), counted, len(rows))


def count(features: FeatureSet, rows: Rows) -> int:
    """Everybody's features; what is kept of them is the number of events."""
    matrix = features.compute(rows.histories(features.schema), shop.AT, threads=1)
    return int(matrix.column("count_any_90d").sum())


def training_rows(log: EventLog, features: FeatureSet) -> TrainingSet:
    """Four cuts of those who bought within a week: who buys again within the next?"""
    label, buyers = Label(did="order_completed", within="7d"), Condition(did="order_completed", within="7d")
    options = {"plan": shop.PLAN, "codes": Codes.of(shop.PLAN), "population": buyers}
    return TrainingSet.build(log, features, label, CutsSpec(every="7d", last=4), **options)


def in_memory(folder: Path) -> int:
    """The same features of everybody at once."""
    features, log = shop.feature_set(), EventLog(folder, shop.PLAN, key=b"benchmark")
    matrix = features.compute(log.histories(features.schema), shop.AT)
    return int(matrix.column("count_any_90d").sum())


if __name__ == "__main__":
    raise SystemExit(main())
