"""Labels and populations: what is predicted and of whom, evaluated as features; there is one definition of counting."""

from dataclasses import dataclass, replace
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, model_validator

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.behaviour.schema import FIRST_PROPERTY, KNOWN, StateSchema
from features.document import Definition, Duration
from features.errors import SchemaError
from features.events.plan import Codes, TrackingPlan
from features.instants import DAY, format_duration

UNBOUNDED = 1 << 40
"""An outcome counts all events: the bound that keeps a state small is none of its business."""

EVER = "lifetime"


def _within(value: object) -> object:
    return None if value == EVER else value


class Condition(Definition):
    """`{did: EVENT, within: 30d}`: at least one such event in the window that ends at `at`; no `within` means ever."""

    did: str
    within: Annotated[Duration | None, BeforeValidator(_within)] = None

    def feature_set(self, plan: TrackingPlan, codes: Codes, *, zone: str) -> FeatureSet:
        """The one count behind the condition."""
        return _one({"count": [self.did]}, self.within, plan, codes, zone)

    def __str__(self) -> str:
        return f"did {self.did}" + (f" within {format_duration(self.within)}" if self.within else "")


class Label(Definition):
    """What is predicted, over the horizon H = `within` after `at`.

    `{did: EVENT, within: 7d}` is 1 where the event happens at least once. `{value: EVENT.property, within: 90d}` is the
    sum of the property; with `above: 100` it is 1 where the sum is larger.
    """

    did: str | None = None
    value: str | None = None
    within: Duration
    above: float | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.did is None) == (self.value is None):
            raise ValueError("a label is either `did: EVENT` or `value: EVENT.property`")
        if self.did is not None and self.above is not None:
            raise ValueError("`above` goes with `value`")
        return self

    @property
    def horizon(self) -> int:
        """H in microseconds."""
        return self.within

    @property
    def binary(self) -> bool:
        """Whether it is 0 or 1."""
        return self.did is not None or self.above is not None

    def __str__(self) -> str:
        what = f"did {self.did}" if self.did else f"value {self.value}"
        return (
            what
            + (f" above {self.above:g}" if self.above is not None else "")
            + f" within {format_duration(self.within)}"
        )

    def feature_set(self, plan: TrackingPlan, codes: Codes, *, zone: str) -> FeatureSet:
        """The one count or sum behind the label, over a window as long as H."""
        what: dict[str, object] = {"count": [self.did]} if self.did else {"sum": self.value}
        return _one(what, self.within, plan, codes, zone)

    def outcome(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """The label from the count or sum."""
        if not self.binary:
            return numbers
        return (numbers > (self.above or 0.0)).astype(np.float64)


def _one(what: dict[str, object], window: int | None, plan: TrackingPlan, codes: Codes, zone: str) -> FeatureSet:
    windows = [format_duration(window) if window else EVER]
    data = {"version": 1, "features": [{**what, "windows": windows}]}
    return FeatureSet.from_dict(data, plan, codes, horizon=window or DAY, bound=UNBOUNDED, zone=zone)


@dataclass(frozen=True)
class Outcome:
    """A label or condition made ready for a log: its feature set, read from histories of a wider schema."""

    features: FeatureSet

    def numbers(self, histories: Histories, at: NDArray[np.int64], *, blind_spot: int = 0) -> NDArray[np.float64]:
        """The count or sum as of `at`, of events known by `at + blind_spot`.

        Args:
            histories: Rows, with every event in `slots`.
            at: Shape (n_rows,), microseconds UTC.
            blind_spot: How much later than it happened an event may become known and still count.
        """
        own = narrowed(histories, self.features.schema)
        if blind_spot:
            slots = own.slots.copy()
            slots[:, KNOWN] -= blind_spot
            own = replace(own, slots=slots)
        return self.features.compute(own, at).values[:, 0]


def covers(schema: StateSchema, other: StateSchema) -> bool:
    """Whether records of `schema` hold all that `other` wants to know."""
    return dict(schema.codes) == dict(other.codes) and set(other.properties) <= set(schema.properties)


def narrowed(histories: Histories, schema: StateSchema) -> Histories:
    """The same events under another schema whose properties they hold.

    Raises:
        SchemaError: the histories lack a property, know other codes, or keep a part of the events in a carry.
    """
    held = histories.schema
    if held.fingerprint == schema.fingerprint:
        return histories
    if not covers(held, schema) or histories.carry is not None:
        raise SchemaError(f"histories of schema {held.fingerprint} cannot be read as {schema.fingerprint}.")
    places = [*range(FIRST_PROPERTY), *(held.slot(name) for name in schema.properties)]
    slots = histories.slots if places == list(range(held.n_slots)) else np.ascontiguousarray(histories.slots[:, places])
    return replace(histories, schema=schema, slots=slots)
