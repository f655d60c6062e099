"""Matured: outcomes of served users, counted by hand, and a model whose scores lost their meaning."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from experiments.matured import judged, outcomes
from features.instants import DAY
from features.people import pseudonym
from features.project import Project
from tests.experiments import projects
from tests.training.test_bundle import FEATURES, model
from training.bundle import Bundle

SPEC = {
    "kind": "propensity",
    "predicts": {"did": "bought", "within": "7d"},
    "population": {"did": "any", "within": "30d"},
    "cuts": {"every": "7d", "last": 4},
}
TOLD = {"blind_spot": "0s", "limit": None}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return projects.make(tmp_path_factory.mktemp("matured"), n_users=400, days=40)


def asking(folder: Path) -> Path:
    source = model(folder / "source", "buys_7d")
    document = json.loads((source / "model.json").read_text())
    details = {"spec": SPEC, "training_set": TOLD}
    (source / "model.json").write_text(json.dumps({**document, "details": details}))
    return source


def bought(project: Project, at: int) -> set[str]:
    """Who bought within a week after an instant, straight from the events."""
    rows = projects.events(400, 40, 1)
    week = rows.filter((pl.col("event") == "bought") & pl.col("ts").is_between(at + 1, at + 7 * DAY))
    return set(week["user_id"])


def answers(project: Project, days: list[int], *, seed: int, knows: bool) -> pl.DataFrame:
    """Everybody is asked about on some days; a score that knows who will buy better than chance, or does not."""
    random, parts = np.random.default_rng(seed), []
    for day in days:
        at = projects.START + day * DAY
        buyers = bought(project, at)
        likely = np.array([0.7 if f"u{place}" in buyers else 0.2 for place in range(400)])
        noisy = np.clip(likely + random.normal(0, 0.15, 400), 0.01, 0.99)
        score = noisy if knows else random.permutation(noisy)
        users = [pseudonym(project.key, f"u{place}") for place in range(400)]
        parts.append(pl.DataFrame({"user": users, "at": [at] * 400, "score_buys_7d": score}))
    return pl.concat(parts)


def test_outcomes_are_those_of_the_events_and_none_is_told_before_its_time(project: Project, tmp_path: Path) -> None:
    rows = answers(project, [20, 38], seed=1, knows=True)
    bundle = bundle_of(project, tmp_path, pl.DataFrame({"score": [0.5], "label": [1.0]}))
    known = outcomes(project, bundle, "buys_7d", rows)
    at = projects.START + 20 * DAY
    assert known["at"].unique().to_list() == [at]
    truth = {pseudonym(project.key, user) for user in bought(project, at)}
    assert set(known.filter(pl.col("label") == 1)["user"]) == truth
    month = projects.events(400, 40, 1).filter(pl.col("ts").is_between(at - 30 * DAY + 1, at))
    assert known.height == month["user_id"].n_unique()  # who is in the population


@pytest.mark.parametrize(("knows", "moved"), [(True, set()), (False, {"ROC-AUC", "Brier score"})])
def test_scores_that_lost_their_meaning_are_found_by_outcomes(
    project: Project, tmp_path: Path, knows: bool, moved: set[str]
) -> None:
    before = answers(project, [10], seed=2, knows=True)
    buyers = bought(project, projects.START + 10 * DAY)
    label = [float(f"u{place}" in buyers) for place in range(400)]
    bundle = bundle_of(project, tmp_path, before.select(score="score_buys_7d").with_columns(label=pl.Series(label)))
    rows = answers(project, [20, 21, 22, 23], seed=3, knows=knows)
    (report,) = judged(project, bundle, rows, length=DAY)
    assert moved <= {finding.shift.subject for finding in report.moved}
    assert bool(report.moved) == bool(moved)
    assert all(finding.used_by == ("buys_7d",) and finding.persists for finding in report.moved)


def bundle_of(project: Project, folder: Path, reference: pl.DataFrame) -> Bundle:
    source = asking(folder)
    reference.write_parquet(source / "reference.parquet")
    return Bundle.write(folder / "bundle", name="shop", version="1", features=FEATURES, models={"buys_7d": source})


def test_outcomes_too_few_to_judge_are_said(project: Project, tmp_path: Path) -> None:
    reference = pl.DataFrame({"score": [0.01] * 300, "label": [0.0] * 300})
    bundle, rows = bundle_of(project, tmp_path, reference), answers(project, [20], seed=4, knows=True)
    (report,) = judged(project, bundle, rows, length=DAY)
    assert not report.findings
    assert any("score_buys_7d: outcomes are not judged, 3 rows of one outcome" in note for note in report.notes)


def test_too_early_is_said(project: Project, tmp_path: Path) -> None:
    reference = pl.DataFrame({"score": [0.5, 0.5], "label": [0.0, 1.0]})
    (report,) = judged(
        project, bundle_of(project, tmp_path, reference), answers(project, [39], seed=4, knows=True), length=DAY
    )
    assert report.notes[0].startswith("no outcome of buys_7d is known yet")
