"""Suggestion: what a model says of people, as rules that a person can read, and how often the rules say otherwise."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments import pairs, studies
from experiments.audience import Audience
from experiments.inference import wilson
from experiments.plain import Plain
from experiments.proposals import flow
from experiments.signals import readable
from experiments.studies import PropensitySpec
from features.behaviour.histories import Histories
from features.errors import StudyError, nearest
from features.instants import iso
from features.people import stable_hash
from features.project import Project
from training.bundle import Bundle, current
from training.model import Scores

if TYPE_CHECKING:
    from sklearn.tree import DecisionTreeClassifier

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Bounds = dict[str, dict[str, float]]
"""Per feature its bounds; all have to hold."""


@dataclass(frozen=True)
class Right:
    """How often rule and model were right about what then happened, of people that the rule was not made from.

    Attributes:
        at: As of when both are asked, microseconds UTC: the newest instant whose outcomes are known.
        n_users: Of whom, in the study's population.
        rule: Share of them of whom the rule was right.
        model: Share of them of whom the model was; it may have learned from them.
    """

    at: int
    n_users: int
    rule: float
    model: float

    def __str__(self) -> str:
        told = f"about what came after {iso(self.at)} the rule is right for {self.rule:.1%} of {self.n_users:,} of them"
        return f"{told}, the model for {self.model:.1%}"


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
        right: Of a propensity, where outcomes are known, how often rule and model were right.
    """

    name: str
    when: dict[str, object]
    share: float
    agreement: float
    low: float
    high: float
    precision: float
    recall: float
    right: Right | None = None

    @property
    def paths(self) -> list[Bounds]:
        """Bounds of features; in where all of any path hold."""
        parts: Any = self.when.get("any", [self.when])
        return [part["feature"] for part in parts]

    def __str__(self) -> str:
        told = f"# agrees on {self.agreement:.1%} [{self.low:.1%}, {self.high:.1%}] of people it was not made from; "
        told += f"{self.precision:.0%} of its people are the model's, {self.recall:.0%} of the model's are in it"
        told += f"\n  # {self.right}" if self.right is not None else ""
        return f"  {told}\n  {self.name}: {{when: {flow(self.when)}}}"


@dataclass(frozen=True)
class Suggestion(Plain):
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
        made = [_rule(name, values, mine, half, names, depth) for name, mine in inside.items()]
        rules = [rule for rule in made if rule is not None]
        if audience.models[study].kind == "propensity":
            rules = [replace(rule, right=_right(project, audience, study, rule)) for rule in rules]
        return cls(study, tuple(rules))

    def __str__(self) -> str:
        head = f"# {self.study}: to paste into segments.yaml\nversion: 1\nsegments:"
        return "\n".join([head, *map(str, self.rules)]) if self.rules else f"no short rule says what {self.study} says."


def _people(
    audience: Audience, study: str, told: Callable[[str], None]
) -> tuple[Floats, dict[str, Bools], Bools, list[str]]:
    """(Features that nobody misses, who is in what, who is learned from, the features' names)."""
    values, half, inside = [], [], list[dict[str, Bools]]()
    for histories in audience.everybody(told=told):
        matrix = audience.matrix(histories, audience.at)
        values.append(matrix.values)
        inside.append(_inside(study, audience.scores(matrix)[study]))
        half.append(_learned(histories))
    whole = np.concatenate(values)
    kept = np.flatnonzero(~np.isnan(whole).any(axis=0))
    joined = {name: np.concatenate([each[name] for each in inside]) for name in inside[0]}
    return whole[:, kept], joined, np.concatenate(half), [audience.features.names[k] for k in kept]


def _learned(histories: Histories) -> Bools:
    """Whom rules are made from: about half of the people, and always the same."""
    return np.asarray(stable_hash(pl.Series(histories.users.tolist())).to_numpy() & 1 == 0)


def _right(project: Project, audience: Audience, study: str, rule: Rule) -> Right | None:
    """How often the rule and the model were right; None where no outcome is known."""
    folder, model = current(project.path("bundles")), audience.models[study]
    if folder is None or "spec" not in model.details:
        return None
    bundle, (_, spec) = Bundle.load(folder), studies.one({"name": study, **model.details["spec"]})
    if not isinstance(spec, PropensitySpec):
        return None
    at, counts = audience.at - spec.predicts.horizon - spec.blind_spot, np.zeros(3, np.int64)
    for histories in audience.everybody():
        mine = histories.take(np.flatnonzero(~_learned(histories) & audience.seen(histories, at)))
        matrix, instants = audience.matrix(mine, at), np.full(len(mine), at)
        asked, y = pairs.outcomes(project, audience.log, bundle, study, spec, mine.users, instants)
        said = np.any([_holds(path, matrix.values, list(matrix.names)) for path in rule.paths], axis=0)
        chosen = audience.scores(matrix)[study].chosen
        counts += [asked.sum(), ((said == y) & asked).sum(), ((chosen == y) & asked).sum()]
    n, by_rule, by_model = counts.tolist()
    return Right(at, n, by_rule / n, by_model / n) if n else None


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
