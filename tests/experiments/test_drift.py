"""Drift: how often it cries wolf, what it finds, what it says."""

import io
import json
import zipfile

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.random import Generator

from experiments import drift
from experiments.drift import FALSE_ALARMS, compare, joined
from features.errors import AnalysisError
from tests.real_data import BIKES, needs


def window(generator: Generator, n: int) -> pl.DataFrame:
    """Columns as features are: bell-shaped, counts, spikes at zero, gaps, flags, codes, copies, a score."""
    normal = {f"normal_{i}": generator.normal(0, 1, n) for i in range(6)}
    counts = {f"count_{i}": generator.poisson(0.3 + i, n).astype(float) for i in range(5)}
    sums = {f"sum_{i}": np.where(generator.random(n) < 0.5 + i / 10, 0, generator.lognormal(3, 1, n)) for i in range(5)}
    recency = {
        f"recency_{i}": np.where(generator.random(n) < 0.3, np.nan, generator.exponential(9, n)) for i in range(3)
    }
    flags = {f"flag_{i}": (generator.random(n) < 0.05 + i / 5).astype(float) for i in range(3)}
    copies = {"copy": normal["normal_0"] * 2, "score": 1 / (1 + np.exp(-normal["normal_0"]))}
    code = {"code": generator.choice(7, n, p=[0.4, 0.2, 0.2, 0.1, 0.05, 0.04, 0.01]).astype(float)}
    return pl.DataFrame({**normal, **counts, **sums, **recency, **flags, **copies, **code})


