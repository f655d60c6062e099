"""Preview: how large declared segments are, how they grew, and how far any two are the same people."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from experiments.audience import Audience
from features.instants import DAY, iso
from features.project import Project
from features.segments.program import TRUE

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Preview:
    """What the conditions say of everybody: truths, not memberships.

    Attributes:
        names: Of the segments.
        instants: Shape (n_instants,), microseconds UTC; the last is the one asked for.
        n_users: People seen by then.
        sizes: Shape (n_instants, n_segments).
        overlap: Shape (n_segments, n_segments): people in both, as of the last instant.
        least: Per segment its minimum size; below it nothing is told.
    """

    names: tuple[str, ...]
    instants: Ints
    n_users: int
    sizes: Ints
    overlap: Ints
    least: Mapping[str, int]

    @classmethod
    def of(
        cls,
        project: Project,
        *,
        at: int | None = None,
        days: int = 28,
        points: int = 5,
        names: Sequence[str] = (),
        told: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """The preview of a project's segments.

        Args:
            project: Whose segments and log.
            at: As of; by default the log's newest event.
            days: How far back the trend goes.
            points: Instants of the trend.
            names: Of segments; all but archived ones where none are named.
            told: Hears of every step.
        """
        audience = Audience.of(project, at)
        wanted = [each.name for each in audience.segments.segments if each.status != "archived"]
        segments = audience.segments.only(audience.named(names) if names else wanted)
        instants = np.linspace(audience.at - days * DAY, audience.at, points).astype(np.int64)
        n, sizes = len(segments), np.zeros((points, len(segments)), np.int64)
        overlap, seen = np.zeros((n, n), np.int64), 0
        for histories in audience.everybody(told=told):
            for place, instant in enumerate(instants.tolist()):
                known = audience.seen(histories, instant)
                inside = (audience.truths(histories, instant, segments).values == TRUE) & known[:, None]
                sizes[place] += inside.sum(axis=0)
            overlap += np.rint(inside.T.astype(np.float64) @ inside.astype(np.float64)).astype(np.int64)
            seen += int(known.sum())
        return cls(
            segments.names, instants, seen, sizes, overlap, {each.name: each.min_size for each in segments.segments}
        )

    def shown(self) -> list[int]:
        """The places of the segments that are large enough to be told of."""
        return [place for place, name in enumerate(self.names) if self.sizes[-1, place] >= self.least[name]]

    def alike(self, share: float) -> list[tuple[str, str, float]]:
        """Pairs of segments of which at least this share of the people in either are in both."""
        found = []
        for one in self.shown():
            for other in self.shown():
                both = int(self.overlap[one, other])
                either = int(self.sizes[-1, one] + self.sizes[-1, other]) - both
                if one < other and both and both >= share * either:
                    found.append((self.names[one], self.names[other], both / either))
        return found

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        shown = self.shown()
        return {
            "at": iso(int(self.instants[-1])),
            "users": self.n_users,
            "instants": [iso(each) for each in self.instants.tolist()],
            "segments": [
                {
                    "name": self.names[k],
                    "size": int(self.sizes[-1, k]),
                    "share": float(self.sizes[-1, k] / max(self.n_users, 1)),
                    "trend": self.sizes[:, k].tolist(),
                    "overlap": {self.names[j]: int(self.overlap[k, j]) for j in shown if j != k},
                }
                for k in shown
            ],
            "hidden": [name for k, name in enumerate(self.names) if k not in shown],
        }
