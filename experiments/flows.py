"""Flows: how large segments are, who enters and leaves them, and whether a segment still is who it was."""

from collections.abc import Iterator

import polars as pl

from experiments.drift import FEWEST_USERS, DriftReport, Finding, Sample
from experiments.inference import fisher, holm
from experiments.persistence import WEEK, Window, persistent
from experiments.shift import COHEN_H, Shift, cohen_h
from training.lineage import SAME

Members = dict[str, set[str]]


def moved(answers: pl.DataFrame, *, length: int) -> DriftReport:
    """Segments in the newest windows against the same window a week before; whatever bundle gave the answers.

    Args:
        answers: Columns user, at, bundle and segments (a list of names), in order.
        length: Of a window, microseconds.
    """
    weeks = max(WEEK, length)

    def judge(window: Window) -> DriftReport:
        now, then, earlier = (_Circle(answers, window, steps * weeks) for steps in (0, 1, 2))
        sides = Sample(then.rows, len(then.users)), Sample(now.rows, len(now.users))
        if min(len(now.users), len(then.users)) < FEWEST_USERS:
            return DriftReport(*sides, ())
        found = [*_sizes(now, then), *_steps(now, then, earlier)]
        adjusted = holm([shift.p for shift in found])
        findings = tuple(Finding("segments", shift, p, ()) for shift, p in zip(found, adjusted, strict=True))
        return DriftReport(*sides, findings, notes=tuple(_identity(now, then)))

    return persistent(answers, length, judge)


class _Circle:
    """Who was in which segment in a window, or in one that ended so much before, by everybody's last answer."""

    def __init__(self, answers: pl.DataFrame, window: Window, before: int) -> None:
        rows = answers.filter(pl.col("at").is_between(window.first - before, window.last - before))
        last = rows.unique("user", keep="last", maintain_order=True)
        self.rows, self.users, self.bundles = rows.height, set(last["user"]), set(rows["bundle"])
        members = last.explode("segments").drop_nulls("segments").group_by("segments").agg("user")
        self.members: Members = {name: set(users) for name, users in members.iter_rows()}


def _share(name: str, what: str, then: tuple[int, int], now: tuple[int, int]) -> Shift:
    shares = then[0] / then[1], now[0] / now[1]
    return Shift(name, "share", *shares, fisher(*then, *now), cohen_h(*shares), COHEN_H, what)


def _sizes(now: _Circle, then: _Circle) -> Iterator[Shift]:
    for name in sorted(now.members.keys() | then.members.keys()):
        sides = ((len(side.members.get(name, ())), len(side.users)) for side in (then, now))
        yield _share(name, "share of users", *sides)


def _steps(now: _Circle, then: _Circle, earlier: _Circle) -> Iterator[Shift]:
    """Who entered and who left within a week, against the week before, among users seen at both ends."""
    for name in sorted(now.members.keys() & then.members.keys() & earlier.members.keys()):
        for inside, what in ((False, "share that entered within a week"), (True, "share that left within a week")):
            sides = [_stepped(name, *pair, inside=inside) for pair in ((earlier, then), (then, now))]
            if min(n for _, n in sides) >= FEWEST_USERS:
                yield _share(f"{name} {'left' if inside else 'entered'}", what, *sides)


def _stepped(name: str, start: _Circle, end: _Circle, *, inside: bool) -> tuple[int, int]:
    both = start.users & end.users
    from_here = {user for user in both if (user in start.members[name]) == inside}
    return sum((user in end.members[name]) != inside for user in from_here), len(from_here)


def _identity(now: _Circle, then: _Circle) -> Iterator[str]:
    """Births, deaths, and names that went to other people when another bundle took over."""
    for title, names in (
        ("new", now.members.keys() - then.members.keys()),
        ("gone", then.members.keys() - now.members.keys()),
    ):
        if names:
            yield f"segments that are {title} within a week: {', '.join(sorted(names))}"
    if now.bundles == then.bundles:
        return
    both = now.users & then.users
    for name in sorted(now.members.keys() & then.members.keys()):
        old, new = then.members[name] & both, now.members[name] & both
        if len(old | new) >= FEWEST_USERS and len(old & new) < SAME * len(old | new):
            overlap = len(old & new) / len(old | new)
            yield f"the segment {name} is not who it was before the other bundle: overlap {overlap:.2f} (Jaccard)"
