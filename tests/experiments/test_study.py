"""A project from log to model, through the Python doors."""

import json
import shutil
import signal
import subprocess
import sys

import mlflow
import numpy as np
import optuna
import polars as pl
import pytest
import xgboost as xgb

from experiments.release import history, promote, standing
from experiments.runs import rerun
from experiments.study import Study, _told
from experiments.tracking import NUMBER, PARENT, Tracking
from features.behaviour.feature_set import FeatureSet
from features.errors import DefinitionError, StudyError
from features.events.log import EventLog
from features.instants import DAY, parse_instant
from features.project import Project
from tests.experiments import projects
from training.model import Model


def test_a_propensity_is_judged_against_its_baselines(made):
    result = made[1]["buys_7d"]
    assert [name.split(":")[0] for name in result.figures] == ["model", "logistic regression", "random forest", "rule"]
    area = result.figures["model"]["roc_auc"]
    assert area["low"] < area["value"] < area["high"]
    assert 0.55 < area["value"] < 0.95
    assert set(result.differences) == set(result.figures) - {"model"}
    assert ("beats every baseline" in result.verdict) != ("does not beat the baseline" in result.verdict)
    for words in ("ROC-AUC", "logistic regression", "test cuts: 2026-", "threshold", "4 trials", result.run_id):
        assert words in str(result)
    json.dumps(result.to_dict())


def test_clusters_are_the_two_kinds_that_were_planted(made):
    result = made[1]["kinds"]
    assert result.metrics["k"] == 2
    assert result.metrics["silhouette"] > result.metrics["null_silhouette"] + 0.1
    assert result.metrics["least_stability"] > 0.85
    model = Model.load(result.folder, verify=True)
    assert len(set(model.names)) == 2


def test_what_clusters_were_worth_is_counted_of_who_was_in_them_before(made):
    project, results = made
    result, log = results["kinds"], EventLog.of(project)
    features = FeatureSet.of(project, log.plan, log.codes)
    until = int(parse_instant(result.training_set["cuts"]["train"][0]))
    model = Model.load(result.folder)
    matrix = features.compute(log.histories(features.schema), until - 7 * DAY)
    seen = matrix.take(matrix.column("count_any_30d") > 0)
    events = log.frame().filter(pl.col("ts").is_between(until - 7 * DAY, until, closed="right"))
    bought = set(events.filter(pl.col("event") == "bought")["user"])
    for place, id_ in enumerate(model.ids):
        mine = seen.users[model.score(seen).cluster == place]
        assert result.metrics[f"cluster_{id_}_converted"] == pytest.approx(np.mean([user in bought for user in mine]))
        back = np.mean([user in set(events["user"]) for user in mine])
        assert result.metrics[f"cluster_{id_}_came_back"] == pytest.approx(back)
        assert f"id {id_}  {len(mine)} users  converted " in str(result)


def test_runs_trials_figures_and_pictures_are_in_mlflow(made):
    project, results = made
    tracking = Tracking(project)
    run = tracking.client.get_run(results["buys_7d"].run_id)
    assert run.info.status == "FINISHED"
    assert {"test_roc_auc", "test_roc_auc_low", "logistic_roc_auc", "rule_brier", "validation_log_loss"} <= set(
        run.data.metrics
    )
    assert {"ethogram.data", "ethogram.features", "ethogram.study", "ethogram.verdict"} <= set(run.data.tags)
    children = tracking.client.search_runs([run.info.experiment_id], f"tags.`{PARENT}` = '{run.info.run_id}'")
    assert sorted(int(each.data.tags[NUMBER]) for each in children) == [0, 1, 2, 3]
    assert all("max_depth" in each.data.params and "value" in each.data.metrics for each in children)
    written = {"study.json", "card.html", "card.md"}
    pictures = {each.path.split("/")[-1] for each in tracking.client.list_artifacts(run.info.run_id, "report")}
    assert pictures == {"roc.png", "precision_recall.png", "calibration.png", "importance.png", "shap.png", *written}
    kinds = {each.path.split("/")[-1] for each in tracking.client.list_artifacts(results["kinds"].run_id, "report")}
    assert kinds == {"front.png", "silhouette.png", "elbow.png", "gap.png", "sizes.png", "profiles.png", *written}


def test_everything_is_in_the_project_and_nothing_is_pickled(made):
    project, _ = made
    top = {path.name for path in project.root.iterdir()}
    assert top == {*projects.FILES, "plan.lock", ".ethogram", "reports"}
    assert {path.suffix for path in (project.root / ".ethogram" / "artifacts").rglob("*.p*kl*")} == set()


