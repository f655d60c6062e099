"""A project from log to champion, through the Python doors."""

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
from typer.testing import CliRunner

from console.cli import app
from experiments import release
from experiments.audience import Audience
from experiments.declared import Declared
from experiments.enrolment import Enrolment
from experiments.release import history, promote, rollback, standing
from experiments.runs import rerun
from experiments.standing import Standing
from experiments.study import Study, _told
from experiments.suggestion import Suggestion
from experiments.tracking import NUMBER, PARENT, Tracking
from features.behaviour.feature_set import FeatureSet
from features.errors import BundleError, DefinitionError, StudyError
from features.events.log import EventLog
from features.instants import DAY, iso, parse_instant
from features.people import hash_text
from features.project import Project
from features.segments.ledger import Ledger
from serving.memberships import Memberships
from tests.experiments import projects
from tests.serving.test_service import free_port, running
from training.bundle import Bundle, current
from training.model import Model


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project with both studies run once."""
    project = projects.make(tmp_path_factory.mktemp("made") / "shop")
    results = {name: Study.from_yaml(project, name).run(project) for name in ("buys_7d", "kinds")}
    return project, results


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


def test_promoting_publishes_a_bundle_that_scores_as_the_models_do(made):
    project, _ = made
    first = promote(project)
    bundle = Bundle.load(current(project.path("bundles")), verify=True)
    assert (bundle.digest, bundle.name, set(bundle.models)) == (first.digest, "shop", {"buys_7d", "kinds"})
    assert {"plan.yaml", "plan.lock", "features.json"} <= {path.name for path in bundle.path.iterdir()}
    log = EventLog.of(project)
    histories, at = log.histories(bundle.features.schema), projects.START + 50 * DAY
    scores = bundle.score(histories, at)
    assert len(scores["buys_7d"]) == len(scores["kinds"]) == len(histories)
    unchanged = promote(project)
    assert not unchanged.changed
    assert (unchanged.version, unchanged.digest) == (first.version, first.digest)


SEGMENTS = """version: 1
segments:
  often: {when: {percentile: {feature: count_viewed_7d, gte: 80}}}
  likely: {when: {model: {study: buys_7d, gte: 0.2}}}
