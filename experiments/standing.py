"""Standing: why one person is in each segment or not: the tree, its events, what is pending, what moves each model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from experiments.audience import Audience
from experiments.enrolment import Enrolment
from experiments.proposals import flow
from features.behaviour.histories import Histories
from features.behaviour.matrix import FeatureMatrix
from features.behaviour.schema import MISSING
from features.instants import iso
from features.project import Project
from features.segments.ledger import Ledger
from features.segments.membership import dates
from features.segments.segment_set import Segment
from training.contributions import moved, paths_of_all
from training.trees import Forest

SHOWN = 5
"""Columns of a model that a person is shown; JSON has them all."""
NOBODY = {"inside": False, "entered": MISSING, "left": MISSING}
"""Of whom the ledger says nothing."""


@dataclass(frozen=True)
class Standing:
    """What is said of one person as of one instant.

    Attributes:
        user: The canonical id.
        at: As of, microseconds UTC.
        trees: Per segment that is told of, as `SegmentSet.explain` gives it.
        since: Per segment that was applied and holds the person, since when and by which cause.
        terms: Per segment with a `membership` that was applied: since when in, when out, and when its time is due.
        contributions: Per propensity, how much each prepared column moves the margin.
    """

    user: str
    at: int
    trees: Mapping[str, Mapping[str, Any]]
    since: Mapping[str, tuple[int, str]]
    terms: Mapping[str, Mapping[str, str | None]]
    contributions: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, project: Project, user: str, *, at: int | None = None, names: Sequence[str] = ()) -> Self:
        """Where a person stands.

        Args:
            project: Whose segments and log.
            user: Any id of the person.
            at: As of; by default the log's newest event.
            names: Segments; all of them where none are named.

        Raises:
            AnalysisError: nobody has this id.
            DefinitionError: there is no such segment.
        """
        audience = Audience.of(project, at)
        chosen = audience.named(names) if names else audience.segments.names
        person, ledger = audience.person(user), Ledger.read(project.path("memberships"))
        shown = [name for name in chosen if name not in ledger.small]
        trees = audience.explain(person, audience.at, shown) if shown else {}
        matrix, canonical = audience.matrix(person, audience.at), str(person.users[0])
        held = ledger.members(audience.at, user=canonical).iter_rows() if ledger.at is not None else ()
        since = {name: (begun, cause) for _, name, begun, cause in held if name in trees}
        terms = {}
        for segment, state in _states(Enrolment(project, audience, ledger), person):
            if segment.name in trees:
                trees[segment.name]["in"] = state["inside"]
                if segment.membership is not None:
                    terms[segment.name] = dates(segment, **{name: state[name] for name in NOBODY})
        since = {name: told for name, told in since.items() if name not in terms or trees[name]["in"]}
        return cls(canonical, audience.at, trees, since, terms, dict(_moved(audience, matrix)))

    def __str__(self) -> str:
        lines = [f"{self.user} as of {iso(self.at)}"]
        for name, tree in self.trees.items():
            known = self.since.get(name)
            applied = f"; a member since {iso(known[0])} by {known[1]}" if known else ""
            lines.append(f"  {name}: {'in' if tree['in'] else 'out'} ({tree['class']}, {tree['version']}){applied}")
            told = [f"{what} {when}" for what, when in self.terms.get(name, {}).items() if when is not None]
            lines += [f"    membership: {', '.join(told)}"] if told else []
            lines += [f"    {line}" for node in tree["of"] for line in _lines(node)]
        for study, parts in self.contributions.items():
            most = sorted(parts["columns"].items(), key=lambda each: -abs(each[1]))[:SHOWN]
            lines.append(f"  {study}: from {parts['base']:.3g} by " + ", ".join(f"{k} {v:+.3g}" for k, v in most))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        since: dict[str, dict[str, str | None]] = {name: {**told} for name, told in self.terms.items()}
        for name, (begun, cause) in self.since.items():
            since[name] = since.get(name, {}) | {"since": iso(begun), "cause": cause}
        return {
            "user": self.user,
            "as_of": iso(self.at),
            "segments": self.trees,
            "memberships": since,
            "contributions": self.contributions,
        }


def _states(enrolment: Enrolment, person: Histories) -> Iterator[tuple[Segment, Mapping[str, Any]]]:
    """Per segment of which a person's condition does not tell whether they are in, their state by the ledger.

    Before the last apply, and in a pause, that is what is written; later what applying would write.
    """
    ledger, at, user = enrolment.ledger, enrolment.audience.at, str(person.users[0])
    if ledger.at is None:
        return
    past, written = at < ledger.at, ledger.states_at(at, user)
    now = {} if past else {each["segment"]: each for each in enrolment.of(person).to_dicts()}
    for segment in enrolment.audience.segments.segments:
        name, applied = segment.name, ledger.segments.get(segment.name)
        if past or segment.status == "paused":
            if name in written or (applied is not None and applied.since <= at):
                yield segment, written.get(name, NOBODY)
        elif applied is not None and segment.membership is not None:
            yield segment, now.get(name, NOBODY)


def _moved(audience: Audience, matrix: FeatureMatrix) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for study, model in audience.models.items():
        if isinstance(model.head, Forest):
            values = matrix.select(model.preparation.names).values
            yield study, moved(model, paths_of_all(model.head), values)


def _lines(node: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    value = f" = {node['value']:.4g}" if node.get("value") is not None else ""
    pending = f", may change at {node['next_change']}" if "next_change" in node else ""
    events = ", ".join(f"{each['event']} {each['at']}" for each in node.get("events", []))
    by = f" by {events}" if events else ""
    far = ", ".join(f"{name} {distance:.3g}" for name, distance in node.get("distances", {}).items())
    of = f" (far from {far})" if far else ""
    yield f"{'  ' * depth}{node['truth']}: {flow(node['condition'])}{value}{of}{by}{pending}"
    for child in node.get("of", []):
        yield from _lines(child, depth + 1)
