"""Proposals: what an exploration found, as definitions that can be pasted into features.yaml and segments.yaml."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.inference import Estimate
from experiments.journeys import Cut
from experiments.plain import Plain
from experiments.sequences import Trail
from experiments.signals import Signal
from features.behaviour.feature_set import FeatureSet
from features.instants import DAY

PLAIN = re.compile(r"\d+d|(?!(?i:true|false|null|yes|no|on|off|y|n)$)[A-Za-z_][\w-]*")
"""A text that YAML reads as itself."""
MOST = 4
"""Thresholds, and sequences, that are proposed."""


@dataclass(frozen=True)
class Proposal(Plain):
    """One definition.

    Attributes:
        file: Where it belongs.
        text: One entry of that file's list or mapping.
        reason: What it rests on.
    """

    file: Literal["features.yaml", "segments.yaml"]
    text: str
    reason: str


def text(proposals: Iterable[Proposal]) -> dict[str, str]:
    """Per file, a document with every proposed entry and its reason."""
    documents: dict[str, str] = {}
    for file, head, indent in (("features.yaml", "features:", "  - "), ("segments.yaml", "segments:", "  ")):
        mine = [each for each in proposals if each.file == file]
        lines = [line for each in mine for line in (f"  # {each.reason}", f"{indent}{each.text}")]
        documents |= {file: "\n".join(["version: 1", head, *lines]) + "\n"} if mine else {}
    return documents


def propose(
    signals: Sequence[Signal], trails: Sequence[Trail], cut: Cut | None, goal: str | None, features: FeatureSet
) -> tuple[Proposal, ...]:
    """Everything worth a definition.

    Args:
        signals: The most telling first, no two that say the same.
        trails: Those that hold, each once.
        cut: Where active ends.
        goal: The event behind it.
        features: Those that are declared.
    """
    found = [*_thresholds(signals), *_percentile(signals)]
    if cut is not None and goal is not None:
        found += [*_activity(cut, goal), *_features(cut, goal, features)]
    return (*found, *(_trail(each) for each in trails[:MOST]))


def _thresholds(signals: Sequence[Signal]) -> Iterator[Proposal]:
    """The cuts whose lift holds on the users they were not chosen on."""
    sound = [(each, each.split, each.lift) for each in signals if each.split and each.lift and each.lift.low > 0]
    for each, cut, lift in sound[:MOST]:
        word, operator, said = ("high", "gte", "") if cut.above else ("low", "lt", "")
        name = f"{word}_{each.feature}"
        if cut.word:
            name, operator, said = f"{each.feature}_{cut.word}", "eq", f"{cut.threshold:g} is {cut.word}; "
        yield _segment(name, {"feature": {each.feature: {operator: cut.threshold}}}, f"{said}{_told(each.share, lift)}")


def _percentile(signals: Sequence[Signal]) -> Iterator[Proposal]:
    numbers = [each for each in signals if each.split is not None and not each.split.word]
    rising = [each for each in numbers if each.split and each.split.above and each.percentiles[90] > 0]
    for each in rising[:1]:
        said = f"the tenth of the users with most of it: {each.percentiles[90]:g} and more in these rows"
        yield _segment(f"top_tenth_{each.feature}", {"percentile": {"feature": each.feature, "gte": 90}}, said)


def _activity(cut: Cut, goal: str) -> Iterator[Proposal]:
    lately = {"event": goal, "last": f"{cut.days}d"}
    reason = f"of those who do {goal} again in {cut.horizon:.0f} days, {cut.share:.0%} have done so by day {cut.days}"
    yield _segment(f"active_{goal}", {"did": lately}, reason)
    dormant = {"did": {"event": goal}, "did_not": lately}
    yield _segment(f"dormant_{goal}", dormant, "did it once, and not within that time")


def _features(cut: Cut, goal: str, features: FeatureSet) -> Iterator[Proposal]:
    if f"recency_{goal}_s" not in features.names:
        yield Proposal("features.yaml", flow({"recency": [goal]}), "how long ago, which tells active from dormant")
    if f"count_{goal}_{cut.days}d" not in features.names and cut.days * DAY <= features.schema.horizon:
        entry = flow({"count": [goal], "windows": [f"{cut.days}d"]})
        yield Proposal("features.yaml", entry, f"over the {cut.days} days in which those who come back come back")


def _trail(trail: Trail) -> Proposal:
    first, *rest = trail.steps
    steps = [{"event": first}, *({"event": each, "immediately": True} for each in rest)]
    return _segment(
        "_then_".join(trail.steps),
        {"sequence": {"scope": "session", "steps": steps}},
        _told(trail.share, trail.lift),
        long=True,
    )


def _segment(name: str, when: Mapping[str, object], reason: str, *, long: bool = False) -> Proposal:
    key, condition = re.sub(r"\W+", "_", name).lower(), flow(when)
    text = f"{key}:\n    when: {condition}" if long else f"{key}: {{when: {condition}}}"
    return Proposal("segments.yaml", text, reason)


def _told(share: float, lift: Estimate) -> str:
    ends = f"[{ratio(lift.low)}, {ratio(lift.high)}]"
    return f"{share:.0%} of the users; {ratio(lift.value)} the outcome of the others {ends}"


def flow(value: object) -> str:
    """Plain values as YAML on one line.

    >>> flow({"did": {"event": "Order Completed", "count": {"gte": 2.0}, "last": "7d"}})
    '{did: {event: "Order Completed", count: {gte: 2}, last: 7d}}'
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float | int):
        return f"{value:.15g}"
    return str(value) if PLAIN.fullmatch(str(value)) else json.dumps(value, ensure_ascii=False)


def ratio(value: float) -> str:
    """A lift for people: 0.5 is 1.50x.

    >>> ratio(0.5)
    '1.50x'
    """
    return f"{1 + value:.2f}x"
