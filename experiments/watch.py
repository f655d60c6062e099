"""Watch: a project's served answers against the training rows of the bundle that gave them."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from math import log2
from pathlib import Path
from typing import Any

import polars as pl
from scipy.stats import binomtest

from experiments import alarms, evidence, flows, matured, pages
from experiments.drift import FEWEST_USERS, DriftReport, Finding, Sample, compare, joined
from experiments.outcomes import expected_of
from experiments.persistence import WEEK, Window, a_week_before, persistent, windows
from experiments.plain import Plain
from experiments.replay import replay
from experiments.shift import Shift
from features.behaviour.feature import LIFETIME, Feature
from features.behaviour.feature_set import FeatureSet
from features.errors import AnalysisError, EthogramError
from features.instants import DAY, NEVER, iso, parse_instant, to_datetime
from features.project import Project
from serving import predictions
from training.bundle import Bundle, current
from training.reference import REFERENCE

REPLAYED = 1_000
"""Answers that the replay check computes again before drift is blamed."""
SHELF = "evidently"
"""Evidently's workspace in the project's reports: `evidently ui --workspace reports/evidently` shows all of them."""
Draws = Callable[[DriftReport], bool]
_JUDGED: dict[tuple[str, bytes], DriftReport] = {}
KEPT = 64
"""Windows whose report is kept in memory: a loop that runs on looks back at the same ones at every turn."""
LOOKBACK = 120 * DAY
DOUBLED = 1.0
"""A volume that less than doubled, or halved, does not matter."""


@dataclass(frozen=True)
class Watch(Plain):
    """One look at a project.

    Attributes:
        bundle: Digest of the release that was looked at.
        first: Instant of the first answer looked at.
        last: Instant of the last one.
        report: What moved.
        files: Pages and documents by name.
        told: Who was told, and who could not be.
    """

    INSTANTS = ("first", "last")

    bundle: str
    first: int
    last: int
    report: DriftReport
    files: Mapping[str, Path]
    told: tuple[str, ...] = ()

    def __str__(self) -> str:
        window = f"answers of {self.bundle[:12]} from {iso(self.first)} to {iso(self.last)}"
        files = (f"{name}: {path}" for name, path in self.files.items())
        return "\n".join([str(self.report), "", window, *files, *self.told])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        told = super().to_dict()
        return {**told.pop("report"), **told}


def _always(_: DriftReport) -> bool:
    return True


def watch(project: Project, *, window: int = DAY, html: Path | None = None, drawn: Draws = _always) -> Watch:
    """Judge what the published bundle answered, keep the report under the project's `reports`, and tell who listens.

    The replay check comes first. Then features and scores against the training rows, outcomes that are known by now,
    and segments; each in windows back from the newest answer, of which two in three have to agree.

    Args:
        project: Its bundles, predictions, event log and reports are used.
        window: Length of a window, microseconds.
        html: One more copy of our own page.
        drawn: Whether to draw pictures, and Evidently's report, too: they take longest.

    Raises:
        AnalysisError: nothing is published, nothing was served, or the bundle holds no training rows.
    """
    folder = current(project.path("bundles"))
    if folder is None:
        raise AnalysisError("no bundle is published, so there is nothing to compare. Hint: `ethogram promote`.")
    bundle = Bundle.load(folder)
    every = served(project.path("predictions"))
    answers = every.filter(pl.col("bundle") == bundle.digest)
    if answers.is_empty():
        raise AnalysisError(
            f"no live answer of the bundle {bundle.digest[:12]} in {project.path('predictions')}. "
            "Hint: `ethogram serve` writes one row an answer."
        )
    references = training_rows(bundle)
    replayed = _replayed(project)
    features = persistent(
        answers,
        window,
        lambda each: _remembered(bundle, references, each.rows),
        lambda then, now: _weekly(references, then, now),
    )
    labels = matured.judged(project, bundle, answers, length=window)
    newest, *_ = seen = windows(answers, window)
    report = joined([features, *labels, flows.moved(every, length=window), _volume(seen), replayed])
    report = replace(
        report,
        reference=features.reference,
        current=features.current,
        windows=features.windows,
        notes=(
            *report.notes,
            *_expected(references, newest.rows, {f.shift.column for f in report.findings if f.tier == "labels"}),
        ),
    )
    place = project.path("reports") / f"drift-{to_datetime(newest.last):%Y%m%dT%H%M%SZ}"
    back = max(WEEK, window)
    week = every.filter(pl.col("at").is_between(newest.first - back, newest.last - back))
    files = _save(project, report, references, newest.rows, place, week if drawn(report) else None)
    if html:
        files["copy"] = pages.write(html, files["page"].read_text(encoding="utf-8"))
    told = alarms.sound(project, bundle.digest, report, at=newest.last)
    return Watch(bundle.digest, newest.first, newest.last, report, files, told)


def _replayed(project: Project) -> DriftReport:
    """The replay check as a report of its own: before drift is blamed it must show that no value differs."""
    nobody = Sample(0, 0)
    try:
        check = replay(project, sample=REPLAYED)
    except (EthogramError, OSError) as problem:
        return DriftReport(nobody, nobody, (), unchecked=str(problem))
    differing = f"{check.mismatches:,} of {check.values:,} values that were served come out otherwise"
    fault = differing if check.mismatches else ""
    said = str(check).splitlines()[0]
    unchecked = "" if check.values else f"no value could be compared, {said}"
    return DriftReport(nobody, nobody, (), fault=fault, unchecked=unchecked, notes=(f"replay check: {said}",))


def _volume(seen: Sequence[Window]) -> DriftReport:
    """Users in the newest window against those of the same window a week before."""
    sample, before = Sample(seen[0].rows.height, seen[0].users), a_week_before(seen)
    users = (seen[before].users if before is not None else 0), sample.users
    if before is None or max(users) < FEWEST_USERS:
        return DriftReport(sample, sample, ())
    p = float(binomtest(users[0], sum(users)).pvalue)
    shift = Shift("users", "volume", *users, p, abs(log2(users[1] / users[0])), DOUBLED, "users in the window")
    return DriftReport(sample, sample, (Finding("data quality", shift, p, (), since=seen[0].first),))


def _expected(references: Sequence["Reference"], rows: pl.DataFrame, labelled: Collection[str]) -> list[str]:
    """What performance without labels is expected to be, and the limits of that; `labelled`: outcomes are judged."""
    last, told = rows.unique("user", keep="last", maintain_order=True), []
    for reference in references:
        for name in reference.scores if reference.kind == "propensity" else ():
            old, new = (side[name].drop_nulls().drop_nans().to_numpy() for side in (reference.rows, last))
            told += [expected_of(name, old, new, labelled=name in labelled)] if len(old) and len(new) else []
    return told


def _weekly(references: Sequence["Reference"], then: Window, now: Window) -> DriftReport:
    """The newest window against the same window a week before, by the same tests; and how many users there were."""
    names = [name for reference in references for name in reference.rows.columns if name in then.rows.columns]
    filling = {name for reference in references for name in reference.filling}
    before = then.rows.unique("user", keep="last", maintain_order=True).select(names)
    return compare(
        before,
        now.rows,
        scores=[name for reference in references for name in reference.scores],
        categories=[name for reference in references for name in reference.categories],
        user="user",
        filling=filling,
    )


def served(folder: Path) -> pl.DataFrame:
    """The newest live answers: columns user, at, bundle, segments, `score_<study>`, features under their own names.

    In order; those of `LOOKBACK` before the newest, so that a log of years is not read as a whole.

    Raises:
        AnalysisError: there are none, or the log is damaged.
    """
    parts, newest = [], 0
    for file in sorted(folder.glob("*/*.parquet"), reverse=True):
        try:
            part = predictions.read(file)
        except (OSError, pl.exceptions.PolarsError) as problem:
            raise AnalysisError(f"{file} cannot be read: {str(problem).splitlines()[0]}") from None
        parts.append(part.filter(pl.col("source") == "live"))
        last = int(part["at"].to_numpy().max(initial=0))
        newest = max(newest, last)
        if last < newest - LOOKBACK:
            break
    rows = pl.concat([part for part in parts if part.height] or [pl.DataFrame()], how="diagonal")
    if rows.is_empty():
        raise AnalysisError(f"no live answer in {folder}. Hint: `ethogram serve` writes one row an answer.")
    features = {name: name.removeprefix("f_") for name in rows.columns if name.startswith("f_")}
    scores = [name for name in rows.columns if name.startswith("score_")]
    return rows.sort("at").select("user", "at", "bundle", "segments", *scores, *features).rename(features)


@dataclass(frozen=True)
class Reference:
    """Training rows that one study's model keeps.

    Attributes:
        study: The study.
        kind: `propensity` or `clusters`.
        rows: Columns `score_<study>`, where kept, and features.
        used_by: Per column every study of the bundle that takes it.
        filling: Columns that remember longer than the log was old at the newest cut.
    """

    study: str
    kind: str
    rows: pl.DataFrame
    used_by: Mapping[str, tuple[str, ...]]
    filling: frozenset[str]

    @property
    def scores(self) -> list[str]:
        """The column of the study's own score, where it is kept."""
        return [name for name in self.rows.columns if name == f"score_{self.study}"]

    @property
    def categories(self) -> list[str]:
        """The score of clusters or classes is a code."""
        return [] if self.kind == "propensity" else self.scores


