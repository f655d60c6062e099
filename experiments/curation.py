"""Curation: segments that nobody enters and segments that are the same people; retired or merged in segments.yaml."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.preview import Preview
from features.document import dumped, load
from features.errors import DefinitionError, nearest
from features.instants import DAY, iso
from features.project import Project
from features.segments.ledger import Ledger
from features.segments.segment_set import FILE


@dataclass(frozen=True)
class Review:
    """What may be cleared away.

    Attributes:
        days: Without an entry, after which a segment is silent.
        silent: Segments, and when somebody last entered; None for never.
        alike: Pairs and the share of the people in either that are in both.
    """

    days: int
    silent: tuple[tuple[str, int | None], ...]
    alike: tuple[tuple[str, str, float], ...]

    @classmethod
    def of(cls, project: Project, *, days: int, share: float, told: Callable[[str], None] = lambda _: None) -> "Review":
        """The review of a project's segments.

        Args:
            project: Whose.
            days: Without an entry.
            share: From which two segments count as alike.
            told: Hears of every step.
        """
        found, ledger = Preview.of(project, days=0, points=1, told=told), Ledger.read(project.path("memberships"))
        since = (ledger.at or 0) - days * DAY
        shown = [(name, each) for name, each in ledger.segments.items() if name not in ledger.small]
        silent = [(name, each.entered) for name, each in shown if max(each.entered or 0, each.since) < since]
        return cls(days, tuple(silent), tuple(found.alike(share)))

    def __str__(self) -> str:
        silent = [
            f"{name}: nobody entered in {self.days} days (last: {iso(last) if last else 'never'}). "
            f"Hint: `ethogram segments retire {name}`"
            for name, last in self.silent
        ]
        alike = [
            f"{one} and {other} share {share:.0%} of their people. Hint: `ethogram segments merge {other} {one}`"
            for one, other, share in self.alike
        ]
        return "\n".join([*silent, *alike]) or "every segment is entered, and no two are alike."

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        silent = [{"segment": name, "entered": iso(last) if last else None} for name, last in self.silent]
        return {"silent": silent, "alike": [{"segments": each[:2], "share": each[2]} for each in self.alike]}


def retire(project: Project, name: str) -> Path:
    """Archive a segment in segments.yaml: with the next `apply` everybody leaves it.

    Raises:
        DefinitionError: there is no such segment, or another refers to it.
    """
    document = _document(project, name)
    users = [other for other, said in document["segments"].items() if other != name and _refers(said, name)]
    if users:
        raise DefinitionError(f"{users[0]!r} refers to {name!r}. Hint: `ethogram segments merge {name} ANOTHER`.")
    document["segments"][name]["status"] = "archived"
    return _written(project, document)


def merge(project: Project, name: str, into: str) -> Path:
    """Let every reference to a segment mean another one, and archive it.

    Raises:
        DefinitionError: there is no such segment, or the other one refers to it.
    """
    document = _document(project, name, into)
    if name == into or _refers(document["segments"][into], name):
        raise DefinitionError(f"{into!r} refers to {name!r}, so it cannot take its place.")
    for said in document["segments"].values():
        _renamed(said, name, into)
    document["segments"][name]["status"] = "archived"
    return _written(project, document)


def _document(project: Project, *names: str) -> Any:  # noqa: ANN401 - a YAML document
    document = load(project.file(FILE))
    for name in names:
        if name not in document["segments"]:
            raise DefinitionError(f"unknown segment {name!r}. {nearest(name, document['segments'])}")
    return document


def _refers(said: object, name: str) -> bool:
    return bool(_renamed(said, name, name))


def _renamed(said: object, name: str, into: str) -> int:
    """Rename the references below a node of the document; how many there were."""
    inner = list(said.values()) if isinstance(said, dict) else said if isinstance(said, list) else []
    count = sum(_renamed(each, name, into) for each in inner)
    if isinstance(said, dict):
        for key in ("segment", "of"):
            if said.get(key) == name:
                said[key] = into
                count += 1
    return count


def _written(project: Project, document: object) -> Path:
    path = project.file(FILE)
    path.write_text(dumped(document), encoding="utf-8")
    return path
