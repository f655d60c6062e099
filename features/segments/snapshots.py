"""Snapshots: the bounds of percentiles and of recency, frequency and money, taken of a population once and frozen."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.behaviour.histories import Histories
from features.behaviour.matrix import FeatureMatrix
from features.segments.inputs import Scored
from features.segments.nodes import Cut, below
from features.segments.program import Snapshot
from features.segments.segment_set import SegmentSet

Columns = list[NDArray[np.float64]]
Work = Callable[[Histories, FeatureMatrix, Mapping[str, Scored]], Columns]

METHOD: Literal["inverted_cdf"] = "inverted_cdf"
"""The least value that a share of the population does not exceed: always a value that somebody has."""


def taken(
    segments: SegmentSet,
    map_parts: Callable[[Work], Iterable[Columns]],
    at: int,
    *,
    known: Mapping[str, Snapshot] | None = None,
) -> dict[str, Snapshot]:
    """All bounds that the segments need, by `Cut.key`, taken of a population as of `at`.

    A percentile of a segment that needs bounds itself is taken after those; who is missing a feature is not counted.

    Args:
        segments: Over the schema of the histories.
        map_parts: Does a work on every part of the population: histories, their features, and per study their scores.
        at: Microseconds UTC.
        known: Bounds that stay as they are.
    """
    cuts = list(dict.fromkeys(node.cut for node in segments.nodes if node.cut is not None))
    found = dict(known or {})
    while any(cut.key not in found for cut in cuts):
        ready = [cut for cut in cuts if cut.key not in found and _depends_on_nothing_open(cut, segments, found)]
        asked = segments.fitted(found).only({cut.population for cut in ready if _of_segment(cut)})
        parts = list(map_parts(partial(_figures, ready, asked, at)))
        for cut, *figures in zip(ready, *parts, strict=True):
            found[cut.key] = _snapshot(cut, np.concatenate(figures), at)
    return found


def _figures(
    cuts: Sequence[Cut],
    asked: SegmentSet,
    at: int,
    histories: Histories,
    features: FeatureMatrix,
    scores: Mapping[str, Scored],
) -> Columns:
    """Per cut the figures of its population among these rows."""
    truths = asked.evaluate(histories, at, features=features, scores=scores, until=None) if len(asked) else None
    found = []
    for cut in cuts:
        values = features.column(cut.feature)
        counts = ~np.isnan(values)
        if truths is not None and _of_segment(cut):
            counts &= truths.column(cut.population)
        elif cut.what == "fifths":
            counts &= ~np.isnan(features.column(cut.population))
        found.append(values[counts])
    return found


def _of_segment(cut: Cut) -> bool:
    return cut.what == "percentile" and bool(cut.population)


def _depends_on_nothing_open(cut: Cut, segments: SegmentSet, found: Mapping[str, Snapshot]) -> bool:
    if not _of_segment(cut):
        return True
    inner = [node.cut for node in below(segments.nodes, segments.segment(cut.population).root)]
    return all(each is None or each.key in found for each in inner)


def _snapshot(cut: Cut, values: NDArray[np.float64], at: int) -> Snapshot:
    shares = [cut.q] if cut.what == "percentile" else [20.0, 40.0, 60.0, 80.0]
    bounds = np.percentile(values, shares, method=METHOD) if len(values) else np.full(len(shares), np.nan)
    who = f"with {cut.population}" if cut.what == "fifths" else cut.population or "everybody"
    return Snapshot(tuple(float(bound) for bound in bounds), METHOD, who, len(values), at)
