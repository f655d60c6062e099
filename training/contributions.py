"""Contributions: how much each column moves a margin, by path-dependent TreeSHAP (Lundberg et al. 2020).

Worked out leaf by leaf over the arrays of a forest: the paths are laid out once, a row is then one loop.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.behaviour.compiled import compiled
from features.errors import BundleError
from training.trees import Forest, below

if TYPE_CHECKING:
    from training.model import Model

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Paths(NamedTuple):
    """The way to every leaf, steps on the same feature together.

    Attributes:
        leaves: Shape (n_leaves,): weights.
        features_from: Shape (n_leaves + 1,): leaf i has the features `features_from[i]:features_from[i + 1]`.
        feature: Per such feature its column.
        share: Per such feature, how much of the training rows goes the leaf's way where the feature is not known.
        steps_from: Per such feature the first of its steps, one more at the end.
        steps: Shape (n_steps, 2): a node, and the child that leads to the leaf.
        base: What the forest says on average.
    """

    leaves: Floats
    features_from: Ints
    feature: Ints
    share: Floats
    steps_from: Ints
    steps: Ints
    base: float


def paths_of(forest: Forest) -> Paths:
    """The paths of a forest; they depend on the model alone."""
    leaves, shares, features, steps = [], [], [], []
    features_from, steps_from, base = [0], [0], float(forest.base[0])
    for root in forest.roots.tolist():
        waiting: list[tuple[int, dict[int, tuple[float, list[tuple[int, int]]]]]] = [(root, {})]
        while waiting:
            node, path = waiting.pop()
            if forest.left[node] < 0:
                leaves.append(float(forest.value[node]))
                for feature, (share, taken) in path.items():
                    features.append(feature)
                    shares.append(share)
                    steps += taken
                    steps_from.append(len(steps))
                features_from.append(len(features))
                base += leaves[-1] * float(forest.cover[node]) / float(forest.cover[root])
                continue
            column = int(forest.feature[node])
            for child in (int(forest.left[node]), int(forest.right[node])):
                share, taken = path.get(column, (1.0, []))
                share *= float(forest.cover[child]) / float(forest.cover[node])
                waiting.append((child, {**path, column: (share, [*taken, (node, child)])}))
    starts, columns, edges = (np.array(each, np.int64) for each in (features_from, features, steps_from))
    taken_ = np.array(steps, np.int64).reshape(-1, 2)
    return Paths(np.array(leaves, np.float64), starts, columns, np.array(shares, np.float64), edges, taken_, base)


def contributions(forest: Forest, paths: Paths, x: NDArray[np.float32]) -> Floats:
    """Shape (n_rows, n_features + 1): per column its part of the margin, last what all rows start from.

    A row's values add up to its margin; they equal XGBoost's `pred_contribs`.
    """
    out = np.zeros((len(x), forest.n_features + 1))
    out[:, -1] = paths.base
    longest = int(np.diff(paths.features_from).max(initial=0))
    weights, ones = np.empty(longest + 1), np.empty(longest + 1)
    x = np.ascontiguousarray(x, np.float32)
    _share(x, *paths[:-1], *forest.packed, weights, ones, out)
    return out


@compiled
def _share(
    x: NDArray[np.float32], leaves: Floats, features_from: Ints, feature: Ints, share: Floats, steps_from: Ints,
    steps: Ints, nodes: NDArray[np.int32], numbers: NDArray[np.float32], weights: Floats, ones: Floats, out: Floats,
) -> None:  # fmt: skip
    for row in range(x.shape[0]):
        for leaf in range(len(leaves)):
            first, n = features_from[leaf], features_from[leaf + 1] - features_from[leaf]
            weights[0] = 1.0
            for k in range(n):
                ones[k] = _agrees(x, row, steps, steps_from[first + k], steps_from[first + k + 1], nodes, numbers)
                _extend(weights, k + 1, share[first + k], ones[k])
            for k in range(n):
                part = _unwound(weights, n, share[first + k], ones[k])
                out[row, feature[first + k]] += part * (ones[k] - share[first + k]) * leaves[leaf]


@compiled
def _agrees(
    x: NDArray[np.float32], row: int, steps: Ints, first: int, last: int, nodes: NDArray[np.int32],
    numbers: NDArray[np.float32],
) -> float:  # fmt: skip
    """1 where the row takes all these steps, else 0."""
    for step in range(first, last):
        if below(np.uint64(steps[step, 0]), x, np.uint64(row), nodes, numbers) != np.uint64(steps[step, 1]):
            return 0.0
    return 1.0


@compiled
def _extend(weights: Floats, length: int, zero: float, one: float) -> None:
    weights[length] = 0.0
    for i in range(length - 1, -1, -1):
        weights[i + 1] += one * weights[i] * (i + 1) / (length + 1)
        weights[i] = zero * weights[i] * (length - i) / (length + 1)


@compiled
def _unwound(weights: Floats, length: int, zero: float, one: float) -> float:
    """The weights' sum as it would be without this feature."""
    following, total = weights[length], 0.0
    for i in range(length - 1, -1, -1):
        if one != 0.0:
            mine = following * (length + 1) / ((i + 1) * one)
            total += mine
            following = weights[i] - mine * zero * (length - i) / (length + 1)
        else:
            total += weights[i] * (length + 1) / (zero * (length - i))
    return total


def paths_of_all(forest: Forest) -> list[Paths]:
    """The paths to each of its margins."""
    return [paths_of(forest.only(output)) for output in range(len(forest.base))]


def moved(model: "Model", paths: list[Paths], values: Floats) -> dict[str, Any]:
    """How much each prepared column moves the first row's margin, of several classes that of the one told."""
    if not isinstance(model.head, Forest):
        raise BundleError(f"the model {model.study!r} has no trees whose margin could be taken apart.")
    x, scores = model.preparation.apply(values[:1]).astype(np.float32), model.score_values(values[:1])
    output = int(scores.column()[0]) if model.kind == "classes" else 0
    *parts, base = contributions(model.head.only(output), paths[output], x)[0].tolist()
    named = {"class": model.names[output]} if model.kind == "classes" else {}
    return {**named, "base": base, "columns": dict(zip(model.preparation.outputs, parts, strict=True))}
