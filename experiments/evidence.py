"""Evidence: pictures of what moved, and Evidently's report with our verdicts, so that picture and alarm agree."""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from experiments import pages
from experiments.drift import FALSE_ALARMS, DriftReport

if TYPE_CHECKING:
    import pandas as pd
    from evidently.core.report import Snapshot
    from matplotlib.axes import Axes

METHOD = "ethogram"
MOST_PORTRAITS = 6
MOST_COLUMNS = 20
"""Of those that Evidently draws: it takes a third of a second a column, and a page of hundreds is not read."""
_COLORS = ("#57606a", "#b45309")


def save(
    report: DriftReport,
    reference: pl.DataFrame,
    current: pl.DataFrame,
    folder: Path,
    *,
    categories: Sequence[str] = (),
    shelf: tuple[Path, str] | None = None,
) -> tuple[Path, Path]:
    """Write `evidently.html` and `evidently.json` about the columns that moved, then those that came nearest to it.

    Our verdicts come first; what its own defaults say of the same columns, and the data's quality, stand beside them.

    Args:
        report: Our verdicts.
        reference: Rows of the reference.
        current: Rows that were served.
        folder: Where to.
        categories: Columns of codes.
        shelf: Evidently's workspace, and the project in it, that get the report as well.

    Returns:
        The two paths.
    """
    os.environ["DO_NOT_TRACK"] = "1"  # read when Evidently is imported
    warnings.filterwarnings("ignore", module="evidently")  # it tells its users what pandas tells it
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset, DatasetStats

    columns = _drawable(report, reference, current)
    verdicts = {name: _verdict(report, name) for name in columns}
    _register(verdicts)
    coded = [name for name in columns if name in categories]
    definition = DataDefinition(
        numerical_columns=[name for name in columns if name not in coded], categorical_columns=coded
    )
    sides = [
        Dataset.from_pandas(frame.select(columns).to_pandas(), data_definition=definition)
        for frame in (current, reference)
    ]
    ours = DataDriftPreset(columns=columns, method=METHOD, threshold=FALSE_ALARMS, drift_share=1 / len(columns))
    beside = DataDriftPreset(columns=columns), DatasetStats(include_tests=False)
    snapshot = Report([ours, *beside], include_tests=True).run(*sides)
    folder.mkdir(parents=True, exist_ok=True)
    page, document = folder / "evidently.html", folder / "evidently.json"
    snapshot.save_html(str(page))
    snapshot.save_json(str(document))
    if shelf:
        _shelve(snapshot, *shelf)
    return page, document


def _shelve(snapshot: "Snapshot", folder: Path, project: str) -> None:
    from evidently.ui.workspace import Workspace

    workspace = Workspace.create(str(folder))
    found = workspace.search_project(project)
    workspace.add_run((found[0] if found else workspace.create_project(project)).id, snapshot)


def portraits(report: DriftReport, reference: pl.DataFrame, current: pl.DataFrame) -> str:
    """Histograms, before and after, of the columns that moved most; nothing when none did."""
    columns = dict.fromkeys(finding.shift.column for finding in report.moved)
    moved = [name for name in columns if name in reference.columns and name in current.columns][:MOST_PORTRAITS]
    return "".join(_portrait(name, reference[name], current[name]) for name in moved)


def _portrait(name: str, before: pl.Series, after: pl.Series) -> str:
    samples = [column.cast(pl.Float64).fill_null(float("nan")).to_numpy() for column in (before, after)]
    present = [sample[np.isfinite(sample)] for sample in samples]
    low, high = np.quantile(np.concatenate(present), [0.0, 0.99])
    bins = np.linspace(low, high if high > low else low + 1, 31)

    def draw(axes: Sequence["Axes"]) -> None:
        for sample, all_of_it, label, color in zip(present, samples, ("training", "served"), _COLORS, strict=True):
            shares = np.histogram(np.clip(sample, low, high), bins)[0] / len(all_of_it)
            axes[0].stairs(shares, bins, fill=True, color=color, alpha=0.55, label=label)
        axes[0].set_title(f"{name} (share of users, up to the 99th percentile)", fontsize=10)
        axes[0].legend(frameon=False)
        axes[0].spines[["top", "right"]].set_visible(False)

    return pages.picture(draw, height=2.4, title=f"{name} in training and as served", fitted=False)


def _drawable(report: DriftReport, reference: pl.DataFrame, current: pl.DataFrame) -> list[str]:
    """At most MOST_COLUMNS of those tested that have a value on both sides: Evidently refuses empty ones."""
    nearest = sorted(report.findings, key=lambda each: (not each.moved, -each.shift.effect / each.shift.floor))
    tested = dict.fromkeys(finding.shift.column for finding in nearest)
    full = [name for name in tested if all(_has_values(frame, name) for frame in (reference, current))]
    return full[:MOST_COLUMNS]


def _has_values(frame: pl.DataFrame, name: str) -> bool:
    return name in frame.columns and bool(frame[name].cast(pl.Float64).is_finite().any())


def _verdict(report: DriftReport, column: str) -> tuple[float, bool]:
    """A column's smallest adjusted p and whether any part of it moved; immaterial parts do not lower the p."""
    findings = [finding for finding in report.findings if finding.shift.column == column]
    telling = [finding for finding in findings if finding.shift.material]
    return min((finding.adjusted for finding in telling), default=1.0), any(finding.moved for finding in findings)


def _register(verdicts: Mapping[str, tuple[float, bool]]) -> None:
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    def judged(
        reference: "pd.Series[Any]", current: "pd.Series[Any]", kind: object, level: float
    ) -> tuple[float, bool]:
        return verdicts[str(reference.name)]

    test = StatTest(
        name=METHOD,
        display_name="p after Holm, 1 where immaterial",
        allowed_feature_types=[ColumnType.Numerical, ColumnType.Categorical],
        default_threshold=FALSE_ALARMS,
    )
    register_stattest(test, judged)
