"""Baselines: models that cost little, which a study has to beat on the same rows: scikit-learn, and a rule."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.boosting import labels
from training.propensity import area
from training.steps import Written, fit
from training.training_set import TrainingSet

Array = NDArray[np.float64]

LOGISTIC, FOREST, RULE = "logistic regression", "random forest", "rule"

MOST_ROWS, TRIED_ROWS = 20_000, 6_000
"""Rows that a random forest is grown on, and those that choose from its grid by out-of-bag log-loss."""
TREES = 100
GRID: Sequence[dict[str, Any]] = tuple(
    {"min_samples_leaf": leaf, "max_features": how} for leaf in (1, 10) for how in ("sqrt", "log2")
)


def baselines(
    train: TrainingSet, test: TrainingSet, names: tuple[str, ...], *, steps: Sequence[Written] = (), seed: int = 0
) -> dict[str, Array]:
    """Probabilities of the test rows from logistic regression, a random forest and one column: a recency, where known.

    Args:
        train: What they learn from.
        test: What they tell.
        names: The columns they may look at.
        steps: What makes columns numbers in the first place, such as `one_hot`.
        seed: Of the forest.

    Returns:
        Per model shape (n_rows,), or (n_rows, n_classes) where there are more than two.
    """
    column, told = (_by_tree if train.classes else _by_rule)(train, test, names)
    return {
        LOGISTIC: _logistic(train, test, names, steps),
        FOREST: _random_forest(train, test, names, steps, seed),
        f"{RULE}: {column}": told,
    }


def _random_forest(
    train: TrainingSet, test: TrainingSet, names: tuple[str, ...], steps: Sequence[Written], seed: int
) -> Array:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import log_loss

    some = np.random.default_rng(seed).permutation(len(train))[:MOST_ROWS]
    part = train.take(np.sort(some))
    preparation = fit(part.matrix, [*steps, "impute"], names=names)
    x, y = preparation.transform(part.matrix), labels(part)

    def grown(rows: int, options: dict[str, Any]) -> "RandomForestClassifier":
        forest = RandomForestClassifier(TREES, oob_score=rows == TRIED_ROWS, n_jobs=-1, random_state=seed, **options)
        return forest.fit(x[:: -(-len(x) // rows)], y[:: -(-len(x) // rows)])

    def loss(forest: "RandomForestClassifier") -> float:
        seen = ~np.isnan(forest.oob_decision_function_).any(axis=1)
        asked = y[:: -(-len(x) // TRIED_ROWS)][seen]
        return float(log_loss(asked, forest.oob_decision_function_[seen], labels=forest.classes_))

    tried = [grown(TRIED_ROWS, options) for options in GRID]
    best = min(range(len(GRID)), key=lambda place: loss(tried[place]))
    forest = tried[best] if len(x) <= TRIED_ROWS else grown(MOST_ROWS, GRID[best])  # of few rows it is there already
    return _told(forest, preparation.transform(test.matrix), len(train.classes))


def _logistic(train: TrainingSet, test: TrainingSet, names: tuple[str, ...], steps: Sequence[Written]) -> Array:
    from sklearn.linear_model import LogisticRegression

    preparation = fit(train.matrix, [*steps, "impute", "cap", "log", "standardise"], names=names)
    model = LogisticRegression(solver="lbfgs" if train.classes else "newton-cholesky", max_iter=200)
    model.fit(preparation.transform(train.matrix), labels(train))
    return _told(model, preparation.transform(test.matrix), len(train.classes))


def _told(model: Any, x: Array, n_classes: int) -> Array:  # noqa: ANN401 - any classifier of scikit-learn
    """Probabilities of class 1, or of every class, those that it was never shown included."""
    found = np.zeros((len(x), n_classes or 2))
    found[:, model.classes_.astype(np.int64)] = model.predict_proba(x)
    return found if n_classes else found[:, 1]


def _by_rule(train: TrainingSet, test: TrainingSet, names: tuple[str, ...]) -> tuple[str, Array]:
    from sklearn.isotonic import IsotonicRegression

    y = labels(train)
    recencies = [name for name in names if name.startswith("recency_")]
    name = max(recencies or names, key=lambda each: area(y, _never_is_longest(train.matrix.column(each))))
    fitted = IsotonicRegression(increasing="auto", out_of_bounds="clip")
    fitted.fit(_never_is_longest(train.matrix.column(name)), y)
    told = np.asarray(fitted.predict(_never_is_longest(test.matrix.column(name))), np.float64)
    return name, told.clip(1e-4, 1 - 1e-4)


def _by_tree(train: TrainingSet, test: TrainingSet, names: tuple[str, ...]) -> tuple[str, Array]:
    """A tree on the one column that tells most."""
    from sklearn.tree import DecisionTreeClassifier

    y, options = labels(train), {"max_leaf_nodes": 2 * len(train.classes), "min_samples_leaf": 10, "random_state": 0}

    def fitted(name: str) -> "DecisionTreeClassifier":
        return DecisionTreeClassifier(**options).fit(train.matrix.select((name,)).values, y)

    name = min(names, key=lambda each: _impurity(fitted(each).tree_))
    return name, _told(fitted(name), test.matrix.select((name,)).values, len(train.classes))


def _impurity(tree: Any) -> float:  # noqa: ANN401 - scikit-learn's
    leaves = tree.children_left < 0
    return float(tree.impurity[leaves] @ tree.weighted_n_node_samples[leaves])


def _never_is_longest(column: Array) -> Array:
    return np.where(np.isnan(column), 1e12, column)
