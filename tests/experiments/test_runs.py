"""Recorded runs: compared with each other, resumed, and done again to the same digest."""

import json

import pytest
from typer.testing import CliRunner

from console.cli import app
from experiments.runs import VERSION, _named, compare, rerun
from experiments.study import Study
from experiments.tracking import Run
from features.errors import StudyError
from features.events.batch import EventBatch
from features.events.log import EventLog
from features.instants import DAY
from features.project import Project
from tests.experiments import projects
from training.model import Model


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project with both studies run, and events that arrived afterwards."""
    project = projects.make(tmp_path_factory.mktemp("runs") / "shop")
    results = {name: Study.from_yaml(project, name).run(project) for name in ("buys_7d", "kinds")}
    log = EventLog.of(project)
    later = projects.events(100, 10, seed=5)
    moved = later.with_columns(ts=later["ts"] + 60 * DAY, received=later["received"] + 60 * DAY, id=later["id"] + 10**6)
    log.append(EventBatch(moved, log.plan), name="later")
    return project, results


@pytest.mark.parametrize("name", ["buys_7d", "kinds"])
def test_a_run_done_again_gives_the_same_model_though_the_log_has_grown(made, name):
    project, results = made
    found = rerun(project, results[name].run_id)
    assert found.recorded == results[name].digest
    assert found.holds, str(found)


def test_clusters_of_a_grown_log_keep_ids_and_names_and_the_second_run_is_done_again_too(made):
    project, results = made
    again = Study.from_yaml(project, "kinds").run(project)
    old, new = (Model.load(each.folder) for each in (results["kinds"], again))
    known, named = (dict(zip(each.ids, each.names, strict=True)) for each in (old, new))
    assert set(known) == {1, 2}
    assert set(named) & set(known)
    assert all(named[id_] == known[id_] for id_ in set(named) & set(known))
    assert new.details["next_id"] == max(3, *(id_ + 1 for id_ in named))
    assert "overlap with before" in str(again)
    assert rerun(project, again.run_id).holds


def test_a_run_whose_people_were_erased_is_refused_with_what_changed(tmp_path):
    project = projects.make(tmp_path / "shop")
    result = Study.from_yaml(project, "buys_7d").run(project)
    EventLog.of(project).erase("u1", at=projects.START + 61 * DAY)
    with pytest.raises(StudyError, match=r"has changed since: n_rows \d+ instead of \d+; n_users 499 instead of 500"):
        rerun(project, result.run_id)


def test_other_features_are_named_before_anything_is_computed(made, tmp_path):
    project, results = made
    file = project.file("features.yaml")
    declared = file.read_text()
    try:
        file.write_text(declared.replace("windows: [7d, 30d]}\n  - {recency", "windows: [7d]}\n  - {recency"))
        with pytest.raises(StudyError, match="the features have changed since run"):
            rerun(project, results["buys_7d"].run_id)
    finally:
        file.write_text(declared)


def test_a_version_is_meant_though_an_id_begins_like_it() -> None:
    known = [Run(id_, 0, {VERSION: version}, {}, {}) for id_, version in (("1f", "2"), ("c0", "1"), ("c1", "3"))]
    assert [_named(known, "buys_7d", name).id for name in ("1", "1f", "3")] == ["c0", "1f", "c1"]
    with pytest.raises(StudyError, match="more than one run of 'buys_7d' is 'c'"):
        _named(known, "buys_7d", "c")


def test_two_runs_are_compared_on_the_same_rows(tmp_path):
    project = projects.make(tmp_path / "shop")
    first = Study.from_yaml(project, "buys_7d").run(project)
    file = project.file("studies.yaml")
    file.write_text(
        file.read_text().replace(
            "search: {trials: 4, seed: 3}", "search: {trials: 4, seed: 3}\n    features: [recency_any_s]"
        )
    )
    second = Study.from_yaml(project, "buys_7d").run(project)
    found = compare(project, "buys_7d", ["1", second.run_id[:12]])
    assert [run.id for run in found.runs] == [second.run_id, first.run_id]
    assert found.changed["study.features"] == ["['recency_any_s']", "all"]
    assert found.fought is not None
    wanted = [each.figures["model"]["roc_auc"]["value"] for each in (first, second)]
    assert found.fought.champion["roc_auc"].value == pytest.approx(wanted[0])
    assert found.fought.challenger["roc_auc"].value == pytest.approx(wanted[1])
    printed = CliRunner().invoke(app, ["study", "compare", "buys_7d", "-C", str(project.root)])
    assert printed.exit_code == 0
    assert "ROC-AUC" in printed.stdout
    said = CliRunner().invoke(app, ["study", "compare", "buys_7d", "-C", str(project.root), "--json"])
    assert [run["id"] for run in json.loads(said.stdout)["runs"]] == [second.run_id, first.run_id]


def test_a_run_that_nobody_knows_and_one_that_nobody_left_are_errors(made):
    project, _ = made
    with pytest.raises(StudyError, match="there is no run 'abc'"):
        rerun(project, "abc")
    with pytest.raises(StudyError, match="no finished run of 'buys_7d' is '77'"):
        compare(project, "buys_7d", ["77"])
    with pytest.raises(StudyError, match="no unfinished run of 'buys_7d'"):
        Study.from_yaml(project, "buys_7d").run(project, resume=True)


def test_a_study_that_was_never_run_says_so(tmp_path):
    project = Project.find(projects.make(tmp_path / "shop", n_users=20).root)
    assert "has not been run yet" in str(compare(project, "buys_7d"))
