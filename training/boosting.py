"""Boosting: trees grown round by round until other rows say stop. XGBoost lives here alone."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from features.errors import StudyError
from training.preparation import Preparation
from training.training_set import TrainingSet
from training.trees import Forest

if TYPE_CHECKING:
    from xgboost import Booster, DMatrix

ROUNDS, PATIENCE = 300, 20
"""Trees at most, and rounds without a better validation log-loss after which growing stops."""
COMPARED = 1_000
"""Rows on which the stored trees must give XGBoost's own margins."""
FINALISTS = 3
"""The best trials, whose mean is the model: the best of many is the luckiest, and the mean of some is not."""


@dataclass(frozen=True)
class Grown:
    """A booster, cut to its best round: every stored tree counts, for whoever reads it.

    Attributes:
        text: XGBoost's JSON model.
        rounds: Trees, or trees a class.
        log_loss: Of the validation rows, before calibration; NaN where they grew the trees as well.
        gain: Total gain per column, largest first; columns that no tree asks about are absent.
    """

    text: str
    rounds: int
    log_loss: float
    gain: Mapping[str, float]

    @cached_property
    def forest(self) -> Forest:
        """The walk that serves it."""
        return Forest.from_json(self.text)


class Boosting:
    """Train and validation rows, prepared and binned once for all trials; another process may be handed them.

    Attributes:
        names: The prepared columns.
        x: Of train and validation rows, shape (n_rows, n_columns), float32.
        y: Of both, shape (n_rows,).
        users: Of all rows, the training rows first.

    Args:
        train: What trees grow on.
        validation: What says when to stop.
        preparation: Fitted on the training rows.
        balanced: Whether every class weighs the same.
        monotone: Per prepared column 1 where a margin may only rise with it, -1 where it may only fall.
    """

    def __init__(
        self,
        train: TrainingSet,
        validation: TrainingSet,
        preparation: Preparation,
        *,
        balanced: bool = False,
        monotone: Mapping[str, int] | None = None,
    ) -> None:
        self.names = preparation.outputs
        both = (train, validation)
        self.x = tuple(preparation.transform(rows.matrix).astype(np.float32) for rows in both)
        self.y = tuple(labels(rows) for rows in both)
        self.users = np.concatenate([rows.matrix.users for rows in both])
        self.balanced, self._options = balanced, _options(len(train.classes))
        self._kept: dict[tuple[object, ...], Grown] = {}
        if monotone:
            self._options["monotone_constraints"] = tuple(monotone.get(name, 0) for name in self.names)

    def __getstate__(self) -> dict[str, Any]:
        return {**{name: value for name, value in vars(self).items() if name != "_binned"}, "_kept": {}}

    @cached_property
    def _binned(self) -> tuple["DMatrix", "DMatrix"]:
        import xgboost

        # Not binned: XGBoost predicts from its bins several times slower than from plain rows, and does so every round.
        plain = xgboost.DMatrix(self.x[1], label=self.y[1], feature_names=list(self.names))
        return self._bins(self.x[0], self.y[0]), plain

    def _bins(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> "DMatrix":
        import xgboost

        weight = None
        if self.balanced:
            counts = np.bincount(y.astype(np.int64))
            weight = (len(y) / (np.count_nonzero(counts) * np.maximum(counts, 1)))[y.astype(np.int64)]
        return xgboost.QuantileDMatrix(x, label=y, weight=weight, feature_names=list(self.names))

    def grow(
        self,
        params: Mapping[str, float],
        *,
        seed: int,
        on_round: Callable[[int, float], None] | None = None,
    ) -> Grown:
        """Trees from the training rows until the validation log-loss stops falling; the finalists' are remembered.

        Args:
            params: XGBoost's, by its names.
            seed: Of row and column samples.
            on_round: Told (round, validation log-loss); what it raises ends the growing.
        """
        import xgboost

        key = (seed, *sorted(params.items()))
        if on_round is None and key in self._kept:
            return self._kept[key]
        train, validation = self._binned
        watch = _watch(self._options["eval_metric"], on_round)
        booster = xgboost.train(
            {**self._options, "seed": seed, **params},
            train,
            num_boost_round=ROUNDS,
            evals=[(validation, "validation")],
            verbose_eval=False,
            callbacks=[watch],
        )
        grown = self._stored(booster[: watch.best_round + 1], watch.best)
        self._kept = dict(sorted({**self._kept, key: grown}.items(), key=lambda each: each[1].log_loss)[:FINALISTS])
        return grown

    def again(
        self, tried: Sequence[tuple[Mapping[str, float], int]], *, seed: int, among: NDArray[np.bool_] | None = None
    ) -> Grown:
        """The mean of trees from all rows, which are binned once.

        Args:
            tried: Parameters as above, each with as many rounds as `grow` found to be right.
            seed: As above.
            among: Which of the rows, the training rows first; all of them by default.
        """
        import xgboost

        x, y = np.concatenate(self.x), np.concatenate(self.y)
        if among is not None:
            x, y = x[among], y[among]
        options, bins = {**self._options, "seed": seed}, self._bins(x, y)
        return self.mean([self._stored(xgboost.train({**options, **params}, bins, rounds)) for params, rounds in tried])

    def mean(self, grown: Sequence[Grown], *, judged: bool = False) -> Grown:
        """One booster whose margins are the mean of theirs: all their trees, each leaf divided by their number.

        Args:
            grown: From the same rows, so that they begin with the same base score.
            judged: Whether the validation log-loss is taken; their trees then know nothing of these rows.
        """
        import xgboost
        from sklearn.metrics import log_loss

        booster = xgboost.Booster(model_file=bytearray(_joined([each.text for each in grown]).encode()))
        loss = float(log_loss(self.y[1], booster.predict(self._binned[1]))) if judged else float("nan")
        return self._stored(booster, loss)

    def _stored(self, booster: "Booster", log_loss: float = float("nan")) -> Grown:
        import xgboost

        gain = {str(name): float(value) for name, value in booster.get_score(importance_type="total_gain").items()}
        ranked = dict(sorted(gain.items(), key=lambda item: -item[1]))
        grown = Grown(booster.save_raw("json").decode(), booster.num_boosted_rounds(), log_loss, ranked)
        rows = self.x[1][:COMPARED]
        wanted = booster.predict(xgboost.DMatrix(rows, feature_names=list(self.names)), output_margin=True)
        if not np.array_equal(grown.forest.margins(rows), wanted):
            raise StudyError("the stored trees do not give XGBoost's margins on this machine; nothing was kept.")
        return grown


def gains(
    x: NDArray[np.float32], y: NDArray[np.float64], params: Mapping[str, float], *, rounds: int, seed: int
) -> NDArray[np.float64]:
    """Total gain of every column in trees of these rows, shape (n_columns,)."""
    import xgboost

    options = {**_options(int(y.max()) + 1 if y.max() > 1 else 0), "seed": seed, **params}
    found = xgboost.train(options, xgboost.QuantileDMatrix(x, label=y), rounds).get_score(importance_type="total_gain")
    return np.array([found.get(f"f{column}", 0.0) for column in range(x.shape[1])])


def _options(n_classes: int) -> dict[str, Any]:
    several = {"objective": "multi:softprob", "num_class": n_classes, "eval_metric": "mlogloss"}
    two = {"objective": "binary:logistic", "eval_metric": "logloss"}
    return {**(several if n_classes else two), "tree_method": "hist"}


def _joined(texts: Sequence[str]) -> str:
    """XGBoost's JSON of all trees of several models that differ in nothing else, each leaf divided by their number.

    A leaf's value stands where other nodes have the number they split by.
    """
    models = [json.loads(text) for text in texts]
    inner = [each["learner"]["gradient_booster"]["model"] for each in models]
    trees = [tree for each in inner for tree in each["trees"]]
    for number, tree in enumerate(trees):
        values = zip(tree["split_conditions"], tree["left_children"], strict=True)
        tree["split_conditions"] = [
            float(np.float32(value / len(texts))) if child < 0 else value for value, child in values
        ]
        tree["base_weights"] = [float(np.float32(weight / len(texts))) for weight in tree["base_weights"]]
        tree["id"] = number
    ends = np.concatenate([np.diff(each["iteration_indptr"]) for each in inner]).cumsum()
    inner[0] |= {"trees": trees, "tree_info": [k for each in inner for k in each["tree_info"]]}
    inner[0] |= {"iteration_indptr": [0, *ends.tolist()]}
    inner[0]["gbtree_model_param"]["num_trees"] = str(len(trees))
    return json.dumps(models[0])


def _watch(metric: str, on_round: Callable[[int, float], None] | None) -> Any:  # noqa: ANN401 - no types
    from xgboost.callback import TrainingCallback

    class Watch(TrainingCallback):  # type: ignore[misc] # XGBoost ships no types
        best, best_round = float("inf"), 0

        def after_iteration(self, model: object, epoch: int, evals_log: Any) -> bool:  # noqa: ANN401
            value = float(evals_log["validation"][metric][-1])
            if value < self.best:
                self.best, self.best_round = value, epoch
            if on_round is not None:
                on_round(epoch, value)
            return epoch - self.best_round >= PATIENCE

    return Watch()


def labels(rows: TrainingSet) -> NDArray[np.float64]:
    """What is to be learned, or a StudyError where there is nothing to tell apart."""
    if rows.y is None:
        raise StudyError("a propensity needs a label. Hint: add `predicts: {did: EVENT, within: 7d}`.")
    if len(np.unique(rows.y)) < 2:
        raise StudyError(
            f"{int((rows.y > 0).sum())} of {len(rows)} rows are positive: there is nothing to tell apart. "
            "Hint: a longer `within`, a wider population, or more cuts."
        )
    return rows.y
