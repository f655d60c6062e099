"""Orders: n-grams are unbroken and counted wherever they stand; patterns may have gaps and count once a session."""

import numpy as np
import pytest

from features.behaviour.feature_set import FeatureSet
from features.errors import DefinitionError
from features.instants import HOUR, SECOND, parse_instant
from tests.features.behaviour.shop import CODES, PLAN, numbers

AT = parse_instant("2026-03-01T12:00:00")
PAGE, PRODUCT, ORDER = "page_viewed", "product_viewed", "order_completed"


def log(*names: str, start: int = AT - HOUR) -> list[tuple]:
    return [(name, start + k * SECOND) for k, name in enumerate(names)]


def test_an_ngram_is_unbroken_and_may_overlap_itself() -> None:
    entry = {"ngrams": [[PAGE, PAGE], [PAGE, PRODUCT, ORDER], ["looked", "looked"]], "windows": ["1d"]}
    found = numbers(entry, log(PAGE, PAGE, PAGE, PRODUCT, ORDER, PAGE, PRODUCT, PAGE), AT)
    assert list(found.values()) == [2, 1, 5]


def test_more_are_counted_than_a_byte_holds() -> None:
    entry = {"ngrams": [[PAGE, PAGE], [PAGE, PRODUCT]], "patterns": [[PAGE, PAGE]], "windows": ["1h", "1d"]}
    found = numbers(entry, log(*[PAGE] * 400, PRODUCT, start=AT - HOUR - 99 * SECOND), AT)
    assert list(found.values()) == [299, 1, 1, 399, 1, 1]


def test_a_pattern_counts_the_sessions_that_go_through_it() -> None:
    entry = {
        "patterns": [[PAGE, ORDER], [PAGE, PAGE]],
        "has_patterns": [[PAGE, ORDER], [ORDER, PAGE]],
        "windows": ["1d"],
    }
    two = log(PAGE, PRODUCT, PAGE, ORDER, ORDER, start=AT - 3 * HOUR) + log(PAGE, PRODUCT, ORDER)
    assert list(numbers(entry, two, AT).values()) == [2, 1, 1, 0]


def test_orders_do_not_see_each_other_however_many_there_are() -> None:
    names, random = [PAGE, PRODUCT, ORDER, "dear"], np.random.default_rng(2)
    many = [[names[k] for k in random.integers(0, 4, random.integers(2, 9))] for _ in range(40)]
    events = [(names[k], AT - HOUR + n * SECOND, {"price": 9.0}) for n, k in enumerate(random.integers(0, 3, 60))]
    pairs = [[one, other] for one in names for other in names]
    declared = {"ngrams": [each[:4] for each in many] + pairs, "patterns": many, "has_patterns": many[:5] + pairs}
    declared |= {"windows": ["1d"]}
    together = numbers(declared, events, AT)
    alone = {}
    for key in ("ngrams", "patterns", "has_patterns"):
        for each in declared[key]:
            alone |= numbers({key: [each], "windows": ["1d"]}, events, AT)
    assert together == alone
    assert 20 < sum(value > 0 for value in alone.values()) < len(alone)


def test_all_of_an_order_lies_in_the_window() -> None:
    entry = {"ngrams": [[PAGE, PRODUCT]], "patterns": [[PAGE, PRODUCT]], "windows": ["1h"]}
    assert set(numbers(entry, log(PAGE, PRODUCT), AT - 1).values()) == {1}
    assert set(numbers(entry, log(PAGE, PRODUCT), AT).values()) == {0}


def test_a_mined_pattern_says_so_in_its_meaning() -> None:
    entry = {"patterns": [[PAGE, ORDER]], "mined": "2026-03-01 by PrefixSpan", "windows": ["7d"]}
    (feature,) = FeatureSet.from_dict({"features": [entry]}, PLAN, CODES).features
    assert feature.meaning().endswith("order_completed in this order, last 7d (mined as of 2026-03-01 by PrefixSpan)")
    with pytest.raises(DefinitionError, match="an instant is an ISO 8601 date"):
        FeatureSet.from_dict({"features": [{**entry, "mined": "by hand"}]}, PLAN, CODES)
