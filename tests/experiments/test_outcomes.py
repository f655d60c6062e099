"""Two files compared once: inputs, texts, outcomes; what only labels see."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from console.cli import app
from experiments.outcomes import area, compare_files, expected, expected_of, performance
from features.errors import AnalysisError
from tests.real_data import BIKES, SHOPPERS, needs


def rows(n: int, seed: int, *, meaning: float = 2.0, move: float = 0.0) -> pl.DataFrame:
    """`x` tells the outcome as strongly as `meaning` says; its own distribution moves by `move`."""
    random = np.random.default_rng(seed)
    x = random.normal(move, 1, n)
    y = random.random(n) < 1 / (1 + np.exp(1 - meaning * x))
    told = 1 / (1 + np.exp(1 - 2.0 * x))
    return pl.DataFrame({"x": x, "channel": random.choice(["mail", "web"], n), "y": y, "p": told})


def files(folder: Path, before: pl.DataFrame, after: pl.DataFrame) -> tuple[Path, Path]:
    before.write_csv(folder / "before.csv")
    after.write_parquet(folder / "after.parquet")
    return folder / "before.csv", folder / "after.parquet"


def test_a_meaning_that_changed_is_seen_through_labels_alone(tmp_path: Path) -> None:
    pair = files(tmp_path, rows(3000, 1), rows(1500, 2, meaning=0.3))
    assert "labels" not in {finding.tier for finding in compare_files(*pair, leave_out=["y", "p"]).moved}
    by_prediction = compare_files(*pair, label="y", prediction="p")
    by_forest = compare_files(*pair, label="y", leave_out=["p"])
    for report in (by_prediction, by_forest):
        assert report.verdict == "drift"
        assert "ROC-AUC" in {finding.shift.subject for finding in report.moved}


def test_the_same_meaning_is_no_drift(tmp_path: Path) -> None:
    report = compare_files(*files(tmp_path, rows(3000, 1), rows(1500, 2)), label="y", prediction="p")
    assert report.verdict == "no drift"
    assert {f.shift.subject for f in report.findings if f.tier == "labels"} >= {"ROC-AUC", "Brier score"}


def test_performance_of_equal_worlds_is_rarely_called_different() -> None:
    """Significance is at 1 % before correction: of 24 pairs at most a few, none of them material."""
    alarms = 0
    for seed in range(8):
        a, b = rows(2000, 2 * seed), rows(2000, 2 * seed + 1)
        found = performance(*(side[name].to_numpy().astype(float) for side in (a, b) for name in ("y", "p")))
        assert (len(found[0]), found[1]) == (3, ())
        alarms += sum(finding.moved for finding in found[0])
    assert alarms <= 1


def test_outcomes_that_stay_away_are_news_and_where_too_few_are_expected_it_is_said() -> None:
    """The mean prediction is half on both sides and nobody buys any more: bias moves, and no rank can be told."""
    random = np.random.default_rng(6)
    p = random.choice([0.4, 0.6], 1000)
    y = (random.random(1000) < p).astype(float)
    found, notes = performance(y, p, np.zeros(1000), p)
    assert {finding.shift.subject for finding in found if finding.moved} >= {"mean prediction minus share of positives"}
    assert "ROC-AUC" not in {finding.shift.subject for finding in found}
    assert "ROC-AUC is not judged, a side has 0 rows of one outcome" in notes[0]
    flat = np.full(1000, 0.012)  # twelve are expected: none in a thousand is rare, and may happen
    found, _ = performance(np.zeros(1000), flat, np.zeros(1000), flat)
    assert [finding.moved for finding in found] == [False, False]
    found, notes = performance(y, p, np.zeros(1000), np.full(1000, 0.005))
    assert not found
    assert "outcomes are not judged, 5 rows of one outcome were seen or expected" in notes[0]


def test_calibrated_promises_that_are_rare_are_rarely_called_broken() -> None:
    """Fewer than ten positives come of ten to twenty expected: the errors are those of the probabilities."""
    random, alarms = np.random.default_rng(8), 0
    p = random.beta(1, 60, 1000)
    y = (random.random(20_000) < np.resize(p, 20_000)).astype(float)
    for _ in range(300):
        after = (random.random(1000) < p).astype(float)
        found, _ = performance(y, np.resize(p, 20_000), after, p)
        assert len(found) >= 2
        alarms += any(finding.adjusted < 0.01 for finding in found)
    assert alarms <= 12


def test_nothing_is_called_unhurried_that_outcomes_could_not_judge(tmp_path: Path) -> None:
    before, after = rows(3000, 1), rows(1500, 2).with_columns(channel=pl.lit("web"))
    judged = compare_files(*files(tmp_path, before, after), label="y", prediction="p")
    assert any("no hurry" in action for action in judged.actions)
    unknown = compare_files(*files(tmp_path, before, after), leave_out=["y"], prediction="p")
    assert unknown.verdict == "drift"
    assert "no hurry" not in str(unknown)


def test_a_label_is_an_outcome_and_no_input(tmp_path: Path) -> None:
    """It stands under labels with its share, no classifier is told it, and the note does not deny it."""
    before, after = rows(3000, 1), rows(1500, 2).with_columns(y=pl.col("y") | (pl.int_range(pl.len()) % 2 == 0))
    pair = files(tmp_path, before, after)
    report = compare_files(*pair, label="y", prediction="p")
    told = {(f.tier, f.shift.part) for f in report.findings if f.shift.column == "y"}
    assert told == {("labels", "share")}
    assert {finding.tier for finding in report.moved} == {"labels"}
    (share,) = [finding for finding in report.moved if finding.shift.part == "share"]
    assert (share.shift.before, share.shift.after) == (before["y"].mean(), after["y"].mean())
    assert "no label was looked at" not in str(report)
    assert "no label was looked at" in str(compare_files(*pair, leave_out=["y"], prediction="p"))


@pytest.mark.parametrize(
    "words", [{"prediction": "p"}, pytest.param({"leave_out": ["p"]}, marks=pytest.mark.integration)]
)
def test_outcomes_of_one_user_are_no_independent_news(tmp_path: Path, words: dict[str, Any]) -> None:
    """The last row of each counts, also where a forest learns: further rows of the same people make nothing surer."""
    once = [side.with_columns(user=pl.int_range(pl.len())) for side in (rows(600, 1), rows(300, 2, meaning=1.0))]
    often = [pl.concat([side.with_columns(~pl.col("y"))] * 5 + [side]) for side in once]
    told, same = (
        compare_files(*files(tmp_path, *pair), label="y", user="user", **words).findings for pair in (often, once)
    )
    assert [finding.row() for finding in told] == [finding.row() for finding in same]


def test_many_new_texts_are_news_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    new = pl.format("c{}", pl.int_range(pl.len()) % 70)
    before, after = rows(800, 1), rows(800, 2).with_columns(channel=new, extra=pl.lit(1))
    before, after = (side.with_columns(id=pl.format("u{}", pl.int_range(pl.len()))) for side in (before, after))
    report = compare_files(*files(tmp_path, before, after), leave_out=["y", "p"])
    assert report.moved[0].shift.subject.startswith("share of unknown categories, such as 'c")
    assert report.notes == (
        "id: left out, 800 different texts in the reference",
        "extra: left out, the reference has no such column",
    )


def test_the_error_of_an_area_is_that_of_a_bootstrap() -> None:
    """DeLong's, with ties."""
    random = np.random.default_rng(4)
    y = (random.random(900) < 0.3).astype(float)
    p = np.round(np.clip(random.normal(0.4 + 0.2 * y, 0.2), 0, 1), 1)
    value, error = area(y, p)
    assert value == pytest.approx(roc_auc_score(y, p))
    drawn = [roc_auc_score(y[each], p[each]) for each in (random.integers(0, 900, 900) for _ in range(400))]
    assert error == pytest.approx(np.std(drawn), rel=0.1)


