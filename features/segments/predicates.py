"""Predicates: `{gte: 3, lt: 10}` as closed intervals, of integers for counts and of float64 for everything else."""

from collections.abc import Callable, Mapping
from math import inf, isnan, nextafter

from features.behaviour.kinds import Intervals
from features.behaviour.where import conditions, exists, intersection, values_of
from features.errors import DefinitionError, nearest
from features.events.plan import PropertySpec
from features.segments.nodes import Ranges

COUNT_OPERATORS = ("eq", "ne", "in", "not_in", "gt", "gte", "lt", "lte", "between")
WHOLE = PropertySpec(type="number")
EVERYTHING: Ranges = ((-inf, inf),)


def counts(predicate: object) -> Intervals:
    """Which counts pass; nothing said means at least one.

    >>> counts({"gt": 2, "lt": 5})
    ((3, 4),)
    """
    said = {"gte": 1} if predicate is None else predicate
    for operator in said if isinstance(said, Mapping) else ():
        if operator not in COUNT_OPERATORS:
            raise DefinitionError(
                f"unknown operator {operator!r} of a count. {nearest(str(operator), COUNT_OPERATORS)}"
            )
    ((_, intervals),) = conditions({"count": said}, lambda _: WHOLE)
    return intersection(intervals, ((0, (1 << 62)),))


def numbers(name: str, predicate: object) -> tuple[Ranges, bool]:
    """(Which numbers pass, whether a missing one is known to fail because existence was asked for).

    >>> numbers("score", {"between": [1, 2]})
    (((1.0, 2.0),), False)
    """
    said = predicate if isinstance(predicate, Mapping) else {"eq": predicate}
    if not said:
        raise DefinitionError(f"{name!r} says no operator. Hint: write {name}: VALUE or {name}: {{gte: 1}}.")
    ranges, absent = EVERYTHING, False
    for operator, value in said.items():
        if operator == "exists":
            absent = not exists(name, value)
            continue
        if operator not in _SIMPLE:
            allowed = [*_SIMPLE, "exists"]
            raise DefinitionError(f"unknown operator {operator!r} of {name!r}. {nearest(str(operator), allowed)}")
        ranges = _both(ranges, _SIMPLE[operator](_numbers(name, str(operator), value)))
    if not ranges:
        raise DefinitionError(_never(name, said))
    if absent:
        ranges = ()
    return ranges, "exists" in said


def within_unit(name: str, said: Mapping[str, float], *, below: float = inf) -> Ranges:
    """Which numbers pass of those from 0 to 1, and below a number."""
    ranges, _ = numbers(name, said)
    if not any(low <= 1 and high >= 0 and low < below for low, high in ranges):
        raise DefinitionError(_never(name, said))
    return ranges


def _never(name: str, said: Mapping[str, object]) -> str:
    written = ", ".join(f"{operator}: {value}" for operator, value in said.items())
    return f"no number that {name!r} may have passes {{{written}}}. Hint: shares and probabilities are 0 to 1."


def _numbers(name: str, operator: str, value: object) -> list[float]:
    values = values_of(name, operator, value)
    if operator == "between" and len(values) != 2:
        raise DefinitionError(f"`between` of {name!r} takes a lower and an upper value, both within.")
    for each in values:
        if isinstance(each, bool) or not isinstance(each, int | float) or isnan(each):
            raise DefinitionError(f"{name!r} is a number. Got {each!r}.")
    return [float(each) for each in values]


def _both(one: Ranges, other: Ranges) -> Ranges:
    both = [(max(a, c), min(b, d)) for a, b in one for c, d in other]
    return tuple(sorted((low, high) for low, high in both if low <= high))


def _except(values: list[float]) -> Ranges:
    ranges = EVERYTHING
    for value in values:
        ranges = _both(ranges, ((-inf, nextafter(value, -inf)), (nextafter(value, inf), inf)))
    return ranges


_SIMPLE: Mapping[str, Callable[[list[float]], Ranges]] = {
    "eq": lambda v: tuple(sorted({(x, x) for x in v})),
    "in": lambda v: tuple(sorted({(x, x) for x in v})),
    "ne": _except,
    "not_in": _except,
    "gt": lambda v: ((nextafter(v[0], inf), inf),),
    "gte": lambda v: ((v[0], inf),),
    "lt": lambda v: ((-inf, nextafter(v[0], -inf)),),
    "lte": lambda v: ((-inf, v[0]),),
    "between": lambda v: ((v[0], v[1]),) if v[0] <= v[1] else (),
}
