"""Explanation: the tree of a segment with each node's truth, the events that made it so, and when that may change.

It shows the very evaluation that gives the answer; nothing here decides a truth.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from features.behaviour.histories import Histories
from features.behaviour.schema import CODE_MASK, HEAD, ID, TS
from features.instants import NEVER, iso
from features.segments.inputs import Scored
from features.segments.nodes import CLASSES, PROMISES, Input
from features.segments.program import LOOK, TRUE, Snapshot

if TYPE_CHECKING:
    from features.segments.counting import Room
    from features.segments.segment_set import Segment, SegmentSet

SPOKEN = ("false", "unknown", "true")


@dataclass(frozen=True)
class Explanation:
    """One row's evaluation.

    Attributes:
        segments: What was evaluated.
        room: What the loop left: truths, next changes and evidence of every node.
        rows: The records of the gathered events.
        histories: Whose they are.
        inputs: The numbers that were handed in.
        scores: Per study, what they were taken from.
    """

    segments: "SegmentSet"
    room: "Room"
    rows: np.ndarray
    histories: Histories
    inputs: np.ndarray
    scores: Mapping[str, Scored]

    def tree(self, segment: "Segment") -> dict[str, Any]:
        """One segment's tree."""
        told = self.node(segment.root)
        return {
            "segment": segment.name,
            "in": bool(self.room.truths[segment.root, 0] == TRUE),
            "version": segment.version,
            "class": segment.kind,
            "promise": PROMISES[segment.kind],
            **({"description": segment.description} if segment.description else {}),
            **({"next_change": told["next_change"]} if "next_change" in told else {}),
            "of": told["of"],
        }

    @cached_property
    def names(self) -> dict[int, str]:
        """Events by code."""
        return {code: name for name, code in self.segments.schema.codes.items()}

    def node(self, place: int) -> dict[str, Any]:
        """One node, and all below it."""
        node = self.segments.nodes[place]
        truth, change = SPOKEN[self.room.truths[place, 0]], int(self.room.changes[place])
        told: dict[str, Any] = {"condition": json.loads(node.says), "truth": truth, "class": CLASSES[node.level]}
        if node.input is not None:
            told["value"] = self._value(place, node.input)
            told |= _clustered(self.scores.get(node.input.name)) if node.input.source == "cluster" else {}
        if node.cut is not None:
            told["snapshot"] = snapshot_of(self.segments.snapshots.get(node.cut.key))
        events = [self._event(int(k)) for k in self.room.evidence[place] if k >= 0]
        if events:
            told["events"] = events
        if change != NEVER:
            told["next_change"] = iso(change)
            if node.op == "sequence" and truth == "unknown":
                told["pending_until"] = iso(change)
        if node.children:
            told["of"] = [self.node(child) for child in node.children]
        return told

    def _value(self, place: int, asked: Input) -> float | None:
        if asked.source == "count":
            return float(self.room.numbers[self.segments.evaluator.program.nodes[place, LOOK], 0])
        return _number(self.inputs[self.segments.inputs.index(asked)])

    def _event(self, k: int) -> dict[str, object]:
        record = self.histories.slots[self.rows[k]]
        code = int(record[HEAD]) & CODE_MASK
        return {"event": self.names[code], "at": iso(int(record[TS])), "id": f"{int(record[ID]) & (2**64 - 1):016x}"}


def _clustered(scores: Scored | None) -> dict[str, object]:
    """How far the only row is from every cluster's centre, and as of when the centres are."""
    if scores is None:
        return {}
    told: dict[str, object] = {} if scores.computed_at is None else {"computed_at": iso(scores.computed_at)}
    if scores.distances is not None:
        told["distances"] = dict(zip(scores.names, scores.distances[0].tolist(), strict=True))
    return told


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def snapshot_of(snapshot: Snapshot | None) -> Mapping[str, object] | None:
    """A snapshot as an answer shows it; None where none was taken yet."""
    if snapshot is None:
        return None
    told = {**vars(snapshot), "values": list(snapshot.values), "computed_at": iso(snapshot.at)}
    del told["at"]
    return told
