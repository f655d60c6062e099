"""Writing: the process beside the service writes what this one would, says what it cannot, and ends with it."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.instants import HOUR
from serving import predictions
from serving.writing import HOURS, Aside, Head, Part, Writer
from tests.serving import shop

N, NAMES = 5, ("a", "b", "c")


def parts_of(n_parts, at=shop.NOW):
    draw = np.random.default_rng(1)
    for part in range(n_parts):
        users = [f"user {part}-{row} \N{SNOWMAN}" for row in range(N)]
        texts = [f"r{row}" for row in range(N)], users, ["live"] * N, [("x", "y")] * (N - 1) + [()], [""] * N
        whole = [np.full(N, at), *(draw.integers(-9, 9, N) for _ in range(3))]
        yield Part(Head("digest", "schema", NAMES, ("s",), *texts), whole, [draw.random(N)], draw.random((N, 3)))


def logged(folder):
    return {path.relative_to(folder).as_posix(): predictions.read(path) for path in folder.rglob("*.parquet")}


@pytest.fixture
def aside(tmp_path):
    made = Aside(tmp_path / "aside", shop.KEY, 0)
    yield made
    made.close()


def ended(pid):
    for _ in range(400):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_both_write_the_same_files_of_several_parts_and_several_times(tmp_path, aside):
    here = Writer(tmp_path / "here", shop.KEY, 0)
    for each in (here, aside):
        each.write(parts_of(3), "1-0")
        each.write(parts_of(2, shop.NOW + HOUR), "1-15")
    one, other = logged(tmp_path / "here"), logged(tmp_path / "aside")
    assert one.keys() == other.keys()
    assert [frame.height for frame in one.values()] == [frame.height for frame in other.values()]
    for name, frame in one.items():
        assert frame.equals(other[name])
    assert pl.concat(one.values()).height == 5 * N


def test_the_other_process_is_there_before_anything_is_written(aside):
    aside.begin()
    pid = aside._process.pid
    aside.write(parts_of(1), "1-0")
    assert aside._process.pid == pid


def test_the_other_process_gives_way_to_the_service_and_outlives_an_interruption(aside):
    aside.write(parts_of(1), "1-0")
    pid = aside._process.pid
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19
    if hasattr(os, "SCHED_IDLE"):  # polars and its allocator have threads of their own
        threads = [int(each.name) for each in Path(f"/proc/{pid}/task").iterdir()]
        assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_IDLE}
    assert (os.getsid(pid), os.getpgid(pid)) == (os.getsid(0), pid)  # a signal to the service's group is not for it
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    aside.write(parts_of(1), "1-5")
    assert len(logged(Path(aside.given[0]))) == 2
    aside.close()
    assert ended(pid)


def test_what_cannot_be_written_is_told_and_written_when_it_can_be(aside):
    hour = Path(aside.given[0]) / time.strftime(HOURS, time.gmtime(shop.NOW / 1e6))
    hour.parent.mkdir()
    hour.write_text("in the way")
    with pytest.raises(OSError, match="FileExistsError"):
        aside.write(parts_of(2), "1-0")
    hour.unlink()
    aside.write(parts_of(2), "1-0")
    (frame,) = logged(Path(aside.given[0])).values()
    assert frame.height == 2 * N


def test_one_that_was_killed_is_told_and_another_takes_its_place(aside):
    aside.write(parts_of(1), "1-0")
    os.kill(aside._process.pid, signal.SIGKILL)
    with pytest.raises(OSError, match="has ended"):
        aside.write(parts_of(1), "1-5")
    aside.write(parts_of(1), "1-5")
    assert len(logged(Path(aside.given[0]))) == 2
