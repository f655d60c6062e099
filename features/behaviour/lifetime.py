"""Lifetime: folds of all that ever happened, and the carry that holds what lies behind the horizon."""

from collections.abc import Iterator

from features.behaviour.compiled import Floats, Ints, compiled, compiled_inside, place
from features.behaviour.declarations import Declaration, Listing
from features.behaviour.feature import LIFETIME, Feature
from features.behaviour.schema import MISSING, Lifetime, StateSchema
from features.behaviour.table import (
    CODE,
    COLUMN,
    FACTOR,
    NO_SLOT,
    SLOT,
    STAT,
    STREAM,
    TS_SLOT,
    Family,
    Source,
    Table,
    User,
    begin_of,
    end_of,
    put,
    value_at,
)
from features.behaviour.words import Names, Words
from features.instants import DAY, SECOND

STATS = ("count", "sum", "min", "max", "first", "last", "tenure")
COUNT, SUM, MIN, MAX, FIRST, LAST, TENURE = range(len(STATS))


class Tenure(Declaration):
    """`{tenure: any}`: seconds since the first one ever."""

    tenure: Names

    def features(self, words: Words) -> Iterator[Feature]:
        """`tenure_<event>_s`."""
        for name, kind in self.kinds(self.tenure, words):
            yield Feature(f"tenure_{name}_s", "lifetime", "tenure", name, kind)


class Trait(Listing):
    """`{trait: [country, newsletter]}`: the same as `last: identify.country` over `lifetime`."""

    trait: Names

    def features(self, words: Words) -> Iterator[Feature]:
        """`trait_<name>`."""
        for name, kind, prop in self.properties(tuple(f"identify.{each}" for each in self.trait), words):
            listed = self.listed(kind, prop, words)
            yield Feature(f"trait_{prop}", "lifetime", "last", name, kind, prop, LIFETIME, **listed)


@compiled
def boundary_of(at: int, horizon: int) -> int:
    """Up to where a carry may reach for features as of `at`: midnight UTC of (at - horizon)."""
    return (at - horizon) // DAY * DAY


def fold_of(feature: Feature) -> Lifetime:
    """What the carry has to hold for a life-time feature; the first event's instant for tenure."""
    what = "first" if feature.stat == "tenure" else feature.stat
    return Lifetime(feature.kind, what, feature.property)


def stream_of(fold: Lifetime, schema: StateSchema) -> Source:
    """The stream behind a fold; without a property, `first` folds instants and `count` counts events."""
    without = NO_SLOT if fold.what == "count" else TS_SLOT
    slot = schema.slot(fold.property) if fold.property else without
    return Source((fold.kind,), slot, STATS.index(fold.what))


def _source(feature: Feature, schema: StateSchema) -> Source:
    return stream_of(fold_of(feature), schema)


@compiled_inside
def fold(user: User, last: int, table: Table, carry: Ints, into: Ints) -> None:
    """Fold the events before the `last` upon `carry`, whose place 0 is its boundary, into `into`."""
    into[0] = carry[0]
    for stream in range(len(table.sources)):
        slot, kind, so_far = table.sources[place(stream), SLOT], table.sources[place(stream), CODE], carry[stream + 1]
        for j in range(begin_of(user, stream, table), end_of(user, stream, table)):
            k = user.members[place(j)]
            if k >= last:
                break
            value = 1 if slot == NO_SLOT else value_at(user, k, slot)
            if value == MISSING:
                continue
            if kind in (COUNT, SUM):
                so_far += value
            elif so_far == MISSING or kind == LAST:
                so_far = value
            elif kind == MIN:
                so_far = min(so_far, value)
            elif kind == MAX:
                so_far = max(so_far, value)
        into[stream + 1] = so_far


@compiled_inside
def lifetime(user: User, at: int, table: Table, out: Floats) -> None:
    """The carry, the unbounded past and the bounded present, folded in order."""
    fold(user, user.n, table, user.carry, user.folds)
    for k in range(len(table.features)):
        stat, factor = table.features[k, STAT], table.features[k, FACTOR]
        value = user.folds[table.features[k, STREAM] + 1]
        if stat == TENURE and value != MISSING:
            value, factor = at - value, SECOND
        put(out, place(table.features[k, COLUMN]), value, factor)


FAMILY = Family("lifetime", (Tenure, Trait), STATS, _source)
