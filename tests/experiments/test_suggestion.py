"""Rules that say what a model says, and what segments.yaml says otherwise than what is served."""

import pytest
from ruamel.yaml import YAML

from experiments.audience import Audience
from experiments.difference import Difference
from experiments.suggestion import Suggestion
from features.errors import DefinitionError, StudyError
from tests.experiments import projects
from tests.serving.test_memberships import bundled
from training.bundle import publish

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


def test_every_cluster_has_a_rule_of_its_own_or_none(project):
    found = Suggestion.of(project, "behaviour")
    assert {rule.name for rule in found.rules} <= {"behaviour_browsers", "behaviour_buyers", "behaviour_sleepers"}
    assert found.to_dict()["rules"]
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
