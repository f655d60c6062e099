"""Trees: a walk over XGBoost's own JSON model, equal to XGBoost's margins to the bit, without XGBoost."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.behaviour.compiled import compiled, compiled_inside
from features.errors import BundleError

LOGISTIC = ("binary:logistic", "reg:logistic")
IDENTITY = ("reg:squarederror",)
CLASSES = ("multi:softprob", "multi:softmax")
SERVED = (*LOGISTIC, *IDENTITY, *CLASSES)


@dataclass(frozen=True)
class Forest:
    """Regression trees whose leaves add up to a margin, or to one a class.

    Attributes:
        names: Feature names, in the order of the columns; empty where the booster knew none.
        n_features: Columns that a row must have.
        base: Shape (n_outputs,), float32: the margins that every row starts from; one, or one a class.
        output: Shape (n_trees,), int32: the margin that each tree adds to.
        roots: Shape (n_trees,), int32: the first node of each tree.
        feature: Shape (n_nodes,), int32: the column a node asks about.
        value: Shape (n_nodes,), float32: the threshold of an inner node, the weight of a leaf.
        left: Shape (n_nodes,), int32: where `x < threshold` goes; -1 marks a leaf.
        right: Shape (n_nodes,), int32: where the rest goes.
        missing: Shape (n_nodes,), int32: where NaN goes.
        cover: Shape (n_nodes,), float32: the weight of the training rows that came by.
    """

    names: tuple[str, ...]
    n_features: int
    base: NDArray[np.float32]
    output: NDArray[np.int32]
    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    value: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    missing: NDArray[np.int32]
    cover: NDArray[np.float32]

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The forest in a model saved by `Booster.save_model("x.json")`; every stored tree counts.

        Raises:
            BundleError: not such a model, or one this walk does not cover: categorical splits, several targets,
                boosters other than `gbtree`, objectives other than logistic, squared error and classes.
        """
        try:
            learner = msgspec.json.decode(text, type=_Document).learner
            model = learner.gradient_booster.model
            trees = [msgspec.json.decode(tree, type=_Tree) for tree in model.trees]
            _refuse(learner, trees)
            n_features = int(learner.learner_model_param["num_feature"])
            output = np.asarray(model.tree_info, np.int32)
            return cls(tuple(learner.feature_names), n_features, _base(learner), output, **_nodes(trees))
        except (ValueError, KeyError, TypeError, IndexError, msgspec.MsgspecError) as problem:
            raise BundleError(f"not an XGBoost JSON model: {problem!r}") from None

    @property
    def n_trees(self) -> int:
        """Trees that every margin sums."""
        return len(self.roots)

    def margins(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw scores before the link function.

        Args:
            x: Shape (n_rows, n_features), float32; NaN is missing.

        Returns:
            Shape (n_rows,), or (n_rows, n_classes), float32, the same bits as
            `Booster.predict(..., output_margin=True)`.
        """
        if x.ndim != 2 or x.shape[1] != self.n_features:
            raise BundleError(f"the trees need {self.n_features} columns. Got an array of shape {x.shape}.")
        margins = np.empty((len(self.base), len(x)), np.float32)
        x = np.ascontiguousarray(x, dtype=np.float32)
        walk(x, self.base, self.roots, self.depths, self.output, *self.packed, margins)
        return margins[0] if len(self.base) == 1 else np.ascontiguousarray(margins.T)

    def only(self, output: int) -> "Forest":
        """The trees of one class, as a forest of one margin."""
        mine = self.output == output
        kept = {
            "base": self.base[output : output + 1],
            "roots": self.roots[mine],
            "output": np.zeros_like(self.output[mine]),
        }
        return replace(self, **kept)

    @cached_property
    def depths(self) -> NDArray[np.int32]:
        """Shape (n_trees,), int32: steps from each root to its farthest leaf."""
        depths, node, tree = np.zeros(self.n_trees, np.int32), self.roots, np.arange(self.n_trees)
        while len(node):
            inner = self.left[node] >= 0
            node, tree = node[inner], tree[inner]
            depths[tree] += np.int32(1)
            node, tree = np.concatenate([self.left[node], self.right[node]]), np.tile(tree, 2)
        return depths

    @cached_property
    def packed(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Shape (n_nodes, 4), the same memory read as integers and as numbers: one line of the cache a step.

        Twice the feature, plus one where NaN goes left; where left goes; how much farther right is; the threshold. A
        leaf leads to itself, so that several trees, or rows, can go down side by side until the deepest has arrived.
        """
        leaf = self.left < 0
        asked = np.where(leaf, 0, 2 * self.feature + (self.missing == self.left))
        left = np.where(leaf, np.arange(len(leaf)), self.left)
        packed = np.empty((len(leaf), 4), np.int32)
        packed[:, ASKED], packed[:, LEFT], packed[:, SPAN] = asked, left, np.where(leaf, 0, self.right - self.left)
        packed[:, VALUE] = self.value.view(np.int32)
        return packed, packed.view(np.float32)


class _Tree(msgspec.Struct):
    left_children: list[int]
    right_children: list[int]
    default_left: list[int]
    split_indices: list[int]
    split_conditions: list[float]
    split_type: list[int]
    sum_hessian: list[float]
    categories: list[int]


class _Trees(msgspec.Struct):
    """Each as it stands there: read one after the other, they leave other threads their turns in between."""

    trees: list[msgspec.Raw] = []
    tree_info: list[int] = []


class _Booster(msgspec.Struct):
    name: str
    model: _Trees = msgspec.field(default_factory=_Trees)


class _Objective(msgspec.Struct):
    name: str


class _Learner(msgspec.Struct):
    gradient_booster: _Booster
    objective: _Objective
    learner_model_param: dict[str, str]
    feature_names: list[str]


class _Document(msgspec.Struct):
    learner: _Learner


def _refuse(learner: _Learner, trees: list[_Tree]) -> None:
    booster, objective = learner.gradient_booster.name, learner.objective.name
    params = learner.learner_model_param
    if booster != "gbtree":
        raise BundleError(f"the booster is {booster!r}. Hint: only 'gbtree' can be served.")
    if objective not in SERVED:
        raise BundleError(f"the objective is {objective!r}. Hint: allowed are {', '.join(SERVED)}.")
    if int(params.get("num_target", 1)) > 1:
        raise BundleError("the model has several targets. Hint: train one study per target.")
    if any(any(tree.split_type) or tree.categories for tree in trees):
        raise BundleError("the model has categorical splits. Hint: encode categories as numbers before training.")


def _base(learner: _Learner) -> NDArray[np.float32]:
    # 3.1 and later write a list in a string, "[3.98E-1]"; earlier versions a bare number, the same for every class.
    params = learner.learner_model_param
    scores = np.array(params["base_score"].strip("[]").split(","), np.float32)
    if learner.objective.name in LOGISTIC:
        return np.array([_logit(scores[0])], np.float32)
    return np.resize(scores, max(int(params.get("num_class", 0)), 1))


def _nodes(trees: list[_Tree]) -> dict[str, Any]:
    sizes = [len(tree.left_children) for tree in trees]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32) if trees else np.empty(0, np.int32)
    shift = np.repeat(roots, sizes)

    def joined(key: str, dtype: type[np.generic]) -> NDArray[Any]:
        return (
            np.concatenate([np.asarray(getattr(tree, key), dtype) for tree in trees]) if trees else np.empty(0, dtype)
        )

    left, right = joined("left_children", np.int32), joined("right_children", np.int32)
    left, right = (np.where(child >= 0, child + shift, -1).astype(np.int32) for child in (left, right))
    missing = np.where(joined("default_left", np.int8) != 0, left, right).astype(np.int32)
    feature, value = joined("split_indices", np.int32), joined("split_conditions", np.float32)
    nodes = {"feature": feature, "value": value, "left": left, "right": right, "missing": missing}
    return {"roots": roots, **nodes, "cover": joined("sum_hessian", np.float32)}


