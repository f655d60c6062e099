"""Fitting: one study from its training set to a judged model; nothing here knows where runs and files are kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments import pictures
from experiments.search import Found, Range, Report, spaces
from experiments.studies import ClustersSpec, PropensitySpec
from features.errors import StudyError
from training.contributions import contributions, paths_of
from training.model import Model
from training.propensity import Boosting, baselines, calibrate, leaks, threshold
from training.steps import fit_rows
from training.training_set import TrainingSet
from training.trees import Forest
from training.validation import METRICS, Confusion, Estimate, Figures, Ranking, judge

Array = NDArray[np.float64]
Searcher = Callable[..., Found]
"""`search.search` with everything but the objective, the space and the direction filled in."""

MODEL = "model"

SPACE: Mapping[str, Range] = {
    "max_depth": Range(2, 6, whole=True),
    "learning_rate": Range(0.05, 0.4, log=True),
    "min_child_weight": Range(1, 100, log=True),
    "subsample": Range(0.6, 1.0),
    "colsample_bytree": Range(0.3, 1.0),
    "reg_lambda": Range(0.1, 30, log=True),
}
"""What a propensity's search may vary; `search.space` in studies.yaml gives other ends."""


SEEDS = 2
"""Other seeds that a propensity's trees are grown with, to see how much of a figure is chance."""
EXPLAINED = 2_000
"""Test rows whose margins are taken apart."""


@dataclass(frozen=True)
class Influence:
    """What a column does to the margins.

    Attributes:
        size: Mean absolute contribution (SHAP), log-odds.
        towards: Rank correlation of its value with its contribution.
        values: Shape (n_rows,).
        parts: Shape (n_rows,), its contributions.
    """

    size: float
    towards: float
    values: NDArray[np.float32]
    parts: Array


@dataclass(frozen=True)
class Fitted:
    """A judged model.

    Attributes:
        model: The model.
        trees: XGBoost's JSON, of a propensity.
        found: What the search tried.
        metrics: Figures for the run, by name.
        figures: Of a propensity: test figures per model, ours first.
        differences: Of a propensity: ours minus each baseline's, paired.
        influence: Of a propensity: what moves its margins, the most first.
        refused: Why it must not be promoted.
        verdict: One sentence.
        sound: False where the study refuses its own result.
        lines: What else a reader wants to see.
        draw: Draws the pictures into a folder.
    """

    model: Model
    trees: str
    found: Found
    metrics: Mapping[str, float]
    verdict: str
    sound: bool
    lines: tuple[str, ...]
    draw: Callable[[Path], list[Path]]
    figures: Mapping[str, Figures] = field(default_factory=dict)
    differences: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    influence: Mapping[str, Influence] = field(default_factory=dict)
    refused: tuple[str, ...] = ()


def columns(spec: PropensitySpec | ClustersSpec, rows: TrainingSet) -> tuple[str, ...]:
    """The study's features."""
    return rows.matrix.names if spec.features == "all" else tuple(spec.features)


