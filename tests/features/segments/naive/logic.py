"""Logic: true, false, or None where nobody knows; and what predicates say of one value."""

import re
from math import isnan


def both(values):
    values = list(values)
    return False if False in values else None if None in values else True


def either(values):
    values = list(values)
    return True if True in values else None if None in values else False


def inverse(value):
    return None if value is None else not value


def test(value, predicate):
    """Whether a number, or a text, passes a predicate."""
    predicate = predicate if isinstance(predicate, dict) else {"eq": predicate}
    tests = {
        "eq": lambda w: value == w,
        "ne": lambda w: value != w,
        "gt": lambda w: value > w,
        "gte": lambda w: value >= w,
        "lt": lambda w: value < w,
        "lte": lambda w: value <= w,
        "in": lambda w: value in w,
        "not_in": lambda w: value not in w,
        "between": lambda w: w[0] <= value <= w[1],
        "contains": lambda w: w in value,
        "starts_with": lambda w: value.startswith(w),
        "ends_with": lambda w: value.endswith(w),
        "regex": lambda w: re.search(w, value) is not None,
        "exists": lambda w: w,
    }
    return all(tests[operator](wanted) for operator, wanted in predicate.items())


def missing(value):
    return value is None or (isinstance(value, float) and isnan(value))


def attribute(value, predicate):
    """The same of something that may be missing."""
    if not missing(value):
        return test(value, predicate)
    if isinstance(predicate, dict) and "exists" in predicate:
        return predicate == {"exists": False}
    return None


def called(value, predicate):
    """The same of what a call says: a text passes no bound that is a number, a number none that is a text."""
    predicate = predicate if isinstance(predicate, dict) else {"eq": predicate}
    if value is None:
        return not predicate["exists"] if "exists" in predicate else None
    for operator, wanted in predicate.items():
        if operator not in ("eq", "ne", "in", "not_in", "exists"):
            bounds = wanted if operator == "between" else [wanted]
            if any(isinstance(bound, str) != isinstance(value, str) for bound in bounds):
                return False
            if operator == "between" and bounds[0] > bounds[1]:  # over midnight
                if bounds[1] < value < bounds[0]:
                    return False
                continue
        if not test(value, {operator: wanted}):
            return False
    return True
