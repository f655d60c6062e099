"""Events from Kafka: librdkafka's mock cluster, a real client."""

import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import confluent_kafka as kafka
import msgspec
import pytest

from features.errors import ProjectError
from serving import stream
from serving.runtime import Runtime
from tests.serving import shop
from tests.serving.test_service import environment
from training.bundle import publish

pytestmark = pytest.mark.integration


SOON = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "500"}
"""The mock cluster gives nobody the partitions of one who left before its session has ended."""


class Topic:
    """A mock cluster and a producer for it."""

    def __init__(self):
        self.producer = kafka.Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "linger.ms": 1})
        broker = next(iter(self.producer.list_topics("events", timeout=10).brokers.values()))
        self.brokers = f"{broker.host}:{broker.port}"

    def send(self, *documents):
        for document in documents:
            body = document if isinstance(document, bytes) else msgspec.json.encode(document)
            self.producer.produce("events", body)
        self.producer.flush(10)


@pytest.fixture
def topic():
    return Topic()


@pytest.fixture
def runtime(published):
    made = Runtime(published)
    made.releases.look()
    yield made
    made.store.close()


def took(runtime, topic, n, *, group="g"):
    """Take until n messages are committed, or forty seconds have gone; how many were taken."""
    consumer, end, count = stream.consumer_of(topic.brokers, "events", group, SOON), time.monotonic() + 40, [0]
    commit = consumer.commit

    class Counted:
        consume = staticmethod(consumer.consume)

        @staticmethod
        def commit(**how):
            commit(**how)
            count[0] = sum(each.offset for each in consumer.position(consumer.assignment()) if each.offset > 0)

    try:
        return stream.run(runtime, Counted, stopped=lambda: count[0] >= n or time.monotonic() > end)
    finally:
        consumer.close()


def events(runtime):
    state = runtime.store.read(runtime.release().scorer.schema, ["ann"])[0]
    return len(state.records) // 8 // runtime.release().scorer.schema.n_slots


def counts(runtime):
    matrix = shop.state_features(runtime, "ann", runtime.now())
    told = zip(matrix.names, matrix.values[0].tolist(), strict=True)
    return {name: value for name, value in told if name.startswith(("count", "sum", "distinct"))}


def test_what_is_committed_is_kept_and_what_cannot_be_used_is_sealed(runtime, topic):
    good = shop.message("ann", messageId="one")
    topic.send(good, {"batch": [shop.message("ann"), shop.message("ann")]}, b"{no json", {"type": "track"}, b"[" * 5000)
    assert took(runtime, topic, 5) == 5
    assert events(runtime) == 3
    assert runtime.roller.roll() == 3
    assert len(runtime.log().quarantine()) == 3
    topic.send(shop.message("ann"))
    assert took(runtime, topic, 6) == 1, "what was committed does not come again"
    assert events(runtime) == 4


def test_a_second_delivery_changes_nothing(runtime, topic):
    topic.send(*(shop.message("ann") for _ in range(20)), {"batch": [shop.message("ann")] * 3})
    assert took(runtime, topic, 21, group="one") == 21
    before = counts(runtime)
    assert took(runtime, topic, 21, group="another") == 21
    assert counts(runtime) == before
    assert before["count_any_1d"] == 23
    runtime.roller.roll()
    assert runtime.log().frame().filter(runtime.log().frame()["mark"].is_null())["id"].n_unique() == 23


def test_what_cannot_be_kept_is_not_committed(runtime, topic, monkeypatch):
    topic.send(shop.message("ann"))
    take, failed = runtime.store.take, []

    def full(*cleaned):
        if len(failed) < 2:
            failed.append(1)
            raise sqlite3.OperationalError("database or disk is full")
        take(*cleaned)

    monkeypatch.setattr(runtime.store, "take", full)
    monkeypatch.setattr(stream.time, "sleep", lambda _: None)
    assert took(runtime, topic, 1) == 1
    assert (len(failed), events(runtime)) == (2, 1)


def test_a_commit_that_fails_ends_no_stream_and_what_comes_again_changes_nothing(runtime, topic, caplog):
    topic.send(shop.message("ann"))
    consumer, turns = stream.consumer_of(topic.brokers, "events", "g", SOON), []

    class Unsettled:
        consume = staticmethod(consumer.consume)

        @staticmethod
        def commit(**_):
            turns.append(1)
            raise kafka.KafkaException(kafka.KafkaError(kafka.KafkaError.REBALANCE_IN_PROGRESS))

    try:
        assert stream.run(runtime, Unsettled, stopped=lambda: bool(turns)) == 1
    finally:
        consumer.close()
    assert "not committed and comes again" in caplog.text
    assert took(runtime, topic, 1) == 1
    assert counts(runtime)["count_any_1d"] == 1


def test_a_setting_that_librdkafka_has_not_is_a_clear_error():
    with pytest.raises(ProjectError, match=r'"foo".*--option'):
        stream.consumer_of("localhost:1", "events", "g", {"foo": "bar"})


def test_one_message_that_breaks_the_cleaning_ends_no_stream(runtime, topic, monkeypatch, caplog):
    release = runtime.release()

    def prepare(messages, at):
        if any(each.get("event") == "poison" for each in messages):
            raise ZeroDivisionError
        return release.prepare(messages, at)

    monkeypatch.setattr(runtime.releases, "current", replace(release, prepare=prepare))
    topic.send(shop.message("ann"), {"type": "track", "event": "poison", "userId": "ann"}, shop.message("ann"))
    assert took(runtime, topic, 3) == 3
    assert events(runtime) == 2
    assert "offset 1 cannot be cleaned and is passed over" in caplog.text


def test_the_command_ends_when_it_is_told_to_and_loses_nothing(bundle, topic, tmp_path):
    publish(bundle.path, tmp_path / "home" / "bundles")
    command = [sys.executable, "-m", "console.cli", "stream", "--kafka", topic.brokers, "--json"]
    topic.send(*(shop.message("ann") for _ in range(50)))
    process = subprocess.Popen(command, env=environment(tmp_path), stdout=subprocess.PIPE, cwd=tmp_path, text=True)
    state = tmp_path / "home" / "state.db"
    for _ in range(600):
        if state.exists():
            with sqlite3.connect(state) as db:
                if db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'tails'").fetchone()[0] and (
                    db.execute("SELECT count(*) FROM tails").fetchone()[0]
                    + db.execute("SELECT count(*) FROM bases").fetchone()[0]
                ):
                    break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert msgspec.json.decode(said)["messages"] == 50
    assert list((tmp_path / "home" / "log" / "parts").glob("journal-*"))
