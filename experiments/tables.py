"""Tables: a study of any file, with no project around it: which rows are positive, told from the other columns."""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.arms import read
from experiments.fitting import SPACE
from experiments.search import Report, search
from features.behaviour.matrix import FeatureMatrix
from features.errors import StudyError, nearest
from training.calibration import sigmoid
from training.propensity import Boosting, baselines, leaks
from training.steps import Written, fit
from training.training_set import TrainingSet
from training.validation import METRICS, Figures, judge

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

MODEL = "XGBoost, tuned"
POSITIVE = ("true", "1", "yes", "y", "t")
MOST_VALUES = 50
"""A text column with more different values than this is an id or a text, not a category."""
INNER = 0.2
"""Share of the training rows that choose parameters and rounds; afterwards all of them are learned from."""
COPIED = 0.2
"""Share of the positive rows with an exact copy from which on the file looks oversampled."""
DEFAULT = {"max_depth": 4, "learning_rate": 0.05, "min_child_weight": 1, "subsample": 1.0}
DEFAULT |= {"colsample_bytree": 1.0, "reg_lambda": 1.0}


@dataclass(frozen=True)
class Split:
    """How rows are kept for judging.

    Attributes:
        kind: `folds`: stratified, every row is judged once; `time`: the newest fifth; `column`: named values.
        column: What orders the rows in time, or holds the values.
        test: Of `column`, the values whose rows are judged.
        user: Rows of one user stay together.
        n: Folds.
    """

    kind: Literal["folds", "time", "column"] = "folds"
    column: str | None = None
    test: tuple[str, ...] = ()
    user: str | None = None
    n: int = 5

    def __str__(self) -> str:
        if self.kind == "folds":
            together = f", rows of one {self.user} together" if self.user else ""
            return f"{self.n} stratified folds{together}"
        return f"the newest fifth by {self.column}" if self.kind == "time" else f"{self.column} in {list(self.test)}"


@dataclass(frozen=True)
class Table:
    """A file's rows as numbers.

    Attributes:
        rows: Features, labels; `users` says which rows belong together.
        categories: Columns whose numbers are places of texts, to be one-hot encoded.
        order: What the split asks of each row: its place in time, or whether it is judged; None for folds.
        notes: What was left out, and why.
    """

    rows: TrainingSet
    categories: tuple[str, ...]
    order: Array | None
    notes: tuple[str, ...]

    @classmethod
    def read(
        cls,
        path: Path | str,
        label: str,
        *,
        split: Split = Split(),
        positive: str | None = None,
        leave_out: Sequence[str] = (),
    ) -> "Table":
        """A CSV, TSV or Parquet file, gzipped or not.

        Args:
            path: The file.
            label: The column that says what is predicted; two values, or `positive` against all others.
            split: Its columns are no features.
            positive: The value that counts as positive (default: true, 1 or yes, else the rarer one).
            leave_out: Columns that are no features.

        Raises:
            AnalysisError: the file cannot be read.
            StudyError: a column is missing, or the label does not have two values.
        """
        frame = read(Path(path))
        named = [label, *leave_out, *filter(None, (split.column, split.user))]
        for name in named:
            if name not in frame.columns:
                raise StudyError(f"{Path(path).name} has no column {name!r}. {nearest(name, frame.columns)}")
        y, called = _label(frame[label], positive)
        columns, categories, notes = _features(frame.drop(list(dict.fromkeys(named))))
        if not columns:
            raise StudyError(f"no column is left to tell {label!r} from. Hint: leave fewer out.")
        users = frame[split.user].cast(pl.String).fill_null("").to_numpy() if split.user else np.arange(len(y))
        n = len(y)
        values, names = np.column_stack(list(columns.values())), tuple(columns)
        matrix = FeatureMatrix(
            values, users.astype(object), np.zeros(n, np.int64), names, "table", np.zeros(n, np.bool_)
        )
        rows = TrainingSet(matrix, y, np.zeros(n, np.int8), {"label": f"{label} = {called}", "file": Path(path).name})
        return cls(rows, categories, _order(frame, split), tuple(notes))

    def steps(self) -> list[Written]:
        """How its columns are made numbers that trees may ask about."""
        return [{"one_hot": {"columns": list(self.categories), "most": MOST_VALUES}}] if self.categories else []


