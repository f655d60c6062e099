"""Drift: do the users who are served still look like those the models were trained on?"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments import pages
from experiments.inference import holm
from experiments.plain import Plain
from experiments.shift import Shift, shifts, together
from features.errors import AnalysisError
from features.instants import iso

if TYPE_CHECKING:
    import pandas as pd

FALSE_ALARMS = 0.01
"""The chance that anything at all is called significant in a window where nothing moved."""
FEWEST_USERS = 100
Tier = Literal["data quality", "labels", "predictions", "segments", "inputs", "young log"]
TIERS: tuple[Tier, ...] = ("data quality", "labels", "predictions", "segments", "inputs", "young log")
RANKED = "ROC-AUC"
"""What is judged of predictions only where outcomes of both kinds are known."""
JOINT = ("pair", "classifier")
"""Parts of several columns: told after the columns that moved by themselves."""
GONE = 0.99
"""A column that has so few values left has fallen silent."""
Verdict = Literal["drift", "no drift", "not enough data", "pipeline fault"]
HEADER = ("tier", "column", "what", "before", "after", "effect", "floor", "p (Holm)", "since", "used by")


@dataclass(frozen=True)
class Finding(Plain):
    """One test of one column.

    Attributes:
        tier: Where it stands in the order of blame.
        shift: What was measured.
        adjusted: p after Holm's correction over all tests of the report.
        used_by: Studies whose model takes the column, or whose score it is.
        persists: Whether it moved in two of the three newest windows; None where one comparison was made.
        since: Where the windows begin in which it has moved, microseconds UTC; None where there are no windows.
        week: How the same window a week before compares, in words.
    """

    MORE, INSTANTS = ("moved", "alarms"), ("since",)

    tier: Tier
    shift: Shift
    adjusted: float
    used_by: tuple[str, ...]
    persists: bool | None = None
    since: int | None = None
    week: str = ""

    @property
    def moved(self) -> bool:
        """Significant and material."""
        return self.adjusted < FALSE_ALARMS and self.shift.material

    @property
    def alarms(self) -> bool:
        """Moved, and not in a single window only; what is wrong with the data does not wait for a second window."""
        waits = self.persists is False and self.tier != "data quality"
        return self.moved and self.tier != "young log" and not waits

    @property
    def key(self) -> tuple[str, str]:
        """What is the same test in another window; the pair that changed most may be another one there."""
        return ("", self.shift.part) if self.shift.part in JOINT else (self.shift.column, self.shift.part)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        told = super().to_dict()
        return {**told.pop("shift"), **told}

    def row(self) -> list[str]:
        """Cells under `HEADER`."""
        shift = self.shift
        share = shift.part in ("missing", "spike", "categories", "new values", "share")
        before, after = (f"{100 * v:.1f} %" if share else f"{v:.4g}" for v in (shift.before, shift.after))
        figures = [before, after, f"{shift.effect:.3f}", f"{shift.floor:.2f}", pages.probability(self.adjusted)]
        since = f"{iso(self.since)[:16]}{f' ({self.week})' if self.week else ''}" if self.since is not None else "-"
        return [self.tier, shift.column, shift.subject, *figures, since, ", ".join(self.used_by) or "-"]


@dataclass(frozen=True)
class Sample:
    """The rows of one side: how many, and one a user where users are named."""

    rows: int
    users: int


@dataclass(frozen=True)
class Served:
    """Predictions of one study: how many users of the current side have one, and its mean on both sides."""

    study: str
    users: int
    before: float
    after: float

    def __str__(self) -> str:
        return f"{self.study}: {self.users:,} users, mean score {self.before:.4g} in training, {self.after:.4g} served"


@dataclass(frozen=True)
class DriftReport(Plain):
    """What moved, how much, since when, whose predictions it touches, what to do; prints itself as text, JSON and HTML.

    Attributes:
        reference: The training side.
        current: The served side.
        findings: Every test, the most serious first.
        absent: Columns of the reference that the current side lacks, or has as something else: a fault of the pipeline.
        served: Predictions of the current side.
        windows: Windows that were judged; 1 is one comparison.
        fault: What the replay check found; empty where every answer was computed as it had been served.
        notes: What else is to be known, such as what performance is expected to be without labels.
        unchecked: Why the replay check could not be made; nothing is blamed on people before it was.
        texts: Of the absent columns those that became texts: in how many rows, and such as what.
    """

    MORE = ("verdict", "moved", "once", "filling", "touched", "actions")

    reference: Sample
    current: Sample
    findings: tuple[Finding, ...]
    absent: tuple[str, ...] = ()
    served: tuple[Served, ...] = ()
    windows: int = 1
    fault: str = ""
    notes: tuple[str, ...] = ()
    unchecked: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """One word for whoever is called at night."""
        if self.fault:
            return "pipeline fault"
        if self.absent or self.moved:
            return "drift"
        enough = min(self.reference.users, self.current.users) >= FEWEST_USERS
        return "no drift" if enough and not (self.once and self.windows < 2) else "not enough data"

    @property
    def alarms(self) -> bool:
        """Whether somebody is to be called."""
        return self.verdict in ("drift", "pipeline fault")

    @property
    def moved(self) -> tuple[Finding, ...]:
        """The findings that are significant and material, persist, and raise the alarm."""
        return tuple(finding for finding in self.findings if finding.alarms)

    @property
    def once(self) -> tuple[Finding, ...]:
        """The findings that moved in the newest window and do not persist: no alarm."""
        return tuple(f for f in self.findings if f.moved and not f.alarms and f.tier != "young log")

    @property
    def touched(self) -> tuple[Served, ...]:
        """Predictions of studies whose model takes, or whose score is, something that moved."""
        if not self.moved:
            return ()
        studies = {study for finding in self.moved for study in finding.used_by}
        scores = {finding.shift.column.removeprefix("score_") for finding in self.moved}
        joint = any(finding.shift.part in JOINT for finding in self.moved)
        return tuple(each for each in self.served if joint or each.study in studies | scores or not studies)

    @property
    def filling(self) -> tuple[Finding, ...]:
        """The findings that moved because the log was younger at training than the column's memory: no alarm."""
        return tuple(finding for finding in self.findings if finding.moved and finding.tier == "young log")

    @property
    def actions(self) -> tuple[str, ...]:
        """What to do, in the order to do it."""
        if self.verdict == "not enough data":
            columns = ", ".join(dict.fromkeys(finding.shift.column for finding in self.once))
            only = f"look again after the next window: {columns} moved in the only one there is"
            return (*self._before_blame, only if self.once else f"wait: both sides need {FEWEST_USERS} users")
        tiers = {finding.tier for finding in self.moved}
        studies = sorted({study for finding in self.moved for study in finding.used_by})
        if self.fault:
            return (f"mend the pipeline first, then look again (`ethogram replay`): {self.fault}",)
        steps = [*self._before_blame]
        if gone := [name for name in self.absent if name not in self.texts]:
            steps.append(f"serve the columns that are gone: {', '.join(gone)}")
        steps += [f"serve {name} as a number: it became texts in {said}" for name, said in self.texts.items()]
        if "data quality" in tiers:
            steps.append("look at collection and cleaning first (`ethogram quality`): a pipeline fault is not drift")
        if any(finding.shift.part == "performance" for finding in self.moved):
            steps.append("predictions are not what they were: recalibrate, then train again and compare")
        if "segments" in tiers:
            steps.append("look at the segments that changed before campaigns built on them go out")
        if "predictions" in tiers:
            of = f": {', '.join(studies)}" if studies else ""
            steps.append(f"compare scores with outcomes as soon as they mature{of}")
        if tiers - {"segments"}:
            steps.append("train again on newer data and compare: `ethogram loop run --once`")
        if tiers == {"inputs"} and self._as_good:
            steps.append("there is no hurry: the inputs moved, the predictions and what came of them did not")
        if self.filling:
            young = len({finding.shift.column for finding in self.filling})
            steps.append(f"expect {young} more columns to move while the log is younger than they remember")
        if self.once:
            columns = ", ".join(dict.fromkeys(finding.shift.column for finding in self.once))
            steps.append(
                f"nothing yet about {columns}: moved now, but not in two of three windows beyond a weekly rhythm"
            )
        return tuple(steps) or ("nothing",)

    @property
    def _before_blame(self) -> tuple[str, ...]:
        made = f"let the replay check be made before drift is blamed (`ethogram replay`): {self.unchecked}"
        return (made,) if self.unchecked else ()

    @property
    def _as_good(self) -> bool:
        """Whether there are scores, and outcomes of all of them could be judged."""
        of = {f.shift.column for f in self.findings if f.tier == "predictions" and f.shift.part in ("values", "spike")}
        return bool(of) and of <= {f.shift.column for f in self.findings if f.shift.subject == RANKED}

    def __str__(self) -> str:
        lines = [self.headline, ""]
        if self.moved:
            lines += [pages.Table(HEADER, [finding.row() for finding in self.moved], texts=3).text(), ""]
        for title, told in (("touches:", self.touched), ("known:", self.notes)):
            lines += [title, *(f"  - {line}" for line in told)] if told else []
        return "\n".join([*lines, "what to do:", *(f"  - {action}" for action in self.actions)])

    @property
    def headline(self) -> str:
        """The verdict and what it stands on."""
        sides = f"{self.current.users:,} served users against {self.reference.users:,} in training"
        return f"{self.verdict}: {len(self.moved)} of {len(self.findings)} tests moved; {sides}"

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        told = {name: each for name, each in super().to_dict().items() if name != "served"}
        return {**told, "drift": self.verdict == "drift", "false_alarms": FALSE_ALARMS}

    def to_html(self, *, pictures: str = "", links: Mapping[str, str] | None = None) -> str:
        """One self-contained page; `links` name files that stand beside it."""
        others = [finding.row() for finding in self.findings if finding not in self.moved]
        moved = pages.Table(HEADER, [finding.row() for finding in self.moved], texts=3).html()
        good = {"no drift": True, "not enough data": None}.get(self.verdict, False)
        return pages.page(
            "Drift",
            f"Called moved: significant (at most {FALSE_ALARMS:.0%} false alarms a report) and larger than the floor",
            pages.verdict(self.headline, self.actions, good=good),
            pages.section("What moved", moved, pictures),
            pages.section("Whose predictions it touches", pages.listing(map(str, self.touched))),
            pages.section("Known beside it", pages.listing(self.notes)),
            pages.section("Everything else that was tested", pages.Table(HEADER, others, texts=3).html()),
            "".join(pages.link(text, address) for text, address in (links or {}).items()),
        )


