"""Status: where the loop stands, what people said, and what it decided of late."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

from experiments.course import Course, words
from experiments.policy import Policy
from experiments.tracking import CHAMPION, Run, Tracking
from features.instants import iso
from features.project import Project

SHOWN = 5


@dataclass(frozen=True)
class Status:
    """What a person wants to know first.

    Attributes:
        champion: Version of the bundle that answers; None before the first release.
        course: Where the loop stands.
        words: What people said.
        policy: What loop.yaml allows.
        decisions: Of late, the newest first.
    """

    champion: int | None
    course: Course
    words: Mapping[str, str]
    policy: Policy
    decisions: Sequence[Run]

    @classmethod
    def of(cls, project: Project) -> Self:
        """Read it."""
        tracking = Tracking(project)
        champion = tracking.alias(project.name, CHAMPION)
        version = champion.version if champion else None
        runs = tracking.runs("loop")[:SHOWN]
        return cls(version, Course.of(project), words(project), Policy.of(project), runs)

    def __str__(self) -> str:
        served = f"bundle version {self.champion} is champion" if self.champion else "nothing is released yet"
        last = max(self.course.studied, default=0)
        lines = [f"{served}; {self.course}", f"  last studies: {iso(last) if last else 'none'}"]
        lines += [f"  {word}: {who}" for word, who in self.words.items()]
        return "\n".join([*lines, *(f"  {iso(run.started)} {_told(run)}" for run in self.decisions)])

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        decisions = [
            {"run_id": run.id, "at": iso(run.started), "decision": run.tags.get("ethogram.decision")}
            for run in self.decisions
        ]
        return {
            "champion": self.champion,
            "course": asdict(self.course),
            "words": dict(self.words),
            "policy": self.policy.model_dump(mode="json"),
            "decisions": decisions,
        }


def _told(run: Run) -> str:
    who = run.tags.get("ethogram.person")
    return run.tags.get("ethogram.decision", "") + (f" by {who}" if who else "")