def training_rows(bundle: Bundle) -> list[Reference]:
    """The training rows in a bundle, propensities first; a column stands under the first study that takes it.

    Raises:
        AnalysisError: no model keeps any.
    """
    models = sorted(bundle.models.values(), key=lambda model: (model.kind != "propensity", model.study))
    takes = {model.study: (*model.preparation.names, f"score_{model.study}") for model in models}
    columns = dict.fromkeys(name for names in takes.values() for name in names)
    used_by = {name: tuple(study for study, names in takes.items() if name in names) for name in columns}
    found: list[Reference] = []
    for model in models:
        file = bundle.path / "models" / model.study / REFERENCE
        taken = {name for reference in found for name in reference.rows.columns}
        wanted = [name for name in used_by if model.study in used_by[name] and name not in taken]
        if file.exists():
            rows = pl.read_parquet(file).rename({"score": f"score_{model.study}"}, strict=False)
            rows = rows.select([name for name in wanted if name in rows.columns])
            found.append(Reference(model.study, model.kind, rows, used_by, filling(bundle.features, model.details)))
    if not found:
        raise AnalysisError(
            "the bundle keeps no training rows. Hint: `ethogram study run NAME`, then `ethogram promote`."
        )
    return found


def filling(features: FeatureSet, details: Mapping[str, Any]) -> frozenset[str]:
    """Features that remember longer than the log was old at the newest cut, whose rows are kept: they grow with it."""
    training = details.get("training_set")
    if training is None:
        return frozenset()
    newest = max(parse_instant(cut) for part in ("train", "validation", "test") for cut in training["cuts"][part])
    age = newest - parse_instant(training["log"][0])
    return frozenset(feature.name for feature in features.features if _memory(feature, features) > age)


