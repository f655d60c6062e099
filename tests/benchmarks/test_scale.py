"""A log that does not fit into memory is compacted, and gives features and training rows, bucket by bucket."""

from concurrent.futures.process import BrokenProcessPool
from functools import partial

import numpy as np
import polars as pl
import pytest

from benchmarks import scale, shop
from features.events import engine
from features.instants import DAY


@pytest.mark.parametrize(
    ("n_events", "limit"),
    [
        pytest.param(6_000_000, 3 << 28, marks=pytest.mark.integration),
        pytest.param(30_000_000, 2 << 30, marks=pytest.mark.prove),
    ],
)
def test_batch_work_needs_less_memory_than_the_log(tmp_path, n_events, limit):
    """The process is killed where it holds more than the limit, as the one does that holds everybody at once."""
    scale.confined(partial(scale.write, tmp_path, n_events, block=1_000_000))
    done = scale.confined(partial(scale.work, tmp_path), limit=limit)
    events = pl.scan_parquet(tmp_path / "parts" / "*" / "events-*.parquet")
    inside = events.filter(pl.col("ts").is_between(shop.AT - 90 * DAY, shop.AT, closed="right"))
    assert done.n_counted == inside.select(pl.len()).collect().item()
    assert done.n_rows > n_events // 200
    assert done.peak < limit
    with pytest.raises(BrokenProcessPool):
        scale.confined(partial(scale.in_memory, tmp_path), limit=limit)


def test_memory_is_what_a_limit_leaves(tmp_path, monkeypatch):
    whole = engine.memory()
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(engine, "CONTAINER", tmp_path / "memory.max")
    assert engine.memory() >= whole
    (tmp_path / "memory.max").write_text("1000000\n")
    assert engine.memory() == 1_000_000
    monkeypatch.setattr(engine, "getrlimit", lambda _kind: (1000, engine.RLIM_INFINITY))
    assert engine.memory() == 1000


def test_logs_of_every_size_are_alike(tmp_path):
    """The benchmark's own data: parts in the order of time, users with a hundred events."""
    scale.write(tmp_path, 4000, block=1000)
    events = [pl.read_parquet(file) for file in sorted((tmp_path / "parts").glob("*/events-*.parquet"))]
    assert [frame.height for frame in events] == [1000] * 4
    assert np.all(np.diff([frame["ts"].mean() for frame in events]) > 20 * DAY)
    people = pl.concat([pl.read_parquet(file) for file in (tmp_path / "parts").glob("*/people-*.parquet")])
    assert people["id"].n_unique() == 40
