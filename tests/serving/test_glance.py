"""One compiled call says what features and models say, to the bit, whatever models and preparations there are."""

from dataclasses import replace

import numpy as np
import pytest

from features.behaviour.histories import Histories
from features.behaviour.kernel import run
from features.instants import DAY
from serving.fingerprint import CONSENT, FIXED, seen
from serving.glance import Glance
from serving.state import State, states_of
from tests.serving import shop
from training.calibration import Calibration
from training.steps import fit

EVENTS = ["product_viewed", "order_completed", "page_viewed"]
CHANCES = {
    "none": Calibration(),
    "platt": Calibration("platt", slope=0.7, intercept=-0.2),
    "isotonic": Calibration("isotonic", x=(-1.0, -0.2, 0.5), y=(0.1, 0.4, 0.9)),
    "one point": Calibration("isotonic", x=(0.0,), y=(0.3,)),
}


@pytest.fixture(scope="module")
def states(bundle, plan):
    """Histories of different lengths, one of them empty."""
    draw = np.random.default_rng(5)
    rows = [
        (f"u{k % 6}", EVENTS[int(draw.integers(3))], shop.NOW - int(draw.integers(40 * DAY)), {"revenue": 3})
        for k in range(120)
    ]
    frame = shop.cleaned(plan, shop.messages(*rows), shop.NOW).batch.frame
    owned = frame.with_columns(user="user_id", known="received").sort("user", maintain_order=True)
    return [State(user, bytes(slots)) for user, slots in states_of(bundle.schema, owned)] + [State("nobody")]


def agrees(bundle, states):
    """What the call says of states equals what the parts say one after the other."""
    glance = Glance(bundle)
    sight = glance(states, np.array([shop.NOW]), FIXED)
    histories = Histories.from_states(bundle.schema, [s.user for s in states], [s.records for s in states])
    np.testing.assert_array_equal(sight.told, seen(histories, np.array([shop.NOW])))
    matrix = bundle.computed.compute(histories, sight.at)
    np.testing.assert_array_equal(sight.values.view(np.int64), matrix.values.view(np.int64))
    np.testing.assert_array_equal(sight.capped, matrix.capped)
    for study, reading in glance.readings.items():
        scores = bundle.models[study].score(matrix)
        mine = sight.figures[:, reading.at : reading.at + reading.width]
        np.testing.assert_array_equal(mine, reading.figures(scores))
        found = reading.scores(sight.figures)
        for told in ("probability", "cluster", "confidence", "distances", "probabilities"):
            np.testing.assert_array_equal(getattr(found, told), getattr(scores, told), err_msg=told)
    return glance


@pytest.mark.parametrize("name", CHANCES)
def test_every_calibration_is_the_model_s_own(bundle, states, name):
    model = replace(bundle.models["purchase_7d"], calibration=CHANCES[name])
    glance = agrees(replace(bundle, models={**bundle.models, "purchase_7d": model}), states)
    assert all(each.plain for each in glance.readings.values())


@pytest.mark.parametrize(
    ("steps", "plain"),
    [
        (["impute", {"cap": {"columns": ["recency_any_s"]}}, "robust"], True),
        ([{"cap": {"low": 0.2}}, "impute", "min_max"], True),
        (["impute", "power", "standardise"], False),
    ],
)
def test_every_preparation_is_the_model_s_own(bundle, states, steps, plain):
    features = bundle.features
    clusters = bundle.models["behaviour"]
    names = ("recency_any_s", *clusters.preparation.names)[: len(clusters.preparation.names)]
    changed = replace(clusters, preparation=fit(shop.matrix_of(features), steps, names=tuple(dict.fromkeys(names))))
    changed = replace(
        changed, head=replace(clusters.head, centres=clusters.head.centres[:, : len(changed.preparation.outputs)])
    )
    glance = agrees(replace(bundle, models={**bundle.models, "behaviour": changed}), states)
    assert glance.readings["behaviour"].plain == plain


def test_a_row_alone_and_among_others_is_the_same(bundle, states):
    glance = Glance(bundle)
    many = glance(states, np.array([shop.NOW]), FIXED)
    for row, state in enumerate(states):
        one = glance([state], np.array([shop.NOW]), FIXED)
        assert one.told == [many.told[row]]
        np.testing.assert_array_equal(one.values.view(np.int64), many.values[[row]].view(np.int64))
        np.testing.assert_array_equal(one.figures, many.figures[[row]])


def test_consent_is_told_of_everybody(bundle, states):
    told = Glance(bundle)(states, np.array([shop.NOW]), FIXED).told
    assert {row[CONSENT] for row in told} == {bundle.schema.consent}


def test_between_points_is_numpy_s_interpolation():
    draw = np.random.default_rng(1)
    for n in (2, 3, 40):
        x, y = np.sort(draw.normal(size=n)), np.sort(draw.random(n))
        wide = np.concatenate([draw.normal(scale=2, size=200), x, [np.nan, np.inf, -np.inf]])
        ours = Calibration("isotonic", x=tuple(x), y=tuple(y)).probability(wide)
        np.testing.assert_array_equal(ours, np.interp(wide, x, y))


def test_an_answer_needs_no_machine_code_of_the_features_but_a_batch_s_own(bundle, states):
    """A constant in the call would have numba compile all families a second time, half a minute of a first start."""
    agrees(bundle, states)
    assert len(run._cache._cache_file._load_index()) == len(run.signatures) == 1
