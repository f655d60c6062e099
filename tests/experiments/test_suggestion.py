"""Rules that say what a model says, and what segments.yaml says otherwise than what is served."""

import numpy as np
import pytest
from ruamel.yaml import YAML

from experiments.audience import Audience
from experiments.difference import Difference
from experiments.suggestion import Suggestion
from features.behaviour.feature_set import FeatureSet
from features.errors import DefinitionError, StudyError
from features.events.log import EventLog
from tests.experiments import projects
from tests.serving.test_memberships import bundled
from training.assigner import Centroids
from training.bundle import Bundle, publish
from training.model import Model
from training.steps import fit

SEGMENTS = """version: 1
segments:
  regulars: {when: {did: {event: viewed, count: {gte: 3}, last: 7d}}}
  gone: {when: {did: {event: bought}}}
  same: {when: {did: {event: any, last: 30d}}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    project = projects.make(folder / "shop", n_users=400, segments_yaml=SEGMENTS)
    publish(bundled(project, folder / "made").path, project.path("bundles"))
    return project


def test_rules_say_of_people_they_were_not_made_from_what_the_model_says(project):
    found = Suggestion.of(project, "purchase_7d", depth=2)
    (rule,) = found.rules
    assert rule.low < rule.agreement < rule.high
    assert rule.agreement > 0.9
    text = YAML(typ="safe").load(str(found))["segments"][rule.name]
    path = project.file("segments.yaml")
    before = path.read_text()
    path.write_text(f"version: 1\nsegments: {{rule: {{when: {rule.when}}}}}\n")
    audience = Audience.of(project)
    path.write_text(before)
    assert text == {"when": rule.when}
    inside = same = 0
    for each in audience.everybody():
        said = audience.truths(each, audience.at).column("rule")
        scores = audience.scores(audience.matrix(each, audience.at))["purchase_7d"]
        same += int((said == (scores.probability >= scores.threshold)).sum())
        inside += len(each)
    assert same / inside == pytest.approx(rule.agreement, abs=0.05)


NAMES = ("seldom", "weekly", "daily")


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """A project whose served clusters are three kinds of its own people."""
    folder = tmp_path_factory.mktemp("grouped")
    project = projects.make(folder / "shop", n_users=600, segments_yaml=SEGMENTS)
    log = EventLog.of(project)
    features = FeatureSet.of(project, log.plan, log.codes)
    matrix = features.compute(log.histories(features.schema), log.span()[1])
    preparation = fit(matrix, ["log", "standardise"], names=("count_viewed_30d", "active_days_any_30d"))
    prepared = preparation.transform(matrix)
    places = np.quantile(prepared[:, 0], [0.15, 0.45, 0.85])
    centres = np.stack([prepared[np.abs(prepared[:, 0] - place).argmin()] for place in places])
    made = Model(
        "behaviour", "clusters", features.fingerprint, preparation, Centroids(centres), names=NAMES, ids=(1, 2, 3)
    )
    made.save(folder / "model")
    made.write_golden(folder / "model", matrix.select(preparation.names).values[:3])
    models = {"behaviour": folder / "model"}
    bundle = Bundle.write(folder / "bundle", name="shop", version="1", features=features, models=models)
    publish(bundle.path, project.path("bundles"))
    return project


def test_every_cluster_has_a_rule_of_its_own_that_says_whom_the_model_puts_there(grouped):
    found = Suggestion.of(grouped, "behaviour")
    assert {rule.name for rule in found.rules} == {f"behaviour_{name}" for name in NAMES}
    assert sum(rule.share for rule in found.rules) == pytest.approx(1)
    path = grouped.file("segments.yaml")
    path.write_text(str(found))
    audience, said, meant = Audience.of(grouped), [], []
    path.write_text(SEGMENTS)
    for each in audience.everybody():
        truths, scores = audience.truths(each, audience.at), audience.scores(audience.matrix(each, audience.at))
        said.append(np.stack([truths.column(f"behaviour_{name}") for name in NAMES], axis=1))
        meant.append(scores["behaviour"].cluster[:, None] == np.arange(3))
    rules, model = np.concatenate(said), np.concatenate(meant)
    assert model.mean(axis=0).min() > 0.1
    for place, name in enumerate(NAMES):
        rule = next(each for each in found.rules if each.name == f"behaviour_{name}")
        assert rule.share == model[:, place].mean()
        assert rule.low < rule.agreement <= rule.high
        assert rule.agreement == pytest.approx((rules[:, place] == model[:, place]).mean(), abs=0.05)
        assert min(rule.agreement, rule.precision, rule.recall) > 0.8


def test_a_cluster_that_next_to_nobody_is_in_has_no_rule_and_a_study_that_is_not_served_none(project):
    audience = Audience.of(project)
    places = [audience.scores(audience.matrix(each, audience.at))["behaviour"].cluster for each in audience.everybody()]
    shares = np.bincount(np.concatenate(places), minlength=3) / 400
    assert (shares[0] < 0.02, shares[1] > 0.95, shares[2]) == (True, True, 0)
    assert [rule.name for rule in Suggestion.of(project, "behaviour").rules] == ["behaviour_buyers"]
    with pytest.raises(StudyError, match="did you mean 'behaviour'"):
        Suggestion.of(project, "behavior")


def test_a_difference_names_what_changed_and_counts_whom_it_concerns(project, tmp_path):
    assert Difference.of(project).lines == ()
    path = project.file("segments.yaml")
    before = path.read_text()
    (tmp_path / "other.yaml").write_text(before)
    path.write_text(before.replace("gte: 3", "gte: 6").replace("  gone:", "  new:"))
    served, other = Difference.of(project), Difference.of(project, tmp_path / "other.yaml")
    path.write_text(before)
    assert served.lines == other.lines
    lines = {line.name: line for line in served.lines}
    assert {name: line.change for name, line in lines.items()} == {
        "regulars": "edited",
        "gone": "removed",
        "new": "added",
    }
    assert lines["regulars"].before > lines["regulars"].after == lines["regulars"].both > 0
    assert (lines["gone"].after, lines["new"].before) == (0, 0)
    assert lines["gone"].before == lines["new"].after > 0
    assert "regulars is edited" in str(served)


def test_without_anything_served_another_file_has_to_be_named(tmp_path):
    project = projects.make(tmp_path / "shop", n_users=3, segments_yaml=SEGMENTS)
    with pytest.raises(DefinitionError, match="nothing is served to compare with"):
        Difference.of(project)
