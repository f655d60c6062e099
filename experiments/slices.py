"""Slices: how good a propensity is for parts of those it judges: categories that it knows, and declared segments."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from experiments.asked import only_events
from experiments.declared import Declared
from experiments.result import MODEL, Fitted, Slice
from features.project import Project
from features.segments.segment_set import SegmentSet
from training.outcome import narrowed
from training.training_set import TrainingSet
from training.validation import judge

FEWEST = 30
"""Rows of either outcome that a slice needs to be judged."""
MOST = 30
REPLICATES = 100
FEW = 10
"""Values of a number that make it parts."""


Parts = Mapping[str, NDArray[np.bool_]]
"""Per name the rows that are in."""


def slices(
    test: TrainingSet, p: NDArray[np.float64], parts: Parts, *, threshold: float = 0.5, sensitive: Sequence[str] = ()
) -> tuple[Slice, ...]:
    """The parts that are large enough to be judged, the largest first, at most MOST.

    Args:
        test: Rows with labels.
        p: Shape (n_rows,), probabilities.
        parts: Per name the rows that are in.
        threshold: From which on a row is chosen.
        sensitive: Attributes that people must not be treated differently by; their parts come first.
    """
    y = np.asarray(test.y)
    able = {name: mine for name, mine in parts.items() if min(y[mine].sum(), (1 - y[mine]).sum()) >= FEWEST}
    special = {name for name in able if name.partition(" = ")[0] in sensitive}
    chosen = sorted(able, key=lambda name: (name not in special, -int(able[name].sum())))[:MOST]
    return tuple(
        _slice(name, y[able[name]], p[able[name]], test.matrix.users[able[name]], threshold, name in special)
        for name in chosen
    )


def _slice(
    name: str,
    y: NDArray[np.float64],
    p: NDArray[np.float64],
    users: NDArray[np.object_],
    threshold: float,
    sensitive: bool,
) -> Slice:
    figures, chosen = judge(y, {name: p}, users, replicates=REPLICATES)[name], p >= threshold
    every, caught, wrongly = (float(each.mean()) for each in (chosen, chosen[y > 0], chosen[y == 0]))
    told = (figures.base_rate, float(p.mean()), figures["roc_auc"], every, caught, wrongly)
    return Slice(name, len(y), *told, sensitive=sensitive)


def sliced(project: Project | None, fitted: Fitted) -> tuple[Slice, ...]:
    """The judged rows by categories and segments, and what the model that was judged says of each part."""
    if fitted.judged is None or fitted.judged.classes:
        return ()
    test, sensitive = fitted.judged, fitted.model.details["spec"].get("sensitive", ())
    parts = parts_of(project, test)
    for name in sensitive:
        column = test.matrix.column(name)
        values = np.unique(column[~np.isnan(column)])
        if len(values) <= FEW and not any(part.startswith(f"{name} = ") for part in parts):
            parts |= {f"{name} = {value:g}": column == value for value in values}
    p, threshold = fitted.predictions[MODEL], fitted.model.threshold
    return slices(test, p, parts, threshold=threshold, sensitive=sensitive)


def parts_of(project: Project | None, test: TrainingSet) -> dict[str, NDArray[np.bool_]]:
    """Per category of a feature, and per declared segment that events alone decide, the rows that are in.

    Raises:
        DefinitionError: segments.yaml says what it cannot.
    """
    if isinstance(places := test.provenance.get("categories"), dict):
        return {
            f"{column} = {word}": test.matrix.column(column) == place
            for column, words in places.items()
            for place, word in enumerate(words, start=1)
        }
    if project is None:
        return {}
    declared = Declared.of(project)
    found: dict[str, NDArray[np.bool_]] = {}
    for each in declared.features.features:
        if each.values and each.name in test.matrix.names:
            column = test.matrix.column(each.name)
            found |= {f"{each.name} = {value}": column == place for place, value in enumerate(each.values)}
    return found | dict(_segments(declared, test))


def segments_of(declared: Declared) -> SegmentSet | None:
    """The declared segments, whatever studies answer.

    Raises:
        DefinitionError: segments.yaml says what it cannot.
    """
    return SegmentSet.of(declared.project, declared.log.plan, declared.log.codes, declared.features)


def _segments(declared: Declared, test: TrainingSet) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    log, features, segments = declared.log, declared.features, segments_of(declared)
    names = [each.name for each in segments.segments if only_events(segments, each)] if segments else []
    if segments is None or not names:
        return
    schema = features.schema.union(segments.schema)
    people = log.histories(schema, users=sorted(set(test.matrix.users.tolist())))
    held = narrowed(people.take(_rows(people.users, test.matrix.users)), schema)
    at = test.matrix.at
    truths = segments.on(schema).evaluate(held, at, features=features.on(schema).compute(held, at))
    for name in names:
        yield f"segment {name}", truths.column(name)


def _rows(users: NDArray[np.object_], wanted: Sequence[str] | NDArray[np.object_]) -> NDArray[np.int64]:
    place = {user: row for row, user in enumerate(users.tolist())}
    return np.array([place[user] for user in wanted], np.int64)
