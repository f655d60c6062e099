"""Tables: any file as rows to learn from, with no project around it, and which of them are judged."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Literal, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator

from experiments.arms import read
from features.behaviour.matrix import FeatureMatrix
from features.document import Definition
from features.errors import StudyError, nearest
from training.parts import TEST, TRAIN, VALIDATION
from training.steps import Written
from training.training_set import TrainingSet

Array = NDArray[np.float64]

POSITIVE = ("true", "1", "yes", "y", "t")
MOST_VALUES = 50
"""A text column with more different values than this is an id or a text, not a category."""
MOST_CLASSES = 20
"""A label with more different values than this is no class."""
INNER = 5
"""One in so many of the rows to learn from chooses parameters and rounds."""
NEWEST = 0.2
"""Share of the rows that a split by time judges."""


class Split(Definition):
    """How a table's rows are kept for judging.

    Attributes:
        by: `folds`: stratified, every row is judged once; `time`: the newest fifth; `column`: named values.
        column: What orders the rows in time, or holds the values.
        test: Of `column`, the values whose rows are judged.
        user: Rows of one user stay together.
        folds: How many.
    """

    by: Literal["folds", "time", "column"] = "folds"
    column: str | None = None
    test: tuple[str, ...] = ()
    user: str | None = None
    folds: int = Field(5, ge=2, le=50)

    @model_validator(mode="after")
    def _has_its_column(self) -> Self:
        if self.by != "folds" and self.column is None:
            raise ValueError(f"a split by {self.by} needs a `column`. Hint: --column NAME.")
        return self

    def __str__(self) -> str:
        if self.by == "folds":
            together = f", rows of one {self.user} together" if self.user else ""
            return f"{self.folds} stratified folds{together}"
        return f"the newest fifth by {self.column}" if self.by == "time" else f"{self.column} in {list(self.test)}"


FOLDS = Split()
"""What is done where nothing is said."""


def rows_of(
    path: Path | str,
    label: str | None,
    *,
    split: Split | None = FOLDS,
    positive: str | None = None,
    leave_out: Sequence[str] = (),
) -> TrainingSet:
    """A CSV, TSV or Parquet file, gzipped or not; texts of few values are places among them.

    Args:
        path: The file.
        label: The column that says what is predicted: yes or no, `positive` or another, or which of several; of
            clusters the kinds that are known, or None.
        split: Its columns are no features; a split by folds keeps no rows apart yet. None where nothing is judged.
        positive: The value that counts as positive (default, of two: true, 1 or yes, else the rarer one).
        leave_out: Columns that are no features.

    Raises:
        AnalysisError: the file cannot be read.
        StudyError: a column is missing, or the label is no class.
    """
    frame, path, judged = read(Path(path)), Path(path), f"; judged on {split}" if split else f"; beside {label}"
    split = split or FOLDS
    named = list(dict.fromkeys(filter(None, (label, *leave_out, split.column, split.user))))
    for name in named:
        if name not in frame.columns:
            raise StudyError(f"{path.name} has no column {name!r}. {nearest(name, frame.columns)}")
    y, classes = _label(frame[label], positive) if label else (None, ())
    columns, categories, notes = _features(frame.drop(named))
    if not columns:
        raise StudyError(f"no column of {path.name} is left to learn from. Hint: leave fewer out.")
    n = frame.height
    users = frame[split.user].cast(pl.String).fill_null("").to_numpy() if split.user else np.arange(n).astype(str)
    fingerprint = sha256("\0".join(columns).encode()).hexdigest()[:16]
    at, values = np.zeros(n, np.int64), np.column_stack(list(columns.values()))
    matrix = FeatureMatrix(values, users.astype(object), at, tuple(columns), fingerprint, np.zeros(n, np.bool_))
    question = f"which {label}" if len(classes) > 2 else f"{label} = {classes[1]}" if classes else ""
    parts = np.where(_judged(frame, split), TEST, TRAIN).astype(np.int8)
    said: dict[str, object] = {
        "file": path.name,
        "label": question,
        "classes": list(classes) if len(classes) > 2 else [],
    }
    said |= {"split": str(split), "categories": categories, "notes": notes, "features": fingerprint}
    said |= {"n_rows": n, "n_users": len(set(users.tolist()))}
    told = f"{n:,} rows of {path.name}, {len(columns)} columns"
    if y is not None:
        counts = np.bincount(y.astype(np.int64)) / n
        shares = ", ".join(f"{share:.2%} {name}" for name, share in zip(classes, counts, strict=True))
        told = f"{question}: {told} ({shares}){judged}"
    made = TrainingSet(matrix, y, parts, {**said, "told": [told, *notes]})
    return replace(made, provenance={**made.provenance, "data": made.fingerprint})


def steps(rows: TrainingSet, names: Sequence[str]) -> list[Written]:
    """How these columns of a table are made numbers that trees may ask about; events' columns are."""
    said = rows.provenance.get("categories")
    places = [name for name in names if name in said] if isinstance(said, dict) else []
    return [{"one_hot": {"columns": places, "most": MOST_VALUES}}] if places else []


