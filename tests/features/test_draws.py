"""Draws: the vectors that GrowthBook publishes, and many at once as one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.draws import place, places

VECTORS = [
    ("seed", "a", 0.0505),
    ("seed", "b", 0.2696),
    ("foo", "ab", 0.2575),
    ("foo", "def", 0.2019),
    ("89123klj", "8952klfjas09ujkasdf", 0.124),
    ("90850943850283058242805", "123", 0.7516),
]


@pytest.mark.parametrize(("seed", "user", "wanted"), VECTORS)
def test_the_hash_is_the_published_one(seed: str, user: str, wanted: float) -> None:
    assert place(seed, user) == wanted


@given(st.text(max_size=8), st.lists(st.text(st.characters(codec="utf-8"), max_size=12), max_size=8))
def test_many_at_once_are_the_same_as_one_by_one(seed: str, users: list[str]) -> None:
    seed = seed.encode(errors="ignore").decode()
    assert places(seed, users).tolist() == [place(seed, user) for user in users]