"""


def test_a_cluster_that_the_served_model_does_not_have_is_a_mistake_wherever_segments_are_read(made):
    project, results = made
    promote(project)
    file, (first, _) = project.file("segments.yaml"), Model.load(results["kinds"].folder).names
    said = f"version: 1\nsegments:\n  s: {{when: {{cluster: {{study: kinds, in: [{json.dumps(first)}, nobody]}}}}}}\n"
    try:
        file.write_text(said)
        for read in (lambda: Declared.of(project).segments(), lambda: Enrolment.plan(project)):
            with pytest.raises(DefinitionError, match=r"segments\.yaml:3: .*'kinds' has no cluster 'nobody'\. Hint: "):
                read()
        with pytest.raises(DefinitionError, match="no cluster 'nobody'"):
            promote(project)
        file.write_text(said.replace(", nobody", ""))
        assert Enrolment.plan(project).lines[0].after > 0
        assert promote(project).changed
    finally:
        file.unlink()
        promote(project)


def test_explain_tells_what_moves_a_probability_and_how_far_every_cluster_is(made):
    project, results = made
    file, (first, second) = project.file("segments.yaml"), Model.load(results["kinds"].folder).names
    try:
        when = f"cluster: {{study: kinds, in: [{json.dumps(first)}]}}"
        file.write_text(f"version: 1\nsegments: {{s: {{when: {{{when}}}}}}}\n")
        promote(project)
        found, audience = Standing.of(project, "u1"), Audience.of(project)
        matrix = audience.matrix(audience.person("u1"), audience.at)
        scores = audience.scores(matrix)
        (node,) = found.trees["s"]["of"]
        assert node["distances"] == dict(zip((first, second), scores["kinds"].distances[0].tolist(), strict=True))
        assert node["computed_at"] == results["kinds"].training_set["cuts"]["train"][-1]
        parts = found.contributions["buys_7d"]
        assert parts["base"] + sum(parts["columns"].values()) == pytest.approx(float(scores["buys_7d"].margin[0]), 1e-5)
        assert sum(value != 0 for value in parts["columns"].values()) > 1
        assert f"buys_7d: from {parts['base']:.3g} by " in str(found)
        assert f"(far from {first} {node['distances'][first]:.3g}, {second} " in str(found)
    finally:
        file.unlink()
        promote(project)


def test_a_suggested_rule_tells_how_often_it_and_the_model_were_right(made, tmp_path):
    """Counted anew from the events, of people that the rule was not made from."""
    promote(made[0])
    project = Project.find(shutil.copytree(made[0].root, tmp_path / "shop"))
    project.file("segments.yaml").write_text(SEGMENTS)
    (rule,) = Suggestion.of(project, "buys_7d", depth=2).rules
    audience, model = Audience.of(project), Bundle.load(current(project.path("bundles"))).models["buys_7d"]
    then = audience.at - 7 * DAY
    assert rule.right.at == then
    events = audience.log.frame(columns=["user", "event", "ts"])
    bought = set(
        events.filter(pl.col("event") == "bought", pl.col("ts") > then, pl.col("ts") <= then + 7 * DAY)["user"]
    )
    recent = set(events.filter(pl.col("ts") > then - 30 * DAY, pl.col("ts") <= then)["user"])
    right = []
    for histories in audience.everybody():
        matrix = audience.matrix(histories, then)
        chosen = model.score_values(matrix.select(model.preparation.names).values).chosen
        frame = matrix.to_pandas()
        for place, user in enumerate(histories.users.tolist()):
            if hash_text(user) % 2 and user in recent:
                holds = (
                    all(
                        test.get("gte", -np.inf) <= frame[name][place] < test.get("lt", np.inf)
                        for name, test in path.items()
                    )
                    for path in rule.paths
                )
                right.append((any(holds) == (user in bought), chosen[place] == (user in bought)))
    assert rule.right.n_users == len(right) > 150
    assert (rule.right.rule, rule.right.model) == pytest.approx(tuple(np.mean(right, axis=0)))
    assert f"# {rule.right}" in str(rule)
    assert f"the model for {rule.right.model:.1%}" in str(rule)


class Killed(BaseException):
    """As by a signal: nothing catches it."""


@pytest.mark.parametrize("where", ["members", "serving"])
def test_an_apply_that_is_killed_serves_no_definition_whose_members_were_not_written(
    made, tmp_path, monkeypatch, where
):
    project = Project.find(shutil.copytree(made[0].root, tmp_path / "shop"))
    file, folder, bundles = project.file("segments.yaml"), project.path("memberships"), project.path("bundles")
    said = "version: 1\nsegments:\n"
    said += "  often: {when: {did: {event: viewed, count: {gte: 3}, last: 7d}}, membership: {ttl: 5d}}\n"
    said += "  lately: {when: {did: {event: viewed, last: 2d}}, membership: {ttl: 3d}}\n"
    file.write_text(said)
    promote(project)
    Enrolment.plan(project).apply()
    before, old = Ledger.read(folder), current(bundles)
    file.write_text(said.replace("gte: 3", "gte: 6"))

    def kill(*_args, **_more):
        raise Killed

    plan = Enrolment.plan(project)
    with monkeypatch.context() as faulty:
        faulty.setattr(*((Ledger, "written") if where == "members" else (release, "crown")), kill)
        with pytest.raises(Killed):
            plan.apply()
    assert current(bundles) == old
    written = Ledger.read(folder)
    assert (written == before) == (where == "members")
    served = Memberships(Bundle.load(current(bundles)).told, folder)
    assert served.names == (("often", "lately") if where == "members" else ("lately",))
    after = Enrolment.plan(project).apply()
    assert Memberships(Bundle.load(current(bundles)).told, folder).names == ("often", "lately")
    assert current(bundles) != old
    if where == "serving":
        assert after == written
    assert after.segments["often"].version == Bundle.load(current(bundles)).told.segment("often").version


def test_promoting_puts_the_segments_in_with_the_bounds_of_their_percentiles(made):
    project, _ = made
    before = promote(project)
    file = project.file("segments.yaml")
    try:
        file.write_text(SEGMENTS)
        first, again = promote(project), promote(project)
        assert (first.changed, first.version, again.changed) == (True, before.version + 1, False)
        bundle = Bundle.load(current(project.path("bundles")), verify=True)
        (snapshot,) = bundle.segments.snapshots.values()
        histories = EventLog.of(project).histories(bundle.schema)
        matrix = bundle.computed.compute(histories, snapshot.at)
        values = matrix.column("count_viewed_7d")
        assert snapshot.values == (float(np.percentile(values, 80, method="inverted_cdf")),)
        truths = bundle.told.evaluate(histories, snapshot.at, features=matrix)
        assert truths.column("often").tolist() == (values >= snapshot.values[0]).tolist()
        file.write_text(SEGMENTS.replace("gte: 80", "gte: 90"))
        assert promote(project).changed
    finally:
        file.unlink()
        promote(project)


def test_a_label_may_ask_which_cluster_people_will_be_in(made):
    project, results = made
    label = {"in_cluster": {"study": "kinds", "in": [0]}, "after": "7d"}
    data = {"name": "stays", "kind": "propensity", "predicts": label, "cuts": {"every": "7d", "last": 4}}
    rows = Study.from_dict({**data, "population": {"did": "any", "within": "30d"}}).rows(project)
    assert rows.provenance["label"] == "in cluster 0 of kinds after 7d (version 1)"
    log, model = EventLog.of(project), Model.load(results["kinds"].folder)
    features = FeatureSet.of(project, log.plan, log.codes)
    held = log.histories(features.schema)
    places = {user: place for place, user in enumerate(held.users.tolist())}
    asked = held.take(np.array([places[user] for user in rows.matrix.users]))
    served = model.score(features.compute(asked, rows.matrix.at + 7 * DAY))
    assert np.array_equal(rows.y, served.cluster == 0)
    assert 0 < rows.y.mean() < 1
    label["in_cluster"]["study"] = "buys_7d"
    with pytest.raises(StudyError, match="the newest model of 'buys_7d' has no clusters"):
        Study.from_dict(data).rows(project)


WHICH = """  next_week:
    kind: propensity
    predicts: {in_cluster: {study: kinds}, after: 7d}
    population: {did: any, within: 30d}
    features: [count_bought_7d, count_bought_30d, recency_bought_s, recency_any_s]
    cuts: {every: 7d, last: 4}
    search: {trials: 2, seed: 3}
    costs: {FIRST: {SECOND: 40}}
