"""Marks: which filters each event of a user passes, settled once before the families' loops."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from features.behaviour.compiled import Ints, compiled_inside, grid, place, vector
from features.behaviour.kinds import Kind
from features.behaviour.schema import StateSchema

WORD = 64
NO_FILTER = -1


class Filters(NamedTuple):
    """The tests of all kinds that have some, as arrays."""

    places: Ints  # shape (n_codes + 1,): the filters that events of code c may satisfy are of[places[c]:places[c + 1]]
    of: Ints
    tests: Ints  # shape (n_filters + 1,): the tests of filter f are tests[f] <= t < tests[f + 1]
    slots: Ints  # per test
    edges: Ints  # shape (n_tests + 1,): the intervals of test t
    intervals: Ints  # shape (n_intervals, 2), both ends within
    n_words: int  # of 64 marks each, per event


@compiled_inside
def filters(arrays: Ints, k: int, n_words: int) -> Filters:
    """The filters whose arrays begin at the k-th of `views`."""
    return Filters(
        vector(arrays, k), vector(arrays, k + 1), vector(arrays, k + 2), vector(arrays, k + 3), vector(arrays, k + 4),
        grid(arrays, k + 5), n_words,
    )  # fmt: skip


def filters_of(kinds: Sequence[Kind], schema: StateSchema) -> Filters:
    """The arrays for kinds that have a `where`; a filter's number is its place in the list."""
    codes = [kind.codes(schema) for kind in kinds]
    of_code = [[k for k, mine in enumerate(codes) if code in mine or 0 in mine] for code in range(schema.n_codes)]
    tests = [test for kind in kinds for test in kind.where]
    intervals = [interval for _, mine in tests for interval in mine]
    return Filters(
        places=np.cumsum([0, *map(len, of_code)], dtype=np.int64),
        of=np.array([k for mine in of_code for k in mine], np.int64),
        tests=np.cumsum([0, *(len(kind.where) for kind in kinds)], dtype=np.int64),
        slots=np.array([schema.slot(name) for name, _ in tests], np.int64),
        edges=np.cumsum([0, *(len(mine) for _, mine in tests)], dtype=np.int64),
        intervals=np.array(intervals, np.int64).reshape(-1, 2),
        n_words=-(-len(kinds) // WORD),
    )


@compiled_inside
def mark(slots: Ints, rows: Ints, codes: Ints, n: int, filters: Filters, marks: Ints) -> None:
    """For each event the filters that it satisfies: bit f % 64 of marks[k * n_words + f // 64]."""
    for k in range(n * filters.n_words):
        marks[place(k)] = 0
    if filters.n_words == 0:
        return
    for k in range(n):
        code = place(codes[place(k)])
        for each in range(filters.places[code], filters.places[code + place(1)]):
            one = filters.of[place(each)]
            if satisfied(slots, rows[place(k)], one, filters):
                marks[place(k * filters.n_words + (one >> 6))] |= 1 << (one & 63)


@compiled_inside
def satisfied(slots: Ints, row: int, one: int, filters: Filters) -> bool:
    """Whether a record passes the tests of a filter; one without tests lets every record pass."""
    for test in range(filters.tests[place(one)], filters.tests[place(one + 1)]):
        value = slots[place(row), place(filters.slots[place(test)])]
        within = False
        for k in range(filters.edges[place(test)], filters.edges[place(test + 1)]):
            within = within or (filters.intervals[place(k), 0] <= value <= filters.intervals[place(k), 1])
        if not within:
            return False
    return True
