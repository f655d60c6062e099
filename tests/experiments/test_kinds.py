"""A clustering study's fit over prepared columns, by every algorithm: found, chosen, judged, served."""

import json
from itertools import count
from pathlib import Path
from shutil import copytree

import numpy as np
import polars as pl
import pytest
from ruamel.yaml import YAML
from sklearn.metrics import adjusted_rand_score
from typer.testing import CliRunner

from console.cli import app
from experiments import kinds, studies
from experiments.search import search
from experiments.study import Study, store
from features.errors import DefinitionError, StudyError
from features.project import Project
from tests.training.matrices import matrix
from tests.training.test_algorithms import walks
from training.model import Model
from training.training_set import TrainingSet

NAMES = ("count_a_7d", "count_b_7d", "recency_a_s")


def rows(x, names=NAMES):
    return TrainingSet(matrix(x, names, at=np.full(len(x), 1)), None, np.zeros(len(x), np.int8), {})


def planted(n=600, seed=1):
    """Three kinds of people, the first the largest."""
    random = np.random.default_rng(seed)
    kind = np.repeat([0, 1, 2], [n // 2, n // 3, n - n // 2 - n // 3])
    centres = np.array([[2.0, 2, 2], [20, 2, 8], [2, 30, 30]])
    return random.gamma(20, centres[kind] / 20), kind


def spec(algorithm, **more):
    return studies.one({"kind": "clusters", "algorithm": algorithm, "k": [2, 5], **more})[1]


@pytest.fixture
def searcher(tmp_path):
    """Searches of six trials."""
    number = count()

    def call(objective, space, *, direction, first=(), most=6):
        file = tmp_path / f"{next(number)}.journal"
        return search(objective, space, storage=file, name="s", trials=most, seed=1, direction=direction, first=first)

    return call


@pytest.mark.parametrize("algorithm", ["kmeans", "ward", "dbscan", "hdbscan", "gaussian"])
def test_every_algorithm_finds_the_kinds_says_why_and_is_served(algorithm, searcher, tmp_path):
    x, _ = planted()
    data = rows(x)
    fitted = kinds.clusters("c", spec(algorithm), data, searcher)
    assert fitted.sound, fitted.verdict
    assert fitted.verdict.startswith("3 clusters: silhouette 0.")
    read = Model.load(store(tmp_path / "models", fitted, data, seed=1), verify=True)
    fresh, wanted = planted(seed=2)
    scores = read.score(rows(fresh).matrix)
    assert adjusted_rand_score(wanted, scores.cluster) > 0.98
    one = read.score_values(fresh[7:8])
    assert (one.cluster[0], one.confidence[0]) == (scores.cluster[7], scores.confidence[7])
    assert one.row(0)["confidence"] == scores.confidence[7]
    assert np.array_equal(one.distances[0], scores.distances[7])
    text = "\n".join(fitted.lines)
    assert "found again" in text
    assert "* 3 clusters" in text
    assert ("cannot place others" in text) == (algorithm in ("ward", "dbscan", "hdbscan"))
    assert fitted.metrics["fidelity"] > 0.97
    assert fitted.metrics["confidence"] > 0.6
    if algorithm in ("ward", "dbscan"):
        drawn = {path.name for path in fitted.draw(tmp_path / "report")}
        every = {"front.png", "silhouette.png", "elbow.png", "sizes.png", "profiles.png"}
        assert drawn - every == ({"gap.png", "dendrogram.png"} if algorithm == "ward" else set())


@pytest.mark.parametrize("algorithm", ["kmeans", "gaussian"])
def test_a_refit_on_resampled_people_keeps_every_id_and_name(algorithm, searcher):
    x, _ = planted()
    before = kinds.clusters("c", spec(algorithm), rows(x), searcher).model
    drawn = np.random.default_rng(3).integers(0, len(x), len(x))
    again = kinds.clusters("c", spec(algorithm), rows(x[drawn]), searcher, before=before)
    assert dict(zip(again.model.ids, again.model.names, strict=True)) == dict(
        zip(before.ids, before.names, strict=True)
    )
    assert again.model.details["next_id"] == 4
    assert not any("since the model before" in line for line in again.lines)


def test_a_planted_split_keeps_one_id_and_makes_one(searcher):
    x, kind = planted()
    before = kinds.clusters("c", spec("kmeans"), rows(x), searcher).model
    old = before.ids[int(np.bincount(before.score_values(x[kind == 0]).cluster).argmax())]
    x[kind == 0, 2] *= np.where(np.arange((kind == 0).sum()) % 5 < 3, 0.05, 4)
    after = kinds.clusters("c", spec("kmeans"), rows(x), searcher, before=before)
    assert sorted(after.model.ids) == [1, 2, 3, 4]
    assert f"since the model before: {old} was split into " in "\n".join(after.lines)


def test_a_mixture_of_chains_reads_moves_as_they_are(searcher, tmp_path):
    moves, kind = walks()
    names = tuple(
        f"moves_{one}_{other}_30d" for one in ("view", "add_cart", "buy") for other in ("view", "add_cart", "buy")
    )
    data = rows(np.column_stack([moves, np.arange(len(moves))]), (*names, "recency_any_s"))
    fitted = kinds.clusters("c", spec("markov", k=[2, 4]), data, searcher)
    assert fitted.verdict.startswith("2 clusters")
    assert adjusted_rand_score(kind, fitted.model.score(data.matrix).cluster) > 0.99
    assert Model.load(store(tmp_path / "models", fitted, data, seed=1), verify=True).head.factors.shape == (2, 1, 9)
    with pytest.raises(StudyError, match="every kind's moves to every kind"):
        kinds.clusters("c", spec("markov", features=list(names[:4])), data, searcher)
    with pytest.raises(DefinitionError, match="takes no `preparation`"):
        spec("markov", preparation=["log"])


@pytest.mark.parametrize("algorithm", ["kmeans", "ward"])
def test_permuted_columns_give_no_clusters_and_no_model_to_keep(algorithm, searcher):
    x, _ = planted()
    random = np.random.default_rng(4)
    shuffled = np.column_stack([random.permutation(random.normal(size=len(x))) for _ in range(4)])
    fitted = kinds.clusters("c", spec(algorithm), rows(shuffled, ("a", "b", "c", "d")), searcher)
    assert not fitted.sound
    assert fitted.verdict.startswith("no clusters here: silhouette 0.")


def test_a_handful_of_outliers_is_no_cluster_to_act_on_however_well_it_stands_apart(searcher):
    x, _ = planted()
    x[:4] *= 1000
    fitted = kinds.clusters(
        "c", spec("kmeans", preparation=["standardise"], k=[2, 2], smallest_share=0), rows(x), searcher
    )
    assert fitted.metrics["silhouette"] > 0.9
    with pytest.raises(
        StudyError, match=r"no trial gives 2 to 2 clusters of at least 2%.*2 clusters, the smallest 0\.67%"
    ):
        kinds.clusters("c", spec("kmeans", preparation=["standardise"], k=[2, 2]), rows(x), searcher)


def test_clusters_are_sought_among_the_rows_that_a_filter_keeps_and_named_after_prepared_columns(searcher, tmp_path):
    x, _ = planted()
    x[:30, 1] = 5000.0
    steps = [{"iqr": {"k": 100, "columns": ["count_b_7d"]}}, "standardise", {"pca": {"components": 2}}]
    data = rows(x)
    fitted = kinds.clusters("c", spec("kmeans", preparation=steps), data, searcher)
    assert fitted.lines[0] == "iqr: fitted on 95.0% of the rows"
    assert fitted.lines[1].startswith("pca: 2 of 3 columns keep ")
    assert all("pca#" in name or name == "near the average" for name in fitted.model.names)
    read = Model.load(store(tmp_path / "models", fitted, data, seed=1), verify=True)
    assert len(read.score(data.matrix).cluster) == len(data)
    assert np.array(read.details["shares"]).sum() == pytest.approx(1)


SHOP = Path(__file__).parent.parent.parent / "examples" / "shop"
SEED = 9307
"""Nothing was tuned on it."""
SESSIONS = ["page_viewed", "products_searched", "product_list_viewed", "product_clicked", "product_viewed"]
SESSIONS += ["video_played", "scrolled", "cart_viewed", "product_removed", "coupon_applied"]


def ran(*words):
    answer = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    return json.loads(answer.stdout)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Two months of a simulated shop, and who is of which planted type."""
    root = tmp_path_factory.mktemp("types")
    ran("simulate", str(root / "data"), "--users", "1500", "--days", "60", "--seed", str(SEED), "--format", "parquet")
    copytree(SHOP, root / "shop")
    moves = "  - {moves: [" + ", ".join(SESSIONS) + "], windows: [90d]}\n"
    declared = (SHOP / "features.yaml").read_text().replace("\ninputs:\n", f"\n{moves}inputs:\n")
    (root / "shop" / "features.yaml").write_text(declared)
    for file in sorted((root / "data" / "events").iterdir()):
        ran("ingest", str(file), "-C", str(root / "shop"))
    people = pl.read_parquet(root / "data" / "truth" / "truth.parquet")
    return Project.find(root / "shop"), dict(people.select("user", "type").iter_rows())


@pytest.mark.integration
@pytest.mark.parametrize(
    ("algorithm", "least"),
    [("kmeans", 0.9), ("ward", 0.9), ("gaussian", 0.9), ("dbscan", 0.8), ("hdbscan", 0.8), ("markov", 0.8)],
)
def test_the_simulators_types_are_found_on_a_seed_that_nobody_tuned_on(shop, algorithm, least):
    project, types = shop
    declared = YAML(typ="safe").load((SHOP / "studies.yaml").read_text())["studies"]["behaviour"]
    declared = {**declared, "name": f"types_{algorithm}", "algorithm": algorithm, "search": {"trials": 20, "seed": 7}}
    if algorithm == "markov":
        declared = {name: said for name, said in declared.items() if name not in ("features", "preparation")}
    study = Study.from_dict(declared)
    result, data = study.run(project), study.rows(project)
    found = Model.load(result.folder).score(data.matrix).cluster
    agreement = adjusted_rand_score([types[user] for user in data.matrix.users], found)
    assert agreement >= least
    ids = range(1, int(result.metrics["k"]) + 1)
    assert all(
        result.metrics[f"cluster_{id_}_{what}"] >= 0 for id_ in ids for what in ("converted", "came_back", "value")
    )
