"""Slices: how good a propensity is for parts of those it judges: categories that it knows, and declared segments."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.asked import only_events
from features.behaviour.feature_set import FeatureSet
from features.events.log import EventLog
from features.project import Project
from features.segments.segment_set import SegmentSet
from training.outcome import narrowed
from training.training_set import TrainingSet
from training.validation import Estimate, judge

FEWEST = 30
"""Rows of either outcome that a slice needs to be judged."""
MOST = 30
REPLICATES = 100


Parts = Mapping[str, NDArray[np.bool_]]
"""Per name the rows that are in."""


@dataclass(frozen=True)
class Slice:
    """Figures of a part of the test rows.

    Attributes:
        name: Which part.
        n_rows: Its rows.
        happened: Share whose outcome happened.
        predicted: Mean probability.
        roc_auc: With its 95 per cent interval over users.
    """

    name: str
    n_rows: int
    happened: float
    predicted: float
    roc_auc: Estimate

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {**vars(self), "roc_auc": self.roc_auc.to_dict()}


def slices(test: TrainingSet, p: NDArray[np.float64], parts: Parts) -> tuple[Slice, ...]:
    """The parts that are large enough to be judged, the largest first, at most MOST.

    Args:
        test: Rows with labels.
        p: Shape (n_rows,), probabilities.
        parts: Per name the rows that are in.
    """
    y = np.asarray(test.y)
    able = {name: mine for name, mine in parts.items() if min(y[mine].sum(), (1 - y[mine]).sum()) >= FEWEST}
    chosen = sorted(able, key=lambda name: -int(able[name].sum()))[:MOST]
    return tuple(_slice(name, y[able[name]], p[able[name]], test.matrix.users[able[name]]) for name in chosen)


def _slice(name: str, y: NDArray[np.float64], p: NDArray[np.float64], users: NDArray[np.object_]) -> Slice:
    figures = judge(y, {name: p}, users, replicates=REPLICATES)[name]
    return Slice(name, len(y), figures.base_rate, float(p.mean()), figures["roc_auc"])


def parts_of(project: Project, test: TrainingSet) -> dict[str, NDArray[np.bool_]]:
    """Per category of a feature, and per declared segment that events alone decide, the rows that are in.

    Raises:
        DefinitionError: segments.yaml says what it cannot.
    """
    log = EventLog.of(project)
    features = FeatureSet.of(project, log.plan, log.codes)
    found: dict[str, NDArray[np.bool_]] = {}
    for each in features.features:
        if each.values and each.name in test.matrix.names:
            column = test.matrix.column(each.name)
            found |= {f"{each.name} = {value}": column == place for place, value in enumerate(each.values)}
    return found | dict(_segments(project, log, features, test))


def _segments(
    project: Project, log: EventLog, features: FeatureSet, test: TrainingSet
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    segments = SegmentSet.of(project, log.plan, log.codes, features)
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
