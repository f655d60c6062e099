"""Flows: sizes of segments, who enters and leaves, names that went to other people."""

import numpy as np
import polars as pl

from experiments.flows import moved
from features.instants import DAY, parse_instant

NOW = parse_instant("2026-03-02T10:00:00")


def answers(*inside: list[bool] | np.ndarray, bundles: tuple[str, ...] = (), apart: int = 7) -> pl.DataFrame:
    """A window of answers per argument, the oldest first, so many days apart: who is in the segment `buyers`."""
    parts = []
    for back, members in enumerate(reversed(inside)):
        n = len(members)
        frame = {
            "user": [f"u{place}" for place in range(n)],
            "at": NOW - back * apart * DAY - np.arange(n)[::-1],
            "bundle": [bundles[-1 - back] if bundles else "b"] * n,
            "segments": [["all", "buyers"] if each else ["all"] for each in members],
        }
        parts.append(pl.DataFrame(frame))
    return pl.concat(parts).sort("at")


def share(seed: int, part: float, n: int = 1000) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < part


def test_a_segment_that_grows_for_two_days_is_told_and_one_that_stays_is_not() -> None:
    week = [share(day, 0.1) for day in range(6)]
    calm = moved(answers(*week, *[share(10 + day, 0.1) for day in range(4)], apart=1), length=DAY)
    assert (calm.verdict, calm.moved) == ("no drift", ())
    grown = moved(answers(*week, *week[:2], share(8, 0.3), share(9, 0.3), apart=1), length=DAY)
    (finding,) = grown.moved
    assert (finding.tier, finding.shift.column, finding.shift.subject) == ("segments", "buyers", "share of users")
    assert finding.shift.after > 0.25 > 0.15 > finding.shift.before
    once = moved(answers(*week, *week[:3], share(9, 0.3), apart=1), length=DAY)
    assert [finding.shift.column for finding in once.once] == ["buyers"]


def test_transitions_move_though_sizes_stay() -> None:
    """Half are buyers all the time; first hardly anybody changes sides, then half of them do, for two windows."""
    half = np.arange(1000) < 500
    other = np.where(np.arange(1000) % 2 == 0, half, ~half)
    report = moved(answers(half, half, half, other), length=DAY)
    assert {finding.shift.column for finding in report.findings if finding.moved} == {"buyers entered", "buyers left"}
    assert report.verdict == "no drift"  # a first window of it
    again = moved(answers(half, half, half, other, half), length=DAY)
    assert {f.shift.column for f in again.findings if f.moved} == set()  # as often as the week before


def test_a_name_that_went_to_other_people_is_no_longer_who_it_was() -> None:
    half = np.arange(1000) < 500
    other = moved(answers(half, ~half, bundles=("a", "b")), length=DAY)
    assert any("buyers is not who it was" in note for note in other.notes)
    same = moved(answers(half, half, bundles=("a", "b")), length=DAY)
    assert not any("not who it was" in note for note in same.notes)


def test_births_and_deaths_are_named() -> None:
    nobody, half = np.zeros(1000, bool), np.arange(1000) < 500
    assert any("new within a week: buyers" in note for note in moved(answers(nobody, half), length=DAY).notes)
    assert any("gone within a week: buyers" in note for note in moved(answers(half, nobody), length=DAY).notes)