def test_the_model_in_the_registry_is_the_folder_and_scores_through_pyfunc(made, tmp_path):
    project, results = made
    tracking = Tracking(project)
    newest = tracking.versions("shop.buys_7d")[0]
    assert Model.load(tracking.fetch(newest, tmp_path)).digest == results["buys_7d"].digest
    with tracking._default():
        served = mlflow.pyfunc.load_model("models:/shop.buys_7d/1")
    rows = Study.from_yaml(project, "buys_7d").rows(project)
    wanted = Model.load(results["buys_7d"].folder).score(rows.matrix).probability
    found = served.predict(rows.to_pandas()[list(rows.matrix.names)])
    assert np.array_equal(found["probability"].to_numpy(), wanted)


def test_the_golden_rows_hold_missing_values_and_ties_and_xgboost_says_the_same_of_them(made):
    folder = made[1]["buys_7d"].folder
    golden, model = json.loads((folder / "golden.json").read_text()), Model.load(folder)
    rows = np.array([[np.nan if value is None else value for value in row] for row in golden["rows"]], np.float32)
    inner = model.head.left >= 0
    asked = set(zip(model.head.feature[inner].tolist(), model.head.value[inner].tolist(), strict=True))
    ties = sum((column, value) in asked for row in rows.tolist() for column, value in enumerate(row))
    assert ties > 20
    assert np.isnan(rows).any()
    theirs = xgb.Booster(model_file=str(folder / "trees.json")).predict(
        xgb.DMatrix(rows, feature_names=list(model.preparation.names)), output_margin=True
    )
    assert theirs.astype(np.float64).tolist() == golden["margin"]


def test_the_reference_rows_name_nobody(made):
    import polars as pl

    for name, result in made[1].items():
        frame = pl.read_parquet(result.folder / "reference.parquet")
        model = Model.load(result.folder)
        assert frame.columns[: len(model.preparation.names)] == list(model.preparation.names)
        assert set(frame.columns) - set(model.preparation.names) == {"score"} | (
            {"label"} if name == "buys_7d" else set()
        )
        assert 100 < frame.height <= 5_000


def test_the_same_question_gives_the_same_model_and_searches_nothing_again(made):
    project, results = made
    again = Study.from_yaml(project, "buys_7d").run(project)
    assert again.digest == results["buys_7d"].digest
    assert again.resumed == 4
    assert again.run_id != results["buys_7d"].run_id


def test_a_table_of_a_project_is_a_study_like_the_others(made, tmp_path):
    project = Project.find(shutil.copytree(made[0].root, tmp_path / "table"))
    random = np.random.default_rng(1)
    visits = random.poisson(3, 400)
    bought = random.random(400) < 1 / (1 + np.exp(3 - visits))
    pl.DataFrame({"visits": visits, "noise": random.normal(size=400), "bought": bought}).write_csv(
        project.root / "visits.csv"
    )
    studies = project.file("studies.yaml")
    studies.write_text(
        studies.read_text() + "  seen: {kind: table, file: visits.csv, label: bought, search: {trials: 1}}\n"
    )
    result = Study.from_yaml(project, "seen").run(project)
    assert (result.version, result.training_set["file"]) == (1, "visits.csv")
    assert Model.load(result.folder, verify=True).preparation.names == ("visits", "noise")
    assert {each.name: each.question for each in standing(project)}["seen"] == "bought of visits.csv"
    assert set(promote(project).models) == {"buys_7d", "kinds"}
    assert rerun(project, result.run_id).holds
    with (project.root / "visits.csv").open("a") as file:
        file.write("3,0.5,true\n")
    with pytest.raises(StudyError, match="n_rows 401 instead of 400"):
        rerun(project, result.run_id)


def test_what_there_is_can_be_listed(made):
    project, results = made
    rows = {each.name: each for each in standing(project)}
    assert rows["buys_7d"].question == "did bought within 7d, of who did any within 30d"
    assert rows["kinds"].verdict == results["kinds"].verdict
    versions = history(project, "buys_7d")
    assert versions[-1].digest == results["buys_7d"].digest
    with pytest.raises(StudyError, match="did you mean 'buys_7d'"):
        history(project, "buys")


def test_a_study_on_a_log_that_is_too_short_leaves_no_run(tmp_path):
    project = projects.make(tmp_path / "shop", n_users=20, days=9)
    with pytest.raises(StudyError, match=r"too short|no cut is"):
        Study.from_yaml(project, "buys_7d").run(project)
    assert not (project.root / ".ethogram" / "mlflow.db").exists()
    with pytest.raises(DefinitionError, match="unknown event 'sold'"):
        Study.from_dict({"kind": "clusters", "population": {"did": "sold"}}).run(project)