def _label(column: pl.Series, positive: str | None) -> tuple[Array, str]:
    texts = column.cast(pl.String).str.strip_chars()
    if texts.null_count() or (texts == "").any():
        raise StudyError(f"the label {column.name!r} is missing in some rows. Hint: leave those rows out of the file.")
    counts = Counter(texts.to_list())
    shown = ", ".join(map(repr, sorted(counts)[:8]))
    if positive is None and len(counts) != 2:
        raise StudyError(f"the label {column.name!r} has {len(counts):,} values: {shown}. Hint: --positive VALUE.")
    if positive is not None and positive not in counts:
        raise StudyError(f"no row has {column.name} = {positive!r}. {nearest(positive, counts)}")
    rare = min(counts, key=lambda value: (counts[value], value))
    chosen = positive or next((value for value in counts if value.lower() in POSITIVE), rare)
    if len(counts) < 2:
        raise StudyError(f"every row has {column.name} = {chosen!r}: there is nothing to tell apart.")
    return (texts == chosen).cast(pl.Float64).to_numpy(), chosen


def _features(frame: pl.DataFrame) -> tuple[dict[str, Array], tuple[str, ...], list[str]]:
    """(values by column, the columns that are categories, what was left out)."""
    columns: dict[str, Array] = {}
    categories, notes = [], []
    for series in frame:
        values = numbers(series)
        if values is None:
            texts = series.cast(pl.String)
            if texts.n_unique() > MOST_VALUES:
                notes.append(f"{series.name}: left out, {texts.n_unique():,} different texts")
                continue
            values = texts.rank("dense").cast(pl.Float64)
            categories.append(series.name)
        if values.n_unique() < 2:
            notes.append(f"{series.name}: left out, it has one value only")
            continue
        columns[series.name] = values.fill_null(float("nan")).to_numpy()
    return columns, tuple(name for name in categories if name in columns), notes


def numbers(series: pl.Series) -> pl.Series | None:
    """A column of numbers, or of true and false; None for texts."""
    if series.dtype.is_numeric() or series.dtype == pl.Boolean:
        return series.cast(pl.Float64)
    if series.dtype != pl.String:
        return series.cast(pl.Int64, strict=False).cast(pl.Float64) if series.dtype.is_temporal() else None
    texts = series.str.strip_chars().replace("", None)
    logical = texts.str.to_lowercase().replace_strict(
        {"true": 1.0, "false": 0.0}, default=None, return_dtype=pl.Float64
    )
    plain = texts.cast(pl.Float64, strict=False)
    return next((each for each in (plain, logical) if each.null_count() == texts.null_count()), None)


def _order(frame: pl.DataFrame, split: Split) -> Array | None:
    if split.kind == "folds":
        return None
    if split.column is None:
        raise StudyError(f"--split {split.kind} needs a column. Hint: --column NAME.")
    column = frame[split.column]
    if split.kind == "time":
        return column.rank("dense").cast(pl.Float64).to_numpy() if column.dtype != pl.String else _times(column)
    values = column.cast(pl.String).unique().to_list()
    for value in split.test or ("",):
        if value not in values:
            raise StudyError(f"no row has {split.column} = {value!r}. {nearest(value, [str(v) for v in values])}")
    return column.cast(pl.String).is_in(list(split.test)).cast(pl.Float64).to_numpy()


def _times(column: pl.Series) -> Array:
    values = numbers(column)
    if values is None:
        moments = column.str.to_datetime(strict=False, time_zone="UTC")
        if moments.null_count():
            bad = column.filter(moments.is_null())[0]
            raise StudyError(f"{column.name!r} is no time: {bad!r}. Hint: ISO 8601, or a number.")
        values = moments.cast(pl.Int64).cast(pl.Float64)
    return values.to_numpy()


