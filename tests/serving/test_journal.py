"""Events wait in the journal and move to the log, each once, whatever is killed when."""

import pytest

from features.errors import LogError
from features.events.log import EventLog
from serving import journal
from serving.journal import Roller
from serving.store import SqliteStore
from tests.serving import shop


@pytest.fixture
def store(tmp_path):
    with SqliteStore(tmp_path / "state.db") as made:
        yield made


def take(store, plan, sent, received=shop.NOW):
    done = shop.cleaned(plan, sent, received)
    with store.writing() as db:
        journal.write(db, done.batch.frame)
        journal.refuse(db, done.quarantine)
    return done.batch


class Unlucky:
    """A log whose disk is full, or whose process dies right after the part is written."""

    def __init__(self, log, *, after):
        self.log, self.after = log, after

    def append(self, batch, *, name, quarantine=None):
        if self.after:
            self.log.append(batch, name=name, quarantine=quarantine)
        raise LogError("the disk is full")


@pytest.mark.parametrize("after", [False, True])
def test_a_roll_that_is_killed_is_finished_by_the_next(store, plan, tmp_path, after):
    log = EventLog(tmp_path / "log", plan, key=shop.KEY)
    take(store, plan, [shop.message("ann"), shop.message("bob", "no_such_event")])
    with pytest.raises(LogError):
        Roller(store, lambda: Unlucky(log, after=after), lambda: plan).roll()
    take(store, plan, [shop.message("cid")], shop.NOW + 1)
    assert Roller(store, lambda: log, lambda: plan).roll() == 2
    assert sorted(log.frame()["user"]) == ["ann", "cid"]
    assert log.quarantine()["reason"].to_list() == ["unknown_event"]
    assert Roller(store, lambda: log, lambda: plan).roll() == 0


def test_the_journal_gives_back_the_batch_it_was_given(store, plan):
    sent = [
        shop.message("ann", "order_completed", properties={"revenue": 0.1 + 0.2}),
        shop.message("a-1", properties={"product_id": "ü", "price": 1e9}, context={"timezone": "Asia/Kolkata"}),
        {"type": "identify", "userId": "ann", "anonymousId": "a-1", "traits": {"plan": "gold", "email": "a@b.cd"}},
    ]
    batch = take(store, plan, sent)
    back = journal.read(store.reader, plan)
    present = [name for name in batch.frame.columns if name in back.frame.columns]
    assert back.frame.select(present).equals(batch.frame.select(present))
    assert batch.frame.drop(present).null_count().to_numpy().min(initial=3) == 3


def test_no_direct_identifier_is_in_the_file(store, plan, tmp_path):
    take(store, plan, [{"type": "identify", "userId": "ann", "traits": {"email": "ann@example.com"}}])
    take(store, plan, [shop.message("bob", "nothing", context={"ip": "203.0.113.77"})])
    written = b"".join(path.read_bytes() for path in tmp_path.glob("state.db*"))
    assert b"ann@example.com" not in written
    assert b"203.0.113.77" not in written


def test_an_event_of_a_property_that_the_plan_lost_is_read_without_it(store, plan, tmp_path):
    take(store, plan, [shop.message("ann", properties={"product_id": "x", "price": 2})])
    (tmp_path / "narrow.yaml").write_text("version: 1\nevents:\n  product_viewed: {}\n", encoding="utf-8")
    narrow = shop.TrackingPlan.read(tmp_path / "narrow.yaml")
    assert journal.read(store.reader, narrow).properties == []
