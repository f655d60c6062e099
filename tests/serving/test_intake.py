"""One writer: group commit, a bad neighbour, a full queue."""

import threading

import pytest

from serving import intake
from serving.intake import Delivery, Intake, IntakeFull, Prepared, Receipt
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
        if messages[0] == "poison":
            raise ValueError("cannot be read")
        done = shop.cleaned(plan, messages, received)
        return Prepared(done.batch, done.quarantine, Receipt(len(done.batch)))

    return prepare


def test_a_delivery_that_cannot_be_read_fails_alone(store, plan):
    told, desk = Told(3), Intake(store)
    for place, sent in enumerate([[shop.message("ann")], ["poison"], [shop.message("bob")]]):
        desk.submit(Delivery(sent, shop.NOW + place, told.of(place), preparing(plan)))
    desk.start()
    assert told.all.wait(30)
    desk.stop()
    assert told.results[0] == told.results[2] == Receipt(1)
    assert isinstance(told.results[1], ValueError)
    assert store.reader.execute("SELECT owner FROM arrivals ORDER BY id").fetchall() == [("ann",), ("bob",)]


def test_a_delivery_that_cannot_be_written_fails_alone(store, plan, monkeypatch):
    told, desk = Told(3), Intake(store)
    write = intake.journal.write

    def fails(db, frame):
        if "bob" in frame["user_id"]:
            raise OSError("the disk is full")
        write(db, frame)

    monkeypatch.setattr(intake.journal, "write", fails)
    for place, user in enumerate(["ann", "bob", "cid"]):
        desk.submit(Delivery([shop.message(user)], shop.NOW + place, told.of(place), preparing(plan)))
    desk.start()
    assert told.all.wait(30)
    desk.stop()
    assert isinstance(told.results[1], OSError)
    assert store.reader.execute("SELECT owner FROM arrivals ORDER BY id").fetchall() == [("ann",), ("cid",)]


def test_what_waits_at_the_end_is_written(store, plan):
    told, desk = Told(5), Intake(store)
    desk.start()
    for place in range(5):
        desk.submit(Delivery([shop.message("ann")], shop.NOW + place, told.of(place), preparing(plan)))
    desk.stop()
    assert told.results == dict.fromkeys(range(5), Receipt(1))


def test_more_than_can_be_written_soon_is_told_to_come_again(store, plan, monkeypatch):
    monkeypatch.setattr(intake, "WAITING", 2)
    told, desk = Told(3), Intake(store)
    for place in range(2):
        desk.submit(Delivery([shop.message("ann")], shop.NOW, told.of(place), preparing(plan)))
    with pytest.raises(IntakeFull):
        desk.submit(Delivery([shop.message("ann")], shop.NOW, told.of(2), preparing(plan)))


def test_the_lag_is_the_wait_of_the_oldest_event_not_yet_in_the_state(store):
    desk = Intake(store)
    assert desk.lag(shop.NOW) == 0
    desk.submit(Delivery([], shop.NOW - 5, lambda _: None, lambda *_: None))
    assert desk.lag(shop.NOW) == 5
