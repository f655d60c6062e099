"""The model card and the slices: what they say is what the rows say."""

import numpy as np
import pytest

from experiments.slices import parts_of, slices
from experiments.study import Study
from features.behaviour.feature_set import FeatureSet
from features.events.log import EventLog
from tests.experiments import projects
from training.model import Model

SEGMENTS = """version: 1
segments:
  often: {when: {feature: {count_viewed_7d: {gte: 8}}}}
  lately: {when: {did: {event: bought, last: 14d}}}
  served: {when: {model: {study: buys_7d, gte: 0.2}}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project with segments, and both studies run."""
    project = projects.make(tmp_path_factory.mktemp("card") / "shop", segments_yaml=SEGMENTS)
    return project, {name: Study.from_yaml(project, name).run(project) for name in ("buys_7d", "kinds")}


def test_segments_cut_the_test_rows_as_the_features_of_the_same_rows_say(made):
    project, _ = made
    test = Study.from_yaml(project, "buys_7d").rows(project).split_by_time()[2]
    parts = parts_of(project, test)
    assert set(parts) == {"segment often", "segment lately"}  # what asks a model is not known of long ago
    assert parts["segment often"].tolist() == (test.matrix.column("count_viewed_7d") >= 8).tolist()
    log = EventLog.of(project)
    features = FeatureSet.from_dict({"features": [{"count": "bought", "windows": ["14d"]}]}, log.plan, log.codes)
    bought = features.compute(log.histories(features.schema), int(test.matrix.at[0]))
    told = dict(zip(bought.users, bought.values[:, 0] > 0, strict=True))
    assert parts["segment lately"].tolist() == [told[user] for user in test.matrix.users]


def test_a_slice_says_what_its_rows_say(made):
    project, results = made
    test = Study.from_yaml(project, "buys_7d").rows(project).split_by_time()[2]
    p = np.asarray(Model.load(results["buys_7d"].folder).score(test.matrix).probability)
    mine = test.matrix.column("count_viewed_7d") >= 8
    found = slices(test, p, {"busy": mine, "nobody": np.zeros(len(test), np.bool_)})
    assert [each.name for each in found] == ["busy"]
    assert found[0].n_rows == mine.sum()
    assert found[0].happened == pytest.approx(test.y[mine].mean())
    assert found[0].predicted == pytest.approx(p[mine].mean())
    high, low = p[mine][test.y[mine] > 0], p[mine][test.y[mine] == 0]
    pairs = (high[:, None] > low).mean() + (high[:, None] == low).mean() / 2
    assert found[0].roc_auc.value == pytest.approx(pairs)


def test_every_run_has_a_card_that_says_what_it_is_good_for(made):
    _, results = made
    result = results["buys_7d"]
    text = result.card.with_suffix(".md").read_text()
    for words in (
        result.verdict,
        f"{result.figures['model']['roc_auc']['value']:.4f}",
        "logistic regression",
        "segment often",
        "mean size of SHAP",
        "gave no consent",
        "A/B test",
        "![calibration](calibration.png)",
    ):
        assert words in text
    page = result.card.read_text()
    assert page.count("data:image/png;base64,") == len(result.pictures)
    assert "http" not in page.replace("http-equiv", "")
    other = results["kinds"].card.with_suffix(".md").read_text()
    assert "silhouette" in other
    assert "Ours minus the baselines" not in other
    assert str(result.card) in str(result)


def test_the_largest_influence_is_what_was_planted(made):
    _, results = made
    text = results["buys_7d"].card.with_suffix(".md").read_text()
    table = text.split("## What moves a probability")[1].split("\n|")[3:]
    assert any(name in table[0] for name in ("viewed", "any"))  # views make purchases likelier
    assert results["buys_7d"].metrics["seeds_least_roc_auc"] > 0.55
