"""What a store holds, however it came in, is what the event log holds: one contract for SQLite, Redis and a cluster."""

import sqlite3
import tempfile
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.behaviour.kinds import ANYTHING
from features.behaviour.lifetime import boundary_of
from features.behaviour.schema import TS, Lifetime
from features.errors import ProjectError
from features.events import quarantine
from features.events.log import EventLog
from features.events.plan import Purpose
from features.instants import DAY, HOUR, MINUTE, SECOND
from serving import journal, redis_store
from serving.filling import fill
from serving.fingerprint import CONSENT, seen
from serving.journal import Roller
from serving.redis_store import RedisStore
from serving.state import keep, merged, trimmed
from serving.store import TAIL_ROWS, SqliteStore, store_of
from tests.serving import shop
from tests.serving.servers import redis_cluster, redis_server

PEOPLE = ("ann", "bob", "cid", "a-1", "a-2", "a-3")
EVENTS = ("product_viewed", "order_completed", "page_viewed")


class House:
    """A store and a log that are given the same cleaned batches."""

    def __init__(self, folder, plan, features, url=""):
        self.plan, self.features = plan, features
        self.store = store_of(shop.settings_in(folder, redis=url), owner=True)
        self.log = EventLog(folder / "log", plan, key=shop.KEY)
        self.roller = Roller(self.store, lambda: self.log, lambda: plan)
        self.received = shop.NOW

    def take(self, sent, *, after=SECOND):
        """One delivery."""
        self.received += after
        batch = shop.cleaned(self.plan, sent, self.received).batch
        self.store.take(batch, quarantine.rejects([]))

    def fill(self):
        """The state of the features' schema, from the log and the journal."""
        fill(self.store, self.log, self.features.schema, now=self.received)

    def online(self, users, at):
        """Features from the store."""
        states = self.store.read(self.features.schema, users)
        records, carries = [state.records for state in states], [state.carry for state in states]
        histories = Histories.from_states(self.features.schema, [state.user for state in states], records, carries)
        return self.features.compute(histories, at)

    def agrees(self, at):
        """The same users, every record of the log with the instant it was known, and to the bit the same features."""
        self.roller.roll()
        histories = self.log.histories(self.features.schema)
        batch = self.features.compute(histories, at)
        for row, user in enumerate(histories.users):
            records = self.store.read(self.features.schema, [str(user)])[0].records
            held = {each.tobytes() for each in np.frombuffer(records, np.int64).reshape(-1, histories.slots.shape[1])}
            own = histories.slots[histories.starts[row] : histories.ends[row]]
            assert held >= {each.tobytes() for each in own[own[:, TS] > boundary_of(at, 90 * DAY)]}
        users = [str(user) for user in batch.users]
        assert self.store.users(self.store.filled(self.features.schema)) == sorted(users)
        online = self.online(users, at)
        assert list(online.users) == users
        np.testing.assert_array_equal(online.values.view(np.int64), batch.values.view(np.int64))


@pytest.fixture(
    scope="module",
    params=["sqlite", *(pytest.param(kind, marks=pytest.mark.integration) for kind in ("redis", "cluster"))],
)
def house(request):
    """What makes a house over a store of each kind, empty."""
    with {"sqlite": nullcontext, "redis": redis_server, "cluster": redis_cluster}[request.param]() as server:
        url = f"{server[0]}?socket_timeout=10" if server else ""

        @contextmanager
        def made(plan, definitions=None):
            if url:
                redis.Redis.from_url(url).flushall()
            with tempfile.TemporaryDirectory() as folder:
                found = House(Path(folder), plan, shop.features_of(plan, definitions), url)
                try:
                    yield found
                finally:
                    found.store.close()

        yield made


