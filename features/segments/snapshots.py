"""Snapshots: the bounds of percentiles and of recency, frequency and money, taken of a population once and frozen."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.behaviour.histories import Histories
from features.behaviour.matrix import FeatureMatrix
from features.segments.inputs import Scored
from features.segments.nodes import Cut, below
from features.segments.program import Snapshot
from features.segments.segment_set import SegmentSet

METHOD: Literal["inverted_cdf"] = "inverted_cdf"
"""The least value that a share of the population does not exceed: always a value that somebody has."""


def taken(
    segments: SegmentSet,
    histories: Histories,
    at: int,
    *,
    features: FeatureMatrix,
    scores: Mapping[str, Scored] | None = None,
    known: Mapping[str, Snapshot] | None = None,
) -> dict[str, Snapshot]:
    """All bounds that the segments need, by `Cut.key`, taken of these rows as of `at`.

    A percentile of a segment that needs bounds itself is taken after those; who is missing a feature is not counted.

    Args:
        segments: Over the histories' schema.
        histories: The population, one row a user.
        at: Microseconds UTC.
        features: The same rows' features.
        scores: Per study, of the same rows.
        known: Bounds that stay as they are.
    """
    cuts = list(dict.fromkeys(node.cut for node in segments.nodes if node.cut is not None))
    found = dict(known or {})
    while any(cut.key not in found for cut in cuts):
        ready = [cut for cut in cuts if cut.key not in found and _depends_on_nothing_open(cut, segments, found)]
        asked = segments.fitted(found).only({cut.population for cut in ready if _of_segment(cut)})
        truths = asked.evaluate(histories, at, features=features, scores=scores) if len(asked) else None
        for cut in ready:
            inside = _population(cut, features, truths.column(cut.population) if truths and _of_segment(cut) else None)
            found[cut.key] = _snapshot(cut, features.column(cut.feature)[inside], at)
    return found


def _of_segment(cut: Cut) -> bool:
    return cut.what == "percentile" and bool(cut.population)


def _depends_on_nothing_open(cut: Cut, segments: SegmentSet, found: Mapping[str, Snapshot]) -> bool:
    if not _of_segment(cut):
        return True
    inner = [node.cut for node in below(segments.nodes, segments.segment(cut.population).root)]
    return all(each is None or each.key in found for each in inner)


def _population(cut: Cut, features: FeatureMatrix, members: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    if members is not None:
        return members
    if cut.what == "fifths":
        return ~np.isnan(features.column(cut.population))
    return np.ones(len(features), np.bool_)


def _snapshot(cut: Cut, values: NDArray[np.float64], at: int) -> Snapshot:
    values = values[~np.isnan(values)]
    shares = [cut.q] if cut.what == "percentile" else [20.0, 40.0, 60.0, 80.0]
    bounds = np.percentile(values, shares, method=METHOD) if len(values) else np.full(len(shares), np.nan)
    who = f"with {cut.population}" if cut.what == "fifths" else cut.population or "everybody"
    return Snapshot(tuple(float(bound) for bound in bounds), METHOD, who, len(values), at)