def compare(
    reference: "pl.DataFrame | pd.DataFrame",
    current: "pl.DataFrame | pd.DataFrame",
    *,
    scores: Sequence[str] = (),
    categories: Mapping[str, Sequence[str]] | Sequence[str] = (),
    user: str | None = None,
    used_by: Mapping[str, Sequence[str]] | None = None,
    filling: Collection[str] = (),
) -> DriftReport:
    """Every column of `reference` against the same column of `current`.

    Args:
        reference: What the models were trained on, numbers; NaN or null is missing.
        current: What was served; columns that the reference lacks are not looked at.
        scores: Columns that are predictions.
        categories: Columns whose numbers are codes without an order; a mapping says what the codes 0, 1, ... mean.
        user: Column of user ids in one or both frames: the last row of each user is taken, since rows of one user are
            no independent news.
        used_by: Per column the studies that use it.
        filling: Columns that remember longer than the log was old when the reference was taken: they move by themselves
            and raise no alarm.

    Raises:
        AnalysisError: a column is not a number, or one named here does not exist.
    """
    sides = [frame if isinstance(frame, pl.DataFrame) else pl.from_pandas(frame) for frame in (reference, current)]
    if user is not None and not any(user in side.columns for side in sides):
        raise AnalysisError(f"neither side has a column {user!r} of users.")
    before, after = (one_row_a_user(side, user) for side in sides)
    samples = Sample(sides[0].height, before.height), Sample(sides[1].height, after.height)
    _exist(before, [*scores, *categories])
    columns = [name for name in before.columns if name != user]
    absent = tuple(
        name for name in columns if name not in after.columns or (_number(before[name]) and not _number(after[name]))
    )
    texts = {name: _words(after[name]) for name in absent if name in after.columns}
    if min(before.height, after.height) < FEWEST_USERS:
        return DriftReport(*samples, (), absent, texts=texts)
    found = [
        shift
        for name in columns
        if name not in absent
        for shift in shifts(
            name,
            *(_numbers(side, name) for side in (before, after)),
            kind="category" if name in categories else "number",
            words=categories[name] if isinstance(categories, Mapping) and name in categories else (),
        )
    ]
    inputs = [name for name in columns if name not in {*absent, *scores, *categories, *filling}]
    found += together(inputs, *(_matrix(side, inputs) for side in (before, after)))
    studies = {name: tuple(each) for name, each in (used_by or {}).items()}
    every = tuple(sorted({study for name in inputs for study in studies.get(name, ())}))
    findings = [
        Finding(
            _tier(shift, scores, filling), shift, p, every if shift.part in JOINT else studies.get(shift.column, ())
        )
        for shift, p in zip(found, holm([shift.p for shift in found]), strict=True)
    ]
    told = [_served(name, before, after) for name in scores if name not in absent and name not in categories]
    return DriftReport(*samples, _ordered(findings), absent, tuple(told), texts=texts)


