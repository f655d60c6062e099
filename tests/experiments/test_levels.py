"""Every kind of test of an A/B analysis keeps its level where nothing is there, and its power where something is."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
from scipy import stats

from experiments.ab import ExperimentResult, analyze
from experiments.comparison import Comparison
from experiments.design import design
from experiments.inference import one_sided

TIMES = 2000
USERS, DAYS, SINCE = 1400, 14, 5
SEGMENTS = ("guest", "new", "regular", "vip")
METRICS = ("bought", "revenue", "clicks/impressions")


def users(seed: int, n: int = USERS) -> pl.DataFrame:
    """Users without an effect: a share, a skewed amount, a ratio, a covariate, segments, days of exposure."""
    random = np.random.default_rng(seed)
    before, impressions = random.gamma(1.0, 10.0, n), 1 + random.poisson(4, n)
    bought = random.random(n) < 0.1 + 0.01 * np.minimum(before, 20)
    return pl.DataFrame(
        {
            "user": np.arange(n),
            "arm": random.choice(["old", "new"], n),
            "before": before,
            "bought": bought,
            "revenue": bought * random.lognormal(3, 0.8, n) + 0.2 * before,
            "impressions": impressions,
            "clicks": random.binomial(impressions, random.beta(2, 8, n)),
            "kind": random.choice(SEGMENTS, n, p=[0.4, 0.3, 0.2, 0.1]),
            "day": random.choice([f"2026-05-{day:02d}" for day in range(1, DAYS + 1)], n),
        }
    )


def days_of(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    """One row a user and day since the exposure; a user's days have much in common."""
    random, n = np.random.default_rng((seed, 1)), len(frame)
    own = random.gamma(2.0, 1.0, n)
    row, since = np.divmod(np.arange(n * SINCE), SINCE)
    visits = random.poisson(own[row] * np.exp(-0.3 * since))
    columns = {"user": frame["user"].gather(row), "arm": frame["arm"].gather(row), "since": since, "visits": visits}
    return pl.DataFrame(columns)


def judged(frame: pl.DataFrame, **options: object) -> ExperimentResult:
    return analyze(frame, variant="arm", control="old", metrics=METRICS, user="user", **options)  # type: ignore[arg-type]


def called(seed: int) -> dict[str, bool]:
    """Which tests call a difference, or an alarm, in one experiment without an effect."""
    frame = users(seed)
    plain = judged(frame, by="kind", day="day", daily=days_of(frame, seed))
    adjusted = judged(frame, covariate="before", correction="bh")
    compared = {one.metric: one for one in plain.comparisons if isinstance(one, Comparison)}
    covered = {one.metric: one for one in adjusted.comparisons if isinstance(one, Comparison)}
    bought, summaries = compared["bought"], {arm.name: arm.metrics for arm in plain.arms}
    assert bought.chi_square is not None
    assert plain.segments is not None
    _, best = one_sided(summaries["new"]["revenue"], summaries["old"]["revenue"])
    tests = [each.test for each in plain.segments.interactions]
    looks = {path.metric: [point.always_valid for point in path.points] for path in plain.growth}
    fixed = [point.difference.p < 0.05 for point in plain.growth[1].points]
    (trend,) = (path.trend for path in plain.since)
    assert trend is not None
    sure = {name: any(not low <= 0 <= high for low, high in each) for name, each in looks.items()}
    return {
        "Welch, a share": bought.difference.p < 0.05,
        "chi-square": bought.chi_square.p < 0.05,
        "Welch, a skewed amount": compared["revenue"].difference.p < 0.05,
        "delta method": compared[METRICS[2]].difference.p < 0.05,
        "relative, delta method": bool(bought.lift and bought.lift.p < 0.05),
        **{f"CUPED, {name}": one.judged.p < 0.05 for name, one in covered.items()},
        "guardrail, one-sided": best < 0,
        **{f"interaction, {name}": bool(test and test.p < 0.05) for name, test in zip(METRICS, tests, strict=True)},
        "trend since the exposure": trend.p < 0.05,
        "sample ratio at 5 %": plain.sample_ratio.test.p < 0.05,
        "Holm, any metric": any(one.significant for one in compared.values()),
        "Benjamini-Hochberg, any metric": any(one.significant for one in covered.values()),
        "Holm, any interaction": any(each.significant for each in plain.segments.interactions),
        **{f"always valid, {name}, {DAYS} looks": was for name, was in sure.items()},
        "sample ratio at 0.1 %": not plain.sample_ratio.holds,
        "sample ratio of any segment": bool(plain.segments.broken),
        "shipped": plain.decision.answer == "ship",
        "peeking at Welch": any(fixed),
    }


