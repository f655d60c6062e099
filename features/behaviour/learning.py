"""Learning: lists of categories and cuts of scores are taken from training rows once, and frozen with their origin."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from features.behaviour.feature import Feature
from features.behaviour.feature_set import FeatureSet
from features.behaviour.matrix import FeatureMatrix
from features.behaviour.schema import MISSING
from features.errors import DefinitionError
from features.files import write_json
from features.instants import iso, parse_instant

if TYPE_CHECKING:
    from features.behaviour.kernel import Kernel

Texts = Callable[[Iterable[str]], Mapping[int, str]]
"""What the hashes of some properties stand for."""


class Lessons(FeatureSet):
    """What has to be known of the training rows to learn from them; a category's column holds hashes, bit for bit."""

    @classmethod
    def of(cls, features: FeatureSet) -> "Lessons":  # type: ignore[override] # of a set, not of a project
        """The features that others are made of, and categories that have no list."""
        waiting = [each for each in features.features if each.waits]
        named = {name for each in waiting for name in each.of} | {each.name for each in waiting if not each.of}
        needed = [replace(each, hidden=False) for each in features.features if each.name in named]
        return cls(tuple(needed), features.schema)

    @cached_property
    def kernel(self) -> "Kernel":
        """The loops, though something is still to be learnt."""
        from features.behaviour.kernel import Kernel

        return Kernel(self.features, self.schema)


def learnt(features: FeatureSet, rows: FeatureMatrix, *, texts: Texts, population: str) -> FeatureSet:
    """The same features with every list and all cuts that were missing.

    A list holds the values that the feature takes in most rows. Cuts are quantiles over the rows that have one of what
    is counted.

    Args:
        features: Some of which wait to be learnt.
        rows: Of `Lessons.of(features)`; training rows and no others.
        texts: See `Texts`; a hash that it does not know stays in the list as it is.
        population: Whose rows these are, in words.
    """
    origin = f"{iso(int(rows.at.max()))} from {len(rows):,} training rows: {population}"
    known = texts(sorted({each.property for each in features.features if each.waits and each.property}))
    found = [_taught(each, rows, known, origin) if each.waits else each for each in features.features]
    return FeatureSet(tuple(found), features.schema)


def _taught(feature: Feature, rows: FeatureMatrix, known: Mapping[int, str], origin: str) -> Feature:
    if feature.top:
        hashes = np.ascontiguousarray(rows.column(feature.name)).view(np.int64)
        return replace(feature, values=_most_frequent(hashes, feature.top, known), learnt=f"{origin}; most frequent")
    values = rows.column(feature.of[0])
    counts = rows.column(feature.of[-1])
    shares = np.arange(1, feature.option) / feature.option
    some = values[counts > 0] if len(feature.of) > 1 else values[~np.isnan(values)]
    cuts = np.quantile(some, shares, method="inverted_cdf") if len(some) else np.zeros(len(shares))
    return replace(feature, numbers=tuple(cuts.tolist()), learnt=f"{origin}; quantiles of those who have one")


def _most_frequent(hashes: NDArray[np.int64], most: int, known: Mapping[int, str]) -> tuple[str | int, ...]:
    found, counts = np.unique(hashes[hashes != MISSING], return_counts=True)
    named = [(-int(count), known.get(int(value), ""), int(value)) for value, count in zip(found, counts, strict=True)]
    return tuple(text or value for _, text, value in sorted(named)[:most])


def latest(features: FeatureSet) -> int | None:
    """As of when the newest of what was learnt was learnt; None where nothing was."""
    return max((parse_instant(each.learnt.split()[0]) for each in features.features if each.learnt), default=None)


def frozen(features: FeatureSet, path: Path) -> FeatureSet:
    """The features with what `features.lock` holds for them as they are declared now.

    Raises:
        DefinitionError: the file is damaged.
    """
    if not path.exists() or not any(each.waits for each in features.features):
        return features
    try:
        held: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))["features"]
        mine = [held.get(each.name, {}) if each.waits else {} for each in features.features]
        found = [
            replace(each, values=tuple(said["values"]), numbers=tuple(said["numbers"]), learnt=str(said["learnt"]))
            if said.get("of") == _declared(each)
            else each
            for each, said in zip(features.features, mine, strict=True)
        ]
    except (ValueError, KeyError, AttributeError, TypeError):
        raise DefinitionError(f"{path.name} is damaged. Hint: restore it, or remove it to learn anew.") from None
    return FeatureSet(tuple(found), features.schema)


def freeze(features: FeatureSet, path: Path) -> None:
    """Write what was learnt beside features.yaml; the file is replaced whole."""
    held = {
        each.name: {"of": _declared(each), "values": each.values, "numbers": each.numbers, "learnt": each.learnt}
        for each in features.features
        if each.learnt and not each.steps
    }
    write_json(path, {"version": 1, "features": held})


def _declared(feature: Feature) -> str:
    """A digest of the declaration alone."""
    bare = replace(feature, values=(), numbers=(), learnt="", hidden=False)
    return sha256(json.dumps(asdict(bare), sort_keys=True).encode()).hexdigest()[:16]
