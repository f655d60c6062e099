"""Propensity: boosted trees and what they are compared with; calibration and threshold. XGBoost lives here alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from features.document import Definition
from features.errors import StudyError
from training.calibration import Calibration, sigmoid
from training.preparation import Preparation
from training.steps import Written, fit
from training.training_set import TrainingSet
from training.trees import Forest

if TYPE_CHECKING:
    from xgboost import Booster

Array = NDArray[np.float64]

ROUNDS, PATIENCE = 300, 20
"""Trees at most, and rounds without a better validation log-loss after which growing stops."""

OPTIONS = {"objective": "binary:logistic", "eval_metric": "logloss", "tree_method": "hist"}

MOST_ROWS = 20_000
"""Rows that a random forest is grown on."""
FOREST_TREES, FOREST_LEAVES = 100, (1, 10)
"""Its trees, and the grid of the least rows in a leaf."""

LEAK = 0.95
"""A single feature that ranks better than this knows the answer."""


class Cost(Definition):
    """What a mistake costs, in any unit."""

    false_positive: float = Field(gt=0)
    false_negative: float = Field(gt=0)


@dataclass(frozen=True)
class Grown:
    """A booster, cut to its best round: every stored tree counts, for whoever reads it.

    Attributes:
        text: XGBoost's JSON model.
        rounds: Trees.
        log_loss: Of the validation rows, before calibration.
        gain: Total gain per feature, largest first; features that no tree asks about are absent.
    """

    text: str
    rounds: int
    log_loss: float
    gain: Mapping[str, float]

    @property
    def forest(self) -> Forest:
        """The walk that serves it."""
        return Forest.from_json(self.text)


class Boosting:
    """Train and validation rows, binned once for all trials."""

    def __init__(self, train: TrainingSet, validation: TrainingSet, preparation: Preparation) -> None:
        import xgboost

        self.names = names = preparation.outputs
        self._rows = {
            part: preparation.transform(rows.matrix).astype(np.float32)
            for part, rows in (("train", train), ("validation", validation))
        }
        y, chosen = _labels(train), _labels(validation)
        self._train = xgboost.QuantileDMatrix(self._rows["train"], label=y, feature_names=list(names))
        # Not binned: XGBoost predicts from its bins several times slower than from plain rows, and does so every round.
        self._validation = xgboost.DMatrix(self._rows["validation"], label=chosen, feature_names=list(names))

    def grow(
        self, params: Mapping[str, float], *, seed: int, on_round: Callable[[int, float], None] | None = None
    ) -> Grown:
        """Trees until the validation log-loss stops falling.

        Args:
            params: XGBoost's, by its names.
            seed: Of row and column samples.
            on_round: Told (round, validation log-loss); what it raises ends the growing.
        """
        import xgboost

        watch = _watch(on_round)
        booster = xgboost.train(
            {**OPTIONS, "seed": seed, **params},
            self._train,
            num_boost_round=ROUNDS,
            evals=[(self._validation, "validation")],
            verbose_eval=False,
            callbacks=[watch],
        )
        return self._cut(booster, watch.best_round, watch.best)

    @staticmethod
    def all_of(
        rows: TrainingSet, preparation: Preparation, params: Mapping[str, float], *, rounds: int, seed: int
    ) -> Forest:
        """Trees from all of these rows, as many as were found to be right on a part of them."""
        import xgboost

        x = preparation.transform(rows.matrix).astype(np.float32)
        data = xgboost.QuantileDMatrix(x, label=_labels(rows), feature_names=list(preparation.outputs))
        booster = xgboost.train({**OPTIONS, "seed": seed, **params}, data, num_boost_round=rounds)
        return Forest.from_json(booster.save_raw("json").decode())

    def _cut(self, booster: "Booster", best_round: int, log_loss: float) -> Grown:
        cut = booster[: best_round + 1]
        gain = {str(name): float(value) for name, value in cut.get_score(importance_type="total_gain").items()}
        ranked = dict(sorted(gain.items(), key=lambda item: -item[1]))
        grown = Grown(cut.save_raw("json").decode(), best_round + 1, log_loss, ranked)
        self._compare(cut, grown.forest)
        return grown

    def _compare(self, booster: "Booster", forest: Forest) -> None:
        import xgboost

        rows = self._rows["validation"][:1000]
        wanted = booster.predict(xgboost.DMatrix(rows, feature_names=list(self.names)), output_margin=True)
        if not np.array_equal(forest.margins(rows), wanted):
            raise StudyError("the stored trees do not give XGBoost's margins on this machine; nothing was kept.")


def _watch(on_round: Callable[[int, float], None] | None) -> Any:  # noqa: ANN401 - XGBoost ships no types
    from xgboost.callback import TrainingCallback

    class Watch(TrainingCallback):  # type: ignore[misc] # XGBoost ships no types
        best, best_round = float("inf"), 0

        def after_iteration(self, model: object, epoch: int, evals_log: Any) -> bool:  # noqa: ANN401
            value = float(evals_log["validation"]["logloss"][-1])
            if value < self.best:
                self.best, self.best_round = value, epoch
            if on_round is not None:
                on_round(epoch, value)
            return epoch - self.best_round >= PATIENCE

    return Watch()


def _labels(rows: TrainingSet) -> Array:
    if rows.y is None:
        raise StudyError("a propensity needs a label. Hint: add `predicts: {did: EVENT, within: 7d}`.")
    positives = int(rows.y.sum())
    if not 0 < positives < len(rows):
        raise StudyError(
            f"{positives} of {len(rows)} rows are positive: there is nothing to tell apart. "
            "Hint: a longer `within`, a wider population, or more cuts."
        )
    return rows.y


def leaks(rows: TrainingSet, names: tuple[str, ...], *, most: int = 20_000) -> dict[str, float]:
    """Features that alone rank the training rows too well to be true: name and ROC-AUC."""
    y = _labels(rows)[:: max(1, len(rows) // most)]
    found = {}
    for name in names:
        column = rows.matrix.column(name)[:: max(1, len(rows) // most)]
        area = max(_area(y, np.where(np.isnan(column), fill, column)) for fill in (-np.inf, np.inf))
        if area > LEAK:
            found[name] = area
    return found


def _area(y: Array, score: Array) -> float:
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    n_pos = y.sum()
    area = ((middle[place] * y).sum() - n_pos * (n_pos + 1) / 2) / (n_pos * (len(y) - n_pos))
    return float(max(area, 1 - area))


def calibrate(method: Literal["platt", "isotonic", "none"], margins: NDArray[np.float32], y: Array) -> Calibration:
    """The map from margins to probabilities, learned from rows that grew no tree.

    Platt's two numbers come from Newton steps on his smoothed targets (Platt 1999; Lin, Lin and Weng 2007).
    """
    if method == "none":
        return Calibration()
    if method == "isotonic":
        return _isotonic(margins.astype(np.float64), y)
    n_pos = float(y.sum())
    target = np.where(y > 0, (n_pos + 1) / (n_pos + 2), 1 / (len(y) - n_pos + 2))
    slope, intercept = _line(margins.astype(np.float64), target)
    if not (np.isfinite(slope) and np.isfinite(intercept)) or slope <= 0:
        return Calibration()  # the margins do not rank these rows: nothing to learn from them
    return Calibration("platt", slope, intercept)


def _line(margins: Array, target: Array) -> tuple[float, float]:
    """Logistic regression on one column: Newton steps, halved while they make the loss worse."""
    design, weights = np.column_stack([margins, np.ones(len(margins))]), np.zeros(2)

    def loss(at: Array) -> float:
        line = design @ at
        return float((np.logaddexp(0.0, line) - target * line).sum())

    for _ in range(50):
        p = sigmoid(design @ weights)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, design.T @ (target - p))
        while loss(weights + step) > loss(weights) and np.abs(step).max() > 1e-12:
            step = step / 2
        weights = weights + step
        if np.abs(step).max() < 1e-10:
            break
    return float(weights[0]), float(weights[1])


def _isotonic(margins: Array, y: Array) -> Calibration:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(out_of_bounds="clip").fit(margins, y)
    least = 1 / (2 * len(y))  # never certain of what some thousands of rows suggest
    points = np.clip(fitted.y_thresholds_, least, 1 - least)
    return Calibration("isotonic", x=tuple(fitted.X_thresholds_.tolist()), y=tuple(points.tolist()))


def threshold(y: Array, p: Array, cost: Cost | None = None) -> float:
    """The probability from which on a row is chosen: the cheapest by declared costs, else the best F1 on these rows."""
    if cost is not None:
        return cost.false_positive / (cost.false_positive + cost.false_negative)
    order = np.argsort(-p, kind="stable")
    hits, chosen = np.cumsum(y[order]), np.arange(1, len(y) + 1)
    last = np.flatnonzero(np.concatenate([p[order][1:] != p[order][:-1], [True]]))
    f1 = 2 * hits[last] / (chosen[last] + y.sum())
    return float(p[order][last[int(f1.argmax())]])


def baselines(
    train: TrainingSet, test: TrainingSet, names: tuple[str, ...], *, steps: Sequence[Written] = (), seed: int = 0
) -> dict[str, Array]:
    """Probabilities of the test rows from models that cost little: logistic regression, random forest, a recency rule.

    Args:
        train: What they learn from.
        test: What they tell.
        names: The columns they may look at.
        steps: What makes columns numbers in the first place, such as `one_hot`.
        seed: Of the forest.
    """
    rule = _rule(train, names)
    return {
        "logistic regression": _logistic(train, test, names, steps),
        "random forest": _random_forest(train, test, names, steps, seed),
        f"rule: {rule}": _by_rule(train, test, rule),
    }


def _random_forest(
    train: TrainingSet, test: TrainingSet, names: tuple[str, ...], steps: Sequence[Written], seed: int
) -> Array:
    """The best of a small grid by out-of-bag log-loss; grown on at most MOST_ROWS of the rows."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import log_loss

    some = np.random.default_rng(seed).permutation(len(train))[:MOST_ROWS]
    part = train.take(np.sort(some))
    preparation = fit(part.matrix, [*steps, "impute"], names=names)
    x, y = preparation.transform(part.matrix), _labels(part)
    best, least = None, float("inf")
    for leaf in FOREST_LEAVES:
        forest = RandomForestClassifier(
            FOREST_TREES, min_samples_leaf=leaf, oob_score=True, n_jobs=-1, random_state=seed
        ).fit(x, y)
        seen = ~np.isnan(forest.oob_decision_function_[:, 1])
        loss = log_loss(y[seen], forest.oob_decision_function_[seen, 1])
        if loss < least:
            best, least = forest, loss
    return np.asarray(best.predict_proba(preparation.transform(test.matrix))[:, 1], np.float64)  # type: ignore[union-attr] # the grid is not empty


