"""Lineage: ids and names stay with the people; splits, merges, births and deaths are told; no id is used twice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.algorithms import kmeans
from training.assigner import nearest
from training.lineage import first, traced

CENTRES = np.array([[0, 0], [8, 0], [0, 8]])


def blobs(seed, *, split=False):
    """Three groups of people; the first, the largest, perhaps in two."""
    random = np.random.default_rng(seed)
    sizes = (600, 250, 150)
    x = np.vstack([random.normal(0, 0.5, (n, 2)) + centre for n, centre in zip(sizes, CENTRES, strict=True)])
    if split:
        x[:220] += [-4, -4]
    return x


def test_a_bootstrap_refit_keeps_every_id():
    x = blobs(1)
    before = kmeans(x, 3, seed=0)
    for seed in range(5):
        drawn = np.random.default_rng(seed).integers(0, len(x), len(x))
        again = kmeans(x[drawn], 3, seed=seed + 10).assigner
        after = nearest(again.distances(x))
        found = traced(before.labels, after, ids=(4, 7, 9), k=3, unused=12)
        assert sorted(found.ids) == [4, 7, 9]
        assert (found.next, found.changes) == (12, ())
        assert min(found.overlap) > 0.95
        old = [found.ids[place] for place in after]
        assert np.mean(np.array([4, 7, 9])[before.labels] == old) > 0.99


def test_a_planted_split_gives_one_kept_and_one_new_id():
    before = kmeans(blobs(2), 3, seed=0)
    fitted = kmeans(blobs(2, split=True), 4, seed=0)
    found = traced(before.labels, fitted.labels, ids=(1, 2, 3), k=4, unused=4)
    assert sorted(found.ids) == [1, 2, 3, 4]
    assert found.changes == ("1 was split into 1 and 4",)
    names = found.names(("many", "some", "few"), ("many", "low a", "high b", "new"))
    assert sorted(names) == sorted(["many", "some", "few", names[found.ids.index(4)]])
    assert len(set(names)) == 4


def test_a_merge_is_told_and_the_larger_part_keeps_its_id():
    before, after = np.repeat([0, 1, 2], [600, 250, 150]), np.repeat([0, 0, 1], [600, 250, 150])
    found = traced(before, after, ids=(1, 2, 3), k=2, unused=4)
    assert (found.ids, found.next) == ((1, 3), 4)
    assert found.changes == ("1 and 2 were merged into 1",)


def test_what_comes_from_everywhere_is_new_and_what_goes_everywhere_is_gone():
    before, after = np.repeat([0, 1, 2], 300), np.tile([0, 1, 2], 300)
    found = traced(before, after, ids=(1, 2, 3), k=3, unused=4)
    assert (found.ids, found.next) == ((4, 5, 6), 7)
    assert set(found.changes) == {*(f"{id_} is new" for id_ in (4, 5, 6)), *(f"{id_} is gone" for id_ in (1, 2, 3))}


def test_the_first_model_begins_with_one():
    assert first(3).ids == (1, 2, 3)
    assert first(3).names((), ("a", "b", "c")) == ("a", "b", "c")


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 5), st.integers(1, 5))
def test_no_id_is_used_twice_and_a_kept_one_overlaps_by_half(data, k_before, k_after):
    rows = data.draw(st.lists(st.tuples(st.integers(0, k_before - 1), st.integers(0, k_after - 1)), min_size=1))
    before, after = (np.array(each) for each in zip(*rows, strict=True))
    ids = tuple(range(1, k_before + 1))
    found = traced(before, after, ids=ids, k=k_after, unused=k_before + 1)
    assert len(set(found.ids)) == k_after
    fresh = [id_ for id_ in found.ids if id_ > k_before]
    assert fresh == sorted(fresh)
    assert found.next == k_before + 1 + len(fresh)
    for place, old in enumerate(found.kept):
        if old >= 0:
            mine, theirs = set(np.flatnonzero(after == place)), set(np.flatnonzero(before == old))
            assert found.overlap[place] == pytest.approx(len(mine & theirs) / len(mine | theirs))
            assert found.overlap[place] >= 0.5
            assert found.ids[place] == ids[old]
    names = found.names([f"n{i}" for i in range(k_before)], [f"n{i}" for i in range(k_after)])
    assert len(set(names)) == k_after
