"""Difference: what segments.yaml says otherwise than what is served, or than another file, and whom that concerns."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from experiments import release
from experiments.audience import Audience
from experiments.declared import Declared, clusters_served
from features.errors import DefinitionError
from features.instants import iso
from features.project import Project
from features.segments.program import TRUE
from features.segments.segment_set import SegmentSet, Truths


@dataclass(frozen=True)
class Line:
    """One segment that is not the same on both sides.

    Attributes:
        name: Of the segment.
        change: added, removed or edited.
        before: People in it by the other definition.
        after: People in it by segments.yaml.
        both: People in it by either.
    """

    name: str
    change: str
    before: int
    after: int
    both: int


@dataclass(frozen=True)
class Difference:
    """All segments that differ, as of one instant; the conditions, not the memberships."""

    against: str
    at: int
    lines: tuple[Line, ...]

    @classmethod
    def of(cls, project: Project, other: Path | None = None, *, told: Callable[[str], None] = lambda _: None) -> Self:
        """The difference from what is served, or from another segments.yaml.

        Raises:
            DefinitionError: there is nothing to compare with, or one side is wrong.
        """
        audience = Audience.of(project)
        before = _other(project, audience, other)
        schema = audience.schema.union(before.schema)
        mine, theirs = audience.segments.on(schema), before.on(schema)
        wider = Audience(audience.log, audience.features.on(schema), mine, audience.models, audience.at)
        changes = dict(_changes(theirs, mine))
        sides = [each.only(list(changes)) for each in (theirs, mine)]
        counts = {name: np.zeros(3, np.int64) for name in changes}
        for histories in wider.everybody(told=told) if changes else ():
            found = [_inside(wider.truths(histories, wider.at, side)) if len(side) else {} for side in sides]
            none = np.zeros(len(histories), np.bool_)
            for name in changes:
                was, now = (each.get(name, none) for each in found)
                counts[name] += [was.sum(), now.sum(), (was & now).sum()]
        least = {each.name: each.min_size for side in sides for each in side.segments}
        shown = {name: change for name, change in changes.items() if max(counts[name]) >= least[name]}
        lines = [Line(name, change, *counts[name].tolist()) for name, change in shown.items()]
        return cls(str(other) if other is not None else "what is served", audience.at, tuple(lines))

    def __str__(self) -> str:
        lines = [
            f"  {each.name} is {each.change}: {each.before:,} -> {each.after:,} people, {each.both:,} in both"
            for each in self.lines
        ]
        return "\n".join([f"against {self.against}, as of {iso(self.at)}", *(lines or ["  nothing differs."])])

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {"against": self.against, "at": iso(self.at), "segments": [asdict(each) for each in self.lines]}


def _other(project: Project, audience: Audience, path: Path | None) -> SegmentSet:
    if path is None:
        if audience.served is None:
            raise DefinitionError("nothing is served to compare with. Hint: name another segments.yaml, or `promote`.")
        return audience.served
    log, features = audience.log, audience.features
    kinds, named = Declared.of(project).kinds, clusters_served(project)
    read = SegmentSet.from_yaml(path, log.plan, log.codes, features, studies=kinds, clusters=named)
    return release.bounded(read, log, features, audience.models, audience.segments.snapshots)


def _changes(before: SegmentSet, after: SegmentSet) -> Mapping[str, str]:
    old, new = ({each.name: (each.version, each.status) for each in side.segments} for side in (before, after))
    told = {name: "added" if name not in old else "removed" if name not in new else "edited" for name in {**old, **new}}
    return {name: change for name, change in told.items() if old.get(name) != new.get(name)}


def _inside(truths: Truths) -> dict[str, NDArray[np.bool_]]:
    return {name: truths.values[:, place] == TRUE for place, name in enumerate(truths.names)}