@pytest.fixture(autouse=True, scope="module")
def nothing_is_waited_for():
    """One process: nobody else has to notice a generation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_store.time, "sleep", lambda _: None)
        yield


def tracks():
    properties = st.fixed_dictionaries(
        {}, optional={"product_id": st.sampled_from("xyz"), "price": st.integers(0, 9_999).map(lambda n: n / 100)}
    )
    back = st.one_of(st.integers(0, 3 * MINUTE), st.integers(0, 40 * DAY), st.sampled_from([0, DAY, 7 * DAY, HOUR]))
    return st.builds(
        lambda user, event, ago, given: shop.message(
            user, event, shop.NOW - ago, given if event == "product_viewed" else {}
        ),
        st.sampled_from(PEOPLE),
        st.sampled_from(EVENTS),
        back,
        properties,
    )


def links():
    return st.one_of(
        st.builds(
            lambda user, other: {"type": "identify", "userId": user, "anonymousId": other},
            st.sampled_from(PEOPLE[:3]),
            st.sampled_from(PEOPLE),
        ),
        st.builds(
            lambda user, other: {"type": "alias", "userId": user, "previousId": other},
            st.sampled_from(PEOPLE[:3]),
            st.sampled_from(PEOPLE),
        ),
    )


deliveries = st.lists(st.lists(st.one_of(tracks(), tracks(), links()), min_size=1, max_size=4), min_size=1, max_size=12)


@settings(max_examples=settings().max_examples // 3)
@given(deliveries, st.integers(0, 12), st.integers(0, 12), st.data())
def test_the_state_equals_the_log_to_the_bit(house, plan, sent, filled_after, rolled_after, data):
    """Events and links in any order, some delivered twice, the state filled and the journal rolled at any moment."""
    with house(plan) as made:
        for place, each in enumerate(sent):
            if place == min(filled_after, len(sent) - 1):
                made.fill()
            if place == rolled_after:
                made.roller.roll()
            made.take(each)
            if data.draw(st.booleans(), label="delivered again"):
                made.take([{"messageId": f"{made.received}-0", **each[0]}])
        for at in (made.received, made.received + 7 * DAY):
            made.agrees(at)


def test_what_was_last_said_about_consent_outlives_the_horizon(house, plan):
    with house(plan) as made:
        made.fill()
        refused = {"consent": {"categoryPreferences": {"personalisation": False}}}
        made.take([shop.message("ann", ts=shop.NOW - 200 * DAY, context=refused)])
        for step in range(70):
            made.take([shop.message("ann", "page_viewed", shop.NOW - step * HOUR)])
        (state,) = made.store.read(made.features.schema, ["ann"])
        histories = Histories.from_states(made.features.schema, ["ann"], [state.records])
        (told,) = seen(histories, np.array([made.received]))
        assert not told[CONSENT] & Purpose.PERSONALISATION.bit
        assert len(histories.slots) == 71
        made.take([shop.message("ann", "page_viewed", shop.NOW - 199 * DAY)])
        for step in range(70):
            made.take([shop.message("ann", "page_viewed", shop.NOW - step * HOUR)])
        (state,) = made.store.read(made.features.schema, ["ann"])
        assert len(state.records) // 8 // made.features.schema.n_slots <= 141


def test_many_small_deliveries_are_folded_and_nothing_is_lost(house, plan):
    with house(plan) as made:
        made.fill()
        for step in range(3 * TAIL_ROWS):
            made.take([shop.message("ann", "page_viewed", shop.NOW - step * HOUR)])
        (live,) = made.store.live()
        rows = made.store.journal.reader.execute("SELECT count(*) FROM tails WHERE schema = ?", (live.id,)).fetchone()
        assert rows[0] <= TAIL_ROWS
        assert len(made.store.read(made.features.schema, ["ann"])[0].records) == 3 * TAIL_ROWS * 8 * live.schema.n_slots
        made.agrees(made.received)


def test_many_states_read_at_once_are_those_read_one_by_one(house, plan):
    """Whatever characters ids have, joined or not, asked for once or twice, by more than one statement."""
    with house(plan) as at:
        at.fill()
        odd = ["a\0b", "a", "1", "null", "Ω\U0001f600", 'quo"te\\', "x" * 256]
        for times in range(3):
            at.take([shop.message(user, "page_viewed", shop.NOW) for user in (*PEOPLE, *odd[times:])])
        at.take([{"type": "identify", "userId": "ann", "anonymousId": "a-1"}])
        users = [*PEOPLE, *odd, *(f"new-{place}" for place in range(100)), *odd, *PEOPLE]
        schema = at.features.schema
        assert at.store.read(schema, users) == [at.store.read(schema, [user])[0] for user in users]
        assert [state.user for state in at.store.read(schema, ["a\0b", "a-1"])] == ["a\0b", "ann"]
        assert at.store.read(schema, []) == []


def test_a_rebuilt_state_equals_the_one_that_grew(house, plan):
    with house(plan) as made:
        made.fill()
        made.take([shop.message("a-1"), shop.message("bob", "order_completed", properties={"revenue": 3})])
        made.take([{"type": "identify", "userId": "ann", "anonymousId": "a-1"}])
        made.roller.roll()
        made.take([shop.message("ann")])
        made.agrees(made.received)
        grown = made.online(["ann", "bob"], made.received)
        made.fill()
        assert len(made.store.live()) == 1
        np.testing.assert_array_equal(made.online(["ann", "bob"], made.received).values, grown.values)
        made.agrees(made.received)


def test_an_append_goes_to_every_live_schema(house, plan):
    wider = {"version": 1, "features": [{"sum": "product_viewed.price", "windows": ["7d"]}]}
    with house(plan) as made:
        other = shop.features_of(plan, wider)
        made.fill()
        fill(made.store, made.log, other.schema, now=made.received)
        made.take([shop.message("ann", properties={"price": 2.5})])
        state = made.store.read(other.schema, ["ann"])[0]
        histories = Histories.from_states(other.schema, ["ann"], [state.records])
        assert other.compute(histories, made.received).values.tolist() == [[2.5]]
        keep(made.store, [other.schema])
        assert [live.schema.fingerprint for live in made.store.live()] == [other.schema.fingerprint]
        assert made.store.filled(made.features.schema) is None


def test_an_erased_person_leaves_nothing_behind(house, plan):
    with house(plan) as made:
        made.fill()
        made.take([shop.message("a-1"), shop.message("bob")])
        made.take([{"type": "identify", "userId": "ann", "anonymousId": "a-1"}])
        assert made.store.erase("a-1", key=shop.KEY) == ["a-1", "ann"]
        left = "\n".join(made.store.journal.reader.iterdump())
        if isinstance(made.store, RedisStore):
            with made.store._asking() as client:
                left += "".join(f"{key} {client.dump(key)}" for key in client.scan_iter())
        assert "a-1" not in left
        assert "ann" not in left
        assert "bob" in left


@pytest.mark.parametrize("house", ["sqlite"], indirect=True)
def test_a_failed_transaction_leaves_the_journal_and_the_state_as_they_were(house, plan):
    with house(plan) as made:
        made.fill()
        batch = shop.cleaned(plan, [shop.message("ann")], shop.NOW).batch

        def fails():
            with made.store.writing() as db:
                journal.write(db, batch.frame)
                made.store.record(db, batch.frame)
                raise RuntimeError("the disk is full")

        with pytest.raises(RuntimeError, match="disk"):
            fails()
        assert made.store.read(made.features.schema, ["ann"])[0].records == b""
        assert made.store.reader.execute("SELECT count(*) FROM arrivals").fetchone() == (0,)


def test_what_lies_behind_the_horizon_is_trimmed_unless_a_life_time_fold_needs_it(plan):
    features = shop.features_of(plan)
    old = shop.cleaned(plan, [shop.message("ann", ts=shop.NOW - 92 * DAY), shop.message("ann")], shop.NOW).batch
    slots = features.schema.encode(old.frame.with_columns(known="received"))
    assert len(trimmed(features.schema, slots.tobytes())) == slots[0].nbytes
    lifelong = FeatureSet.from_dict(
        {"version": 1, "features": [{"count": "any", "windows": ["lifetime"]}]}, plan, shop.Codes.of(plan)
    )
    slots = lifelong.schema.encode(old.frame.with_columns(known="received"))
    assert len(trimmed(lifelong.schema, slots.tobytes())) == slots.nbytes


def test_the_folds_of_two_ids_that_are_one_person_are_folded_together(plan):
    folds = ("count", "sum", "min", "max", "first", "last")
    schema = shop.features_of(plan).schema
    missing = np.iinfo(np.int64).min
    schema = replace(schema, lifetime=tuple(Lifetime(ANYTHING, what) for what in folds))
    one = np.array([5, 2, 10, 3, 7, 100, missing], np.int64).tobytes()
    two = np.array([5, 1, 20, 1, 9, 50, 60], np.int64).tobytes()
    assert np.frombuffer(merged(schema, one, two), np.int64).tolist() == [5, 3, 30, 1, 9, 50, 60]
    assert merged(schema, None, two) == two


LIFELONG = {
    "version": 1,
    "features": [
        {"count": ["any", "order_completed"], "windows": ["lifetime", "30d"]},
        {"sum": "order_completed.revenue", "windows": ["lifetime"]},
        {"min": "order_completed.revenue", "windows": ["lifetime"]},
        {"tenure": "any"},
    ],
}


def test_what_lies_behind_the_horizon_is_carried_and_survives_a_merge(house, plan):
    with house(plan, LIFELONG) as made:
        for user in ("ann", "a-1", "bob"):
            ages = (100, 200, 95, 3) if user == "ann" else (150, 1)
            made.take(
                [
                    shop.message(user, "order_completed", shop.NOW - age * DAY, {"revenue": age / 4 + len(user)})
                    for age in ages
                ]
            )
        made.roller.roll()
        made.fill()
        state = made.store.read(made.features.schema, ["ann"])[0]
        assert state.carry is not None
        assert len(state.records) == 8 * made.features.schema.n_slots
        made.agrees(made.received)
        made.take([{"type": "identify", "userId": "ann", "anonymousId": "a-1"}, shop.message("a-1")])
        made.agrees(made.received)
        made.fill()
        made.agrees(made.received + DAY)


def test_a_file_of_another_version_is_a_clear_error(tmp_path):
    SqliteStore(tmp_path / "state.db").close()
    SqliteStore(tmp_path / "state.db").close()
    with sqlite3.connect(tmp_path / "state.db") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(ProjectError, match="version 99"):
        SqliteStore(tmp_path / "state.db")
