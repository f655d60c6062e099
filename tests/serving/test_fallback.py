"""While the store does not answer, what was read last does, and nobody waits."""

import sqlite3

import pytest

from features.errors import StoreError
from serving import fallback
from serving.fallback import FAILURES, PAUSE_S, Fallback
from serving.state import State
from tests.serving import shop


class Flaky:
    """A remote store that takes as long as it is told, or fails."""

    remote = True
    erasures = 0

    def __init__(self):
        self.asked, self.now, self.takes, self.error, self.broken = 0, 0.0, 0.0, None, ()
        self.canonical = {}

    def clock(self):
        return self.now

    def read(self, _schema, users):
        self.asked += 1
        self.now += self.takes
        if self.error:
            raise self.error
        names = [self.canonical.get(user, user) for user in users]
        return [State(name, b"x" * 80, source="lost" if name in self.broken else "live") for name in names]


@pytest.fixture
def flaky():
    return Flaky()


@pytest.fixture
def read(flaky, plan):
    schema, states = shop.features_of(plan).schema, Fallback(flaky, clock=flaky.clock)
    return lambda *users: [(state.source, state.age) for state in states.read(schema, users)]


def test_what_cannot_be_read_is_told_from_what_was_read_last_with_its_age(flaky, read):
    assert read("ann") == [("live", 0)]
    flaky.now, flaky.error = 5.0, StoreError("refused")
    assert read("ann", "bob") == [("stale", 5_000_000), ("lost", 0)]


def test_after_three_failures_one_caller_a_second_tries(flaky, read):
    flaky.error = StoreError("refused")
    for _ in range(100):
        read("ann")
    assert flaky.asked == FAILURES
    for _ in range(10):
        flaky.now += PAUSE_S
        assert [read("ann") for _ in range(100)] == [[("lost", 0)]] * 100
    assert flaky.asked == FAILURES + 10
    flaky.error, flaky.now = None, flaky.now + PAUSE_S
    assert [read("ann") for _ in range(5)] == [[("live", 0)]] * 5


def test_slow_is_as_bad_as_none(flaky, read):
    flaky.takes = 0.025
    for _ in range(50):
        read("ann")
    assert flaky.asked == FAILURES


def test_a_damaged_state_fails_no_neighbour(flaky, read):
    assert read("ann") == [("live", 0)]
    flaky.broken, flaky.now = ("ann", "bob"), 2.0
    assert read("bob", "cid", "ann") == [("lost", 0), ("live", 0), ("stale", 2_000_000)]


def test_of_who_was_erased_nothing_that_was_read_before_is_told(flaky, plan):
    schema, states, gone = shop.features_of(plan).schema, Fallback(flaky, clock=flaky.clock), set()
    states.erased = gone.__contains__
    flaky.canonical = {"a-1": "ann"}
    states.read(schema, ["ann", "a-1", "bob"])
    flaky.error = StoreError("refused")
    gone.add("ann")
    told = [state.source for state in states.read(schema, ["ann", "a-1", "bob"])]
    assert told == ["lost", "lost", "stale"]
    flaky.erasures = 1  # by another service, whose tombstones are not here
    assert states.read(schema, ["bob"])[0].source == "lost"


def test_what_is_kept_has_a_bound(flaky, read, monkeypatch):
    monkeypatch.setattr(fallback, "HELD_BYTES", 10 * 580)
    for place in range(30):
        read(f"u{place}")
    flaky.error = StoreError("refused")
    assert read("u19", "u20", "u29") == [("lost", 0), ("stale", 0), ("stale", 0)]


def test_of_a_file_of_this_machine_nothing_is_kept(flaky, read):
    flaky.remote = False
    read("ann")
    flaky.error = sqlite3.DatabaseError("disk I/O error")
    assert read("ann") == [("lost", 0)]
