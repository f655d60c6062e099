"""Definitions: segments.yaml as typed values: what may be written, and nothing of what it means."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    Tag,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from features.behaviour.words import KindSpec, Names
from features.document import Definition, Duration, Instant, rule
from features.instants import MINUTE

VALUE = {"type": ["string", "number", "boolean"]}
OPERATORS = {
    **{name: dict(VALUE) for name in ("eq", "ne", "gt", "gte", "lt", "lte")},
    **{name: {"type": "array", "items": VALUE} for name in ("in", "not_in", "between")},
    **{name: {"type": "string"} for name in ("contains", "starts_with", "ends_with", "regex")},
    "exists": {"type": "boolean"},
}
Predicate = Annotated[
    Any,
    WithJsonSchema({"anyOf": [VALUE, {"type": "object", "properties": OPERATORS, "additionalProperties": False}]}),
]
"""A value, or operators of which all have to hold."""
Where = dict[str, Predicate]
EVENT_NAMES = "A name, several, or `any`."


class Ago(Definition):
    """`{from: 180d, to: 60d}`: a window that lies back."""

    from_: Duration = Field(alias="from")
    to: Duration

    _ordered = rule(
        lambda said: said.from_ <= said.to, "`from` lies further back than `to`, as in {from: 180d, to: 60d}"
    )


class Between(Definition):
    """`{from: 2026-11-01, to: 2026-12-01}`: from the first instant on, before the second."""

    from_: Instant = Field(alias="from")
    to: Instant

    _ordered = rule(lambda said: said.from_ >= said.to, "`from` is earlier than `to`")


class Which(Definition):
    """`{event: purchase}`: which events."""

    event: Names = Field(description=EVENT_NAMES)
    where: Where = {}


class Windowed(Definition):
    """Within which window something has to happen; none means ever."""

    last: Duration | None = None
    ago: Ago | None = None
    between: Between | None = None
    since_first_seen: Duration | None = None
    session: Literal["current"] | None = None
    calendar: Literal["day", "week", "month"] | None = None

    @model_validator(mode="after")
    def _one_window(self) -> Self:
        given = [name for name in Windowed.model_fields if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"one window at most, not {' and '.join(f'`{name}`' for name in given)}")
        return self


class Events(Which, Windowed):
    """`{event: purchase, last: 30d}`: which events, and within which window."""


class Counted(Events):
    """`{event: purchase, count: {gte: 2}, last: 30d}`; without a count, at least one."""

    count: Predicate = None


class Nth(Events):
    """`{event: purchase, n: 3, last: 30d}`: the third purchase ever fell within the window."""

    n: int = Field(ge=1)


class Periods(Definition):
    """`{min: 3, of: 4}`."""

    min: int = Field(ge=1)
    of: int = Field(ge=1, le=1000)

    _possible = rule(lambda said: said.min > said.of, "`min` is at most `of`")


class Regularly(Which):
    """`{event: any, at_least: 3, per: 1w, in: {min: 3, of: 4}}`: periods of `per` that end at the instant asked for."""

    at_least: int = Field(1, ge=1)
    per: Duration
    in_: Periods = Field(alias="in")


class Stopped(Which):
    """`{event: purchase, last: 30d, before: 60d}`: none in the last 30 days, some in the 60 days before those."""

    last: Duration
    before: Duration


class Resumed(Which):
    """`{event: any, last: 7d, after_gap: 30d}`: one in the last 7 days that came at least 30 after the one before."""

    last: Duration
    after_gap: Duration


class Occurrence(Events):
    """`{event: purchase}`: what must not happen."""

    count: Predicate = None


class Step(Windowed):
    """`{event: purchase, within: 24h}`: events that come, or (`not`) that stay away; only those in its window count."""

    event: Names = Field((), description=EVENT_NAMES)
    where: Where = {}
    count: Predicate = None
    not_: Occurrence | None = Field(None, alias="not")
    within: Duration | None = None
    of: Literal["previous", "first"] = "previous"
    immediately: bool = False
    until_next: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.event) == (self.not_ is not None):
            raise ValueError("a step names either an `event` or, under `not`, what must stay away")
        windowed = any(getattr(self, name) is not None for name in Windowed.model_fields)
        if self.not_ is not None and (self.where or self.count is not None or self.immediately or windowed):
            raise ValueError(
                "`where`, `count` and the window of what must stay away stand inside `not`; `immediately` cannot"
            )
        if self.until_next and (self.not_ is None or self.within is not None):
            raise ValueError("`until_next` goes with `not`, and without `within`")
        return self


class Sequence(Definition):
    """`{steps: [{event: viewed}, {event: purchase}]}`: in order, with absence, within one cart, session or time."""

    scope: Literal["user", "session"] = "user"
    match: Literal["any", "first", "last"] = "last"
    same: Names = Field((), description="Properties that all steps share.")
    last: Duration | None = None
    max_duration: Duration | None = None
    steps: tuple[Step, ...] = Field(min_length=1)


class Aggregate(Events):
    """`{event: order_completed, agg: sum, property: revenue, last: 30d}`."""

    agg: Literal["count", "sum", "mean", "min", "max", "first", "last"] = "count"
    property: str | None = None

    _of_a_property = rule(
        lambda said: (said.agg == "count") != (said.property is None),
        "`count` takes no `property`, every other `agg` needs one",
    )


def _side(value: object) -> str:
    return "number" if isinstance(value, int | float) else "events"


class Compare(Definition):
    """`{left: .., op: gt, right: .., factor: 20}`: left > 20 x right, where right is of events too, or a number."""

    left: Aggregate
    op: Literal["eq", "ne", "gt", "gte", "lt", "lte"]
    right: Annotated[Annotated[float, Tag("number")] | Annotated[Aggregate, Tag("events")], Discriminator(_side)]
    factor: float = 1.0


class Percentile(Definition):
    """`{feature: session_minutes_30d, gte: 80}`: at or above the value that 80 % of the population do not exceed."""

    feature: str
    of: str | None = Field(None, description="A segment; without one, everybody.")
    gte: float | None = Field(None, ge=0, le=100)
    lte: float | None = Field(None, ge=0, le=100)
    refresh: Duration | None = None

    _one_side = rule(lambda said: (said.gte is None) == (said.lte is None), "a percentile is either `gte` or `lte`")


class Rfm(Definition):
    """`{r: {gte: 4}, f: {gte: 4}, m: {gte: 4}}`: fifths, 5 the newest, most frequent, most valuable."""

    r: Predicate = None
    f: Predicate = None
    m: Predicate = None
    event: str | None = None
    refresh: Duration | None = None

    _some = rule(lambda said: said.r is None and said.f is None and said.m is None, "at least one of `r`, `f` and `m`")


class Cluster(Definition):
    """`{study: behaviour, in: [bargain], min_confidence: 0.6}`."""

    study: str
    in_: Names = Field(alias="in", min_length=1)
    min_confidence: float | None = Field(None, ge=0.5, le=1)


class ModelSays(Definition):
    """`{study: purchase_7d, gte: 0.35}`; without a bound, the model's own threshold."""

    study: str
    gte: float | None = Field(None, ge=0, le=1)
    gt: float | None = Field(None, ge=0, le=1)
    lt: float | None = Field(None, ge=0, le=1)
    lte: float | None = Field(None, ge=0, le=1)