def propensity(name: str, spec: PropensitySpec, rows: TrainingSet, searcher: Searcher) -> Fitted:
    """Search, grow, calibrate, choose a threshold, and judge on the test cut against models that cost nothing.

    Raises:
        StudyError: a part holds one class only, or a feature knows the answer.
    """
    names = columns(spec, rows)
    train, validation, test = rows.split_by_time()
    _refuse_leaks(train, tuple(name for name in names if name not in spec.trusted))
    preparation, kept = fit_rows(train.matrix, spec.preparation, names=names)
    boosting = Boosting(train.take(kept), validation, preparation)
    seed = spec.search.seed

    def objective(params: Mapping[str, float], report: Report) -> Mapping[str, float]:
        grown = boosting.grow(params, seed=seed, on_round=report)
        return {"value": grown.log_loss, "rounds": grown.rounds}

    found = searcher(objective, spaces(SPACE, spec.search.space), direction="minimize")
    grown = boosting.grow(found.best.params, seed=seed)
    margins = grown.forest.margins(preparation.transform(validation.matrix).astype(np.float32))
    chosen_by = np.asarray(validation.y)
    calibration = calibrate(spec.calibration, margins, chosen_by)
    limit = threshold(chosen_by, calibration.probability(margins), None if spec.threshold == "f1" else spec.threshold)
    head, told = grown.forest, details(spec, rows, found)
    model = Model(name, "propensity", rows.matrix.fingerprint, preparation, head, calibration, limit, details=told)
    p = np.asarray(model.score(test.matrix).probability)
    y = np.asarray(test.y)
    predictions = {MODEL: p, **baselines(train, test, names, seed=seed)}
    figures = judge(y, predictions, test.matrix.users, seed=seed)
    differences = {other: figures[MODEL].minus(each) for other, each in figures.items() if other != MODEL}
    confusion = Confusion.at(limit, y, p)
    others = [boosting.grow(found.best.params, seed=seed + 1 + place).forest for place in range(SEEDS)]
    test_x = preparation.transform(test.matrix).astype(np.float32)
    areas = [Ranking.of(y, forest.margins(test_x).astype(np.float64)).roc_auc for forest in others]
    influence = _influence(head, test_x, preparation.outputs, seed=seed)
    return Fitted(
        model=model,
        trees=grown.text,
        found=found,
        metrics={
            "validation_log_loss": grown.log_loss,
            "rounds": grown.rounds,
            "seeds_least_roc_auc": min(areas),
            "seeds_largest_roc_auc": max(areas),
            **_flat(figures),
        },
        verdict=_beats(differences),
        sound=True,
        lines=(
            *preparation.told,
            str(confusion),
            f"trees of {SEEDS} other seeds: ROC-AUC {min(areas):.4f} to {max(areas):.4f}",
            "asks most about: " + ", ".join(list(grown.gain)[:5]),
        ),
        draw=lambda folder: pictures.propensity(folder, y, predictions, grown.gain, influence),
        figures=figures,
        differences=differences,
        influence=influence,
        refused=tuple(spec.gates.failed(figures[MODEL], differences)),
    )


def _influence(forest: Forest, x: NDArray[np.float32], names: tuple[str, ...], *, seed: int) -> dict[str, Influence]:
    """What moves the margins of these rows, the most first; of at most EXPLAINED of them."""
    from scipy.stats import rankdata

    some = x[np.sort(np.random.default_rng(seed).permutation(len(x))[:EXPLAINED])]
    parts = contributions(forest, paths_of(forest), some)[:, :-1]
    sizes: Array = np.abs(parts).sum(axis=0) / len(parts)
    found = {}
    for place in np.argsort(-sizes, kind="stable"):
        there = ~np.isnan(some[:, place])
        ranks = [rankdata(each[there]) for each in (some[:, place], parts[:, place])]
        flat = not there.any() or min(each.std() for each in ranks) == 0
        towards = 0.0 if flat else float(np.asarray(np.corrcoef(ranks))[0, 1])
        if sizes[place] > 0:
            found[names[place]] = Influence(float(sizes[place]), towards, some[:, place], parts[:, place])
    return found


def _refuse_leaks(train: TrainingSet, names: tuple[str, ...]) -> None:
    found = leaks(train, names)
    if found:
        name, area = max(found.items(), key=lambda item: item[1])
        raise StudyError(
            f"the feature {name!r} alone has a ROC-AUC of {area:.3f}: it seems to know the answer. "
            f"Hint: leave it out of `features`, or, if it is right, write `trusted: [{name}]`."
        )


def _beats(differences: Mapping[str, Mapping[str, Estimate]]) -> str:
    lost = {name: each["roc_auc"] for name, each in differences.items() if each["roc_auc"].low <= 0}
    if not lost:
        best = min(differences.items(), key=lambda item: item[1]["roc_auc"].value)
        return f"beats every baseline; the best of them, {best[0]}, by {best[1]['roc_auc']} ROC-AUC"
    name, gap = min(lost.items(), key=lambda item: item[1].value)
    return f"does not beat the baseline {name}: {gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}] ROC-AUC"


def _flat(figures: Mapping[str, Figures]) -> dict[str, float]:
    flat = {"test_rows": figures[MODEL].n_rows, "test_base_rate": figures[MODEL].base_rate}
    for name, each in figures.items():
        short = "test" if name == MODEL else name.split(":")[0].split(" ")[0]
        for metric in METRICS:
            flat[f"{short}_{metric}"] = each[metric].value
    for metric in METRICS:
        estimate = figures[MODEL][metric]
        flat |= {f"test_{metric}_low": estimate.low, f"test_{metric}_high": estimate.high}
    return flat


def details(spec: PropensitySpec | ClustersSpec, rows: TrainingSet, found: Found) -> dict[str, Any]:
    """What every model says of where it comes from."""
    return {
        "spec": spec.model_dump(mode="json", exclude_none=True),
        "training_set": dict(rows.provenance),
        "params": dict(found.best.params),
        "trials": len(found.trials),
    }
