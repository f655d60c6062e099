import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import DefinitionError, StudyError
from features.instants import DAY, parse_instant
from training.cuts import CutsSpec

JANUARY = parse_instant("2026-01-01")
SPAN = (JANUARY, JANUARY + 70 * DAY + DAY // 2)


def days(instants):
    return [(instant - JANUARY) / DAY for instant in instants]


def test_weekly_cuts_count_back_from_the_last_complete_label():
    cuts = CutsSpec.from_dict({"every": "7d", "last": 5}).resolve(SPAN, horizon=7 * DAY, blind_spot=0)
    assert days(cuts.test) == [63]
    assert days(cuts.validation) == [56]
    assert days(cuts.train) == [35, 42, 49]
    assert cuts.unused == ()


def test_a_long_label_gives_up_the_cuts_that_would_know_the_next_part():
    cuts = CutsSpec.from_dict({"every": "7d", "last": 8}).resolve(SPAN, horizon=14 * DAY, blind_spot=DAY)
    assert days(cuts.test) == [55]
    assert days(cuts.validation) == [34]
    assert days(cuts.train) == [6, 13]
    assert days(cuts.unused) == [20, 27, 41, 48]


@given(
    horizon=st.integers(1, 20),
    blind=st.integers(0, 5),
    every=st.integers(1, 9),
    last=st.integers(2, 12),
    end=st.integers(40, 400),
)
def test_no_label_reaches_into_the_next_part_and_every_label_is_complete(horizon, blind, every, last, end):
    spec = CutsSpec.from_dict({"every": f"{every}d", "last": last})
    span = (JANUARY, JANUARY + end * DAY)
    try:
        cuts = spec.resolve(span, horizon=horizon * DAY, blind_spot=blind * DAY)
    except StudyError:
        return
    embargo = (horizon + blind) * DAY
    assert cuts.test[0] + embargo <= span[1]
    assert max(cuts.train) + embargo <= min(cuts.validation or cuts.test)
    assert not cuts.validation or cuts.validation[0] + embargo <= cuts.test[0]
    assert len({*cuts.train, *cuts.validation, *cuts.test, *cuts.unused}) <= last
    assert min(cuts.train) > span[0]


def test_dates_are_taken_as_given():
    spec = CutsSpec.from_dict({"train": ["2026-01-10", "2026-01-20"], "validation": "2026-02-01", "test": "2026-02-10"})
    cuts = spec.resolve(SPAN, horizon=7 * DAY, blind_spot=0)
    assert days(cuts.train) == [9, 19]
    assert days(cuts.validation) == [31]
    assert days(cuts.test) == [40]


def test_without_a_validation_date_persons_choose():
    spec = CutsSpec.from_dict({"train": ["2026-01-10", "2026-01-20"], "test": "2026-02-01"})
    cuts = spec.resolve(SPAN, horizon=12 * DAY, blind_spot=0)
    assert (days(cuts.train), cuts.validation, days(cuts.test)) == ([9, 19], (), [31])


def test_a_test_cut_whose_label_is_not_complete_is_refused():
    spec = CutsSpec.from_dict({"train": ["2026-01-10"], "test": "2026-03-10"})
    with pytest.raises(StudyError, match=r"can answer cuts up to 2026-03-05T12:00:00Z"):
        spec.resolve(SPAN, horizon=7 * DAY, blind_spot=0)


def test_dates_too_close_together_are_refused():
    spec = CutsSpec.from_dict({"train": ["2026-01-10"], "test": "2026-01-12"})
    with pytest.raises(StudyError, match="Hint: move them 7d apart"):
        spec.resolve(SPAN, horizon=7 * DAY, blind_spot=0)


def test_a_log_that_is_too_short_says_what_it_has():
    with pytest.raises(StudyError, match="too short for one cut"):
        CutsSpec.from_dict({"every": "7d", "last": 3}).resolve(SPAN, horizon=90 * DAY, blind_spot=0)
    with pytest.raises(StudyError, match="no cut is 7d before"):
        CutsSpec.from_dict({"every": "7d", "last": 1}).resolve(SPAN, horizon=7 * DAY, blind_spot=0)


def test_clusters_are_fitted_at_the_midnight_after_the_last_event():
    cuts = CutsSpec.from_dict({"every": "7d", "last": 1}).resolve(SPAN, horizon=0, blind_spot=0)
    assert (days(cuts.train), cuts.validation, cuts.test) == ([71], (), ())


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"every": "7d"},
        {"every": "7d", "last": 3, "test": "2026-01-01"},
        {"train": ["2026-01-01"]},
        {"train": ["2026-02-01"], "test": "2026-01-01"},
        {"train": ["2026-01-01"], "validation": "2026-01-01", "test": "2026-02-01"},
    ],
)
def test_half_a_definition_is_refused(data):
    with pytest.raises(DefinitionError, match=r"cuts are|must rise"):
        CutsSpec.from_dict(data)
