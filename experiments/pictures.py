"""Pictures of a study: what a reader looks at before any number. Matplotlib lives here alone."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from experiments.fitting import Influence

Array = NDArray[np.float64]
DPI = 90


def propensity(
    folder: Path,
    y: Array,
    predictions: Mapping[str, Array],
    gain: Mapping[str, float],
    influence: Mapping[str, "Influence"],
) -> list[Path]:
    """ROC, precision and recall, calibration, what the trees ask about, and what that does.

    Args:
        folder: Where the PNG files go.
        y: Shape (n_rows,), labels of the test rows.
        predictions: Per model, probabilities of the same rows; the first is drawn strongest.
        gain: Total gain per feature, largest first.
        influence: Per column, largest first.
    """
    base = float(y.mean())
    paths = [
        _curves(folder / "roc.png", y, predictions, _roc, ("share of the others", "share of the positive"), (0, 1)),
        _curves(folder / "precision_recall.png", y, predictions, _pr, ("recall", "precision"), (base, base)),
        _curves(folder / "calibration.png", y, predictions, _bins, ("predicted", "happened"), (0, 1)),
    ]
    return [*paths, importance(folder / "importance.png", gain), shap(folder / "shap.png", influence)]


def importance(path: Path, gain: Mapping[str, float], most: int = 20) -> Path:
    """The features with the largest total gain."""
    names = list(gain)[:most][::-1]
    total = sum(gain.values()) or 1.0

    def draw(axes: "Axes") -> None:
        axes.barh(names, [gain[name] / total for name in names], color="#3b6ea5")
        axes.set_xlabel("share of the total gain")

    return _save(path, draw, height=1.2 + 0.24 * len(names))


def shap(path: Path, influence: Mapping[str, "Influence"], most: int = 15) -> Path:
    """A dot a row: how far its value moves its log-odds, dark where the value is high."""
    shown = list(influence.items())[:most][::-1]
    random = np.random.default_rng(0)

    def draw(axes: "Axes") -> None:
        for place, (_, each) in enumerate(shown):
            there = ~np.isnan(each.values)
            ranks = np.zeros(len(each.values))
            ranks[there] = np.argsort(np.argsort(each.values[there])) / max(int(there.sum()), 1)
            heights = place + random.uniform(-0.3, 0.3, len(each.values))
            axes.scatter(each.parts, heights, c=np.where(there, ranks, 0.0), cmap="viridis_r", s=3, linewidths=0)
        axes.set_yticks(range(len(shown)), labels=[name for name, _ in shown])
        axes.axvline(0, color="#999999", linewidth=0.8)
        axes.set_xlabel("what it adds to the log-odds (dark: a high value)")

    return _save(path, draw, height=1.2 + 0.3 * len(shown))


def clusters(
    folder: Path, ks: Sequence[int], silhouettes: Sequence[float], inertias: Sequence[float], shares: Sequence[float]
) -> list[Path]:
    """Silhouette and elbow by the number of clusters, and the sizes of those that were kept."""

    def line(values: Sequence[float], label: str) -> Callable[["Axes"], None]:
        def draw(axes: "Axes") -> None:
            axes.plot(ks, values, marker="o", color="#3b6ea5")
            axes.axvline(len(shares), color="#b5462f", linestyle=":")
            axes.set_xticks(list(ks))
            axes.set_xlabel("clusters")
            axes.set_ylabel(label)

        return draw

    def sizes(axes: "Axes") -> None:
        axes.bar([str(place) for place in range(len(shares))], list(shares), color="#3b6ea5")
        axes.set_xlabel("cluster")
        axes.set_ylabel("share of the users")

    return [
        _save(folder / "silhouette.png", line(silhouettes, "silhouette")),
        _save(folder / "elbow.png", line(inertias, "inertia")),
        _save(folder / "sizes.png", sizes),
    ]


def heat(path: Path, profile: Array, clusters_: Sequence[str], features: Sequence[str]) -> Path:
    """What distinguishes the clusters: standard deviations from the mean, cluster by feature."""

    def draw(axes: "Axes") -> None:
        shown = axes.imshow(profile.T, aspect="auto", cmap="RdBu_r", vmin=-2, vmax=2)
        axes.set_yticks(range(len(features)), labels=list(features), fontsize=7)
        axes.set_xticks(range(len(clusters_)), labels=[str(place) for place in range(len(clusters_))])
        axes.set_xlabel("cluster")
        axes.figure.colorbar(shown, ax=axes, label="standard deviations from the mean")

    return _save(path, draw, height=1.5 + 0.2 * len(features))


def _curves(
    path: Path,
    y: Array,
    predictions: Mapping[str, Array],
    curve: Callable[[Array, Array], tuple[Array, Array]],
    labels: tuple[str, str],
    diagonal: tuple[float, float],
) -> Path:
    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], diagonal, color="#999999", linewidth=0.8, linestyle=":")
        for place, (name, p) in enumerate(predictions.items()):
            x, values = curve(y, p)
            axes.plot(x, values, label=name, linewidth=2.0 if not place else 1.0)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.legend(fontsize=8)

    return _save(path, draw)


def _ranked(y: Array, p: Array) -> tuple[Array, Array]:
    order = np.argsort(-p, kind="stable")
    last = np.concatenate([p[order][1:] != p[order][:-1], [True]])
    hits, chosen = np.cumsum(y[order])[last], np.arange(1, len(y) + 1)[last]
    return hits, chosen


def _roc(y: Array, p: Array) -> tuple[Array, Array]:
    hits, chosen = _ranked(y, p)
    n_pos = y.sum()
    return np.append(0, (chosen - hits) / (len(y) - n_pos)), np.append(0, hits / n_pos)


def _pr(y: Array, p: Array) -> tuple[Array, Array]:
    hits, chosen = _ranked(y, p)
    return hits / y.sum(), hits / chosen


def _bins(y: Array, p: Array) -> tuple[Array, Array]:
    parts = [part for part in np.array_split(np.argsort(p, kind="stable"), 10) if len(part)]
    return np.array([p[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])


def _save(path: Path, draw: Callable[["Axes"], None], height: float = 4.0) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, height), layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.subplots())
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    return path
