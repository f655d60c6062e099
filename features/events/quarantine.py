"""Quarantine: rows that cannot be used, each with its reason, place and payload; no direct identifier in the clear."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import polars as pl

from features.events.plan import TrackingPlan
from features.events.values import sound
from features.people import pseudonym

SCHEMA: Mapping[str, pl.DataType] = {
    "reason": pl.String(),  # one of REASONS
    "detail": pl.String(),  # the field, and what was wrong with it
    "source": pl.String(),
    "file": pl.String(),
    "row": pl.Int64(),
    "event": pl.String(),
    "message_id": pl.String(),
    "user": pl.String(),  # pseudonym of the user id, so that erasure finds the row
    "anonymous": pl.String(),  # pseudonym of the anonymous id
    "ts": pl.Int64(),
    "payload": pl.String(),  # JSON
}

REASONS: Mapping[str, str] = {
    "bad_json": "the line is not a JSON object",
    "bad_row": "the row has more or fewer fields than the header",
    "oversize": "the message is larger than the door takes",
    "bad_type": "the message's type is not one we know",
    "no_event": "the row names no event",
    "unknown_event": "the plan does not declare the event",
    "bad_timestamp": "the time cannot be read",
    "mixed_zones": "the time names a zone where the file's first does not, or the other way round",
    "too_old": "the event is from before 2000",
    "in_future": "the event lies more than a day after its arrival",
    "no_user": "the row names nobody",
    "denied_id": "the id is one that stands for nobody, such as null or 0",
    "long_id": "an id is longer than 256 characters",
    "bad_value": "a property's value does not fit its type",
    "out_of_range": "a number is below the plan's min or above its max",
    "not_allowed": "a value is not among the plan's allowed ones",
    "too_large": "a number in state's units exceeds 2^53, beyond which integers are not exact",
    "missing_value": "a property is missing whose policy is to discard the event",
}

MAX_PAYLOAD = 32_768
MAX_TEXT = 1_024
_NAMES = (
    *("email", "e_mail", "mail", "phone", "mobile", "fax", "ip_addr", "ipaddr", "remote_addr", "address", "street"),
    *("first_name", "firstname", "last_name", "lastname", "full_name", "fullname", "surname", "birth", "passw", "ssn"),
    *("iban", "card_number", "cardnumber"),
)
"""A field whose name holds one of these is taken to be a direct identifier, as is one called `ip`."""

_DIRECT = re.compile(
    r"(?<![\w.+%-])[\w.+%-]+@[\w-]+(?:\.[\w-]+)+"  # e-mail; tried once a word, so that time stays linear
    r"|(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])"  # IPv4
    r"|(?<![\w:])(?:[0-9a-fA-F]{0,4}:){3,7}[0-9a-fA-F]{0,4}(?![\w:])"  # IPv6
    r"|\+\d[\d ().-]{6,}\d"  # phone with country code
    r"|(?<!\d)\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?!\d)"  # phone, North America
)

_LIKELY = r"@|\d\.\d{1,3}\.|(?:[0-9a-f]{0,4}:){3}|\+\d|\d{3}\)?[ .-]\d{3}[ .-]\d{4}"
"""What every identifier holds that `_DIRECT` finds, for a first look at many payloads at once."""

_TEXTS = ("detail", "event", "message_id")
_IDS = ("user", "anonymous")


def empty() -> pl.DataFrame:
    """A quarantine of no rows."""
    return pl.DataFrame(schema=dict(SCHEMA))


def rejects(rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows as a quarantine frame; what a row does not say is null. Ids and payload are still as they came: `seal`."""
    return pl.DataFrame([{name: row.get(name) for name in SCHEMA} for row in rows], schema=dict(SCHEMA))


def payload(value: object) -> str:
    """A row as JSON."""
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError):  # what JSON cannot say: halves of characters, other types
        return sound(json.dumps(value, default=str, ensure_ascii=False, skipkeys=True))


def broken(line: bytes) -> str:
    """The payload of a line that is no JSON."""
    return payload({"line": line[:MAX_PAYLOAD].decode(errors="replace")})


