"""Selection: the columns that trees ask about whichever half of the users they grow on."""

from collections import Counter

import numpy as np

from features.errors import StudyError
from training.boosting import gains, labels
from training.training_set import TrainingSet

SHADOWS = 20
"""Columns whose values are shuffled among the rows: what chance alone is worth."""
ROUNDS, PARAMS = 60, {"max_depth": 3, "learning_rate": 0.1, "colsample_bytree": 0.5}


def steady(rows: TrainingSet, names: tuple[str, ...], *, halves: int, share: float, seed: int) -> tuple[str, ...]:
    """The columns that gain more than every shuffled one in at least `share` of the trials, each on half of the users.

    Stability selection (Meinshausen and Buehlmann 2010), against shadows as in Boruta (Kursa and Rudnicki 2010).

    Args:
        rows: The rows that train.
        names: Columns to choose from.
        halves: Trials; each other one grows on the users that the one before left out.
        share: Of the trials.
        seed: Of halves and shadows.

    Raises:
        StudyError: none is chosen.
    """
    random, counted = np.random.default_rng(seed), Counter[str]()
    first = np.empty(0, np.bool_)
    users, place = np.unique(rows.matrix.users.astype(str), return_inverse=True)
    for trial in range(halves):
        if trial % 2 == 0:
            first = random.permutation(len(users)) < len(users) // 2
        mine = rows.take((first if trial % 2 == 0 else ~first)[place])
        counted.update(_gaining(mine, names, random, seed + trial))
    kept = tuple(name for name in names if counted[name] >= share * halves)
    if not kept:
        raise StudyError(f"no column is chosen in {share:.0%} of {halves} trials. Hint: a smaller `select.share`.")
    return kept


def _gaining(rows: TrainingSet, names: tuple[str, ...], random: np.random.Generator, seed: int) -> list[str]:
    x = rows.matrix.select(names).values.astype(np.float32)
    shadows = random.permuted(x[:, random.integers(0, len(names), SHADOWS)], axis=0)
    gained = gains(np.column_stack([x, shadows]), labels(rows), PARAMS, rounds=ROUNDS, seed=seed)
    return [name for name, gain in zip(names, gained, strict=False) if gain > gained[len(names) :].max()]