def levels(times: int, start: int = 0) -> Counter[str]:
    counts: Counter[str] = Counter()
    for seed in range(start, start + times):
        counts.update({name: int(was) for name, was in called(seed).items()})
    return counts


def check(counts: Counter[str], times: int) -> None:
    """Single tests within their band at 5 %; families, and intervals under peeking, at most at it."""
    low, high = stats.binom.ppf([0.0005, 0.9995], times, 0.05)
    for name, count in counts.items():
        share = f"{name}: {count / times:.4f}"
        if name.startswith("always valid"):
            assert count <= 0.05 * times, share
        elif name.startswith("sample ratio") and name != "sample ratio at 5 %":
            assert count <= stats.binom.ppf(0.9995, times, 0.001 * (len(SEGMENTS) if "segment" in name else 1)), share
        elif name == "shipped":
            assert count <= stats.binom.ppf(0.9995, times, 0.025), share
        elif name == "peeking at Welch":
            assert count > 2 * high, share
        elif name.startswith(("Holm", "Benjamini")):
            assert count <= high, share
        else:
            assert low <= count <= high, share


@pytest.mark.prove
def test_two_thousand_experiments_without_an_effect_keep_the_level_of_every_test() -> None:
    counts = levels(TIMES)
    check(counts, TIMES)


def test_a_few_experiments_without_an_effect_call_hardly_anything() -> None:
    counts = levels(20, start=9000)
    assert all(count <= 6 for name, count in counts.items() if name != "peeking at Welch"), counts


# -- power


def planted(kind: str, random: np.random.Generator, n: int, effect: float, arms: int) -> pl.DataFrame:
    """`n` users an arm; the effect is in the arm `a1` alone."""
    arm = np.repeat(np.arange(arms), n)
    lifted, size = effect * (arm == 1), len(arm)
    before = random.normal(0, 1, size)
    if kind == "share":
        y = (random.random(size) < 0.2 + lifted).astype(float)
    elif kind == "ratio":
        sessions = 1 + random.poisson(3, size)
        return pl.DataFrame(
            {"arm": arm, "y": random.binomial(sessions, 0.2 + lifted), "sessions": sessions, "before": before}
        )
    else:
        y = random.normal(0, 1, size) + lifted + (0.0 if kind == "mean" else np.sqrt(3) * before)
    return pl.DataFrame({"arm": arm, "y": y, "before": before})


KINDS = {
    # effect, standard deviation of what is judged, arms
    "share": (0.05, None, 2),
    "mean": (0.15, 1.0, 2),
    "covariate": (0.15, 1.0, 2),  # three quarters of the variance are told before
    "ratio": (0.025, float(np.sqrt(0.2 * 0.8 / 4)), 2),
    "three": (0.15, 1.0, 3),
}


@pytest.mark.prove
@pytest.mark.parametrize("kind", KINDS)
def test_planted_effects_are_found_as_often_as_designed(kind: str) -> None:
    effect, sd, arms = KINDS[kind]
    n = design(0.2, effect, sd=sd, arms=arms, power=0.8).rows_per_arm
    random, found, times = np.random.default_rng(17), 0, 1000
    for _ in range(times):
        frame = planted("mean" if kind == "three" else kind, random, n, effect, arms)
        metric, covariate = "y/sessions" if kind == "ratio" else "y", "before" if kind == "covariate" else None
        result = analyze(frame, variant="arm", control="0", metrics=[metric], covariate=covariate)
        found += any(isinstance(one, Comparison) and one.arm == "1" and one.significant for one in result.comparisons)
    assert 0.75 <= found / times <= 0.85