def _label(column: pl.Series, positive: str | None) -> tuple[Array, tuple[str, ...]]:
    texts = column.cast(pl.String).str.strip_chars()
    if texts.null_count() or (texts == "").any():
        raise StudyError(f"the label {column.name!r} is missing in some rows. Hint: leave those rows out of the file.")
    counts = Counter(texts.to_list())
    if positive is not None and positive not in counts:
        raise StudyError(f"no row has {column.name} = {positive!r}. {nearest(positive, counts)}")
    if len(counts) < 2:
        raise StudyError(f"every row has {column.name} = {next(iter(counts))!r}: there is nothing to tell apart.")
    if len(counts) > MOST_CLASSES and positive is None:
        shown = ", ".join(map(repr, sorted(counts)[:8]))
        raise StudyError(f"the label {column.name!r} has {len(counts):,} values: {shown}. Hint: --positive VALUE.")
    if positive is None and len(counts) > 2:
        classes = tuple(sorted(counts))
        return texts.replace_strict(dict(zip(classes, range(len(classes)), strict=True))).cast(
            pl.Float64
        ).to_numpy(), classes
    rare = min(counts, key=lambda value: (counts[value], value))
    chosen = positive or next((value for value in counts if value.lower() in POSITIVE), rare)
    others = [value for value in counts if value != chosen]
    return (texts == chosen).cast(pl.Float64).to_numpy(), (others[0] if len(others) == 1 else "others", chosen)


def _features(frame: pl.DataFrame) -> tuple[dict[str, Array], dict[str, list[str]], list[str]]:
    """(values by column, of categories what the places 1, 2, ... are called, what was left out)."""
    columns: dict[str, Array] = {}
    categories, notes = {}, []
    for series in frame:
        values = numbers(series)
        if values is None:
            texts = series.cast(pl.String)
            if texts.n_unique() > MOST_VALUES:
                notes.append(f"{series.name}: left out, {texts.n_unique():,} different texts")
                continue
            values = texts.rank("dense").cast(pl.Float64)
            categories[series.name] = texts.drop_nulls().unique().sort().to_list()
        if values.n_unique() < 2:
            notes.append(f"{series.name}: left out, it has one value only")
            continue
        columns[series.name] = values.fill_null(float("nan")).to_numpy()
    return columns, {name: words for name, words in categories.items() if name in columns}, notes


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


def _judged(frame: pl.DataFrame, split: Split) -> NDArray[np.bool_]:
    """The rows that are kept apart for ever."""
    if split.column is None or split.by == "folds":
        return np.zeros(frame.height, np.bool_)
    column = frame[split.column]
    if split.by == "time":
        order = column.rank("dense").cast(pl.Float64).to_numpy() if column.dtype != pl.String else _times(column)
        return np.asarray(order > np.quantile(order, 1 - NEWEST))
    values = column.cast(pl.String).unique().to_list()
    for value in split.test or ("",):
        if value not in values:
            raise StudyError(f"no row has {split.column} = {value!r}. {nearest(value, [str(v) for v in values])}")
    return column.cast(pl.String).is_in(list(split.test)).fill_null(value=False).to_numpy()


def _times(column: pl.Series) -> Array:
    values = numbers(column)
    if values is None:
        moments = column.str.to_datetime(strict=False, time_zone="UTC")
        if moments.null_count():
            bad = column.filter(moments.is_null())[0]
            raise StudyError(f"{column.name!r} is no time: {bad!r}. Hint: ISO 8601, or a number.")
        values = moments.cast(pl.Int64).cast(pl.Float64)
    return values.to_numpy()


def parted(rows: TrainingSet, split: Split, *, seed: int) -> Iterator[TrainingSet]:
    """The rows, as often as the split says, with other parts each time: what learns, what chooses, what is judged."""
    together = rows.matrix.users if split.user else None
    if split.by != "folds":
        yield replace(rows, parts=_choosing(rows, rows.parts == TEST, together, seed))
        return
    for place, judged in enumerate(_folds(np.asarray(rows.y), together, split.folds, seed)):
        yield replace(rows, parts=_choosing(rows, judged, together, seed + place))


def whole(rows: TrainingSet, split: Split, *, seed: int) -> TrainingSet:
    """The rows with none of them kept for judging."""
    together = rows.matrix.users if split.user else None
    return replace(rows, parts=_choosing(rows, np.zeros(len(rows), np.bool_), together, seed))


def _choosing(
    rows: TrainingSet, judged: NDArray[np.bool_], together: NDArray[np.object_] | None, seed: int
) -> NDArray[np.int8]:
    parts, rest = np.where(judged, TEST, TRAIN).astype(np.int8), np.flatnonzero(~judged)
    chooses = next(_folds(np.asarray(rows.y)[rest], None if together is None else together[rest], INNER, seed))
    parts[rest[chooses]] = VALIDATION
    return parts


def _folds(y: Array, together: NDArray[np.object_] | None, n: int, seed: int) -> Iterator[NDArray[np.bool_]]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    kind = StratifiedKFold if together is None else StratifiedGroupKFold
    for _, rows in kind(n, shuffle=True, random_state=seed).split(y, y, together):
        inside = np.zeros(len(y), np.bool_)
        inside[rows] = True
        yield inside


def copies(rows: TrainingSet) -> tuple[float, float]:
    """(share of the positive rows, share of the others) that are an exact copy of another row."""
    y = np.asarray(rows.y)
    repeated = pl.from_numpy(np.column_stack([rows.matrix.values, y])).is_duplicated().to_numpy()
    return float(repeated[y > 0].mean()), float(repeated[y == 0].mean())
