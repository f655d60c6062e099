"""A real shop through the command line: the published cleaning, clusters and "buys again in the next three months".

The figures to reproduce are those of the data set's own literature and of plain scikit-learn on the same rows.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console.passing import served
from experiments.propensities import Asked
from experiments.study import Study
from experiments.tables import Split, parted
from features.behaviour.feature_set import FeatureSet
from features.events.log import EventLog
from features.instants import parse_instant
from features.project import Project
from training.bundle import Bundle, current
from training.training_set import TrainingSet
from training.validation import Estimate, judge

EXAMPLE = Path(__file__).parent.parent / "examples" / "online_retail"
DATA = Path(os.environ.get("ETHOGRAM_DATA", "data")) / "online_retail" / "online_retail.csv.gz"
RFM = ("recency_sale_s", "distinct_sale_invoice_400d", "sum_sale_revenue_400d")
FIVE = (*RFM, "tenure_sale_s", "count_sale_400d")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        not DATA.exists(), reason=f"{DATA} is not here; set ETHOGRAM_DATA to the folder of real data sets"
    ),
]


def ethogram(*words: str, project: Path) -> dict[str, Any]:
    """The document that a command prints."""
    command = [sys.executable, "-m", "console.cli", *words, "-C", str(project), "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=EXAMPLE.parent.parent)
    assert answer.returncode == 0, answer.stderr[-2000:]
    return dict(json.loads(answer.stdout))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, ingested."""
    folder = tmp_path_factory.mktemp("shop") / "online_retail"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".ethogram", "reports", "plan.lock"))
    total = ethogram("ingest", str(DATA), "--mapping", str(folder / "mapping.yaml"), project=folder)["total"]
    assert total["rows"] == 541_909
    return folder


@pytest.fixture(scope="module")
def again(shop: Path) -> dict[str, Any]:
    """The study "buys again", protocol A."""
    return ethogram("study", "run", "buys_again", project=shop)


@pytest.fixture(scope="module")
def rfm(shop: Path) -> dict[str, Any]:
    """The study of clusters."""
    return ethogram("study", "run", "rfm", project=shop)


@pytest.fixture(scope="module")
def rows(shop: Path) -> TrainingSet:
    """Customers at the cuts of protocol A."""
    project = Project.find(shop)
    return Study.from_yaml(project, "buys_again").rows(project)


@pytest.fixture(scope="module")
def tests(rows: TrainingSet) -> TrainingSet:
    """Those of its last cut, which protocol B folds."""
    return rows.split_by_time()[2]


def test_the_published_cleaning_gives_its_397884_rows_and_4338_customers(shop: Path) -> None:
    quality = ethogram("quality", project=shop)
    sales = [row for row in quality["inventory"] if row["event"] == "sale" and row["property"] == "-"]
    assert [row["events"] for row in sales] == [397_884]
    assert quality["quarantined"] == {"no_user": 135_080}
    project = Project.find(shop)
    log = EventLog.of(project)
    features = FeatureSet.of(project, log.plan, log.codes)
    matrix = features.compute(log.histories(features.schema), log.span()[1])
    counts = matrix.column("count_sale_400d")
    assert (counts > 0).sum() == 4_338
    assert counts.sum() == 397_884
    assert not matrix.capped.any()


def test_two_clusters_on_standardised_log_rfm_have_the_known_silhouette(rfm: dict[str, Any]) -> None:
    assert rfm["metrics"]["silhouette"] == pytest.approx(0.433, abs=0.005)


def test_protocol_a_reproduces_the_logistic_and_xgboost_is_not_worse(again: dict[str, Any]) -> None:
    """Trained at cuts up to 2011-06-10, tested at 2011-09-10."""
    assert again["training_set"]["cuts"]["test"] == ["2011-09-10T00:00:00Z"]
    figures = {name: each["roc_auc"]["value"] for name, each in again["figures"].items()}
    assert figures["logistic regression"] == pytest.approx(0.735, abs=0.01)
    gap = again["differences"]["logistic regression"]["roc_auc"]
    assert gap["high"] > -0.01, f"XGBoost is worse: {gap}"
    assert gap["value"] > -0.01


