import numpy as np
import pytest

from features.behaviour.histories import Histories
from features.errors import DefinitionError, PlanError, SchemaError
from features.instants import DAY
from tests.training.shops import CODES, PLAN, day, feature_set, frame
from training.label import Condition, Label
from training.outcome import narrowed
from training.training_set import wide


def outcome(label, events, at, blind_spot=0):
    """The label of the one user of `events` at `at`."""
    source = label.source(PLAN, CODES, zone="UTC")
    held = Histories.from_frame(wide(feature_set().schema, source.features.schema), frame(events))
    numbers = source.numbers(held, np.array([at + label.horizon]), blind_spot=blind_spot)
    return label.outcome(numbers, label.limit(numbers))[0]


@pytest.mark.parametrize(
    ("offset", "counts"), [(0, 0), (1, 1), (7 * DAY, 1), (7 * DAY + 1, 0)], ids=["at", "after", "end", "beyond"]
)
def test_the_label_counts_what_comes_after_at_up_to_the_end_of_the_horizon(offset, counts):
    label = Label.from_dict({"did": "bought", "within": "7d"})
    assert outcome(label, [("u", "bought", day(10) + offset)], day(10)) == counts


def test_other_events_do_not_count():
    label = Label.from_dict({"did": "bought", "within": "7d"})
    assert outcome(label, [("u", "viewed", day(11))], day(10)) == 0


def test_an_event_that_becomes_known_within_the_blind_spot_counts():
    label = Label.from_dict({"did": "bought", "within": "7d"})
    late = [("u", "bought", day(16), {"known": day(18)})]
    assert outcome(label, late, day(10)) == 0
    assert outcome(label, late, day(10), blind_spot=DAY) == 1


def test_an_event_taken_back_before_the_end_does_not_count():
    label = Label.from_dict({"did": "bought", "within": "7d"})
    assert outcome(label, [("u", "bought", day(11), {"until": day(12)})], day(10)) == 0
    assert outcome(label, [("u", "bought", day(11), {"until": day(20)})], day(10)) == 1


def test_values_are_summed_and_compared():
    events = [("u", "bought", day(n), {"revenue": 30.25}) for n in (5, 11, 12, 40)]
    value = {"value": "bought.revenue", "within": "7d"}
    assert outcome(Label.from_dict(value), events, day(10)) == 60.5
    assert outcome(Label.from_dict({**value, "above": 60}), events, day(10)) == 1
    assert outcome(Label.from_dict({**value, "above": 60.5}), events, day(10)) == 0


def test_an_outcome_counts_more_events_than_a_state_keeps():
    events = [("u", "bought", day(11) + n, {"revenue": 1.0}) for n in range(700)]
    assert outcome(Label.from_dict({"value": "bought.revenue", "within": "7d"}), events, day(10)) == 700


@pytest.mark.parametrize(
    ("condition", "counts"),
    [({"did": "any", "within": "3d"}, 0), ({"did": "any", "within": "4d"}, 1), ({"did": "any"}, 1)],
)
def test_populations_look_back(condition, counts):
    events = [("u", "viewed", day(6) + 1), ("u", "viewed", day(30))]
    source = Condition.from_dict(condition).source(PLAN, CODES, zone="UTC")
    held = Histories.from_frame(source.features.schema, frame(events))
    assert (source.numbers(held, np.array([day(10)])) > 0).sum() == counts


def test_they_read_as_sentences():
    assert str(Label.from_dict({"did": "bought", "within": "7d"})) == "did bought within 7d"
    assert str(Label.from_dict({"value": "bought.revenue", "within": "36h", "above": 9})) == (
        "value bought.revenue above 9 within 36h"
    )
    assert str(Condition.from_dict({"did": "any", "within": "lifetime"})) == "did any"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"within": "7d"}, "a label is one of"),
        ({"did": "a", "value": "a.b", "within": "7d"}, "a label is one of"),
        ({"did": "a", "above": 1, "within": "7d"}, "goes with `value`"),
        ({"did_not": "a", "top_share": 0.1, "within": "7d"}, "goes with `value`"),
        ({"value": "a.b", "above": 1, "top_share": 0.1, "within": "7d"}, "is compared with one of"),
        ({"did": "a"}, "`did` needs `within`"),
        ({"did": "a", "after": "7d"}, "`did` needs `within`"),
        ({"in_cluster": {"study": "s", "in": [1]}, "within": "7d"}, "`in_cluster` needs `after`"),
        ({"in_cluster": {"study": "s", "inn": [1]}, "after": "7d"}, "did you mean 'in'"),
        ({"value": "a.b", "top_share": 10, "within": "7d"}, "less than 1"),
    ],
)
def test_a_label_is_one_thing(data, words):
    with pytest.raises(DefinitionError, match=words):
        Label.from_dict(data)


def test_unknown_events_are_named_with_the_nearest():
    with pytest.raises((PlanError, DefinitionError), match="did you mean 'bought'"):
        Label.from_dict({"did": "bougth", "within": "7d"}).source(PLAN, CODES, zone="UTC")


def test_histories_that_lack_a_property_cannot_be_narrowed():
    value = Label.from_dict({"value": "bought.revenue", "within": "7d"}).source(PLAN, CODES, zone="UTC")
    with pytest.raises(SchemaError, match="cannot be read"):
        narrowed(Histories.from_frame(feature_set().schema, frame([("u", "viewed", day(1))])), value.features.schema)
