"""Mining: PrefixSpan against plain counting and against Spark's, over the sessions that features count."""

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.behaviour.feature_set import FeatureSet
from features.behaviour.kinds import Kind
from features.behaviour.mining import Sequences, mine, prefixspan, sequences_of, spark_prefixspan
from features.errors import StudyError
from features.instants import DAY, HOUR, MINUTE
from tests.features.behaviour.shop import CODES, FEATURES, PLAN, SETTINGS, histories
from tests.features.behaviour.test_laws import SPRING, logs

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

KINDS = {name: Kind((name,)) for name in ("page_viewed", "product_viewed", "order_completed")}
HORIZON = f"{SETTINGS['horizon'] // DAY}d"
runs = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=7), min_size=1, max_size=12)


def sequences(found: list[list[int]]) -> Sequences:
    return Sequences(
        np.array([item for run in found for item in run], np.int64), np.cumsum([len(run) for run in found])
    )


@given(runs, st.integers(1, 6), st.integers(1, 4))
def test_it_finds_every_order_that_enough_sequences_go_through(
    found: list[list[int]], least: int, longest: int
) -> None:
    through = [{part for n in range(1, longest + 1) for part in combinations(run, n)} for run in found]
    counts = {part: sum(part in mine for mine in through) for part in set().union(*through)}
    expected = {part: n for part, n in counts.items() if n >= least}
    assert prefixspan(sequences(found), least=least, longest=longest) == expected


@given(logs(), st.integers(0, 3 * DAY))
def test_a_mined_count_is_the_sum_of_the_declared_feature(log: list[dict], later: int) -> None:
    at = np.array([SPRING + later])
    user = histories(log)
    if not len(user):
        return
    found = sequences_of(user, at, tuple(KINDS.values()), gap=30 * MINUTE)
    declared = {"patterns": [list(names) for names in combinations(list(KINDS) * 2, 2)], "windows": [HORIZON]}
    features = FeatureSet.from_dict({"features": [declared]}, PLAN, CODES, **SETTINGS)
    values = features.on(FEATURES.schema).compute(user, at).values[0]
    mined = prefixspan(found, least=1, longest=2) if len(found.ends) else {}
    named = {"_".join(list(KINDS)[item] for item in pattern): n for pattern, n in mined.items() if len(pattern) == 2}
    assert {name[8 : -len(HORIZON) - 1]: n for name, n in zip(features.names, values, strict=True) if n} == named


def test_what_was_mined_can_be_pasted_and_says_where_it_comes_from() -> None:
    log = [
        {"event": name, "ts": SPRING + k * MINUTE, "user": user}
        for user in ("ann", "bob")
        for k, name in enumerate(KINDS)
    ]
    log += [{"event": "page_viewed", "ts": SPRING + 9 * HOUR, "user": "bob"}]
    users = histories(log)
    found = mine(users, np.full(2, SPRING + DAY), KINDS, population="did any", support=0.6)
    assert found.patterns[0] == (("page_viewed", "product_viewed"), 2)
    assert len(found.patterns) == 4
    assert (
        found.origin
        == "2026-03-30T01:00:00Z by PrefixSpan (support 0.6, at most 4 events) from 3 sessions of 2 users, did any"
    )
    from ruamel.yaml import YAML

    pasted = FeatureSet.from_dict(YAML().load(f"features:\n{found}"), PLAN, CODES)
    assert pasted.features[0].learnt == found.origin
    assert len(pasted) == 4


def test_nothing_frequent_is_an_error_that_says_so() -> None:
    log = [{"event": "page_viewed", "ts": SPRING}, {"event": "product_viewed", "ts": SPRING + HOUR}]
    with pytest.raises(StudyError, match=r"no two events follow each other in 100\.0% of"):
        mine(histories(log), np.array([SPRING + DAY]), KINDS, population="any", support=1.0)
    with pytest.raises(StudyError, match="no session of anybody"):
        mine(histories(log), np.array([SPRING - 1]), KINDS, population="any")


@pytest.mark.integration
def test_spark_finds_the_same(spark: "SparkSession") -> None:
    random = np.random.default_rng(11)
    found = sequences([random.integers(0, 5, random.integers(1, 12)).tolist() for _ in range(400)])
    for least, longest in ((4, 4), (40, 3), (133, 2)):
        theirs = spark_prefixspan(found, least=least, longest=longest, spark=spark)
        assert theirs == prefixspan(found, least=least, longest=longest)
        assert theirs