def _logistic(train: TrainingSet, test: TrainingSet, names: tuple[str, ...], steps: Sequence[Written]) -> Array:
    from sklearn.linear_model import LogisticRegression

    preparation = fit(train.matrix, [*steps, "impute", "cap", "log", "standardise"], names=names)
    model = LogisticRegression(solver="newton-cholesky", max_iter=200)
    model.fit(preparation.transform(train.matrix), _labels(train))
    return np.asarray(model.predict_proba(preparation.transform(test.matrix))[:, 1], np.float64)


def _rule(train: TrainingSet, names: tuple[str, ...]) -> str:
    y = _labels(train)
    recencies = [name for name in names if name.startswith("recency_")]
    areas = {name: _area(y, _never_is_longest(train.matrix.column(name))) for name in recencies or names}
    return max(areas, key=lambda name: areas[name])


def _by_rule(train: TrainingSet, test: TrainingSet, name: str) -> Array:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(increasing="auto", out_of_bounds="clip")
    fitted.fit(_never_is_longest(train.matrix.column(name)), _labels(train))
    return np.asarray(fitted.predict(_never_is_longest(test.matrix.column(name))), np.float64).clip(1e-4, 1 - 1e-4)


def _never_is_longest(column: Array) -> Array:
    return np.where(np.isnan(column), 1e12, column)
