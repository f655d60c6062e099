"""Formulas: made of other features, whether those are shown or not; what is wrong is said with its line."""

import numpy as np
import pytest

from features.behaviour.feature_set import FeatureSet
from features.errors import DefinitionError
from features.instants import HOUR, parse_instant
from tests.features.behaviour.shop import CODES, PLAN, histories

AT = parse_instant("2026-03-01")
COUNTS = {"count": ["page_viewed", "order_completed"], "windows": ["7d"]}
RATIO = {"ratio": {"of": "count_order_completed_7d", "by": "count_page_viewed_7d"}, "as": "orders_per_page"}

ORDERS = "event: order_completed, money: revenue, window: 7d"


def feature_set(*entries: dict, inputs: tuple[dict, ...] = ()) -> FeatureSet:
    return FeatureSet.from_dict({"inputs": list(inputs), "features": list(entries)}, PLAN, CODES)


def test_a_part_may_be_declared_for_the_formula_alone_and_shown_too() -> None:
    hidden = feature_set(RATIO, {"count": "page_viewed", "windows": ["7d"]}, inputs=(COUNTS,))
    assert hidden.names == ("orders_per_page", "count_page_viewed_7d")
    log = [{"event": "page_viewed", "ts": AT - HOUR * k} for k in range(4)]
    log += [{"event": "order_completed", "ts": AT - HOUR}]
    matrix = hidden.compute(histories(log, hidden), AT)
    assert matrix.values.tolist() == [[0.25, 4]]
    assert matrix.values.flags.c_contiguous


def test_the_order_in_which_formulas_stand_does_not_matter() -> None:
    score = {"score": {"weights": {"orders_per_page": 100, "trend_any": 1}}, "as": "engagement"}
    features = feature_set(score, RATIO, {"trend": "any"}, inputs=(COUNTS,))
    log = [{"event": "page_viewed", "ts": AT}, {"event": "order_completed", "ts": AT - 200 * HOUR}]
    np.testing.assert_array_equal(features.compute(histories(log, features), AT).values, [[2, 0, 2]])


def test_its_meaning_is_what_it_is_made_of() -> None:
    features = feature_set(RATIO, {"trend": "any"}, inputs=(COUNTS,))
    said = [each.meaning() for each in features.features if each.of]
    assert said == [
        "count_order_completed_7d / count_page_viewed_7d; missing where the second is 0",
        "4 * count_any_7d / count_any_28d; missing where the second is 0",
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{ratio: {of: count_any_7d, by: count_any_77d}, as: x}", "'x' is made of the unknown feature 'count_any_77d'"),
        (
            "{ratio: {of: count_any_7d, by: zzz}, as: x}",
            "'zzz'. Hint: allowed are count_any_1d, count_any_7d, last_any",
        ),
        ("{ratio: {of: count_any_7d, by: count_any_7d}}", "needs a name. Hint: `as: "),
        ("{score: {weights: {last_any_product_id_7d: 2}}, as: x}", "whose numbers are places in a list"),
        ("{difference: {of: x, minus: count_any_7d}, as: x}", "'x' is made of itself"),
        (f"{{rfm_score: {{{ORDERS}, cuts: {{r: [2, 1], f: [1], m: [1]}}}}}}", "cuts ascend"),
        (f"{{rfm_score: {{{ORDERS}, cuts: {{r: [1], f: [], m: [1]}}}}}}", "at least 1 item"),
        (f"{{rfm_score: {{{ORDERS}, cuts: {{r: [1], f: [1, 2], m: [1]}}}}}}", "as many cuts"),
        ("{ratio: {of: count_any_7d, by: count_any_7d}, difference: {of: x, minus: y}, as: x}", "one of its own"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path, entry: str, message: str) -> None:
    path = tmp_path / "features.yaml"
    first = "{count: [any], last: any.product_id, values: [a], windows: [7d]}"
    path.write_text(f"inputs:\n  - {first}\nfeatures:\n  - {{count: [any], windows: [1d]}}\n  - {entry}\n")
    with pytest.raises(DefinitionError, match=r"^features\.yaml") as error:
        FeatureSet.from_yaml(path, PLAN, CODES)
    assert message in str(error.value)
    assert "itself" in message or str(error.value).startswith("features.yaml:5: ")


def test_a_fault_of_an_input_is_named_with_its_line_too(tmp_path) -> None:
    path = tmp_path / "features.yaml"
    path.write_text("inputs:\n  - {count: [anny], windows: [7d]}\nfeatures:\n  - {count: [any], windows: [1d]}\n")
    with pytest.raises(DefinitionError, match=r"^features\.yaml:2: unknown event 'anny'"):
        FeatureSet.from_yaml(path, PLAN, CODES)
