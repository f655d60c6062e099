"""The log's order is (user, ts, seq, id), whatever order events came in."""

from itertools import pairwise

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from features.events.ordering import dealt, order_of, repeated
from features.hashing import hash_column
from features.people import hash_text, stable_hash

EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 2), st.integers(-5, 5)), max_size=90)


@given(EVENTS)
def test_it_is_the_order_of_a_plain_sort(events):
    code, *keys = np.array(events, np.int64).reshape(-1, 4).T
    order, starts = order_of(code.astype(np.uint32), *(np.ascontiguousarray(key) for key in keys), 4)
    assert [events[place] for place in order] == sorted(events)
    assert starts.tolist() == [0, *np.cumsum(np.bincount(code, minlength=4)).tolist()]


@given(st.lists(st.integers(0, 5), max_size=60), st.lists(st.integers(-1, 2), min_size=6, max_size=6))
def test_events_are_dealt_to_piles_in_the_order_they_came(person, pile):
    order, starts = dealt(np.array(person, np.uint32), np.array(pile, np.int64), 3)
    piles = [order[low:high].tolist() for low, high in pairwise(starts)]
    assert piles == [[place for place, each in enumerate(person) if pile[each] == k] for k in range(3)]


@given(st.lists(st.lists(st.sampled_from([0, 1, -3, 1 << 62, -(1 << 63)]), max_size=8), max_size=5))
def test_an_id_is_repeated_within_a_person_alone(ids):
    starts = np.cumsum([0, *map(len, ids)])
    found = repeated(np.array([each for own in ids for each in own], np.int64), starts.astype(np.int64))
    assert found.tolist() == [own.count(each) > 1 for own in ids for each in own]


@given(st.lists(st.one_of(st.none(), st.text(max_size=90)), max_size=20))
def test_hashes_of_a_column_are_those_of_its_texts(texts):
    column = pl.Series("text", texts, dtype=pl.String)
    hashes = [None if text is None else hash_text(text) for text in texts]
    assert hash_column(column).to_list() == hashes
    assert stable_hash(column.cast(pl.Categorical)).to_list() == hashes


def test_a_hash_never_changes():
    """Reference values of xxh64 with seed 0, as published with the algorithm."""
    assert hash_text("") == 0xEF46DB3751D8E999 - (1 << 64)
    assert hash_text("a") == 0xD24EC4F1A98C6E5B - (1 << 64)
