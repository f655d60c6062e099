"""Studies of files: columns as they come, splits, leaks, and figures that a known model confirms."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from console.cli import app
from experiments.tables import MODEL, Split, Table, copies, parts, study
from features.errors import StudyError
from training.validation import Ranking

SHOPPERS = Path(os.environ.get("ETHOGRAM_DATA", "data")) / "online_shoppers" / "online_shoppers_intention.csv"


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


def test_numbers_categories_and_texts_are_told_apart(file: Path) -> None:
    table = Table.read(file, "bought", leave_out=["paid"])
    assert table.rows.matrix.names == ("visits", "channel", "noise", "day")
    assert table.categories == ("channel",)
    assert table.notes == ("note: left out, 600 different texts", "who: left out, 189 different texts")
    assert table.rows.provenance["label"] == "bought = Yes"


def test_every_row_is_judged_once_and_people_stay_together(file: Path) -> None:
    split = Split(user="who")
    table = Table.read(file, "bought", split=split, leave_out=["paid"])
    judged = [test for _, test in parts(table, split, seed=1)]
    assert sorted(np.concatenate(judged).tolist()) == list(range(600))
    users = table.rows.matrix.users
    for train, test in parts(table, split, seed=1):
        assert not set(users[train]) & set(users[test])


def test_a_split_by_time_or_by_value_judges_what_it_says(file: Path) -> None:
    days = frame()["day"].to_numpy()
    ((train, test),) = parts(Table.read(file, "bought", split=(newest := Split("time", "day"))), newest, seed=1)
    assert days[train].max() < days[test].min()
    ((train, test),) = parts(
        Table.read(file, "bought", split=(mail := Split("column", "channel", ("mail",)))), mail, seed=1
    )
    assert set(frame()["channel"].to_numpy()[test]) == {"mail"}


def test_a_column_that_knows_the_answer_is_refused_or_left_out_and_weighed(file: Path) -> None:
    table = Table.read(file, "bought", leave_out=["noise"])
    with pytest.raises(StudyError, match=r"the column 'paid' alone has a ROC-AUC of 1\.000"):
        study(table, Split(n=2), trials=1)
    found = study(table, Split(n=2), trials=1, known_later=["paid"])
    worth = found.known_later["paid"]
    assert worth["roc_auc_with"] > 0.99 > 0.9 > worth["roc_auc_without"] > 0.7
    assert "leak: paid is not known when predicting" in str(found)


def test_oversampling_before_the_split_is_refused(tmp_path: Path) -> None:
    plain = frame().drop("paid")
    buyers = plain.filter(pl.col("bought") == "Yes")
    pl.concat([plain, buyers, buyers]).write_parquet(tmp_path / "more.parquet")
    table = Table.read(tmp_path / "more.parquet", "bought")
    assert copies(table.rows) == (1.0, 0.0)
    with pytest.raises(StudyError, match="oversampled before the split"):
        study(table, Split(n=2), trials=1)


def test_means_over_seeds_and_intervals_are_those_of_the_judged_rows(file: Path) -> None:
    table = Table.read(file, "bought", leave_out=["paid"])
    found = study(table, Split(n=3), trials=2, seeds=2)
    assert set(found.metrics) == {MODEL, "logistic regression", "random forest", "rule"}
    mean, sd = found.metrics[MODEL]["roc_auc"]
    assert 0.7 < mean < 0.9
    assert 0 < sd < 0.05
    figures = found.figures["logistic regression"]
    assert figures.n_rows == 600
    assert figures["roc_auc"].low < figures["roc_auc"].value < figures["roc_auc"].high


def test_the_command_line_needs_no_project(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [
        "study",
        "run",
        "--table",
        str(file),
        "--label",
        "bought",
        "--leave-out",
        "paid",
        "--trials",
        "1",
        "--json",
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    answered = json.loads(done.stdout)
    assert answered["metrics"][MODEL]["roc_auc"]["mean"] > 0.7
    assert answered["n_rows"] == 600


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        ("bougt", {}, "has no column 'bougt'. Hint: did you mean 'bought'"),
        ("channel", {}, "has 3 values: 'mail', 'shop', 'web'. Hint: --positive VALUE"),
        ("channel", {"positive": "mal"}, "no row has channel = 'mal'. Hint: did you mean 'mail'"),
        ("bought", {"split": Split("column", "channel", ("mal",))}, "no row has channel = 'mal'"),
        ("bought", {"split": Split("time")}, "--split time needs a column"),
        ("bought", {"split": Split("time", "channel")}, "'channel' is no time"),
    ],
)
def test_a_mistake_names_the_way_out(file: Path, label: str, options: dict, message: str) -> None:
    with pytest.raises(StudyError) as error:
        Table.read(file, label, **options)
    assert message in str(error.value)


@pytest.mark.integration
@pytest.mark.skipif(not SHOPPERS.exists(), reason="ETHOGRAM_DATA does not point to the real data sets")
def test_online_shoppers_gives_what_an_honest_study_gives() -> None:
    """Untuned models give 0.9315-0.9332, 0.747-0.753 and 0.0684-0.0691 over seeds."""
    table = Table.read(SHOPPERS, "Revenue")
    found = study(table, Split(), trials=8, seeds=5)
    assert found.metrics[MODEL]["roc_auc"][0] >= 0.931
    assert found.metrics[MODEL]["average_precision"][0] >= 0.748
    assert found.metrics[MODEL]["brier"][0] <= 0.0692


@pytest.mark.integration
@pytest.mark.skipif(not SHOPPERS.exists(), reason="ETHOGRAM_DATA does not point to the real data sets")
def test_online_shoppers_of_the_last_months_are_another_matter() -> None:
    split = Split("column", "Month", ("Nov", "Dec"))
    found = study(Table.read(SHOPPERS, "Revenue", split=split), split, trials=8)
    assert 0.82 <= found.metrics[MODEL]["roc_auc"][0] <= 0.85


@pytest.mark.integration
@pytest.mark.skipif(not SHOPPERS.exists(), reason="ETHOGRAM_DATA does not point to the real data sets")
def test_page_values_are_a_leak_where_they_are_not_known_yet() -> None:
    found = study(Table.read(SHOPPERS, "Revenue"), Split(), trials=4, known_later=["PageValues"])
    worth = found.known_later["PageValues"]
    assert worth["roc_auc_with"] > 0.92 > 0.80 > worth["roc_auc_without"]


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    y, p = np.array([0.0, 1, 0, 1]), np.array([0.1, 0.4, 0.4, 0.8])
    assert Ranking.of(y, p).metrics(np.ones((1, 4)))["roc_auc"][0] == pytest.approx(3.5 / 4)
