"""Distinct: how many different values, over nested windows."""

from collections.abc import Iterator

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.feature import Feature
from features.behaviour.gather import MIX, freed
from features.behaviour.schema import MISSING
from features.behaviour.table import SLOT, Family, Table, User, end_of, first_of, of_property, read_off, value_at
from features.behaviour.words import Names, Words

STATS = ("distinct",)


class Distinct(Declaration):
    """`{distinct: product_viewed.product_id, windows: [7d]}`, `{active_days: any, windows: [7d, 30d]}`.

    A missing value is none. Days are those of the project's zone.
    """

    distinct: Names = ()
    active_days: Names = ()
    windows: Spans

    def features(self, words: Words) -> Iterator[Feature]:
        """`distinct_<event>_<property>_<window>`, `active_days_<event>_<window>`."""
        for text, window in self.windows:
            for name, kind, prop in self.properties(self.distinct, words):
                yield Feature(f"distinct_{name}_{prop}_{text}", "distinct", "distinct", name, kind, prop, window)
            for name, kind in self.kinds(self.active_days, words):
                yield Feature(f"active_days_{name}_{text}", "days", "active_days", name, kind, "", window)


@compiled_inside
def distinct(user: User, at: int, table: Table, out: Floats) -> None:
    """A pass a stream, from the newest event back, writes how many were met; a value counts where it is met first."""
    for stream in range(len(table.sources)):
        slot, count, latest = table.sources[place(stream), SLOT], 0, MISSING
        first, end = first_of(user, stream, len(table.windows) - 1, table), end_of(user, stream, table)
        mask, era = freed(user.seats, user.era, 2 * (end - first))
        for j in range(end - 1, first - 1, -1):
            value = value_at(user, user.members[place(j)], slot)
            if value not in (MISSING, latest):
                latest = value
                count += is_new(user.seats, mask, era, value, 0)
            user.heap[place(j - first)] = count
        read_off(user, stream, table, out)


@compiled_inside
def is_new(seats: Ints, mask: int, era: int, value: int, owner: int) -> bool:
    """Whether an owner, a number from 0 on, meets the value for the first time; it is seated then."""
    seat = place(((value + owner) * MIX >> 32) & mask)
    while seats[seat, 1] > era:
        if seats[seat, 0] == value and seats[seat, 1] == era + owner + 1:
            return False
        seat = place((seat + place(1)) & place(mask))
    seats[seat, 0], seats[seat, 1] = value, era + owner + 1
    return True


FAMILY = Family("distinct", (Distinct,), STATS, of_property)
