"""Frequencies: the most frequent value, the share of the most frequent ones, the share of a given one."""

import re
from collections.abc import Iterator

import numpy as np
from pydantic import Field

from features.behaviour.compiled import Floats, compiled_inside, place
from features.behaviour.declarations import Listing, Spans
from features.behaviour.feature import Feature
from features.behaviour.gather import MIX, freed
from features.behaviour.schema import MISSING, StateSchema
from features.behaviour.table import (
    CODE,
    COLUMN,
    FACTOR,
    OPTION,
    PART,
    SLOT,
    STAT,
    Family,
    Source,
    Table,
    User,
    asked,
    begin_of,
    end_of,
    first_of,
    put,
    value_at,
)
from features.behaviour.where import number_of
from features.behaviour.words import Names, Words
from features.errors import DefinitionError

STATS = ("mode", "top_share", "share")
MODE = 0
COUNTED, GIVEN = 0, 1
"""A stream counts every value, or one given value, its option."""


class Frequencies(Listing):
    """`{mode: product_viewed.category, windows: [30d]}`, `{share: any.device, values: [mobile], windows: [30d]}`.

    `{top_share: product_viewed.category, k: 3, windows: [30d]}`. The mode of numbers and flags is the value itself,
    that of a category its place in a list. `share` has a feature for each of the `values`, of whatever type.
    """

    mode: Names = ()
    top_share: Names = ()
    k: int = Field(1, ge=1, le=100)
    share: Names = ()
    windows: Spans

    def features(self, words: Words) -> Iterator[Feature]:
        """`mode_<event>_<property>_<window>`, `top<k>_share_…`, `share_<event>_<property>_<value>_<window>`."""
        for text, window in self.windows:
            for name, kind, prop in self.properties(self.mode, words):
                listed = self.listed(kind, prop, words)
                full = f"mode_{name}_{prop}_{text}"
                yield Feature(full, "frequencies", "mode", name, kind, prop, window, **listed)
            for name, kind, prop in self.properties(self.top_share, words):
                full = f"top{self.k}_share_{name}_{prop}_{text}"
                yield Feature(full, "frequencies", "top_share", name, kind, prop, window, part=self.k, said=str(self.k))
            yield from self._shares(words, text, window)

    def _shares(self, words: Words, text: str, window: int) -> Iterator[Feature]:
        for name, kind, prop in self.properties(self.share, words):
            spec = words.spec(prop, kind)
            values = self.values or spec.allowed or ()
            if not values:
                raise DefinitionError(f"`share` of {name}.{prop} needs the values. Hint: `values: [...]` names them.")
            for value in values:
                option = round(number_of(prop, value, spec))
                full = f"share_{name}_{prop}_{_slug(value)}_{text}"
                said = repr(value)
                yield Feature(full, "frequencies", "share", name, kind, prop, window, option=option, said=said)


def _slug(value: object) -> str:
    return re.sub(r"\W+", "_", str(value).lower()).strip("_")


@compiled_inside
def frequencies(user: User, at: int, table: Table, out: Floats) -> None:
    """A pass a stream, from the newest event back; `heap` holds the count of each value, as they are met."""
    for stream in range(len(table.sources)):
        if table.sources[place(stream), CODE] == GIVEN:
            _given(user, stream, table, out)
        else:
            _counted(user, stream, table, out)


@compiled_inside
def _given(user: User, stream: int, table: Table, out: Floats) -> None:
    """The share of one value, the stream's option."""
    slot, given = table.sources[place(stream), SLOT], table.sources[place(stream), OPTION]
    total, matching, high = 0, 0, end_of(user, stream, table)
    for window in range(len(table.windows)):
        low = first_of(user, stream, window, table)
        for j in range(high - 1, low - 1, -1):
            value = value_at(user, user.members[place(j)], slot)
            total, matching = total + (value != MISSING), matching + (value == given)
        high = low
        begin, end = asked(stream, window, table)
        for each in range(begin, end):
            out[place(table.features[place(each), COLUMN])] = matching / total if total else np.nan


@compiled_inside
def _counted(user: User, stream: int, table: Table, out: Floats) -> None:
    """Every value's count, the greatest of them in order, and the value with the greatest.

    Of equally frequent values the newest counts: going back, it is the one that was met first.
    """
    slot, high = table.sources[place(stream), SLOT], end_of(user, stream, table)
    n_members = high - begin_of(user, stream, table)
    mask, era = freed(user.seats, user.era, n_members)
    total, n_met, most, first, mode, n_ranked = 0, 0, 0, 0, MISSING, min(_most_ranked(stream, table), n_members)
    ranked = user.spare[:n_ranked]
    ranked[:] = 0
    for window in range(len(table.windows)):
        low = first_of(user, stream, window, table)
        for j in range(high - 1, low - 1, -1):
            value = value_at(user, user.members[place(j)], slot)
            if value == MISSING:
                continue
            met = _met(user, mask, era, value, n_met)
            count = 1 if met == n_met else user.heap[place(met)] + 1
            user.heap[place(met)] = count
            n_met, total = max(n_met, met + 1), total + 1
            if count > most or (count == most and met < first):
                most, first, mode = count, met, value
            rank = 0
            while rank < n_ranked and ranked[place(rank)] != count - 1:
                rank += 1
            if rank < n_ranked:
                ranked[place(rank)] = count
        high = low
        begin, end = asked(stream, window, table)
        for each in range(begin, end):
            k = place(each)
            column = place(table.features[k, COLUMN])
            if table.features[k, STAT] == MODE:
                put(out, column, mode, table.features[k, FACTOR])
                continue
            among = 0
            for rank in range(min(table.features[k, PART], n_ranked)):
                among += ranked[place(rank)]
            out[column] = among / total if total else np.nan


@compiled_inside
def _most_ranked(stream: int, table: Table) -> int:
    """How many counts the features of a stream ask for at most."""
    begin, _ = asked(stream, 0, table)
    _, end = asked(stream, len(table.windows) - 1, table)
    n = 0
    for each in range(begin, end):
        n = max(n, table.features[place(each), PART])
    return n


@compiled_inside
def _met(user: User, mask: int, era: int, value: int, n_met: int) -> int:
    """When the value was met first; a new one takes the place `n_met`."""
    seat = place((value * MIX >> 32) & mask)
    while user.seats[seat, 1] > era:
        if user.seats[seat, 0] == value:
            return int(user.seats[seat, 1] - era - 1)
        seat = place((seat + place(1)) & place(mask))
    user.seats[seat, 0], user.seats[seat, 1] = value, era + n_met + 1
    return n_met


def _source(feature: Feature, schema: StateSchema) -> Source:
    code = GIVEN if feature.stat == "share" else COUNTED
    return Source((feature.kind,), schema.slot(feature.property), code, feature.option)


FAMILY = Family("frequencies", (Frequencies,), STATS, _source)
