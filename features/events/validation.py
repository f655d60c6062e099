"""Validation: why a row cannot be used; of several reasons, the first."""

from collections.abc import Iterator

import polars as pl

from features.events.batch import PREFIX
from features.events.identity import MAX_ID, denied
from features.events.plan import PropertySpec, TrackingPlan
from features.instants import DAY, EARLIEST

EXACT = 2.0**53
"""Above it, not every integer is a float64."""


def reasons(frame: pl.DataFrame, plan: TrackingPlan) -> pl.DataFrame:
    """Per row, columns reason (null: the row is good; see `quarantine.REASONS`) and detail."""
    checks = [*_frame_checks(frame, plan), *_property_checks(frame, plan)]
    reason: pl.Expr = pl.lit(None, pl.String)
    detail: pl.Expr = pl.lit(None, pl.String)
    for name, condition, text in reversed(checks):
        reason = pl.when(condition).then(pl.lit(name)).otherwise(reason)
        detail = pl.when(condition).then(text).otherwise(detail)
    return frame.select(reason.alias("reason"), detail.alias("detail"))


Check = tuple[str, pl.Expr, pl.Expr]


def _frame_checks(frame: pl.DataFrame, plan: TrackingPlan) -> Iterator[Check]:
    person = pl.coalesce("user_id", "anonymous_id")
    nobody = denied(frame.select(person).to_series())
    when = pl.format("timestamp: {}", pl.col("ts"))
    yield "no_event", pl.col("event").is_null(), pl.lit("event")
    yield (
        "unknown_event",
        ~pl.col("event").is_in(list(plan.specs)),
        pl.format("event: {}", pl.col("event").str.slice(0, 256)),
    )
    yield "no_user", person.is_null(), pl.lit("user_id")
    yield "denied_id", pl.lit(nobody), pl.format("user_id: {}", person)
    for name in ("user_id", "anonymous_id", "previous_id"):
        yield "long_id", pl.col(name).str.len_chars() > MAX_ID, pl.lit(name)
    yield "bad_timestamp", pl.col("ts").is_null(), pl.lit("timestamp")
    yield "too_old", pl.col("ts") < EARLIEST, when
    yield "in_future", pl.col("ts") > pl.col("received") + DAY, when


def _property_checks(frame: pl.DataFrame, plan: TrackingPlan) -> Iterator[Check]:
    occurring = set(frame["event"].unique().drop_nulls())
    for name, spec, events in declarations(plan):
        if not occurring.intersection(events):
            continue
        here = pl.col("event").is_in(events)
        if PREFIX + name in frame.columns:
            value = pl.col(PREFIX + name)
            for reason, condition in _value_checks(value, spec):
                shown = pl.format("{}: {}", pl.lit(name), value) if spec.personal == "no" else pl.lit(name)
                yield reason, here & condition, shown
            if spec.missing == "discard":
                yield "missing_value", here & value.is_null(), pl.lit(name)
        elif spec.missing == "discard":
            yield "missing_value", here, pl.lit(name)


def _value_checks(value: pl.Expr, spec: PropertySpec) -> Iterator[tuple[str, pl.Expr]]:
    if spec.numeric:
        yield "too_large", value.abs() * spec.factor > EXACT
    if spec.min is not None:
        yield "out_of_range", value < spec.min
    if spec.max is not None:
        yield "out_of_range", value > spec.max
    if spec.allowed is not None:
        yield "not_allowed", value.is_not_null() & ~value.cast(pl.String).is_in(list(spec.allowed))


def declarations(plan: TrackingPlan) -> list[tuple[str, PropertySpec, list[str]]]:
    """Every property with each of its declarations and the events that share it."""
    shared: dict[tuple[str, str], tuple[str, PropertySpec, list[str]]] = {}
    for event, spec in plan.specs.items():
        for name, prop in spec.properties.items():
            shared.setdefault((name, prop.model_dump_json()), (name, prop, []))[2].append(event)
    return list(shared.values())
