"""Proposals: what an exploration found, as definitions that can be pasted into features.yaml and segments.yaml."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.journeys import Cut
from experiments.sequences import Trail
from experiments.signals import Signal
from features.behaviour.feature_set import FeatureSet
from features.instants import DAY

MOST = 4
"""Thresholds, and sequences, that are proposed."""


@dataclass(frozen=True)
class Proposal:
    """One definition.

    Attributes:
        file: Where it belongs.
        text: One entry of that file's list or mapping.
        reason: What it rests on.
    """

    file: Literal["features.yaml", "segments.yaml"]
    text: str
    reason: str

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return dict(vars(self))


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
        word, operator = ("high", "gte") if cut.above else ("low", "lt")
        name, said = f"{word}_{each.feature}", ""
        if cut.word:
            operator, said = "eq", f"{cut.threshold:g} is {cut.word}; "
            name = re.sub(r"\W", "_", f"{each.feature}_{cut.word.lower()}")
        condition = f"{{feature: {{{each.feature}: {{{operator}: {cut.threshold:.15g}}}}}}}"
        yield Proposal(
            "segments.yaml",
            f"{name}: {{when: {condition}}}",
            f"{said}{each.share:.0%} of the users; {ratio(lift.value)} the outcome of the others "
            f"[{ratio(lift.low)}, {ratio(lift.high)}]",
        )


def _percentile(signals: Sequence[Signal]) -> Iterator[Proposal]:
    numbers = [each for each in signals if each.split is not None and not each.split.word]
    rising = [each for each in numbers if each.split and each.split.above and each.percentiles[90] > 0]
    for each in rising[:1]:
        yield Proposal(
            "segments.yaml",
            f"top_tenth_{each.feature}: {{when: {{percentile: {{feature: {each.feature}, gte: 90}}}}}}",
            f"the tenth of the users with most of it: {each.percentiles[90]:g} and more in these rows",
        )


def _activity(cut: Cut, goal: str) -> Iterator[Proposal]:
    last = f"{{event: {goal}, last: {cut.days}d}}"
    reason = f"of those who do {goal} again in {cut.horizon:.0f} days, {cut.share:.0%} have done so by day {cut.days}"
    yield Proposal("segments.yaml", f"active_{goal}: {{when: {{did: {last}}}}}", reason)
    dormant = f"dormant_{goal}: {{when: {{did: {{event: {goal}}}, did_not: {last}}}}}"
    yield Proposal("segments.yaml", dormant, "did it once, and not within that time")


def _features(cut: Cut, goal: str, features: FeatureSet) -> Iterator[Proposal]:
    if f"recency_{goal}_s" not in features.names:
        yield Proposal("features.yaml", f"{{recency: [{goal}]}}", "how long ago, which tells active from dormant")
    if f"count_{goal}_{cut.days}d" not in features.names and cut.days * DAY <= features.schema.horizon:
        entry = f"{{count: [{goal}], windows: [{cut.days}d]}}"
        yield Proposal("features.yaml", entry, f"over the {cut.days} days in which those who come back come back")


def _trail(trail: Trail) -> Proposal:
    name = re.sub(r"\W", "_", "_then_".join(trail.steps))
    first, *rest = trail.steps
    steps = ", ".join([f"{{event: {first}}}", *(f"{{event: {each}, immediately: true}}" for each in rest)])
    return Proposal(
        "segments.yaml",
        f"{name}:\n    when:\n      sequence: {{scope: session, steps: [{steps}]}}",
        f"{trail.share:.0%} of the users; {ratio(trail.lift.value)} the outcome of the others "
        f"[{ratio(trail.lift.low)}, {ratio(trail.lift.high)}]",
    )


def ratio(value: float) -> str:
    """A lift for people: 0.5 is 1.50x.

    >>> ratio(0.5)
    '1.50x'
    """
    return f"{1 + value:.2f}x"
