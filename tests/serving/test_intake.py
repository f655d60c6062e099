"""One writer: group commit, a bad neighbour, a full queue."""

import threading

import pytest

from serving import intake, journal
from serving.intake import Delivery, Intake, IntakeFull, Prepared, Receipt, Refused
from serving.store import SqliteStore
from tests.serving import shop


@pytest.fixture
def store(tmp_path):
    with SqliteStore(tmp_path / "state.db") as made:
        yield made


class Told:
    """Collects what deliveries came to."""

    def __init__(self, n):
        self.results, self.all, self.n = {}, threading.Event(), n

    def of(self, place):
        def done(result):
            self.results[place] = result
            if len(self.results) == self.n:
                self.all.set()

        return done


def preparing(plan):
    def prepare(messages, received):
        if "poison" in messages:
            raise ValueError("cannot be read")
        done = shop.cleaned(plan, messages, received)
        rows = done.quarantine.select("row", "reason").iter_rows()
        return Prepared(done.batch, done.quarantine, tuple(Refused(row, None, "", reason) for row, reason in rows))

    return prepare


def clock():
    return shop.NOW


def test_a_delivery_that_cannot_be_read_fails_alone(store, plan):
    told, desk = Told(3), Intake(store, clock)
    prepare = preparing(plan)
    for place, sent in enumerate([[shop.message("ann")], ["poison"], [shop.message("bob")]]):
        desk.submit(Delivery(sent, shop.NOW, told.of(place), prepare))
    desk.start()
    assert told.all.wait(30)
    desk.stop()
    assert told.results[0] == told.results[2] == Receipt(1)
    assert isinstance(told.results[1], ValueError)
    assert store.reader.execute("SELECT owner FROM arrivals ORDER BY id").fetchall() == [("ann",), ("bob",)]


def test_a_delivery_that_cannot_be_written_fails_alone(store, plan, monkeypatch):
    told, desk = Told(3), Intake(store, clock)
    write = journal.write

    def fails(db, frame):
        if "bob" in frame["user_id"]:
            raise OSError("the disk is full")
        write(db, frame)

    monkeypatch.setattr(journal, "write", fails)
    prepare = preparing(plan)
    for place, user in enumerate(["ann", "bob", "cid"]):
        desk.submit(Delivery([shop.message(user)], shop.NOW, told.of(place), prepare))
    desk.start()
    assert told.all.wait(30)
    desk.stop()
    assert isinstance(told.results[1], OSError)
    assert store.reader.execute("SELECT owner FROM arrivals ORDER BY id").fetchall() == [("ann",), ("cid",)]


def test_each_delivery_of_a_group_gets_its_own_receipt(store, plan):
    told, desk = Told(3), Intake(store, clock)
    prepare = preparing(plan)
    good, bad = shop.message("ann"), shop.message("ann", "no_such_event")
    for place, sent in enumerate([[good, bad], [good, good], [bad, good, bad]]):
        desk.submit(Delivery(sent, shop.NOW, told.of(place), prepare))
    desk.start()
    assert told.all.wait(30)
    desk.stop()
    assert [told.results[place].accepted for place in range(3)] == [1, 2, 1]
    assert [[each.index for each in told.results[place].refused] for place in range(3)] == [[1], [], [0, 2]]
    assert store.reader.execute("SELECT count(*) FROM refusals").fetchone() == (3,)


def test_what_waits_at_the_end_is_written(store, plan):
    told, desk = Told(5), Intake(store, clock)
    desk.start()
    for place in range(5):
        desk.submit(Delivery([shop.message("ann")], shop.NOW, told.of(place), preparing(plan)))
    desk.stop()
    assert told.results == dict.fromkeys(range(5), Receipt(1))


def test_more_than_can_be_written_soon_is_told_to_come_again(store, plan, monkeypatch):
    monkeypatch.setattr(intake, "WAITING", 2)
    told, desk = Told(3), Intake(store, clock)
    for place in range(2):
        desk.submit(Delivery([shop.message("ann")], shop.NOW, told.of(place), preparing(plan)))
    with pytest.raises(IntakeFull):
        desk.submit(Delivery([shop.message("ann")], shop.NOW, told.of(2), preparing(plan)))


def test_the_lag_is_the_wait_of_the_oldest_event_not_yet_in_the_state(store):
    desk = Intake(store, clock)
    assert desk.lag(shop.NOW) == 0
    desk.submit(Delivery([], shop.NOW - 5, lambda _: None, lambda *_: None))
    assert desk.lag(shop.NOW) == 5
