"""Collection: Segment-shaped requests as messages, cleaned the way files are."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from features.errors import LogError
from features.events import quarantine
from features.events.cleaning import NO_PLACES, clean
from features.events.erasure import Tombstones
from features.events.places import Places
from features.events.plan import TrackingPlan
from features.events.segment import segment_messages, unfolded
from features.people import pseudonym
from serving.intake import Prepared, Refused
from serving.problems import Problem

KINDS = ("track", "identify", "page", "screen", "group", "alias", "batch")
EVENT_BYTES = 32_768
BATCH_BYTES = 512_000
BATCH_EVENTS = 2_500
MAX_MESSAGE_ID = 100
SOURCE = "http"

Preparation = Callable[[Sequence[Any], int], Prepared]


def document_of(body: bytes) -> dict[str, Any]:
    """The JSON object of a body, without the key that it may carry, which is never stored; or a Problem: 400."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"the body is not JSON: {error}.") from None
    if not isinstance(document, dict):
        raise Problem(400, "the body must be a JSON object.")
    document.pop("writeKey", None)
    return document


def messages_of(document: dict[str, Any], kind: str) -> list[Any]:
    """The messages of a request, each with its type and an id.

    Raises:
        Problem: 400, a batch without its list; 413, too many messages.
    """
    if kind == "batch" and not isinstance(document.get("batch"), list):
        raise Problem(400, 'a batch must hold a list. Hint: {"batch": [...]}.')
    found = list(unfolded(document)) if kind == "batch" else [{**document, "type": kind}]
    if len(found) > BATCH_EVENTS:
        raise Problem(413, f"a batch has at most {BATCH_EVENTS:,} messages. Got {len(found):,}.")
    return [named(message) if isinstance(message, dict) else message for message in found]


def named(message: dict[str, Any]) -> dict[str, Any]:
    """The message with an id of its own."""
    return message if message.get("messageId") else {**message, "messageId": secrets.token_hex(16)}


class Erased:
    """The log's tombstones, read again when their file changes."""

    def __init__(self, log: Path) -> None:
        self.path = log / "tombstones.json"
        self._seen: tuple[int, int] | None = None
        self._tombstones = Tombstones()

    def __call__(self) -> Tombstones:
        """The tombstones as of now."""
        try:
            about = self.path.stat()
        except FileNotFoundError:
            return Tombstones()
        if self._seen != (about.st_mtime_ns, about.st_size):
            self._tombstones = Tombstones.read(self.path)
            self._seen = (about.st_mtime_ns, about.st_size)
        return self._tombstones

    def names(self, user: str, key: bytes) -> bool:
        """Whether an id was ever erased; of everybody where the tombstones cannot be read."""
        try:
            return pseudonym(key, user) in self().erased
        except (LogError, OSError):
            return True


def preparation(
    plan: TrackingPlan, key: bytes, tombstones: Callable[[], Tombstones], places: Places = NO_PLACES
) -> Preparation:
    """What makes messages into events: the same reading and cleaning as for files."""

    def prepare(messages: Sequence[Any], received: int) -> Prepared:
        oversize = {place: reason for place, each in enumerate(messages) if (reason := _oversize(each))}
        looked_at = [place for place in range(len(messages)) if place not in oversize]
        batch = segment_messages([messages[place] for place in looked_at], plan, received=received, source=SOURCE)
        batch.rejected = pl.concat([_placed(batch.rejected, looked_at), _rejects(messages, oversize)])
        batch.frame = batch.frame.with_columns(_place("row", looked_at), _place("seq", looked_at))
        cleaned = clean(batch, plan, key=key, tombstones=tombstones(), places=places)
        rows = cleaned.quarantine.sort("row").select("row", "message_id", "detail", "reason").iter_rows()
        refused = tuple(
            Refused(row, name, (detail or "").partition(":")[0], reason) for row, name, detail, reason in rows
        )
        return Prepared(cleaned.batch, cleaned.quarantine, refused)

    return prepare


def _oversize(message: object) -> str:
    """Why a message is too large to be looked at; empty where it is not."""
    named = message.get("messageId") if isinstance(message, dict) else None
    if isinstance(named, str) and len(named) > MAX_MESSAGE_ID:
        return f"messageId: longer than {MAX_MESSAGE_ID} characters"
    size = len(msgspec.json.encode(message))
    return f"message: {size:,} bytes, more than {EVENT_BYTES:,}" if size > EVENT_BYTES else ""


def _rejects(messages: Sequence[Any], oversize: Mapping[int, str]) -> pl.DataFrame:
    return quarantine.rejects(
        {
            "reason": "oversize",
            "detail": detail,
            "source": SOURCE,
            "row": place,
            "message_id": str(messages[place].get("messageId"))[:MAX_MESSAGE_ID],
            "user": messages[place].get("userId") if isinstance(messages[place].get("userId"), str) else None,
            "payload": quarantine.payload(messages[place]),
        }
        for place, detail in oversize.items()
    )


def _place(name: str, places: Sequence[int]) -> pl.Expr:
    """A column of places among the messages looked at, as places among all."""
    return pl.col(name).replace_strict(dict(enumerate(places)), default=None, return_dtype=pl.Int64)


def _placed(frame: pl.DataFrame, places: Sequence[int]) -> pl.DataFrame:
    return frame.with_columns(_place("row", places))


def failure(refused: Refused) -> Mapping[str, object]:
    """A refused message as strict callers see it."""
    return {
        "index": refused.index,
        "messageId": refused.message_id,
        "field": refused.field,
        "reason": refused.reason,
    }
