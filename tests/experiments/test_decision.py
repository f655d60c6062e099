"""Guardrails: a harm that is shown crosses, a margin must be shown to hold, and nothing ships over either."""

import numpy as np
import polars as pl
import pytest

from experiments.ab import ExperimentResult, analyze


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


def test_guardrails_are_no_part_of_the_family_that_is_corrected() -> None:
    alone = analyze(trial(), variant="arm", control="old", metrics=["bought"])
    assert judged(trial(), "visits").comparisons == alone.comparisons


def test_a_guardrail_without_harm_crosses_in_one_of_twenty() -> None:
    crossed = sum(judged(trial(400, seed=seed), "visits").guardrails[0].state == "crosses" for seed in range(400))
    assert 7 <= crossed <= 35