"""
STAYS = "version: 1\nsegments:\n  stays: {when: {cluster: {study: next_week, in: [FIRST]}}}\n"


@pytest.fixture(scope="module")
def which(made, tmp_path_factory):
    """Which of the two kinds will they be in a week: run and promoted; taking the first for the second is dear."""
    project = Project.find(shutil.copytree(made[0].root, tmp_path_factory.mktemp("which") / "shop"))
    first, second = map(json.dumps, Model.load(made[1]["kinds"].folder).names)
    declared = project.file("studies.yaml").read_text() + WHICH.replace("FIRST", first).replace("SECOND", second)
    project.file("studies.yaml").write_text(declared)
    project.file("segments.yaml").write_text(STAYS.replace("FIRST", first))
    result = Study.from_yaml(project, "next_week").run(project)
    promote(project)
    return project, result, Bundle.load(current(project.path("bundles")), verify=True)


def test_which_of_several_is_promoted_and_answered_from_the_bundle(made, which):
    """It is learned, and the bundle says what the model says."""
    project, result, bundle = which
    model = Model.load(result.folder, verify=True)
    assert (model.kind, model.names) == ("classes", Model.load(made[1]["kinds"].folder).names)
    assert model.costs == ((0.0, 40.0), (1.0, 0.0))
    assert result.figures["model"]["roc_auc"]["low"] > 0.7
    assert "in which cluster of kinds after 7d" in str(result)
    histories = EventLog.of(project).histories(bundle.schema)
    at = projects.START + 50 * DAY
    matrix = bundle.computed.compute(histories, at)
    served = bundle.models["next_week"]
    scores = served.score_values(matrix.select(served.preparation.names).values)
    assert scores.probabilities.sum(axis=1) == pytest.approx(1)
    assert np.array_equal(scores.cluster, (scores.probabilities[:, 0] < 1 / 41).astype(int))
    assert set(scores.cluster) == {0, 1}
    assert (scores.probabilities.argmax(axis=1) != scores.cluster).any()
    truths = bundle.told.evaluate(histories, at, features=matrix, scores={"next_week": scores})
    assert np.array_equal(truths.column("stays"), scores.cluster == 0)
    assert served.names == model.names
    assert rerun(project, result.run_id).holds


@pytest.mark.integration
def test_which_of_several_is_answered_and_explained_over_http(which, tmp_path):
    """Every user of the log: the service says what the published bundle says of the same history, and why."""
    project, _, bundle = which
    shop, clock = ["-C", str(project.root)], {"ETHOGRAM_CLOCK": iso(projects.START + 50 * DAY)}
    assert CliRunner().invoke(app, ["rebuild", "--state", *shop], env=clock).exit_code == 0
    port, users = free_port(), [f"u{k}" for k in range(40)]
    serve = [sys.executable, "-m", "console.cli", "serve", "--port", str(port), *shop]
    with running(serve, port, tmp_path, **clock) as (http, _):
        told = http.post("/v1/segments:batch", json={"users": users}).json()["answers"]
        told += [http.post("/v1/segments", json={"user_id": user}).json() for user in users[:5]]
        why = [http.post("/v1/explain", json={"user_id": user}).json() for user in users]
    model, known = bundle.models["next_week"], EventLog.of(project).histories(bundle.schema)
    place = {user: row for row, user in enumerate(known.users.tolist())}

    def scored(answer):
        matrix = bundle.computed.compute(
            known.take(np.array([place[answer["user_id"]]])), parse_instant(answer["as_of"])
        )
        return model.score_values(matrix.select(model.preparation.names).values)

    for answer in told:
        assert answer["source"] == "live"
        wanted = scored(answer)
        chances = dict(zip(model.names, wanted.probabilities[0].tolist(), strict=True))
        name = model.names[wanted.cluster[0]]
        assert answer["scores"]["next_week"] == {"kind": "classes", "name": name, "probabilities": chances}
        assert f"next_week:{name}" in answer["segments"]
        assert ("stays" in answer["segments"]) == (name == model.names[0])
    assert {answer["scores"]["next_week"]["name"] for answer in told} == set(model.names)
    for answer in why:
        scores, parts = scored(answer), answer["contributions"]["next_week"]
        class_ = int(scores.cluster[0])
        assert parts["class"] == model.names[class_]
        assert parts["base"] + sum(parts["columns"].values()) == pytest.approx(scores.margin[0, class_], abs=1e-5)
        assert answer["segments"]["stays"]["in"] is (class_ == 0)


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


def test_rolling_back_serves_the_previous_bundle_again(made):
    project, _ = made
    first = promote(project)
    Study.from_dict(
        {
            "name": "buys_7d",
            "kind": "propensity",
            "predicts": {"did": "bought", "within": "7d"},
            "cuts": {"every": "7d", "last": 4},
            "search": {"trials": 1, "seed": 9},
        }
    ).run(project)
    second = promote(project)
    assert second.changed
    assert second.previous == first.version
    assert current(project.path("bundles")).name == second.digest
    back = rollback(project)
    assert (back.digest, back.version) == (first.digest, first.version)
    assert current(project.path("bundles")).name == first.digest
    assert rollback(project).digest == second.digest
    chosen = promote(project, versions={"buys_7d": 1})
    assert chosen.models["buys_7d"] == 1
    shutil.rmtree(project.path("bundles"))
    rollback(project)
    assert Bundle.load(current(project.path("bundles")), verify=True).digest == second.digest


def test_what_there_is_can_be_listed(made):
    project, results = made
    rows = {each.name: each for each in standing(project)}
    assert rows["buys_7d"].question == "did bought within 7d, of who did any within 30d"
    assert rows["kinds"].verdict == results["kinds"].verdict
    versions = history(project, "buys_7d")
    assert versions[-1].digest == results["buys_7d"].digest
    with pytest.raises(StudyError, match="did you mean 'buys_7d'"):
        history(project, "buys")


def test_new_features_ask_for_new_studies_before_a_release(made, tmp_path):
    project = Project.find(shutil.copytree(made[0].root, tmp_path / "copy"))
    text = (project.root / "features.yaml").read_text()
    (project.root / "features.yaml").write_text(text + "  - {tenure: any}\n")
    (project.root / ".ethogram" / "mlflow.db").unlink()
    with pytest.raises(BundleError, match="no study has a model yet"):
        promote(project)
    with pytest.raises(BundleError, match="no previous bundle"):
        rollback(project)
    log = EventLog.of(project)
    assert "tenure_any_s" in FeatureSet.of(project, log.plan, log.codes).names


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