def unlocked():
    """As Optuna's lock does where it is interrupted while it is let go of."""
    try:
        raise KeyboardInterrupt
    finally:
        raise FileNotFoundError("the lock")


def test_a_mistake_in_the_segments_is_told_before_the_search(tmp_path):
    project, told = projects.make(tmp_path / "shop", n_users=60), []
    project.file("segments.yaml").write_text("segments:\n  many: {when: {feature: {count_view_7d: {gte: 3}}}}\n")
    with pytest.raises(DefinitionError, match=r"segments\.yaml:2: .*did you mean 'count_viewed_7d'"):
        Study.from_yaml(project, "buys_7d").run(project, progress=told.append)
    assert not any("trial" in line for line in told)
    assert not (project.root / ".ethogram" / "mlflow.db").exists()


def test_an_interruption_that_a_lock_turned_into_another_failure_is_still_one():
    said = []
    with pytest.raises(KeyboardInterrupt), _told(said.append, "buys_7d"):
        unlocked()
    assert said == ["stopped; the trials that ended are kept. Hint: `ethogram study resume buys_7d` goes on."]
    with pytest.raises(ZeroDivisionError), _told(said.append, "buys_7d"):
        divmod(1, 0)
    assert len(said) == 1


@pytest.mark.integration
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_study_that_is_killed_or_stopped_goes_on_in_the_same_run(tmp_path, how):
    studies = projects.FILES["studies.yaml"].replace("trials: 4", "trials: 8")
    project = projects.make(tmp_path / "shop", studies_yaml=studies)
    command = [sys.executable, "-m", "console.cli", "study", "run", "buys_7d", "-C", str(project.root)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    for line in process.stderr:
        if "trial 3/8" in line:
            break
    process.send_signal(how)
    rest = process.stderr.read()
    process.wait()
    process.stderr.close()
    assert process.returncode != 0
    assert ("the trials that ended are kept" in rest) == (how == signal.SIGINT)
    result = Study.from_yaml(project, "buys_7d").run(project)
    assert result.resumed >= 3
    assert result.trials == 8
    tracking = Tracking(project)
    experiment = tracking.client.get_experiment_by_name("shop.buys_7d").experiment_id
    parents = [each for each in tracking.client.search_runs([experiment]) if PARENT not in each.data.tags]
    assert [each.info.run_id for each in parents] == [result.run_id]
    assert [int(each.tags[NUMBER]) for each in tracking.trials(result.run_id)] == list(range(8))


JOINED = """
import socket
socket.gethostname = lambda: "another"
from console.cli import main
main()
"""


@pytest.mark.integration
def test_another_machine_joins_a_run_in_postgresql(tmp_path, postgres):
    """Two copies of a project on one database; the second says that it is another host, and is waited for."""
    settings = f"{projects.FILES['ethogram.yaml']}trials: '{postgres}'\n"
    studies = projects.FILES["studies.yaml"].replace("trials: 4", "trials: 20")
    first = projects.make(tmp_path / "first", ethogram_yaml=settings, studies_yaml=studies)
    shutil.copytree(first.root, tmp_path / "second")
    other = [sys.executable, "-c", JOINED, "study", "join", "buys_7d", "-C", str(tmp_path / "second")]
    helping = []

    def told(line):
        if "trial 2/20" in line:  # the helper comes in the middle; nothing goes on until it has done some
            helping.append(subprocess.Popen(other, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True))
            next(each for each in helping[0].stderr if "trial 6/20" in each)

    result = Study.from_yaml(first, "buys_7d").run(first, progress=told)
    (helper,) = helping
    assert helper.wait(300) == 0, helper.stderr.read()
    helper.stderr.close()
    assert (result.trials, result.resumed) == (20, 0)
    assert [int(each.tags[NUMBER]) for each in Tracking(first).trials(result.run_id)] == list(range(20))
    (name,) = optuna.get_all_study_names(postgres)
    trials = optuna.load_study(study_name=name, storage=postgres).trials
    ended = [trial for trial in trials if trial.state.name != "FAIL"]  # of two that began the last, one steps back
    assert len({str(trial.params) for trial in ended}) == len(ended) == 20
    assert sum(trial.user_attrs["worker"].startswith("another:") for trial in ended) >= 4
    assert not (tmp_path / "second" / ".ethogram" / "mlflow.db").exists()
    assert rerun(first, result.run_id).holds


def test_a_machine_can_only_join_where_trials_are_in_a_database(made):
    with pytest.raises(StudyError, match="kept in a file of one machine"):
        Study.from_yaml(made[0], "buys_7d").join(made[0])
