"""A study's fit over prepared columns: what is searched, what is judged and what is served see the same numbers."""

import numpy as np
import pytest

from experiments import propensities, studies
from experiments.search import search
from experiments.study import store
from tests.training.matrices import matrix
from training.model import Model
from training.training_set import TrainingSet

NAMES = ("count_a_7d", "count_a_14d", "mode_page_7d", "noise_7d")


def rows(n=900, seed=1):
    """Whoever sees page 3 comes back; a week after the other, in three parts."""
    random = np.random.default_rng(seed)
    week = random.poisson(4, n).astype(float)
    page = random.integers(0, 5, n).astype(float)
    values = np.column_stack([week, week + random.poisson(4, n), page, random.normal(size=n)])
    y = (random.random(n) < np.where(page == 3, 0.8, 0.2)).astype(float)
    values[random.random(n) < 0.1, 3] = np.nan
    return TrainingSet(matrix(values, NAMES, at=np.repeat([1, 2, 3], n // 3)), y, np.repeat([0, 1, 2], n // 3), {})


@pytest.fixture
def searcher(tmp_path):
    """A search of two trials."""

    def call(objective, space, *, direction, first=(), most=2, part=0):
        file = tmp_path / "search.journal"
        return search(objective, space, storage=file, name="s", trials=2, seed=1, direction=direction, first=first)

    return call


def test_trees_are_grown_on_prepared_columns_and_served_from_features(searcher, tmp_path):
    steps = [{"one_hot": {"columns": ["mode_page_7d"]}}, {"iqr": {"k": 3, "columns": ["noise_7d"]}}]
    _, spec = studies.one(
        {
            "predicts": {"did": "a", "within": "7d"},
            "cuts": {"every": "7d", "last": 3},
            "kind": "propensity",
            "preparation": steps,
        }
    )
    data = rows()
    fitted = propensities.propensity("p", spec, data, searcher)
    assert "mode_page_7d=3" in fitted.model.head.names
    assert fitted.lines[0].startswith("iqr: fitted on ")
    assert fitted.lines[-1].startswith("asks most about: mode_page_7d=3")
    read = Model.load(store(tmp_path / "models", fitted, data, seed=1), verify=True)
    found = read.score(data.matrix).probability
    page = data.matrix.column("mode_page_7d")
    assert found[page == 3].mean() > found[page == 1].mean() + 0.4