def _memory(feature: Feature, features: FeatureSet) -> int:
    if feature.of:
        return max(_memory(each, features) for each in features.features if each.name in feature.of)
    return NEVER if feature.window == LIFETIME else feature.window or features.schema.horizon


def judge(references: Sequence[Reference], answers: pl.DataFrame) -> DriftReport:
    """Every column of the training rows against the answers, the last answer of each user."""
    return joined(
        [
            compare(
                reference.rows,
                answers,
                scores=reference.scores,
                categories=reference.categories,
                user="user",
                used_by=reference.used_by,
                filling=reference.filling,
            )
            for reference in references
        ]
    )


def _remembered(bundle: Bundle, references: Sequence[Reference], answers: pl.DataFrame) -> DriftReport:
    """What `judge` says, which of the same answers is the same."""
    key = bundle.digest, sha256(answers.drop("segments").hash_rows().to_numpy().tobytes()).digest()
    if key not in _JUDGED:
        _JUDGED[key] = judge(references, answers)
        if len(_JUDGED) > KEPT:
            del _JUDGED[next(iter(_JUDGED))]
    return _JUDGED[key]


def _members(answers: pl.DataFrame) -> pl.DataFrame:
    """Who is in which segment by everybody's last answer: a column of zeros and ones a segment."""
    last = answers.unique("user", keep="last", maintain_order=True)
    names = sorted(set(last["segments"].explode().drop_nulls().to_list()))
    return last.select(pl.col("segments").list.contains(name).cast(pl.Float64).alias(name) for name in names)


def _save(
    project: Project,
    report: DriftReport,
    references: Sequence[Reference],
    answers: pl.DataFrame,
    place: Path,
    week: pl.DataFrame | None,
) -> dict[str, Path]:
    """Our page and document; where answers of a week before are given, with pictures and Evidently's report.

    What is there already, of the same answers and with the same verdict, stays.
    """
    files = {"page": place / "drift.html", "document": place / "drift.json"}
    drawn = {"evidently": place / "evidently.html", "evidently_json": place / "evidently.json"}
    drawn["workspace"] = project.path("reports") / SHELF
    text, there = json.dumps(report.to_dict(), indent=1) + "\n", all(file.exists() for file in drawn.values())
    if files["document"].exists() and files["document"].read_text(encoding="utf-8") == text and (there or week is None):
        return {**drawn, **files} if there else files
    height = min(reference.rows.height for reference in references)  # for pictures; judged on all of them
    rows = pl.concat([reference.rows.sample(height, seed=0) for reference in references], how="horizontal")
    once = answers.unique("user", keep="last", maintain_order=True)
    links = {}
    if report.findings and week is not None:
        before, after = _members(week), _members(once)
        segments = [name for name in before.columns if name in after.columns and name not in rows.columns]
        least = min(height, before.height) if segments else height
        sides = (
            pl.concat([rows.head(least), before.select(segments).head(least)], how="horizontal"),
            once.with_columns(after.select(segments)),
        )
        categories = [*segments, *(name for reference in references for name in reference.categories)]
        shelf = project.path("reports") / SHELF, project.name
        evidence.save(report, *sides, place, categories=categories, shelf=shelf)
        files = {**drawn, **files}
        links["Evidently's report of the columns that moved, or nearly did"] = drawn["evidently"].name
    page = report.to_html(pictures="" if week is None else evidence.portraits(report, rows, once), links=links)
    pages.write(files["page"], page)
    pages.write(files["document"], text)
    return files
