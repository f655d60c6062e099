"""A/B: published experiments, planted effects, false alarms, honest refusals."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats
from typer.testing import CliRunner

from console.cli import app, main
from experiments.ab import ExperimentResult, analyze, sample_ratio
from experiments.comparison import Comparison, NotEnoughData
from features.errors import AnalysisError
from tests.real_data import HILLSTROM, needs

MENS, WOMENS = "Mens E-Mail", "Womens E-Mail"
PUBLISHED = {
    (MENS, "visit"): ("+0.076590", "[0.069953, 0.083226]", "0.106167", "0.182757"),
    (MENS, "conversion"): ("+0.006805", "[0.005000, 0.008610]", "0.005726", "0.012531"),
    (MENS, "spend"): ("+0.769827", "[0.485144, 1.054510]", "0.652789", "1.422617"),
    (WOMENS, "visit"): ("+0.045233", "[0.038894, 0.051573]", "0.106167", "0.151400"),
    (WOMENS, "conversion"): ("+0.003111", "[0.001499, 0.004724]", "0.005726", "0.008837"),
    (WOMENS, "spend"): ("+0.424412", "[0.168960, 0.679865]", "0.652789", "1.077202"),
}


def trial(n: int, *, effect: float = 0.0, seed: int = 0, arms: tuple[str, ...] = ("old", "new")) -> pl.DataFrame:
    """Users with a purchase (3 in 10, more by `effect` in every arm after the first) and a revenue."""
    generator = np.random.default_rng(seed)
    arm = generator.integers(len(arms), size=n)
    bought = generator.random(n) < 0.3 + effect * (arm > 0)
    revenue = np.where(bought, generator.lognormal(3, 0.5, n), 0)
    names = np.array(arms)[arm]
    return pl.DataFrame({"user": np.arange(n), "arm": names, "bought": bought, "revenue": revenue})


def judged(frame: pl.DataFrame) -> ExperimentResult:
    return analyze(frame, variant="arm", control="old", metrics=["bought", "revenue"], user="user")


@pytest.mark.integration
@needs(HILLSTROM)
def test_hillstrom_is_reproduced_to_all_printed_digits(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    metrics = [part for metric in ("visit", "conversion", "spend") for part in ("--metric", metric)]
    options = ["--variant", "segment", "--control", "No E-Mail", *metrics, "--html", str(page), "--json"]
    answer = CliRunner().invoke(app, ["ab", "analyze", str(HILLSTROM), *options])
    assert answer.exit_code == 0, answer.output
    document = json.loads(answer.stdout)
    assert document["sample_ratio"]["counts"] == {"No E-Mail": 21306, MENS: 21307, WOMENS: 21387}
    ratio = document["sample_ratio"]["test"]
    assert (f"{ratio['statistic']:.4f}", f"{ratio['p']:.3f}") == ("0.2025", "0.904")
    means = {arm["name"]: arm["metrics"] for arm in document["arms"]}
    for one in document["comparisons"]:
        difference = one["difference"]
        printed = (
            f"{difference['value']:+.6f}",
            f"[{difference['low']:.6f}, {difference['high']:.6f}]",
            f"{means['No E-Mail'][one['metric']]['mean']:.6f}",
            f"{means[one['arm']][one['metric']]['mean']:.6f}",
        )
        assert printed == PUBLISHED[one["arm"], one["metric"]]
    assert document["decision"]["answer"] == "ship"
    assert "data:image/svg+xml" in page.read_text(encoding="utf-8")


def test_experiments_without_an_effect_are_significant_as_often_as_they_should() -> None:
    """400 A/A tests: Welch's p below 5 % in its binomial band, anything after Holm in at most 5 % (same band)."""
    results = [judged(trial(600, seed=seed)) for seed in range(400)]
    low, high = stats.binom.ppf([0.001, 0.999], 400, 0.05)
    first = [result.comparisons[0] for result in results]
    assert low <= sum(isinstance(one, Comparison) and one.difference.p < 0.05 for one in first) <= high
    any_metric = sum(any(isinstance(c, Comparison) and c.significant for c in r.comparisons) for r in results)
    assert any_metric <= high
    assert sum(result.decision.answer == "ship" for result in results) <= high / 2


def test_a_planted_effect_is_found_and_its_interval_holds_the_truth() -> None:
    result = judged(trial(20_000, effect=0.05, seed=3))
    first = result.comparisons[0]
    assert isinstance(first, Comparison)
    assert first.difference.low <= 0.05 <= first.difference.high
    assert (result.decision.answer, result.decision.arm) == ("ship", "new")


def test_a_planted_harm_is_not_shipped() -> None:
    result = judged(trial(20_000, effect=-0.05, seed=3))
    assert result.decision.answer == "do not ship"
    assert "bought fell" in result.decision.reasons[0]


def test_success_does_not_ship_when_another_metric_falls() -> None:
    frame = trial(20_000, effect=0.05, seed=3).with_columns(
        pl.when(pl.col("arm") == "new").then(-1.0).otherwise(0.0).alias("margin") + pl.col("revenue") / 100
    )
    result = analyze(frame, variant="arm", control="old", metrics=["bought", "margin"])
    assert result.decision.answer == "do not ship"
    assert "margin" in result.decision.reasons[0]


def test_a_broken_sample_ratio_overrules_every_effect() -> None:
    frame = trial(20_000, effect=0.05, seed=3)
    thinned = frame.filter((pl.col("arm") == "old") | (pl.col("user") % 10 != 0))
    result = judged(thinned)
    assert result.decision.answer == "invalid, do not ship"
    intended = analyze(
        thinned, variant="arm", control="old", metrics=["bought"], weights={"old": 1.0, "new": 0.9}, user="user"
    )
    assert intended.decision.answer == "ship"