class Bucket(Definition):
    """`{salt: global-holdout-2026, lt: 0.05}`: a stable share of all users."""

    salt: str = Field(min_length=1)
    gte: float | None = Field(None, ge=0, le=1)
    lt: float | None = Field(None, ge=0, le=1)

    _some = rule(lambda said: said.gte is None and said.lt is None, "at least one of `gte` and `lt`")


class Condition(Definition):
    """`{did: {event: any, last: 7d}}`: a condition; several keys of one mapping all have to hold."""

    all_: tuple["Condition", ...] | None = Field(None, alias="all", min_length=1)
    any_: tuple["Condition", ...] | None = Field(None, alias="any", min_length=1)
    none: tuple["Condition", ...] | None = Field(None, min_length=1)
    not_: "Condition | None" = Field(None, alias="not")
    did: Counted | None = None
    did_not: Counted | None = None
    nth: Nth | None = None
    regularly: Regularly | None = None
    stopped: Stopped | None = None
    resumed: Resumed | None = None
    sequence: Sequence | None = None
    compare: Compare | None = None
    feature: dict[str, Predicate] | None = Field(None, min_length=1)
    trait: dict[str, Predicate] | None = Field(None, min_length=1)
    context: dict[str, Predicate] | None = Field(None, min_length=1)
    segment: str | None = None
    percentile: Percentile | None = None
    rfm: Rfm | None = None
    cluster: Cluster | None = None
    model: ModelSays | None = None
    bucket: Bucket | None = None
    unknown: Literal[False] | None = Field(None, description="What is unknown here counts as false.")

    _some = rule(lambda each: not each.said, "a condition says something, such as {did: {event: any, last: 7d}}")

    @property
    def said(self) -> list[str]:
        """The fields that are given, `unknown` apart."""
        fields = type(self).model_fields
        return [name for name in fields if name != "unknown" and getattr(self, name) is not None]


