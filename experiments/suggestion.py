"""Suggestion: what a model says of people, as rules that a person can read, and how often the rules say otherwise."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.audience import Audience
from experiments.inference import wilson
from experiments.proposals import flow
from experiments.signals import readable
from features.errors import StudyError, nearest
from features.people import stable_hash
from features.project import Project
from training.model import Scores

if TYPE_CHECKING:
    from sklearn.tree import DecisionTreeClassifier

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Bounds = dict[str, dict[str, float]]
"""Per feature its bounds; all have to hold."""


@dataclass(frozen=True)
class Rule:
    """One set of people as a rule.

    Attributes:
        name: A proposed name of the segment.
        when: The condition.
        share: Of people whom the model puts there.
        agreement: Share of people of whom rule and model say the same, among those that the rule was not made from.
        low: Of its 95 % interval.
        high: Of its 95 % interval.
        precision: Share of the rule's people that are the model's.
        recall: Share of the model's people that are the rule's.
    """

    name: str
    when: dict[str, object]
    share: float
    agreement: float
    low: float
    high: float
    precision: float
    recall: float

    def __str__(self) -> str:
        told = f"# agrees on {self.agreement:.1%} [{self.low:.1%}, {self.high:.1%}] of people it was not made from; "
        told += f"{self.precision:.0%} of its people are the model's, {self.recall:.0%} of the model's are in it"
        return f"  {told}\n  {self.name}: {{when: {flow(self.when)}}}"


@dataclass(frozen=True)
class Suggestion:
    """Rules for one study: one for a propensity, one a cluster for clusters; none where no tree finds one.

    Attributes:
        study: Its name.
        rules: Ready for segments.yaml.
    """

    study: str
    rules: tuple[Rule, ...]

    @classmethod
    def of(cls, project: Project, study: str, *, depth: int = 3, told: Callable[[str], None] = lambda _: None) -> Self:
        """What the served model of a study says, as paths of a tree over the features that nobody misses.

        Args:
            project: Whose.
            study: Of which a model is served.
            depth: Bounds a path at most.
            told: Hears of every step.

        Raises:
            StudyError: no model of the study is served.
        """
        audience = Audience.of(project)
        if study not in audience.models:
            raise StudyError(f"no model of {study!r} is served. {nearest(study, audience.models)}")
        values, inside, half, names = _people(audience, study, told)
        rules = [_rule(name, values, mine, half, names, depth) for name, mine in inside.items()]
        return cls(study, tuple(rule for rule in rules if rule is not None))

    def __str__(self) -> str:
        head = f"# {self.study}: to paste into segments.yaml\nversion: 1\nsegments:"
        return "\n".join([head, *map(str, self.rules)]) if self.rules else f"no short rule says what {self.study} says."

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {"study": self.study, "rules": [asdict(each) for each in self.rules]}


def _people(
    audience: Audience, study: str, told: Callable[[str], None]
) -> tuple[Floats, dict[str, Bools], Bools, list[str]]:
    """(Features that nobody misses, who is in what, who is learned from, the features' names)."""
    values, half, inside, seen = [], [], list[dict[str, Bools]](), 0
    for histories in audience.everybody():
        matrix = audience.matrix(histories, audience.at)
        values.append(matrix.values)
        inside.append(_inside(study, audience.scores(matrix)[study]))
        half.append(stable_hash(pl.Series(matrix.users.tolist())).to_numpy() & 1 == 0)
        seen += len(matrix)
        told(f"{seen:,} users")
    whole = np.concatenate(values)
    kept = np.flatnonzero(~np.isnan(whole).any(axis=0))
    joined = {name: np.concatenate([each[name] for each in inside]) for name in inside[0]}
    return whole[:, kept], joined, np.concatenate(half), [audience.features.names[k] for k in kept]


def _inside(study: str, scores: Scores) -> dict[str, Bools]:
    if scores.probability is not None:
        return {study: scores.probability >= scores.threshold}
    place = scores.column().astype(np.int64)
    return {f"{study}_{name}": place == k for k, name in enumerate(scores.names)}


def _rule(name: str, values: Floats, inside: Bools, half: Bools, names: list[str], depth: int) -> Rule | None:
    from sklearn.tree import DecisionTreeClassifier

    if not 0 < inside[half].mean() < 1 or half.all():
        return None
    least = max(5, int(0.01 * half.sum()))
    tree = DecisionTreeClassifier(max_depth=depth, min_samples_leaf=least, random_state=0)
    paths = list(_paths(tree.fit(values[half], inside[half]), values[half], names))
    if not paths:
        return None
    rest = values[~half]
    said = np.any([_holds(path, rest, names) for path in paths], axis=0)
    meant = inside[~half]
    same = int((said == meant).sum())
    both = float((said & meant).sum())
    when: dict[str, object] = (
        {"any": [{"feature": path} for path in paths]} if len(paths) > 1 else {"feature": paths[0]}
    )
    interval = wilson(same, len(rest))
    figures = both / max(float(said.sum()), 1.0), both / max(float(meant.sum()), 1.0)
    return Rule(name, when, float(inside.mean()), same / len(rest), *interval, *figures)


def _paths(fitted: "DecisionTreeClassifier", values: Floats, names: list[str]) -> Iterator[Bounds]:
    """The paths to leaves where most people are inside; a bound is the shortest number that parts the same people."""
    tree, open_nodes = fitted.tree_, [(0, Bounds())]
    while open_nodes:
        node, bounds = open_nodes.pop()
        if tree.children_left[node] < 0:
            if bounds and tree.value[node][0][-1] > 0.5:
                yield bounds
            continue
        name, column = names[tree.feature[node]], values[:, tree.feature[node]]
        split = readable(column[column <= tree.threshold[node]].max(), column[column > tree.threshold[node]].min())
        open_nodes.append((tree.children_right[node], {**bounds, name: {**bounds.get(name, {}), "gte": split}}))
        open_nodes.append((tree.children_left[node], {**bounds, name: {**bounds.get(name, {}), "lt": split}}))


def _holds(bounds: Bounds, values: Floats, names: list[str]) -> Bools:
    found = np.ones(len(values), np.bool_)
    for name, test in bounds.items():
        column = values[:, names.index(name)]
        found &= (column >= test.get("gte", -np.inf)) & (column < test.get("lt", np.inf))
    return found
