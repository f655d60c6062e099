"""The difference over the days of the experiment and since the exposure; novelty that wears off; heavy tails."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from console.cli import app
from experiments.ab import analyze
from features.errors import AnalysisError

DAYS = 8


def people(n: int = 3000, *, seed: int = 0) -> pl.DataFrame:
    """Users who come on one of ten days."""
    random = np.random.default_rng(seed)
    arm = random.integers(0, 2, n)
    days = [f"2026-05-{day:02d}" for day in range(1, 11)]
    return pl.DataFrame(
        {
            "user": [f"u{k}" for k in range(n)],
            "arm": np.where(arm > 0, "new", "old"),
            "day": random.choice(days, n),
            "spend": random.gamma(1.0, 10.0, n) + 3.0 * arm,
        }
    )


def by_day_since(n: int = 800, *, first: float, last: float, seed: int = 0) -> pl.DataFrame:
    """One row a user and day since the exposure; the effect goes from `first` to `last` in a straight line."""
    random = np.random.default_rng(seed)
    arm, own = random.integers(0, 2, n), random.normal(10, 3, n)
    effect = np.linspace(first, last, DAYS)
    clicks = own[:, None] + random.normal(0, 2, (n, DAYS)) + arm[:, None] * effect
    users, days = np.divmod(np.arange(n * DAYS), DAYS)
    return pl.DataFrame(
        {
            "user": [f"u{k}" for k in users],
            "arm": np.where(arm[users] > 0, "new", "old"),
            "since": days,
            "clicks": clicks.ravel(),
        }
    )


def test_the_last_day_of_the_course_is_the_whole_experiment() -> None:
    result = analyze(people(), variant="arm", control="old", metrics=["spend"], day="day")
    (path,) = result.growth
    assert [point.day for point in path.points] == [f"2026-05-{day:02d}" for day in range(1, 11)]
    whole = result.comparisons[0].to_dict()
    assert path.points[-1].difference.value == pytest.approx(whole["difference"]["value"], rel=1e-9)
    assert path.points[-1].always_valid == pytest.approx(whole["always_valid"], rel=1e-9)
    assert all(low < point.difference.low for point in path.points for low in point.always_valid[:1])
    assert [point.n for point in path.points] == sorted(point.n for point in path.points)


def test_a_day_whose_arms_are_not_as_large_as_meant_is_named() -> None:
    frame = people().filter(
        (pl.col("day") != "2026-05-04") | (pl.col("arm") == "old") | pl.col("user").str.ends_with("1")
    )
    result = analyze(frame, variant="arm", control="old", metrics=["spend"], day="day")
    assert next(note for note in result.notes if "BROKEN" in note).startswith("sample ratio IS BROKEN on 2026-05-04")


def test_novelty_that_wears_off_is_named_and_a_steady_effect_is_not() -> None:
    options = {"variant": "arm", "control": "old", "metrics": ["clicks"], "user": "user", "since": "since"}
    fading = analyze(by_day_since(first=4.0, last=0.0), **options)
    (path,) = fading.since
    assert path.trend is not None
    assert path.trend.low < -4.0 / (DAYS - 1) < path.trend.high
    assert path.changes
    assert "novelty wears off" in str(fading)
    assert path.points[0].difference.low < 4.0 < path.points[0].difference.high
    steady = analyze(by_day_since(first=2.0, last=2.0), **options)
    assert not steady.since[0].changes
    assert steady.comparisons[0].to_dict()["difference"]["value"] == pytest.approx(2.0 * DAYS, abs=4)


def test_the_trend_is_found_where_there_is_none_as_rarely_as_it_should() -> None:
    options = {"variant": "arm", "control": "old", "metrics": ["clicks"], "user": "user", "since": "since"}
    frames = (by_day_since(80, first=1.0, last=1.0, seed=seed) for seed in range(200))
    assert sum(analyze(frame, **options).since[0].changes for frame in frames) <= 20


def test_a_heavy_tail_is_said_and_cut_where_asked() -> None:
    random = np.random.default_rng(2)
    frame = people().with_columns(spend=pl.Series(random.lognormal(0, 2.5, 3000)))
    plain = analyze(frame, variant="arm", control="old", metrics=["spend"])
    cut = analyze(frame, variant="arm", control="old", metrics=["spend"], cap=0.99)
    assert "heavy tail" in plain.notes[0]
    limit = frame["spend"].quantile(0.99, "lower")
    mean = frame.filter(arm="new")["spend"].clip(upper_bound=limit).mean()
    assert cut.arms[1].metrics["spend"].mean == pytest.approx(mean)


SINCE = {"variant": "arm", "control": "old", "metrics": ["clicks"], "user": "user", "since": "since"}


def test_who_was_in_two_arms_or_none_is_in_no_day_since_the_exposure() -> None:
    clean = by_day_since(200, first=4.0, last=0.0)
    crossed = clean.filter(user="u0").with_columns(user=pl.lit("both"), clicks=pl.lit(1e6))
    other = crossed.with_columns(arm=pl.when(pl.col("arm") == "new").then(pl.lit("old")).otherwise(pl.lit("new")))
    nobody = crossed.with_columns(arm=pl.lit(None, pl.String), user=pl.lit("none"))
    mixed = pl.concat([crossed, clean, other, nobody])
    found, wanted = analyze(mixed, nulls="drop", **SINCE), analyze(clean, **SINCE)
    assert found.since == wanted.since
    assert found.comparisons == wanted.comparisons
    assert found.notes == (
        f"{DAYS} rows without a variant or a user were left out.",
        "1 users were seen in two arms and left out.",
    )
    with pytest.raises(AnalysisError, match=f"{DAYS} of {len(mixed):,} rows have no arm or no user"):
        analyze(mixed, **SINCE)
    apart = {name: value for name, value in SINCE.items() if name != "since"}
    people = clean.group_by("user", "arm", maintain_order=True).agg(pl.col("clicks").sum())
    assert analyze(people, daily=pl.concat([crossed, clean, other]), **apart).since == wanted.since


def test_a_value_that_is_missing_on_one_day_is_no_zero() -> None:
    clean = by_day_since(200, first=4.0, last=0.0)
    lost = (pl.col("user") == "u0") & (pl.col("since") == 3)
    holed = clean.with_columns(pl.when(~lost).then(pl.col("clicks")))
    with pytest.raises(AnalysisError, match="'clicks' is missing in 1 of 200 rows"):
        analyze(holed, **SINCE)
    found, without = analyze(holed, nulls="drop", **SINCE), analyze(clean.filter(pl.col("user") != "u0"), **SINCE)
    assert found.comparisons == without.comparisons
    assert found.since[0].trend == without.since[0].trend
    assert "1 rows without clicks were left out of that metric." in found.notes


def test_days_since_the_exposure_are_whole_numbers_however_they_are_written() -> None:
    clean = by_day_since(60, first=1.0, last=1.0)
    written = clean.with_columns(since=pl.col("since").cast(pl.Float64).cast(pl.String))
    assert written["since"][0] == "0.0"
    assert analyze(written, **SINCE).since == analyze(clean, **SINCE).since
    for wrong in ("x", "", "0.5", "-1", "nan", "1e300"):
        rows = written.with_columns(
            since=pl.when(pl.col("user") == "u7").then(pl.lit(wrong)).otherwise(pl.col("since"))
        )
        with pytest.raises(AnalysisError, match=f"{DAYS} of 480 rows, such as '{wrong}'"):
            analyze(rows, **SINCE)


def test_what_is_no_day_is_refused() -> None:
    with pytest.raises(AnalysisError, match="'user' is not a day in 3,000 of 3,000 rows, such as 'u0'"):
        analyze(people(), variant="arm", control="old", metrics=["spend"], day="user")
    with pytest.raises(AnalysisError, match="rows by day since the exposure need"):
        analyze(by_day_since(60, first=1, last=1), variant="arm", control="old", metrics=["clicks"], since="since")


def test_the_page_has_a_forest_per_segment_the_course_and_the_days_since(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    frame = by_day_since(first=4.0, last=0.0)
    users = frame["user"].unique(maintain_order=True)
    about = pl.DataFrame(
        {
            "user": users,
            "kind": random.choice(["regular", "guest"], len(users)),
            "day": random.choice(["2026-05-01", "2026-05-02", "2026-05-03"], len(users)),
        }
    )
    lifted = frame.join(about, on="user").with_columns(
        clicks=pl.col("clicks")
        + pl.when((pl.col("arm") == "new") & (pl.col("kind") == "guest")).then(3.0).otherwise(0.0)
    )
    lifted.write_parquet(tmp_path / "t.parquet")
    page = tmp_path / "page.html"
    asked = ["ab", "analyze", str(tmp_path / "t.parquet"), "--variant", "arm", "--control", "old", "--metric", "clicks"]
    asked += ["--user", "user", "--since", "since", "--day", "day", "--by", "kind", "--html", str(page), "--json"]
    done = CliRunner().invoke(app, [*asked, "--correction", "bh"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["since_exposure"][0]["changes"]
    assert document["segments"]["interactions"][0]["effects"]["guest"]["adjusted"] < 0.05
    assert page.read_text().count("data:image/svg+xml") == 4
