import numpy as np
import pytest

from features.errors import BundleError
from training.assigner import Centroids, nearest


def test_distances_are_euclidean_and_ties_go_to_the_first():
    centroids = Centroids(np.array([[0.0, 0.0], [2.0, 0.0]]))
    distances = centroids.distances(np.array([[3.0, 4.0], [1.0, 0.0]]))
    assert distances[0] == pytest.approx([5.0, np.sqrt(17)])
    assert nearest(distances).tolist() == [1, 0]


def test_a_cluster_of_several_points_is_as_near_as_its_nearest():
    whole = Centroids(np.array([[0.0], [10.0], [4.0]]), (0, 0, 1))
    assert len(whole) == 2
    assert whole.distances(np.array([[9.0], [3.0]])).tolist() == [[1, 5], [3, 1]]
    assert Centroids.from_dict(whole.to_dict()).owners == (0, 0, 1)
    with pytest.raises(BundleError, match="owners"):
        Centroids.from_dict({"centres": [[0], [1]], "owners": [0, 2]})


def test_confidence_is_a_half_between_two_and_one_at_the_centre():
    two = Centroids(np.array([[0.0], [2.0]]))
    assert two.confidence(two.distances(np.array([[1.0], [0.0], [-1.0]]))) == pytest.approx([0.5, 1.0, 0.75])
    assert Centroids(np.zeros((1, 1))).confidence(np.ones((2, 1))).tolist() == [1, 1]


def test_a_row_alone_gives_the_bits_it_gives_among_many():
    random = np.random.default_rng(1)
    centroids, x = Centroids(random.normal(size=(5, 30))), random.normal(size=(200, 30))
    whole = centroids.distances(x)
    assert np.array_equal(np.concatenate([centroids.distances(x[i : i + 1]) for i in range(200)]), whole)
    assert np.array_equal(Centroids.from_dict(centroids.to_dict()).distances(x), whole)


@pytest.mark.parametrize("data", [{}, {"centres": []}, {"centres": [[1], [2, 3]]}, {"centres": [[None]]}])
def test_anything_but_a_finite_table_is_refused(data):
    with pytest.raises(BundleError, match=r"centroids\.json"):
        Centroids.from_dict(data)


def test_rows_of_another_width_are_refused():
    with pytest.raises(BundleError, match="2 columns"):
        Centroids(np.zeros((1, 2))).distances(np.zeros((1, 3)))