def test_the_sample_ratio_alarm_rings_below_one_in_a_thousand() -> None:
    assert not sample_ratio({"a": 1000, "b": 1200}).holds
    assert sample_ratio({"a": 1000, "b": 1100}).holds


@pytest.mark.parametrize(
    ("weights", "message"), [({"a": 1, "c": 1}, "'c'"), ({"a": 1}, "'b' needs"), ({"a": 1, "b": 0}, "'b' needs")]
)
def test_weights_must_fit_the_arms(weights: dict[str, float], message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        sample_ratio({"a": 10, "b": 10}, weights)


def test_too_few_outcomes_are_not_enough_data_and_never_a_p() -> None:
    frame = trial(40, seed=1).with_columns((pl.col("user") == 3).alias("bought"))
    result = analyze(frame, variant="arm", control="old", metrics=["bought"])
    assert result.decision.answer == "not enough data"
    assert isinstance(result.comparisons[0], NotEnoughData)
    assert result.to_dict()["comparisons"] == [
        {"enough_data": False, "arm": "new", "metric": "bought", "reason": result.comparisons[0].reason}
    ]


def test_a_constant_metric_is_not_enough_data() -> None:
    result = analyze(trial(100).with_columns(pl.lit(7).alias("x")), variant="arm", control="old", metrics=["x"])
    assert result.decision.answer == "not enough data"
    assert "same within each arm" in str(result)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.1, 0.3), (1e9, 1e9 + 0.7)])
@pytest.mark.parametrize("covariate", [None, "before"])
@pytest.mark.parametrize("n", [101, 30_001])
def test_a_metric_that_is_constant_within_each_arm_is_not_enough_data(
    low: float, high: float, covariate: str | None, n: int
) -> None:
    """Neither the sums' rounding nor a covariate makes a variance of it, nor an interaction of its segments."""
    new = pl.col("arm") == "new"
    frame = trial(n).with_columns(
        x=pl.when(new).then(high).otherwise(low), before=pl.col("user").sqrt(), kind=pl.col("user") % 3
    )
    result = analyze(frame, variant="arm", control="old", metrics=["x"], covariate=covariate, by="kind")
    assert result.decision.answer == "not enough data"
    assert "same within each arm" in str(result)
    assert result.segments is not None
    assert result.segments.interactions[0].test is None


def test_a_ratio_that_is_constant_does_not_vary_and_a_small_spread_on_a_high_level_does() -> None:
    frame = trial(3_000).with_columns(sessions=pl.col("user") % 7 + 1, level=1e9 + pl.col("user") % 5 * 0.01)
    ratio = frame.with_columns(orders=pl.col("sessions") * pl.when(arm="new").then(0.3).otherwise(0.1))
    asked = {"variant": "arm", "control": "old"}
    assert analyze(ratio, metrics=["orders/sessions"], **asked).decision.answer == "not enough data"
    summary = analyze(frame, metrics=["level"], **asked).arms[0].metrics["level"]
    assert summary.sd == pytest.approx(frame.filter(arm="old")["level"].std(), rel=1e-6)


def test_less_of_what_is_no_metric_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        AnalysisError, match=r"'revenu', of which less is better, is no metric\. Hint: did you mean 'revenue'"
    ):
        analyze(trial(100), variant="arm", control="old", metrics=["revenue"], less=["revenu"])


def test_holm_corrects_over_arms_and_metrics() -> None:
    result = judged(trial(900, seed=5, arms=("old", "new", "newer")))
    compared = [one for one in result.comparisons if isinstance(one, Comparison)]
    assert len(compared) == 4
    smallest = min(compared, key=lambda one: one.difference.p)
    assert smallest.adjusted == pytest.approx(min(1, 4 * smallest.difference.p))


def test_a_result_prints_itself_as_text_json_and_a_page_without_links() -> None:
    result = judged(trial(2_000, effect=0.1, seed=2))
    assert "decision: ship new" in str(result)
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["decision"]["arm"] == "new"
    page = result.to_html()
    assert page.startswith("<!doctype html>")
    assert "http" not in page.replace("http-equiv", "")
    assert page == result.to_html()


def test_names_in_the_file_cannot_write_into_the_page() -> None:
    frame = trial(200).with_columns(pl.col("arm").replace("new", "<script>x</script>"))
    assert "<script>" not in analyze(frame, variant="arm", control="old", metrics=["bought"]).to_html()


def test_pandas_frames_are_taken_as_they_are() -> None:
    frame: pd.DataFrame = trial(500).to_pandas()
    assert analyze(frame, variant="arm", control="old", metrics=["bought"]).arms[0].name == "old"


def test_the_command_exits_with_1_when_the_sample_ratio_is_broken(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    trial(4_000).filter((pl.col("arm") == "old") | (pl.col("user") % 3 != 0)).write_csv(file)
    asked = ["ab", "analyze", str(file), "--variant", "arm", "--control", "old", "--metric", "bought"]
    assert CliRunner().invoke(app, asked).exit_code == 1
    shares = ["--weights", "old=3", "--weights", "new=2"]
    assert CliRunner().invoke(app, [*asked, *shares]).exit_code == 0


def test_a_mistake_exits_with_2_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "t.csv"
    trial(100).write_csv(file)
    asked = ["ethogram", "ab", "analyze", str(file), "--variant", "arm", "--control", "old", "--metric", "bougt"]
    monkeypatch.setattr("sys.argv", asked)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: the file has no column 'bougt'. Hint: did you mean 'bought'?\n"