@compiled
def _logit(score: np.float32) -> np.float32:
    # Compiled, because numpy's vectorised logarithm differs from the C library's, which XGBoost calls, in the last bit.
    one = np.float32(1)
    return -np.float32(math.log(one / score - one))


ASKED, LEFT, SPAN, VALUE = (np.uint64(column) for column in range(4))
"""The columns of packed nodes."""


@compiled_inside
def below(
    node: np.uint64, x: NDArray[np.float32], row: np.uint64, nodes: NDArray[np.int32], numbers: NDArray[np.float32]
) -> np.uint64:
    """The node that a row goes to from here; by arithmetic: a branch would be guessed wrongly every other time.

    Places are unsigned: of others it would be asked, for each, whether they count from the end.
    """
    asked = nodes[node, ASKED]
    given = x[row, np.uint64(asked >> 1)]
    right = 1 - (given < numbers[node, VALUE]) - ((given != given) & asked)
    return np.uint64(nodes[node, LEFT] + nodes[node, SPAN] * right)


@compiled
def walk(
    x: NDArray[np.float32],
    base: NDArray[np.float32],
    roots: NDArray[np.int32],
    depths: NDArray[np.int32],
    output: NDArray[np.int32],
    nodes: NDArray[np.int32],
    numbers: NDArray[np.float32],
    margins: NDArray[np.float32],
) -> None:
    """Four walks at once, each of one tree and one row: while one waits for memory the others go on."""
    n_rows, n_trees = np.uint64(x.shape[0]), np.uint64(len(roots))
    for out in range(len(base)):
        for row in range(len(x)):
            margins[out, row] = base[out]
    if not len(x):
        return
    tree_0, row_0 = np.uint64(0), np.uint64(0)
    while tree_0 < n_trees:  # a tree stays in the cache while all rows go through it
        tree_1, row_1 = _after(tree_0, row_0, n_rows)
        tree_2, row_2 = _after(tree_1, row_1, n_rows)
        tree_3, row_3 = _after(tree_2, row_2, n_rows)
        last = min(tree_3, n_trees - np.uint64(1))
        second, third = min(tree_1, last), min(tree_2, last)
        one, two = np.uint64(roots[tree_0]), np.uint64(roots[second])
        three, four = np.uint64(roots[third]), np.uint64(roots[last])
        deep = max(depths[tree_0], depths[second], depths[third], depths[last])
        for _ in range(deep):
            one, two = below(one, x, row_0, nodes, numbers), below(two, x, row_1, nodes, numbers)
            three, four = below(three, x, row_2, nodes, numbers), below(four, x, row_3, nodes, numbers)
        # In tree order, in float32, as XGBoost adds.
        margins[output[tree_0], row_0] += numbers[one, VALUE]
        if tree_1 < n_trees:
            margins[output[tree_1], row_1] += numbers[two, VALUE]
        if tree_2 < n_trees:
            margins[output[tree_2], row_2] += numbers[three, VALUE]
        if tree_3 < n_trees:
            margins[output[tree_3], row_3] += numbers[four, VALUE]
        tree_0, row_0 = _after(tree_3, row_3, n_rows)


@compiled_inside
def _after(tree: np.uint64, row: np.uint64, n_rows: np.uint64) -> tuple[np.uint64, np.uint64]:
    """The next pair: all rows of a tree, then the next tree."""
    next_row = row + np.uint64(1)
    return (tree, next_row) if next_row < n_rows else (tree + np.uint64(1), np.uint64(0))