def test_protocol_b_five_folds_over_customers_give_the_known_figure(tests: TrainingSet) -> None:
    """Logistic regression on log1p recency, frequency, money, tenure and lines; five seeds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    assert len(tests) == 3_370
    x, figures = tests.matrix.select(FIVE).values, []
    for seed in range(5):
        model = make_pipeline(FunctionTransformer(np.log1p), StandardScaler(), LogisticRegression(max_iter=1000))
        folds = StratifiedKFold(5, shuffle=True, random_state=seed)
        chance = cross_val_predict(model, x, tests.y, cv=folds, method="predict_proba")[:, 1]
        figures.append(roc_auc_score(tests.y, chance))
    assert np.mean(figures) == pytest.approx(0.745, abs=0.005)


def compared(parts: list[TrainingSet], folder: Path) -> tuple[Estimate, Estimate, Estimate]:
    """ROC-AUC of the library, of the five columns, and the difference over the same resamples of customers."""
    found = {}
    for name, names in (("library", parts[0].matrix.names), ("five", FIVE)):
        table = {"kind": "table", "file": "retail.csv", "label": "buys_again"}
        spec = {**table, "calibration": "platt", "search": {"trials": 10}}
        study = Study.from_dict({"name": name, **spec})
        found[name] = Asked(name, study.spec, study.searcher(folder / name)).judged(parts, names, beside=False)
    rows = found["five"].rows
    told = {name: each.predictions["model"] for name, each in found.items()}
    figures = judge(np.asarray(rows.y), told, rows.matrix.users)
    library, five = (figures[name] for name in ("library", "five"))
    return library["roc_auc"], five["roc_auc"], library.minus(five)["roc_auc"]


def test_the_library_beside_the_five_columns_in_both_protocols(
    rows: TrainingSet, tests: TrainingSet, tmp_path: Path
) -> None:
    """Later customers (A) and other customers (B): 43 features and the five that the literature uses."""
    folds = parted(tests, Split(user="customer"), seed=1)
    for protocol, parts in (("a", [rows]), ("b", list(folds))):
        library, five, gap = compared(parts, tmp_path / protocol)
        assert 0.715 < five.value < 0.75, five
        assert library.value > 0.72, library
        assert gap.low < 0.01, gap
        assert gap.high > 0, f"{protocol}: the library is worse: {gap}"


def test_a_customer_of_the_running_bento_is_answered_as_in_batch(
    shop: Path, again: dict[str, Any], rfm: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Service and batch agree on a probability to the bit: one bundle, one kernel, one instant."""
    assert again["version"]
    assert rfm["version"]
    ethogram("promote", project=shop)
    monkeypatch.setenv("BENTOML_HOME", str(shop / ".ethogram" / "bentoml"))
    tag = ethogram("bento", project=shop)["bento"]
    project = Project.find(shop)
    given = {"ETHOGRAM_PROJECT": str(shop), "ETHOGRAM_CLOCK": "2011-12-10T00:00:00Z"}
    with served(tag, log=shop / "service.log", **given) as caller:
        answers = [caller.segments(user) for user in ("17850", "12347", "18287")]
    bundle = Bundle.load(current(project.path("bundles")))
    log = EventLog.of(project)
    for answer in answers:
        assert answer["source"] == "live"
        histories = log.histories(bundle.features.schema, users=[answer["user_id"]])
        scores = bundle.score(histories, parse_instant(answer["as_of"]))
        assert answer["scores"]["buys_again"]["probability"] == scores["buys_again"].probability[0]
        assert answer["scores"]["rfm"]["cluster"] == scores["rfm"].cluster[0]
