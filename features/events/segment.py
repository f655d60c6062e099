"""Segment-shaped messages: track, page, screen, identify, group and alias as events; also what our own door takes."""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import polars as pl

from features.errors import EthogramError
from features.events import quarantine
from features.events.batch import FIELDS, PREFIX, EventBatch, property_type
from features.events.plan import PropertySpec, Purpose, TrackingPlan
from features.events.values import READERS, instant, offset, sound
from features.instants import MINUTE, zone_offsets

TYPES = ("track", "page", "screen", "identify", "group", "alias")
VIEWS: Mapping[str, tuple[str, ...]] = {
    "page": ("page", "page_view", "page_viewed", "Page Viewed"),
    "screen": ("screen", "screen_view", "screen_viewed", "Screen Viewed"),
    "group": ("group",),
}
"""The event that a message without a name of its own becomes: the first that the plan declares."""

MAX_SPELT = 10_000
PAGE_FIELDS = ("path", "referrer", "search", "title", "url")
_PURPOSES = {
    **{purpose.value: purpose for purpose in Purpose},
    "personalization": Purpose.PERSONALISATION,
    "modelTraining": Purpose.MODEL_TRAINING,
}


class _UnusableError(EthogramError):
    """Why a message cannot become an event: a reason code and a detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def segment_messages(
    messages: Iterable[Any],
    plan: TrackingPlan,
    *,
    received: int | None,
    source: str = "segment",
    blind_spot: int = 0,
    first_row: int = 0,
) -> EventBatch:
    """Messages as a batch; those that cannot be read are in `batch.rejected`, with `row` = their place.

    Time is corrected the Segment way: `ts = received - (sentAt - originalTimestamp)`.

    Args:
        messages: Parsed JSON objects; a `batch` message stands for those in it. Bytes are a line that is no JSON.
        plan: Declares events and properties; `Order Completed` also finds `order_completed`.
        received: When they arrived, microseconds UTC; None: each message's own `receivedAt`, else ts + `blind_spot`.
        source: Where they came from.
        blind_spot: Microseconds by which an event without an arrival is taken to have been known later.
        first_row: The place of the first message.
    """
    reader = _Reader(plan, received, source, blind_spot)
    for place, message in enumerate(messages, start=first_row):
        for each in unfolded(message):
            reader.read(each, place)
    return reader.batch()


def unfolded(message: Any) -> Sequence[Any]:  # noqa: ANN401 - whatever JSON held
    """A batch message's own messages, each with the batch's context and sentAt; any other message as it is."""
    if not isinstance(message, dict) or not isinstance(message.get("batch"), list):
        return [message]
    if message.get("type") not in (None, "batch"):
        return [message]
    shared = message.get("context")
    merged = []
    for each in message["batch"]:
        if isinstance(each, dict):
            own = each.get("context")
            context = {**(shared if isinstance(shared, dict) else {}), **(own if isinstance(own, dict) else {})}
            outer = {name: message[name] for name in ("sentAt", "receivedAt") if message.get(name) is not None}
            merged.append({**outer, **each, "context": context})
        else:
            merged.append(each)
    return merged


class _Reader:
    """Collects rows, rejected rows and counts."""

    def __init__(self, plan: TrackingPlan, received: int | None, source: str, blind_spot: int) -> None:
        self._plan = plan
        self._received = received
        self._source = source
        self._blind_spot = blind_spot
        self._names = {_plain(name): name for name in plan.specs}
        self._spelt: dict[str, str | None] = {}
        self._rows: list[dict[str, Any]] = []
        self._rejected: list[dict[str, Any]] = []
        self._undeclared: Counter[str] = Counter()

    def read(self, message: Any, place: int) -> None:  # noqa: ANN401 - whatever JSON held
        try:
            if not isinstance(message, dict):
                raise _UnusableError("bad_json", "message: not an object")
            self._rows.append(self._row(message, place))
        except _UnusableError as problem:
            self._reject(message, place, problem)

    def _row(self, message: dict[str, Any], place: int) -> dict[str, Any]:
        event = self._event(message)
        context = message.get("context")
        context = context if isinstance(context, dict) else {}
        ts, received = self._times(message)
        return {
            "source": self._source,
            "message_id": _text(message, "messageId"),
            "event": event,
            "user_id": _text(message, "userId"),
            "anonymous_id": _text(message, "anonymousId"),
            "previous_id": _text(message, "previousId") if event == "alias" else None,
            "ts": ts,
            "received": received,
            "seq": place,
            "offset": _offset(message, context, ts),
            "consent": consent_mask(context.get("consent"), self._plan),
            "user_agent": _text(context, "userAgent"),
            "ip": _text(context, "ip"),
            "row": place,
            **self._properties(message, event, context),
        }

    def _event(self, message: dict[str, Any]) -> str:
        kind = message.get("type", "track" if message.get("event") else None)
        if kind not in TYPES:
            raise _UnusableError("bad_type", f"type: {sound(str(kind)[:64])}")
        if kind in ("identify", "alias"):
            return str(kind)
        if kind == "track":
            name = message.get("event")
            if not isinstance(name, str) or not name:
                raise _UnusableError("no_event", "event")
            known = self._known(name)
            if known is None or known in ("identify", "alias"):
                raise _UnusableError("unknown_event", f"event: {sound(name[:256])}")
            return known
        declared = [name for name in VIEWS[str(kind)] if name in self._plan.specs]
        if not declared:
            raise _UnusableError("unknown_event", f"type: {kind}")
        return declared[0]

    def _known(self, name: str) -> str | None:
        """The plan's event of this name, also where it is only written in another way."""
        if name not in self._spelt and len(self._spelt) < MAX_SPELT:
            self._spelt[name] = name if name in self._plan.specs else self._names.get(_plain(name))
        return self._spelt.get(name) or self._names.get(_plain(name))

    def _times(self, message: dict[str, Any]) -> tuple[int, int]:
        happened = _instant(message, "originalTimestamp", "timestamp")
        sent = _instant(message, "sentAt")
        arrived = self._received if self._received is not None else _instant(message, "receivedAt")
        if arrived is None:
            if happened is None and sent is None:
                raise _UnusableError("bad_timestamp", "timestamp: missing")
            ts = happened if happened is not None else int(sent or 0)
            return ts, ts + self._blind_spot
        if happened is None:
            return arrived, arrived
        return (arrived - (sent - happened) if sent is not None else happened), arrived

    def _properties(self, message: dict[str, Any], event: str, context: dict[str, Any]) -> dict[str, Any]:
        given = message.get("traits" if event == "identify" or message.get("type") == "group" else "properties") or {}
        if not isinstance(given, dict):
            raise _UnusableError("bad_value", "properties: not an object")
        declared = self._plan.specs[event].properties
        values: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for name, value in [*self._beside(message, context, declared), *given.items()]:
            if name not in declared:
                self._undeclared[sound(str(name))] += 1
                extra[name] = value
            elif value is not None:
                values[PREFIX + name] = self._value(name, value)
        kept = self._plan.undeclared == "keep" and extra
        return {**values, "extra": quarantine.payload(extra)} if kept else values

    def _beside(
        self, message: dict[str, Any], context: dict[str, Any], declared: Mapping[str, PropertySpec]
    ) -> list[tuple[str, Any]]:
        """What a message says outside its properties, where the plan asks for it."""
        kind = message.get("type")
        page = context.get("page")
        beside = (
            [("name", message.get("name")), ("group_id", message.get("groupId"))] if kind not in (None, "track") else []
        )
        if kind == "page" and isinstance(page, dict):
            beside += [(name, page.get(name)) for name in PAGE_FIELDS]
        beside += [(name, _inside(context, spec.context)) for name, spec in declared.items() if spec.context]
        return [(name, value) for name, value in beside if name in declared and value is not None]

    def _value(self, name: str, value: object) -> object:
        kind = self._plan.properties[name].type
        try:
            return READERS[kind](value)
        except (ValueError, OverflowError):
            raise _UnusableError("bad_value", f"{name}: no {kind}") from None

    def _reject(self, message: Any, place: int, problem: _UnusableError) -> None:  # noqa: ANN401 - whatever JSON held
        known = message if isinstance(message, dict) else {}
        self._rejected.append(
            {
                "reason": problem.reason,
                "detail": problem.detail,
                "source": self._source,
                "row": place,
                "event": _name(known.get("event")),
                "message_id": _name(known.get("messageId")),
                "user": _name(known.get("userId")),
                "anonymous": _name(known.get("anonymousId")),
                "payload": quarantine.broken(message) if isinstance(message, bytes) else quarantine.payload(message),
            }
        )

    def batch(self) -> EventBatch:
        properties = sorted({name for row in self._rows for name in row if name.startswith(PREFIX)})
        types = {name: property_type(self._plan, name.removeprefix(PREFIX)) for name in properties}
        columns = {
            name: pl.Series(name, [row.get(name) for row in self._rows], dtype=dtype)
            for name, dtype in [*FIELDS.items(), *types.items()]
        }
        rejected = quarantine.rejects(self._rejected)
        return EventBatch(pl.DataFrame(columns), self._plan, rejected=rejected, undeclared=self._undeclared)