def parts(table: Table, split: Split, *, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """(training rows, judged rows), as often as the split says."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    y = np.asarray(table.rows.y)
    if table.order is None:
        folds = (StratifiedGroupKFold if split.user else StratifiedKFold)(split.n, shuffle=True, random_state=seed)
        yield from folds.split(y, y, table.rows.matrix.users.astype(str) if split.user else None)
        return
    judged = table.order > (np.quantile(table.order, 0.8) if split.kind == "time" else 0.5)
    yield np.flatnonzero(~judged), np.flatnonzero(judged)


def copies(rows: TrainingSet) -> tuple[float, float]:
    """(share of the positive rows, share of the others) that are an exact copy of another row."""
    y = np.asarray(rows.y)
    _, place, counts = np.unique(
        np.nan_to_num(np.column_stack([rows.matrix.values, y]), nan=np.inf),
        axis=0,
        return_inverse=True,
        return_counts=True,
    )
    repeated = counts[place] > 1
    return float(repeated[y > 0].mean()), float(repeated[y == 0].mean())


@dataclass(frozen=True)
class TableResult:
    """What a study of a file found.

    Attributes:
        label: What is predicted, and the value that counts as positive.
        split: How rows were kept for judging.
        n_rows: Rows.
        base_rate: Share of positive rows.
        seeds: How many times it was all done again, with other folds and other models.
        trials: Of each search.
        metrics: Per model and metric, mean and standard deviation over the seeds.
        figures: Per model, of the first seed's judged rows: value and 95 per cent bootstrap interval.
        differences: The tuned model minus each other, from the same resamples.
        known_later: Per column that is not known when predicting, what it would have seemed to be worth.
        notes: What was left out, and why.
    """

    label: str
    split: str
    n_rows: int
    base_rate: float
    seeds: int
    trials: int
    metrics: Mapping[str, Mapping[str, tuple[float, float]]]
    figures: Mapping[str, Figures]
    known_later: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def differences(self) -> dict[str, dict[str, dict[str, float]]]:
        """The tuned model minus each other one."""
        ours = self.figures[MODEL]
        pairs = {name: ours.minus(each) for name, each in self.figures.items() if name != MODEL}
        return {name: {m: gap.to_dict() for m, gap in each.items()} for name, each in pairs.items()}

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        metrics = {
            name: {metric: {"mean": mean, "sd": sd} for metric, (mean, sd) in each.items()}
            for name, each in self.metrics.items()
        }
        figures = {name: each.to_dict() for name, each in self.figures.items()}
        return {**vars(self), "metrics": metrics, "figures": figures, "differences": self.differences}

    def __str__(self) -> str:
        spread = f"mean and sd over {self.seeds} seeds" if self.seeds > 1 else "one seed"
        cells = [[spread, *self.metrics]]
        cells += [[name, *(f"{m[name][0]:.4f} +- {m[name][1]:.4f}" for m in self.metrics.values())] for name in METRICS]
        widths = [max(len(row[place]) for row in cells) for place in range(len(cells[0]))]
        lines = [f"{self.label}: {self.n_rows:,} rows, {self.base_rate:.2%} positive; judged on {self.split}", ""]
        lines += ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
        lines += ["", *(self._against(name) for name in self.figures if name != MODEL)]
        for name, worth in self.known_later.items():
            lines.append(
                f"leak: {name} is not known when predicting and is left out; with it ROC-AUC would be "
                f"{worth['roc_auc_with']:.4f} instead of {worth['roc_auc_without']:.4f}"
            )
        return "\n".join([*lines, *self.notes, f"searches of {self.trials} trials, inside the training rows only"])

    def _against(self, other: str) -> str:
        gap = self.figures[MODEL].minus(self.figures[other])["roc_auc"]
        verdict = "better than" if gap.low > 0 else "worse than" if gap.high < 0 else "not told apart from"
        return f"{MODEL}: {verdict} {other}, ROC-AUC {gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"


def study(
    table: Table,
    split: Split,
    *,
    trials: int = 10,
    seeds: int = 1,
    seed: int = 7,
    known_later: Sequence[str] = (),
    trusted: Sequence[str] = (),
    copies_allowed: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> TableResult:
    """Tune, fit and judge, everything that is learned inside the training rows of each part.

    Args:
        table: The rows.
        split: Which are judged.
        trials: Of each search; parameters are chosen anew for every part.
        seeds: How many times it is all done, with other folds and models.
        seed: The first.
        known_later: Columns that are not known when predicting: left out, and what they would have seemed to be worth.
        trusted: Columns that may tell the label alone.
        copies_allowed: Whether many positive rows may be copies of each other.
        progress: Told of every part.

    Raises:
        StudyError: a column seems to know the answer, or the rows seem to have been oversampled before the split.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see `Study.run`
    names = table.rows.matrix.names
    for name in known_later:
        if name not in names:
            raise StudyError(f"the table has no column {name!r}. {nearest(name, names)}")
    if not copies_allowed:
        _refuse_copies(table.rows)
    known = tuple(name for name in names if name not in known_later)
    _refuse_leaks(table.rows, tuple(name for name in known if name not in trusted))
    per_seed: dict[str, dict[str, list[float]]] = {}
    first: dict[str, Figures] = {}
    for number in range(seeds):
        judged, figures = _once(table, split, known, trials, seed + number, progress)
        first = first or judged
        for model, values in figures.items():
            for metric, value in values.items():
                per_seed.setdefault(model, {}).setdefault(metric, []).append(value)
    metrics = {
        model: {
            metric: (float(np.mean(v)), float(np.std(v, ddof=1)) if len(v) > 1 else 0.0) for metric, v in each.items()
        }
        for model, each in per_seed.items()
    }
    y, worth = np.asarray(table.rows.y), _worth(table, split, known, known_later, trials, seed, metrics, progress)
    label = str(table.rows.provenance["label"])
    return TableResult(label, str(split), len(y), float(y.mean()), seeds, trials, metrics, first, worth, table.notes)


def _refuse_copies(rows: TrainingSet) -> None:
    positive, others = copies(rows)
    if positive > COPIED and positive > 2 * others:
        raise StudyError(
            f"{positive:.0%} of the positive rows are exact copies of another one, {others:.0%} of the others: the "
            "file seems to have been oversampled before the split, so that copies of a judged row are learned from. "
            "Hint: give the file as it was, nothing need be resampled; if the copies are real, --copies-allowed."
        )


def _refuse_leaks(rows: TrainingSet, names: tuple[str, ...]) -> None:
    found = leaks(rows, names)
    if found:
        name, area = max(found.items(), key=lambda item: item[1])
        raise StudyError(
            f"the column {name!r} alone has a ROC-AUC of {area:.3f}: it seems to know the answer. "
            f"Hint: --known-later {name} leaves it out and says what it would be worth; --trusted {name} keeps it."
        )


def _once(
    table: Table, split: Split, names: tuple[str, ...], trials: int, seed: int, progress: Callable[[str], None]
) -> tuple[dict[str, Figures], dict[str, dict[str, float]]]:
    """(figures over all judged rows, per model and metric the mean over the parts)."""
    predicted: dict[str, list[Array]] = {}
    rows: list[Rows] = []
    means: dict[str, dict[str, list[float]]] = {}
    for number, (train, test) in enumerate(parts(table, split, seed=seed)):
        progress(f"seed {seed}, part {number + 1}: {len(train):,} rows to learn from, {len(test):,} to judge")
        learned, held = table.rows.take(train), table.rows.take(test)
        probabilities = {MODEL: tuned(table, learned, held, names, trials=trials, seed=seed + number)}
        probabilities |= baselines(learned, held, names, steps=table.steps(), seed=seed)
        probabilities = {("rule" if name.startswith("rule") else name): p for name, p in probabilities.items()}
        y = np.asarray(held.y)
        for name, each in judge(y, probabilities, held.matrix.users, replicates=1).items():
            for metric in METRICS:
                means.setdefault(name, {}).setdefault(metric, []).append(each[metric].value)
        for name, p in probabilities.items():
            predicted.setdefault(name, []).append(p)
        rows.append(test)
    judged = table.rows.take(np.concatenate(rows))
    joined = {name: np.concatenate(each) for name, each in predicted.items()}
    figures = judge(np.asarray(judged.y), joined, judged.matrix.users, seed=seed)
    return figures, {name: {metric: float(np.mean(v)) for metric, v in each.items()} for name, each in means.items()}


def tuned(
    table: Table, learned: TrainingSet, held: TrainingSet, names: tuple[str, ...], *, trials: int, seed: int
) -> Array:
    """Probabilities of the held rows: parameters chosen on a part of the learned rows, then grown on all of them."""
    from sklearn.model_selection import StratifiedShuffleSplit

    y = np.asarray(learned.y)
    inner, chooses = next(StratifiedShuffleSplit(1, test_size=INNER, random_state=seed).split(y, y))
    preparation = fit(learned.take(inner).matrix, table.steps(), names=names)
    boosting = Boosting(learned.take(inner), learned.take(chooses), preparation)

    def objective(params: Mapping[str, float], report: Report) -> Mapping[str, float]:
        grown = boosting.grow(params, seed=seed, on_round=report)
        return {"value": grown.log_loss, "rounds": grown.rounds}

    with tempfile.TemporaryDirectory() as folder:
        storage = Path(folder) / "search.journal"
        options = {"trials": trials, "seed": seed, "direction": "minimize", "first": (DEFAULT,)}
        found = search(objective, _SPACE, storage=storage, name="table", **options)  # type: ignore[arg-type] # one dictionary for brevity
    everything = fit(learned.matrix, table.steps(), names=names)
    rounds = int(found.best.figures["rounds"] / (1 - INNER))
    margins = Boosting.all_of(learned, everything, found.best.params, rounds=rounds, seed=seed).margins(
        everything.transform(held.matrix).astype(np.float32)
    )
    return sigmoid(margins.astype(np.float64))


_SPACE = {**SPACE, "learning_rate": SPACE["learning_rate"].within(0.02, 0.3, "learning_rate")}


def _worth(
    table: Table,
    split: Split,
    known: tuple[str, ...],
    later: Sequence[str],
    trials: int,
    seed: int,
    metrics: Mapping[str, Mapping[str, tuple[float, float]]],
    progress: Callable[[str], None],
) -> dict[str, dict[str, float]]:
    """What each column that is known too late would have seemed to be worth."""
    without = metrics[MODEL]["roc_auc"][0]
    found = {}
    for name in later:
        _, figures = _once(table, split, (*known, name), trials, seed, progress)
        found[name] = {"roc_auc_with": figures[MODEL]["roc_auc"], "roc_auc_without": without}
    return found
