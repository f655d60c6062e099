"""Assignment: who sees which arm of which test, a pure function of the person, the file, the instant and what was."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from features.draws import place
from serving.abtests import OTHER, AbTests, Experiment, Holdout


@dataclass(frozen=True)
class Enrolled:
    """A person's first exposure in a test: what it fixed.

    Attributes:
        arm: What was shown.
        segment: The stratum that the person was in.
        at: Microseconds UTC.
    """

    arm: str
    segment: str
    at: int


@dataclass(frozen=True)
class Assignment:
    """What one person sees of one test.

    Attributes:
        show: The arm that is seen.
        arm: The arm that counts, to be told with the exposure; None where the person is not in the test.
        segment: The person's stratum, frozen once exposed; None where the person is not in the test.
        enrolled: When the person was exposed first; None for not yet.
        reason: Why the person is not in the test; empty where they are.
    """

    show: str
    arm: str | None = None
    segment: str | None = None
    enrolled: int | None = None
    reason: str = ""


def assign(
    tests: AbTests, name: str, user: str, at: int, *, enrolled: Enrolled | None, segments: Collection[str]
) -> Assignment:
    """What a person sees of a test.

    Args:
        tests: The file.
        name: Of the test.
        user: The person's canonical id.
        at: Microseconds UTC.
        enrolled: The person's first exposure, under whatever id.
        segments: What the person is in.
    """
    test = tests.tests[name]
    if test.winner is not None:
        return Assignment(test.winner, reason=f"{test.winner!r} is rolled out")
    if test.killed:
        return Assignment(test.control, reason="the test is switched off")
    if not test.start <= at < test.stop:
        return Assignment(test.control, reason="the test " + ("is over" if at >= test.stop else "has not begun"))
    if enrolled is not None:
        if enrolled.arm in test.arms:
            return Assignment(enrolled.arm, enrolled.arm, enrolled.segment, enrolled.at)
        return Assignment(test.control, reason="the person's arm is no more")
    arm, reason = drawn(test, name, user, at, tests.holdout)
    return Assignment(arm, arm, stratum(test, segments)) if arm else Assignment(test.control, reason=reason)


def stratum(test: Experiment, segments: Collection[str]) -> str:
    """The first of the test's segments that a person is in."""
    return next((each for each in test.segments if each in segments), OTHER)


def drawn(test: Experiment, name: str, user: str, at: int, holdout: Holdout) -> tuple[str, str]:
    """The arm that the hash draws for a person, or empty and why there is none."""
    if holdout.holds(user):
        return "", "the person is in no test: held out"
    if test.namespace is not None:
        low, high = test.namespace.range
        if not low <= place(f"__{test.namespace.name}", user) < high:
            return "", f"the person belongs to another test of {test.namespace.name!r}"
    here = place(test.seed or name, user)
    for arm, (low, high) in ranges(test, test.share_at(at)).items():
        if low <= here < high:
            return arm, ""
    return "", "the person is not among the share that is in the test by now"


def ranges(test: Experiment, share: float) -> Mapping[str, tuple[float, float]]:
    """The part of [0, 1) that each arm has: it begins where it would with everybody in, and only its end moves."""
    total = sum(arm.weight for arm in test.arms.values())
    found, low = {}, 0.0
    for name, arm in test.arms.items():
        found[name] = low, low + share * arm.weight / total
        low += arm.weight / total
    return found
