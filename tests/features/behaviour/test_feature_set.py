"""The feature set: one definition, one place where it is computed."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.errors import DefinitionError, SchemaError
from features.instants import DAY, MINUTE, parse_instant, zone_offsets
from features.project import Project
from features.segments.segment_set import SegmentSet
from tests.features.behaviour.shop import CODES, FEATURES, PLAN, histories, log_frame

AT = parse_instant("2026-03-01T12:00:00")


HISTORIES = histories(
    [
        {"event": "page_viewed", "ts": AT - 100 * DAY},
        {"event": "product_viewed", "ts": AT - 3 * DAY, "properties": {"product_id": "lamp"}},
        {"event": "order_completed", "ts": AT - 3 * DAY + MINUTE, "properties": {"revenue": 12.34}},
        {"event": "product_viewed", "ts": AT - 10, "properties": {"product_id": "rug"}},
        {"event": "page_viewed", "ts": AT - 40 * DAY, "user": "bob"},
    ]
)


def test_a_small_history_gives_the_numbers_one_counts_by_hand() -> None:
    matrix = FEATURES.compute(HISTORIES, AT)
    ann = dict(zip(matrix.names, matrix.values[0], strict=True))
    bob = dict(zip(matrix.names, matrix.values[1], strict=True))
    assert (ann["count_any_1d"], ann["count_any_7d"], ann["count_any_lifetime"]) == (1, 3, 4)
    assert (ann["sum_order_completed_revenue_7d"], ann["distinct_product_viewed_product_id_7d"]) == (12.34, 2)
    assert (ann["sessions_7d"], ann["session_minutes_7d"], ann["session_depth_7d"]) == (1, 1, 2)
    assert (ann["recency_any_s"], ann["tenure_any_s"]) == (1e-5, 100 * 86_400)
    assert (bob["count_any_20d"], bob["count_any_lifetime"]) == (0, 1)
    assert np.isnan([bob["recency_any_s"], bob["session_depth_20d"], bob["mean_order_completed_revenue_7d"]]).all()


def test_a_feature_set_travels_without_its_plan() -> None:
    travelled = FeatureSet.load(json.loads(json.dumps(FEATURES.to_dict())))
    assert travelled.fingerprint == FEATURES.fingerprint
    assert travelled.schema.fingerprint == FEATURES.schema.fingerprint
    np.testing.assert_array_equal(travelled.compute(HISTORIES, AT).values, FEATURES.compute(HISTORIES, AT).values)


def test_a_feature_set_says_every_field_of_its_features_and_nothing_else() -> None:
    """What is remembered of a feature, such as whether it waits, is no part of what it is."""
    assert not any(feature.waits for feature in FEATURES.features)
    assert FEATURES.to_dict()["features"] == [asdict(feature) for feature in FEATURES.features]


def test_utc_has_the_one_step_that_another_name_of_it_has() -> None:
    for one, other in zip(zone_offsets("UTC"), zone_offsets("Etc/UTC"), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


def test_rows_may_have_instants_of_their_own() -> None:
    rows = HISTORIES.take(np.array([0, 0, 1]))
    at = np.array([AT - 2 * DAY, AT, AT - 39 * DAY])
    together = FEATURES.compute(rows, at)
    for row in range(3):
        alone = FEATURES.compute(rows.take(np.array([row])), int(at[row]))
        np.testing.assert_array_equal(together.values[row], alone.values[0])


def test_histories_of_another_schema_are_refused() -> None:
    other = FeatureSet.from_dict({"features": [{"count": "any", "windows": ["1d"]}]}, PLAN, CODES)
    with pytest.raises(SchemaError, match="features need"):
        other.compute(HISTORIES, AT)


def test_features_run_on_a_schema_that_holds_more() -> None:
    other = FeatureSet.from_dict(
        {"features": [{"count": "any", "windows": ["1d"]}]},
        PLAN,
        CODES,
        horizon=28 * DAY,
        bound=6,
        bounds={"order_completed": 3},
        zone="Europe/London",
    )
    assert other.on(FEATURES.schema.union(other.schema)).compute(HISTORIES, AT).values.tolist() == [[1.0], [0.0]]
    with pytest.raises(SchemaError, match="does not hold"):
        FEATURES.on(other.schema)


def test_a_projects_bounds_keep_few_of_one_event_and_all_of_the_others(tmp_path) -> None:
    """Scroll pings never push purchases out: segments and features look at the same events."""
    (tmp_path / "features.yaml").write_text("features:\n  - {count: [page_viewed, order_completed], windows: [7d]}\n")
    settings = "version: 1\nname: shop\nbound: 6\nbounds: {page_viewed: 2}\n"
    (tmp_path / "ethogram.yaml").write_text(settings)
    features = FeatureSet.of(Project.find(tmp_path), PLAN, CODES)
    when = {"segments": {"many": {"when": {"did": {"event": "page_viewed", "count": {"gt": 2}, "last": "7d"}}}}}
    segments = SegmentSet.from_dict(when, PLAN, CODES, features)
    rules = {"horizon": features.schema.horizon, "bound": 6}
    plain = FeatureSet.from_dict({"features": [{"count": "any", "windows": ["7d"]}]}, PLAN, CODES, **rules)
    versions = {each.segments[0].version for each in (segments, SegmentSet.from_dict(when, PLAN, CODES, plain))}
    assert len(versions) == 2, "under another bound it is another definition"
    seen = ["order_completed"] * 3 + ["page_viewed"] * 5
    log = [{"event": event, "ts": AT - MINUTE + k} for k, event in enumerate(seen)]
    schema = features.schema.union(segments.schema)
    people = Histories.from_frame(schema, log_frame(log))
    found = features.on(schema).compute(people, AT)
    assert (found.values.tolist(), found.capped.tolist()) == ([[2.0, 3.0]], [True])
    assert not segments.on(schema).evaluate(people, AT).column("many").any()
    (tmp_path / "ethogram.yaml").write_text(settings.replace("page_viewed", "page_view"))
    with pytest.raises(DefinitionError, match=r"bounds: unknown event 'page_view'\. Hint: did you mean 'page_viewed'"):
        FeatureSet.of(Project.find(tmp_path), PLAN, CODES)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{count: [page_viewd], windows: [7d]}", "did you mean 'page_viewed'"),
        ("{sum: order_completed.revenu, windows: [7d]}", "did you mean 'revenue'"),
        ("{sum: order_completed, windows: [7d]}", "names no property"),
        ("{sum: product_viewed.product_id, windows: [7d]}", "needs numbers"),
        ("{count: [any], windows: [120d]}", "set `horizon: 120d` in ethogram.yaml"),
        ("{count: [any], windows: [7 days]}", "a whole number and a unit"),
        ("{count: [any], window: [7d]}", "did you mean 'windows'"),
        ("{count: [any]}", "'windows' is missing"),
        ("{counts: [any], windows: [7d]}", "did you mean 'count'"),
        ("{mean: order_completed.revenue, windows: [lifetime]}", "no life-time"),
        ("{distinct: product_viewed.product_id, windows: [lifetime]}", "no life-time"),
        ("{sessions: {gap: 30x}, windows: [7d]}", "a whole number and a unit"),
        ("{sessions: {gap: 90d}, windows: [7d]}", "waits 90d, and nothing is remembered for longer than the horizon"),
        ("{funnel: [any, order_completed], within: 99d, windows: [7d]}", "a longer `horizon` in ethogram.yaml"),
        ("{share: any.device, values: [phone], windows: [7d]}", "'device' is never 'phone', says the plan. Hint"),
        ("{last: any.browser, values: [crome], windows: [7d]}", "did you mean 'chrome'"),
        ("{count: any, where: {device: {in: [tablets]}}, as: x, windows: [7d]}", "did you mean 'tablet'"),
        ("{count: any, windows: [0d]}", "longer than nothing"),
        ("{recency: page_viewed.seconds}", "unknown event"),
        ("{sessions: {gap: 30m}, where: {price: 3}, as: dear, windows: [7d]}", "`where` narrows one event"),
        ("{count: [], windows: [7d]}", "no feature"),
        ("just words", "an entry is a mapping"),
    ],
)
def test_a_fault_names_its_line_and_the_way_out(tmp_path, entry: str, message: str) -> None:
    path = tmp_path / "features.yaml"
    path.write_text(f"version: 1\nfeatures:\n  - {{count: [any], windows: [1d]}}\n  - {entry}\n")
    with pytest.raises(DefinitionError, match=r"^features\.yaml:4: ") as error:
        FeatureSet.from_yaml(path, PLAN, CODES)
    assert message in str(error.value)


def test_a_fault_of_a_named_kind_names_its_line(tmp_path) -> None:
    path = tmp_path / "features.yaml"
    path.write_text("events:\n  b:\n    event: page_viewd\nfeatures:\n- {count: [any], windows: [1d]}\n")
    with pytest.raises(DefinitionError, match=r"^features\.yaml:3: events\.b\.event: .*did you mean 'page_viewed'"):
        FeatureSet.from_yaml(path, PLAN, CODES)


def test_one_name_cannot_have_two_meanings(tmp_path) -> None:
    path = tmp_path / "features.yaml"
    path.write_text("features:\n- {sessions: {gap: 30m}, windows: [7d]}\n- {sessions: {gap: 10m}, windows: [7d]}\n")
    with pytest.raises(DefinitionError, match=r"features\.yaml:3: 'sessions_7d' is declared above"):
        FeatureSet.from_yaml(path, PLAN, CODES)
