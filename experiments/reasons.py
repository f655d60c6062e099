"""Reasons: why a person came into a segment, or left it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.audience import Audience
from experiments.proposals import flow
from features.behaviour.histories import Histories
from features.behaviour.schema import CODE_MASK, HEAD, KNOWN, TS
from features.events.plan import Purpose
from features.instants import iso
from features.segments.membership import means
from features.segments.segment_set import Segment


class Reasons(NamedTuple):
    """What is to be said of changes.

    Attributes:
        audience: Whose segments and people.
        looked: Per segment since when what happened may have ended a membership.
    """

    audience: Audience
    looked: Callable[[str], int]

    def entry(self, person: Histories, name: str, at: int) -> str:
        """Why a person came."""
        return self._said(person, name, at, holding=True)

    def exit(self, person: Histories, name: str, at: int, entered: int) -> str:
        """Why a person who came at `entered` left: an event that ended it, its time, or what holds no more."""
        if not person.consent()[0] & Purpose.PERSONALISATION.bit:
            return "agrees to personalisation no more"
        segment = self.audience.segments.segment(name)
        ended = _ender(person, segment, max(entered, self.looked(name)), at)
        if ended is not None and ended[1] > entered:
            return f"ended by {ended[0]} {iso(ended[1])}"
        ttl = (segment.membership or {}).get("ttl")
        return "its time is over" if ttl and at - entered >= ttl else self._said(person, name, at, holding=False)

    def _said(self, person: Histories, name: str, at: int, *, holding: bool) -> str:
        return "; ".join(_conditions(self.audience.explain(person, at, [name])[name], holding=holding))


def _ender(person: Histories, segment: Segment, since: int, at: int) -> tuple[str, int] | None:
    """Name and ts of the newest event that ends a person's membership and became known since an instant."""
    slots = person.slots[person.starts[0] : person.ends[0]]
    known = np.maximum(slots[:, TS], slots[:, KNOWN])
    meant = np.any([means(kind, person.schema, slots) for kind in segment.exits], axis=0)
    found = slots[meant & (since < known) & (known <= at)]
    if not len(found):
        return None
    last, names = found[np.argmax(found[:, TS])], {code: name for name, code in person.schema.codes.items()}
    return names[int(last[HEAD]) & CODE_MASK], int(last[TS])


def _conditions(tree: Mapping[str, Any], *, holding: bool) -> list[str]:
    """The conditions that make a tree true, or keep it from being true, as they are written, with their figures."""
    found = [reason for each in tree.get("of", []) for reason in _conditions(each, holding=holding)]
    if found or "condition" not in tree or (tree["truth"] == "true") != holding:
        return found
    value = f" ({tree['value']:.4g})" if tree.get("value") is not None else ""
    events = ", ".join(f"{each['event']} {each['at']}" for each in tree.get("events", [])[-2:])
    return [flow(tree["condition"]) + value + (f" by {events}" if events else "")]
