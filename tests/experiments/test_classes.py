"""Which of several: a study that asks which cluster people will be in."""

import json
import shutil
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from console.cli import app
from experiments.release import promote
from experiments.runs import rerun
from experiments.study import Study
from features.behaviour.feature_set import FeatureSet
from features.errors import StudyError
from features.events.log import EventLog
from features.instants import DAY, iso, parse_instant
from features.project import Project
from tests.experiments import projects
from tests.serving.test_service import free_port, running
from training.bundle import Bundle, current
from training.model import Model


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
