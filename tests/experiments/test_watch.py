"""Watch: a project whose served answers stayed, moved, or are not there."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from console.cli import app
from experiments.drift import JOINT, joined
from experiments.persistence import windows
from experiments.watch import _remembered, _volume, filling, judge, served, training_rows, watch
from features.errors import AnalysisError
from features.instants import DAY, HOUR, SECOND, parse_instant
from features.project import Project
from tests.training.test_bundle import FEATURES, model
from training.bundle import Bundle, publish

NOW = parse_instant("2026-03-02T10:00:00")
NAMES = ("count_viewed_7d", "recency_any_s")


def rows(n: int, *, seed: int, shift: float = 0.0) -> pl.DataFrame:
    """Features and scores of both studies, as training and serving see them."""
    generator = np.random.default_rng(seed)
    recency = generator.exponential(9e4, n)
    recency[generator.random(n) < 0.2] = np.nan
    values = [generator.poisson(3 + shift, n).astype(float), recency, generator.beta(2, 8, n), generator.beta(1, 9, n)]
    return pl.DataFrame(dict(zip((*NAMES, "score_churn_30d", "score_purchase_7d"), values, strict=True)))


def log(folder: Path, bundle: str, frame: pl.DataFrame, *, at: int = NOW, source: str = "live") -> None:
    """Answers, one user each and one a second, in the form that the service writes them."""
    values = frame.select(pl.all().exclude(NAMES), features=pl.struct(NAMES))
    head = pl.DataFrame({"user": [f"u{place}" for place in range(frame.height)]})
    head = head.with_columns(
        (pl.int_range(pl.len()) * SECOND + at).alias("at"),
        pl.lit(bundle).alias("bundle"),
        pl.lit(source).alias("source"),
        pl.lit(["everybody"]).alias("segments"),
    )
    place = folder / f"{at // HOUR}"
    place.mkdir(parents=True, exist_ok=True)
    pl.concat([head, values], how="horizontal").write_parquet(place / f"{source}-{frame.height}-{bundle[:4]}.parquet")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A published bundle of two studies that keep training rows, not equally many."""
    (tmp_path / "ethogram.yaml").write_text("version: 1\nname: shop\n")
    models = {}
    for study, n in (("purchase_7d", 2600), ("churn_30d", 3000)):
        models[study] = model(tmp_path / "models" / study, study)
        kept = rows(n, seed=1).rename({f"score_{study}": "score"})
        kept.select("score", *NAMES).write_parquet(models[study] / "reference.parquet")
    bundle = Bundle.write(tmp_path / "b", name="shop", version="1", features=FEATURES, models=models)
    found = Project.find(tmp_path)
    publish(bundle.path, found.path("bundles"))
    return found


def bundle_of(project: Project) -> Bundle:
    return Bundle.load(project.root / "b")


def test_a_column_is_compared_once_and_names_every_study_that_uses_it(project: Project) -> None:
    references = training_rows(bundle_of(project))
    assert [reference.study for reference in references] == ["churn_30d", "purchase_7d"]
    assert references[0].rows.columns == [*NAMES, "score_churn_30d"]
    assert references[1].rows.columns == ["score_purchase_7d"]
    assert references[0].used_by["recency_any_s"] == ("churn_30d", "purchase_7d")


def test_answers_like_the_training_rows_are_no_drift_and_others_are(project: Project) -> None:
    references = training_rows(bundle_of(project))
    for shift, verdict, moved in ((0.0, "no drift", []), (1.5, "drift", ["count_viewed_7d"])):
        folder = project.root / f"answers-{shift}"
        log(folder, "d1", rows(1000, seed=2, shift=shift))
        report = judge(references, served(folder))
        assert report.verdict == verdict
        assert [finding.shift.column for finding in report.moved if finding.shift.part not in JOINT] == moved
        assert {finding.tier for finding in report.findings} == {"predictions", "inputs"}


def test_live_answers_alone_are_looked_at_in_their_order(tmp_path: Path) -> None:
    log(tmp_path, "d1", rows(300, seed=3))
    log(tmp_path, "d2", rows(200, seed=3), at=NOW - 2 * DAY)
    log(tmp_path, "d1", rows(50, seed=3), source="default")
    answers = served(tmp_path)
    assert answers.group_by("bundle").len().sort("bundle").rows() == [("d1", 300), ("d2", 200)]
    assert answers["at"].is_sorted()


