"""Inputs: the numbers that segments are handed beside the events: features, scores, buckets, what the call says."""

import json
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.behaviour.matrix import FeatureMatrix
from features.people import hash_text, stable_hash
from features.segments import context
from features.segments.nodes import Input

FEW = 16
"""Up to so many users the hash of each is taken alone."""


class Scored(Protocol):
    """What a model says of rows."""

    @property
    def probability(self) -> NDArray[np.float64] | None:
        """Per row; None for clusters."""

    @property
    def threshold(self) -> float:
        """Of the probability."""

    @property
    def cluster(self) -> NDArray[np.int64] | None:
        """Per row, a place in `names`; None for a propensity."""

    @property
    def confidence(self) -> NDArray[np.float64] | None:
        """How surely the cluster or class is the right one."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the clusters or classes."""

    @property
    def distances(self) -> NDArray[np.float64] | None:
        """Per row and cluster how far it is; None for others."""

    @property
    def computed_at(self) -> int | None:
        """As of when the model learned, microseconds UTC; None where it does not know."""


def matrix_of(
    inputs: Sequence[Input],
    users: NDArray[np.object_],
    at: NDArray[np.int64],
    *,
    features: FeatureMatrix | None = None,
    scores: Mapping[str, Scored] | None = None,
    said: Mapping[str, object] | None = None,
) -> NDArray[np.float64]:
    """Shape (n_rows, n_inputs); what is not given is missing.

    Args:
        inputs: The columns.
        users: Per row.
        at: Per row, microseconds UTC.
        features: The same rows' features.
        scores: Per study, of the same rows.
        said: What the call says, the same for every row.
    """
    values = np.full((len(users), len(inputs)), np.nan)
    places = {name: place for place, name in enumerate(features.names)} if features is not None else {}
    for column, each in enumerate(inputs):
        if each.source == "feature":
            if features is not None:
                values[:, column] = features.values[:, places[each.name]]
        elif each.source == "bucket":
            values[:, column] = buckets(each.name, users)
        elif each.source == "listed":
            values[:, column] = [user in each.among for user in users]
        elif each.source == "context":
            asked = json.loads(each.test)
            values[:, column] = [context.truth(each.name, asked, said or {}, int(instant)) for instant in at]
        elif scores is not None and each.name in scores:
            values[:, column] = _score(each, scores[each.name])
    return values


def _score(asked: Input, scores: Scored) -> NDArray[np.float64] | float:
    if scores.probability is not None:
        if asked.source == "chosen":
            return (scores.probability >= scores.threshold).astype(np.float64)
        return scores.probability
    if scores.cluster is None or scores.confidence is None:
        return np.nan
    if asked.source == "cluster":
        among = np.array([float(name in asked.among) for name in scores.names])
        return np.asarray(among[scores.cluster])
    return scores.confidence


def buckets(salt: str, users: NDArray[np.object_]) -> NDArray[np.float64]:
    """A stable number of every user in [0, 1), another for every salt: 53 bits of the xxh64 of `salt:user`."""
    texts = [f"{salt}:{user}" for user in users]
    hashes = [hash_text(each) for each in texts] if len(texts) <= FEW else stable_hash(pl.Series(texts)).to_numpy()
    return np.ldexp((np.array(hashes, np.int64).view(np.uint64) >> np.uint64(11)).astype(np.float64), -53)
