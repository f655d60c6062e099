"""Propensity: the true chance of an order within days, exact, given what decides a person's future."""

import numpy as np
from numpy.typing import NDArray

from features.simulate.people import People
from features.simulate.shop import Shop
from features.simulate.types import LEVELS
from features.simulate.visits import CARTED, IDLE, MOVES, VISITED

WITHIN_DAYS = 7


def order_chance(
    shop: Shop, people: People, level: NDArray[np.int64], day: int, *, within: int = WITHIN_DAYS, coming: bool = False
) -> NDArray[np.float64]:
    """Chance that each person orders on one of the days from `day` on.

    Sessions of a day are a Poisson process, thinned by how they end, so the chances of a day with no order, no cart and
    no visit are exponentials; days are joined backwards over the four levels. Nothing is sampled.

    Args:
        shop: The process.
        people: n people, all arrived before `day`.
        level: Their level on the morning of `day`, shape (n,).
        day: First day that counts.
        within: Days that count.
        coming: Whether all have one session more on the first day.

    Returns:
        Shape (n,).
    """
    none = np.ones((len(people), LEVELS))
    for each in reversed(range(day, day + within)):
        none = _no_order(shop, people, each, none, extra=coming and each == day)
    return np.asarray(1 - none[np.arange(len(people)), level])


def visit_chance(
    shop: Shop, people: People, level: NDArray[np.int64], day: int, *, within: int = WITHIN_DAYS
) -> NDArray[np.float64]:
    """Chance that each person comes at all on one of the days from `day` on; arguments as in `order_chance`."""
    none = np.ones((len(people), LEVELS))
    for each in reversed(range(day, day + within)):
        rate = people.rate[:, None] * shop.traffic(each)[people.kind]
        none = np.exp(-rate) * (none @ MOVES[IDLE].T)
    return np.asarray(1 - none[np.arange(len(people)), level])


def _no_order(shop: Shop, people: People, day: int, after: NDArray[np.float64], *, extra: bool) -> NDArray[np.float64]:
    ends = shop.outcomes[shop.phase(day)][people.kind]
    order, cart = ends[:, :, 0], ends[:, :, 0] + ends[:, :, 1]
    rate = people.rate[:, None] * shop.traffic(day)[people.kind]
    no_order = np.exp(-rate * order) * (1 - order if extra else 1)
    no_cart = np.exp(-rate * cart) * (1 - cart if extra else 1)
    no_visit = np.exp(-rate) * (0 if extra else 1)
    chances = {CARTED: no_order - no_cart, VISITED: no_cart - no_visit, IDLE: no_visit}
    return np.asarray(sum(chance * (after @ MOVES[best].T) for best, chance in chances.items()))


def roc_auc(score: NDArray[np.float64], outcome: NDArray[np.bool_]) -> float:
    """ROC-AUC by ranks; ties count half. NaN where only one outcome occurs."""
    n_yes = int(outcome.sum())
    n_no = len(outcome) - n_yes
    if not n_yes or not n_no:
        return float("nan")
    _, places, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2
    return float((rank[places][outcome].sum() - n_yes * (n_yes + 1) / 2) / (n_yes * n_no))
