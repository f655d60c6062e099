"""Scenes: pictures of what people do: funnel, transitions, sequences, hours, places, returns, retention."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from experiments import sequences
from experiments.journeys import HOURS
from experiments.portraits import BLUE, ORANGE, PALE, SMALL, Album, cells, forest, shares, tidy
from features.instants import DAY, format_duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from experiments.exploration import Exploration

MOST_EVENTS, MOST_TRAILS, MOST_LESS = 12, 6, 4
FEWEST = 30
"""Persons behind a cell of the retention picture."""
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
CLICKS = ("click", "tap", "press")


def funnel(album: Album, made: "Exploration") -> str:
    """How many come as far as each step."""
    steps, passed, waits = made.asked.steps, made.journeys.passed, made.journeys.waits
    if len(steps) < 2 or not passed[0]:
        return ""

    def draw(axes: Sequence["Axes"]) -> None:
        places = np.arange(len(steps))[::-1]
        axes[0].barh(places, passed, color=BLUE, height=0.65)
        axes[0].barh(places[1:], passed[:-1] - passed[1:], left=passed[1:], color=PALE, height=0.65)
        for step, place in enumerate(places):
            said = f"{passed[step]:,}"
            if step:
                wait = f", {_hours(float(np.median(waits[step - 1])))} later" if len(waits[step - 1]) else ""
                said += f"   {passed[step] / max(1, passed[step - 1]):.0%} of the step before{wait}"
            end = (passed[max(0, step - 1)], place)
            axes[0].annotate(said, end, (6, 0), textcoords="offset points", va="center", fontsize=SMALL + 1)
        axes[0].set_xlim(0, 1.4 * passed[0])
        axes[0].tick_params(length=0)
        axes[0].set_yticks(places, steps, fontsize=SMALL + 1)
        axes[0].set_xticks([])
        axes[0].spines[:].set_visible(False)

    return album.add("funnel", draw, title="Funnel", height=0.6 + 0.45 * len(steps))


def _hours(hours: float) -> str:
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.0f} days"


def transitions(album: Album, made: "Exploration") -> str:
    """What follows what within a session, as shares of each row."""
    counts, names = made.journeys.transitions, made.asked.names
    shown = np.argsort(-made.journeys.events, kind="stable")[:MOST_EVENTS]
    shown = shown[made.journeys.events[shown] > 0]
    if not len(shown):
        return ""
    rows, columns = np.append(len(names), shown), np.append(shown, len(names))
    shares = counts[rows] / np.maximum(counts[rows].sum(axis=1, keepdims=True), 1)

    def draw(axes: Sequence["Axes"]) -> None:
        labels = [names[place] for place in shown]
        _heat(axes[0], shares[:, columns], ["(begin)", *labels], [*labels, "(end)"])
        axes[0].set_xlabel("next", fontsize=SMALL)
        axes[0].set_ylabel("event", fontsize=SMALL)

    return album.add("transitions", draw, title="What follows what", height=2.2 + 0.27 * len(rows))


def _heat(
    axes: "Axes", values: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], *, least: float = 0.045
) -> None:
    """Shares in blue, written into the cells where they are worth reading."""
    high = float(np.nanmax(values)) if values.size and not np.isnan(values).all() else 1.0
    low = max(0.0, 2 * float(np.nanmin(values)) - high) if values.size and not np.isnan(values).all() else 0.0
    cells(axes, values, rows, columns, cmap="Blues", vmin=low, vmax=high or 1.0)
    for (row, column), value in np.ndenumerate(values):
        if value >= least:
            color = "white" if value > low + 0.6 * (high - low) else "#1b1f24"
            where = (column + 0.5, row + 0.5)
            axes.annotate(f"{100 * value:.0f}", where, ha="center", va="center", fontsize=SMALL - 1, color=color)
    if max(map(len, columns), default=0) > 4:
        axes.set_xticks(axes.get_xticks(), columns, rotation=45, ha="right")


def trails(album: Album, made: "Exploration") -> str:
    """Sequences that go with more of the outcome, and with less, and how much."""
    less = sequences.distinct([each for each in reversed(made.trails) if each.holds and each.lift.high < 0])
    shown = [*made.holding[:MOST_TRAILS], *less[:MOST_LESS]][::-1]
    if not shown:
        return ""

    def draw(axes: Sequence["Axes"]) -> None:
        forest(axes[0], [(place, each.lift, f"{each.share:.0%} of users") for place, each in enumerate(shown)])
        axes[0].set_yticks(range(len(shown)), [str(each) for each in shown])
        tidy(axes[0], "outcome of those who did it against all others, with 95 % intervals")

    return album.add("sequences", draw, title="Sequences", height=1.0 + 0.3 * len(shown))


def hours(album: Album, made: "Exploration") -> str:
    """When things happen, by local hour and weekday: clicks, or everything; and the purchase."""
    names = made.asked.names
    clicks = [place for place, name in enumerate(names) if any(word in name.lower() for word in CLICKS)]
    clicks = clicks if made.journeys.events[clicks].sum() else []
    shown = [("clicks" if clicks else "all events", clicks or list(range(len(names))))]
    shown += [(made.asked.goal, [names.index(made.asked.goal)])] if made.asked.goal else []
    grids = [(title, made.journeys.hours[places].sum(axis=0).reshape(7, HOURS // 7)) for title, places in shown]
    grids = [(title, grid) for title, grid in grids if grid.sum()]
    if not grids:
        return ""

    def draw(axes: Sequence["Axes"]) -> None:
        for axis, (title, grid) in zip(axes, grids, strict=True):
            cells(axis, grid / grid.sum(), WEEKDAYS, (), cmap="Blues", vmin=0)
            axis.set_xticks(np.arange(0, 25, 6), [f"{hour}:00" for hour in range(0, 25, 6)], fontsize=SMALL)
            axis.set_title(f"{title} ({int(grid.sum()):,})", fontsize=9, loc="left")

    return album.add("hours", draw, title="When", height=2.3, panels=len(grids))


def places(album: Album, made: "Exploration") -> str:
    """Where on a page, darker where more."""
    points = made.journeys.points
    if len(points) < FEWEST:
        return ""
    low, high = np.quantile(points, [0.005, 0.995], axis=0)
    high = np.where(high > low, high, low + 1)

    def draw(axes: Sequence["Axes"]) -> None:
        grid, x, y = np.histogram2d(points[:, 0], points[:, 1], bins=48, range=np.column_stack([low, high]).tolist())
        axes[0].pcolormesh(x, y, np.sqrt(grid.T), cmap="Blues")
        axes[0].invert_yaxis()
        axes[0].set_aspect("equal")
        axes[0].set_xlabel(made.asked.place[0], fontsize=SMALL)
        axes[0].set_ylabel(made.asked.place[1], fontsize=SMALL)
        tidy(axes[0], f"{len(points):,} clicks; the page's top is up")

    return album.add("places", draw, title="Where on the page", height=4.5)


def returns(album: Album, made: "Exploration") -> str:
    """How long until the next purchase, and by when those who come back have come back."""
    cut, seen = made.cut, made.journeys.returns
    if cut is None:
        return ""

    def draw(axes: Sequence["Axes"]) -> None:
        title = f"days between two {made.asked.goal} ({len(seen):,} returns)"
        shares(axes[0], np.clip(seen, 0, cut.horizon), 40, title)
        axes[1].step(cut.curve[:, 0], cut.curve[:, 1], where="post", color=BLUE, linewidth=2)
        axes[1].set_ylim(0, None)
        tidy(axes[1], "back by day, of all buyers (Kaplan-Meier)", share=True)
        for axis in axes:
            axis.axvline(cut.days, color=ORANGE, linestyle="--", linewidth=1.5)
        axes[1].annotate(f"day {cut.days}", (cut.days, 0), (4, 4), textcoords="offset points", fontsize=9, color=ORANGE)

    return album.add("returns", draw, title="Time to the next purchase", height=2.6, panels=2)


def retention(album: Album, made: "Exploration") -> str:
    """Of whom came first in a period, how many came again in each period of their own that followed."""
    due, active = made.journeys.due, made.journeys.active
    if (due[:, 1] < FEWEST).all():
        return ""
    rows, columns = np.flatnonzero(due[:, 1] >= FEWEST), np.flatnonzero((due >= FEWEST).any(axis=0))
    shares = np.where(due >= FEWEST, active / np.maximum(due, 1), np.nan)[np.ix_(rows, columns[1:])]
    period = format_duration(made.asked.period)

    def draw(axes: Sequence["Axes"]) -> None:
        names = [_date(made.asked.first + int(row) * made.asked.period) + f"  ({due[row, 0]:,})" for row in rows]
        _heat(axes[0], shares, names, [str(column) for column in columns[1:]], least=0.0)
        axes[0].set_xlabel(f"whole periods of {period} since the first event", fontsize=SMALL)
        axes[0].set_ylabel("first seen from (persons)", fontsize=SMALL)

    return album.add("retention", draw, title="Retention by cohort", height=1.2 + 0.28 * len(rows))


def _date(instant: int) -> str:
    return str(np.datetime64(instant // DAY, "D"))
