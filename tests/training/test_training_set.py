"""Training sets of logs in which every label is known by hand."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.errors import StudyError
from features.events.batch import EventBatch
from features.events.log import EventLog
from features.instants import DAY, HOUR
from tests.training.shops import CODES, PLAN, HandLog, day, feature_set, frame
from training.cuts import CutsSpec
from training.label import Condition, Label
from training.training_set import TrainingSet

WEEK = Label.from_dict({"did": "bought", "within": "7d"})
MONTH = Condition.from_dict({"did": "any", "within": "30d"})
DATES = CutsSpec.from_dict(
    {"train": ["2026-01-15"], "validation": "2026-01-25", "test": "2026-02-04"}
)  # days 10, 20, 30


def build(events, *, label=WEEK, cuts=DATES, population=MONTH, n_buckets=1, **options):
    log = HandLog([*events, ("end", "viewed", day(40))], n_buckets)
    return TrainingSet.build(log, feature_set(), label, cuts, plan=PLAN, codes=CODES, population=population, **options)


def table(made):
    """{(user, day): label}."""
    days = ((made.matrix.at - day(0)) // DAY).tolist()
    return dict(zip(zip(made.matrix.users.tolist(), days, strict=True), made.y.tolist(), strict=True))


def test_rows_are_persons_known_by_the_cut_and_labels_come_from_after_it():
    made = build(
        [
            ("ann", "viewed", day(2)),
            ("ann", "bought", day(12)),
            ("ann", "bought", day(20)),  # exactly at the second cut: known, not predicted
            ("bob", "viewed", day(10) + 1),  # a moment after the first cut
            ("bob", "bought", day(37)),  # exactly at the end of the third label
            ("eve", "bought", day(37) + 1),  # nobody before the third cut, and beyond its label
        ]
    )
    assert table(made) == {
        ("ann", 10): 1,
        ("ann", 20): 0,
        ("ann", 30): 0,
        ("bob", 20): 0,
        ("bob", 30): 1,
    }


def test_features_know_nothing_after_the_cut():
    made = build([("ann", "bought", day(9)), ("ann", "bought", day(10)), ("ann", "bought", day(10) + 1)])
    row = made.take(made.matrix.at == day(10)).matrix
    assert row.column("count_bought_7d").tolist() == [2]
    assert row.column("recency_any_s").tolist() == [0]


def test_a_late_event_is_no_feature_before_it_is_known():
    made = build([("ann", "viewed", day(1)), ("ann", "bought", day(8), {"known": day(11)})])
    counts = dict(zip(made.matrix.at.tolist(), made.matrix.column("count_bought_30d").tolist(), strict=True))
    assert counts == {day(10): 0, day(20): 1, day(30): 1}


def test_a_person_of_whom_nothing_is_known_yet_is_no_row():
    made = build([("ann", "viewed", day(8), {"known": day(11)}), ("ann", "viewed", day(1), {"known": day(40)})])
    assert sorted(table(made)) == [("ann", 20), ("ann", 30)]


def test_the_population_is_asked_at_every_cut():
    events = [("ann", "viewed", day(2) + 1), ("ann", "bought", day(32)), ("bob", "viewed", day(19))]
    assert sorted(table(build(events, population=Condition.from_dict({"did": "any", "within": "8d"})))) == [
        ("ann", 10),
        ("bob", 20),
    ]
    assert len(build(events, population=Condition.from_dict({"did": "any"}))) == 5


def test_who_refused_model_training_is_left_out_even_of_the_past():
    made = build(
        [
            ("ann", "viewed", day(2), {"consent": 7}),
            ("ann", "viewed", day(39), {"consent": 3}),
            ("bob", "viewed", day(2), {"consent": 0}),
            ("bob", "viewed", day(3), {"consent": 4}),
        ]
    )
    assert {user for user, _ in table(made)} == {"bob"}
    assert made.provenance["n_users_without_consent"] == 1


def test_parts_follow_time():
    made = build([("ann", "viewed", day(9)), ("bob", "viewed", day(9))])
    train, validation, test = made.split_by_time()
    assert {part.matrix.at.tolist()[0] for part in (train, validation, test)} == {day(10), day(20), day(30)}
    assert max(train.matrix.at) + WEEK.horizon <= min(validation.matrix.at)
    assert [len(part) for part in (train, validation, test)] == [2, 2, 2]


def test_without_a_validation_cut_a_fifth_of_the_persons_choose_and_no_person_is_on_both_sides():
    events = [(f"u{n}", "viewed", day(9)) for n in range(400)]
    cuts = CutsSpec.from_dict({"train": ["2026-01-14", "2026-01-15"], "test": "2026-02-04"})
    train, validation, test = build(events, cuts=cuts).split_by_time()
    assert set(train.matrix.users).isdisjoint(validation.matrix.users)
    assert 100 < len(validation) < 220
    assert len(train) + len(validation) == 800
    assert len(test) == 400


def test_buckets_make_no_difference():
    events = [(f"u{n}", "viewed" if n % 3 else "bought", day(n % 37)) for n in range(90)]
    one, many = build(events), build(events, n_buckets=4)
    assert table(one) == table(many)
    assert one.provenance["n_users"] == many.provenance["n_users"]


def test_histories_in_memory_serve_as_well():
    events = [("ann", "viewed", day(2)), ("ann", "bought", day(12)), ("end", "viewed", day(40))]
    features = feature_set()
    held = Histories.from_frame(features.schema, HandLog(events).frame)
    made = TrainingSet.build(held, features, WEEK, DATES, plan=PLAN, codes=CODES, population=MONTH)
    assert table(made) == {("ann", 10): 1, ("ann", 20): 0, ("ann", 30): 0}


def test_the_training_set_says_where_it_comes_from():
    made = build([("ann", "viewed", day(2))], blind_spot=DAY)
    said = made.provenance
    assert said["cuts"]["test"] == ["2026-02-04T00:00:00Z"]
    assert (said["horizon"], said["blind_spot"], said["n_users"]) == ("7d", "1d", 1)
    assert said["features"] == feature_set().fingerprint
    assert said["data"] == made.fingerprint
    for words in ("label: did bought within 7d", "population: did any within 30d", "known by `at`", "1 users"):
        assert words in str(made)


def test_it_says_when_events_are_taken_as_known_of_files_that_tell_no_arrivals(tmp_path, monkeypatch):
    monkeypatch.setattr(EventLog, "assumed", lambda _log: Counter({HOUR: 2, 0: 1}))
    log = EventLog(tmp_path, PLAN, key=b"k")
    batch = (
        frame([("ann", "viewed", day(2)), ("ann", "viewed", day(40))])
        .rename({"user": "user_id"})
        .drop("known", "until")
    )
    log.append(EventBatch(batch.with_columns(source=pl.lit("hand")), PLAN), name="one")
    made = TrainingSet.build(log, feature_set(), None, DATES, plan=PLAN, codes=CODES, population=MONTH)
    assert "; 1 file tells no arrivals: events are taken as known when they happened" in str(made)
    assert "; 2 files tell no arrivals: events are taken as known 1h after they happened" in str(made)


def test_another_label_is_another_fingerprint():
    events = [("ann", "viewed", day(2)), ("ann", "bought", day(12))]
    other = [("ann", "viewed", day(2)), ("ann", "bought", day(22))]
    assert build(events).fingerprint == build(events).fingerprint != build(other).fingerprint


def test_a_data_frame_has_a_row_per_person_and_cut():
    frame = build([("ann", "viewed", day(2)), ("ann", "bought", day(12))]).to_pandas()
    assert frame.columns[:3].tolist() == ["user", "at", "part"]
    assert frame.loc[frame.part == "train", "label"].tolist() == [1.0]


def test_nobody_left_is_an_error_that_says_why():
    with pytest.raises(StudyError, match=r"nobody is in the population \(did bought within 1d\)"):
        build([("ann", "viewed", day(2))], population=Condition.from_dict({"did": "bought", "within": "1d"}))


instants = st.integers(0, 45 * 24).map(lambda hour: day(0, hour))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["viewed", "bought"]), instants), max_size=30))
def test_events_after_the_label_change_nothing_and_events_in_it_change_no_feature(events):
    """The law that makes a training set honest."""
    base = [(user, "viewed", day(1)) for user in "abc"]
    later = [each for each in events if each[2] > day(37)]
    within = [each for each in events if day(30) < each[2] <= day(37)]
    earlier = [each for each in events if each[2] <= day(30)]
    plain = build(base + earlier)
    assert table(build(base + earlier + later)) == table(plain)
    test, more = (build(base + earlier + extra).split_by_time()[2] for extra in ([], within))
    assert np.array_equal(test.matrix.values, more.matrix.values, equal_nan=True)
    bought = {user for user, event, _ in within if event == "bought"}
    assert dict(zip(more.matrix.users.tolist(), more.y.tolist(), strict=True)) == {
        user: float(user in bought) for user in more.matrix.users.tolist()
    }


def test_rows_kept_beside_the_log_are_those_of_a_log_in_memory(tmp_path, monkeypatch):
    """The second time features are computed for nobody but the person who came back."""
    compute, computed = FeatureSet.compute, []

    def watched(self, histories, at, **options):
        computed.extend(histories.users if self.names == feature_set().names else ())
        return compute(self, histories, at, **options)

    monkeypatch.setattr(FeatureSet, "compute", watched)
    log = EventLog(tmp_path, PLAN, key=b"k", bucket_rows=16)
    events = [(f"u{n % 20}", ("viewed", "bought")[n % 3 == 0], day(n / 4, n % 24)) for n in range(160)]
    for name, some in (("first", events), ("second", [*events, ("u7", "bought", day(12.5))])):
        added = frame(some)[0 if name == "first" else len(events) :]
        batch = added.rename({"user": "user_id"}).drop("known", "until").with_columns(source=pl.lit("hand"))
        log.append(EventBatch(batch, PLAN), name=name)
        asked = feature_set(), WEEK, DATES
        held = TrainingSet.build(HandLog(some), *asked, plan=PLAN, codes=CODES, population=MONTH)
        computed.clear()
        made = TrainingSet.build(log, *asked, plan=PLAN, codes=CODES, population=MONTH)
        assert set(computed) == ({"u7"} if name == "second" else {f"u{n}" for n in range(20)})
        order = np.lexsort((made.matrix.at, made.matrix.users))
        other = np.lexsort((held.matrix.at, held.matrix.users))
        assert made.take(order).fingerprint == held.take(other).fingerprint
        assert made.provenance["left_out"] == held.provenance["left_out"]