def test_texts_are_compared_as_categories_and_a_new_one_is_news(tmp_path: Path) -> None:
    after = rows(800, 2).with_columns(channel=pl.Series(np.random.default_rng(3).choice(["mail", "app"], 800)))
    report = compare_files(*files(tmp_path, rows(800, 1), after), leave_out=["y", "p"])
    assert {(finding.shift.column, finding.shift.part) for finding in report.moved} == {
        ("channel", "categories"),
        ("channel", "new values"),
    }
    assert report.moved[0].tier == "data quality"
    assert [f.shift.subject for f in report.moved] == ["share of unknown categories, such as 'app'", "share of 'app'"]
    gone = compare_files(*files(tmp_path, rows(800, 1), rows(800, 2).drop("channel")), leave_out=["y", "p"])
    assert gone.verdict == "drift"
    assert gone.absent == ("channel",)


def test_a_number_that_became_a_text_is_a_fault_of_the_pipeline(tmp_path: Path) -> None:
    after = rows(800, 2).with_columns(pl.format("{} EUR", pl.col("x").round(2)).alias("x"))
    report = compare_files(*files(tmp_path, rows(800, 1), after), leave_out=["y", "p"])
    assert (report.verdict, report.absent) == ("drift", ("x",))
    assert report.actions[0].startswith("serve x as a number: it became texts in 800 rows, such as ")
    assert " EUR'" in report.actions[0]
    assert "gone" not in str(report)


