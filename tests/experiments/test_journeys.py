"""Journeys against plain loops over plain lists."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest

from experiments.journeys import PERIODS, Asked, Journeys, dormant, propose_steps
from features.instants import DAY, HOUR, MINUTE
from tests.experiments.happenings import NAMES, START, halves, happenings, occurrences, sessions

LOG = happenings()
ASKED = Asked(NAMES, START, START + 70 * DAY, goal="pay", steps=("look", "add", "pay"))
FOUND = Journeys.of(occurrences(LOG), ASKED)


def test_buckets_add_up():
    one, two = (Journeys.of(occurrences(half), ASKED) for half in halves(LOG))
    both = one + two
    for name, whole in vars(FOUND).items():
        parts = vars(both)[name]
        if name == "waits":
            assert [sorted(each) for each in parts] == [sorted(each) for each in whole]
        else:
            assert np.array_equal(np.sort(parts, axis=None), np.sort(whole, axis=None)), name


def test_events_reach_and_hours():
    events = Counter(name for mine in LOG.values() for _, name in mine)
    reach = Counter(name for mine in LOG.values() for name in {name for _, name in mine})
    assert FOUND.persons == 60
    assert FOUND.events.tolist() == [events[name] for name in NAMES]
    assert FOUND.reach.tolist() == [reach[name] for name in NAMES]
    hours = Counter()
    for mine in LOG.values():
        for ts, name in mine:
            local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ts + 120 * MINUTE)
            hours[name, 24 * local.weekday() + local.hour] += 1
    assert {(NAMES[e], h): n for (e, h), n in np.ndenumerate(FOUND.hours) if n} == hours


def test_transitions_begin_and_end_with_the_session():
    wanted = Counter()
    for mine in LOG.values():
        for run in sessions(mine):
            names = ["begin", *(name for _, name in run), "end"]
            wanted.update(pairwise(names))
    rows, columns = (*NAMES, "begin"), (*NAMES, "end")
    assert {(rows[a], columns[b]): n for (a, b), n in np.ndenumerate(FOUND.transitions) if n} == wanted


def test_the_funnel_takes_each_step_at_its_first_chance():
    passed, waits = [0, 0, 0], [[], []]
    for mine in LOG.values():
        before = None
        for step, name in enumerate(ASKED.steps):
            place = next((k for k, each in enumerate(mine) if (before is None or k > before) and each[1] == name), None)
            if place is None:
                break
            passed[step] += 1
            if before is not None:
                waits[step - 1].append((mine[place][0] - mine[before][0]) / HOUR)
            before = place
    assert FOUND.passed.tolist() == passed
    assert passed[0] > passed[1] > passed[2] > 0
    for found, wanted in zip(FOUND.waits, waits, strict=True):
        assert found == pytest.approx(wanted)


def test_purchases_within_half_an_hour_are_one():
    returns, still = [], []
    for mine in LOG.values():
        bought = [run[0][0] for run in sessions([each for each in mine if each[1] == "pay"])]
        returns += [(b - a) / DAY for a, b in pairwise(bought)]
        still += [(ASKED.last - bought[-1]) / DAY] if bought else []
    assert sorted(FOUND.returns) == pytest.approx(sorted(returns))
    assert sorted(FOUND.open) == pytest.approx(sorted(still))


def test_retention_counts_whole_periods_of_those_who_have_had_them():
    due, active = np.zeros((11, PERIODS), int), np.zeros((11, PERIODS), int)
    week = 7 * DAY
    for mine in LOG.values():
        if mine:
            first = mine[0][0]
            for period in range(PERIODS):
                if first + (period + 1) * week <= ASKED.last:
                    cohort = (first - START) // week
                    due[cohort, period] += 1
                    active[cohort, period] += any(period == (ts - first) // week for ts, _ in mine)
    assert np.array_equal(FOUND.due, due)
    assert np.array_equal(FOUND.active, active)
    assert (FOUND.active[:, 0] == FOUND.due[:, 0]).all()


def test_a_person_without_events_changes_nothing_and_an_empty_bucket_is_fine():
    nothing = Journeys.of(occurrences({"x": []}), ASKED)
    assert nothing.events.sum() == nothing.due.sum() == len(nothing.returns) == 0
    assert (FOUND + nothing).persons == FOUND.persons + 1


def test_a_funnel_is_proposed_from_what_buyers_do_first():
    log = {}
    for user in range(100):
        walk = ["look"] * 2 + (["add"] if user < 60 else []) + (["pay"] if user < 30 else []) + ["leave"]
        log[f"u{user}"] = [(START + place * MINUTE, name) for place, name in enumerate(walk)]
    assert propose_steps(occurrences(log), "pay") == ("look", "add", "pay")
    assert propose_steps(occurrences({"x": [(START, "look")]}), "pay") == ("pay",)


def test_buyers_who_were_watched_for_a_short_time_do_not_make_intervals_look_short():
    """Return times uniform over 1 to 100 days, everybody watched for 1 to 100 days."""
    random = np.random.default_rng(1)
    true, watched = random.uniform(0, 100, 20_000), random.uniform(0, 100, 20_000)
    seen = true <= watched
    found = dormant(true[seen], watched[~seen])
    naive = np.quantile(true[seen], 0.9)
    assert naive < 75
    assert found.days == pytest.approx(90, abs=4)
    half = found.curve[np.searchsorted(found.curve[:, 0], 50), 1]
    assert half == pytest.approx(0.5, abs=0.02)
    assert dormant(true[:20], watched) is None


def test_those_who_never_come_back_do_not_move_the_cut():
    random = np.random.default_rng(2)
    true = np.where(random.random(20_000) < 0.5, random.uniform(0, 40, 20_000), np.inf)
    watched = random.uniform(60, 100, 20_000)
    seen = true <= watched
    assert dormant(true[seen], watched[~seen]).days == pytest.approx(36, abs=2)