def consent_mask(consent: object, plan: TrackingPlan) -> int | None:
    """Segment's consent object as a mask of purposes; a purpose of which it says nothing has the plan's default."""
    said = consent.get("categoryPreferences") if isinstance(consent, dict) else None
    if not isinstance(said, dict):
        return None
    known = {_PURPOSES[name]: value for name, value in said.items() if name in _PURPOSES and isinstance(value, bool)}
    if not known:
        return None
    return sum(purpose.bit for purpose in Purpose if known.get(purpose, bool(plan.consent.mask & purpose.bit)))


def _inside(value: Any, path: str) -> Any:  # noqa: ANN401 - whatever JSON held
    """What a path such as `campaign.source` leads to; None where it leads nowhere."""
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _plain(name: str) -> str:
    return re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_")


def _name(value: object) -> str | None:
    return None if value is None or isinstance(value, dict | list) else sound(str(value))


def _text(message: dict[str, Any], name: str) -> str | None:
    value = message.get(name)
    if value is None:
        return None
    try:
        return str(READERS["text"](value))
    except ValueError as problem:
        raise _UnusableError("bad_value", f"{name}: {problem}") from None


def _instant(message: dict[str, Any], *names: str) -> int | None:
    for name in names:
        if message.get(name) is not None:
            try:
                return instant(message[name])
            except (ValueError, OverflowError):
                raise _UnusableError("bad_timestamp", f"{name}: {message[name]!r:.64}") from None
    return None


def _offset(message: dict[str, Any], context: dict[str, Any], ts: int) -> int | None:
    steps = _zone(context.get("timezone"))
    if steps is not None:
        starts, minutes = steps
        return minutes[bisect_right(starts, ts) - 1]
    return offset(message.get("originalTimestamp", message.get("timestamp")))


def _zone(name: object) -> tuple[list[int], list[int]] | None:
    """Where the offset of a zone changes, and its minutes from there on; None for what is no zone."""
    return _steps(name) if isinstance(name, str) and name else None


@lru_cache(maxsize=1024)
def _steps(zone: str) -> tuple[list[int], list[int]] | None:
    try:
        starts, offsets = zone_offsets(zone)
    except (KeyError, ValueError, OSError):
        return None
    return starts.tolist(), (offsets // MINUTE).tolist()
