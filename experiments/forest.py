"""Forest plot: differences to control with their intervals; and the same along days."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING

from experiments import pages
from experiments.comparison import Comparison
from experiments.effects import Interaction
from experiments.inference import Estimate
from experiments.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREY, GREEN, RED, BLUE = "#57606a", "#15803d", "#b91c1c", "#2f6db5"
COLUMNS = 3
Line = tuple[str, Estimate, str]
"""A name, an estimate, a colour; what is grey is not significant."""


def forest(comparisons: Sequence[Comparison]) -> str:
    """One panel a metric; a line that crosses zero is no difference shown, a filled mark is significant corrected."""
    panels = {
        metric: [(one.arm, one.judged, _color(one)) for one in comparisons if one.metric == metric]
        for metric in dict.fromkeys(one.metric for one in comparisons)
    }
    return _forest(panels, "Differences to control with 95 % intervals")


def segment_forest(interactions: Sequence[Interaction]) -> str:
    """One panel an arm and metric whose effects differ between segments."""
    panels = {
        f"{each.metric} of {each.arm}": [
            (name, effect, GREY if effect.low <= 0 <= effect.high else BLUE) for name, effect in each.effects.items()
        ]
        for each in interactions
    }
    return _forest(panels, "Differences to control per segment with 95 % intervals")


def trajectories(found: Sequence[Trajectory], axis: str, *, sure: bool = False) -> str:
    """One panel a trajectory, with its 95 % intervals; `sure`: the always-valid ones around them."""
    draws = [partial(_trajectory, path=each, axis=axis, sure=sure) for each in found if each.points]
    return _grid(draws, 2.6, f"Differences to control by {axis}")


def _color(one: Comparison) -> str:
    return GREY if not one.significant else GREEN if one.gain > 0 else RED


def _forest(panels: dict[str, list[Line]], title: str) -> str:
    names = list(dict.fromkeys(name for lines in panels.values() for name, *_ in lines))
    draws = [
        partial(_panel, lines=lines, names=names, title=metric, named=place % COLUMNS == 0)
        for place, (metric, lines) in enumerate(panels.items())
    ]
    return _grid(draws, 1.2 + 0.4 * len(names), title)


def _grid(draws: Sequence[Callable[["Axes"], None]], height: float, title: str) -> str:
    """Panels side by side, each row so many inches high; nothing when there are none."""
    if not draws:
        return ""
    columns = min(COLUMNS, len(draws))
    rows = -(-len(draws) // columns)

    def draw(axes: Sequence["Axes"]) -> None:
        for panel, each in zip_longest(axes, draws):
            each(panel) if each else panel.set_visible(False)

    return pages.picture(draw, panels=columns, rows=rows, height=rows * height, title=title)


def _panel(panel: "Axes", *, lines: Sequence[Line], names: Sequence[str], title: str, named: bool) -> None:
    panel.axvline(0, color=GREY, linewidth=1, linestyle="--")
    for name, estimate, color in lines:
        height = names.index(name)
        panel.plot([estimate.low, estimate.high], [height, height], color=color, linewidth=2)
        filled = "white" if color == GREY else color
        panel.plot([estimate.value], [height], "s", color=color, markerfacecolor=filled, markersize=7)
    panel.set_yticks(range(len(names)), names if named else [""] * len(names))
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_title(title)
    panel.locator_params(axis="x", nbins=4)
    panel.spines[["top", "right"]].set_visible(False)


def _trajectory(panel: "Axes", *, path: Trajectory, axis: str, sure: bool) -> None:
    places = range(len(path.points))
    lows, highs = ([getattr(each.difference, side) for each in path.points] for side in ("low", "high"))
    if sure:
        ends = [each.always_valid for each in path.points]
        panel.fill_between(places, [low for low, _ in ends], [high for _, high in ends], color=BLUE, alpha=0.15)
    panel.fill_between(places, lows, highs, color=BLUE, alpha=0.3)
    panel.plot(places, [each.difference.value for each in path.points], color=BLUE, marker="o", markersize=3)
    panel.axhline(0, color=GREY, linewidth=1, linestyle="--")
    step = max(1, len(path.points) // 4)
    panel.set_xticks(list(places)[::step], [each.day[-5:] for each in path.points][::step], fontsize=8)
    panel.set_title(f"{path.metric} of {path.arm}", fontsize=10)
    panel.set_xlabel(axis, fontsize=8)
    panel.spines[["top", "right"]].set_visible(False)
