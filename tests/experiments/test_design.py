"""Design and simulation: published sample sizes, and an analysis that keeps its word."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from console.cli import app
from experiments.design import design, simulate
from features.errors import AnalysisError


def test_users_needed_are_those_of_the_textbook() -> None:
    """Two shares of 10 % and 12 %, 80 % power: some 3,840 a group."""
    made = design(0.10, 0.02, per_day=500)
    assert 3830 <= made.rows_per_arm <= 3850
    assert made.days == -(-2 * made.rows_per_arm // 500)
    assert design(0.10, 0.02, arms=3).rows_per_arm > made.rows_per_arm


def test_the_smallest_effect_of_so_many_users_is_the_one_that_needs_them() -> None:
    for arms in (2, 4):
        n = design(5.0, 0.3, sd=2.0, arms=arms).rows_per_arm
        assert design(5.0, rows=n, sd=2.0, arms=arms).effect == pytest.approx(0.3, rel=2e-3)
    half = design(5.0, 0.3, sd=2.0, told=0.5)
    assert half.rows_per_arm == pytest.approx(design(5.0, 0.3, sd=2.0).rows_per_arm / 2, abs=1)
    with pytest.raises(AnalysisError, match="either the effect is given"):
        design(0.1)


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    "options",
    [
        {"effect": 0.0},
        {"effect": 0.95},
        {"effect": NAN},
        {"effect": 1e-300},
        {"effect": 1e-160},
        {"effect": INFINITE, "sd": 1.0},
        {"power": 1.0},
        {"power": NAN},
        {"told": NAN},
        {"per_day": -5},
        {"per_day": 0},
        {"per_day": NAN},
        {"per_day": 1e-320},
        {"sd": -3},
        {"sd": 0},
        {"sd": INFINITE},
        {"baseline": NAN, "sd": 1.0},
        {"baseline": NAN},
    ],
)
def test_figures_that_no_experiment_has_are_refused(options: dict) -> None:
    with pytest.raises(AnalysisError):
        design(**{"baseline": 0.1, "effect": 0.01} | options)


def test_an_effect_that_is_no_number_is_not_simulated() -> None:
    for effect in (NAN, INFINITE):
        with pytest.raises(AnalysisError, match="--effect is a finite number"):
            simulate(np.arange(1000.0), "revenue", effect=effect)


def test_looking_early_spoils_a_fixed_test_and_not_the_always_valid_interval() -> None:
    values = np.random.default_rng(1).exponential(size=1000)
    quiet = simulate(values, "revenue", times=300)
    assert 0.02 <= quiet.found / quiet.times <= 0.085
    assert quiet.found_looking > 2 * quiet.found
    assert quiet.found_always_valid / quiet.times <= 0.05
    assert simulate(values, "revenue", times=100, effect=0.3).found >= 95


@pytest.mark.prove
def test_two_thousand_experiments_without_an_effect_keep_their_levels() -> None:
    values = np.random.default_rng(2).gamma(0.5, size=4000)
    quiet = simulate(values, "revenue", times=2000)
    assert 0.041 <= quiet.found / quiet.times <= 0.060
    assert quiet.found_always_valid / quiet.times <= 0.05


def test_the_commands_need_no_project(tmp_path: Path) -> None:
    file = tmp_path / "users.csv"
    pl.DataFrame({"revenue": np.random.default_rng(1).exponential(size=500)}).write_csv(file)
    made = CliRunner().invoke(app, ["ab", "design", "--baseline", "0.1", "--effect", "0.02", "--json"])
    assert json.loads(made.stdout)["arms"] == 2
    run = CliRunner().invoke(app, ["ab", "simulate", str(file), "--metric", "revenue", "--times", "20"])
    assert run.exit_code == 0, run.output
    assert "always-valid interval at any of 10 looks" in run.stdout