def judged(reference: pl.DataFrame, current: pl.DataFrame):
    return compare(reference, current, scores=["score"], categories=["code"])


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns are judged one by one: what they do together has its own tests, and takes most of the time."""
    monkeypatch.setattr(drift, "together", lambda *_: [])


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(("n", "m"), [(5000, 1000), pytest.param(400, 200, marks=pytest.mark.integration)])
def test_windows_without_drift_raise_hardly_an_alarm(n: int, m: int) -> None:
    """60 null windows of 26 columns each: hardly an alarm, and p-values as small as they should be."""
    reports = []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        reports.append(judged(window(generator, n), window(generator, m)))
    assert sum(report.verdict == "drift" for report in reports) <= 2
    p = np.array([finding.shift.p for report in reports for finding in report.findings])
    assert (p < 0.05).mean() < 0.055
    assert (p < 0.001).mean() < 0.003
    assert sum(any(f.adjusted < FALSE_ALARMS for f in report.findings) for report in reports) <= 4


MOVES = {
    "location": pl.col("normal_1") + 0.3,
    "scale": pl.col("normal_1") * 1.6,
    "missing": pl.when(pl.int_range(pl.len()) % 10 == 0).then(None).otherwise(pl.col("normal_1")),
    "sub-population": pl.col("normal_1") + 3 * (pl.int_range(pl.len()) % 10 == 0),
    "count": pl.col("count_2") + (pl.int_range(pl.len()) % 2 == 0),
    "revenue of the few": pl.col("sum_3") * 2,
    "share of buyers": pl.col("sum_3") * (pl.int_range(pl.len()) % 2),
    "recency": pl.col("recency_1") * 1.5,
    "flag": pl.max_horizontal("flag_1", (pl.int_range(pl.len()) % 5 == 0).cast(pl.Float64)),
    "score": pl.col("score") ** 1.5,
    "category mix": pl.when(pl.int_range(pl.len()) % 6 == 0).then(3.0).otherwise(pl.col("code")),
}


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("move", MOVES)
def test_a_planted_move_is_found_and_nothing_else_is_blamed(move: str) -> None:
    """Ten windows of 1,000 users: at least nine alarms, and the right column alone."""
    found = 0
    for seed in range(10):
        generator = np.random.default_rng(1000 + seed)
        reference, current = window(generator, 5000), window(generator, 1000)
        expression = MOVES[move]
        name = expression.meta.output_name() if move != "flag" else "flag_1"
        name = "normal_1" if move == "missing" else "code" if move == "category mix" else name
        report = judged(reference, current.with_columns(expression.cast(pl.Float64).alias(name)))
        columns = {finding.shift.column for finding in report.moved}
        assert columns <= {name}
        found += columns == {name}
    assert found >= 9


def test_a_significant_move_that_does_not_matter_raises_no_alarm() -> None:
    generator = np.random.default_rng(4)
    reference, current = window(generator, 50_000), window(generator, 50_000)
    report = judged(reference, current.with_columns(pl.col("normal_1") + 0.08))
    (moved,) = [f for f in report.findings if f.shift.column == "normal_1" and f.shift.part == "values"]
    assert moved.adjusted < 1e-10
    assert report.verdict == "no drift"


def test_tiers_stand_in_the_order_of_blame_and_say_what_to_do() -> None:
    generator = np.random.default_rng(5)
    reference, current = window(generator, 3000), window(generator, 1000)
    current = current.with_columns(
        pl.col("normal_1") + 1,
        pl.col("score") / 2,
        pl.when(pl.col("flag_0") == 1).then(None).otherwise(0.0).alias("flag_0"),
    ).with_columns(pl.lit(None, dtype=pl.Float64).alias("normal_2"))
    report = compare(reference, current, scores=["score"], categories=["code"], used_by={"normal_1": ["purchase_7d"]})
    assert list(dict.fromkeys(finding.tier for finding in report.moved)) == ["data quality", "predictions", "inputs"]
    assert "purchase_7d" in str(report)
    assert "a pipeline fault is not drift" in report.actions[0]


def test_scores_of_no_named_study_end_no_sentence_with_nothing() -> None:
    generator = np.random.default_rng(5)
    reference, current = window(generator, 3000), window(generator, 1000).with_columns(pl.col("score") / 2)
    assert "compare scores with outcomes as soon as they mature" in judged(reference, current).actions


def test_people_who_never_did_it_are_no_fault_of_the_pipeline() -> None:
    """A recency is missing where nothing happened: fewer of those are news of people, a silent column is not."""
    generator = np.random.default_rng(12)
    reference, current = window(generator, 3000), window(generator, 1000)
    fewer = judged(reference, current.with_columns(pl.col("recency_0").fill_null(3.0).fill_nan(3.0)))
    assert {finding.tier for finding in fewer.moved} == {"inputs"}
    silent = judged(reference, current.with_columns(pl.lit(None, dtype=pl.Float64).alias("recency_0")))
    assert silent.moved[0].tier == "data quality"


def test_what_remembers_longer_than_the_log_was_old_moves_without_an_alarm() -> None:
    generator = np.random.default_rng(13)
    reference, current = window(generator, 3000), window(generator, 1000).with_columns(pl.col("normal_1") + 1)
    report = compare(reference, current, scores=["score"], categories=["code"], filling=["normal_1"])
    assert report.verdict == "no drift"
    assert [finding.shift.column for finding in report.filling] == ["normal_1"]
    assert "expect 1 more columns" in str(report)


def test_a_score_is_blamed_on_the_young_log_where_nothing_else_that_its_model_takes_moved() -> None:
    generator = np.random.default_rng(14)
    reference, current = window(generator, 3000), window(generator, 1000)
    later = current.with_columns(pl.col("normal_1") + 1, (pl.col("score") * 1.5).alias("score"))

    def verdict(after: pl.DataFrame, takes: list[str]) -> str:
        used_by = dict.fromkeys([*takes, "score"], ("buys",))
        found = compare(reference, after, scores=["score"], categories=["code"], filling=["normal_1"], used_by=used_by)
        assert any(finding.shift.column == "score" for finding in found.findings if finding.moved)
        return joined([found]).verdict

    assert verdict(later, ["normal_0", "normal_1"]) == "no drift"
    assert verdict(later.with_columns(pl.col("normal_0") + 1), ["normal_0", "normal_1"]) == "drift"
    assert verdict(later, ["normal_0"]) == "drift"


def test_a_column_that_is_gone_is_an_alarm_and_a_new_one_is_not() -> None:
    generator = np.random.default_rng(7)
    reference, current = window(generator, 500), window(generator, 500)
    assert judged(reference, current.drop("normal_1")).absent == ("normal_1",)
    assert judged(reference, current.drop("normal_1")).verdict == "drift"
    assert judged(reference.drop("normal_1"), current).verdict == "no drift"


def test_too_few_users_are_not_enough_data() -> None:
    generator = np.random.default_rng(8)
    report = judged(window(generator, 500), window(generator, 99))
    assert (report.verdict, report.findings) == ("not enough data", ())


def test_a_user_counts_once_with_the_last_row() -> None:
    """One user who asks a thousand times is no drift."""
    generator = np.random.default_rng(9)
    reference, current = window(generator, 2000), window(generator, 400)
    loud = pl.concat([current, *[current.head(1)] * 1000])
    users = pl.Series("user", [*range(400), *[0] * 1000])
    report = compare(
        reference.with_row_index("user"),
        loud.with_columns(users),
        scores=["score"],
        categories=["code"],
        user="user",
    )
    assert (report.current.rows, report.current.users, report.verdict) == (1400, 400, "no drift")


def test_pandas_frames_give_the_same_report() -> None:
    generator = np.random.default_rng(10)
    reference, current = window(generator, 500), window(generator, 500)
    frames: list[pd.DataFrame] = [reference.to_pandas(), current.to_pandas()]
    assert judged(*frames) == judged(reference, current)


def test_a_report_prints_itself_as_text_json_and_a_page() -> None:
    generator = np.random.default_rng(11)
    report = judged(window(generator, 1000), window(generator, 1000).with_columns(pl.col("normal_1") + 1))
    assert str(report).startswith("drift: 2 of ")  # the column, and all columns together
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["drift"]
    assert document["moved"][0]["column"] == "normal_1"
    assert "http" not in report.to_html()


def test_texts_and_unknown_columns_are_refused() -> None:
    frame = pl.DataFrame({"x": ["a"] * 200})
    with pytest.raises(AnalysisError, match="'x' is not a number"):
        compare(frame, frame)
    with pytest.raises(AnalysisError, match="no column 'y'"):
        compare(frame, frame, scores=["y"])


@pytest.mark.integration
@needs(BIKES)
def test_the_drift_of_bike_sharing_is_found_with_its_published_stability_indices() -> None:
    """2011 against 2012; halves of the two years mixed are no drift."""
    hours = pl.read_csv(io.BytesIO(zipfile.ZipFile(BIKES).read("hour.csv")))
    columns = ["registered", "cnt", "casual", "hum", "windspeed"]
    report = compare(hours.filter(yr=0).select(columns), hours.filter(yr=1).select(columns))
    alone = [finding.shift.column for finding in report.moved if finding.shift.part not in drift.JOINT]
    assert alone[:3] == ["registered", "cnt", "casual"]
    indices = {f.shift.column: f.shift.psi for f in report.findings if f.shift.psi is not None}
    assert {name: round(value, 3) for name, value in indices.items()} == {
        "registered": 0.311,
        "cnt": 0.244,
        "casual": 0.090,
        "hum": 0.048,
        "windspeed": 0.004,
    }
    mixed = hours.sample(fraction=1, shuffle=True, seed=1).select(columns)
    assert compare(mixed.head(8000), mixed.tail(8000)).verdict == "no drift"
