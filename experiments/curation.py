"""Curation: segments that nobody enters and segments that are the same people; retired or merged in segments.yaml."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.declared import Declared, clusters_served
from experiments.preview import Preview
from features.document import dumped, load, parsed
from features.errors import DefinitionError, nearest
from features.files import rewrite
from features.instants import DAY, iso
from features.project import Project
from features.segments.ledger import Ledger
from features.segments.segment_set import FILE, SegmentSet


@dataclass(frozen=True)
class Review:
    """What may be cleared away.

    Attributes:
        days: Without an entry, after which a segment is silent.
        silent: Segments, and when somebody last entered; None for never.
        alike: Pairs and the share of the people in either that are in both; of segments whose condition is all there
            is: who is in one with a `membership` is not what the condition says.
        applied: Whether anybody can have entered.
    """

    days: int
    silent: tuple[tuple[str, int | None], ...]
    alike: tuple[tuple[str, str, float], ...]
    applied: bool = True

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
        lasting = {name for name, said in _document(project)["segments"].items() if said.get("membership")}
        alike = [pair for pair in found.alike(share) if not lasting & set(pair[:2])]
        return cls(days, tuple(silent), tuple(alike), applied=ledger.at is not None)

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
        entered = "every segment is entered" if self.applied else "nothing was applied yet (`ethogram segments apply`)"
        return "\n".join([*silent, *alike]) or f"{entered}, and no two are alike."

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        silent = [{"segment": name, "entered": iso(last) if last else None} for name, last in self.silent]
        return {
            "applied": self.applied,
            "silent": silent,
            "alike": [{"segments": each[:2], "share": each[2]} for each in self.alike],
        }


def retire(project: Project, name: str) -> Path:
    """Archive a segment in segments.yaml: with the next `apply` everybody leaves it.

    Raises:
        DefinitionError: there is no such segment, or another refers to it.
    """
    document = _document(project, name)
    others = ((other, said.get("when")) for other, said in document["segments"].items() if other != name)
    users = [other for other, when in others if any(place[key] == name for place, key in _references(when))]
    _alone(document, name)
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
    segments = document["segments"]
    if name == into:
        raise DefinitionError(f"{name!r} cannot take its own place. Hint: name another segment.")
    if (status := segments[into].get("status", "active")) != "active":
        raise DefinitionError(f"{into!r} is {status}, so nobody is in it. Hint: activate it first.")
    _alone(document, name)
    for said in segments.values():
        for place, key in _references(said.get("when")):
            place[key] = into if place[key] == name else place[key]
    segments[name]["status"] = "archived"
    return _written(project, document)


def _document(project: Project, *names: str) -> Any:  # noqa: ANN401 - a YAML document
    document = load(project.file(FILE))
    segments = document.get("segments") if isinstance(document, dict) else None
    if not isinstance(segments, dict) or not all(isinstance(said, dict) for said in segments.values()):
        raise DefinitionError(f"{FILE} has no `segments:`, a mapping of names to definitions. Hint: docs/segments.md.")
    for name in names:
        if name not in document["segments"]:
            raise DefinitionError(f"unknown segment {name!r}. {nearest(name, document['segments'])}")
    return document


def _alone(document: Any, name: str) -> None:  # noqa: ANN401 - a YAML document
    """A segment written once under two names, as `&x` and `*x`, cannot be changed under one of them."""
    segments = document["segments"]
    for other, said in segments.items():
        if other != name and said is segments[name]:
            raise DefinitionError(f"{name!r} and {other!r} are one node of {FILE}. Hint: write them apart first.")


def _references(when: object) -> Iterator[tuple[Any, str]]:
    """Where a condition names segments: mappings and their keys."""
    if not isinstance(when, dict):
        return
    for key in ("all", "any", "none", "not"):
        inner = when.get(key)
        for each in inner if isinstance(inner, list) else [inner]:
            yield from _references(each)
    if isinstance(when.get("segment"), str):
        yield when, "segment"
    if isinstance(when.get("percentile"), dict) and isinstance(when["percentile"].get("of"), str):
        yield when["percentile"], "of"


def _written(project: Project, document: object) -> Path:
    """Write what is sound; what is not is refused, and the file stays."""
    path, text, now = project.file(FILE), dumped(document), Declared.of(project)
    parts = parsed(text, path.name), now.log.plan, now.log.codes, now.features
    try:
        SegmentSet.from_dict(*parts, studies=now.kinds, clusters=clusters_served(project), where=path.name)
    except DefinitionError as error:
        raise DefinitionError(f"nothing is written, since the file would be wrong:\n{error}") from None
    rewrite(path, text)
    return path
