"""Formulas: numbers made of other numbers of the same row, once all families are done."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import AfterValidator, Field

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.declarations import Declaration, ordered
from features.behaviour.feature import Feature
from features.behaviour.recency import RfmSpec
from features.behaviour.table import Family
from features.behaviour.words import Names, Words
from features.document import Definition, rule
from features.errors import DefinitionError
from features.instants import DAY

STATS = ("ratio", "difference", "score", "rank", "rank_down")
RATIO, DIFFERENCE, SCORE, RANK, RANK_DOWN = range(len(STATS))


class RatioSpec(Definition):
    """`{of: count_order_completed_30d, by: sessions_30d}`."""

    of: str
    by: str


class DifferenceSpec(Definition):
    """`{of: count_product_added_7d, minus: count_product_removed_7d}`."""

    of: str
    minus: str


class ScoreSpec(Definition):
    """`{weights: {sessions_30d: 1, count_order_completed_30d: 5}}`."""

    weights: Annotated[dict[str, float], Field(min_length=1)]


class Formula(Declaration):
    """`{ratio: {of: count_any_7d, by: sessions_7d}, as: depth}`.

    `{difference: {of: count_any_7d, minus: sessions_7d}, as: beyond_the_first}`,
    `{score: {weights: {sessions_7d: 1, count_any_7d: 0.1}}, as: engagement}`. Whatever stands in this file may be a
    part, formulas included; where a part is missing, so is the formula.
    """

    ratio: RatioSpec | None = None
    difference: DifferenceSpec | None = None
    score: ScoreSpec | None = None

    def features(self, words: Words) -> Iterator[Feature]:
        """One feature, whose name is what `as` says."""
        said = [spec for spec in (self.ratio, self.difference, self.score) if spec]
        if self.name is None or len(said) != 1 or self.where:
            raise DefinitionError("a formula is one of its own and needs a name. Hint: `as: orders_per_session`.")
        if self.ratio:
            yield _ratio(self.name, self.ratio.of, self.ratio.by)
        if self.difference:
            of, minus = self.difference.of, self.difference.minus
            yield Feature(self.name, "formulas", "difference", of=(of, minus), said=f"{of} - {minus}")
        if self.score:
            weights = self.score.weights
            told = " + ".join(f"{weight:g} * {name}" for name, weight in weights.items())
            yield Feature(self.name, "formulas", "score", of=tuple(weights), numbers=tuple(weights.values()), said=told)


def _ratio(name: str, of: str, by: str, *, times: float = 1.0) -> Feature:
    said = f"{of} / {by}" if times == 1 else f"{times:g} * {of} / {by}"
    return Feature(name, "formulas", "ratio", of=(of, by), numbers=(times,), said=said)


class Trend(Declaration):
    """`{trend: any}`: the last week against the average of the last four."""

    trend: Names

    def features(self, words: Words) -> Iterator[Feature]:
        """`trend_<event>`, from two counts that need not be declared."""
        for name, kind in self.kinds(self.trend, words):
            week, four = f"count_{name}_7d", f"count_{name}_28d"
            for count, days in ((week, 7), (four, 28)):
                yield Feature(count, "totals", "count", name, kind, "", days * DAY, hidden=True)
            yield _ratio(f"trend_{name}", week, four, times=4)


def _ascending(cuts: tuple[float, ...]) -> tuple[float, ...]:
    if any(low > high for low, high in pairwise(cuts)):
        raise ValueError("cuts ascend")
    return cuts


Cuts = Annotated[tuple[float, ...], Field(min_length=1), AfterValidator(_ascending)]


class RfmCuts(Definition):
    """Where one score ends and the next begins: seconds, orders, money."""

    r: Cuts
    f: Cuts
    m: Cuts

    _as_many = rule(lambda said: not len(said.r) == len(said.f) == len(said.m), "r, f and m have as many cuts")


class RfmScoreSpec(RfmSpec):
    """What `rfm` takes, and the cuts; without them `n` scores are learnt."""

    n: int = Field(5, ge=2, le=100)
    cuts: RfmCuts | None = None


class RfmScore(Declaration):
    """`{rfm_score: {event: order_completed, money: revenue, window: 90d, n: 5}}`: 1 to n for each.

    Few seconds since, many orders and much money score high. The cuts are learnt, or declared instead of n, as
    `cuts: {r: [..], f: [..], m: [..]}`.
    """

    rfm_score: RfmScoreSpec

    def features(self, words: Words) -> Iterator[Feature]:
        """`rfm_r_<event>_<window>`, `rfm_f_…` and `rfm_m_…`, from recency, count and sum that need not be declared."""
        spec = self.rfm_score
        recency, *rest = list(spec.features(words))
        for (text, _), count, total in zip(spec.window, rest[::2], rest[1::2], strict=True):
            for letter, each in (("r", recency), ("f", count), ("m", total)):
                cuts = getattr(spec.cuts, letter) if spec.cuts else ()
                yield replace(each, hidden=True)
                yield Feature(
                    f"rfm_{letter}_{spec.event}_{text}",
                    "formulas",
                    "rank_down" if letter == "r" else "rank",
                    option=len(cuts) + 1 if cuts else spec.n,
                    of=(each.name,) if letter == "r" else (each.name, count.name),
                    numbers=cuts,
                    said=each.name,
                )


class Formulas(NamedTuple):
    """All formulas, in the order in which they can be computed."""

    heads: Ints  # shape (n_formulas, 2): statistic, column
    edges: Ints  # shape (n_formulas + 1,): formula k reads the columns parts[edges[k]:edges[k + 1]]
    parts: Ints
    steps: Ints  # shape (n_formulas + 1,): its numbers are numbers[steps[k]:steps[k + 1]]
    numbers: Ints  # the bits of float64


def formulas_of(features: Sequence[Feature]) -> Formulas:
    """The arrays for features in the order of the columns."""
    columns: Mapping[str, int] = {feature.name: column for column, feature in enumerate(features)}
    mine = ordered(features)
    heads = [(STATS.index(each.stat), columns[each.name]) for each in mine]
    return Formulas(
        heads=np.array(heads, np.int64).reshape(-1, 2),
        edges=np.cumsum([0, *(len(each.of) for each in mine)], dtype=np.int64),
        parts=np.array([columns[name] for each in mine for name in each.of], np.int64),
        steps=np.cumsum([0, *(len(each.numbers) for each in mine)], dtype=np.int64),
        numbers=np.array([number for each in mine for number in each.numbers], np.float64).view(np.int64),
    )


@compiled_inside
def formulas(out: Floats, asked: Formulas) -> None:
    """Fill the formulas' columns from the others; what is made of a missing number is missing."""
    numbers = asked.numbers.view(np.float64)
    for k in range(len(asked.heads)):
        stat, first, step = asked.heads[k, 0], asked.edges[k], asked.steps[k]
        value = out[place(asked.parts[first])]
        if stat == RATIO:
            by = out[place(asked.parts[first + 1])]
            value = numbers[step] * value / by if by != 0 else np.nan
        elif stat == DIFFERENCE:
            value -= out[place(asked.parts[first + 1])]
        elif stat == SCORE:
            value = 0.0
            for part in range(asked.edges[k + 1] - first):
                value += numbers[step + part] * out[place(asked.parts[first + part])]
        elif not np.isnan(value):
            passed = 0
            for cut in range(step, asked.steps[k + 1]):
                passed += value > numbers[cut]
            value = 1.0 + (passed if stat == RANK else asked.steps[k + 1] - step - passed)
        out[place(asked.heads[k, 1])] = value


def _source(_feature: Feature, _schema: object) -> None:
    return None


FAMILY = Family("formulas", (Formula, Trend, RfmScore), STATS, _source)
"""It has no table: a formula reads the row, not the events."""
