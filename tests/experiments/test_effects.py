"""Covariates, ratios and segments: laws, planted effects, Hillstrom's published ones."""

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from console.cli import app
from experiments.ab import analyze
from experiments.comparison import Comparison
from features.errors import AnalysisError
from tests.real_data import HILLSTROM, needs


def visits(n: int, *, effect: float = 0.0, seed: int = 0) -> pl.DataFrame:
    """Users with a spend that follows what they spent before; the effect is on newcomers alone."""
    random = np.random.default_rng(seed)
    arm, before, new = random.integers(0, 2, n), random.gamma(2.0, 10.0, n), random.random(n) < 0.5
    sessions = random.poisson(3, n) + 1
    return pl.DataFrame(
        {
            "arm": np.where(arm > 0, "new", "old"),
            "before": before,
            "kind": np.where(new, "newcomer", "regular"),
            "spend": before + random.normal(0, 5, n) + effect * arm * new,
            "sessions": sessions,
            "orders": random.binomial(sessions, 0.2),
        }
    )


def first(frame: pl.DataFrame, metric: str, **options: str) -> Comparison:
    (one,) = analyze(frame, variant="arm", control="old", metrics=[metric], **options).comparisons
    assert isinstance(one, Comparison)
    return one


def test_a_covariate_takes_away_what_it_told_and_leaves_the_effect() -> None:
    frame = visits(20_000, effect=2.0)
    plain, adjusted = first(frame, "spend"), first(frame, "spend", covariate="before")
    assert adjusted.cuped is not None
    assert adjusted.difference == plain.difference
    assert adjusted.cuped.error < 0.5 * plain.difference.error
    assert adjusted.cuped.low < 1.0 < adjusted.cuped.high  # half of the users have an effect of 2
    share = np.corrcoef(frame["before"], frame["spend"])[0, 1] ** 2
    told = analyze(frame, variant="arm", control="old", metrics=["spend"], covariate="before").covariate
    assert told is not None
    assert told.reduction["spend"]["new"] == pytest.approx(share, abs=0.01)


def test_a_ratio_is_judged_by_the_delta_method() -> None:
    """The standard error is that of resampling users, not that of taking sessions as independent."""
    frame = visits(4000, seed=2)
    one = first(frame, "orders/sessions")
    random, rows = np.random.default_rng(3), {arm: frame.filter(arm=arm) for arm in ("old", "new")}
    drawn = []
    for _ in range(600):
        shares = []
        for each in rows.values():
            places = random.integers(0, len(each), len(each))
            orders, sessions = (each[name].to_numpy()[places] for name in ("orders", "sessions"))
            shares.append(orders.sum() / sessions.sum())
        drawn.append(shares[1] - shares[0])
    assert one.difference.error == pytest.approx(np.std(drawn), rel=0.08)
    totals = {arm: each["orders"].sum() / each["sessions"].sum() for arm, each in rows.items()}
    assert one.difference.value == pytest.approx(totals["new"] - totals["old"], abs=1e-12)


def test_effects_per_segment_are_told_only_where_they_differ() -> None:
    planted = analyze(visits(8000, effect=6.0), variant="arm", control="old", metrics=["spend"], by="kind").segments
    assert planted is not None
    (one,) = planted.interactions
    assert one.significant
    assert one.effects["newcomer"].low < 6.0 < one.effects["newcomer"].high
    assert one.effects["regular"].low < 0.0 < one.effects["regular"].high
    calls = 0
    for seed in range(100):
        frame = visits(400, seed=seed)
        found = analyze(frame, variant="arm", control="old", metrics=["spend"], by="kind").segments
        calls += bool(found and found.interactions[0].significant)
        assert found
        assert found.interactions[0].to_dict()["effects"] is None or found.interactions[0].significant
    assert calls <= 12


def test_a_segment_whose_arms_are_not_as_large_as_meant_is_named() -> None:
    frame = visits(8000)
    thinned = frame.filter((pl.col("kind") == "regular") | (pl.col("arm") == "old") | (pl.col("before") > 10))
    found = analyze(thinned, variant="arm", control="old", metrics=["spend"], by="kind").segments
    assert found is not None
    assert list(found.broken) == ["newcomer"]


def test_mistakes_name_the_way_out() -> None:
    with pytest.raises(AnalysisError, match="no column 'befor'"):
        first(visits(100), "spend", covariate="befor")
    with pytest.raises(AnalysisError, match="between 2 and 50 segments"):
        first(visits(100), "spend", by="before")
    with pytest.raises(AnalysisError, match="has nothing below the line"):
        first(visits(100).with_columns(sessions=pl.lit(0)), "orders/sessions")


@pytest.mark.integration
@needs(HILLSTROM)
def test_hillstrom_womens_mail_works_on_buyers_of_womens_goods_and_history_does_not_help() -> None:
    outcomes = [part for metric in ("visit", "conversion", "spend") for part in ("--metric", metric)]
    options = ["--variant", "segment", "--control", "No E-Mail", *outcomes, "--by", "womens", "--json"]
    done = CliRunner().invoke(app, ["ab", "analyze", str(HILLSTROM), *options, "--covariate", "history"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert round(100 * document["covariate"]["reduction"]["visit"]["Mens E-Mail"], 2) == 0.44
    found = {(each["arm"], each["metric"]): each for each in document["segments"]["interactions"]}
    assert found["Womens E-Mail", "visit"]["significant"]
    assert not any(each["significant"] for (arm, _), each in found.items() if arm == "Mens E-Mail")
    effects = found["Womens E-Mail", "visit"]["effects"]
    assert (round(effects["1"]["value"], 4), round(effects["0"]["value"], 4)) == (0.0731, 0.0111)
