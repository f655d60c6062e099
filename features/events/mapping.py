"""Mapping: how the columns of somebody's file become events; a YAML document beside the file."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from features.document import Definition, Duration, rule
from features.errors import SourceError, nearest
from features.events.plan import Purpose, TrackingPlan
from features.instants import zone_offsets


class Value(Definition):
    """Where a value comes from: a column, several columns joined by `:`, or a constant.

    `as: whole` takes `.0` off numbers that a spreadsheet turned into floats, `as: lower` ignores case; `values`
    translates.
    """

    column: str | None = None
    columns: tuple[str, ...] | None = None
    constant: str | float | bool | None = None
    as_: Literal["whole", "lower"] | None = Field(None, alias="as")
    values: dict[str, str] | None = None

    _one_origin = rule(
        lambda said: sum(each is not None for each in (said.column, said.columns, said.constant)) != 1,
        "say one of `column`, `columns` and `constant`",
    )

    @property
    def needs(self) -> set[str]:
        """The columns it reads."""
        return {*(self.columns or ()), *([self.column] if self.column else [])}


class Measure(Definition):
    """A property: a column, a constant, or the product of two columns; `times` changes its unit or sign."""

    column: str | None = None
    constant: str | float | bool | None = None
    product: tuple[str, str] | None = None
    times: float = 1.0
    as_: Literal["whole", "lower"] | None = Field(None, alias="as")
    values: dict[str, str] | None = None

    _one_origin = rule(
        lambda said: sum(each is not None for each in (said.column, said.product, said.constant)) != 1,
        "say one of `column`, `product` and `constant`",
    )

    @property
    def needs(self) -> set[str]:
        """The columns it reads."""
        return {*(self.product or ()), *([self.column] if self.column else [])}


class Time(Definition):
    """A time: a column, and how it is written.

    `format` is strftime's; `unit` is for epochs; `zone` is for times that do not name their own.
    """

    column: str
    format: str | None = None
    unit: Literal["s", "ms", "us"] | None = None
    zone: str | None = None

    @model_validator(mode="after")
    def _zone_exists(self) -> Self:
        if self.format is not None and self.unit is not None:
            raise ValueError("`format` is for texts, `unit` for epochs; say one of them")
        if self.zone is not None:
            try:
                zone_offsets(self.zone)
            except (KeyError, ValueError, OSError):
                raise ValueError(
                    f"unknown time zone {self.zone!r}. Hint: use an IANA name such as Europe/London."
                ) from None
        return self

    @property
    def needs(self) -> set[str]:
        """The column it reads."""
        return {self.column}


class Condition(Definition):
    """Something that holds for a row, or does not; a missing value fulfils only `missing: true`."""

    column: str
    starts_with: str | None = None
    equals: str | None = None
    one_of: tuple[str, ...] | None = None
    below: float | None = None
    above: float | None = None
    missing: bool | None = None

    _says_something = rule(
        lambda said: all(getattr(said, name) is None for name in type(said).model_fields if name != "column"),
        "say one of `starts_with`, `equals`, `one_of`, `below`, `above`, `missing`",
    )


class Rule(Definition):
    """The event of rows for which all conditions hold."""

    when: tuple[Condition, ...]
    event: str

    @model_validator(mode="before")
    @classmethod
    def _one_or_many(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("when"), dict):
            return {**data, "when": [data["when"]]}
        return data


class Naming(Definition):
    """The event's name: from a column (perhaps translated), or by the first rule that holds, else `otherwise`."""

    column: str | None = None
    values: dict[str, str] | None = None
    rules: tuple[Rule, ...] = ()
    otherwise: str | None = None

    @property
    def needs(self) -> set[str]:
        """The columns it reads."""
        conditions = {condition.column for rule in self.rules for condition in rule.when}
        return conditions | ({self.column} if self.column else set())

    @property
    def events(self) -> set[str]:
        """The events that it names itself."""
        return {rule.event for rule in self.rules} | ({self.otherwise} if self.otherwise else set())


def _short(key: str) -> BeforeValidator:
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


Column = Annotated[Value, _short("column")]
Named = Annotated[Naming, _short("column")]


class Consent(Definition):
    """Consent from a column: for each of its values, the purposes consented to."""

    column: str
    values: dict[str, tuple[Purpose, ...]]

    @property
    def needs(self) -> set[str]:
        """The column it reads."""
        return {self.column}


class Mapping(Definition):
    """`mapping.yaml`."""

    version: int = Field(1, ge=1, le=1)
    source: str = Field("files", pattern=r"^[A-Za-z0-9_]{1,64}$")
    format: Literal["csv", "tsv", "ndjson", "parquet", "segment"] | None = None
    separator: str | None = Field(None, min_length=1, max_length=1)
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    event: Named
    ts: Annotated[Time, _short("column")]
    received: Annotated[Time, _short("column")] | None = None
    user_id: Column | None = None
    anonymous_id: Column | None = None
    previous_id: Column | None = None
    message_id: Column | None = None
    user_agent: Column | None = None
    ip: Column | None = None
    consent: Consent | None = None
    properties: dict[str, Annotated[Measure, _short("column")]] = {}
    duplicates: bool = False
    restated: bool = False
    blind_spot: Annotated[Duration, Field(ge=0)] = 0

    _versions_are_told_apart = rule(
        lambda said: said.restated and (said.message_id is None or said.received is None),
        "`restated` needs `message_id` (which row it is) and `received` (when this version of it was written)",
    )

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """The mapping in a file."""
        return cls.from_yaml(path)

    @property
    def needs(self) -> set[str]:
        """Every column that it reads."""
        parts: list[Any] = [self.event, self.ts, *self.properties.values(), *self.identities.values()]
        parts += [each for each in (self.received, self.consent) if each is not None]
        return {column for part in parts for column in part.needs}

    @property
    def identities(self) -> dict[str, Value]:
        """The text fields that are mapped."""
        names = ("user_id", "anonymous_id", "previous_id", "message_id", "user_agent", "ip")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def check(self, plan: TrackingPlan) -> None:
        """The events and properties that it names are declared, and it names a person.

        Raises:
            SourceError: one is not; the nearest name is in the message.
        """
        for name in sorted(self.event.events):
            if name not in plan.specs:
                raise SourceError(f"the mapping names the event {name!r}: not in the plan. {nearest(name, plan.specs)}")
        for name in self.properties:
            if name not in plan.properties:
                hint = nearest(name, plan.properties)
                raise SourceError(f"the mapping fills the property {name!r}: not in the plan. {hint}")
        if self.user_id is None and self.anonymous_id is None:
            raise SourceError("the mapping names no person. Hint: say which column is `user_id`, or `anonymous_id`.")
