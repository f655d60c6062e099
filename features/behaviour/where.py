"""Where: conditions on properties, each in the end the same thing: intervals of the integers that state holds."""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
import polars as pl

from features.behaviour.kinds import TEXT_TESTS, Intervals, Test, derived
from features.behaviour.schema import MISSING
from features.errors import DefinitionError, nearest
from features.events.plan import PropertySpec
from features.people import hash_text

LOW, HIGH = MISSING + 1, int(np.iinfo(np.int64).max)
PRESENT: Intervals = ((LOW, HIGH),)
ABSENT: Intervals = ((MISSING, MISSING),)

ORDERED = ("gt", "gte", "lt", "lte", "between")
EQUAL = ("eq", "ne", "in", "not_in")
LISTS = ("in", "not_in", "between")
OPERATORS = (*EQUAL, *ORDERED, *TEXT_TESTS, "exists")


def conditions(where: Mapping[str, object], spec: Callable[[str], PropertySpec]) -> tuple[Test, ...]:
    """`{section: {in: [tech]}, price: {gte: 10}}`: all of them have to hold.

    Args:
        where: Property to predicate: a value, or operators of which all have to hold.
        spec: The property's declaration; raises for an unknown name.

    Raises:
        DefinitionError: an unknown property or operator, or a value that the property's type does not have.
    """
    tests: list[Test] = []
    for name, predicate in where.items():
        declared = spec(str(name))
        said = predicate if isinstance(predicate, Mapping) else {"eq": predicate}
        if not said:
            raise DefinitionError(f"{name!r} says no operator. Hint: write {name}: VALUE or {name}: {{gte: 1}}.")
        plain = PRESENT if "exists" not in said or exists(str(name), said["exists"]) else ABSENT
        for operator, value in said.items():
            if operator in TEXT_TESTS:
                tests.append(_text_test(str(name), str(operator), value, declared))
            elif operator != "exists":
                plain = intersection(plain, _intervals(str(name), str(operator), value, declared))
        if any(operator not in TEXT_TESTS for operator in said):
            tests.append((str(name), plain))
    return tuple(sorted(set(tests)))


def exists(name: str, value: object) -> bool:
    """What `exists` says, or a DefinitionError."""
    if not isinstance(value, bool):
        raise DefinitionError(f"`exists` of {name!r} is true or false. Got {value!r}.")
    return value


def values_of(name: str, operator: str, value: object) -> list[Any]:
    """What an operator compares with: the one value, or those of its list; a DefinitionError where that is none."""
    if operator not in LISTS:
        return [value]
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise DefinitionError(f"`{operator}` of {name!r} takes a list. Got {value!r}.")
    return list(value)


def _text_test(name: str, operator: str, value: object, spec: PropertySpec) -> Test:
    if spec.type not in ("category", "text"):
        raise DefinitionError(f"`{operator}` is for texts, and {name!r} is a {spec.type}.")
    if not isinstance(value, str) or not value:
        raise DefinitionError(f"`{operator}` of {name!r} takes a text. Got {value!r}.")
    if operator == "regex":
        try:
            pl.Series([""]).str.contains(value)
        except pl.exceptions.ComputeError as error:
            raise DefinitionError(f"`regex` of {name!r}: {value!r} is none: {str(error).splitlines()[0]}") from None
    return derived(name, operator, value), ((1, 1),)


def _intervals(name: str, operator: str, value: object, spec: PropertySpec) -> Intervals:
    if operator not in OPERATORS:
        raise DefinitionError(f"unknown operator {operator!r} of {name!r}. {nearest(operator, OPERATORS)}")
    if operator in ORDERED and not spec.numeric:
        raise DefinitionError(f"`{operator}` needs numbers, and {name!r} is a {spec.type}. Hint: use `in`.")
    numbers = [number_of(name, each, spec) for each in values_of(name, operator, value)]
    return _between(name, numbers) if operator == "between" else _SIMPLE[operator](numbers)


def _between(name: str, numbers: list[Fraction]) -> Intervals:
    if len(numbers) != 2 or numbers[0] > numbers[1]:
        raise DefinitionError(f"`between` of {name!r} takes a lower and an upper value, both within.")
    return _interval(ceil(numbers[0]), floor(numbers[1]))


def number_of(name: str, value: object, spec: PropertySpec) -> Fraction:
    """The value as state would hold it, unrounded.

    Raises:
        DefinitionError: it is none of the property's type, or none that the plan allows.
    """
    if spec.numeric and isinstance(value, int | float) and not isinstance(value, bool):
        return Fraction(str(value)) * spec.factor
    if spec.type == "flag" and isinstance(value, bool):
        return Fraction(int(value))
    if spec.type in ("category", "text") and isinstance(value, str):
        if spec.allowed is not None and value not in (*spec.allowed, spec.default):
            raise DefinitionError(f"{name!r} is never {value!r}, says the plan. {nearest(value, spec.allowed)}")
        return Fraction(hash_text(value))
    raise DefinitionError(f"{value!r} is no {spec.type}, which {name!r} is.")


def _points(numbers: list[Fraction]) -> Intervals:
    return tuple((int(each), int(each)) for each in sorted(set(numbers)) if each.denominator == 1)


def _interval(low: int, high: int) -> Intervals:
    return ((max(low, LOW), min(high, HIGH)),) if low <= high else ()


_SIMPLE: Mapping[str, Callable[[list[Fraction]], Intervals]] = {
    "eq": _points,
    "in": _points,
    "ne": lambda numbers: complement(_points(numbers)),
    "not_in": lambda numbers: complement(_points(numbers)),
    "gt": lambda numbers: _interval(floor(numbers[0]) + 1, HIGH),
    "gte": lambda numbers: _interval(ceil(numbers[0]), HIGH),
    "lt": lambda numbers: _interval(LOW, ceil(numbers[0]) - 1),
    "lte": lambda numbers: _interval(LOW, floor(numbers[0])),
}


def complement(intervals: Intervals) -> Intervals:
    """What is present and lies in none of these disjoint, ascending intervals.

    >>> complement(((3, 3), (5, 5))) == ((LOW, 2), (4, 4), (6, HIGH))
    True
    """
    edges = [LOW - 1, *[edge for interval in intervals for edge in interval], HIGH + 1]
    gaps = [(edges[k] + 1, edges[k + 1] - 1) for k in range(0, len(edges), 2)]
    return tuple((low, high) for low, high in gaps if low <= high)


def intersection(one: Intervals, other: Intervals) -> Intervals:
    """What lies in both.

    >>> intersection(((1, 5), (8, 9)), ((4, 8),))
    ((4, 5), (8, 8))
    """
    both = [(max(a, c), min(b, d)) for a, b in one for c, d in other]
    return tuple(sorted((low, high) for low, high in both if low <= high))
