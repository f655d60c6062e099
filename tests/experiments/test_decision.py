"""Guardrails: a harm that is shown crosses, a margin must be shown to hold, and nothing ships over either."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from experiments.ab import ExperimentResult, analyze
from features.errors import AnalysisError


def trial(n: int = 8000, *, harm: float = 0.0, seed: int = 0) -> pl.DataFrame:
    """Users whose purchases rise by 5 points, and whose visits of 10 on average change by `harm`."""
    random = np.random.default_rng(seed)
    arm = random.integers(0, 2, n)
    bought, visits = random.random(n) < 0.3 + 0.05 * arm, random.normal(10 - harm * arm, 3, n)
    return pl.DataFrame({"arm": np.where(arm > 0, "new", "old"), "bought": bought, "visits": visits, "errors": -visits})


def judged(frame: pl.DataFrame, metric: str, margin: float = 0.0) -> ExperimentResult:
    less = ["errors"] if metric == "errors" else []
    return analyze(frame, variant="arm", control="old", metrics=["bought"], guards={metric: margin}, less=less)


@pytest.mark.parametrize("metric", ["visits", "errors"])
def test_a_shown_harm_crosses_whichever_direction_is_better(metric: str) -> None:
    good, bad = judged(trial(), metric), judged(trial(harm=0.4), metric)
    assert (good.decision.answer, good.guardrails[0].state) == ("ship", "holds")
    assert (bad.decision.answer, bad.guardrails[0].state) == ("do not ship", "crosses")
    assert "guardrail" in bad.decision.reasons[0]
    assert metric in str(bad)
    assert bad.to_dict()["guardrails"][0]["worst"] < -0.4


def test_a_margin_has_to_be_shown_and_is_not_by_few_rows() -> None:
    many, few = judged(trial(), "visits", 0.05), judged(trial(120, seed=3), "visits", 0.05)
    assert many.guardrails[0].state == "holds"
    assert many.guardrails[0].tolerated == pytest.approx(0.5, abs=0.02)
    assert few.guardrails[0].state == "not shown"
    assert few.decision.answer != "ship"
    assert judged(trial(harm=0.4), "visits", 0.1).guardrails[0].state == "holds"


def crashing(new: int, old: int, n: int = 1000) -> pl.DataFrame:
    """As many users in each arm, of whom so many crash; all the purchases are in the new arm's favour."""
    arm, place = np.repeat(["old", "new"], n), np.tile(np.arange(n), 2)
    bought = place < np.where(arm == "new", n // 2, n // 3)
    crashed = place < np.where(arm == "new", new, old)
    return pl.DataFrame({"arm": arm, "bought": bought, "crashed": crashed})


def guarded(frame: pl.DataFrame, metric: str, margin: float = 0.0, *, less: bool = True) -> ExperimentResult:
    told = [metric] if less else []
    return analyze(frame, variant="arm", control="old", metrics=["bought"], guards={metric: margin}, less=told)


def test_a_guardrail_of_few_outcomes_is_judged_by_the_exact_test() -> None:
    bad, good = guarded(crashing(8, 0), "crashed"), guarded(crashing(3, 0), "crashed")
    assert bad.guardrails[0].exact == pytest.approx(stats.fisher_exact([[8, 992], [0, 1000]], "greater").pvalue)
    assert (bad.guardrails[0].state, bad.decision.answer) == ("crosses", "do not ship")
    assert "guardrail crashed of new crosses: exact p 0.0039" in bad.decision.reasons[0]
    assert (good.guardrails[0].state, good.decision.answer) == ("holds", "ship")
    assert guarded(crashing(8, 0), "crashed", less=False).guardrails[0].state == "holds"
    assert guarded(crashing(0, 8), "crashed", less=False).guardrails[0].state == "crosses"
    assert guarded(crashing(0, 0), "crashed").guardrails[0].state == "holds"


def test_a_guardrail_without_data_is_not_shown_and_nothing_ships_over_it() -> None:
    constant = crashing(0, 0).with_columns(steady=pl.lit(7))
    for few in (
        guarded(crashing(2, 0), "crashed", 0.02),
        guarded(constant, "steady"),
        analyze(
            crashing(2, 0).with_columns(rated=pl.when(pl.int_range(pl.len()) < 1001).then(1)),
            variant="arm",
            control="old",
            metrics=["bought"],
            guards={"rated": 0.0},
            nulls="drop",
        ),
    ):
        assert (few.guardrails[0].state, few.decision.answer) == ("not shown", "do not ship")
        assert "not shown: not enough data" in few.decision.reasons[0]


@pytest.mark.parametrize("margin", [-0.5, 1.0, float("nan"), float("inf")])
def test_a_margin_is_a_share(margin: float) -> None:
    with pytest.raises(AnalysisError, match="'visits' tolerates a share of control's mean, from 0 to below 1"):
        judged(trial(200), "visits", margin)


def test_guardrails_are_no_part_of_the_family_that_is_corrected() -> None:
    alone = analyze(trial(), variant="arm", control="old", metrics=["bought"])
    assert judged(trial(), "visits").comparisons == alone.comparisons


def test_a_guardrail_without_harm_crosses_in_one_of_twenty() -> None:
    crossed = sum(judged(trial(400, seed=seed), "visits").guardrails[0].state == "crosses" for seed in range(400))
    assert 7 <= crossed <= 35