class Hysteresis(Definition):
    """`{exit: 0.28}`: who is in stays in down to here."""

    exit: float


class Reentry(Definition):
    """`{after: 1d}`: not again before; `{never: true}`: not again."""

    after: Duration | None = None
    never: Literal[True] | None = None

    _one = rule(lambda said: (said.after is None) == (said.never is None), "either {after: 1d} or {never: true}")


class Membership(Definition):
    """`{ttl: 7d}`: what a truth does not say: how long one stays, and when one may come back."""

    hysteresis: Hysteresis | None = None
    min_dwell: Duration | None = None
    ttl: Duration | None = None
    exit_on: tuple[Which, ...] = ()
    reentry: Reentry | None = None

    _some = rule(lambda said: said == Membership.model_construct(), "a membership says something, such as {ttl: 7d}")
    _possible = rule(
        lambda said: said.ttl is not None and said.ttl <= (said.min_dwell or 0), "`ttl` is longer than `min_dwell`"
    )


class SegmentSpec(Definition):
    """`{when: {did: {event: any, last: 7d}}}`: one segment."""

    description: str = ""
    when: Condition
    membership: Membership | None = None
    emit: tuple[Literal["entered", "exited"], ...] = ()
    status: Literal["draft", "active", "paused", "archived"] = "active"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    min_size: int = Field(0, ge=0, description="With fewer members it is neither served nor reported.")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        both = sorted({*self.include} & {*self.exclude})
        if both:
            raise ValueError(f"{both[0]!r} stands under `include` and under `exclude`")
        return self


class Document(Definition):
    """`{version: 1, segments: {active: {when: {did: {event: any, last: 7d}}}}}`: segments.yaml."""

    version: Literal[1] = 1
    session_gap: Duration = 30 * MINUTE
    events: dict[str, KindSpec] = {}
    segments: dict[str, SegmentSpec] = Field(min_length=1)

    @model_validator(mode="wrap")
    @classmethod
    def _in_these_words(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as problem:
            raise ValidationError.from_exception_data(problem.title, list(map(_worded, problem.errors()))) from None


CONDITIONS = "[{did: {event: any, last: 7d}}, {segment: NAME}]"
EXAMPLES = {
    "all": CONDITIONS, "any": CONDITIONS, "none": CONDITIONS, "steps": "[{event: viewed}, {event: purchase}]",
    "exit_on": "[{event: purchase}]", "include": "[ID]", "exclude": "[ID]", "emit": "[entered, exited]",
    "event": "[purchase, refund]", "same": "[cart_id]", "in": "[NAME]", "feature": "{NAME: {gte: 3}}",
    "trait": "{NAME: VALUE}", "context": "{device: mobile}", "where": "{NAME: {gte: 3}}",
    "segments": "{active: {when: {did: {event: any, last: 7d}}}}", "events": "{clicks: {event: clicked}}",
}  # fmt: skip
"""What may stand under a key."""
EXPECTED = {"tuple_type": "a list", "dict_type": "a mapping", "model_type": "a mapping", "too_short": "at least one"}
"""What has to stand there, by pydantic's name of the fault."""


def _worded(fault: Any) -> InitErrorDetails:  # noqa: ANN401 - pydantic's error dictionary
    """The fault, where the shape is another: with what was expected, an example and what there was."""
    kind, said = fault["type"], fault["input"]
    words, known = PydanticCustomError(kind, "{told}", {"told": fault["msg"], **fault.get("ctx", {})}), fault["loc"]
    if kind in EXPECTED:
        key = next((step for step in reversed(known) if isinstance(step, str)), "")
        meant = globals()[fault["ctx"]["class_name"]].__doc__.split("`")[1] if kind == "model_type" else EXAMPLES[key]
        there = "a mapping" if isinstance(said, dict) else "a list" if isinstance(said, list) else repr(said)
        there = "none" if kind == "too_short" else there
        words = PydanticCustomError(
            kind, "{told}", {"told": f"{EXPECTED[kind]} is expected, as in {meant}. Got {there}."}
        )
    return InitErrorDetails(type=words, loc=known, input=said)
