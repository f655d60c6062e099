"""State schema: what of an event a state keeps, and in which slots; a state is never read under another schema."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from json import dumps
from typing import Any, Self

import numpy as np
import polars as pl
from msgspec import convert
from numpy.typing import NDArray

from features.behaviour.kinds import Kind
from features.errors import DefinitionError, SchemaError, nearest
from features.events.batch import PREFIX
from features.events.plan import ALL_PURPOSES, CONTEXT, TrackingPlan
from features.instants import DAY, NEVER, zone_offsets
from features.people import distinct, hashes, per_category

TS, KNOWN, ID, HEAD, FIRST_PROPERTY = range(5)
"""The slots of an event. HEAD packs, from the top: seq (34 bits), flags (2), consent (4), offset (11), code (12)."""

MISSING = np.iinfo(np.int64).min
"""A property that the event does not carry."""

CODE_BITS, OFFSET_BITS, CONSENT_BITS, FLAG_BITS = 12, 11, 4, 2
CODE_MASK = (1 << CODE_BITS) - 1
OFFSET_SHIFT = CODE_BITS
OFFSET_ZERO = 1 << (OFFSET_BITS - 1)
CONSENT_SHIFT = OFFSET_SHIFT + OFFSET_BITS
CONSENT_SAID = 8  # beside the three purposes: this event says something about consent
FLAG_SHIFT = CONSENT_SHIFT + CONSENT_BITS
REMOVED = 1  # flag: this record takes back, from `known` on, the event with the same (ts, seq, id)
SEQ_SHIFT = FLAG_SHIFT + FLAG_BITS
SEQ_MASK = (1 << (63 - SEQ_SHIFT)) - 1


@dataclass(frozen=True)
class Lifetime:
    """One value that the carry holds: a fold over all events of one kind.

    Attributes:
        kind: Which events.
        what: count, sum, min, max, first, last.
        property: What is folded; empty for counts and instants.
    """

    kind: Kind
    what: str
    property: str = ""


@dataclass(frozen=True)
class StateSchema:
    """The properties that definitions use, the horizon, the bound, the event codes and the carried folds.

    Attributes:
        properties: Names in slot order; the first has slot FIRST_PROPERTY.
        kinds: Per property, its plan type; numbers are integers of `factors` (value * factor), text is a stable hash.
        codes: Event name to code.
        horizon: Microseconds; no window is longer.
        bounds: Newest events kept per event name; `bound` where a name has none of its own.
        lifetime: What the carry holds, in order.
        zone: The project's zone: calendar days are its days.
    """

    properties: tuple[str, ...]
    kinds: tuple[str, ...]
    factors: tuple[int, ...]
    codes: Mapping[str, int]
    horizon: int = 90 * DAY
    bound: int = 500
    bounds: Mapping[str, int] = field(default_factory=dict)
    lifetime: tuple[Lifetime, ...] = ()
    zone: str = "UTC"
    consent: int = ALL_PURPOSES

    @classmethod
    def of(cls, plan: TrackingPlan, codes: Mapping[str, int], properties: set[str], **options: Any) -> Self:  # noqa: ANN401 - the other fields
        """The schema for these properties of the plan; slots follow their names' order.

        Raises:
            DefinitionError: a bound is for an event that the plan does not know.
        """
        for event in options.get("bounds") or {}:
            if event not in plan.specs:
                raise DefinitionError(f"bounds: unknown event {event!r}. {nearest(event, plan.specs)}")
        names = tuple(sorted(properties))
        specs = [None if "|" in name else plan.property(name) for name in names]
        return cls(
            properties=names,
            kinds=tuple(spec.type if spec else "flag" for spec in specs),
            factors=tuple(spec.factor if spec and spec.numeric else 0 for spec in specs),
            codes=dict(codes),
            consent=plan.consent.mask,
            **options,
        )

    def to_dict(self) -> dict[str, object]:
        """Plain values: what the fingerprint covers."""
        return {
            "properties": [list(each) for each in zip(self.properties, self.kinds, self.factors, strict=True)],
            "codes": dict(self.codes),
            **self.rules,
            "lifetime": [[asdict(each.kind), each.what, each.property] for each in self.lifetime],
            "consent": self.consent,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The schema that `to_dict` described."""
        names, kinds, factors = zip(*data["properties"], strict=True) if data["properties"] else ((), (), ())
        options = {key: data[key] for key in ("codes", "horizon", "bound", "bounds", "zone", "consent")}
        lifetime = tuple(Lifetime(convert(kind, Kind), *rest) for kind, *rest in data["lifetime"])
        return cls(properties=tuple(names), kinds=tuple(kinds), factors=tuple(factors), lifetime=lifetime, **options)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over everything that gives a slot its meaning."""
        return sha256(dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def covers(self, other: "StateSchema") -> bool:
        """Whether histories of this schema hold all that `other` asks for, under the same rules."""
        mine, theirs = dict(self._typed), dict(other._typed)
        return self._rules == other._rules and mine | theirs == mine and set(other.lifetime) <= set(self.lifetime)

    def union(self, other: "StateSchema") -> "StateSchema":
        """One schema for the definitions of both.

        Raises:
            SchemaError: their codes, horizon, bounds, zone or consent differ.
        """
        if self._rules != other._rules:
            raise SchemaError("schemas with different codes, horizon, bounds, zone or consent have no union.")
        typed = sorted({**dict(self._typed), **dict(other._typed)}.items())
        return replace(
            self,
            properties=tuple(name for name, _ in typed),
            kinds=tuple(kind for _, (kind, _) in typed),
            factors=tuple(factor for _, (_, factor) in typed),
            lifetime=tuple(dict.fromkeys([*self.lifetime, *other.lifetime])),
        )

    @property
    def columns(self) -> list[str]:
        """The columns of a log frame that hold the properties."""
        return sorted({column_of(name) for name in self.properties})

    @property
    def _typed(self) -> list[tuple[str, tuple[str, int]]]:
        return list(zip(self.properties, zip(self.kinds, self.factors, strict=True), strict=True))

    @property
    def rules(self) -> dict[str, Any]:
        """What of a history counts, whatever is read of it."""
        return {"horizon": self.horizon, "bound": self.bound, "bounds": dict(self.bounds), "zone": self.zone}

    @property
    def _rules(self) -> tuple[object, ...]:
        return dict(self.codes), self.rules, self.consent

    @property
    def n_slots(self) -> int:
        """Slots of 8 bytes per event."""
        return FIRST_PROPERTY + len(self.properties)

    def slot(self, name: str) -> int:
        """The slot of a property."""
        if name not in self.properties:
            raise SchemaError(f"property {name!r} is not in the state schema {self.fingerprint}.")
        return FIRST_PROPERTY + self.properties.index(name)

    def factor(self, name: str) -> int:
        """What the property's integers are multiples of: value = integer / factor; 1 for counts, flags and texts."""
        return self.factors[self.properties.index(name)] or 1 if name else 1

    @property
    def n_codes(self) -> int:
        """One more than the highest event code."""
        return max(self.codes.values()) + 1

    def code(self, event: str) -> int:
        """The code of an event; 0 stands for any."""
        return 0 if event == "any" else self.codes[event]

    @property
    def code_bounds(self) -> NDArray[np.int64]:
        """The bound per event code, shape (highest code + 1,)."""
        bounds = np.full(self.n_codes, self.bound, np.int64)
        for event, bound in self.bounds.items():
            bounds[self.codes[event]] = bound
        return bounds

    @property
    def zone_steps(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The zone's offsets as a step function (see `instants.zone_offsets`)."""
        return zone_offsets(self.zone)

    def counting(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The events that histories keep: of a known kind, not marked, not removed before they were known."""
        told = []
        if frame["mark"].null_count() < frame.height:
            told.append(pl.col("mark").is_null())
        if "until" in frame.columns and frame["until"].null_count() < frame.height:
            told.append(pl.col("until").is_null() | (pl.col("known") < pl.col("until")))
        if not set(distinct(frame["event"])) <= set(self.codes):
            told.append(pl.col("event").is_in(list(self.codes)))
        return frame.filter(*told) if told else frame

    def encode(self, frame: pl.DataFrame) -> NDArray[np.int64]:
        """Records for the events of a log frame, in the frame's order, marked events left out.

        Args:
            frame: Columns event, ts, known, id, seq, offset, consent, mark, until (optional) and `p_<property>`;
                a property without a column is missing everywhere.

        Returns:
            Shape (n_records, n_slots). An event with an `until` is followed by the record that takes it back.
        """
        return self.records(self.counting(frame))

    def records(self, frame: pl.DataFrame) -> NDArray[np.int64]:
        """`encode` for a frame that has been through `counting`."""
        from features.behaviour.compiled import views
        from features.behaviour.gather import weave

        columns = [frame[name].to_numpy() for name in ("ts", "known", "id")]
        properties = zip(self.properties, self.kinds, self.factors, strict=True)
        columns += [self._heads(frame), *(np.asarray(self._property(frame, *each)) for each in properties)]
        slots = np.empty((frame.height, self.n_slots), np.int64)
        whole = [np.ascontiguousarray(column, np.int64) for column in columns]
        weave(views(whole), slots)
        return _with_removals(slots, frame)

    def _heads(self, frame: pl.DataFrame) -> NDArray[np.int64]:
        codes = per_category(frame["event"], lambda names: [self.codes[name] for name in names])
        offset = _figure(frame["offset"], OFFSET_ZERO, OFFSET_ZERO) << OFFSET_SHIFT
        consent = _figure(frame["consent"], CONSENT_SAID, 0) << CONSENT_SHIFT
        heads: NDArray[np.int64] = codes + (offset + consent + ((_figure(frame["seq"], 0, 0) & SEQ_MASK) << SEQ_SHIFT))
        return heads

    @staticmethod
    def _property(frame: pl.DataFrame, name: str, kind: str, factor: int) -> pl.Series | NDArray[np.int64]:
        test, column = name.partition("|")[2], column_of(name)
        if column not in frame.columns:
            return pl.repeat(MISSING, frame.height, dtype=pl.Int64, eager=True)
        if kind == "flag":
            values = _asked(frame[column].cast(pl.String), *test.split("|", 1)) if test else frame[column]
            return values.cast(pl.Int64).fill_null(MISSING)
        if factor:
            return (frame[column] * factor).round(mode="half_to_even").cast(pl.Int64).fill_null(MISSING)
        return hashes(frame[column])


def _figure(column: pl.Series, plus: int, absent: int) -> Any:  # noqa: ANN401 - one integer, or one per row
    """The column plus a number; most columns say the same everywhere, which spares passes over them."""
    if column.null_count() == len(column):
        return absent
    if not column.null_count() and column.min() == column.max():
        return int(column[0]) + plus
    return (column.cast(pl.Int64) + plus).fill_null(absent).to_numpy()


def column_of(name: str) -> str:
    """The column of a log frame that holds a property, or what a flag is derived from."""
    name = name.partition("|")[0]
    return name if name in CONTEXT else PREFIX + name


def _asked(texts: pl.Series, test: str, value: str) -> pl.Series:
    """What a text test says of every text."""
    if test == "starts_with":
        return texts.str.starts_with(value)
    if test == "ends_with":
        return texts.str.ends_with(value)
    return texts.str.contains(value, literal=test == "contains")


def _with_removals(slots: NDArray[np.int64], frame: pl.DataFrame) -> NDArray[np.int64]:
    if "until" not in frame.columns or frame["until"].null_count() == frame.height:
        return slots
    until = frame["until"].fill_null(NEVER).to_numpy()
    removed = np.flatnonzero(until != NEVER)
    records = slots[removed].copy()
    records[:, KNOWN] = until[removed]
    records[:, HEAD] |= REMOVED << FLAG_SHIFT
    return np.insert(slots, removed + 1, records, axis=0)
