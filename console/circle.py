"""Circle: the demo of the closed loop: people come less often, and what is served mends itself while it answers."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from console.passing import Passing
from console.terminal import show
from features.instants import DAY
from features.people import pseudonym

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from experiments.turn import Decision

HISTORY, CHANGE, MOST, AFTER = 60, 62, 40, 4
"""Days of history, the day of the change, how many days are lived at most, and how many after a promotion."""
PEOPLE, EVERY = 3_000, 2
DEFINITIONS = {
    "features.yaml": """version: 1
features:
  - {count: [any, product_viewed, product_added, cart_viewed, order_completed], windows: [1d, 7d, 30d]}
  - {recency: [any, product_added, order_completed]}
  - {active_days: any, windows: [7d, 30d]}
""",
    "studies.yaml": """version: 1
studies:
  purchase_7d:
    kind: propensity
    predicts: {did: order_completed, within: 7d}
    population: {did: any, within: 30d}
    cuts: {every: 7d, last: 6}
    search: {trials: 2, seed: 7}
""",
    "loop.yaml": """version: 1
triggers: {every: never, drift: true}
cool_down: 8d
shadow: {at_least: 3d, outcomes: 100}
""",
}


def circle(folder: Path, *, seed: int) -> None:
    """Tell it; the folder holds the shop's definitions, and is the caller's to make."""
    from experiments.loop import run_once
    from features.project import Project
    from features.simulate import Shift, Shop

    begin = time.perf_counter()

    def chapter(title: str) -> None:
        show(f"\n== {title}  ({time.perf_counter() - begin:.0f} s)")

    for name, text in DEFINITIONS.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "segments.yaml").unlink(missing_ok=True)
    project = Project.find(folder)
    chapter(f"{HISTORY} days of a shop, {PEOPLE:,} people; who orders within a week?")
    shop = Shop(PEOPLE, HISTORY + MOST, seed, dirt=0, shift=Shift(CHANGE, visits=0.4))
    passing = Passing.begun(project, shop, history=HISTORY)
    first = run_once(project)
    show(f"  {first.headline}: {first.triggers[0]}, so the loop ran\n  {first.studied[0]}")
    chapter(f"Days go by, through HTTP; from day {CHANGE} on people come less than half as often")
    with passing.served():
        decisions = _lived(passing)
    promised = _promised(passing)
    chapter("What came of it")
    show(f"  {passing.asked:,} questions were answered, {len(passing.failed)} failed")
    for day, decision in decisions:
        if decision.answer in ("in shadow", "promoted", "confirmed", "rolled back"):
            show(f"  day {day}: {decision.headline}: {decision.reasons[0]}")
    file = folder / "reports" / "promised.png"
    _draw(promised, decisions, file)
    show(f"  promised and happened  {file}")
    show(f"  the whole story        {folder / 'reports' / 'index.html'}")
    show(f"\ndone in {time.perf_counter() - begin:.0f} s; nothing is left running. Once more: make demo ARGS=loop")


def _lived(passing: Passing) -> list[tuple[int, "Decision"]]:
    """Days until some after a promotion, with a line a turn."""
    decisions: list[tuple[int, Decision]] = []
    for day in range(HISTORY, HISTORY + MOST):
        passing.live(day)
        if day % EVERY:
            continue
        decision = passing.turn()
        decisions.append((day, decision))
        why = decision.triggers[0] if decision.triggers else decision.reasons[0]
        show(f"  day {day}  {decision.drift or 'not judged':<16} {decision.answer:<14} {why[:100]}")
        if any(each.answer == "promoted" and earlier + AFTER <= day for earlier, each in decisions):
            break
    return decisions


def _promised(passing: Passing) -> list[tuple[int, float, float]]:
    """Per day: the mean probability that was answered, and the share of these people who did order."""
    project, frame = passing.project, passing.frame
    columns = ["user", "at", "source", "score_purchase_7d"]
    files = sorted(project.path("predictions").glob("2*/*.parquet"))
    answers = pl.concat([pl.read_parquet(file, columns=columns) for file in files])
    hidden = {pseudonym(project.key, user): user for user in passing.truth.people["user"]}
    people = passing.truth.people.select("person", user="user")
    orders = frame.filter(pl.col("event") == "order_completed").select("person", "ts").join(people, on="person")
    rows = []
    for day in range(HISTORY, HISTORY + MOST - 7):
        end = passing.shop.start + (day + 1) * DAY
        asked = answers.filter(pl.col("at").is_between(end, end + DAY // 2), pl.col("source") == "live").unique("user")
        if asked.is_empty():
            break
        did = set(orders.filter(pl.col("ts").is_between(end, end + 7 * DAY))["user"])
        happened = sum(hidden.get(user) in did for user in asked["user"]) / asked.height
        rows.append((day, float(asked["score_purchase_7d"].to_numpy().mean()), happened))
    return rows


def _draw(promised: list[tuple[int, float, float]], decisions: list[tuple[int, "Decision"]], file: Path) -> None:
    from experiments import pages

    def draw(axes: Sequence["Axes"]) -> None:
        days = [row[0] for row in promised]
        axes[0].plot(days, [row[1] for row in promised], color="#2f6db5", label="promised: mean probability")
        axes[0].plot(days, [row[2] for row in promised], color="#1b1f24", label="happened: share who ordered")
        axes[0].axvline(CHANGE, color="#b91c1c", linestyle=":", label="people come less often")
        for day, decision in decisions:
            if decision.answer in ("in shadow", "promoted"):
                colour = "#15803d" if decision.answer == "promoted" else "#9ca3af"
                axes[0].axvline(day, color=colour, linestyle="--", label=decision.answer)
        axes[0].set_xlabel("day")
        axes[0].set_ylim(bottom=0)
        axes[0].legend(frameon=False, fontsize=8)

    file.parent.mkdir(parents=True, exist_ok=True)
    pages.picture(draw, height=3.6, title="promised and happened", file=file)
