"""Tracking plan: which events and properties there are, their types and units, and what is personal."""

import json
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property, lru_cache
from ipaddress import ip_network
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from features.document import Definition, parsed, text_of, validated
from features.errors import PlanError, nearest
from features.events.devices import BROWSERS, LABELS
from features.files import rewrite

RESERVED = ("identify", "alias")
"""Events that join ids and carry traits; every plan has them. Their codes are 1 and 2."""


class Purpose(StrEnum):
    """What a person may consent to. In consent masks the first is bit 0."""

    ANALYTICS = "analytics"
    PERSONALISATION = "personalisation"
    MODEL_TRAINING = "model_training"

    @property
    def bit(self) -> int:
        """This purpose's place in a consent mask."""
        return 1 << list(Purpose).index(self)


ALL_PURPOSES = 7


class PropertySpec(Definition):
    """One property. Numbers live in state as integers: `round(value * scale)`.

    Attributes:
        context: Where a Segment message's context says it, such as `campaign.source` or `location.country`.
        place: Where the project's database of places says it, of the address that an event came from, such as
            `country.iso_code`; what the event says itself goes before.
        scored: A text of the same event, which cleaning reads: `{sentiment: review}` is a number from -1 to 1,
            `{topic: review}` one of the plan's `topics`.
    """

    type: Literal["number", "money", "category", "text", "flag", "time"]
    description: str = ""
    unit: str = ""
    scale: int | None = Field(None, ge=1, le=10**9)
    personal: Literal["no", "pseudonymise", "drop"] = "no"
    missing: Literal["keep", "default", "flag", "discard"] = "keep"
    default: float | str | bool | None = None
    min: float | None = None
    max: float | None = None
    allowed: tuple[str, ...] | None = None
    context: str = Field("", pattern=r"^([A-Za-z_]+(\.[A-Za-z_]+)*)?$")
    place: str = Field("", pattern=r"^([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)?$")
    scored: dict[Literal["sentiment", "topic"], str] = Field({}, max_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.missing == "default" and self.default is None:
            raise ValueError("`missing: default` needs a `default`")
        if self.scale is not None and self.type not in ("number", "money"):
            raise ValueError(f"`scale` is for numbers and money, not for {self.type}")
        if self.default is not None and not self._fits(self.default):
            raise ValueError(f"the default {self.default!r} is no {self.type}")
        if self.allowed is not None and self.type not in ("category", "text"):
            raise ValueError(f"`allowed` is for categories and texts, not for {self.type}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"`min` {self.min} is above `max` {self.max}")
        if (self.min is not None or self.max is not None) and not self.numeric:
            raise ValueError(f"`min` and `max` are for numbers, money and times, not for {self.type}")
        if self.personal == "pseudonymise" and self.type != "text":
            raise ValueError("only `type: text` can be pseudonymised; `personal: drop` works for every type")
        if "sentiment" in self.scored and (self.type != "number" or self.factor < 100):
            raise ValueError("`scored: {sentiment: ...}` is a `number` with two decimals at least. Hint: `scale: 1000`")
        if "topic" in self.scored and self.type != "category":
            raise ValueError("`scored: {topic: ...}` is a `category`")
        if self.place and (self.type != "category" or self.scored):
            raise ValueError("`place` is a `category`, and not scored")
        if (self.place or self.scored) and self.missing == "discard":
            raise ValueError("`missing: discard` asks what an event says itself, not what is found out about it")
        return self

    def _fits(self, value: float | str | bool) -> bool:
        if self.type == "flag":
            return isinstance(value, bool)
        return (
            isinstance(value, int | float) and not isinstance(value, bool) if self.numeric else isinstance(value, str)
        )

    @property
    def numeric(self) -> bool:
        """Whether the log holds it as float64 (else: text, or Boolean for flags)."""
        return self.type in ("number", "money", "time")

    @property
    def identity(self) -> tuple[object, ...]:
        """What one name means in every event that has it."""
        return self.type, self.factor, self.personal, self.place, *self.scored.items()

    @property
    def factor(self) -> int:
        """State integer = round(value * factor): minor units for money, microseconds for times (given in seconds)."""
        if self.type == "time":
            return 1_000_000
        return self.scale or (100 if self.type == "money" else 1)


CONTEXT: Mapping[str, PropertySpec] = {
    "device": PropertySpec(type="category", allowed=LABELS, description="From the user agent."),
    "browser": PropertySpec(type="category", allowed=BROWSERS, description="From the user agent."),
}
"""What every event may say beside its own properties: columns of the log that are no `p_*`."""


class EventSpec(Definition):
    """One event and the properties it carries."""

    description: str = ""
    properties: dict[str, PropertySpec] = {}


class Rates(Definition):
    """The too-fast rule: more than `events` of one visitor within `seconds` is no person."""

    events: int = Field(50, ge=1)
    seconds: int = Field(1, ge=1)


class ConsentSpec(Definition):
    """What holds for a person who has said nothing."""

    default: tuple[Purpose, ...] = tuple(Purpose)

    @property
    def mask(self) -> int:
        """The default as bits."""
        return sum({purpose.bit for purpose in self.default})


class TrackingPlan(Definition):
    """`plan.yaml`."""

    version: int = Field(1, ge=1, le=1)
    events: dict[str, EventSpec]
    traits: dict[str, PropertySpec] = {}
    topics: dict[str, dict[str, float]] = {}
    undeclared: Literal["drop", "keep"] = "drop"
    addresses: tuple[str, ...] = ()
    too_fast: Rates | None = Rates()
    consent: ConsentSpec = ConsentSpec()

    @field_validator("addresses")
    @classmethod
    def _networks(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            try:
                ip_network(address, strict=False)
            except ValueError:
                raise ValueError(f"{address!r} is no address and no network. Hint: such as 10.0.0.0/8.") from None
        return addresses

    @model_validator(mode="after")
    def _one_meaning_per_property(self) -> Self:
        for name in RESERVED:
            if name in self.events:
                raise ValueError(f"the event {name!r} is built in; declare what it carries under `traits`")
        for name in CONTEXT:
            if any(name in spec.properties for spec in self._specs.values()):
                raise ValueError(f"the property {name!r} is built in, every event has it. Hint: use another name")
        seen: dict[str, tuple[str, PropertySpec]] = {}
        for event, spec in self._specs.items():
            for name, prop in spec.properties.items():
                self._check_scored(event, name, prop)
                other, first = seen.setdefault(name, (event, prop))
                if first.identity != prop.identity:
                    raise ValueError(
                        f"property {name!r} means one thing in {other!r} and another in {event!r}. "
                        "Hint: give one of them another name."
                    )
        return self

    def _check_scored(self, event: str, name: str, prop: PropertySpec) -> None:
        for scorer, text in prop.scored.items():
            source = self._specs[event].properties.get(text)
            if source is None or source.type != "text":
                raise ValueError(f"{name!r} of {event!r} is scored from {text!r}, which is no text of that event")
            if scorer == "topic" and not self.topics:
                raise ValueError(f"{name!r} is scored by topics, and there are none. Hint: `topics:` names their words")

    @property
    def _specs(self) -> dict[str, EventSpec]:
        return {"identify": EventSpec(properties=self.traits), "alias": EventSpec(), **self.events}

    @staticmethod
    def read(path: Path | str) -> "TrackingPlan":
        """The plan in a file; the same text is understood once.

        Raises:
            PlanError: the file is absent or says something a plan cannot.
        """
        return _understood(Path(path).name, text_of(Path(path), PlanError))

    @cached_property
    def specs(self) -> dict[str, EventSpec]:
        """Every event with its properties, the built-in ones included."""
        return self._specs

    @cached_property
    def properties(self) -> dict[str, PropertySpec]:
        """Every property of every event, traits included, by name."""
        return {name: prop for spec in self.specs.values() for name, prop in spec.properties.items()}

    def event(self, name: str) -> EventSpec:
        """The event's declaration, or a PlanError with the nearest name."""
        if name not in self.specs:
            raise PlanError(f"unknown event {name!r}. {nearest(name, self.specs)}")
        return self.specs[name]

    def property(self, name: str, event: str | None = None) -> PropertySpec:
        """The property's declaration, or a PlanError with the nearest name."""
        declared = {**CONTEXT, **(self.properties if event in (None, "any") else self.event(str(event)).properties)}
        if name not in declared:
            of = f" of {event!r}" if event else ""
            raise PlanError(f"unknown property {name!r}{of}. {nearest(name, declared)}")
        return declared[name]


class Codes:
    """Event codes, append-only, kept in `plan.lock` beside the plan: a code never changes its meaning."""

    def __init__(self, codes: dict[str, int]) -> None:
        self.codes = codes

    @classmethod
    def of(cls, plan: TrackingPlan, path: Path | None = None) -> Self:
        """The plan's codes: those in the lock file, then new events in the plan's order. Does not write.

        Raises:
            PlanError: the lock is damaged, or the plan has more than 4,095 events.
        """
        known = _locked(path) if path is not None and path.exists() else {}
        codes = {**{name: place + 1 for place, name in enumerate(RESERVED)}, **known}
        for name in plan.specs:
            codes.setdefault(name, max(codes.values()) + 1)
        if max(codes.values()) > 4095:
            raise PlanError("a plan can have at most 4,095 events over its life")
        return cls(codes)

    def write(self, path: Path) -> None:
        """Store the codes beside the plan; the file is replaced whole."""
        text = json.dumps({"version": 1, "events": self.codes}, indent=1) + "\n"
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return
        rewrite(path, text)


@lru_cache(maxsize=16)
def _understood(name: str, text: str) -> TrackingPlan:
    return validated(TrackingPlan, parsed(text, name, PlanError), where=name, error=PlanError)


def _locked(path: Path) -> dict[str, int]:
    try:
        codes = json.loads(path.read_text(encoding="utf-8"))["events"]
        if len(set(codes.values())) == len(codes) and all(isinstance(code, int) for code in codes.values()):
            return dict(codes)
    except (ValueError, KeyError, AttributeError, TypeError):
        pass
    raise PlanError(f"{path.name} is damaged. Hint: restore it from git; codes must never change.")
