"""The log's order is (user, ts, seq, id), whatever order events came in."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from features.events.ordering import order_of
from features.hashing import hash_column
from features.people import hash_text

EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 2), st.integers(-5, 5)), max_size=90)


@given(EVENTS)
def test_it_is_the_order_of_a_plain_sort(events):
    code, *keys = np.array(events, np.int64).reshape(-1, 4).T
    order, starts = order_of(code.astype(np.uint32), *(np.ascontiguousarray(key) for key in keys), 4)
    assert [events[place] for place in order] == sorted(events)
    assert starts.tolist() == [0, *np.cumsum(np.bincount(code, minlength=4)).tolist()]


@given(st.lists(st.one_of(st.none(), st.text(max_size=90)), max_size=20))
def test_hashes_of_a_column_are_those_of_its_texts(texts):
    column = pl.Series("text", texts, dtype=pl.String)
    assert hash_column(column).to_list() == [None if text is None else hash_text(text) for text in texts]


def test_a_hash_never_changes():
    """Reference values of xxh64 with seed 0, as published with the algorithm."""
    assert hash_text("") == 0xEF46DB3751D8E999 - (1 << 64)
    assert hash_text("a") == 0xD24EC4F1A98C6E5B - (1 << 64)
