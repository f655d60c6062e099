"""Arms: the rows of an experiment's file, one row a user, as sums by arm, segment and day."""

import gzip
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, product
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.inference import FIELDS, B, Sums, summed
from features.errors import AnalysisError, nearest

Nulls = Literal["reject", "drop"]
MOST_ARMS = 20
_LOGICAL = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class Arms:
    """An experiment's rows as sums by arm, segment and day, and what was left out.

    Attributes:
        sizes: Rows (users, where a user column was named) per arm, control first.
        metrics: Their names.
        binary: Of those, which are zeros and ones.
        cells: One row a part: arm, segment, day (null where no column says it), n.
        totals: Shape (n_cells, n_metrics, 11), as `Sums` has them.
        shifts: Shape (n_metrics,).
        rows: Rows of the file.
        repeated: Further rows of a user within one arm, left out; the first one counts.
        crossed: Users seen in two arms, left out with all their rows.
        unassigned: Rows without a variant or a user, left out.
        nulls: Per metric the rows without a value, left out of that metric alone.
    """

    sizes: dict[str, int]
    metrics: tuple[str, ...]
    binary: dict[str, bool]
    cells: pl.DataFrame
    totals: NDArray[np.float64]
    shifts: NDArray[np.float64]
    rows: int
    repeated: int
    crossed: int
    unassigned: int
    nulls: dict[str, int]

    def of(self, metric: str, arm: str, **where: object) -> Sums:
        """The sums of a metric in an arm, or in a part of it: `segment="new"`."""
        inside = (self.cells["arm"] == arm).to_numpy()
        for column, value in where.items():
            inside &= (self.cells[column] == value).to_numpy()
        place = self.metrics.index(metric)
        return Sums(self.totals[inside, place].sum(0), float(self.shifts[place]))

    def counts(self, **where: object) -> list[int]:
        """Rows per arm of a part, in the order of `sizes`."""
        part = self.cells.filter(**where) if where else self.cells
        found = dict(part.group_by("arm").agg(pl.col("n").sum()).iter_rows())
        return [int(found.get(arm, 0)) for arm in self.sizes]

    def parts(self, column: str) -> list[str]:
        """The values of `segment` or `day`, in order."""
        return self.cells[column].drop_nulls().unique().sort().to_list()

    def notes(self) -> list[str]:
        """What was left out, in sentences; empty when nothing was."""
        kinds = {
            "rows without a variant or a user were left out": self.unassigned,
            "users were seen in two arms and left out": self.crossed,
            "further rows of a user already counted were left out (the first one counts)": self.repeated,
            **{f"rows without {metric} were left out of that metric": count for metric, count in self.nulls.items()},
        }
        return [f"{count:,} {what}." for what, count in kinds.items() if count]


