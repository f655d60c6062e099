"""Frequencies: the most frequent value, the share of the most frequent ones, the share of a given one."""

import re
from collections.abc import Iterator

import numpy as np
from pydantic import Field

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.declarations import Listing, Spans
from features.behaviour.distinct import streams_per_event
from features.behaviour.gather import MIX, freed
from features.behaviour.schema import MISSING, StateSchema
from features.behaviour.table import (
    CODE,
    COLUMN,
    FACTOR,
    OF_STREAM,
    OPTION,
    STAT,
    STREAM,
    Family,
    Feature,
    Source,
    Table,
    User,
    put,
    value_of,
)
from features.behaviour.where import number_of
from features.behaviour.words import Names, Words
from features.errors import DefinitionError

STATS = ("mode", "top_share", "share")
MODE, TOP_SHARE, SHARE = range(len(STATS))
COUNTED, GIVEN = 0, 1
"""A stream counts every value, its option being how many counts it ranks; or one given value, its option."""
TOTAL, MOST, FIRST_MET, VALUE, RANKED = range(5)
"""Places in a stream's tally: values; of the most frequent one (or the given one) how often, when it was met first
and what it is; from RANKED on the greatest counts, in order."""


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
                yield Feature(full, "frequencies", "mode", name, kind, prop, window, option=1, **listed)
            for name, kind, prop in self.properties(self.top_share, words):
                full = f"top{self.k}_share_{name}_{prop}_{text}"
                yield Feature(
                    full, "frequencies", "top_share", name, kind, prop, window, option=self.k, said=str(self.k)
                )
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
    """One pass from the newest event back; `heap` holds stream and count of each value, as they are met."""
    n_windows, window, n_met = len(table.windows), 0, 0
    if n_windows == 0:
        return
    _reset(user.tally, table)
    mask, era = freed(user.seats, user.era, (user.n - user.past) * streams_per_event(table))
    edge = at - table.windows[0]
    for k in range(user.n - 1, user.past - 1, -1):
        while user.ts[place(k)] <= edge:
            _read_off(user.tally, table, window, out)
            window += 1
            if window == n_windows:
                return
            edge = at - table.windows[window]
        code = place(user.codes[place(k)])
        for each in range(table.places[code], table.places[code + place(1)]):
            value = value_of(user, k, each, table)
            if value == MISSING:
                continue
            stream = table.entries[place(each), OF_STREAM]
            user.tally[place(stream), TOTAL] += 1
            option = table.sources[place(stream), OPTION]
            if table.sources[place(stream), CODE] == GIVEN:
                user.tally[place(stream), MOST] += value == option
                continue
            met = _met(user, mask, era, value, stream, n_met)
            n_met = max(n_met, met + 1)
            _rank(user.tally, place(stream), value, met, user.heap[place(2 * met + 1)], option)
            user.heap[place(2 * met + 1)] += 1
    for rest in range(window, n_windows):
        _read_off(user.tally, table, rest, out)


@compiled_inside
def _reset(tally: Ints, table: Table) -> None:
    for stream in range(len(table.sources)):
        for kept in range(RANKED + (table.sources[stream, OPTION] if table.sources[stream, CODE] == COUNTED else 0)):
            tally[stream, kept] = 0


@compiled_inside
def _met(user: User, mask: int, era: int, value: int, stream: int, n_met: int) -> int:
    """When the stream met the value first: its place in `heap`; a new value takes the place `n_met`."""
    seat = place(((value + stream) * MIX >> 32) & mask)
    while user.seats[seat, 1] > era:
        met = user.seats[seat, 1] - era - 1
        if user.seats[seat, 0] == value and user.heap[place(2 * met)] == stream:
            return int(met)
        seat = place((seat + place(1)) & place(mask))
    user.seats[seat, 0], user.seats[seat, 1] = value, era + n_met + 1
    user.heap[place(2 * n_met)], user.heap[place(2 * n_met + 1)] = stream, 0
    return n_met


@compiled_inside
def _rank(tally: Ints, stream: int, value: int, met: int, count: int, n_ranked: int) -> None:
    """Account for a value that came `count` times before; going back, what is met first is the newest."""
    most, first = tally[stream, MOST], tally[stream, FIRST_MET]
    if count + 1 > most or (count + 1 == most and met < first):
        tally[stream, MOST], tally[stream, FIRST_MET], tally[stream, VALUE] = count + 1, met, value
    for k in range(RANKED, RANKED + n_ranked):
        if tally[stream, place(k)] == count:
            tally[stream, place(k)] += 1
            break


@compiled_inside
def _read_off(tally: Ints, table: Table, window: int, out: Floats) -> None:
    for each in range(table.edges[window], table.edges[window + 1]):
        k = place(each)
        stream, column = place(table.features[k, STREAM]), place(table.features[k, COLUMN])
        stat, total = table.features[k, STAT], tally[stream, TOTAL]
        if stat == MODE:
            put(out, column, tally[stream, VALUE] if total else MISSING, table.features[k, FACTOR])
        elif total == 0:
            out[column] = np.nan
        elif stat == SHARE:
            out[column] = tally[stream, MOST] / total
        else:
            ranked = 0
            for rank in range(RANKED, RANKED + table.sources[stream, OPTION]):
                ranked += tally[stream, place(rank)]
            out[column] = ranked / total


def _source(feature: Feature, schema: StateSchema) -> Source:
    code = GIVEN if feature.stat == "share" else COUNTED
    return Source((feature.kind,), schema.slot(feature.property), code, feature.option)


def _cells(source: Source) -> int:
    return RANKED + (source.option if source.code == COUNTED else 0)


FAMILY = Family("frequencies", (Frequencies,), STATS, _source, _cells)
