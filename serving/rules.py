"""Rules: what a bundle's declared segments say in an answer, and why."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from features.behaviour.histories import Histories
from features.behaviour.matrix import FeatureMatrix
from features.instants import NEVER, iso
from features.segments.program import TRUE
from features.segments.segment_set import Segment, SegmentSet
from training.bundle import Bundle

if TYPE_CHECKING:
    from training.model import Scores

Told = Mapping[str, Mapping[str, object]]
"""Per declared segment whether the person is in, its class, its version, and when time may change it."""

Context = Mapping[str, object] | None
"""What only the call knows, such as its device."""


class Rules:
    """The active segments of a bundle.

    Attributes:
        names: Of those that answers tell.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._segments = bundle.told
        declared = bundle.segments.segments if bundle.segments else ()
        self.names = tuple(each.name for each in declared if each.status == "active")
        self._about = [about(bundle.segments, each) for each in declared] if bundle.segments else []

    def of(
        self,
        histories: Histories,
        at: NDArray[np.int64],
        *,
        features: FeatureMatrix | None = None,
        scores: "Mapping[str, Scores] | None" = None,
        context: Context = None,
    ) -> list[Told]:
        """What is told of every row."""
        if self._segments is None:
            return [{}] * len(histories)
        truths = self._segments.evaluate(histories, at, features=features, scores=scores, context=context, threads=1)
        rows = zip(truths.values.tolist(), truths.changes.tolist(), strict=True)
        return [
            {
                name: {**fixed, "in": value == TRUE, "next_change": None if change == NEVER else iso(change)}
                for name, fixed, value, change in zip(truths.names, self._about, values, changes, strict=True)
                if name in self.names
            }
            for values, changes in rows
        ]

    def explain(
        self,
        histories: Histories,
        at: int,
        *,
        features: FeatureMatrix,
        scores: "Mapping[str, Scores]",
        context: Context = None,
    ) -> dict[str, Any]:
        """Per segment the tree of the only row."""
        if self._segments is None:
            return {}
        trees = self._segments.explain(histories, at, features=features, scores=scores, context=context)
        return {name: trees[name] for name in self.names}


def about(segments: SegmentSet, segment: Segment) -> dict[str, object]:
    """What answers say of a segment whoever asks: class, version, and of when the figures are that it compares with."""
    told: dict[str, object] = {"class": segment.kind, "version": segment.version}
    instants = [snapshot.at for snapshot in segments.compared(segment)]
    return {**told, "computed_at": iso(min(instants))} if instants else told
