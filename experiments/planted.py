"""Planted: shifts of known kind and size, done to rows as they came, for measuring what the detector finds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
from numpy.random import Generator
from scipy.stats import spearmanr

from features.errors import AnalysisError

Change = Callable[[pl.DataFrame, Generator], pl.DataFrame]
FEW, VARIED, COMMON, CORRELATED = 8, 100, 0.5, 0.4
"""A category has at most so few values and a number so many; a missing or most frequent value has at most this share;
a pair is correlated so much."""
TRIED = 40
LABEL = "label"


@dataclass(frozen=True)
class Plant:
    """One change, the same for every window.

    Attributes:
        columns: That it touches; none where only outcomes change.
        change: Does it.
    """

    columns: tuple[str, ...]
    change: Change


def location(sd: float) -> Callable[[pl.DataFrame, Generator], Plant]:
    """A number is larger by so many standard deviations, for everybody."""

    def plant(rows: pl.DataFrame, random: Generator) -> Plant:
        name = _one(_numbers(rows), "number", random)
        step = sd * float(np.nanstd(_values(rows, name)))
        return Plant((name,), lambda window, _: window.with_columns(pl.col(name) + step))

    return plant


def scale(rows: pl.DataFrame, random: Generator) -> Plant:
    """A number spreads half as far again around its median."""
    name = _one(_numbers(rows), "number", random)
    middle = float(np.nanmedian(_values(rows, name)))
    return Plant((name,), lambda window, _: window.with_columns((pl.col(name) - middle) * 1.5 + middle))


def category_mix(rows: pl.DataFrame, random: Generator) -> Plant:
    """A sixth of the users change over to the rarest value of a column of few values: a flag, a code."""
    name = _one(
        [name for name in _names(rows) if 2 <= len(_counts(rows, name)[0]) <= FEW], "column of few values", random
    )
    kinds, counts = _counts(rows, name)
    rarest = float(kinds[np.argmin(counts)])

    def change(window: pl.DataFrame, dealt: Generator) -> pl.DataFrame:
        chosen = pl.Series(dealt.random(window.height) < 1 / 6)
        return window.with_columns(pl.when(chosen).then(rarest).otherwise(pl.col(name)).alias(name))

    return Plant((name,), change)


def missing(rows: pl.DataFrame, random: Generator) -> Plant:
    """A tenth of a number's values is lost."""
    name = _one(_numbers(rows), "number", random)

    def change(window: pl.DataFrame, dealt: Generator) -> pl.DataFrame:
        lost = pl.Series(dealt.random(window.height) < 0.1)
        return window.with_columns(pl.when(lost).then(None).otherwise(pl.col(name)).alias(name))

    return Plant((name,), change)


def correlation_flip(rows: pl.DataFrame, random: Generator) -> Plant:
    """Who had a number's largest value has its smallest: its distribution stays, its correlations change sign."""
    names = _numbers(rows)
    for _ in range(TRIED):
        if len(names) < 2:
            break
        a, b = random.choice(names, 2, replace=False)
        if abs(spearmanr(_values(rows, a), _values(rows, b), nan_policy="omit").statistic) >= CORRELATED:
            return Plant((a, b), partial(_turned, name=str(b)))
    raise AnalysisError(f"no two numbers are correlated by {CORRELATED}.")


def _turned(window: pl.DataFrame, _random: Generator, *, name: str) -> pl.DataFrame:
    values = _values(window, name).copy()
    there = np.flatnonzero(np.isfinite(values))
    order = there[np.argsort(values[there], kind="stable")]
    values[order] = values[order[::-1]]
    return window.with_columns(pl.Series(name, values))


def sub_population(rows: pl.DataFrame, random: Generator) -> Plant:
    """A tenth of the users are others: three numbers are larger by three standard deviations."""
    names = _numbers(rows)
    if len(names) < 3:
        raise AnalysisError("there are no three numbers.")
    chosen = tuple(map(str, random.choice(names, 3, replace=False)))
    steps = {name: 3 * float(np.nanstd(_values(rows, name))) for name in chosen}

    def change(window: pl.DataFrame, dealt: Generator) -> pl.DataFrame:
        others = pl.Series((dealt.random(window.height) < 0.1).astype(np.float64))
        return window.with_columns(pl.col(name) + others * step for name, step in steps.items())

    return Plant(chosen, change)


def label_only(_rows: pl.DataFrame, _random: Generator) -> Plant:
    """What users do has nothing to do with their features any more; as many do it as before."""

    def change(window: pl.DataFrame, dealt: Generator) -> pl.DataFrame:
        return window.with_columns(pl.Series(LABEL, dealt.permutation(window[LABEL].to_numpy())))

    return Plant((), change)


GRID: Mapping[str, Callable[[pl.DataFrame, Generator], Plant]] = {
    "location 0.1 sd": location(0.1),
    "location 0.2 sd": location(0.2),
    "location 0.3 sd": location(0.3),
    "scale 1.5": scale,
    "category mix": category_mix,
    "missing values": missing,
    "correlation flip": correlation_flip,
    "sub-population 10 %": sub_population,
    "label only": label_only,
}
IMMATERIAL = ("location 0.1 sd",)
"""Below the floors: measured, and not to be found."""


def _names(rows: pl.DataFrame) -> list[str]:
    return [name for name in rows.columns if name not in ("user", "at", LABEL) and not name.startswith("score")]


def _values(rows: pl.DataFrame, name: str) -> np.ndarray:
    return rows[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _counts(rows: pl.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
    values = _values(rows, name)
    return np.unique(values[np.isfinite(values)], return_counts=True)


def _numbers(rows: pl.DataFrame) -> list[str]:
    found = []
    for name in _names(rows):
        kinds, counts = _counts(rows, name)
        there = counts.sum()
        if len(kinds) >= VARIED and counts.max() <= COMMON * there and there >= COMMON * rows.height:
            found.append(name)
    return found


def _one(names: list[str], what: str, random: Generator) -> str:
    if not names:
        raise AnalysisError(f"there is no {what}.")
    return str(random.choice(names))
