"""Categories: families write a value's hash; once they are done it becomes a place in the feature's frozen list."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from features.behaviour.compiled import Floats, Ints, compiled_inside, place
from features.behaviour.feature import Feature
from features.behaviour.schema import MISSING
from features.people import hash_text


class Lists(NamedTuple):
    """The lists of all features whose output is a category; one that waits for its list keeps the hash."""

    columns: Ints
    edges: Ints  # shape (n_lists + 1,): the values of list k are hashes[edges[k]:edges[k + 1]]
    hashes: Ints


def lists_of(features: Sequence[Feature]) -> Lists:
    """The arrays for features in the order of the columns."""
    mine = [(column, each.values) for column, each in enumerate(features) if each.top and not each.waits]
    return Lists(
        columns=np.array([column for column, _ in mine], np.int64),
        edges=np.cumsum([0, *(len(values) for _, values in mine)], dtype=np.int64),
        hashes=np.array([_hash(value) for _, values in mine for value in values], np.int64),
    )


def _hash(value: str | int) -> int:
    return hash_text(value) if isinstance(value, str) else value


@compiled_inside
def listed(out: Floats, lists: Lists) -> None:
    """Put in every category's column the place of its value; behind the list's end for any other, NaN for none."""
    hashes = out.view(np.int64)
    for k in range(len(lists.columns)):
        column = place(lists.columns[place(k)])
        begin, end, value = lists.edges[place(k)], lists.edges[place(k + 1)], hashes[column]
        at = begin
        while at < end and lists.hashes[place(at)] != value:
            at += 1
        out[column] = np.nan if value == MISSING else at - begin
