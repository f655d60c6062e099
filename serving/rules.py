"""Rules: what a bundle's declared segments say in an answer, and why."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from features.behaviour.histories import Histories
from features.behaviour.matrix import FeatureMatrix
from features.instants import NEVER, iso
from features.segments.nodes import below
from features.segments.program import TRUE
from features.segments.segment_set import Segment, SegmentSet
from serving.memberships import Judge, Memberships
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
        sizes: Of those that were applied, the number of members then and the instant.
    """

    def __init__(self, bundle: Bundle, memberships: Path | None = None) -> None:
        self._segments = bundle.told
        self._members = Memberships(self._segments, memberships) if self._segments is not None else None
        declared, small = (
            bundle.segments.segments if bundle.segments else (),
            self._members.small if self._members else (),
        )
        self.names = tuple(each.name for each in declared if each.status == "active" and each.name not in small)
        members = self._members
        as_of = iso(members.at) if members and members.at is not None else None
        self.sizes = {name: {"size": size, "as_of": as_of} for name, size in members.sizes.items()} if members else {}
        self._about = [about(bundle, bundle.segments, each) for each in declared] if bundle.segments else []

    def of(
        self,
        histories: Histories,
        at: NDArray[np.int64],
        *,
        features: FeatureMatrix | None = None,
        scores: "Mapping[str, Scores] | None" = None,
        context: Context = None,
        judge: Judge | None = None,
    ) -> list[Told]:
        """What is told of every row; `judge` asks segments as of other instants."""
        if self._segments is None or self._members is None:
            return [{}] * len(histories)
        truths = self._segments.evaluate(histories, at, features=features, scores=scores, context=context, threads=1)
        rows = zip(truths.values.tolist(), truths.changes.tolist(), strict=True)
        members = self._members.of(histories, at, judge) if judge is not None else [{}] * len(histories)
        told: list[Told] = []
        for (values, changes), held in zip(rows, members, strict=True):
            said = {}
            for name, fixed, value, change in zip(truths.names, self._about, values, changes, strict=True):
                inside, due = held.get(name, (value == TRUE, change))
                if name in self.names:
                    said[name] = {**fixed, "in": inside, "next_change": None if due == NEVER else iso(due)}
            told.append(said)
        return told

    def explain(
        self,
        histories: Histories,
        at: int,
        judge: Judge,
        *,
        features: FeatureMatrix,
        scores: "Mapping[str, Scores]",
        context: Context = None,
    ) -> dict[str, Any]:
        """Of the only row per segment the tree, and per applied one with a `membership` its times."""
        if self._segments is None or self._members is None:
            return {"segments": {}, "memberships": {}}
        trees = self._segments.explain(histories, at, features=features, scores=scores, context=context)
        held = self._members.explain(histories, at, judge)
        for name, (inside, _) in held.items():
            trees[name]["in"] = inside
        memberships = {name: dates for name, (_, dates) in held.items() if name in self.names}
        return {"segments": {name: trees[name] for name in self.names}, "memberships": memberships}


def about(bundle: Bundle, segments: SegmentSet, segment: Segment) -> dict[str, object]:
    """What answers say of a segment whoever asks: class, version, and of when the figures are that it compares with."""
    told: dict[str, object] = {"class": segment.kind, "version": segment.version}
    instants = [snapshot.at for snapshot in segments.compared(segment)]
    inputs = [node.input for node in below(segments.nodes, segment.root) if node.input is not None]
    models = [bundle.models.get(each.name) for each in inputs if each.source == "cluster"]
    instants += [model.computed_at for model in models if model is not None and model.computed_at is not None]
    return {**told, "computed_at": iso(min(instants))} if instants else told
