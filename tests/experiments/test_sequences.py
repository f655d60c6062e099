"""Sequences against plain loops, and what is said of planted ones and of noise."""

from itertools import pairwise

import numpy as np
import pytest

from experiments.inference import Summary, fold
from experiments.sequences import STEPS, compared, counts, distinct, joined
from features.instants import DAY, MINUTE
from tests.experiments.happenings import NAMES, START, halves, happenings, occurrences, sessions

LOG = happenings(n_users=150, seed=4)
OUTCOME = {user: float(place % 5) for place, user in enumerate(LOG) if place % 7}


def runs(mine):
    """What a person did in a row: two or three events of a session, repetitions told once."""
    found = set()
    for run in sessions(mine):
        names = [name for place, (_, name) in enumerate(run) if not place or name != run[place - 1][1]]
        found |= {tuple(names[k : k + n]) for n in (2, 3) for k in range(len(names) - n + 1)}
    return found


def test_counts_are_those_of_a_plain_loop_and_buckets_add_up():
    wanted = {}
    for user, y in OUTCOME.items():
        for run in runs(LOG[user]):
            sums = wanted.setdefault(run, [0, 0.0, 0.0, 0])
            for place, value in enumerate((1, y, y * y, y != 0)):
                sums[place] += value
    wanted[()] = [
        len(OUTCOME),
        *(sum(each) for each in zip(*((y, y * y, y != 0) for y in OUTCOME.values()), strict=True)),
    ]
    whole, parts = counts(occurrences(LOG), OUTCOME), [counts(occurrences(half), OUTCOME) for half in halves(LOG)]
    for found in (whole, joined(parts)):
        sums = {tuple(NAMES[p] for p in row[:3] if p is not None): list(row[3:]) for row in found.sort(STEPS).rows()}
        assert sums == wanted


def test_lifts_are_those_of_the_users_themselves():
    found = compared(counts(occurrences(LOG), OUTCOME), NAMES)
    assert found
    for each in found:
        did = {user for user in OUTCOME if each.steps in runs(LOG[user])}
        sides = [np.array([OUTCOME[user] for user in OUTCOME if (user in did) == inside]) for inside in (True, False)]
        wanted = fold(Summary.of(sides[0]), Summary.of(sides[1]))
        assert (each.lift.value, each.lift.low) == pytest.approx((wanted.value, wanted.low))
        assert each.share == len(did) / len(OUTCOME)
        assert each.inside == pytest.approx(sides[0].mean())
    assert [each.strength for each in found] == sorted((each.strength for each in found), reverse=True)


def test_a_planted_sequence_is_first_and_noise_does_not_hold():
    random, log, outcome = np.random.default_rng(5), {}, {}
    for place in range(4_000):
        walk = random.permutation(["look", "add", "leave"]).tolist()
        planted = ("look", "leave") in set(pairwise(walk))
        log[f"u{place}"] = [(START + DAY + step * MINUTE, name) for step, name in enumerate(walk)]
        outcome[f"u{place}"] = float(random.random() < (0.4 if planted else 0.2))
    found = compared(counts(occurrences(log), outcome), NAMES)
    pairs = [each for each in found if len(each.steps) == 2]
    assert pairs[0].steps == ("look", "leave")
    assert pairs[0].lift.low < 1.0 < pairs[0].lift.high
    assert pairs[0].holds
    noise = {user: float(random.random() < 0.2) for user in log}
    assert not any(each.holds for each in compared(counts(occurrences(log), noise), NAMES))


def test_what_says_the_same_twice_is_shown_once():
    found = compared(counts(occurrences(LOG), OUTCOME), NAMES)
    shown = distinct(found)[:3]
    assert 0 < len(shown) <= 3
    pairs = [set(pairwise(each.steps)) for each in shown]
    assert all(not one & other for place, one in enumerate(pairs) for other in pairs[:place])


def test_rare_sequences_and_rare_outcomes_are_not_compared():
    assert compared(counts(occurrences(LOG), dict.fromkeys(OUTCOME, 0.0)), NAMES) == []
    assert compared(counts(occurrences({}), {}), NAMES) == []
