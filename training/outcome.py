"""Outcome: one number per row as of an instant, which labels and populations ask of histories of a wider schema."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.behaviour.schema import FIRST_PROPERTY, KNOWN, StateSchema
from features.errors import SchemaError
from features.segments.segment_set import SegmentSet
from training.model import Model

Numbers = NDArray[np.float64]


class Source(Protocol):
    """What gives the numbers."""

    @property
    def schema(self) -> StateSchema:
        """What histories must hold for it."""

    @property
    def told(self) -> str:
        """Which version of what it asks; empty for plain events."""

    @property
    def classes(self) -> tuple[str, ...]:
        """What its numbers are called, where they are places."""

    def numbers(self, histories: Histories, at: NDArray[np.int64], *, blind_spot: int = 0) -> Numbers:
        """One number a row.

        Args:
            histories: Rows, with every event in `slots`.
            at: Shape (n_rows,), microseconds UTC.
            blind_spot: How much later than it happened an event may become known and still count.
        """


@dataclass(frozen=True)
class Outcome:
    """A count or sum: the first column of its feature set."""

    features: FeatureSet
    told: str = ""
    classes: tuple[str, ...] = ()

    @property
    def schema(self) -> StateSchema:
        """The feature set's."""
        return self.features.schema

    def numbers(self, histories: Histories, at: NDArray[np.int64], *, blind_spot: int = 0) -> Numbers:
        """The count or sum as of `at`, of events known by `at + blind_spot`."""
        return self.features.compute(_seen(histories, self.schema, blind_spot), at).values[:, 0]


@dataclass(frozen=True)
class Membership:
    """A registered model of clusters, over the features that it was trained on.

    Attributes:
        features: The model's.
        model: Of `kind: clusters`.
        wanted: Numbers of the clusters that count as inside; none: it is asked which cluster.
        version: Of the registered model.
    """

    features: FeatureSet
    model: Model
    wanted: NDArray[np.int64]
    version: int

    @property
    def schema(self) -> StateSchema:
        """The features'."""
        return self.features.schema

    @property
    def told(self) -> str:
        """The model's version."""
        return f"version {self.version}"

    @property
    def classes(self) -> tuple[str, ...]:
        """The clusters' names."""
        return () if len(self.wanted) else self.model.names

    def numbers(self, histories: Histories, at: NDArray[np.int64], *, blind_spot: int = 0) -> Numbers:
        """1, or which, where a request at `at`, knowing events known by `at + blind_spot`, is answered so."""
        matrix = self.features.compute(_seen(histories, self.schema, blind_spot), at)
        answered = self.model.score(matrix).column()
        return (np.isin(answered, self.wanted) if len(self.wanted) else answered).astype(np.float64)


@dataclass(frozen=True)
class Truth:
    """A declared segment over the features that it may ask.

    Attributes:
        features: The project's.
        segments: The project's.
        name: Of the segment.
    """

    features: FeatureSet
    segments: SegmentSet
    name: str
    classes: tuple[str, ...] = ()

    @cached_property
    def schema(self) -> StateSchema:
        """What features and segments need."""
        return self.features.schema.union(self.segments.schema)

    @property
    def told(self) -> str:
        """The digest of everything that the segment's truth depends on."""
        return f"definition {self.segments.segment(self.name).version}"

    @cached_property
    def _ready(self) -> tuple[FeatureSet, SegmentSet]:
        return self.features.on(self.schema), self.segments.on(self.schema)

    def numbers(self, histories: Histories, at: NDArray[np.int64], *, blind_spot: int = 0) -> Numbers:
        """1 where the segment is true as of `at`, knowing what becomes known by `at + blind_spot`."""
        features, segments = self._ready
        held = _seen(histories, self.schema, blind_spot)
        truths = segments.evaluate(held, at, features=features.compute(held, at))
        return truths.column(self.name).astype(np.float64)


def _seen(histories: Histories, schema: StateSchema, blind_spot: int) -> Histories:
    """The histories under a schema, every event known earlier by the blind spot."""
    own = narrowed(histories, schema)
    if not blind_spot:
        return own
    slots = own.slots.copy()
    slots[:, KNOWN] -= blind_spot
    return replace(own, slots=slots)


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
