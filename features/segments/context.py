"""Context: what only the call knows: device, place, local time, page; never part of a history."""

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from math import nan
from typing import Any
from zoneinfo import ZoneInfo

from features.behaviour.where import values_of
from features.errors import DefinitionError, nearest
from features.instants import to_datetime

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
OPERATORS = (
    "eq", "ne", "gt", "gte", "lt", "lte", "in", "not_in", "between", "contains", "starts_with", "ends_with", "regex",
    "exists",
)  # fmt: skip
TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
LOCAL_TIME, WEEKDAY, CONTINENT = "local_time", "weekday", "continent"
PATHS = ("device", CONTINENT, "country", "city", LOCAL_TIME, WEEKDAY, "timezone", "page")
"""What a call is expected to say; it may say more, and names that are near one of these are mistakes of writing."""
CONTINENTS = {
    "AF": "Africa", "AN": "Antarctica", "AS": "Asia", "EU": "Europe", "NA": "North America", "OC": "Oceania",
    "SA": "South America",
}  # fmt: skip


def check(path: str, predicate: object) -> Mapping[str, object]:
    """The predicate with its operators written out.

    Raises:
        DefinitionError: an unknown operator, a value that the path cannot have, or a path that is nearly a known one.
    """
    if path not in PATHS and "." not in path and (near := get_close_matches(path, PATHS, n=1, cutoff=0.8)):
        hint = f"did you mean {near[0]!r}? What is your own has a dot, such as `own.{path}`."
        raise DefinitionError(f"unknown context {path!r}. Hint: {hint}")
    said = predicate if isinstance(predicate, Mapping) else {"eq": predicate}
    for operator, value in said.items():
        if operator not in OPERATORS:
            raise DefinitionError(f"unknown operator {operator!r} of {path!r}. {nearest(str(operator), OPERATORS)}")
        values = values_of(path, str(operator), value)
        if operator == "between" and not _ordered(path, value):
            raise DefinitionError(
                f"`between` of {path!r} takes a lower and an upper value, both within. Got {value!r}."
            )
        for each in values:
            if path == WEEKDAY and each not in WEEKDAYS:
                raise DefinitionError(f"{each!r} is no weekday. {nearest(str(each), WEEKDAYS)}")
            if path == LOCAL_TIME and not (isinstance(each, str) and TIME.fullmatch(each)):
                raise DefinitionError(f'a local time is written "09:00". Got {each!r}.')
            if path == CONTINENT and operator in _EQUAL and operator != "exists" and each not in CONTINENTS:
                codes = [f"{code} ({name})" for code, name in CONTINENTS.items()]
                raise DefinitionError(f"{each!r} is no code of a continent. Hint: allowed are {', '.join(codes)}.")
        if operator == "regex":
            _compiled(path, str(value))
    return {str(operator): value for operator, value in said.items()}


def _ordered(path: str, bounds: Any) -> bool:  # noqa: ANN401 - plain values
    """Whether there are two that somebody can be between; times may pass midnight."""
    alike = len(bounds) == 2 and isinstance(bounds[0], str) == isinstance(bounds[1], str)
    return alike and (path == LOCAL_TIME or bool(bounds[0] <= bounds[1]))


def _compiled(path: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise DefinitionError(f"`regex` of {path!r}: {pattern!r} is none: {error}") from None


def truth(path: str, said: Mapping[str, object], context: Mapping[str, object], at: int) -> float:
    """1 where the call's value passes, 0 where it does not, NaN where the call says nothing.

    Args:
        path: Such as `device`, or `page.path` for a nested value; `local_time` and `weekday` follow from `timezone`.
        said: What `check` gave.
        context: What the call says.
        at: The instant of the call, microseconds UTC.
    """
    value = _value(path, context, at)
    if value is None:
        return (0.0 if said["exists"] else 1.0) if "exists" in said else nan
    return float(all(_passes(str(operator), value, wanted) for operator, wanted in said.items()))


def _value(path: str, context: Mapping[str, object], at: int) -> object:
    if path in context:
        return context[path]
    if path in (LOCAL_TIME, WEEKDAY):
        try:
            local = to_datetime(at).astimezone(ZoneInfo(str(context["timezone"])))
        except (KeyError, ValueError, OSError):
            return None
        return local.strftime("%H:%M") if path == LOCAL_TIME else WEEKDAYS[local.weekday()]
    value: object = context
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _passes(operator: str, value: Any, wanted: Any) -> bool:  # noqa: ANN401 - plain values
    if operator in _EQUAL:
        return _EQUAL[operator](value, wanted)
    bounds = wanted if operator == "between" else [wanted]
    if not isinstance(value, str | int | float) or any(
        isinstance(each, str) != isinstance(value, str) for each in bounds
    ):
        return False
    if operator == "between" and bounds[0] > bounds[1]:  # over midnight
        return bool(value >= bounds[0] or value <= bounds[1])
    return _TESTS[operator](value, wanted)


_EQUAL: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, wanted: bool(value == wanted),
    "ne": lambda value, wanted: bool(value != wanted),
    "in": lambda value, wanted: value in wanted,
    "not_in": lambda value, wanted: value not in wanted,
    "exists": lambda _, wanted: bool(wanted),
}
_TESTS: Mapping[str, Callable[[Any, Any], bool]] = {
    "contains": lambda value, part: isinstance(value, str) and part in value,
    "starts_with": lambda value, part: isinstance(value, str) and value.startswith(part),
    "ends_with": lambda value, part: isinstance(value, str) and value.endswith(part),
    "regex": lambda value, pattern: isinstance(value, str) and re.search(pattern, value) is not None,
    "gt": lambda value, bound: bool(value > bound),
    "gte": lambda value, bound: bool(value >= bound),
    "lt": lambda value, bound: bool(value < bound),
    "lte": lambda value, bound: bool(value <= bound),
    "between": lambda value, bounds: bool(bounds[0] <= value <= bounds[1]),
}
