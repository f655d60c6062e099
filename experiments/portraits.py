"""Portraits: pictures of features: how they are distributed, how they hang together, what they say of an outcome."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments import pages
from experiments.inference import Estimate
from experiments.signals import CLEANING, Signal
from training.steps import fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

    from experiments.exploration import Exploration

Array = NDArray[np.float64]
Draw = Callable[[Sequence["Axes"]], None]

BLUE, ORANGE, GREY, PALE = "#2f6db5", "#c2571a", "#57606a", "#d5dae0"
MOST_PORTRAITS, MOST_BARS, MOST_CELLS = 6, 14, 24
WORD = 12
"""Letters of the words below bars."""
SMALL = 8
"""Points of small print."""


@dataclass(frozen=True)
class Album:
    """Where pictures go: into the page, and beside it as PNG files."""

    folder: Path
    files: list[Path] = field(default_factory=list)

    def add(self, name: str, draw: Draw, *, title: str, height: float, panels: int = 1, rows: int = 1) -> str:
        """The picture as an element of the page."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.files.append(self.folder / f"{name}.png")
        return pages.picture(draw, panels=panels, rows=rows, height=height, title=title, file=self.files[-1])


def plain(axes: "Axes") -> None:
    """Large numbers in a narrow place."""
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(lambda value, _: short(value))


