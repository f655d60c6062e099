"""Duel: who wins, how rarely by chance, and when nobody can."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from experiments.duel import Duel, duel
from features.instants import parse_instant
from training.validation import Estimate

AT = parse_instant("2026-03-01")


def fought(n: int, *, seed: int, champion: float, challenger: float, tilt: float = 0.0) -> Duel:
    """Both see the truth through noise of the given size; the challenger's log-odds are shifted by `tilt`."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(-1.5, 1.2, n)
    y = (generator.random(n) < _p(truth)).astype(float)
    users = np.array([f"u{place}" for place in range(n)], dtype=object)
    seen = [_p(truth + size * generator.normal(0, 1, n) + move) for size, move in ((champion, 0.0), (challenger, tilt))]
    return duel("purchase_7d", y, *seen, users, at=AT, replicates=200)


def _p(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-log_odds))


def test_a_challenger_that_sees_more_is_better_and_one_that_sees_less_is_worse() -> None:
    assert fought(4000, seed=1, champion=1.2, challenger=0.4).verdict == "better"
    assert fought(4000, seed=1, champion=0.4, challenger=1.2).verdict == "worse"


def test_equals_rarely_win() -> None:
    """Forty duels of equals: better in at most one in twenty-five or so (its binomial band)."""
    verdicts = [fought(1000, seed=seed, champion=0.6, challenger=0.6).verdict for seed in range(40)]
    assert verdicts.count("better") <= stats.binom.ppf(0.999, 40, 0.04)
    assert verdicts.count("no difference shown") > 30


def test_better_ranking_does_not_make_up_for_wrong_probabilities() -> None:
    assert fought(4000, seed=2, champion=0.5, challenger=0.45, tilt=1.5).verdict == "worse"


def test_a_ranking_alone_wins_only_where_probabilities_seem_no_worse_either() -> None:
    """A surely better ranking beside a log-loss and a Brier score that may be higher: nothing is shown."""

    def judged(log_loss: float, brier: float) -> str:
        apart = {"roc_auc": Estimate(0.03, 0.02, 0.04)}
        apart |= {
            name: Estimate(value, value - 0.01, value + 0.01)
            for name, value in (("log_loss", log_loss), ("brier", brier))
        }
        return Duel("buys", AT, 1000, 1000, 100, {}, {}, apart).verdict

    assert judged(-0.005, -0.005) == "better"
    assert judged(0.005, -0.005) == judged(-0.005, 0.005) == "no difference shown"
    assert judged(-0.005, 0.015) == judged(0.015, -0.005) == "worse"


def test_a_stricter_level_makes_wider_intervals_and_says_so() -> None:
    generator = np.random.default_rng(5)
    p = generator.uniform(0.05, 0.4, (2, 1500))
    y, users = (generator.random(1500) < p[0]).astype(float), np.array([f"u{place}" for place in range(1500)], object)
    plain, strict = (duel("a", y, *p, users, at=AT, replicates=400, level=level) for level in (0.05, 0.0125))
    assert "] at 95 % on" in str(plain)
    assert "] at 98.75 % on" in str(strict)
    for metric, apart in plain.difference.items():
        wide = strict.difference[metric]
        assert wide.value == pytest.approx(apart.value, abs=1e-3)
        assert wide.low < apart.low < apart.high < wide.high


def test_few_outcomes_are_not_enough_data() -> None:
    result = fought(60, seed=3, champion=1, challenger=0.1)
    assert result.verdict == "not enough data"
    assert "not enough data" in str(result)
    assert result.rows() == []


def test_a_duel_prints_its_figures() -> None:
    result = fought(2000, seed=4, champion=0.6, challenger=0.6)
    assert "shows no difference shown" not in str(result)
    assert "2,000 users as of 2026-03-01T00:00:00Z" in str(result)
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert document["difference"]["roc_auc"]["value"] == pytest.approx(
        document["challenger"]["roc_auc"]["value"] - document["champion"]["roc_auc"]["value"]
    )
