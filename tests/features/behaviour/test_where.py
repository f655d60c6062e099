"""Conditions on properties: intervals of integers, and errors that say what is allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.behaviour.schema import MISSING
from features.behaviour.where import complement, conditions, intersection
from features.behaviour.words import Words
from features.errors import DefinitionError
from features.events.plan import TrackingPlan

PLAN = TrackingPlan.from_dict(
    {
        "events": {
            "seen": {"properties": {"price": {"type": "money"}, "n": {"type": "number"}, "by": {"type": "category"}}},
            "left": {"properties": {"n": {"type": "number"}, "late": {"type": "flag"}}},
        }
    }
)
numbers = st.integers(-300, 300)


def within(value: int, intervals) -> bool:
    return any(low <= value <= high for low, high in intervals)


def price(predicate: object):
    ((_, intervals),) = conditions({"price": predicate}, lambda name: PLAN.property(name, "seen"))
    return intervals


@given(
    st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte"]), st.integers(-30_000, 30_000), st.integers(-30_000, 30_000)
)
def test_an_operator_on_money_compares_cents_exactly(operator: str, cents: int, mills: int) -> None:
    said = mills / 1000  # between two cents, mostly
    compared = {"eq": "==", "ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}[operator]
    truth = eval(f"10 * {cents} {compared} {mills}")  # noqa: S307 - a comparison of two integers
    assert within(cents, price({operator: said})) == truth
    assert not within(MISSING, price({operator: said}))


@given(st.sets(numbers), st.sets(numbers), numbers)
def test_complement_and_intersection_are_those_of_sets(one: set[int], other: set[int], value: int) -> None:
    first, second = (tuple((each, each) for each in sorted(s)) for s in (one, other))
    assert within(value, complement(first)) == (value not in one)
    assert within(value, intersection(complement(first), second)) == (value in other - one)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"prise": 3}, "did you mean 'price'"),
        ({"price": {"gtt": 3}}, "unknown operator 'gtt' of 'price'. Hint: did you mean"),
        ({"price": "cheap"}, "'cheap' is no money"),
        ({"by": {"gt": 3}}, "`gt` needs numbers, and 'by' is a category"),
        ({"price": {"contains": "3"}}, "`contains` is for texts"),
        ({"by": {"regex": "("}}, "`regex` of 'by'"),
        ({"by": {"in": "mail"}}, "takes a list"),
        ({"price": {"between": [3, 1]}}, "a lower and an upper value"),
        ({"price": {"exists": "no"}}, "true or false"),
        ({"price": {}}, "says no operator"),
    ],
)
def test_a_mistake_says_what_is_allowed(where: dict, message: str) -> None:
    with pytest.raises(DefinitionError, match=message.replace("(", r"\(")):
        Words(PLAN).kind("seen", where)


def test_a_property_has_to_be_one_of_every_event_of_the_kind() -> None:
    assert Words(PLAN).kind(("seen", "left"), {"n": 1}).events == ("left", "seen")
    with pytest.raises(DefinitionError, match="unknown property 'price' of 'left'"):
        Words(PLAN).kind(("seen", "left"), {"price": 1})


def test_named_kinds_narrow_further_and_cannot_take_an_events_name() -> None:
    from features.behaviour.words import KindSpec

    def words_of(**kinds: dict) -> Words:
        specs = {name: KindSpec(**kind) for name, kind in kinds.items()}
        return Words.of(PLAN, specs, {"events": kinds}, where="features")

    words = words_of(dear={"event": "seen", "where": {"price": {"gte": 10}}})
    assert words.kind("dear", {"by": "mail"}).properties == {"price", "by"}
    with pytest.raises(DefinitionError, match="is an event of the plan"):
        words_of(seen={"event": "left"})
    with pytest.raises(DefinitionError, match=r"events\.dire\.event: unknown event 'sen'\. Hint: did you mean 'seen'"):
        words_of(dire={"event": "sen"})