def test_performance_without_labels_is_what_true_probabilities_give() -> None:
    """The mean over drawn outcomes; and it is told with its limits."""
    random = np.random.default_rng(3)
    p = np.round(random.beta(1, 4, 1500), 2)
    drawn = [random.random(1500) < p for _ in range(200)]
    told = expected(p)
    assert told["roc_auc"] == pytest.approx(np.mean([roc_auc_score(y, p) for y in drawn]), abs=0.003)
    assert told["brier"] == pytest.approx(np.mean([np.mean((y - p) ** 2) for y in drawn]), abs=0.002)
    assert "a change of meaning is not seen" in expected_of("p", p, p)


def test_the_command_needs_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before, after = map(str, files(tmp_path, rows(800, 1), rows(800, 2, move=1.0)))
    done = CliRunner().invoke(app, ["drift", "compare", before, after, "--label", "y", "--prediction", "p", "--json"])
    document = json.loads(done.stdout)
    assert done.exit_code == 1
    assert document["persistence"] == "not judged"
    assert "x" in {finding["column"] for finding in document["moved"]}
    calm = CliRunner().invoke(app, ["drift", "compare", before, before, "--html", str(tmp_path / "page.html")])
    assert calm.exit_code == 0
    assert "whether it persists was not judged" in calm.stdout
    assert (tmp_path / "page.html").stat().st_size > 500


def test_a_mistake_names_the_way_out(tmp_path: Path) -> None:
    pair = files(tmp_path, rows(200, 1), rows(200, 2))
    with pytest.raises(AnalysisError, match=r"before.csv has no column 'yy'"):
        compare_files(*pair, label="yy")
    with pytest.raises(AnalysisError, match="the prediction 'x' is not a probability"):
        compare_files(*pair, label="y", prediction="x")
    with pytest.raises(AnalysisError, match="the label 'p' is 0 and 1"):
        compare_files(*pair, label="p")
    with pytest.raises(AnalysisError, match="the prediction 'channel' is not a probability"):
        compare_files(*pair, label="y", prediction="channel")
    said = pl.when("y").then(pl.lit("bought")).otherwise(pl.lit("not"))
    pair = files(tmp_path, *(side.with_columns(said.alias("y")) for side in (rows(200, 1), rows(200, 2))))
    with pytest.raises(AnalysisError, match=r"Got \['bought', 'not'\]. Hint: write a column that is 1 where"):
        compare_files(*pair, label="y")
    pair = files(tmp_path, rows(200, 1), rows(200, 2).with_columns(y=pl.when(pl.col("x") < 0).then("y")))
    with pytest.raises(AnalysisError, match=r"missing in \d+ of 200 rows of after.parquet. Hint: leave out"):
        compare_files(*pair, label="y", prediction="p")
    pair = files(tmp_path, rows(200, 1).with_columns(y=pl.lit(0)), rows(200, 2))
    with pytest.raises(AnalysisError, match=r"of 200 rows of the reference 0 have the outcome.*--prediction"):
        compare_files(*pair, label="y", leave_out=["p"])


def compared(pair: tuple[Path, Path], *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and document of `drift compare`."""
    done = CliRunner().invoke(app, ["drift", "compare", *map(str, pair), *words, "--json"])
    return done.exit_code, json.loads(done.stdout)


@pytest.mark.integration
@needs(SHOPPERS)
def test_online_shoppers_alarm_through_labels_in_the_last_months_and_not_in_a_random_half(tmp_path: Path) -> None:
    every = pl.read_csv(SHOPPERS, separator=";", infer_schema_length=None)
    late = every["Month"].is_in(["Nov", "Dec"])
    pair = files(tmp_path, every.filter(~late).drop("Month"), every.filter(late).drop("Month"))
    code, document = compared(pair, "--label", "Revenue")
    (area,) = [finding for finding in document["moved"] if finding["subject"] == "ROC-AUC"]
    assert (code, area["tier"], document["persistence"]) == (1, "labels", "not judged")
    assert 0.80 < area["after"] < 0.86 < 0.90 < area["before"]
    (expected,) = [note for note in document["notes"] if "is expected to have" in note]
    assert float(expected.split("ROC-AUC ")[1][:5]) > 0.9  # what cannot be seen without labels
    mixed = every.drop("Month").sample(fraction=1, shuffle=True, seed=5)
    half = len(mixed) // 2
    code, document = compared(files(tmp_path, mixed[:half], mixed[half:]), "--label", "Revenue")
    assert (code, document["verdict"]) == (0, "no drift")


@pytest.mark.integration
@needs(BIKES)
def test_bike_sharing_names_registered_first_among_the_measurements(tmp_path: Path) -> None:
    hours = pl.read_csv(io.BytesIO(zipfile.ZipFile(BIKES).read("hour.csv")))
    pair = files(tmp_path, hours.filter(yr=0), hours.filter(yr=1))
    times = ["instant", "dteday", "season", "yr", "mnth", "hr", "holiday", "weekday", "workingday"]
    code, document = compared(pair, *(word for name in times for word in ("--leave-out", name)))
    assert code == 1
    assert [finding["column"] for finding in document["moved"]][:2] == ["registered", "cnt"]
