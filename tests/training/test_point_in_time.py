"""Training rows against the oracle: late, repeated, taken back and refused events; every kind of label."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import StudyError
from features.instants import DAY
from features.segments.segment_set import SegmentSet
from tests.training import oracle
from tests.training.shops import CODES, PLAN, HandLog, day, feature_set
from training.assigner import Centroids
from training.cuts import CutsSpec
from training.label import Condition, Label
from training.model import Model
from training.outcome import Membership, Truth
from training.preparation import Preparation
from training.training_set import TrainingSet

FEATURES = feature_set({"features": [{"count": ["viewed", "bought"], "windows": ["7d"]}]})
CENTRES = [[0, 0], [2, 0], [0, 1]]
KINDS = Model(
    "kinds", "clusters", FEATURES.fingerprint, Preparation(FEATURES.names), Centroids(np.array(CENTRES, float)),
    names=("still", "looking", "buying"), ids=(1, 2, 3),
)  # fmt: skip
SEGMENTS = SegmentSet.from_dict(
    {"segments": {"looker": {"when": {"all": [
        {"did": {"event": "viewed", "count": {"gte": 2}, "last": "7d"}},
        {"did_not": {"event": "bought", "last": "3d"}},
        {"feature": {"count_viewed_7d": {"lt": 5}}},
    ]}}}},
    PLAN, CODES, FEATURES,
)  # fmt: skip
DATES = {"train": ["2026-01-15", "2026-01-16"], "validation": "2026-01-25", "test": "2026-02-04"}
"""Days 10, 11, 20 and 30."""

ENDS = [("d", "viewed", day(0)), ("d", "viewed", day(40))]

LABELS = [
    {"did": "bought", "within": "7d"},
    {"did_not": "any", "within": "3d"},
    {"value": "bought.revenue", "within": "7d"},
    {"value": "bought.revenue", "within": "7d", "above": 20},
    {"value": "bought.revenue", "within": "7d", "top_share": 0.25},
    {"in_cluster": {"study": "kinds", "in": ["looking", 2]}, "after": "5d"},
    {"in_segment": "looker", "after": "5d"},
]

edges = st.sampled_from([day(n) for n in (3, 10, 11, 13, 17, 18, 20, 25, 26, 27, 30, 33, 37)])
instants = st.one_of(
    st.tuples(edges, st.sampled_from([-DAY, -1, 0, 1])).map(sum), st.integers(0, 38 * 24).map(lambda hour: day(0, hour))
)


@st.composite
def logs(draw):
    """Events of three persons; some late, some taken back, some delivered again with another clock."""
    found = []
    for place in range(draw(st.integers(0, 25))):
        ts = draw(instants)
        known = ts + draw(st.sampled_from([0, 0, 0, 1, DAY, 4 * DAY, -DAY]))
        removed = draw(st.sampled_from([None, None, None, 0, 1, 3 * DAY]))
        more = {
            "id": place + 1,
            "seq": draw(st.integers(0, 2)),
            "known": known,
            "until": None if removed is None else known + removed,
            "consent": draw(st.sampled_from([None, None, None, None, 3, 7])),
            "revenue": draw(st.integers(0, 5000)) / 100,
        }
        found.append((draw(st.sampled_from("abc")), draw(st.sampled_from(["viewed", "bought"])), ts, more))
    for user, event, ts, more in draw(st.lists(st.sampled_from(found), max_size=3)) if found else ():
        again = {**more, "known": more["known"] + draw(st.integers(1, 5 * DAY)), "until": None}
        found.append((user, event, ts + draw(st.sampled_from([0, DAY])), again))
    return [("d", "viewed", day(0)), *draw(st.permutations(found)), ("d", "viewed", day(40))]


def answers(label):
    """What answers a label that asks more than events."""
    if label.in_cluster:
        return Membership(FEATURES, KINDS, label.in_cluster.places(KINDS), version=3)
    return Truth(FEATURES, SEGMENTS, "looker") if label.in_segment else None


def build(events, label, cuts, *, population=None, blind_spot=0, n_buckets=2):
    return TrainingSet.build(
        HandLog(events, n_buckets),
        FEATURES,
        Label.from_dict(label),
        CutsSpec.from_dict(cuts),
        plan=PLAN,
        codes=CODES,
        population=Condition.from_dict(population or {"did": "any"}),
        blind_spot=blind_spot,
        asked=answers(Label.from_dict(label)),
    )


def table(made):
    rows = zip(made.matrix.users.tolist(), made.matrix.at.tolist(), strict=True)
    return dict(zip(rows, made.y.tolist(), strict=True))


def values(made):
    rows = zip(made.matrix.users.tolist(), made.matrix.at.tolist(), strict=True)
    return dict(zip(rows, made.matrix.values.tolist(), strict=True))


def in_the_oracle(label):
    if "in_cluster" not in label:
        return label
    return {**label, "in_cluster": {1, 2}, "centres": CENTRES}


@pytest.mark.parametrize("label", LABELS, ids=str)
@given(logs(), st.sampled_from([0, DAY]), st.sampled_from([None, "5d"]))
def test_rows_and_labels_at_dates_are_the_oracle_s(label, events, blind_spot, within):
    plain, cuts = oracle.plain(events), [day(n) for n in (10, 11, 20, 30)]
    population = {"did": "viewed", **({"within": within} if within else {})}
    numbers, outside = {}, 0
    for user in oracle.willing(plain):
        mine = [e for e in plain if e["user"] == user]
        for at in cuts:
            if oracle.happened(mine, "viewed", at, within, known=at):
                numbers[user, at] = oracle.number(mine, in_the_oracle(label), at, blind_spot)
            elif oracle.happened(mine, "any", at, None, known=at):
                outside += 1
    train = [row for row in numbers if row[1] in cuts[:2]]
    if not train:
        return
    made = build(events, label, DATES, population=population, blind_spot=blind_spot)
    assert table(made) == oracle.labelled(numbers, label, train)
    assert made.provenance["left_out"] == {"population": outside, "incomplete": 0, "embargo": 0}


@given(logs(), st.sampled_from([0, DAY]))
def test_rows_at_events_and_their_parts_are_the_oracle_s(events, blind_spot):
    label, plain = {"did": "bought", "within": "3d"}, oracle.plain(events)
    willing = oracle.willing(plain)
    options = {"every": 4 * DAY, "last": 9, "embargo": 3 * DAY + blind_spot}
    found = oracle.anchors([e for e in plain if e["user"] in willing], "viewed", (day(0), day(40)), **options)
    parts = {row: part for row, part in found.items() if part in ("train", "validation", "test")}
    if not parts:
        return
    numbers = {
        (user, at): oracle.number([e for e in plain if e["user"] == user], label, at, blind_spot) for user, at in parts
    }
    made = build(events, label, {"on": "viewed", "every": "4d", "last": 9}, blind_spot=blind_spot)
    assert table(made) == oracle.labelled(numbers, label, [])
    names = np.array(["train", "validation", "test"])[made.parts]
    rows = zip(made.matrix.users.tolist(), made.matrix.at.tolist(), strict=True)
    assert dict(zip(rows, names.tolist(), strict=True)) == parts
    left_out = {reason: list(found.values()).count(reason) for reason in ("incomplete", "embargo")}
    assert made.provenance["left_out"] == {"population": 0, **left_out}


@given(logs(), logs())
def test_what_is_known_later_changes_no_row_and_no_feature(events, later):
    """Everything that the second log says becomes known after the last cut's label."""
    late = [
        (user, event, ts, {**more, "known": day(39) + DAY // 2, "until": None, "consent": None, "id": 1000 + place})
        for place, (user, event, ts, more) in enumerate((*each, {})[:4] for each in later)
    ]
    label = {"did": "bought", "within": "7d"}
    plain, more = (build([*events, ("d", "bought", day(9)), *extra], label, DATES) for extra in ([], late))
    assert table(more) == table(plain)
    assert values(more) == values(plain)


def test_an_anchor_is_known_in_its_row_and_is_not_its_own_outcome():
    label, cuts = {"did": "bought", "within": "3d"}, {"on": "bought", "every": "4d", "last": 9}
    made = build([("a", "bought", day(28), {"known": day(29)}), *ENDS], label, cuts)
    assert table(made) == {("a", day(29)): 0}
    assert made.matrix.column("count_bought_7d").tolist() == [1]
    assert "one per bought, as of the instant at which it was known" in str(made)


def test_rows_whose_label_is_not_complete_are_left_out_and_counted():
    weekly = {"every": "7d", "last": 3}
    events = [("a", "viewed", day(1)), ("b", "viewed", day(35)), ("d", "viewed", day(40))]
    made = build(events, {"did": "bought", "within": "9d"}, weekly)
    # The log ends with day 40: cuts on days 17, 24 and 31; that on day 38 would need the log up to day 47.
    assert sorted(table(made)) == [("a", day(17)), ("a", day(31))]
    assert made.provenance["left_out"] == {"population": 0, "incomplete": 2, "embargo": 1}
    assert made.provenance["cuts"]["incomplete"] == ["2026-02-12T00:00:00Z"]
    assert "left out: 2 whose label is not complete yet, 1 whose label would reach into the next part" in str(made)


def test_a_top_share_is_cut_on_the_training_rows_and_stays_there():
    def buyers(cut, amounts):
        return [(f"{cut}{n}", "bought", day(cut + 1), {"revenue": amount}) for n, amount in enumerate(amounts)]

    views = [(f"{cut}{n}", "viewed", day(cut - 1)) for cut in (10, 30) for n in range(10)]
    events = [
        *views,
        *buyers(10, range(1, 11)),
        *buyers(30, range(101, 111)),
        ("d", "viewed", day(0)),
        ("d", "viewed", day(40)),
    ]
    label = {"value": "bought.revenue", "within": "7d", "top_share": 0.2}
    made = build(events, label, DATES, population={"did": "viewed", "within": "5d"})
    train, _, test = made.split_by_time()
    assert train.y[train.matrix.at == day(10)].sum() > 0
    assert made.provenance["limit"] == 6.0  # the rows of day 11 have earned nothing more
    assert test.y.tolist() == [1.0] * 10  # everybody is above what was the top: the cut does not move
    assert "label: top 20 % by value bought.revenue within 7d (above 6)" in str(made)


def test_a_label_may_ask_a_registered_model():
    label = {"in_cluster": {"study": "kinds", "in": ["buying"]}, "after": "5d"}
    made = build(
        [("a", "viewed", day(9)), ("a", "bought", day(14)), *ENDS],
        label,
        DATES,
    )
    assert table(made)["a", day(10)] == 1
    assert made.provenance["label"] == "in cluster buying of kinds after 5d (version 3)"
    wrong = Label.from_dict({"in_cluster": {"study": "kinds", "in": ["buing"]}, "after": "5d"})
    with pytest.raises(StudyError, match=r"no cluster 'buing'\. Hint: did you mean 'buying'"):
        answers(wrong)
    with pytest.raises(StudyError, match="nothing here answers who is in cluster buing of kinds"):
        wrong.source(PLAN, CODES, zone="UTC")


def test_a_label_may_ask_a_declared_segment():
    label = {"in_segment": "looker", "after": "5d"}
    made = build([*(("a", "viewed", day(n)) for n in (9, 11, 12)), *ENDS], label, DATES)
    assert table(made)["a", day(10)] == 1
    assert made.provenance["label"] == f"in segment looker after 5d (definition {SEGMENTS.segments[0].version})"


def test_too_short_a_log_has_no_anchors_to_learn_from():
    with pytest.raises(StudyError, match=r"no viewed lies 30d before those of the test"):
        build(
            ENDS,
            {"did": "bought", "within": "30d"},
            {"on": "viewed", "every": "20d", "last": 9},
        )
