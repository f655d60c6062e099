"""Arms: the rows of an experiment's file as numbers, one row a user, by variant."""

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import AnalysisError, nearest

Nulls = Literal["reject", "drop"]
MOST_ARMS = 20
_LOGICAL = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class Arms:
    """An experiment's rows by arm, and what was left out.

    Attributes:
        sizes: Rows (users, where a user column was named) per arm, control first.
        arm: Shape (n,), the arm of each row.
        columns: Per metric the values of all rows, shape (n,); NaN is missing. A ratio `a/b` is linearised within its
            arm, so that its mean is the arm's ratio and its variance that of the delta method.
        covariate: Shape (n,), where one was named.
        segment: Shape (n,), where one was named.
        rows: Rows of the file.
        repeated: Further rows of a user within one arm, left out; the first one counts.
        crossed: Users seen in two arms, left out with all their rows.
        unassigned: Rows without a variant or a user, left out.
        nulls: Per metric the rows without a value, left out of that metric alone.
    """

    sizes: dict[str, int]
    arm: NDArray[np.object_]
    columns: dict[str, NDArray[np.float64]]
    covariate: NDArray[np.float64] | None
    segment: NDArray[np.object_] | None
    rows: int
    repeated: int
    crossed: int
    unassigned: int
    nulls: dict[str, int]

    def values(self) -> dict[str, dict[str, NDArray[np.float64]]]:
        """Per metric and arm the values that are there, shape (n,)."""
        return {
            name: {arm: column[(self.arm == arm) & ~np.isnan(column)] for arm in self.sizes}
            for name, column in self.columns.items()
        }

    def notes(self) -> list[str]:
        """What was left out, in sentences; empty when nothing was."""
        kinds = {
            "rows without a variant or a user were left out": self.unassigned,
            "users were seen in two arms and left out": self.crossed,
            "further rows of a user already counted were left out (the first one counts)": self.repeated,
            **{f"rows without {metric} were left out of that metric": count for metric, count in self.nulls.items()},
        }
        return [f"{count:,} {what}." for what, count in kinds.items() if count]