def test_each_thing_that_is_absent_is_one_clear_error(project: Project, tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match=r"no live answer in .*ethogram serve"):
        watch(project)
    log(project.path("predictions"), "d1", rows(100, seed=2))
    with pytest.raises(AnalysisError, match=r"no live answer of the bundle \w{12} in .*ethogram serve"):
        watch(project)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "ethogram.yaml").write_text("version: 1\nname: shop\n")
    with pytest.raises(AnalysisError, match="ethogram promote"):
        watch(Project.find(tmp_path / "other"))
    (tmp_path / "p" / "h").mkdir(parents=True)
    (tmp_path / "p" / "h" / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(AnalysisError, match=r"x.parquet cannot be read"):
        served(tmp_path / "p")


def test_a_bundle_without_training_rows_says_so(tmp_path: Path) -> None:
    models = {"purchase_7d": model(tmp_path / "m")}
    bundle = Bundle.write(tmp_path / "b", name="shop", version="1", features=FEATURES, models=models)
    with pytest.raises(AnalysisError, match="keeps no training rows"):
        training_rows(bundle)


def test_features_that_remember_longer_than_the_log_was_old_are_told_apart() -> None:
    cuts = {"train": ["2026-01-10T00:00:00Z"], "validation": [], "test": ["2026-01-20T00:00:00Z"]}
    details = {"training_set": {"cuts": cuts, "log": ["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]}}
    young = filling(FEATURES, details)
    assert "count_viewed_7d" not in young
    assert "recency_any_s" in young
    assert filling(FEATURES, {}) == frozenset()


@pytest.mark.integration
def test_the_command_waits_for_a_second_window_then_alarms_and_keeps_its_pages(project: Project) -> None:
    asked = ["drift", "run", "-C", str(project.root), "--json"]
    folder, digest = project.path("predictions"), bundle_of(project).digest
    for day in range(9, 2, -1):
        log(folder, digest, rows(1000, seed=day), at=NOW - day * DAY)
    calm = CliRunner().invoke(app, asked)
    assert (calm.exit_code, json.loads(calm.stdout)["verdict"]) == (0, "no drift"), calm.output
    log(folder, digest, rows(1000, seed=10, shift=1.5), at=NOW - 2 * DAY)
    once = json.loads(CliRunner().invoke(app, asked).stdout)
    assert (once["verdict"], once["once"][0]["column"]) == ("no drift", "count_viewed_7d")
    log(folder, digest, rows(1000, seed=11, shift=1.5), at=NOW - DAY)
    alarmed = CliRunner().invoke(app, [*asked, "--html", str(project.root / "page.html")])
    document = json.loads(alarmed.stdout)
    assert (alarmed.exit_code, document["verdict"], document["current"]["rows"]) == (1, "drift", 1000)
    first = document["moved"][0]
    assert (first["used_by"], first["week"]) == (["churn_30d", "purchase_7d"], "not so a week before")
    assert first["since"].startswith("2026-02-27T10:1")
    assert {each["study"] for each in document["touched"]} == {"churn_30d", "purchase_7d"}
    assert document["unchecked"]  # there is no event log to compute the answers from
    assert document["actions"][0].startswith("let the replay check be made before drift is blamed (`ethogram replay`)")
    assert any("outcomes of purchase_7d" in note for note in document["notes"])
    files = {name: Path(file) for name, file in document["files"].items()}
    assert all(file.stat().st_size > 500 for name, file in files.items() if name != "workspace")
    assert len(list(files["workspace"].rglob("snapshots/*.json"))) == 3
    again = json.loads(CliRunner().invoke(app, asked).stdout)
    assert {**again["files"], "copy": str(project.root / "page.html")} == document["files"]
    assert len(list(files["workspace"].rglob("snapshots/*.json"))) == 3  # the same look is not drawn twice
    evidently = json.loads(files["evidently_json"].read_text())
    assert evidently["metrics"][0]["value"]["count"] == 1
    assert "everybody" in {metric["config"].get("column") for metric in evidently["metrics"]}
    assert 'ethogram_drift{project="shop"} 1.0' in (project.path("reports") / "drift.prom").read_text()


def test_a_window_is_judged_once_and_other_answers_of_it_anew(project: Project) -> None:
    bundle, folder = bundle_of(project), project.path("predictions")
    references, found = training_rows(bundle), []
    for shift in (0.0, 1.5):
        log(folder, bundle.digest, rows(500, seed=2, shift=shift))
        found.append(served(folder))
    before, after = (_remembered(bundle, references, answers) for answers in found)
    assert (before, after) == tuple(judge(references, answers) for answers in found)
    assert _remembered(bundle, references, found[0].clone()) is before
    assert not before.moved
    assert after.moved


def test_half_of_the_users_a_week_before_is_no_news_and_a_third_is_however_few_are_left(project: Project) -> None:
    for now, expected in ((600, False), (300, True), (99, True), (60, True)):
        folder = project.root / f"volume-{now}"
        log(folder, "d1", rows(1000, seed=2), at=NOW - 7 * DAY - 1000 * SECOND)
        log(folder, "d1", rows(now, seed=3), at=NOW - now * SECOND)
        seen = windows(served(folder), DAY)
        (finding,) = _volume(seen).findings
        assert (finding.alarms, finding.tier) == (expected, "data quality")
        report = joined([judge(training_rows(bundle_of(project)), seen[0].rows), _volume(seen)])
        assert (report.verdict == "drift") == expected
