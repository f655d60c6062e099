"""studies.yaml: what it may say, and how mistakes are named."""

import pytest

from experiments import studies
from features.errors import DefinitionError, StudyError
from tests.experiments.projects import FILES
from tests.training.shops import PLAN, feature_set

NAMES = (*feature_set().names, "count_viewed_30d", "active_days_any_30d")


def read(tmp_path, text):
    (tmp_path / "studies.yaml").write_text(text)
    return studies.read(tmp_path / "studies.yaml", PLAN, NAMES)


def study(tmp_path, **keys):
    lines = {
        "kind": "propensity",
        "predicts": "{did: bought, within: 7d}",
        "cuts": "{every: 7d, last: 4}",
        **keys,
    }
    body = "\n".join(f"    {key}: {value}" for key, value in lines.items() if value)
    return read(tmp_path, f"version: 1\nstudies:\n  buys:\n{body}\n")["buys"]


def test_the_file_is_read(tmp_path):
    found = read(tmp_path, FILES["studies.yaml"])
    assert list(found) == ["buys_7d", "kinds"]
    assert str(found["buys_7d"].predicts) == "did bought within 7d"
    assert found["kinds"].k == (2, 4)
    assert study(tmp_path, blind_spot="0s").blind_spot == 0


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"kind": "propensty"}, r"studies\.yaml:4: .*unknown kind 'propensty'. Hint: did you mean 'propensity'"),
        ({"kind": None}, r"studies\.yaml:3: .*the key 'kind' is missing"),
        ({"predicst": "{did: bought}"}, r"studies\.yaml:7: .*unknown key 'predicst'. Hint: did you mean 'predicts'"),
        ({"predicts": "{did: bougth, within: 7d}"}, r"studies\.yaml:5: .*unknown event 'bougth'. Hint: .*'bought'"),
        ({"predicts": "{did: bought, within: 7 days}"}, r"studies\.yaml:5: .*a duration is"),
        ({"predicts": "{value: bought.revenu, within: 7d, above: 1}"}, r"studies\.yaml:5: .*'revenu'.*'revenue'"),
        ({"predicts": "{value: bought.revenue, within: 7d}"}, r"add `above: AMOUNT`, `top_share"),
        ({"predicts": "{did_not: bougth, within: 7d}"}, r"studies\.yaml:5: .*did_not: unknown event.*'bought'"),
        ({"predicts": "{in_cluster: {study: kinds, in: [0]}, after: 7d}"}, r"yaml:5: .*unknown study of clusters"),
        ({"predicts": "{in_segment: loyal, after: 7d}"}, r"studies\.yaml:5: .*no segments\.yaml"),
        ({"predicts": "{in_segment: loyal, within: 7d}"}, r"studies\.yaml:5: .*`in_segment` needs `after`"),
        ({"cuts": "{on: view, every: 7d, last: 4}"}, r"studies\.yaml:6: .*cuts\.on: unknown event 'view'"),
        ({"population": "{did: view}"}, r"studies\.yaml:7: .*population\.did: unknown event 'view'"),
        ({"features": "[count_viewed_7d, count_view_7d]"}, r"studies\.yaml:7: .*did you mean 'count_viewed_7d'"),
        ({"cuts": "{every: 7d}"}, r"studies\.yaml:6: .*cuts are"),
        ({"search": "{trials: 0}"}, r"studies\.yaml:7: .*greater than or equal to 1"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_nearest_match(tmp_path, keys, words):
    with pytest.raises(DefinitionError, match=words):
        study(tmp_path, **keys)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"preparation": "[log, standardize]"}, r"studies\.yaml:6: .*did you mean 'standardise'"),
        ({"preparation": "[cap: {lo: 0.1}]"}, r"studies\.yaml:6: .*unknown key 'lo'. Hint: did you mean 'low'"),
        ({"preparation": "[log: {columns: [count_view_7d]}]"}, r"studies\.yaml:6: .*'count_viewed_7d'"),
        ({"preparation": "[log, autoencoder]"}, r"studies\.yaml:6: .*put 'standardise' before it"),
        ({"k": "[1, 4]"}, "k is"),
        ({"cuts": "{on: viewed, every: 7d, last: 4}"}, "`on` is for a propensity"),
        ({"business": "{did: buoght, within: 7d}"}, r"yaml:\d+: .*business\.did: unknown event 'buoght'.*did you mean"),
        ({"business": "{did: any, value: any.revenu, within: 7d}"}, r"business\.value: unknown property 'revenu'"),
        ({"algorithm": "kmean"}, "'kmeans'"),
        ({"algorithm": "markov", "preparation": "[log]"}, "takes no `preparation`"),
        ({"k": "[3, 4]", "names": "[a, b, c]"}, "need one k"),
    ],
)
def test_mistakes_of_clusters_as_well(tmp_path, keys, words):
    with pytest.raises(DefinitionError, match=words):
        study(tmp_path, kind="clusters", predicts=None, **keys)


def test_an_unknown_study_is_named_with_the_nearest(tmp_path):
    with pytest.raises(StudyError, match="did you mean 'buys_7d'"):
        studies.named(read(tmp_path, FILES["studies.yaml"]), "buy_7d")


def test_a_study_written_in_python_is_checked_alike():
    name, spec = studies.one({"name": "buys", "kind": "clusters", "k": [3, 5]})
    assert (name, spec.k) == ("buys", (3, 5))
    with pytest.raises(DefinitionError, match="unknown kind 'cluster'"):
        studies.one({"name": "buys", "kind": "cluster"})