def read(path: Path) -> pl.DataFrame:
    """A CSV or TSV (separator found in the header; every column as text) or Parquet file, gzipped or not.

    Raises:
        AnalysisError: no such file, not such a file, or an empty one.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        inner = path.with_suffix("") if path.suffix == ".gz" else path
        frame = _parquet(data) if inner.suffix in {".parquet", ".pq"} else _separated(data)
    except FileNotFoundError:
        raise AnalysisError(f"{path}: no such file.") from None
    except (OSError, EOFError, zlib.error, pl.exceptions.PolarsError) as error:
        raise AnalysisError(f"{path.name} cannot be read: {str(error).splitlines()[0]}") from None
    if frame.is_empty():
        raise AnalysisError(f"{path.name} has no rows.")
    return frame


def _parquet(data: bytes) -> pl.DataFrame:
    return pl.read_parquet(BytesIO(data))


def _separated(data: bytes) -> pl.DataFrame:
    header = data.split(b"\n", 1)[0]
    separator = max(",;\t", key=lambda mark: header.count(mark.encode()))
    return pl.read_csv(data, separator=separator, infer_schema=False)


def sort(
    frame: pl.DataFrame,
    *,
    variant: str,
    control: str,
    metrics: Sequence[str],
    user: str | None = None,
    covariate: str | None = None,
    by: str | None = None,
    nulls: Nulls = "reject",
) -> Arms:
    """The rows of `frame` by the arm they name, checked and counted.

    Raises:
        AnalysisError: a column is missing, a metric is no number, `control` is no arm, an arm has a single row, or
            there are nulls and `nulls` is `reject`.
    """
    wanted = [column for metric in metrics for column in _parts(metric, frame)]
    _known_columns(frame, [variant, *wanted, *filter(None, (user, covariate, by))])
    keys = [pl.col(name).cast(pl.String) for name in dict.fromkeys([variant, *([user] if user else [])])]
    assigned = frame.with_columns(keys).filter(~pl.any_horizontal(key.is_null() for key in keys))
    unassigned = len(frame) - len(assigned)
    if unassigned and nulls == "reject":
        raise AnalysisError(
            f"{unassigned:,} of {len(frame):,} rows have no {variant}{f' or no {user}' if user else ''}. "
            "Hint: `--nulls drop` leaves them out and counts them."
        )
    once, crossed, repeated = _one_row_a_user(assigned, variant, user)
    sizes = _sizes(once, variant, control)
    names = once[variant].to_numpy()
    numbers = {metric: _metric(once, metric, names, sizes) for metric in dict.fromkeys(metrics)}
    missing = {metric: int(np.isnan(values).sum()) for metric, values in numbers.items()}
    if nulls == "reject":
        _refuse_missing(missing, len(once))
    before = _numbers(once, covariate) if covariate else None
    segment = once[by].cast(pl.String).fill_null("(missing)").to_numpy() if by else None
    return Arms(sizes, names, numbers, before, segment, len(frame), repeated, crossed, unassigned, missing)


def _parts(metric: str, frame: pl.DataFrame) -> list[str]:
    """The columns behind a metric: itself, or both sides of `a/b` where no column is called that."""
    if metric in frame.columns or metric.count("/") != 1:
        return [metric]
    return metric.split("/")


def _metric(frame: pl.DataFrame, metric: str, arms: NDArray[np.object_], sizes: dict[str, int]) -> NDArray[np.float64]:
    columns = [_numbers(frame, name) for name in _parts(metric, frame)]
    if len(columns) == 1:
        return columns[0]
    above, below = columns
    out = np.full(len(above), np.nan)
    for arm in sizes:
        rows = np.flatnonzero((arms == arm) & ~np.isnan(above) & ~np.isnan(below))
        total = float(below[rows].sum())
        if total <= 0:
            raise AnalysisError(f"the metric {metric!r} has nothing below the line in the arm {arm!r}.")
        ratio = float(above[rows].sum()) / total
        out[rows] = ratio + (above[rows] - ratio * below[rows]) / (total / len(rows))
    return out


def _known_columns(frame: pl.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        if name not in frame.columns:
            raise AnalysisError(f"the file has no column {name!r}. {nearest(name, frame.columns)}")


def _one_row_a_user(frame: pl.DataFrame, variant: str, user: str | None) -> tuple[pl.DataFrame, int, int]:
    if user is None:
        return frame, 0, 0
    arms_seen = pl.col(variant).n_unique().over(user)
    faithful = frame.filter(arms_seen == 1)
    crossed = frame[user].n_unique() - faithful[user].n_unique()
    once = faithful.unique(user, keep="first", maintain_order=True)
    return once, crossed, len(faithful) - len(once)


def _sizes(frame: pl.DataFrame, variant: str, control: str) -> dict[str, int]:
    counts: dict[str, int] = dict(frame[variant].value_counts().iter_rows())
    shown = ", ".join(repr(name) for name in sorted(counts)[:MOST_ARMS])
    if len(counts) > MOST_ARMS:
        raise AnalysisError(
            f"the column {variant!r} has {len(counts):,} values, such as {shown}; an experiment has at most "
            f"{MOST_ARMS} arms. Hint: --variant names the column that says which arm a row is in."
        )
    if control not in counts:
        raise AnalysisError(f"no row has the control {control!r}; the arms are {shown or 'none'}.")
    if len(counts) == 1:
        raise AnalysisError(f"every row is in the arm {control!r}: there is nothing to compare it with.")
    for name, count in sorted(counts.items()):
        if count == 1:
            raise AnalysisError(f"the arm {name!r} has a single row; the arms are {shown}. Hint: is it misspelt?")
    return {name: counts[name] for name in [control, *sorted(counts.keys() - {control})]}


def _numbers(frame: pl.DataFrame, metric: str) -> NDArray[np.float64]:
    """One metric as float64, missing as NaN; texts that are numbers or true/false are read as such."""
    column = frame[metric]
    if column.dtype == pl.String:
        texts = column.str.strip_chars()
        texts = texts.set(texts == "", None)
        numbers = texts.cast(pl.Float64, strict=False)
        logical = texts.str.to_lowercase().replace_strict(_LOGICAL, default=None, return_dtype=pl.Float64)
        numbers = numbers if numbers.count() >= logical.count() else logical
        strange = column.filter(texts.is_not_null() & numbers.is_null())
        if len(strange):
            raise AnalysisError(
                f"the metric {metric!r} is not a number in {len(strange):,} of {len(column):,} rows, "
                f"such as {strange[0]!r}."
            )
    elif column.dtype.is_numeric() or column.dtype == pl.Boolean:
        numbers = column.cast(pl.Float64)
    else:
        raise AnalysisError(f"the metric {metric!r} is not a number but {column.dtype}.")
    if numbers.is_infinite().any():
        raise AnalysisError(f"the metric {metric!r} has {numbers.is_infinite().sum():,} infinite values.")
    return numbers.fill_null(float("nan")).to_numpy()


def numbers_of(frame: pl.DataFrame, metric: str) -> NDArray[np.float64]:
    """One metric's values without the missing ones."""
    _known_columns(frame, [metric])
    values = _numbers(frame, metric)
    return values[~np.isnan(values)]


def _refuse_missing(missing: dict[str, int], rows: int) -> None:
    for metric, count in missing.items():
        if count:
            raise AnalysisError(
                f"the metric {metric!r} is missing in {count:,} of {rows:,} rows. "
                "Hint: `--nulls drop` leaves them out of this metric and counts them; "
                "if missing means 0, write 0 into the file."
            )
