"""A/B tests: what `ab.yaml` declares; every fault with its line."""

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, JsonValue, StringConstraints

from features.document import Definition, Duration, Instant, load, located, validated
from features.draws import place
from features.errors import DefinitionError, nearest
from features.events.plan import TrackingPlan
from features.instants import NEVER

FILE = "ab.yaml"
OTHER = "other"
"""The stratum of people in none of a test's segments."""
ANY = "any"

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,62}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Model = Literal["champion", "challenger"]


class Arm(Definition):
    """One arm: what is shown, any JSON value, or the model that answers."""

    weight: float = Field(1.0, gt=0, le=1e6)
    content: JsonValue = None
    model: Model | None = None


class Namespace(Definition):
    """The part of all people that a test takes; tests of one namespace that share nobody exclude each other."""

    name: Name
    range: tuple[Share, Share]


class Step(Definition):
    """From `at` on, `share` of the people are in the test."""

    at: Instant
    share: Share


class Metric(Definition):
    """What is counted of a person from the first exposure on; exactly one of the first five says what.

    Attributes:
        conversion: Whether the event happens.
        sum: The sum of an event's property, `order_completed.revenue`; 0 where it never happens.
        rate: The event per exposure: click-through.
        time_on_site: Seconds between first and last event of each session, summed; sessions end with such a gap.
        retention: Whether the event (or `any`) happens once `after` has passed.
        within: How long is looked; who was exposed too late for that does not count.
        after: Where retention begins to look.
        guardrail: It must not get worse; `margin` of control's mean is tolerated.
        less: Less of it is better.
    """

    conversion: str | None = None
    sum: str | None = None
    rate: str | None = None
    time_on_site: Duration | None = None
    retention: str | None = None
    within: Duration | None = None
    after: Duration = 0
    guardrail: bool = False
    margin: float = Field(0.0, ge=0, lt=1)
    less: bool = False

    @property
    def kind(self) -> str:
        """Which of the five it is."""
        said = [name for name in ("conversion", "sum", "rate", "time_on_site", "retention") if getattr(self, name)]
        return said[0] if len(said) == 1 else ""

    @property
    def event(self) -> str:
        """The event that it looks at."""
        return (self.conversion or self.sum or self.rate or self.retention or ANY).partition(".")[0]


class Holdout(Definition):
    """People who are in no test, ever; from `start` to `stop` their metrics are compared with everybody else's."""

    share: Share = 0.0
    seed: str = "holdout"
    start: Instant = 0
    stop: Instant = NEVER
    metrics: dict[Name, Metric] = {}

    def holds(self, user: str) -> bool:
        """Whether a person, by canonical id, is held out."""
        return place(self.seed, user) < self.share


class Experiment(Definition):
    """One test.

    Attributes:
        control: The arm that everybody sees who is not in the test.
        arms: By name.
        seed: Of the hash; the test's name where empty.
        share: How many of those who may be in the test are.
        ramp: The same as it changes; before its first step nobody is in.
        segments: Strata, the first that a person is in counts; frozen at the first exposure.
        namespace: Of which part of the people it takes.
        start: The first instant; always, where it is not given.
        stop: The first instant after it.
        killed: Everybody sees the control from now on.
        winner: Everybody sees this arm from now on.
        metrics: By name; the first one is the success metric.
    """

    description: str = ""
    control: Name
    arms: dict[Name, Arm] = Field(min_length=2, max_length=20)
    seed: str = ""
    share: Share = 1.0
    ramp: tuple[Step, ...] = ()
    segments: tuple[str, ...] = ()
    namespace: Namespace | None = None
    start: Instant = 0
    stop: Instant = NEVER
    killed: bool = False
    winner: Name | None = None
    metrics: dict[Name, Metric] = {}

    @property
    def over(self) -> bool:
        """Whether nobody can come into it any more, whatever the time."""
        return self.killed or self.winner is not None

    def phase(self, at: int) -> str:
        """How it stands at an instant, in a word or two."""
        if self.over:
            return f"{self.winner} is rolled out" if self.winner else "switched off"
        return "not begun" if at < self.start else "over" if at >= self.stop else "running"

    @property
    def of_models(self) -> bool:
        """Whether its arms are models."""
        return any(arm.model for arm in self.arms.values())

    def share_at(self, at: int) -> float:
        """How many of those who may be in it are, at an instant."""
        if not self.ramp:
            return self.share
        return self.share * next((step.share for step in reversed(self.ramp) if step.at <= at), 0.0)


