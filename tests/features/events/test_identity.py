"""Who is one person, and since when: laws, and a brute-force oracle over paths."""

from itertools import permutations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events.identity import ALWAYS, is_denied, links, path, persons, resolve

NAMES = ["a1", "a2", "a3", "a4", "k1", "k2", "k3"]
LINKS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES[4:]), st.integers(1, 6)).filter(
        lambda link: link[0] != link[1]
    ),
    max_size=9,
)


def _frame(rows):
    return pl.DataFrame(rows, schema={"a": pl.String, "b": pl.String, "at": pl.Int64}, orient="row")


def _table(rows):
    return {name: (canonical, joined) for name, canonical, joined in resolve(_frame(rows)).iter_rows()}


def _bottleneck(rows, start):
    """Per reachable id, the least over all paths of the latest link on the path: relaxation until nothing changes."""
    best = {start: ALWAYS}
    for _ in rows:
        for a, b, at in rows:
            for one, other in ((a, b), (b, a)):
                if one in best:
                    best[other] = min(best.get(other, 1 << 62), max(best[one], at))
    return best


@given(LINKS)
def test_it_equals_the_brute_force_oracle(rows):
    table = _table(rows)
    assert set(table) == {name for a, b, _ in rows for name in (a, b)}
    known = {b for _, b, _ in rows}
    for name, (canonical, joined) in table.items():
        reach = _bottleneck(rows, name)
        earliest = {k: min(at for _, b, at in rows if k == b) for k in known & set(reach)}
        assert canonical == min(earliest, key=lambda k: (earliest[k], k))
        assert joined == _bottleneck(rows, canonical)[name]
        assert (joined == ALWAYS) == (name == canonical)


@given(LINKS, st.randoms(use_true_random=False))
def test_the_order_and_repetition_of_links_change_nothing(rows, random):
    again = [*rows, *rows[:3]]
    random.shuffle(again)
    assert _table(rows) == _table(again)


@given(LINKS, LINKS)
def test_later_links_never_change_who_was_one_person_before(rows, more):
    """Two ids that met the same canonical id by an instant are together after it, whatever comes later."""
    later = [(a, b, at + 10) for a, b, at in more]
    before, after = _table(rows), _table([*rows, *later])
    for one in before:
        for other in before:
            if before[one][0] == before[other][0]:
                assert after[one][0] == after[other][0]
    for name, (canonical, joined) in before.items():
        if after[name][0] == canonical:
            assert after[name][1] == joined


@given(LINKS)
def test_the_way_between_two_ids_is_as_late_as_their_joining(rows):
    for name, (canonical, joined) in _table(rows).items():
        way = path(_frame(rows), name, canonical)
        assert max((at for at, _, _ in way), default=ALWAYS) == joined


@pytest.mark.parametrize(
    "nobody", ["null", "UNDEFINED", " 0 ", "00000000-0000-0000-0000-000000000000", "", "[]", "-1", "NaN"]
)
def test_an_id_that_stands_for_nobody_joins_nobody(nobody):
    assert is_denied(nobody)
    assert _table([(nobody, "k1", 1), (nobody, "k2", 2), ("a1", "k2", 3)]) == {"a1": ("k2", 3), "k2": ("k2", ALWAYS)}


def test_ordinary_ids_are_not_denied():
    assert not any(is_denied(name) for name in ("1", "10", "ann", "a-0", "nullable", "trueman"))


def test_a_chain_that_meets_from_both_ends_is_joined_by_its_latest_link():
    rows = [("a1", "k1", 5), ("a2", "k1", 1), ("a2", "k2", 3), ("a3", "k2", 2)]
    expected = {"k1": ("k1", 0), "a2": ("k1", 1), "k2": ("k1", 3), "a3": ("k1", 3), "a1": ("k1", 5)}
    assert all(_table(list(order)) == expected for order in permutations(rows))
    assert persons(resolve(_frame(rows)), ["a3"]) == {"k1", "k2", "a1", "a2", "a3"}
    assert path(_frame(rows), "a1", "nobody") == []


def test_links_are_what_identify_and_alias_say_when_it_arrived():
    events = pl.DataFrame(
        {
            "event": ["identify", "alias", "identify", "page_view", "identify"],
            "user_id": ["k", "k", "k", "k", "alone"],
            "anonymous_id": ["a", "device", "a", "x", None],
            "previous_id": [None, "old", None, None, None],
            "received": [9, 5, 4, 1, 1],
        }
    )
    assert links(events).rows() == [("a", "k", 4), ("old", "k", 5)]


def test_a_long_chain_of_ids_is_resolved():
    rows = [(f"a{n}", f"a{n + 1}", n + 1) for n in range(3000)]
    table = _table(rows)
    assert table["a0"] == ("a1", 1)
    assert table["a3000"] == ("a1", 3000)
