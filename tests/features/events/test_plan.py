"""Plans: what cannot be meant is refused with its place; codes never change."""

import pytest

from features.errors import PlanError
from features.events.plan import Codes, TrackingPlan


def _plan(tmp_path, text):
    path = tmp_path / "plan.yaml"
    path.write_text("version: 1\n" + text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("event: {}\n", r"plan.yaml:2: event: unknown key 'event'. Hint: did you mean 'events'"),
        ("events: {a: {propertis: {}}}\n", r"did you mean 'properties'"),
        ("events: {a: {properties: {x: {type: number, missing: default, default: word}}}}\n", "is no number"),
        ("events: {a: {properties: {x: {type: flag, missing: default, default: 1}}}}\n", "is no flag"),
        ("events: {a: {properties: {x: {type: number, allowed: ['1']}}}}\n", "for categories and texts"),
        ("events: {a: {properties: {x: {type: number, min: 2, max: 1}}}}\n", "above"),
        ("events: {identify: {}}\n", "built in"),
        ("events: {}\naddresses: [10.0.0.0/99]\n", r"plan.yaml:3: addresses: .*no network"),
        ("events: {a: {}}\na: 1\na: 2\n", "duplicate key"),
        ("events: [\n", r"plan.yaml:\d"),
    ],
)
def test_a_plan_with_a_mistake_says_where(tmp_path, text, message):
    with pytest.raises(PlanError, match=message):
        TrackingPlan.read(_plan(tmp_path, text))


def test_a_code_never_changes_its_meaning(tmp_path):
    lock = tmp_path / "plan.lock"
    first = Codes.of(TrackingPlan.read(_plan(tmp_path, "events: {b: {}, a: {}}\n")), lock)
    first.write(lock)
    second = Codes.of(TrackingPlan.read(_plan(tmp_path, "events: {c: {}, a: {}}\n")), lock)
    assert first.codes == {"identify": 1, "alias": 2, "b": 3, "a": 4}
    assert second.codes == {**first.codes, "c": 5}
