"""Stream: Segment-shaped JSON from Kafka, cleaned as the door cleans it; committed once journal and state hold it."""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from features.errors import ProjectError
from features.events.segment import unfolded
from serving.intake import Prepared
from serving.releases import Release
from serving.runtime import Runtime

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

LOGGER = logging.getLogger("ethogram.stream")
AT_ONCE = 500
"""Messages of one transaction, and of one commit."""
HELD_KB = 16_384
"""What the client reads ahead."""
WAIT_S = 0.5


def consumer_of(brokers: str, topic: str, group: str, options: dict[str, str] | None = None) -> "Consumer":
    """A consumer that commits when it is told to, and begins at the beginning where the group is new.

    Raises:
        ProjectError: confluent-kafka is not installed, or an option is none of librdkafka's.
    """
    try:
        from confluent_kafka import Consumer, KafkaException
    except ImportError:
        raise ProjectError("confluent-kafka is not installed. Hint: pip install 'ethogram[kafka]'.") from None
    ours: dict[str, str | int | bool] = {"bootstrap.servers": brokers, "group.id": group, "enable.auto.commit": False}
    ours |= {"auto.offset.reset": "earliest", "queued.max.messages.kbytes": HELD_KB}
    try:
        consumer = Consumer({**(options or {}), **ours})
    except KafkaException as error:
        raise ProjectError(f"librdkafka refuses its settings: {error.args[0].str()}. Hint: look at --option.") from None
    consumer.subscribe([topic])
    return consumer


def run(runtime: Runtime, consumer: "Consumer", *, stopped: Callable[[], bool]) -> int:
    """Take messages until stopped; the number of messages taken.

    A message that is delivered again, after a crash or when partitions move, is one event: it keeps its id, and one
    without an id is named by its place in the topic.
    """
    taken = 0
    while not stopped():
        release = runtime.releases.current
        if release is None:  # what an event may be stands in the bundle's plan
            time.sleep(WAIT_S)
            continue
        found = _sound(consumer.consume(AT_ONCE, WAIT_S))
        if not found:
            continue
        for prepared in cleaned(release, found, runtime.arrival()):
            while not _kept(runtime, prepared.batch, prepared.quarantine):
                if stopped():
                    return taken  # not committed, so it comes again
                time.sleep(1)
            runtime.metrics.events.labels("accepted").inc(prepared.batch.frame.height)
            runtime.metrics.events.labels("refused").inc(len(prepared.refused))
        _commit(consumer)
        taken += len(found)
    return taken


def _commit(consumer: "Consumer") -> None:
    """Commit what was taken; what cannot be, as when partitions move, comes again and is the same events."""
    from confluent_kafka import KafkaException

    try:
        consumer.commit(asynchronous=False)
    except KafkaException as error:
        LOGGER.warning("what was taken is not committed and comes again: %s", error)


def cleaned(release: Release, messages: Sequence["Message"], at: int) -> Iterator[Prepared]:
    """The messages' events cleaned together; where that fails each alone, and one that fails alone is passed over."""
    try:
        yield release.prepare([event for each in messages for event in events_in(each)], at)
    except Exception:
        if len(messages) == 1:
            (each,) = messages
            place = each.topic(), each.partition(), each.offset()
            LOGGER.exception("the message at %s, partition %s, offset %s cannot be cleaned and is passed over", *place)
            return
        for each in messages:
            yield from cleaned(release, [each], at)


def _kept(runtime: Runtime, *cleaned: Any) -> bool:  # noqa: ANN401 - what `take` takes
    try:
        runtime.store.take(*cleaned)
    except sqlite3.Error:
        LOGGER.exception("events cannot be kept; they are tried again and not committed")
        return False
    return True


def _sound(messages: Sequence["Message"]) -> list["Message"]:
    for each in messages:
        if each.error():
            LOGGER.warning("%s", each.error())
    return [each for each in messages if not each.error()]


def events_in(message: "Message") -> Iterator[Any]:
    """The events of one message, each with an id that a second delivery has too."""
    place = f"{message.topic()}-{message.partition()}-{message.offset()}"
    document: Any = (message.value() or b"").decode(errors="replace")
    with suppress(msgspec.DecodeError, RecursionError):
        document = msgspec.json.decode(document)
    whole = isinstance(document, dict) and isinstance(document.get("batch"), list)
    for index, event in enumerate(unfolded(document) if whole else [document]):
        named = isinstance(event, dict) and not event.get("messageId")
        yield {**event, "messageId": f"{place}-{index}"} if named else event


def options_of(pairs: Sequence[str]) -> dict[str, str]:
    """Librdkafka's settings, given as `name=value`.

    Raises:
        ProjectError: there is no `=`.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ProjectError(f"{pair!r} is no setting. Hint: `--option security.protocol=SASL_SSL`.")
        found[name] = value
    return found