class AbTests(Definition):
    """`ab.yaml`."""

    version: int = Field(1, ge=1, le=1)
    holdout: Holdout = Holdout()
    tests: dict[Name, Experiment] = {}

    @classmethod
    def read(cls, path: Path, *, segments: Collection[str] | None = None, plan: TrackingPlan | None = None) -> Self:
        """The tests that a file declares; none where there is no file.

        Args:
            path: Of ab.yaml.
            segments: That there are; None where nobody knows them.
            plan: Says which events there are; None where nobody asks.

        Raises:
            DefinitionError: every fault, with its line.
        """
        if not path.exists():
            return cls()
        data = load(path)
        made = validated(cls, data, where=path.name)
        faults = [*made._faults(), *made._unknown(segments, plan)]
        if faults:
            told = (located(data, fault.at, path.name) + fault.text for fault in faults)
            raise DefinitionError("\n".join(told))
        return made

    def test(self, name: str) -> Experiment:
        """One test, or a DefinitionError with the nearest name."""
        if name not in self.tests:
            raise DefinitionError(f"unknown test {name!r}. {nearest(name, self.tests)}")
        return self.tests[name]

    def _faults(self) -> Iterator["_Fault"]:
        for name, each in self.tests.items():
            for key in ("control", "winner"):
                arm = getattr(each, key)
                if arm is not None and arm not in each.arms:
                    yield _Fault(("tests", name, key), f"{arm!r} is no arm of this test. {nearest(arm, each.arms)}")
            if each.start >= each.stop:
                yield _Fault(("tests", name, "stop"), "a test stops after it has started.")
            if any(a.at >= b.at or a.share > b.share for a, b in pairwise(each.ramp)):
                yield _Fault(
                    ("tests", name, "ramp"), "a ramp goes on in time and never down: who is in a test stays in it."
                )
            if each.of_models and {arm.model for arm in each.arms.values()} != {"champion", "challenger"}:
                yield _Fault(
                    ("tests", name, "arms"), "a test of models has the champion in one arm, the challenger in another."
                )
        for at, said in self._metrics():
            if not said.kind:
                yield _Fault(at, f"a metric says exactly one of {', '.join(KINDS)}.")
            elif said.rate and at[0] == "holdout":
                yield _Fault(at, "who is held out is shown nothing, so there is no rate per exposure.")
        if self.holdout.start >= self.holdout.stop:
            yield _Fault(("holdout", "stop"), "a holdout stops after it has started.")
        yield from self._overlaps()

    def _metrics(self) -> Iterator[tuple[tuple[str, ...], Metric]]:
        """Every metric and where it stands."""
        for metric, said in self.holdout.metrics.items():
            yield ("holdout", "metrics", metric), said
        for name, each in self.tests.items():
            for metric, said in each.metrics.items():
                yield ("tests", name, "metrics", metric), said

    def _overlaps(self) -> Iterator["_Fault"]:
        for name, each in self.tests.items():
            if each.namespace is None:
                continue
            low, high = each.namespace.range
            if low >= high:
                yield _Fault(("tests", name, "namespace", "range"), "a range is [from, to), from below to.")
            for other, that in self.tests.items():
                if other == name:
                    break
                if that.namespace is None or that.namespace.name != each.namespace.name or each.over or that.over:
                    continue
                apart = that.namespace.range[1] <= low or high <= that.namespace.range[0]
                if not apart and each.start < that.stop and that.start < each.stop:
                    yield _Fault(
                        ("tests", name, "namespace", "range"), f"{other!r} takes some of these people at the same time."
                    )

    def _unknown(self, segments: Collection[str] | None, plan: TrackingPlan | None) -> Iterator["_Fault"]:
        for name, each in self.tests.items():
            for number, segment in enumerate(each.segments):
                if segments is not None and segment not in segments:
                    yield _Fault(
                        ("tests", name, "segments", number),
                        f"unknown segment {segment!r}. {nearest(segment, segments)}",
                    )
        for at, said in self._metrics():
            if plan is not None and (fault := _unplanned(said, plan)):
                yield _Fault((*at, said.kind), fault)


KINDS = ("conversion", "sum", "rate", "time_on_site", "retention")


class _Fault(NamedTuple):
    at: Sequence[object]
    text: str


def _unplanned(metric: Metric, plan: TrackingPlan) -> str:
    """What a metric names that the plan does not have."""
    if metric.event != ANY and metric.event not in plan.events:
        return f"unknown event {metric.event!r}. {nearest(metric.event, plan.events)}"
    if metric.sum is None:
        return ""
    properties = plan.events[metric.event].properties
    name = metric.sum.partition(".")[2]
    return "" if name in properties else f"{metric.event!r} has no property {name!r}. {nearest(name, properties)}"