def _words(column: pl.Series) -> str:
    """In how many rows there is no number, and such as what."""
    texts = column.cast(pl.String).drop_nulls()
    words = texts.filter(texts.str.strip_chars().cast(pl.Float64, strict=False).is_null() & (texts != ""))
    found = words if len(words) else texts
    return f"{len(found):,} rows, such as {', '.join(map(repr, found.unique(maintain_order=True)[:3]))}"


def _served(score: str, before: pl.DataFrame, after: pl.DataFrame) -> Served:
    old, new = (values[np.isfinite(values)] for values in (_numbers(side, score) for side in (before, after)))
    means = (float(side.mean()) if len(side) else float("nan") for side in (old, new))
    return Served(score.removeprefix("score_"), len(new), *means)


def _matrix(side: pl.DataFrame, names: Sequence[str]) -> NDArray[np.float64]:
    return np.column_stack([_numbers(side, name) for name in names]) if names else np.empty((side.height, 0))


def joined(reports: Sequence[DriftReport]) -> DriftReport:
    """Reports of different columns as one: Holm's correction is made anew over all of their tests."""
    findings = [finding for report in reports for finding in report.findings]
    smallest = min(reports, key=lambda report: min(report.reference.users, report.current.users))
    adjusted = holm([finding.shift.p for finding in findings])
    corrected = [replace(finding, adjusted=p) for finding, p in zip(findings, adjusted, strict=True)]
    return DriftReport(
        smallest.reference,
        smallest.current,
        _ordered(_blamed(corrected)),
        tuple(each for report in reports for each in report.absent),
        tuple(each for report in reports for each in report.served),
        max(report.windows for report in reports),
        "; ".join(filter(None, (report.fault for report in reports))),
        tuple(each for report in reports for each in report.notes),
        "; ".join(filter(None, (report.unchecked for report in reports))),
        {name: said for report in reports for name, said in report.texts.items()},
    )


