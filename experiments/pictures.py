"""Pictures of a study: what a reader looks at before any number. Matplotlib lives here alone."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from experiments.result import Influence
    from experiments.search import Found

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
        y: Shape (n_rows,), labels of the judged rows.
        predictions: Per model, probabilities of the same rows; the first is drawn strongest. Of several classes, every
            class of every row is a point.
        gain: Total gain per feature, largest first.
        influence: Per column, largest first.
    """
    first = next(iter(predictions.values()))
    if first.ndim == 2:
        y = np.eye(first.shape[1])[y.astype(np.int64)].ravel()
        predictions = {name: p.ravel() for name, p in predictions.items()}
    base = float(y.mean())
    paths = [
        _curves(folder / "roc.png", y, predictions, _roc, ("share of the others", "share of the positive"), (0, 1)),
        _curves(folder / "precision_recall.png", y, predictions, _pr, ("recall", "precision"), (base, base)),
        _curves(folder / "calibration.png", y, predictions, _bins, ("predicted", "happened"), (0, 1)),
    ]
    return [*paths, importance(folder / "importance.png", gain), shap(folder / "shap.png", influence)]


def importance(path: Path, gain: Mapping[str, float]) -> Path:
    """The features with the largest total gain."""
    names = list(gain)[:20][::-1]
    total = sum(gain.values()) or 1.0

    def draw(axes: "Axes") -> None:
        axes.barh(names, [gain[name] / total for name in names], color="#3b6ea5")
        axes.set_xlabel("share of the total gain")

    return _save(path, draw, height=1.2 + 0.24 * len(names))


def shap(path: Path, influence: Mapping[str, "Influence"]) -> Path:
    """A dot a row: how far its value moves its log-odds, dark where the value is high."""
    shown = list(influence.items())[:15][::-1]
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


def searched(folder: Path, found: "Found", aims: Mapping[str, str]) -> list[Path]:
    """What was tried: two objectives against each other with the front, silhouette and elbow by number of clusters."""
    able = [trial for trial in found.trials if trial.state == "complete" and not trial.figures.get("violation")]
    one, other = list(aims)[:2]

    def front(axes: "Axes") -> None:
        for trials, style in ((able, "o"), (found.front, "D"), ([found.best], "*")):
            label = {"o": "tried", "D": "not beaten", "*": "chosen"}[style]
            size, color = {"o": (5, "#9fb4cc"), "D": (6, "#3b6ea5"), "*": (13, "#b5462f")}[style]
            points = [[trial.figures[name] for trial in trials] for name in (one, other)]
            axes.plot(*points, style, label=label, markersize=size, color=color)
        for trial in found.front:
            place = (trial.figures[one], trial.figures[other])
            axes.annotate(f"{trial.figures['k']:.0f}", place, (6, 4), textcoords="offset points", fontsize=8)
        told = [
            f"{name.replace('_', '-')} ({'more' if aims[name] == 'maximize' else 'less'} is better)" for name in aims
        ]
        axes.set(xlabel=told[0], ylabel=told[1])
        axes.legend(fontsize=8)

    def by_number(name: str) -> Callable[["Axes"], None]:
        best: dict[int, float] = {}
        for trial in sorted(able, key=lambda each: each.figures["silhouette"]):
            best[int(trial.figures["k"])] = trial.figures[name]
        return _by_k(sorted(best), [best[k] for k in sorted(best)], int(found.best.figures["k"]), name)

    return [
        _save(folder / "front.png", front),
        _save(folder / "silhouette.png", by_number("silhouette")),
        _save(folder / "elbow.png", by_number("inertia")),
    ]


def _by_k(ks: Sequence[int], values: Sequence[float], chosen: int, label: str) -> Callable[["Axes"], None]:
    def draw(axes: "Axes") -> None:
        axes.plot(ks, values, marker="o", color="#3b6ea5")
        axes.axvline(chosen, color="#b5462f", linestyle=":")
        axes.set(xticks=list(ks), xlabel="clusters", ylabel=label)

    return draw


def gap(path: Path, ks: Sequence[int], gaps: Array, errors: Array, chosen: int) -> Path:
    """How much tighter the clusters are than those of rows strewn evenly."""

    def draw(axes: "Axes") -> None:
        _by_k(ks, gaps.tolist(), chosen, "gap")(axes)
        axes.errorbar(ks, gaps, errors, fmt="none", color="#3b6ea5", capsize=3)

    return _save(path, draw)


def dendrogram(path: Path, tree: Array, k: int) -> Path:
    """The last merges of a hierarchy, and where it is cut."""
    from scipy.cluster import hierarchy

    def draw(axes: "Axes") -> None:
        cut = float(tree[-k : -k + 2 or None, 2].mean())
        hierarchy.dendrogram(tree, p=30, truncate_mode="lastp", no_labels=True, color_threshold=cut, ax=axes)
        axes.axhline(cut, color="#b5462f", linestyle=":")
        axes.set_ylabel("distance of what is merged")

    return _save(path, draw)


def sizes(path: Path, shares: Sequence[float]) -> Path:
    """Share of the users per cluster."""

    def draw(axes: "Axes") -> None:
        axes.bar([str(place) for place in range(len(shares))], list(shares), color="#3b6ea5")
        axes.set(xlabel="cluster", ylabel="share of the users")

    return _save(path, draw)


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
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.legend(fontsize=8)

    return _save(path, draw)


def _roc(y: Array, p: Array) -> tuple[Array, Array]:
    from sklearn.metrics import roc_curve

    others, hits, _ = roc_curve(y, p)
    return others, hits


def _pr(y: Array, p: Array) -> tuple[Array, Array]:
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(y, p)
    return recall[:-1], precision[:-1]  # the last point is nobody's


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
