"""Categories: a number is a place in the feature's own list."""

import pytest

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.behaviour.words import Words
from features.errors import DefinitionError
from features.events.plan import Codes, TrackingPlan
from tests.features.behaviour.shop import log_frame

PLAN = TrackingPlan.from_dict(
    {
        "events": {
            "product_viewed": {
                "properties": {
                    "product_id": {"type": "category", "allowed": ["lamp", "rug"]},
                    "price": {"type": "money"},
                    "order_id": {"type": "text"},
                }
            }
        }
    }
)


def feature_set(**entry: object) -> FeatureSet:
    return FeatureSet.from_dict({"features": [{**entry, "windows": ["7d"]}]}, PLAN, Codes.of(PLAN))


def test_a_list_is_declared_in_place_or_is_what_the_plan_allows() -> None:
    ids = ("lamp", "rug", "chair")  # the plan allows no chair any more
    seen = [{"event": "product_viewed", "ts": k, "properties": {"product_id": each}} for k, each in enumerate(ids)]
    for values, place, n in (
        (["rug"], 0, 2),
        (["lamp", "rug", "rug"], 1, 2),
        (["lamp"], 1, 2),
        (None, 1, 2),
        (None, 2, 3),
    ):
        frame = log_frame(seen[:n])
        listed = {"values": values} if values else {}
        features = feature_set(last="product_viewed.product_id", **listed)
        assert features.compute(Histories.from_frame(features.schema, frame), 5).values.tolist() == [[place]]


def test_its_meaning_tells_what_the_places_are() -> None:
    (mode,) = feature_set(mode="product_viewed.product_id").features
    assert mode.meaning() == (
        "most frequent product_viewed.product_id, of equally frequent ones the newest; missing without one, last 7d "
        "(0 = lamp, 1 = rug, 2 = any other)"
    )
    (share,) = feature_set(share="product_viewed.product_id", values=["rug"]).features
    assert (share.name, share.meaning()) == (
        "share_product_viewed_product_id_rug_7d",
        "share of 'rug' in product_viewed.product_id; missing without one, last 7d",
    )


def test_numbers_have_modes_and_shares_too() -> None:
    prices = [{"event": "product_viewed", "ts": k, "properties": {"price": p}} for k, p in enumerate([1.25, 3, 1.25])]
    for entry, value in (({"mode": "product_viewed.price"}, 1.25), ({"share": "any.price", "values": [1.25]}, 2 / 3)):
        features = feature_set(**entry)
        histories = Histories.from_frame(features.schema, log_frame(prices))
        assert features.compute(histories, 5).values.tolist() == [[value]]


def test_of_several_events_all_values_are_listed_that_one_of_them_allows() -> None:
    """Also where one event allows anything: then the list is learnt."""
    events = {"a": ["x", "y"], "b": ["y", "z"], "c": None}
    plan = TrackingPlan.from_dict(
        {
            "events": {
                name: {"properties": {"p": {"type": "category", "allowed": each}}} for name, each in events.items()
            }
        }
    )
    words = Words(plan)
    for names, allowed in ((("a",), ("x", "y")), (("a", "b"), ("x", "y", "z")), (("a", "c"), None), (("any",), None)):
        assert words.spec("p", words.kind(names)).allowed == allowed
    assert words.spec("p", words.kind(("a", "b"), {"p": "z"})).allowed == ("x", "y", "z")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"last": "product_viewed.order_id"}, "'order_id' is text, of which no list is learnt. Hint: `values"),
        ({"first": "product_viewed.price", "values": ["x"]}, "`values` are for categories, and 'price' is a money"),
        ({"share": "product_viewed.price"}, "needs the values"),
        ({"share": "product_viewed.price", "values": ["dear"]}, "'dear' is no money"),
        ({"mode": "product_viewed.product_id", "k": 3, "distinct": "any.price", "valves": []}, "did you mean 'values'"),
    ],
)
def test_a_fault_says_what_is_missing(entry: dict, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        feature_set(**entry)
