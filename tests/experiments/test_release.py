"""What is released is what was learned: bundles, segments, rollback."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from experiments import release
from experiments.audience import Audience
from experiments.declared import Declared
from experiments.enrolment import Enrolment
from experiments.release import promote, rollback
from experiments.standing import Standing
from experiments.study import Study
from experiments.suggestion import Suggestion
from features.behaviour.feature_set import FeatureSet
from features.errors import BundleError, DefinitionError
from features.events.log import EventLog
from features.instants import DAY
from features.people import hash_text
from features.project import Project
from features.segments.ledger import Ledger
from serving.memberships import Memberships
from tests.experiments import projects
from training.bundle import Bundle, current
from training.model import Model


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