def seal(frame: pl.DataFrame, plan: TrackingPlan, key: bytes) -> pl.DataFrame:
    """The same rows with ids as pseudonyms and payloads without direct identifiers: fit to be written.

    What the plan marks personal is pseudonymised or dropped as it says; elsewhere e-mail addresses, phone numbers, IP
    addresses and values under such names are replaced by their pseudonyms.
    """
    if frame.is_empty():
        return frame
    scrubber = Scrubber(plan, key)
    names = {name.lower() for name in [*scrubber.personal, *_NAMES, '"ip"', "\\"]}
    low = pl.col("payload").str.to_lowercase()
    suspect = low.str.contains_any(list(names)) | low.str.contains(_LIKELY) | (low.str.len_bytes() > MAX_PAYLOAD)
    texts = [_changed(frame[name], frame[name].str.len_bytes() > 0, scrubber.text) for name in _TEXTS]
    ids = [_changed(frame[name], frame[name].is_not_null(), lambda each: pseudonym(key, each)) for name in _IDS]
    return frame.with_columns(
        *texts, *ids, _changed(frame["payload"], frame.select(suspect).to_series(), scrubber.payload)
    )


def _changed(column: pl.Series, where: pl.Series, change: Callable[[str], str]) -> pl.Series:
    """The column with some of its texts changed, each distinct one once."""
    texts = column.filter(where).unique().drop_nulls()
    return column.replace(texts, pl.Series([change(text) for text in texts], dtype=pl.String))


class Scrubber:
    """Takes direct identifiers out of what is kept beside the plan: quarantined rows, undeclared properties."""

    def __init__(self, plan: TrackingPlan, key: bytes) -> None:
        self.personal = {name: spec.personal for name, spec in plan.properties.items() if spec.personal != "no"}
        self._key = key
        names = "|".join(re.escape(name) for name in [*self.personal, *_NAMES, "ip"])
        value = r'("(?:[^"\\]|\\.)*"?|[^,}\]\s]+)'
        self._pairs = re.compile(rf'"([^"]{{0,80}}(?:{names})[^"]{{0,80}})"(\s*:\s*){value}', re.IGNORECASE)

    def payload(self, text: str) -> str:
        """A JSON payload; one that is no JSON is searched as text."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return self._line(text)
        scrubbed = payload(self._value(value))
        return scrubbed if len(scrubbed) <= MAX_PAYLOAD else json.dumps({"cut": scrubbed[:MAX_PAYLOAD]})

    def text(self, text: str) -> str:
        """Free text: e-mail addresses, phone numbers and IP addresses become pseudonyms."""
        return _DIRECT.sub(lambda match: self._hidden(match[0]), _cut(text, MAX_TEXT))

    def _line(self, text: str) -> str:
        cut = self._pairs.sub(
            lambda match: f'"{match[1]}"{match[2]}"{self._hidden(match[3])}"', _cut(text, MAX_PAYLOAD)
        )
        return _DIRECT.sub(lambda match: self._hidden(match[0]), cut)

    def _value(self, value: object, name: str = "") -> object:
        if isinstance(value, dict):
            return {
                self.text(str(key)): self._value(each, str(key))
                for key, each in value.items()
                if self.personal.get(str(key)) != "drop"
            }
        if isinstance(value, list):
            return [self._value(each, name) for each in value]
        if value is None or isinstance(value, bool):
            return value
        if name == "line" and isinstance(value, str):
            return self._line(value)
        if self._telling(name):
            return self._hidden(str(value))
        return self.text(value) if isinstance(value, str) else value

    def _telling(self, name: str) -> bool:
        low = name.lower()
        return low == "ip" or name in self.personal or any(each in low for each in _NAMES)

    def _hidden(self, value: str) -> str:
        return pseudonym(self._key, value)


def _cut(text: str, size: int) -> str:
    """The beginning, without an address that the cut would leave half of."""
    if len(text) <= size:
        return text
    kept = text[:size]
    start = max(kept.rfind(mark) for mark in " \"',;:<>()[]{}\n")
    return kept[: start + 1] if "@" in kept[start + 1 :] else kept
