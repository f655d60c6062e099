"""Course: where the loop stands between two turns, what people said meanwhile, and what it decided of late."""

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from getpass import getuser
from pathlib import Path
from typing import Literal, Self
from uuid import uuid4

from pydantic import TypeAdapter

from experiments.policy import Policy
from experiments.tracking import CHAMPION, Run, Tracking
from features.errors import StudyError
from features.files import rewrite
from features.instants import iso
from features.project import Project
from training.model import dump_json

Phase = Literal["resting", "shadow", "test", "approval", "watching"]
Word = Literal["approve", "veto", "pause", "resume"]


@dataclass(frozen=True)
class Course:
    """What one turn leaves to the next.

    Attributes:
        phase: `resting`; `shadow`: a challenger scores beside the champion; `test`: some people see its answers;
            `approval`: it won, a person is waited for; `watching`: it was promoted, the one before scores beside it.
        since: When the phase began: the log's newest event then, microseconds UTC.
        champion: Digest of the bundle that answers.
        version: Of the registered bundle that scores beside the champion.
        digest: Its digest.
        fresh: Studies whose models differ from the champion's.
        studied: The log's newest event at every study of late.
        definitions: Fingerprint of features and studies as they were declared at the last study.
        looks: Spans of answers, in microseconds, at which a gain was shown but not yet that no ranking suffers.
    """

    phase: Phase = "resting"
    since: int = 0
    champion: str = ""
    version: int | None = None
    digest: str = ""
    fresh: tuple[str, ...] = ()
    studied: tuple[int, ...] = ()
    definitions: str = ""
    looks: tuple[int, ...] = ()

    @classmethod
    def of(cls, project: Project) -> Self:
        """As the last turn left it."""
        return TypeAdapter(cls).validate_python(_read(_file(project)))

    def keep(self, project: Project) -> None:
        """For the next turn."""
        rewrite(_file(project), dump_json(asdict(self)))

    def rested(self) -> "Course":
        """Nothing scores beside the champion any more."""
        return replace(self, phase="resting", version=None, digest="", fresh=(), looks=())

    def __str__(self) -> str:
        if self.version is None:
            return self.phase
        return f"{self.phase} since {iso(self.since)}, bundle version {self.version} beside the champion"


@contextmanager
def alone(project: Project) -> Iterator[None]:
    """Nobody else takes a turn within the block.

    Raises:
        StudyError: another process is taking one.
    """
    path = _file(project).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StudyError("another turn of the loop is running. Hint: wait for it; nothing was done here.") from None
        yield


def words(project: Project) -> dict[str, str]:
    """What people said and has not been acted on: `pause`, `approve VERSION`, `veto VERSION`, and why."""
    return {key: str(value) for key, value in _read(_words(project)).items()}


def say(project: Project, word: Word, reason: str) -> str:
    """A person's word, for the next turn; a run in MLflow of its own.

    Raises:
        StudyError: there is nothing to approve or to veto.
    """
    course, said = Course.of(project), words(project)
    why = f"{getuser()}: {reason or 'no reason given'}"
    if word == "resume":
        said.pop("pause", None)
        told = "the loop goes on with its next turn"
    elif word == "pause":
        said["pause"] = why
        told = "no turn does anything until `ethogram loop resume`"
    elif course.version is None or (word == "approve" and course.phase == "watching"):
        raise StudyError(f"there is no challenger to {word} ({course}). Hint: `ethogram loop status`.")
    else:
        said[f"{word} {course.version}"] = why
        done = {"approve": "may be promoted", "veto": "is taken back"}[word]
        done = "is rolled back to" if course.phase == "watching" else done
        told = f"version {course.version} {done} at the next turn"
    tracking = Tracking(project)
    tags = {"ethogram.decision": word, "ethogram.person": why, "ethogram.course": str(course)}
    with tracking.ending(tracking.start("loop", search=uuid4().hex[:16], tags=tags)):
        rewrite(_words(project), dump_json(said))
    return told


def heard(project: Project) -> None:
    """What was said of a challenger has been acted on; a pause goes on."""
    said = words(project)
    rewrite(_words(project), dump_json({"pause": said["pause"]} if "pause" in said else {}))


def _file(project: Project) -> Path:
    return project.path("studies") / "loop.json"


def _words(project: Project) -> Path:
    return project.path("studies") / "loop.words.json"


def _read(path: Path) -> dict[str, object]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


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
