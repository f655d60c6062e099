"""Learning: lists and cuts come from training rows alone, stand in the bundle with their origin, and stay."""

import json

import numpy as np
import pytest

from features.behaviour.feature_set import FeatureSet
from features.behaviour.learning import Lessons, freeze, frozen, latest, learnt
from features.errors import DefinitionError
from features.instants import DAY, parse_instant
from features.people import hash_text
from tests.features.behaviour.shop import CODES, PLAN, histories

AT = parse_instant("2026-03-01")
ENTRIES = [
    {"count": "any", "windows": ["7d"]},
    {"mode": "any.product_id", "top": 2, "windows": ["7d"]},
    {"last": "product_viewed.product_id", "windows": ["lifetime"]},
    {"rfm_score": {"event": "order_completed", "money": "revenue", "window": "7d", "n": 3}},
]
DECLARED = FeatureSet.from_dict({"features": ENTRIES}, PLAN, CODES)
WORDS = {hash_text(text): text for text in "abc"}


def log() -> list[dict]:
    """Nine users: `c` for six, `b` for two, `a` for one; six of them bought, for 1 to 6."""
    seen = [
        {"user": f"u{k}", "event": "product_viewed", "ts": AT - DAY, "properties": {"product_id": each}}
        for k, each in enumerate("ccccccbba")
    ]
    bought = [
        {"user": f"u{k}", "event": "order_completed", "ts": AT - k - 1, "properties": {"revenue": k + 1}}
        for k in range(6)
    ]
    return seen + bought


def taught(texts: dict[int, str] = WORDS) -> FeatureSet:
    lessons = Lessons.of(DECLARED)
    rows = lessons.compute(histories(log(), DECLARED), AT)
    return learnt(DECLARED, rows, texts=lambda names: texts if list(names) == ["product_id"] else {}, population="all")


def test_what_waits_is_computed_by_nobody_until_it_is_learnt() -> None:
    assert DECLARED.waiting == (
        "mode_any_product_id_7d", "last_product_viewed_product_id_lifetime", "rfm_r_order_completed_7d",
        "rfm_f_order_completed_7d", "rfm_m_order_completed_7d",
    )  # fmt: skip
    with pytest.raises(DefinitionError, match="'mode_any_product_id_7d' is still to be learnt"):
        DECLARED.compute(histories(log(), DECLARED), AT)


def test_a_list_holds_the_most_frequent_values_and_cuts_are_quantiles_of_those_who_bought() -> None:
    features = taught()
    by_name = {each.name: each for each in features.features}
    assert by_name["mode_any_product_id_7d"].values == ("c", "b")
    assert by_name["last_product_viewed_product_id_lifetime"].values == ("c", "b", "a")
    assert by_name["rfm_m_order_completed_7d"].numbers == (2, 4)
    origin = "2026-03-01T00:00:00Z from 9 training rows: all"  # date, method and population, as whatever is frozen
    assert by_name["rfm_r_order_completed_7d"].learnt == f"{origin}; quantiles of those who have one"
    assert by_name["mode_any_product_id_7d"].learnt == f"{origin}; most frequent"
    assert latest(features) == AT
    values = features.compute(histories(log(), features), AT).values
    np.testing.assert_array_equal(values[:, 1], [0, 0, 0, 0, 0, 0, 1, 1, 2])
    np.testing.assert_array_equal(values[:6, 3:], [[3, 1, 1], [3, 1, 1], [2, 1, 2], [2, 1, 2], [1, 1, 3], [1, 1, 3]])
    np.testing.assert_array_equal(values[6:, 3:], [[np.nan, 1, 1]] * 3)


def test_what_was_learnt_travels_and_a_hash_without_a_text_is_a_value_too() -> None:
    features = taught({hash_text("b"): "b"})
    assert features.features[1].values == (hash_text("c"), "b")
    travelled = FeatureSet.load(json.loads(json.dumps(features.to_dict())))
    assert travelled.fingerprint == features.fingerprint != DECLARED.fingerprint
    both = [each.compute(histories(log(), features), AT).values for each in (features, travelled)]
    np.testing.assert_array_equal(*both)


def test_a_lock_gives_back_what_was_learnt_for_the_same_declaration_only(tmp_path) -> None:
    lock, features = tmp_path / "features.lock", taught()
    assert frozen(DECLARED, lock) is DECLARED
    freeze(features, lock)
    assert frozen(DECLARED, lock).fingerprint == features.fingerprint
    changed = [{**ENTRIES[1], "top": 3}, *ENTRIES[2:]]
    assert frozen(FeatureSet.from_dict({"features": changed}, PLAN, CODES), lock).waiting == ("mode_any_product_id_7d",)
    lock.write_text("{}")
    with pytest.raises(DefinitionError, match=r"features\.lock is damaged"):
        frozen(DECLARED, lock)


def test_where_nobody_has_a_value_everything_is_other() -> None:
    lessons = Lessons.of(DECLARED)
    rows = lessons.compute(histories([{"event": "page_viewed", "ts": AT}], DECLARED), AT)
    features = learnt(DECLARED, rows, texts=lambda _: {}, population="all")
    assert (features.waiting, features.features[1].values) == ((), ())
    assert features.compute(histories(log(), features), AT).values[0, 1] == 0
