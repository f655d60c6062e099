"""Lineage: which cluster of a refit is which of the model before; ids and names stay with the people."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Array = NDArray[np.float64]

SAME = 0.5
"""Jaccard overlap from which on a cluster is the same one."""
MOST = 0.5
"""Share of a cluster's people from which on it comes from, or goes into, another."""


@dataclass(frozen=True)
class Lineage:
    """What became of the clusters of the model before.

    Attributes:
        ids: Per new cluster its id; one that was never used before where it is a new one.
        kept: Per new cluster the place of the one that it is in the model before; -1 for a new one.
        overlap: Per new cluster its Jaccard overlap with that one; NaN for a new one.
        next: The first id that was never used.
        changes: What happened, in sentences: births, deaths, splits, merges.
    """

    ids: tuple[int, ...]
    kept: tuple[int, ...]
    overlap: tuple[float, ...]
    next: int
    changes: tuple[str, ...]

    def names(self, before: Sequence[str], proposed: Sequence[str]) -> tuple[str, ...]:
        """The names that people know, and proposed ones for new clusters; no two are equal."""
        taken = {before[old] for old in self.kept if old >= 0}
        named: list[str] = []
        for old, proposal in zip(self.kept, proposed, strict=True):
            name, number = proposal, 2
            while name in taken:
                name, number = f"{proposal} ({number})", number + 1
            named.append(before[old] if old >= 0 else name)
            taken.add(named[-1])
        return tuple(named)


def first(k: int) -> Lineage:
    """Of a study's first model: everything is new."""
    return Lineage(tuple(range(1, k + 1)), (-1,) * k, (float("nan"),) * k, k + 1, ())


def traced(before: Ints, after: Ints, *, ids: Sequence[int], k: int, unused: int) -> Lineage:
    """Match the clusters of two models by the people whom both were shown.

    Pairs are chosen so that the Jaccard overlaps add up to the most (Hungarian method); a pair of at least SAME is the
    same cluster.

    Args:
        before: Shape (n_rows,), places of the model before.
        after: Shape (n_rows,), places of the new one.
        ids: Of the clusters before.
        k: Clusters of the new model.
        unused: The first id that was never used.
    """
    from scipy.optimize import linear_sum_assignment

    shared = np.zeros((len(ids), k))
    np.add.at(shared, (before, after), 1)
    old, new = shared.sum(axis=1), shared.sum(axis=0)
    union = old[:, None] + new[None, :] - shared
    jaccard = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    pairs = [(i, j) for i, j in zip(*linear_sum_assignment(-jaccard), strict=True) if jaccard[i, j] >= SAME]
    kept = {int(j): int(i) for i, j in pairs}
    fresh = {j: unused + place for place, j in enumerate(j for j in range(k) if j not in kept)}
    named = tuple(ids[kept[j]] if j in kept else fresh[j] for j in range(k))
    return Lineage(
        named,
        tuple(kept.get(j, -1) for j in range(k)),
        tuple(float(jaccard[kept[j], j]) if j in kept else float("nan") for j in range(k)),
        unused + len(fresh),
        tuple(_changes(shared, ids, named, set(kept.values()), set(kept))),
    )


def _changes(shared: Array, ids: Sequence[int], named: Sequence[int], lived: set[int], kept: set[int]) -> list[str]:
    """Splits and merges first, then what else was born or died."""
    comes = shared / np.maximum(shared.sum(axis=0), 1) > MOST  # most of the new one's people were in the old one
    goes = shared / np.maximum(shared.sum(axis=1, keepdims=True), 1) > MOST  # most of the old one's are in the new one
    told, born, gone = [], set(range(len(named))) - kept, set(range(len(ids))) - lived
    for i in np.flatnonzero(comes.sum(axis=1) >= 2).tolist():
        parts = np.flatnonzero(comes[i]).tolist()
        told.append(f"{ids[i]} was split into {_listed(named[j] for j in parts)}")
        born, gone = born - set(parts), gone - {i}
    for j in np.flatnonzero(goes.sum(axis=0) >= 2).tolist():
        parts = np.flatnonzero(goes[:, j]).tolist()
        told.append(f"{_listed(ids[i] for i in parts)} were merged into {named[j]}")
        born, gone = born - {j}, gone - set(parts)
    told += [f"{named[j]} is new" for j in sorted(born)]
    return told + [f"{ids[i]} is gone" for i in sorted(gone)]


def _listed(ids: Iterable[int]) -> str:
    return " and ".join(map(str, ids))
