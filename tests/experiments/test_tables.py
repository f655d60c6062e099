"""Studies of files: columns as they come, splits, leaks, and figures that a known model confirms."""

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_iris
from typer.testing import CliRunner

from console.cli import app
from experiments.propensities import DEFAULT
from experiments.result import MODEL, StudyResult
from experiments.search import Found, Tried
from experiments.study import Study
from experiments.tables import Split, copies, parted, rows_of
from features.errors import DefinitionError, StudyError
from tests.experiments import projects
from tests.real_data import SHOPPERS
from training.model import Model
from training.parts import TEST
from training.validation import Ranking


def frame(n: int = 600, *, seed: int = 3) -> pl.DataFrame:
    """Buyers depend on visits and on the channel; `noise` is none of their business; `paid` knows the answer."""
    random = np.random.default_rng(seed)
    visits, channel = random.poisson(3, n), random.choice(["mail", "shop", "web"], n)
    p = 1 / (1 + np.exp(2.5 - 0.7 * visits + 1.5 * (channel == "mail")))
    bought = random.random(n) < p
    return pl.DataFrame(
        {
            "visits": visits,
            "channel": channel,
            "noise": random.normal(size=n),
            "note": [f"note {k}" for k in range(n)],
            "day": random.integers(1, 30, n),
            "who": random.choice([f"u{k}" for k in range(n // 3)], n),
            "paid": np.where(bought, random.gamma(3.0, 10.0, n), 0.0),
            "bought": np.where(bought, "Yes", "No"),
        }
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "visits.csv"
    frame().write_csv(path, separator=";")
    return path


def asked(file: Path, **options: object) -> StudyResult:
    table = {"kind": "table", "file": file.name, "label": "bought", "search": {"trials": 1}, **options}
    return Study.from_dict(table).answer(file)


def test_numbers_categories_and_texts_are_told_apart(file: Path) -> None:
    rows = rows_of(file, "bought", leave_out=["paid"])
    assert rows.matrix.names == ("visits", "channel", "noise", "day")
    assert rows.provenance["categories"] == {"channel": ["mail", "shop", "web"]}
    assert rows.provenance["notes"] == [
        "note: left out, 600 different texts",
        "who: left out, 189 different texts",
    ]
    assert rows.provenance["label"] == "bought = Yes"


def test_every_row_is_judged_once_and_people_stay_together(file: Path) -> None:
    split = Split(user="who")
    rows = rows_of(file, "bought", split=split, leave_out=["paid"])
    parts = list(parted(rows, split, seed=1))
    judged = [np.flatnonzero(each.parts == TEST) for each in parts]
    assert sorted(np.concatenate(judged).tolist()) == list(range(600))
    for each in parts:
        users = [set(part.matrix.users) for part in each.split_by_time()]
        assert all(users)
        assert not users[0] & users[1] | users[0] & users[2] | users[1] & users[2]


def test_a_split_by_time_or_by_value_judges_what_it_says(file: Path) -> None:
    days = frame()["day"].to_numpy()
    newest = Split(by="time", column="day")
    (rows,) = parted(rows_of(file, "bought", split=newest), newest, seed=1)
    assert days[rows.parts < TEST].max() < days[rows.parts == TEST].min()
    mail = Split(by="column", column="channel", test=("mail",))
    (rows,) = parted(rows_of(file, "bought", split=mail), mail, seed=1)
    assert set(frame()["channel"].to_numpy()[rows.parts == TEST]) == {"mail"}


def test_a_column_that_knows_the_answer_is_refused_or_left_out_and_weighed(file: Path) -> None:
    with pytest.raises(StudyError, match=r"the column 'paid' alone has a ROC-AUC of 1\.000"):
        asked(file, split={"folds": 2}, leave_out=["noise"])
    found = asked(file, split={"folds": 2}, leave_out=["noise"], known_later=["paid"])
    worth = found.known_later["paid"]
    assert worth["roc_auc_with"] > 0.99 > 0.9 > worth["roc_auc_without"] > 0.7
    assert "leak: paid is not known when predicting" in str(found)


def test_oversampling_before_the_split_is_refused(tmp_path: Path) -> None:
    plain = frame().drop("paid")
    buyers = plain.filter(pl.col("bought") == "Yes")
    file = tmp_path / "more.parquet"
    pl.concat([plain, buyers, buyers]).write_parquet(file)
    assert copies(rows_of(file, "bought")) == (1.0, 0.0)
    with pytest.raises(StudyError, match="oversampled before the split"):
        asked(file, split={"folds": 2})


def test_means_over_seeds_and_intervals_are_those_of_the_judged_rows(file: Path) -> None:
    found = asked(file, leave_out=["paid"], split={"folds": 3}, search={"trials": 2}, seeds=2)
    assert set(found.spread) == set(found.figures) == {MODEL, "logistic regression", "random forest", "rule"}
    area = found.spread[MODEL]["roc_auc"]
    assert 0.7 < area["mean"] < 0.9
    assert 0 < area["sd"] < 0.05
    figures = found.figures["logistic regression"]
    assert figures["n_rows"] == 600
    assert figures["roc_auc"]["low"] < figures["roc_auc"]["value"] < figures["roc_auc"]["high"]


def test_which_of_several_is_asked_where_the_label_has_several_values(file: Path) -> None:
    """Mail never brings many visits here: the visits tell the channel a little, and `paid` nothing of it."""
    frame().with_columns(visits=pl.col("visits") + 2 * (pl.col("channel") == "mail")).write_csv(file)
    found = asked(file, label="channel", leave_out=["paid"], split={"folds": 2})
    assert found.figures[MODEL]["roc_auc"]["value"] > 0.6
    assert found.training_set["classes"] == ["mail", "shop", "web"]
    assert "mail: taken for" in str(found)


def test_the_class_that_costs_least_is_told_and_not_the_most_probable(file: Path) -> None:
    plain = asked(file, label="channel", leave_out=["paid"], split={"folds": 2})
    dear = {"mail": {"shop": 9, "web": 9}, "shop": {"web": 0}}
    found = asked(file, label="channel", leave_out=["paid"], split={"folds": 2}, costs=dear)
    assert found.figures[MODEL] == plain.figures[MODEL]  # probabilities stay as they are
    taken = {name: [int(n) for n in re.findall(r"(\d+) \w+", line)] for name, line in _taken(found)}
    for name, counts in taken.items():
        assert counts[0] > 0.9 * sum(counts), name  # what is taken for mail is never dear
    (line,) = [each for each in found.lines if each.startswith("told by cost")]
    ours, likely = (float(number) for number in re.findall(r"\d+\.\d+", line))
    assert ours < 0.5 * likely
    costs = [[0, 9, 9], [1, 0, 0], [1, 1, 0]]
    rows = list(taken.values())
    total = sum(n * cost for row, of in zip(rows, costs, strict=True) for n, cost in zip(row, of, strict=True))
    assert ours == pytest.approx(total / 600, rel=1e-3)
    for wrong, message in (
        ({"label": "channel", "costs": {"mal": {"web": 2}}}, "no class 'mal'. Hint: did you mean 'mail'"),
        ({"costs": {"Yes": {"No": 2}}}, "this one asks yes or no"),
    ):
        with pytest.raises(StudyError, match=re.escape(message)):
            asked(file, leave_out=["paid"], split={"folds": 2}, **wrong)


def _taken(found: StudyResult) -> list[tuple[str, str]]:
    return [(line.split(":")[0].strip(), line.split("taken for")[1]) for line in found.lines if "taken for" in line]


def test_a_sensitive_attribute_is_judged_by_and_not_learned_from(file: Path) -> None:
    found = asked(file, leave_out=["paid"], split={"folds": 2}, sensitive=["channel"])
    parts = {each["name"]: each for each in found.slices}
    assert set(parts) == {"channel = mail", "channel = shop", "channel = web"}
    assert parts["channel = mail"]["happened"] < parts["channel = web"]["happened"] - 0.15
    assert abs(parts["channel = mail"]["predicted"] - parts["channel = web"]["predicted"]) < 0.1
    assert all(each["sensitive"] and each["caught"] > each["wrongly"] for each in parts.values())


def test_a_monotone_probability_rises_and_noise_is_not_selected(file: Path) -> None:
    """`visits` moves the truth up; `noise` and `day` are none of its business."""
    spec = {"kind": "table", "file": "visits.csv", "label": "bought", "monotone": {"visits": "rises"}}
    study = Study.from_dict({**spec, "select": {"share": 0.6, "halves": 6}, "balanced": True, "calibration": "platt"})
    rows, found = rows_of(file, "bought", leave_out=["paid"]), []
    given = Found.of([Tried(0, "complete", DEFAULT, {"value": 0.0, "rounds": 30}, 0.0)], "minimize", 0)
    fitted = study.fit(rows, lambda *_, **__: found.append(1) or given)
    model = fitted.model
    assert len(found) == 6  # for the model and every fold
    assert "visits" in model.preparation.names
    assert "noise" not in model.preparation.names
    columns = {name: np.full(12, 1.0) for name in model.preparation.names} | {"visits": np.arange(12.0)}
    said = model.score_values(np.column_stack([columns[name] for name in model.preparation.names])).probability
    assert (np.diff(said) >= 0).all()
    assert said[-1] > said[0] + 0.2
    assert fitted.figures[MODEL]["calibration_error"].value < 0.05


def test_the_command_line_needs_no_project(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    table = ["study", "run", "--table", str(file), "--label", "bought", "--trials", "1"]
    done = CliRunner().invoke(app, [*table, "--leave-out", "paid", "--json"])
    assert done.exit_code == 0, done.output
    answered = json.loads(done.stdout)
    assert answered["spread"][MODEL]["roc_auc"]["mean"] > 0.7
    assert answered["metrics"]["test_rows"] == 600
    assert CliRunner().invoke(app, [*table, "--engine", "spark"]).exit_code == 2


def iris(file: Path, *, change: np.ndarray | None = None, drawn: np.ndarray | None = None) -> Path:
    """The 150 flowers as a file, some drawn again, or with other petal widths."""
    data = load_iris()
    x = data.data + (0 if change is None else np.outer(change, [0, 0, 0, 1]))
    columns = dict(zip(("sepal_length", "sepal_width", "petal_length", "petal_width"), x.T, strict=True))
    flowers = pl.DataFrame({**columns, "species": data.target_names[data.target]})
    (flowers if drawn is None else flowers[drawn]).write_csv(file)
    return file


def ran(*words: str) -> dict:
    done = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


IRIS = ["--label", "species", "--algorithm", "kmeans", "--prepare", "none"]


def test_iris_gives_the_published_figures_through_the_command_line(tmp_path: Path) -> None:
    found = ran("study", "run", "--table", str(iris(tmp_path / "iris.csv")), *IRIS, "--k", "3")
    published = {"inertia": "78.8514", "silhouette": "0.5528", "davies_bouldin": "0.6620", "dunn": "0.09881"}
    published |= {"calinski_harabasz": "561.63", "adjusted_rand": "0.7302"}
    digits = {name: len(text.partition(".")[2]) for name, text in published.items()}
    assert {name: f"{found['metrics'][name]:.{digits[name]}f}" for name in published} == published
    assert found["verdict"].startswith("3 clusters: silhouette 0.5528, without structure")
    for text in published.values():
        assert text in " ".join([found["verdict"], str(found["lines"])])


def test_what_a_study_of_clusters_says_is_read_again_as_it_was_and_keys_of_the_other_kind_are_refused() -> None:
    for said in ({"k": [2, 3]}, {"k": [2, 3], "file": "iris.csv", "label": "species", "leave_out": ["id"]}):
        study = Study.from_dict({"name": "kinds", "kind": "clusters", **said})
        written = study.spec.model_dump(mode="json", exclude_none=True)
        assert Study.from_dict({"name": "kinds", **written}).spec == study.spec
    with pytest.raises(DefinitionError, match="'leave_out' is of the rows of a `file`"):
        Study.from_dict({"kind": "clusters", "leave_out": ["id"]})
    with pytest.raises(DefinitionError, match="'population' is of the log"):
        Study.from_dict({"kind": "clusters", "file": "iris.csv", "population": {"did": "bought"}})


def test_permuted_columns_of_a_file_are_no_clusters(tmp_path: Path) -> None:
    random, flowers = np.random.default_rng(1), pl.read_csv(iris(tmp_path / "iris.csv"))
    file = tmp_path / "permuted.csv"
    pl.DataFrame({name: random.permutation(flowers[name].to_numpy()) for name in flowers.columns}).write_csv(file)
    found = ran("study", "run", "--table", str(file), *IRIS, "--k", "2-5")
    assert found["verdict"].startswith("no clusters here: silhouette 0.")
    assert found["version"] is None


@pytest.mark.integration
def test_a_file_of_flowers_drawn_again_keeps_every_id_and_a_split_makes_one(tmp_path: Path) -> None:
    shop, random = tmp_path / "shop", np.random.default_rng(5)
    shop.mkdir()
    declared = "  kinds: {kind: clusters, file: iris.csv, label: species, k: [3, 3], preparation: []}\n"
    for name, text in projects.FILES.items():
        (shop / name).write_text(text if name != "studies.yaml" else f"version: 1\nstudies:\n{declared}")
    seen = []
    for drawn, change in ((np.arange(150), None), (random.integers(0, 150, 150), None), (None, np.arange(150) < 20)):
        if change is not None:  # twenty of the fifty setosas have wide petals now
            (shop / "studies.yaml").write_text(f"version: 1\nstudies:\n{declared.replace('[3, 3]', '[4, 4]')}")
        iris(shop / "iris.csv", drawn=drawn, change=None if change is None else 3.0 * change)
        found = ran("study", "run", "kinds", "-C", str(shop))
        model = Model.load(found["folder"], verify=True)
        seen.append((dict(zip(model.ids, model.names, strict=True)), found["lines"]))
    (first, _), (again, _), (split, told) = seen
    assert first == again
    assert set(first) == {1, 2, 3}
    assert set(split) == {1, 2, 3, 4}
    assert {id_: split[id_] for id_ in first} == first
    assert ran("study", "rerun", found["run_id"], "-C", str(shop))["holds"]
    (line,) = [each for each in told if each.startswith("since the model before")]
    assert "was split into" in line


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        ("bougt", {}, "has no column 'bougt'. Hint: did you mean 'bought'"),
        ("note", {}, "has 600 values: 'note 0', 'note 1', 'note 10'"),
        ("channel", {"positive": "mal"}, "no row has channel = 'mal'. Hint: did you mean 'mail'"),
        ("bought", {"split": Split(by="column", column="channel", test=("mal",))}, "no row has channel = 'mal'"),
        ("bought", {"split": Split(by="time", column="channel")}, "'channel' is no time"),
    ],
)
def test_a_mistake_names_the_way_out(file: Path, label: str, options: dict, message: str) -> None:
    with pytest.raises(StudyError) as error:
        rows_of(file, label, **options)
    assert message in str(error.value)


def test_a_split_by_time_says_that_it_needs_a_column(file: Path) -> None:
    with pytest.raises(DefinitionError, match="a split by time needs a `column`"):
        asked(file, split={"by": "time"})


def shoppers(**options: object) -> StudyResult:
    if not SHOPPERS.exists():  # data are never part of the repository: a clone alone has nothing to run this on
        pytest.skip("ETHOGRAM_DATA does not point to the real data sets")
    return asked(SHOPPERS, label="Revenue", **options)


@pytest.mark.integration
def test_online_shoppers_gives_what_an_honest_study_gives() -> None:
    """Untuned models give 0.9315-0.9332, 0.747-0.753 and 0.0684-0.0691 over seeds."""
    found = shoppers(search={"trials": 8}, seeds=5).spread[MODEL]
    assert found["roc_auc"]["mean"] >= 0.931
    assert found["average_precision"]["mean"] >= 0.748
    assert found["brier"]["mean"] <= 0.0692


@pytest.mark.integration
def test_online_shoppers_of_the_last_months_are_another_matter_and_it_says_so() -> None:
    found = shoppers(split={"by": "column", "column": "Month", "test": ["Nov", "Dec"]}, search={"trials": 8})
    assert 0.82 <= found.figures[MODEL]["roc_auc"]["value"] <= 0.85
    assert found.refused[-1].startswith("it does not last: ROC-AUC 0.9")


@pytest.mark.integration
def test_two_workers_find_what_one_would_have_found_worth_finding(file: Path) -> None:
    table = {"kind": "table", "file": file.name, "label": "bought", "leave_out": ["paid"], "search": {"trials": 12}}
    study = Study.from_dict({**table, "split": {"by": "time", "column": "day"}})
    one, two = study.answer(file), study.answer(file, workers=2)
    assert (one.trials, two.trials) == (12, 12)
    assert two.metrics["validation_log_loss"] == pytest.approx(one.metrics["validation_log_loss"], abs=0.02)


@pytest.mark.integration
def test_page_values_are_a_leak_where_they_are_not_known_yet() -> None:
    worth = shoppers(search={"trials": 4}, known_later=["PageValues"]).known_later["PageValues"]
    assert worth["roc_auc_with"] > 0.92 > 0.80 > worth["roc_auc_without"]


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    y, p = np.array([0.0, 1, 0, 1]), np.array([0.1, 0.4, 0.4, 0.8])
    assert Ranking.of(y, p).metrics(np.ones((1, 4)))["roc_auc"][0] == pytest.approx(3.5 / 4)
