"""Persistence: two of three windows, a week before, since when; windows without answers."""

import numpy as np
import polars as pl
import pytest

from experiments.drift import DriftReport, compare
from experiments.persistence import Window, persistent, windows
from features.instants import DAY, SECOND, parse_instant

NOW = parse_instant("2026-03-02T10:00:00")
REFERENCE = pl.DataFrame({"x": np.random.default_rng(0).normal(0, 1, 2000)})


def answers(moves: str, *, step: int = DAY, users: int = 300) -> pl.DataFrame:
    """A window per letter, the newest last: `.` calm, `!` moved, a space without answers."""
    parts = []
    for back, letter in enumerate(reversed(moves)):
        if letter == " ":
            continue
        x = np.random.default_rng(back + 1).normal(1.0 if letter == "!" else 0.0, 1, users)
        at = NOW - back * step - np.arange(users)[::-1]
        parts.append(pl.DataFrame({"user": [f"u{i}" for i in range(users)], "at": at, "x": x}))
    return pl.concat(parts).sort("at")


def looked(moves: str, *, step: int = DAY) -> DriftReport:
    def judge(window: Window) -> DriftReport:
        return compare(REFERENCE, window.rows.select("x"))

    return persistent(
        answers(moves, step=step), DAY, judge, lambda then, now: compare(then.rows[["x"]], now.rows[["x"]])
    )


@pytest.mark.parametrize(
    ("moves", "verdict"),
    [
        ("...", "no drift"),
        ("..!", "no drift"),
        (".!!", "drift"),
        ("!.!", "drift"),
        ("!!.", "no drift"),
        ("!", "not enough data"),
        (".", "no drift"),
        ("!!", "drift"),
        ("! ! !", "drift"),
        ("!......!", "no drift"),
    ],
)
def test_two_of_three_windows_that_have_answers_are_an_alarm(moves: str, verdict: str) -> None:
    assert looked(moves).verdict == verdict


@pytest.mark.parametrize(
    ("moves", "days", "week"),
    [
        ("........!!!", 3, "not so a week before"),
        (".....!.!!!", 5, "not so a week before"),
        ("!!!!!!!!!!!", 11, "as a week before"),
        (".!!", 2, ""),
    ],
)
def test_an_alarm_says_since_when_and_how_it_was_a_week_before(moves: str, days: int, week: str) -> None:
    (finding,) = looked(moves).moved
    assert finding.since == NOW - days * DAY + 1
    assert finding.week == week


def test_every_weekend_is_a_rhythm_and_no_alarm() -> None:
    report = looked("..!!.....!!")
    assert report.verdict == "no drift"
    assert [finding.week for finding in report.once] == ["a weekly rhythm"]
    assert "weekly rhythm" in report.actions[0]


def test_a_batch_a_week_is_a_window_a_week() -> None:
    assert looked(".!!", step=7 * DAY).verdict == "drift"
    assert len(windows(answers(".!!", step=7 * DAY), DAY)) == 3


def test_a_batch_that_took_longer_than_the_newest_is_not_cut_in_two() -> None:
    starts = [day * DAY + second * SECOND * slow for day, slow in ((0, 9), (1, 1), (2, 4)) for second in range(200)]
    users = [f"u{second}" for _ in range(3) for second in range(200)]
    seen = windows(pl.DataFrame({"user": users, "at": starts}), DAY)
    assert [each.users for each in seen] == [200, 200, 200]
    twice = pl.DataFrame({"user": users[:400], "at": [*starts[200:400], *(at - DAY // 2 for at in starts[200:400])]})
    assert windows(twice, DAY)[0].users == 200
    assert windows(twice, DAY)[0].rows.height == 400  # two batches a day are one window
    around = pl.DataFrame({"user": users, "at": np.linspace(0, 3 * DAY, 600).astype(np.int64)})
    assert windows(around, DAY)[0].last == 3 * DAY  # traffic around the clock ends with the newest answer


def test_what_is_wrong_with_the_data_does_not_wait() -> None:
    rows = answers("..!").with_columns(pl.when(pl.col("at") > NOW - DAY).then(None).otherwise(pl.col("x")).alias("x"))
    report = persistent(rows, DAY, lambda window: compare(REFERENCE, window.rows.select("x")))
    assert (report.verdict, report.moved[0].tier, report.moved[0].persists) == ("drift", "data quality", False)
