"""Assignment: shares as declared, nobody moved by a ramp, tests that exclude each other, switches that work at once."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from features.draws import places
from features.instants import DAY
from serving.abtests import OTHER, AbTests
from serving.assignment import Enrolled, assign, drawn, ranges

USERS = [f"user-{k}" for k in range(10_000)]
ARMS = {"plain": {"weight": 1}, "bold": {"weight": 2}, "bolder": {"weight": 1}}


def file_of(holdout=0.0, **more):
    hero = {"control": "plain", "arms": ARMS, **more}
    return AbTests.from_dict({"holdout": {"share": holdout}, "tests": {"hero": hero}})


def seen(tests, user, at=DAY, *, enrolled=None, segments=(), name="hero"):
    return assign(tests, name, user, at, enrolled=enrolled, segments=segments)


def test_arms_get_the_shares_that_their_weights_say():
    tests = file_of()
    arms = [seen(tests, user).arm for user in USERS]
    counts = [arms.count(name) for name in ARMS]
    assert sum(counts) == len(USERS)
    assert stats.chisquare(counts, [2_500, 5_000, 2_500]).pvalue > 0.001


def test_many_at_once_fall_where_one_by_one_do():
    tests = file_of()
    here = places("hero", USERS[:500])
    bounds = ranges(tests.tests["hero"], 1.0)
    for user, place in zip(USERS, here.tolist(), strict=False):
        low, high = bounds[str(seen(tests, user).arm)]
        assert low <= place < high


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6).map(sorted), st.text(max_size=9), st.integers(2, 5))
def test_a_ramp_moves_nobody_who_is_in(shares, user, n_arms):
    arms = {f"arm{k}": {"weight": k + 1} for k in range(n_arms)}
    ramp = [{"at": (k + 1) * DAY, "share": share} for k, share in enumerate(shares)]
    tests = AbTests.from_dict({"tests": {"t": {"control": "arm0", "arms": arms, "ramp": ramp}}})
    arms_seen = [drawn(tests.tests["t"], "t", user, (k + 1) * DAY, tests.holdout)[0] for k in range(len(shares))]
    for before, after in pairwise(arms_seen):
        assert before in ("", after)


def test_ramping_from_ten_to_fifty_percent_adds_people_to_every_arm_and_moves_nobody():
    tests = file_of(ramp=[{"at": DAY, "share": 0.1}, {"at": 2 * DAY, "share": 0.5}])
    first = {user: arm for user in USERS if (arm := seen(tests, user, DAY).arm)}
    later = {user: arm for user in USERS if (arm := seen(tests, user, 2 * DAY).arm)}
    assert abs(len(first) / len(USERS) - 0.1) < 0.012
    assert abs(len(later) / len(USERS) - 0.5) < 0.02
    assert all(later[user] == arm for user, arm in first.items())
    assert seen(tests, USERS[0], DAY - 1).arm is None


def test_tests_of_one_namespace_have_nobody_in_common_and_others_are_independent():
    half = {"control": "plain", "arms": ARMS}
    tests = AbTests.from_dict(
        {
            "tests": {
                "one": {**half, "namespace": {"name": "page", "range": [0, 0.5]}},
                "two": {**half, "namespace": {"name": "page", "range": [0.5, 1]}},
                "free": half,
            }
        }
    )
    arms = {name: [seen(tests, user, name=name).arm for user in USERS] for name in tests.tests}
    assert all((a is None) != (b is None) for a, b in zip(arms["one"], arms["two"], strict=True))
    table = np.zeros((3, 3))
    for one, free in zip(arms["one"], arms["free"], strict=True):
        if one is not None:
            table[list(ARMS).index(one), list(ARMS).index(free)] += 1
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_who_is_held_out_is_in_no_test():
    tests = file_of(holdout=0.2)
    out = [user for user in USERS if seen(tests, user).arm is None]
    assert abs(len(out) / len(USERS) - 0.2) < 0.016
    assert {seen(tests, user).show for user in out} == {"plain"}
    assert seen(tests, out[0]).reason == "the person is in no test: held out"


def test_the_first_exposure_fixes_arm_and_segment_whatever_the_file_says_later():
    tests = file_of(holdout=1.0, segments=["a", "b"], share=0.0)
    said = seen(tests, "ann", enrolled=Enrolled("bolder", "b", 5), segments=["a"])
    assert (said.arm, said.segment, said.enrolled) == ("bolder", "b", 5)
    gone = seen(tests, "ann", enrolled=Enrolled("removed", "b", 5))
    assert (gone.arm, gone.show, gone.reason) == (None, "plain", "the person's arm is no more")


def test_switches_and_times_end_a_test_for_everybody():
    inside = Enrolled("bold", OTHER, 5)
    for more, show, reason in (
        ({"killed": True}, "plain", "the test is switched off"),
        ({"winner": "bold"}, "bold", "'bold' is rolled out"),
        ({"start": 2 * DAY}, "plain", "the test has not begun"),
        ({"stop": DAY}, "plain", "the test is over"),
    ):
        said = seen(file_of(**more), "ann", enrolled=inside)
        assert (said.arm, said.show, said.reason) == (None, show, reason)


def test_a_person_is_in_the_first_stratum_that_holds():
    tests = file_of(segments=["rich", "new"])
    assert seen(tests, "ann", segments=["new", "rich"]).segment == "rich"
    assert seen(tests, "ann", segments=["x"]).segment == OTHER
