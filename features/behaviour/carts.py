"""Carts: those that were left behind, and what lies in the present one."""

from collections.abc import Iterator
from dataclasses import replace

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.declarations import Declaration, Spans
from features.behaviour.feature import Feature
from features.behaviour.schema import MISSING, StateSchema
from features.behaviour.table import (
    CODE,
    COLUMN,
    DETAIL,
    FACTOR,
    NO_SLOT,
    OF_STREAM,
    OPTION,
    SLOT,
    STEP,
    Family,
    Source,
    Table,
    User,
    asked,
    enters,
    first_of,
)
from features.behaviour.words import Words
from features.document import Definition, Duration
from features.instants import DAY, NEVER

STATS = ("abandoned_carts", "cart_value")
ABANDONED = 0
BOUGHT, ADDED, REMOVED = range(3)
"""Steps."""
TOTAL, ADDITION, PURCHASE, AFTER = range(4)
"""Places in a stream's tally: carts, or value; when the next addition comes, the next purchase, one later than that."""


class CartSpec(Definition):
    """What puts something into a cart, and what buys it."""

    added: str
    bought: str
    within: Duration = DAY


class AbandonedCarts(Declaration):
    """`{abandoned_carts: {added: product_added, bought: order_completed, within: 1d}, windows: [30d]}`.

    A cart is one addition after the other, none later than that time after the one before; it is in the windows that
    its last addition is in.
    """

    abandoned_carts: CartSpec
    windows: Spans

    def features(self, words: Words) -> Iterator[Feature]:
        """`abandoned_carts_<window>`."""
        spec = self.abandoned_carts
        steps = self.steps((spec.bought, spec.added), words)
        for text, window in self.windows:
            name = f"abandoned_carts{self.suffix}_{text}"
            plain = Feature(name, "carts", "abandoned_carts", spec.added, window=window, option=spec.within)
            yield replace(plain, steps=steps, said=spec.bought)


class ValueSpec(Definition):
    """What puts something into a cart, takes it out, buys it; its price, and how many where that is told."""

    added: str
    removed: str = ""
    bought: str
    price: str
    quantity: str = ""


class CartValue(Declaration):
    """`{cart_value: {added: product_added, removed: product_removed, bought: order_completed, price: price}}`.

    With `quantity: quantity` prices are multiplied by it, by 1 where an event does not tell it. Within the horizon.
    """

    cart_value: ValueSpec

    def features(self, words: Words) -> Iterator[Feature]:
        """`cart_value`."""
        spec = self.cart_value
        moved = tuple(filter(None, (spec.added, spec.removed)))
        for prop in filter(None, (spec.price, spec.quantity)):
            for event in moved:
                words.property(f"{event}.{prop}", numeric=True)
        steps = self.steps((spec.bought, *moved), words)
        said = f"{spec.added}.{spec.price}" + (f" times {spec.quantity}" if spec.quantity else "")
        yield Feature(
            f"cart_value{self.suffix}",
            "carts",
            "cart_value",
            spec.bought,
            property=spec.price,
            times=spec.quantity,
            steps=steps,
            said=said + (f", minus that of {spec.removed}" if spec.removed else ""),
        )


@compiled_inside
def carts(user: User, at: int, table: Table, out: Floats) -> None:
    """A pass a stream, from the newest event back."""
    tally = user.tally
    for stream in range(len(table.sources)):
        tally[stream, TOTAL], high = 0, user.n
        tally[stream, ADDITION] = tally[stream, PURCHASE] = tally[stream, AFTER] = NEVER
        for window in range(len(table.windows)):
            begin, end = asked(stream, window, table)
            if begin == end:
                continue
            low = first_of(user, stream, window, table)
            for k in range(high - 1, low - 1, -1):
                _comes(user, k, at, stream, table)
            high = low
            for each in range(begin, end):
                factor = table.features[place(each), FACTOR]
                if table.sources[place(stream), CODE] != ABANDONED:
                    factor *= table.details[place(table.sources[place(stream), DETAIL] + 1)]
                out[place(table.features[place(each), COLUMN])] = tally[stream, TOTAL] / factor


@compiled_inside
def _comes(user: User, k: int, at: int, stream: int, table: Table) -> None:
    code = place(user.codes[place(k)])
    for each in range(table.places[code], table.places[code + place(1)]):
        if table.entries[place(each), OF_STREAM] == stream and enters(user, k, each, table):
            step = table.entries[place(each), STEP]
            if table.sources[place(stream), CODE] == ABANDONED:
                _abandoned(user.tally, stream, step, user.ts[place(k)], at, table.sources[place(stream), OPTION])
            else:
                _value(user, k, stream, step, table)


@compiled_inside
def _abandoned(tally: Ints, stream: int, step: int, ts: int, at: int, within: int) -> None:
    """An addition is the last of a cart left behind if neither another one nor a purchase comes within the time."""
    if step == BOUGHT:
        if ts < tally[stream, PURCHASE]:
            tally[stream, AFTER], tally[stream, PURCHASE] = tally[stream, PURCHASE], ts
        return
    bought = tally[stream, PURCHASE] if tally[stream, PURCHASE] > ts else tally[stream, AFTER]
    if at - ts >= within and bought - ts > within and tally[stream, ADDITION] - ts > within:
        tally[stream, TOTAL] += 1
    tally[stream, ADDITION] = ts


@compiled_inside
def _value(user: User, k: int, stream: int, step: int, table: Table) -> None:
    """Going back, all that counts comes before the first purchase that is met."""
    tally = user.tally
    if step == BOUGHT:
        tally[stream, PURCHASE] = user.ts[place(k)]
    row, begin = place(user.rows[place(k)]), table.sources[stream, DETAIL]
    price, quantity = user.slots[row, place(table.sources[stream, SLOT])], table.details[begin + 1]
    if table.details[begin] >= 0 and user.slots[row, place(table.details[begin])] != MISSING:
        quantity = user.slots[row, place(table.details[begin])]
    if step != BOUGHT and tally[stream, PURCHASE] == NEVER and price != MISSING:
        tally[stream, TOTAL] += price * quantity if step == ADDED else -price * quantity


def _source(feature: Feature, schema: StateSchema) -> Source:
    if feature.stat == "abandoned_carts":
        return Source(feature.steps, NO_SLOT, ABANDONED, feature.option)
    quantity = schema.slot(feature.times) if feature.times else NO_SLOT
    detail = (quantity, schema.factor(feature.times))
    return Source(feature.steps, schema.slot(feature.property), STATS.index("cart_value"), detail=detail)


def _cells(_source: Source) -> int:
    return AFTER + 1


FAMILY = Family("carts", (AbandonedCarts, CartValue), STATS, _source, _cells)
