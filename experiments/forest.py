"""Forest plot: differences to control with their intervals, one panel a metric."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments import pages
from experiments.comparison import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def forest(comparisons: Sequence[Comparison]) -> str:
    """An inline picture; a line that crosses zero is no difference shown, a filled mark is significant after Holm."""
    metrics = list(dict.fromkeys(one.metric for one in comparisons))
    arms = list(dict.fromkeys(one.arm for one in comparisons))

    def draw(axes: Sequence["Axes"]) -> None:
        for panel, metric in zip(axes, metrics, strict=True):
            _panel(panel, [one for one in comparisons if one.metric == metric], arms, metric)
        for panel in axes[1:]:
            panel.set_yticklabels([])

    title = "Differences to control with 95 % intervals"
    return pages.picture(draw, panels=len(metrics), height=1.2 + 0.5 * len(arms), title=title)


def _panel(panel: "Axes", comparisons: Sequence[Comparison], arms: Sequence[str], metric: str) -> None:
    panel.axvline(0, color="#57606a", linewidth=1, linestyle="--")
    for one in comparisons:
        height = arms.index(one.arm)
        color = "#57606a" if not one.significant else "#15803d" if one.judged.value > 0 else "#b91c1c"
        panel.plot([one.judged.low, one.judged.high], [height, height], color=color, linewidth=2)
        filled = color if one.significant else "white"
        panel.plot([one.judged.value], [height], "s", color=color, markerfacecolor=filled, markersize=8)
    panel.set_yticks(range(len(arms)), arms)
    panel.set_ylim(len(arms) - 0.5, -0.5)
    panel.set_title(metric)
    panel.locator_params(axis="x", nbins=4)
    panel.spines[["top", "right"]].set_visible(False)