def read(path: Path, columns: Sequence[str] = ()) -> pl.DataFrame:
    """A CSV or TSV (separator found in the header; every column as text) or Parquet file, gzipped or not.

    Args:
        path: The file.
        columns: Those that are needed; of a plain Parquet file no others are read where it has them all.

    Raises:
        AnalysisError: no such file, not such a file, or an empty one.
    """
    try:
        inner = path.with_suffix("") if path.suffix == ".gz" else path
        if inner.suffix in {".parquet", ".pq"}:
            frame = _parquet(path, columns)
        else:
            frame = _separated(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    except FileNotFoundError:
        raise AnalysisError(f"{path}: no such file.") from None
    except (OSError, EOFError, zlib.error, pl.exceptions.PolarsError) as error:
        raise AnalysisError(f"{path.name} cannot be read: {str(error).splitlines()[0]}") from None
    if frame.is_empty():
        raise AnalysisError(f"{path.name} has no rows.")
    return frame


def _parquet(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    if path.suffix == ".gz":
        return pl.read_parquet(BytesIO(gzip.decompress(path.read_bytes())))
    known = pl.read_parquet_schema(path) if columns else {}
    wanted = [name for name in dict.fromkeys(columns) if "/" not in name or name in known]
    return pl.read_parquet(path, columns=wanted if wanted and all(name in known for name in wanted) else None)


def _separated(data: bytes) -> pl.DataFrame:
    header = data.split(b"\n", 1)[0]
    separator = max(",;\t", key=lambda mark: header.count(mark.encode()))
    return pl.read_csv(data, separator=separator, infer_schema=False)


def parts_of(metric: str, known: Sequence[str] = ()) -> list[str]:
    """The columns behind a metric: itself, or both sides of `a/b` where no column is called that."""
    return [metric] if metric in known or metric.count("/") != 1 else metric.split("/")


def sort(
    frame: pl.DataFrame,
    *,
    variant: str,
    control: str,
    metrics: Sequence[str],
    user: str | None = None,
    covariate: str | None = None,
    by: str | None = None,
    day: str | None = None,
    cap: float | None = None,
    nulls: Nulls = "reject",
    declared: Collection[str] = (),
) -> Arms:
    """The rows of `frame` by the arm they name, checked and counted; `declared` arms count though nobody is in them.

    Raises:
        AnalysisError: a column is missing, a metric is no number, `control` is no arm, or there are nulls and `nulls`
            is `reject`.
    """
    names = tuple(dict.fromkeys(metrics))
    wanted = {metric: parts_of(metric, frame.columns) for metric in names}
    _known_columns(frame, [*chain(*wanted.values()), *(each for each in (covariate, by, day) if each is not None)])
    held = assigned(frame, variant, user, nulls)
    unassigned = len(frame) - len(held)
    once, crossed, repeated = _one_row_a_user(held, variant, user)
    sizes = _sizes(once, variant, control, declared)
    numbers = _columns(once, wanted, covariate, cap)
    missing = {metric: int(numbers[f"a{place}"].null_count()) for place, metric in enumerate(names)}
    if nulls == "reject":
        _refuse_missing(missing, len(once))
    cells, cell = _cells({"arm": once[variant], "segment": _part(once, by), "day": _day(once, day)})
    totals, shifts = _summed(cell, len(cells), numbers, [len(sides) > 1 for sides in wanted.values()])
    left_out = len(frame), repeated, crossed, unassigned, missing
    made = Arms(sizes, names, _binary(numbers, wanted), cells, totals, shifts, *left_out)
    _refuse_empty(made, wanted)
    return made


def assigned(frame: pl.DataFrame, variant: str, user: str | None, nulls: Nulls) -> pl.DataFrame:
    """The rows that name an arm, as text without spaces around it, and a user where that column is named.

    Raises:
        AnalysisError: a column is missing, or there are other rows and `nulls` is `reject`.
    """
    keys = list(dict.fromkeys([variant, *([user] if user is not None else [])]))
    _known_columns(frame, keys)
    names = frame.with_columns(pl.col(variant).cast(pl.String).str.strip_chars().replace("", None))
    found = names.drop_nulls(keys) if any(names[key].null_count() for key in keys) else names
    if len(found) < len(frame) and nulls == "reject":
        raise AnalysisError(
            f"{len(frame) - len(found):,} of {len(frame):,} rows have no {' or no '.join(keys)}. "
            "Hint: `--nulls drop` leaves them out and counts them."
        )
    return found


def _columns(
    frame: pl.DataFrame, wanted: Mapping[str, Sequence[str]], covariate: str | None, cap: float | None
) -> dict[str, pl.Series]:
    """The sides of every metric, null where either is missing, and the covariate, its mean where it is missing."""
    found: dict[str, pl.Series] = {}
    for place, sides in enumerate(wanted.values()):
        above, *below = (number_column(frame, name) for name in sides)
        if below:
            both = above.is_not_null() & below[0].is_not_null()
            found[f"b{place}"] = below[0].to_frame().select(pl.when(both).then(pl.first())).to_series()
            above = above.to_frame().select(pl.when(both).then(pl.first())).to_series()
        elif cap is not None:
            above = above.clip(upper_bound=above.quantile(cap, "lower"))
        found[f"a{place}"] = above
    if covariate:
        before = number_column(frame, covariate)
        middle = before.mean() or 0.0
        found["x"] = before.fill_null(middle) - middle
    return found


def _part(frame: pl.DataFrame, by: str | None) -> pl.Series:
    if by is None:
        return pl.Series("segment", [None], pl.String).new_from_index(0, len(frame))
    return frame[by].cast(pl.String).fill_null("(missing)")


def _day(frame: pl.DataFrame, day: str | None) -> pl.Series:
    """The day of a date or an instant, as text."""
    if day is None:
        return pl.Series("day", [None], pl.String).new_from_index(0, len(frame))
    column = frame[day]
    found = column.dt.date().cast(pl.String) if column.dtype.is_temporal() else column.cast(pl.String).str.slice(0, 10)
    strange = column.filter(found.str.to_date(strict=False).is_null())
    if len(strange):
        raise AnalysisError(
            f"{day!r} is not a day in {len(strange):,} of {len(frame):,} rows, such as {strange[0]!r}. "
            "Hint: ISO 8601, 2026-12-24 or 2026-12-24T18:00:00Z."
        )
    return found


def _cells(parts: Mapping[str, pl.Series]) -> tuple[pl.DataFrame, NDArray[np.int64]]:
    """Every combination of arm, segment and day, and which of them each row is."""
    values = {name: column.unique().sort() for name, column in parts.items()}
    combined = np.zeros(len(parts["arm"]), np.int64)
    for name, column in parts.items():
        kinds = values[name]
        codes = column.cast(pl.Enum(kinds)).to_physical().to_numpy() if kinds.null_count() == 0 else np.int64(0)
        combined = combined * len(kinds) + codes
    rows = pl.DataFrame(product(*values.values()), schema=dict.fromkeys(parts, pl.String), orient="row")
    counts = np.bincount(combined, minlength=len(rows))
    return rows.with_columns(n=pl.Series(counts)), combined


def _summed(
    cell: NDArray[np.int64], n_cells: int, numbers: Mapping[str, pl.Series], ratios: Sequence[bool]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of every metric by cell, shape (n_cells, n_metrics, 11), and what was taken from each one's values."""
    x = numbers["x"].to_numpy() if "x" in numbers else None
    shifts, found = np.zeros(len(ratios)), np.zeros((n_cells, len(ratios), len(FIELDS)))
    for place, ratio in enumerate(ratios):
        a = numbers[f"a{place}"].to_numpy()
        if ratio:
            found[:, place] = summed(cell, n_cells, a, numbers[f"b{place}"].to_numpy(), x)
        else:
            shifts[place] = np.nanmean(a) if len(a) > numbers[f"a{place}"].null_count() else 0.0
            found[:, place] = summed(cell, n_cells, a - shifts[place], None, x)
    return found, shifts


def _binary(numbers: Mapping[str, pl.Series], wanted: Mapping[str, Sequence[str]]) -> dict[str, bool]:
    return {
        metric: len(sides) == 1 and numbers[f"a{place}"].drop_nulls().is_in([0.0, 1.0]).all()
        for place, (metric, sides) in enumerate(wanted.items())
    }


def _refuse_empty(arms: Arms, wanted: Mapping[str, Sequence[str]]) -> None:
    """A ratio needs something below the line in every arm that has rows."""
    for metric, sides in wanted.items():
        for arm, size in arms.sizes.items() if len(sides) > 1 else ():
            if size and not arms.of(metric, arm).totals[B] > 0:
                raise AnalysisError(f"the metric {metric!r} has nothing below the line in the arm {arm!r}.")


def _known_columns(frame: pl.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        if name not in frame.columns:
            raise AnalysisError(f"the file has no column {name!r}. {nearest(name, frame.columns)}")


def _one_row_a_user(frame: pl.DataFrame, variant: str, user: str | None) -> tuple[pl.DataFrame, int, int]:
    if user is None or frame[user].n_unique() == len(frame):
        return frame, 0, 0
    pairs = frame.select(user, variant).unique()
    crossed = pairs.filter(pl.col(user).is_duplicated()).select(user).unique()
    faithful = frame.join(crossed, on=user, how="anti", maintain_order="left") if len(crossed) else frame
    once = faithful.unique(user, keep="first", maintain_order=True)
    return once, len(crossed), len(faithful) - len(once)


def _sizes(frame: pl.DataFrame, variant: str, control: str, declared: Collection[str]) -> dict[str, int]:
    counts: dict[str, int] = {**dict.fromkeys(declared, 0), **dict(frame[variant].value_counts().iter_rows())}
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
    return {name: counts[name] for name in [control, *sorted(counts.keys() - {control})]}


def number_column(frame: pl.DataFrame, metric: str) -> pl.Series:
    """One column as float64, missing (also the text `nan`) as null; texts of numbers or true/false are read as such."""
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
                f"the column {metric!r} is not a number in {len(strange):,} of {len(column):,} rows, "
                f"such as {strange[0]!r}."
            )
    elif column.dtype.is_numeric() or column.dtype == pl.Boolean:
        numbers = column.cast(pl.Float64)
    else:
        raise AnalysisError(f"the column {metric!r} is not a number but {column.dtype}.")
    if numbers.is_infinite().any():
        raise AnalysisError(f"the column {metric!r} has {numbers.is_infinite().sum():,} infinite values.")
    return numbers.fill_nan(None) if numbers.is_nan().any() else numbers


def numbers_of(frame: pl.DataFrame, metric: str) -> NDArray[np.float64]:
    """One metric's values without the missing ones."""
    _known_columns(frame, [metric])
    return number_column(frame, metric).drop_nulls().to_numpy()


def _refuse_missing(missing: dict[str, int], rows: int) -> None:
    for metric, count in missing.items():
        if count:
            raise AnalysisError(
                f"the metric {metric!r} is missing in {count:,} of {rows:,} rows. "
                "Hint: `--nulls drop` leaves them out of this metric and counts them; "
                "if missing means 0, write 0 into the file."
            )
