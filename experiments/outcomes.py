"""Outcomes: are predictions still as good as they were? Labels alone see that the meaning of a feature changed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import rankdata

from experiments.arms import read
from experiments.drift import RANKED, DriftReport, Finding, compare, joined, one_row_a_user
from experiments.inference import fisher, two_sided
from experiments.shift import COHEN_H, Shift, cohen_h
from experiments.tables import MOST_VALUES, numbers
from features.errors import AnalysisError, nearest

Array = NDArray[np.float64]

FLOORS = {"roc_auc": 0.02, "brier": 0.01, "bias": 0.02}
"""Changes that do not matter."""
SAID = {"roc_auc": RANKED, "brier": "Brier score", "bias": "mean prediction minus share of positives"}
FEWEST = 10
"""Rows of each class, seen or expected, that a side needs for its predictions to be judged."""
TREES, LEAF, FOLDS = 200, 10, 5
LIMITS = (
    "this holds only while features mean what they meant: no label was looked at, so a change of meaning is not seen"
)
LABELLED = "this holds only while features mean what they meant; what the outcomes say stands under labels"


def compare_files(
    reference: Path,
    current: Path,
    *,
    label: str | None = None,
    prediction: str | None = None,
    leave_out: Sequence[str] = (),
    user: str | None = None,
) -> DriftReport:
    """One file against another, once: whether a change persists was not judged.

    Args:
        reference: CSV, TSV or Parquet, gzipped or not.
        current: The same columns, later.
        label: Column of outcomes, 0 and 1 or true and false; where there is no prediction, a forest learns one from the
            reference.
        prediction: Column of predicted probabilities.
        leave_out: Columns that are not looked at, such as times.
        user: Column of user ids: the last row of each counts.

    Raises:
        AnalysisError: a file cannot be read, a column is missing, or a label or prediction is none.
    """
    before, after = read(reference), read(current)
    for name in filter(None, (label, prediction, user, *leave_out)):
        for frame, path in ((before, reference), (after, current)):
            if name not in frame.columns:
                raise AnalysisError(f"{path.name} has no column {name!r}. {nearest(name, frame.columns)}")
    last = [one_row_a_user(frame, user) for frame in (before, after)]
    y = [_labels(frame, label, path) for frame, path in zip(last, (reference, current), strict=True)] if label else []
    p = [_probabilities(frame, prediction) for frame in last] if prediction else []
    dropped = [*leave_out, label] if label else leave_out
    sides, words, left_out = _as_numbers(before.drop(dropped), after.drop(dropped), user)
    said = compare(*sides, scores=[prediction] if prediction else [], categories=words, user=user)
    if not label:
        told = [expected_of(prediction, *p)] if prediction else []
        return replace(said, notes=(*told, *left_out))
    inputs = [one_row_a_user(side, user).drop(user or []) for side in sides]
    p = p or _learned(inputs[0], inputs[1], y[0])
    found, silent = performance(y[0], p[0], y[1], p[1], name=prediction or "prediction")
    notes = (expected_of(prediction or "a forest", *p, labelled=True), *silent, *left_out)
    findings = (*found, _share(label, *y))
    return joined([said, DriftReport(said.reference, said.current, findings, notes=notes)])


def _share(label: str, before: Array, after: Array) -> Finding:
    old, new = float(before.mean()), float(after.mean())
    p = fisher(int(before.sum()), len(before), int(after.sum()), len(after))
    shift = Shift(label, "share", old, new, p, cohen_h(old, new), COHEN_H, "share of positives")
    return Finding("labels", shift, p, ())


def performance(
    y_before: Array, p_before: Array, y_after: Array, p_after: Array, *, name: str = "prediction"
) -> tuple[list[Finding], tuple[str, ...]]:
    """How well predictions rank, how far off they are, and whether their mean is right; and what could not be judged.

    ROC-AUC needs rows of both classes on both sides. That outcomes stay away is news: how far off predictions are is
    judged as soon as the probabilities themselves expect enough of either class.

    Args:
        y_before: Shape (n,), 0 or 1.
        p_before: Shape (n,), probabilities.
        y_after: Shape (m,).
        p_after: Shape (m,).
        name: Of the prediction.
    """
    sides = [(y_before, p_before), (y_after, p_after)]
    seen = [min(y.sum(), len(y) - y.sum()) for y, _ in sides]
    promised = [min(max(y.sum(), p.sum()), max((1 - y).sum(), (1 - p).sum())) for y, p in sides]
    if min(promised) < FEWEST:
        few = f"{min(promised):.0f} rows of one outcome were seen or expected on a side"
        return [], (f"{name}: outcomes are not judged, {few} ({FEWEST} are needed)",)
    floors = [float((p * (1 - p)).mean()) if n < FEWEST else 0.0 for n, (_, p) in zip(seen, sides, strict=True)]
    figures = {
        "roc_auc": [area(y, p) for y, p in sides] if min(seen) >= FEWEST else [],
        "brier": [_mean((p - y) ** 2, floor) for floor, (y, p) in zip(floors, sides, strict=True)],
        "bias": [_mean(p - y, floor) for floor, (y, p) in zip(floors, sides, strict=True)],
    }
    found = [_change(name, of, *pair) for of, pair in figures.items() if pair]
    few = f"{name}: {RANKED} is not judged, a side has {min(seen):.0f} rows of one outcome ({FEWEST} are needed)"
    return found, () if figures["roc_auc"] else (few,)


def area(y: Array, p: Array) -> tuple[float, float]:
    """ROC-AUC and its standard error (DeLong et al. 1988), ties counted as halves; both kinds of rows are needed."""
    positive, negative = p[y == 1], p[y == 0]
    ranks, m, n = rankdata(np.concatenate([positive, negative])), len(positive), len(negative)
    beaten = (ranks[:m] - rankdata(positive)) / n
    beating = 1 - (ranks[m:] - rankdata(negative)) / m
    return float(beaten.mean()), float(np.sqrt(beaten.var(ddof=1) / m + beating.var(ddof=1) / n))


def _mean(values: Array, least: float) -> tuple[float, float]:
    """The mean and its standard error, where the variance of a value is not less than was promised.

    Rows of a single outcome vary too little to say how sure their mean is.
    """
    return float(values.mean()), float(np.sqrt(max(values.var(ddof=1), least) / len(values)))


def expected(p: Array) -> dict[str, float]:
    """What performance is if the probabilities are true, without any label: ROC-AUC, Brier score, share of positives.

    Every row counts as positive by its probability and as negative by the rest (confidence-based estimation).
    """
    p = np.sort(p)
    values, first, counts = np.unique(p, return_index=True, return_counts=True)
    below = np.concatenate([[0.0], np.cumsum(1 - p)])[first]
    won = float((counts * values * (below + counts * (1 - values) / 2)).sum())
    pairs = float(p.sum() * (1 - p).sum())
    area = won / pairs if pairs > 0 else float("nan")
    return {"roc_auc": area, "brier": float((p * (1 - p)).mean()), "positives": float(p.mean())}


def expected_of(name: str, before: Array, after: Array, *, labelled: bool = False) -> str:
    """The estimate without labels on both sides, and its limits, in a sentence; `labelled`: outcomes are judged too."""
    old, new = expected(before), expected(after)
    area = f"ROC-AUC {new['roc_auc']:.3f} (reference {old['roc_auc']:.3f})"
    share = f"{new['positives']:.1%} positives ({old['positives']:.1%})"
    return f"{name} is expected to have {area} and {share}; {LABELLED if labelled else LIMITS}"


def _change(name: str, of: str, before: tuple[float, float], after: tuple[float, float]) -> Finding:
    """A figure and its standard error on both sides."""
    error = float(np.hypot(before[1], after[1]))
    p = two_sided((after[0] - before[0]) / error) if error > 0 else 1.0
    effect = abs(after[0] - before[0])
    shift = Shift(name, "performance", before[0], after[0], p, effect, FLOORS[of], SAID[of])
    return Finding("labels", shift, p, (name.removeprefix("score_"),) if name.startswith("score_") else ())


Words = dict[str, list[str]]


def _as_numbers(
    before: pl.DataFrame, after: pl.DataFrame, user: str | None
) -> tuple[list[pl.DataFrame], Words, list[str]]:
    """Both sides as numbers, texts as codes that mean the same on both; what those mean; what is left out, and why."""
    sides = [frame.with_columns(pl.col(pl.Null).cast(pl.Float64)) for frame in (before, after)]
    words: Words = {}
    kept, left_out = ([user] if user else []), []
    for name in before.columns:
        if name == user or name not in after.columns:
            kept += [] if name == user else [name]
            continue
        pair = [numbers(frame[name]) for frame in sides]
        if pair[0] is None:
            texts = [frame[name].cast(pl.String) for frame in sides]
            if (many := texts[0].n_unique()) > MOST_VALUES:
                left_out.append(f"{name}: left out, {many:,} different texts in the reference")
                continue
            words[name] = sorted(set(texts[0].drop_nulls()) | set(texts[1].drop_nulls()))
            codes = {word: float(place) for place, word in enumerate(words[name])}
            pair = [each.replace_strict(codes, default=None, return_dtype=pl.Float64) for each in texts]
        if pair[1] is None:  # what was a number is a text now, which `compare` tells
            pair[1] = after[name].cast(pl.String)
        sides = [
            frame.with_columns(each.alias(name)) for frame, each in zip(sides, pair, strict=True) if each is not None
        ]
        kept.append(name)
    left_out += [f"{name}: left out, the reference has no such column" for name in after.columns if name not in before]
    return [side.select(name for name in kept if name in side.columns) for side in sides], words, left_out


def _labels(side: pl.DataFrame, label: str, path: Path) -> Array:
    values = numbers(side[label])
    told = side[label] if values is None else values.fill_nan(None)
    if gaps := told.null_count():
        raise AnalysisError(
            f"the label {label!r} is missing in {gaps:,} of {side.height:,} rows of {path.name}. "
            "Hint: leave out the rows whose outcome is not known yet."
        )
    found = told.unique().sort().to_list()
    if values is None or not {*found} <= {0.0, 1.0}:
        raise AnalysisError(
            f"the label {label!r} is 0 and 1, or true and false. Got {found[:5]}. "
            "Hint: write a column that is 1 where the outcome happened and 0 elsewhere, and name that one."
        )
    return told.to_numpy()


def _probabilities(side: pl.DataFrame, prediction: str) -> Array:
    column = numbers(side[prediction])
    values = np.full(1, np.nan) if column is None else column.to_numpy()
    if not ((values >= 0) & (values <= 1)).all():
        raise AnalysisError(f"the prediction {prediction!r} is not a probability in every row.")
    return values


def _learned(before: pl.DataFrame, after: pl.DataFrame, y: Array) -> list[Array]:
    """What a forest that learned from the reference says of both sides, never of a row that it learned from."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    if min(y.sum(), len(y) - y.sum()) < FOLDS:
        few = f"of {len(y):,} rows of the reference {y.sum():.0f} have the outcome"
        raise AnalysisError(f"{few}, which is too few, or too many, to learn from. Hint: --prediction.")
    shared = [name for name in before.columns if after.schema.get(name) == pl.Float64]
    x = [side.select(shared).to_numpy().astype(np.float64) for side in (before, after)]
    forest = RandomForestClassifier(TREES, min_samples_leaf=LEAF, n_jobs=-1, random_state=0)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    own = cross_val_predict(forest, x[0], y, cv=folds, method="predict_proba")[:, 1]
    return [own, forest.fit(x[0], y).predict_proba(x[1])[:, 1]]
