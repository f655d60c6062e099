"""KPIs: what the members of segments do in the periods after, cohort by cohort, as a tidy table for other tools."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments import pages
from experiments.audience import Audience
from experiments.backtest import Asked
from experiments.export import Export
from features.behaviour.histories import Histories
from features.errors import AnalysisError
from features.instants import DAY, format_duration, iso
from features.project import Project
from features.segments.program import TRUE
from training.outcome import Source

Floats = NDArray[np.float64]

MONDAY = 4 * DAY
"""The first one after 1970 began, UTC: periods are counted from it, so that a later run has the same cohorts."""
EVERYBODY = "(everybody)"
COUNTED = ("active", "converted", "orders", "value")
RATIOS = {
    "retention": ("active", "users"),
    "conversion": ("converted", "users"),
    "order_value": ("value", "orders"),
    "life_time_value": ("value_so_far", "users"),
}


@dataclass(frozen=True)
class Kpis:
    """Cohorts of all segments, and of everybody.

    Attributes:
        asked: The goal, the value, and how long a period is.
        starts: Instants as of which the cohorts were members, microseconds UTC.
        segments: Names, EVERYBODY first.
        rows: A row per segment, cohort (`as_of`) and complete period after it (`age` 0, 1, ...): its begin (`period`),
            the cohort's `users`, how many were `active` and `converted` in it, their `orders` (how often the goal
            happened), `value`, and `value_so_far` since the cohort began; of the users `retention`, `conversion` and
            `life_time_value`; of the orders `order_value`.
    """

    asked: Asked
    starts: tuple[int, ...]
    segments: tuple[str, ...]
    rows: pl.DataFrame

    @classmethod
    def of(
        cls,
        project: Project,
        asked: Asked,
        *,
        last: int = 12,
        names: Sequence[str] = (),
        told: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """The cohorts of a project's segments at the newest complete periods, as known at each.

        Args:
            project: Whose segments and log.
            asked: What counts, and the length of a period.
            last: How many periods.
            names: Of segments; all active ones where none are named.
            told: Hears of every step.

        Raises:
            AnalysisError: no period is complete yet.
            DefinitionError: there is no such segment, event or property.
        """
        audience = Audience.of(project)
        end = MONDAY + (audience.at - MONDAY) // asked.within * asked.within
        begins = (end - k * asked.within for k in range(last, 0, -1))
        starts = [start for start in begins if start > audience.log.span()[0]]
        if not starts:
            raise AnalysisError(f"the log holds no complete period of {format_duration(asked.within)}.")
        audience, segments, sources = asked.of(audience, names)
        n, k = len(starts), 1 + len(segments)
        users, sums = np.zeros((n, k)), np.zeros((n, k, len(COUNTED), n))
        for histories in audience.everybody(told=told):
            did = _did(sources, histories, [start + asked.within for start in starts])
            for place, start in enumerate(starts):
                seen = audience.seen(histories, start)
                mine, inside = histories.take(np.flatnonzero(seen)), np.zeros((k, len(histories)))
                inside[0], inside[1:, seen] = seen, (audience.truths(mine, start, segments).values == TRUE).T
                users[place] += inside.sum(axis=1)
                sums[place, :, :, : n - place] += np.einsum("su,fpu->sfp", inside, did[:, place:])
        least = [1, *(max(1, each.min_size) for each in segments.segments)]
        named = (EVERYBODY, *segments.names)
        found = [
            (name, start, start + age * asked.within, age, users[place, row], *sums[place, row, :, age].tolist())
            for row, name in enumerate(named)
            for place, start in enumerate(starts)
            for age in range(n - place if users[place, row] >= least[row] else 0)
        ]
        columns = ("segment", "as_of", "period", "age", "users", *COUNTED)
        frame = pl.DataFrame(found, schema=columns, orient="row").with_columns(
            pl.col("as_of", "period").cast(pl.Datetime("us")),
            pl.col("value").cum_sum().over("segment", "as_of").alias("value_so_far"),
        )
        if not asked.value:
            frame = frame.with_columns(pl.lit(None, pl.Float64).alias(name) for name in ("value", "value_so_far"))
        return cls(asked, tuple(starts), named, _with_ratios(frame))

    def write(self, to: str, *, table: str = "kpis") -> int:
        """Write the rows in place of those of the same segments and cohorts, as `Export.write`; how many there are."""
        return Export(self.rows, self.segments, self.starts).write(to, table=table)

    def pooled(self) -> pl.DataFrame:
        """Per segment and age the same figures over all cohorts that are so old."""
        sums = self.rows.group_by("segment", "age", maintain_order=True)
        return _with_ratios(sums.agg(pl.col("users", *COUNTED, "value_so_far").sum()))

    @property
    def headline(self) -> str:
        """What is counted, and since when."""
        every = format_duration(self.asked.within)
        return f"{self.asked.goal} in periods of {every}, a column per period after {iso(self.starts[0])} and later"

    def curves(self) -> Iterator[tuple[str, int, dict[str, list[str]]]]:
        """Per segment its name, its members in all cohorts, and every figure by age, written."""
        for (name,), rows in self.pooled().group_by("segment", maintain_order=True):
            told = {}
            for figure in RATIOS if self.asked.value else ("retention", "conversion"):
                form = "{:.1%}" if figure in ("retention", "conversion") else "{:,.2f}"
                told[figure.replace("_", " ")] = ["-" if each is None else form.format(each) for each in rows[figure]]
            yield str(name), int(rows["users"][0]), told

    def __str__(self) -> str:
        lines = [self.headline]
        for name, members, figures in self.curves():
            lines.append(f"{name}: {members:,} members in all cohorts")
            lines += [f"  {figure:16} {'  '.join(curve)}" for figure, curve in figures.items()]
        return "\n".join(lines)

    def to_html(self) -> str:
        """One self-contained page: a table a segment."""
        ages = [str(age) for age in range(len(self.starts))]
        tables = (
            pages.section(
                f"{name}: {members:,} members in all cohorts",
                pages.Table(("figure", *ages), [[figure, *curve] for figure, curve in figures.items()]).html(),
            )
            for name, members, figures in self.curves()
        )
        return pages.page("Figures of the business", self.headline, *tables)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        instants = [pl.col(name).dt.strftime("%Y-%m-%dT%H:%M:%SZ") for name in ("as_of", "period")]
        asked = {"goal": self.asked.goal, "value": self.asked.value, "every": format_duration(self.asked.within)}
        return {**asked, "rows": self.rows.with_columns(instants).to_dicts()}


def _did(sources: Mapping[str, Source], histories: Histories, ends: Sequence[int]) -> Floats:
    """Shape (4, n_periods, n_users): what COUNTED names, of the period before each end."""
    at = [np.full(len(histories), end) for end in ends]
    found = {name: np.array([source.numbers(histories, each) for each in at]) for name, source in sources.items()}
    back, orders = found["retention"], found["conversion"]
    return np.nan_to_num(
        np.array([back > 0, orders > 0, orders, found.get("value", np.zeros_like(orders))], np.float64)
    )


def _with_ratios(frame: pl.DataFrame) -> pl.DataFrame:
    ratios = {name: pl.col(above) / pl.col(below) for name, (above, below) in RATIOS.items()}
    return frame.with_columns(pl.when(ratio.is_finite()).then(ratio).alias(name) for name, ratio in ratios.items())
