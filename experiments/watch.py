"""Watch: a project's served answers against the training rows of the bundle that gave them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from experiments import evidence, pages
from experiments.drift import DriftReport, compare, joined
from features.behaviour.feature_set import FeatureSet
from features.behaviour.table import LIFETIME, Feature
from features.errors import AnalysisError
from features.instants import NEVER, iso, parse_instant, to_datetime
from features.project import Project
from training.bundle import Bundle, current

REFERENCE = "reference.parquet"


@dataclass(frozen=True)
class Watch:
    """One look at a project.

    Attributes:
        bundle: Digest of the release that was looked at.
        first: Instant of the first answer looked at.
        last: Instant of the last one.
        report: What moved.
        files: Pages and documents by name.
    """

    bundle: str
    first: int
    last: int
    report: DriftReport
    files: Mapping[str, Path]

    def __str__(self) -> str:
        window = f"answers of {self.bundle[:12]} from {iso(self.first)} to {iso(self.last)}"
        return "\n".join([str(self.report), "", window, *(f"{name}: {path}" for name, path in self.files.items())])

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        window = {"bundle": self.bundle, "first": iso(self.first), "last": iso(self.last)}
        return {**self.report.to_dict(), **window, "files": {name: str(path) for name, path in self.files.items()}}


def watch(project: Project, *, window: int | None = None, html: Path | None = None, evidently: bool = True) -> Watch:
    """Judge what the published bundle answered, and keep the report under the project's `reports`.

    Args:
        project: Its bundles, predictions and reports are used.
        window: Look at the newest so many microseconds of answers; all of this bundle's when absent.
        html: One more copy of our own page.
        evidently: Draw Evidently's report too; False only where something moved, because it takes longest.

    Raises:
        AnalysisError: nothing is published, nothing was served, or the bundle holds no training rows.
    """
    folder = current(project.path("bundles"))
    if folder is None:
        raise AnalysisError("no bundle is published, so there is nothing to compare. Hint: `ethogram promote`.")
    bundle = Bundle.load(folder)
    answers = served(project.path("predictions"), bundle.digest, window=window)
    references = training_rows(bundle)
    report = judge(references, answers)
    first, last = int(answers["at"][0]), int(answers["at"][-1])
    place = project.path("reports") / f"drift-{to_datetime(last):%Y%m%dT%H%M%SZ}"
    files = _save(report, references, answers, place, evidently=evidently or report.verdict == "drift")
    if html:
        files["copy"] = pages.write(html, files["page"].read_text(encoding="utf-8"))
    return Watch(bundle.digest, first, last, report, files)


def served(folder: Path, bundle: str, *, window: int | None = None) -> pl.DataFrame:
    """The live answers of one bundle, in order: columns user, at, `score_<study>` and features under their own names.

    Raises:
        AnalysisError: there are none, or the log is damaged.
    """
    parts = []
    for file in sorted(folder.glob("*/*.parquet")):
        try:
            part = pl.read_parquet(file)
        except (OSError, pl.exceptions.PolarsError) as problem:
            raise AnalysisError(f"{file} cannot be read: {str(problem).splitlines()[0]}") from None
        parts.append(part.filter((pl.col("bundle") == bundle) & (pl.col("source") == "live")))
    rows = pl.concat([part for part in parts if part.height] or [pl.DataFrame()], how="diagonal")
    if rows.is_empty():
        raise AnalysisError(
            f"no live answer of the bundle {bundle[:12]} in {folder}. Hint: `ethogram serve` writes one row an answer."
        )
    if window is not None:
        rows = rows.filter(pl.col("at") > pl.col("at").max() - window)
    features = {name: name.removeprefix("f_") for name in rows.columns if name.startswith("f_")}
    scores = [name for name in rows.columns if name.startswith("score_")]
    return rows.sort("at").select("user", "at", *scores, *features).rename(features)


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
    used_by = {
        name: tuple(model.study for model in models if name in (*model.preparation.names, f"score_{model.study}"))
        for model in models
        for name in (*model.preparation.names, f"score_{model.study}")
    }
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


def _save(
    report: DriftReport, references: Sequence[Reference], answers: pl.DataFrame, place: Path, *, evidently: bool
) -> dict[str, Path]:
    height = min(reference.rows.height for reference in references)  # for pictures; judged on all of them
    rows = pl.concat([reference.rows.sample(height, seed=0) for reference in references], how="horizontal")
    once = answers.unique("user", keep="last", maintain_order=True)
    files: dict[str, Path] = {}
    links = {}
    if report.findings and evidently:
        categories = [name for reference in references for name in reference.categories]
        files["evidently"], files["evidently_json"] = evidence.save(report, rows, once, place, categories=categories)
        links["Evidently's report of the columns that moved, or nearly did"] = files["evidently"].name
    page = report.to_html(pictures=evidence.portraits(report, rows, once), links=links)
    files["page"] = pages.write(place / "drift.html", page)
    files["document"] = pages.write(place / "drift.json", json.dumps(report.to_dict(), indent=1) + "\n")
    return files