def tidy(axes: "Axes", title: str = "", *, share: bool = False) -> None:
    """No frame, small print."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL)
    if title:
        axes.set_title(title, fontsize=9, loc="left")
    if share:
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def shares(axes: "Axes", values: Array, bins: int | list[float], title: str, *, color: str = BLUE, of: int = 0) -> None:
    """A histogram in shares of all values, or of so many rows."""
    axes.hist(values, bins, weights=np.full(len(values), 1 / (of or max(1, len(values)))), color=color)
    tidy(axes, title, share=True)


def distributions(album: Album, made: "Exploration") -> str:
    """The most telling features before and after cleaning: histograms, and boxes by outcome."""
    shown = [each.feature for each in made.telling if each.feature not in made.words][:MOST_PORTRAITS]
    if not shown:
        return ""
    before = made.matrix.select(tuple(shown)).values
    after = fit(made.matrix, CLEANING, names=shown).transform(made.matrix)
    groups = list(_groups(made))

    def draw(axes: Sequence["Axes"]) -> None:
        for row, name in enumerate(shown):
            first, second, *boxes = axes[4 * row : 4 * row + 4]
            _histogram(first, before[:, row], name)
            shares(second, after[:, row], 30, "", color=ORANGE)  # a long name goes on above it
            for axis, values, title in zip(boxes, (before, after), ("before", "after"), strict=True):
                _boxes(axis, [(label, values[rows, row]) for label, rows in groups])
                axis.yaxis.set_major_formatter(lambda value, _: short(value))
                tidy(axis, title if made.y is None else f"{title}, by outcome")

    height = 1.75 * len(shown)
    return album.add("distributions", draw, title="Before and after cleaning", height=height, panels=4, rows=len(shown))


def _histogram(axes: "Axes", values: Array, title: str) -> None:
    seen = values[~np.isnan(values)]
    low, high = float(seen.min()), float(np.quantile(seen, 0.99))
    whole = bool((seen == np.round(seen)).all()) and high - low <= 40
    bins = np.arange(low - 0.5, high + 1) if whole else np.linspace(low, high if high > low else low + 1, 31)
    shares(axes, np.clip(seen, low, max(high, low)), bins.tolist(), title, of=len(values))
    plain(axes)


def _groups(made: "Exploration") -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """The users by outcome: no and yes, or four parts from little to much."""
    if made.y is None:
        yield "all", np.ones(len(made.matrix), np.bool_)
    elif made.binary:
        yield from (("no", made.y == 0), ("yes", made.y == 1))
    else:
        edges = np.unique(np.quantile(made.y, [0.25, 0.5, 0.75]))
        part = np.searchsorted(edges, made.y, side="left")
        names = ["least", *map(str, range(2, len(edges) + 1)), "most"]
        yield from ((name, part == place) for place, name in enumerate(names))


def _boxes(axes: "Axes", groups: Sequence[tuple[str, Array]]) -> None:
    """Quartiles and median, whiskers from the 5th to the 95th percentile."""
    boxes = axes.boxplot(
        [values[~np.isnan(values)] for _, values in groups],
        tick_labels=[label for label, _ in groups],
        whis=(5, 95),
        widths=0.5,
        showfliers=False,
        patch_artist=True,
        medianprops={"color": ORANGE, "linewidth": 2},
    )
    for box in boxes["boxes"]:
        box.set(facecolor=PALE, edgecolor=GREY)


def thresholds(album: Album, made: "Exploration") -> str:
    """Where the most telling features fall apart: breakpoints, percentiles, deviations."""
    shown = made.telling[:MOST_PORTRAITS]
    if not shown:
        return ""

    def draw(axes: Sequence["Axes"]) -> None:
        for axis, signal in zip(axes, shown, strict=False):
            values, words = made.matrix.column(signal.feature), made.words.get(signal.feature, ())
            if words:
                counts = np.bincount(values[~np.isnan(values)].astype(np.int64), minlength=len(words))
                axis.bar([word[:WORD] for word in words], counts / len(values), color=BLUE)
                tidy(axis, signal.feature, share=True)
            else:
                _marks(axis, values, signal)
        for axis in axes[len(shown) :]:
            axis.set_visible(False)
        lines = next((axis for axis in axes if axis.get_legend_handles_labels()[1]), None)
        if lines is not None:
            lines.legend(fontsize=SMALL - 1, facecolor="white", edgecolor="none", framealpha=0.9, loc="upper right")

    rows = -(-len(shown) // 2)
    return album.add("thresholds", draw, title="Where features fall apart", height=1.9 * rows, panels=2, rows=rows)


def _marks(axes: "Axes", values: Array, signal: Signal) -> None:
    _histogram(axes, values, signal.feature)
    for k, label in ((2, None), (1, "mean ± 1 sd, ± 2 sd")):
        ends = signal.mean - k * signal.sd, signal.mean + k * signal.sd
        axes.axvspan(*ends, color=PALE, alpha=0.4, zorder=0, label=label)
    for place, percentile in enumerate((50, 90)):
        label = None if place else "median, 90th percentile"
        axes.axvline(signal.percentiles[percentile], color=GREY, linewidth=1, label=label)
    for value in signal.breaks:
        label = "natural breaks" if value == signal.breaks[0] else None
        axes.axvline(value, color=ORANGE, linewidth=1.2, linestyle=":", label=label)
    seen = values[~np.isnan(values)]
    low, high = float(seen.min()), max(float(np.quantile(seen, 0.99)), float(seen.min()) + 1e-9)
    axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))


def short(value: float) -> str:
    """A number for a narrow place.

    >>> [short(each) for each in (0.123, 7, 1234.5, 86400000)]
    ['0.12', '7', '1.2k', '86M']
    """
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.2g}{letter}" if abs(value) < 100 * limit else f"{value / limit:.0f}{letter}"
    return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"


def association(album: Album, made: "Exploration") -> str:
    """What single features say: bits, and the lift of their best cut with its interval."""
    shown = [each for each in made.telling if each.bits > 0][:MOST_BARS][::-1]
    if not shown:
        return ""

    def draw(axes: Sequence["Axes"]) -> None:
        axes[0].barh([each.feature for each in shown], [each.bits for each in shown], color=BLUE)
        tidy(axes[0], "bits about the outcome")
        rows = [(place, each.lift, each.told) for place, each in enumerate(shown) if each.lift]
        forest(axes[1], rows)
        axes[1].set_ylim(axes[0].get_ylim())
        axes[1].set_yticks([])
        tidy(axes[1], "outcome inside the best cut against all others")

    height = 1.0 + 0.28 * len(shown)
    return album.add("association", draw, title="What single features say", height=height, panels=2)


def forest(axes: "Axes", rows: Sequence[tuple[int, Estimate, str]]) -> None:
    """Lifts with their intervals, a line each; 1 is no difference."""
    axes.axvline(1, color=GREY, linewidth=1, linestyle="--")
    for place, lift, label in rows:
        color = ORANGE if lift.low > 0 else BLUE if lift.high < 0 else GREY
        axes.plot([1 + lift.low, 1 + lift.high], [place, place], color=color, linewidth=2)
        axes.plot([1 + lift.value], [place], "o", color=color, markersize=5)
        axes.annotate(
            label, (1 + lift.high, place), (6, 0), textcoords="offset points", va="center", fontsize=SMALL - 1
        )
    axes.margins(x=0.25)
    axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")


def cells(
    axes: "Axes",
    values: Array,
    rows: Sequence[str],
    columns: Sequence[str],
    **colors: Any,  # noqa: ANN401 - what matplotlib takes
) -> "QuadMesh":
    """A grid of coloured cells with their names, the first row on top."""
    shown = axes.pcolormesh(values, edgecolors="white", linewidth=0.5, **colors)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows, fontsize=SMALL)
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, fontsize=SMALL)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return shown


def correlations(album: Album, made: "Exploration") -> str:
    """Spearman's correlations of the most telling features, like beside like."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform
    from scipy.stats import rankdata

    varying = [each.feature for each in made.signals if each.sd > 0 and each.feature not in made.words][:MOST_CELLS]
    if len(varying) < 3:
        return ""
    filled = fit(made.matrix, ["impute"], names=varying).transform(made.matrix)
    found = np.asarray(np.corrcoef(rankdata(filled, axis=0), rowvar=False))
    far = squareform(np.clip(1 - np.abs(found), 0, None), checks=False)
    order = leaves_list(linkage(far, "average"))
    names, found = [varying[place] for place in order], found[np.ix_(order, order)]

    def draw(axes: Sequence["Axes"]) -> None:
        shown = cells(axes[0], found, names, names, cmap="RdBu_r", vmin=-1, vmax=1)
        axes[0].tick_params(axis="x", rotation=90)
        axes[0].set_aspect("equal")
        axes[0].figure.colorbar(shown, ax=axes[0], shrink=0.6).ax.tick_params(labelsize=SMALL)

    return album.add("correlations", draw, title="Correlations of ranks", height=2.5 + 0.2 * len(names))