def _blamed(findings: Sequence[Finding]) -> list[Finding]:
    """A score whose model takes a column that grew with the log, and none that moved otherwise, grew with the log."""

    def studies(*tiers: Tier) -> set[str]:
        return {study for each in findings if each.moved and each.tier in tiers for study in each.used_by}

    grown = studies("young log") - studies("inputs", "data quality")
    return [
        replace(each, tier="young log") if each.tier == "predictions" and grown & {*each.used_by} else each
        for each in findings
    ]


def one_row_a_user(frame: pl.DataFrame, user: str | None) -> pl.DataFrame:
    """The last row of each user; all rows where no column names them."""
    if user is None or user not in frame.columns:
        return frame
    return frame.unique(user, keep="last", maintain_order=True)


def _exist(frame: pl.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        if name not in frame.columns:
            raise AnalysisError(f"no column {name!r} to compare; there are {', '.join(frame.columns)}.")


def _numbers(frame: pl.DataFrame, name: str) -> NDArray[np.float64]:
    column = frame[name]
    if not _number(column):
        raise AnalysisError(f"the column {name!r} is not a number but {column.dtype}.")
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _number(column: pl.Series) -> bool:
    return bool(column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null))


def _ordered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """What moved first, in the order of blame."""

    def place(one: Finding) -> tuple[bool, int, bool, float]:
        return not one.alarms, TIERS.index(one.tier), one.shift.part in JOINT, -one.shift.effect

    return tuple(sorted(findings, key=place))


def _tier(shift: Shift, scores: Collection[str], filling: Collection[str]) -> Tier:
    """A missing value is news of the pipeline where none was missing before, or none is left; else of people."""
    if shift.part == "new values" or (shift.part == "missing" and (shift.before == 0 or shift.after >= GONE)):
        return "data quality"
    if shift.column in scores:
        return "predictions"
    return "young log" if shift.column in filling else "inputs"
