"""A propensity's search beside scikit-learn's grid search over as many fits, by processor time.

`python -m benchmarks.studies [--small] [--json]`. Users with 100 features, of which ten matter, some only together;
both are judged on users that neither has seen. Then the clusterings of a million users, from `benchmarks.clusters`.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import clusters, report
from benchmarks.report import Figure, at_least, note
from experiments.propensities import Asked
from experiments.study import Study
from experiments.tables import whole
from features.behaviour.matrix import FeatureMatrix
from training.calibration import sigmoid
from training.training_set import TrainingSet
from training.validation import judge

COLUMNS, TRIALS = 100, 50
GRID = {"max_depth": [2, 3, 4, 5, 6], "learning_rate": [0.05, 0.1]}
"""Ten points on five folds: as many fits as trials."""
ESTIMATORS, FOLDS = 300, 5


def main() -> int:
    """Measure and print."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    options = report.arguments(__doc__ or "")
    known, clustered = (10_000, 50_000) if options.small else (100_000, 1_000_000)
    return report.report([*figures(known), *clusters.figures(clustered)], as_json=options.json)


def users(n: int, *, seed: int) -> TrainingSet:
    """Users whose chance is known to depend on ten of their features."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(n, COLUMNS))
    values[:, ::4] = np.exp(values[:, ::4])
    x = values[:, :10]
    margin = x[:, 1] + 0.7 * x[:, 2] * (x[:, 3] > 0) - 0.5 * np.abs(x[:, 5]) + 0.4 * np.log1p(x[:, 4]) * x[:, 6] - 1.5
    y = (random.random(n) < sigmoid(margin + 0.5 * np.sin(2 * x[:, 7]) + 0.3 * x[:, 9])).astype(np.float64)
    names, who = tuple(f"f{column}" for column in range(COLUMNS)), np.array([f"u{k}" for k in range(n)], object)
    matrix = FeatureMatrix(values, who, np.zeros(n, np.int64), names, "benchmark", np.zeros(n, np.bool_))
    return TrainingSet(matrix, y, np.zeros(n, np.int8), {})


def figures(n: int) -> Iterator[Figure]:
    """Processor time, and log-loss and ROC-AUC on fresh users."""
    known, fresh = users(n, seed=90_211), users(n // 2, seed=90_212)
    ours, seconds = searched(known, fresh)
    theirs, theirs_seconds = grid_searched(known, fresh)
    judged = judge(np.asarray(fresh.y), {"ours": ours, "grid": theirs}, fresh.matrix.users, replicates=200)
    gap = judged["ours"].minus(judged["grid"])
    note(f"{n:,} users: {TRIALS} trials {seconds:.1f} s, grid search {theirs_seconds:.1f} s of processor time")
    note(f"ROC-AUC {judged['ours']['roc_auc']} by {judged['grid']['roc_auc']}, difference {gap['roc_auc']}")
    yield at_least(f"{TRIALS} trials by scikit-learn's grid search, processor time", theirs_seconds / seconds, "x", 3.0)
    yield at_least("ROC-AUC on fresh users, ours minus the grid's", gap["roc_auc"].value, "", -0.0005)
    yield at_least("log-loss on fresh users, the grid's minus ours", -gap["log_loss"].value, "", -0.0005)


def searched(known: TrainingSet, fresh: TrainingSet) -> tuple[NDArray[np.float64], float]:
    """Probabilities of fresh users, and seconds of processor time."""
    study = Study.from_dict({"kind": "table", "file": "", "label": "y", "search": {"trials": TRIALS, "seed": 11}})
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        searcher = study.searcher(Path(folder) / "journal")
        asked = Asked("benchmark", study.spec, searcher)
        learned = asked.learned(whole(known, study.spec.split, seed=1), known.matrix.names)
    note(f"{learned.found.n_pruned} of {TRIALS} trials ended early; {learned.grown.rounds} trees")
    return learned.model.probabilities(fresh.matrix), time.process_time() - started


def grid_searched(known: TrainingSet, fresh: TrainingSet) -> tuple[NDArray[np.float64], float]:
    """The same by scikit-learn's GridSearchCV over XGBoost's own classifier."""
    from sklearn.model_selection import GridSearchCV
    from xgboost import XGBClassifier

    started = time.process_time()
    grid = GridSearchCV(XGBClassifier(n_estimators=ESTIMATORS), GRID, scoring="neg_log_loss", cv=FOLDS)
    grid.fit(known.matrix.values.astype(np.float32), known.y)
    told = grid.predict_proba(fresh.matrix.values.astype(np.float32))[:, 1]
    note(f"the grid's best: {grid.best_params_}")
    return told.astype(np.float64), time.process_time() - started


if __name__ == "__main__":
    raise SystemExit(main())
