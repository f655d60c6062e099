"""Portraits: pictures of features: how they are distributed, how they hang together, what they say of an outcome."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from experiments import pages
from experiments.inference import Estimate
from experiments.signals import CLEANING, Signal
from training.steps import fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from experiments.exploration import Exploration

Array = NDArray[np.float64]
Draw = Callable[[Sequence["Axes"]], None]

BLUE, ORANGE, GREY, PALE = "#2f6db5", "#c2571a", "#57606a", "#d5dae0"
MOST_PORTRAITS, MOST_BARS, MOST_CELLS = 6, 14, 24
BINS, WORD = 10, 12
"""Bars, and letters of the words below them."""
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


def outcome(album: Album, made: "Exploration") -> str:
    """How a numeric outcome is distributed: all of it, and the part above 0 on a logarithmic scale."""
    if made.y is None or made.binary:
        return ""
    y = made.y
    above = y[y > 0]

    def draw(axes: Sequence["Axes"]) -> None:
        axes[0].hist(np.clip(y, None, np.quantile(y, 0.99)), 40, weights=np.full(len(y), 1 / len(y)), color=BLUE)
        tidy(axes[0], "all users, up to the 99th percentile", share=True)
        if len(above):
            axes[1].hist(np.log10(above), 40, weights=np.full(len(above), 1 / len(above)), color=BLUE)
            axes[1].xaxis.set_major_formatter(lambda value, _: f"{10**value:,.0f}")
        tidy(axes[1], f"the {len(above) / len(y):.0%} above 0, logarithmic", share=True)

    return album.add("outcome", draw, title="The outcome", height=2.4, panels=2)


def distributions(album: Album, made: "Exploration") -> str:
    """The most telling features before and after cleaning, and after it by outcome."""
    shown = [each.feature for each in made.telling if each.feature not in made.words][:MOST_PORTRAITS]
    if not shown:
        return ""
    before = made.matrix.select(tuple(shown)).values
    after = fit(made.matrix, CLEANING, names=shown).transform(made.matrix)
    groups = list(_groups(made))

    def draw(axes: Sequence["Axes"]) -> None:
        for row, name in enumerate(shown):
            left, middle, right = axes[3 * row : 3 * row + 3]
            _histogram(left, before[:, row])
            tidy(left, name, share=True)
            middle.hist(after[:, row], 30, weights=np.full(len(after), 1 / len(after)), color=ORANGE)
            tidy(middle, "after impute, cap, log", share=True)
            _boxes(right, [(label, after[rows, row]) for label, rows in groups])
            tidy(right, "after, by outcome" if made.y is not None else "after")

    height = 1.75 * len(shown)
    return album.add("distributions", draw, title="Before and after cleaning", height=height, panels=3, rows=len(shown))


def _histogram(axes: "Axes", values: Array) -> None:
    seen = values[~np.isnan(values)]
    low, high = float(seen.min()), float(np.quantile(seen, 0.99))
    whole = bool((seen == np.round(seen)).all()) and high - low <= 40
    bins = np.arange(low - 0.5, high + 1) if whole else np.linspace(low, high if high > low else low + 1, 31)
    axes.hist(
        np.clip(seen, low, max(high, low)), bins.tolist(), weights=np.full(len(seen), 1 / len(values)), color=BLUE
    )
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
        [values for _, values in groups],
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
    """Where the most telling features fall apart: breakpoints, percentiles, deviations; and the outcome by bin."""
    shown = made.telling[:MOST_PORTRAITS]
    if not shown:
        return ""
    panels = 2 if made.y is not None else 1

    def draw(axes: Sequence["Axes"]) -> None:
        for row, signal in enumerate(shown):
            values = made.matrix.column(signal.feature)
            words = made.words.get(signal.feature, ())
            if words:
                parts = list(bins(values, words=words))
                axes[panels * row].bar([label for label, _ in parts], [rows.mean() for _, rows in parts], color=BLUE)
                tidy(axes[panels * row], signal.feature, share=True)
            else:
                _marks(axes[panels * row], values, signal)
            if made.y is not None:
                _by_bin(axes[2 * row + 1], values, made.y, signal, words, binary=made.binary)
        lines = next((axis for axis in axes if axis.get_legend_handles_labels()[1]), None)
        if lines is not None:
            lines.legend(fontsize=SMALL - 1, facecolor="white", edgecolor="none", framealpha=0.9, loc="upper right")

    height = 1.9 * len(shown)
    return album.add(
        "thresholds", draw, title="Where features fall apart", height=height, panels=panels, rows=len(shown)
    )


def _marks(axes: "Axes", values: Array, signal: Signal) -> None:
    _histogram(axes, values)
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
    tidy(axes, signal.feature, share=True)


def _by_bin(axes: "Axes", values: Array, y: Array, signal: Signal, words: Sequence[str], *, binary: bool) -> None:
    """The mean outcome of each bin with its 95 % interval."""
    split, told = signal.split, signal.told
    labels, means, errors, inside = [], [], [], []
    for label, rows in bins(values, split.threshold if split else None, words=words):
        mean, error = float(y[rows].mean()), 1.96 * float(y[rows].std()) / max(1, int(rows.sum())) ** 0.5
        labels.append(label)
        means.append(mean)
        errors.append((min(error, mean), error))
        inside.append(bool(split is not None and split.inside(values[rows]).mean() > 0.5))
    colors = [ORANGE if each else BLUE for each in inside]
    axes.bar(range(len(labels)), means, color=colors, width=0.8)
    axes.errorbar(range(len(labels)), means, np.array(errors).T, fmt="none", ecolor=GREY, elinewidth=1)
    axes.axhline(float(y.mean()), color=GREY, linewidth=1, linestyle="--")
    axes.set_xticks(range(len(labels)), labels, fontsize=SMALL - 1, rotation=30 if len(labels) > 6 else 0)
    tidy(axes, f"outcome; {told} in orange" if split else "outcome", share=binary)


def bins(
    values: Array, cut: float | None = None, *, words: Sequence[str] = ()
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """About tenths of the values, parted at `cut` as well; each is called by where it begins.

    Of a category the most frequent values, by their words. Then come those without a value.
    """
    there = ~np.isnan(values)
    if words:
        counts = np.bincount(values[there].astype(np.int64), minlength=len(words))
        shown = [int(place) for place in np.argsort(-counts, kind="stable")[:BINS] if counts[place]]
        yield from ((words[place][:WORD], values == place) for place in shown)
        if not there.all():
            yield "none", ~there
        return
    seen = values[there]
    edges = np.unique(np.quantile(seen, np.arange(1, BINS) / BINS, method="higher"))
    if cut is not None:  # in the place of the edge nearest to it, so that no bar is of a handful
        edges = np.unique(np.append(np.delete(edges, np.abs(edges - cut).argmin()), cut))
    edges = edges[(edges > seen.min()) & (edges <= seen.max())]
    part = np.searchsorted(edges, values, side="right")
    for place, begin in enumerate([float(seen.min()), *edges.tolist()]):
        more = "+" if place == len(edges) and seen.max() > begin else ""
        yield short(begin) + more, there & (part == place)
    if not there.all():
        yield "none", ~there


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
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")


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
        shown = axes[0].pcolormesh(found, cmap="RdBu_r", vmin=-1, vmax=1, edgecolors="white", linewidth=0.5)
        places = np.arange(len(names)) + 0.5
        axes[0].set_xticks(places, names, rotation=90, fontsize=SMALL - 1)
        axes[0].set_yticks(places, names, fontsize=SMALL - 1)
        axes[0].invert_yaxis()
        axes[0].set_aspect("equal")
        axes[0].figure.colorbar(shown, ax=axes[0], shrink=0.6).ax.tick_params(labelsize=SMALL)

    return album.add("correlations", draw, title="Correlations of ranks", height=2.5 + 0.2 * len(names))
