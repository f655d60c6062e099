"""Types: the behavioural types planted in the simulated shop, as weights of what comes next and when.

A session is a Markov chain over `ACTIONS`; a type is its weights, its hours, its weekdays and its pace. In how often
people come and what they spend the types overlap on purpose, so that only behaviour tells them apart. All numbers here
were tuned on seeds 1 to 5; tests use others.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ACTIONS = (
    "page_viewed",
    "products_searched",
    "product_list_viewed",
    "product_clicked",
    "product_viewed",
    "video_played",
    "scrolled",
    "product_added_to_wishlist",
    "product_reviewed",
    "product_added",
    "product_removed",
    "cart_viewed",
    "coupon_applied",
    "checkout_started",
    "payment_info_entered",
    "order_completed",
)
"""What a person does in a session; a place here is the chain's state."""

START = END = len(ACTIONS)
"""Row of the first move, column of the last one."""

MAX_STEPS = 48
"""No session is longer."""

LEVELS = 4
"""Interest: cold, curious, warm, hot. What a person did lately moves it, and it moves what they do next."""

TILT = (0.25, 0.7, 1.9, 6.0)
"""By level: how much likelier something goes into the cart, than in the type's own weights."""

Weights = Mapping[str, Mapping[str, float]]

FUNNEL: Weights = {
    "product_added": {"cart_viewed": 4, "product_list_viewed": 1.5, "product_viewed": 1.5, "end": 2},
    "product_removed": {"cart_viewed": 2, "product_list_viewed": 2, "product_viewed": 2, "end": 3},
    "cart_viewed": {"checkout_started": 5, "product_removed": 0.5, "product_list_viewed": 1.3, "end": 2.4},
    "coupon_applied": {"checkout_started": 6, "cart_viewed": 1, "end": 2},
    "checkout_started": {"payment_info_entered": 7, "cart_viewed": 0.8, "end": 2.2},
    "payment_info_entered": {"order_completed": 8.5, "checkout_started": 0.5, "end": 1},
    "order_completed": {"page_viewed": 1.5, "end": 8.5},
}
"""The way from the cart to the order, the same for everybody but where a type says otherwise."""


@dataclass(frozen=True)
class BehaviourType:
    """One planted type.

    Attributes:
        share: Of the population.
        visits: Mean sessions a day at level 1, on an ordinary day.
        pull: By level: how much oftener a person of this type comes.
        hours: Bumps over the day: (centre, width, weight), in hours UTC.
        weekdays: Monday first; mean 1.
        pace_s: Median seconds between two actions.
        pace_spread: Standard deviation of the logarithm of it.
        moves: Weights of the next action, by action; `start` and `end` beside the names in `ACTIONS`.
    """

    name: str
    share: float
    visits: float
    pull: tuple[float, float, float, float]
    hours: tuple[tuple[float, float, float], ...]
    weekdays: tuple[float, float, float, float, float, float, float]
    pace_s: float
    pace_spread: float
    moves: Weights


TYPES = (
    BehaviourType(
        name="searcher",
        share=0.24,
        visits=0.165,
        pull=(0.65, 1.0, 1.6, 2.1),
        hours=((12.5, 1.2, 3.0), (9.0, 1.5, 1.0)),
        weekdays=(1.25, 1.25, 1.2, 1.2, 1.1, 0.5, 0.5),
        pace_s=22,
        pace_spread=0.8,
        moves={
            "start": {"products_searched": 8, "page_viewed": 2},
            "page_viewed": {"products_searched": 8, "product_list_viewed": 1, "end": 1},
            "products_searched": {"product_clicked": 5, "products_searched": 3.5, "product_list_viewed": 0.5, "end": 1},
            "product_list_viewed": {"product_clicked": 3, "products_searched": 5, "end": 2},
            "product_clicked": {"product_viewed": 9, "products_searched": 1},
            "product_viewed": {"products_searched": 5, "product_added": 1.15, "scrolled": 0.5, "end": 2.4},
            "scrolled": {"products_searched": 5, "product_added": 1, "end": 3},
            "video_played": {"products_searched": 5, "end": 3},
            "product_reviewed": {"products_searched": 5, "end": 3},
            "product_added_to_wishlist": {"products_searched": 6, "end": 2},
            **FUNNEL,
            "product_added": {"products_searched": 3, "cart_viewed": 4.5, "end": 2.5},
        },
    ),
    BehaviourType(
        name="stroller",
        share=0.24,
        visits=0.14,
        pull=(0.8, 1.0, 1.3, 1.6),
        hours=((20.5, 1.6, 4.0), (22.5, 1.0, 1.0)),
        weekdays=(0.8, 0.8, 0.85, 0.85, 1.0, 1.3, 1.4),
        pace_s=35,
        pace_spread=0.9,
        moves={
            "start": {"page_viewed": 9, "product_list_viewed": 1},
            "page_viewed": {"product_list_viewed": 7, "scrolled": 2, "page_viewed": 1, "end": 1.2},
            "products_searched": {"product_list_viewed": 6, "end": 2},
            "product_list_viewed": {"scrolled": 5, "product_list_viewed": 3, "product_clicked": 2, "end": 1.2},
            "product_clicked": {"product_viewed": 9, "product_list_viewed": 1},
            "product_viewed": {"product_list_viewed": 4, "scrolled": 2, "product_added": 1.7, "end": 1.5},
            "scrolled": {"product_list_viewed": 4.5, "product_clicked": 2.5, "page_viewed": 1, "end": 1.5},
            "video_played": {"product_list_viewed": 5, "end": 3},
            "product_reviewed": {"product_list_viewed": 5, "end": 3},
            "product_added_to_wishlist": {"product_list_viewed": 6, "end": 2},
            **FUNNEL,
        },
    ),
    BehaviourType(
        name="comparer",
        share=0.20,
        visits=0.135,
        pull=(0.6, 1.0, 1.7, 2.3),
        hours=((23.5, 1.6, 3.0), (1.0, 1.2, 1.0), (17.0, 2.0, 0.7)),
        weekdays=(1.0, 1.1, 1.1, 1.1, 0.9, 0.8, 1.0),
        pace_s=65,
        pace_spread=0.7,
        moves={
            "start": {"product_viewed": 7, "products_searched": 1.5, "page_viewed": 1.5},
            "page_viewed": {"product_viewed": 6, "product_list_viewed": 2, "end": 2},
            "products_searched": {"product_clicked": 4, "product_viewed": 4, "end": 1.5},
            "product_list_viewed": {"product_viewed": 6, "product_clicked": 2, "end": 2},
            "product_clicked": {"product_viewed": 9, "end": 1},
            "product_viewed": {
                "product_viewed": 3.5,
                "video_played": 2.5,
                "product_reviewed": 0.8,
                "product_added_to_wishlist": 1.4,
                "product_added": 0.62,
                "end": 1.2,
            },
            "scrolled": {"product_viewed": 6, "end": 2},
            "video_played": {"product_viewed": 5, "product_added_to_wishlist": 1.4, "product_added": 0.5, "end": 1.5},
            "product_reviewed": {"product_viewed": 6, "end": 2},
            "product_added_to_wishlist": {"product_viewed": 6, "product_added": 0.5, "end": 2},
            **FUNNEL,
            "product_added": {"product_viewed": 3, "cart_viewed": 4.5, "end": 2.5},
        },
    ),
    BehaviourType(
        name="bargainer",
        share=0.16,
        visits=0.14,
        pull=(0.6, 1.0, 1.8, 2.4),
        hours=((10.0, 1.6, 2.5), (15.5, 1.8, 2.0)),
        weekdays=(0.7, 0.7, 0.75, 0.8, 0.95, 1.6, 1.5),
        pace_s=28,
        pace_spread=1.1,
        moves={
            "start": {"cart_viewed": 3, "product_list_viewed": 5, "page_viewed": 2},
            "page_viewed": {"cart_viewed": 3, "product_list_viewed": 5, "end": 2},
            "products_searched": {"product_list_viewed": 5, "end": 2},
            "product_list_viewed": {"product_clicked": 4, "product_added": 2, "product_list_viewed": 1, "end": 2},
            "product_clicked": {"product_viewed": 7, "product_list_viewed": 2, "end": 1},
            "product_viewed": {"product_added": 2, "product_list_viewed": 4, "end": 2.5},
            "scrolled": {"product_list_viewed": 5, "end": 2},
            "video_played": {"product_list_viewed": 5, "end": 2},
            "product_reviewed": {"product_list_viewed": 5, "end": 2},
            "product_added_to_wishlist": {"product_list_viewed": 5, "end": 2},
            **FUNNEL,
            "product_added": {"cart_viewed": 4, "product_list_viewed": 3, "product_removed": 1.5, "end": 1.5},
            "product_removed": {"product_list_viewed": 5, "cart_viewed": 2, "end": 2.5},
            "cart_viewed": {"coupon_applied": 3, "product_removed": 3, "checkout_started": 0.7, "end": 3.3},
            "coupon_applied": {"coupon_applied": 1.5, "checkout_started": 3.2, "cart_viewed": 3, "end": 2.3},
        },
    ),
    BehaviourType(
        name="regular",
        share=0.16,
        visits=0.185,
        pull=(0.85, 1.0, 1.2, 1.4),
        hours=((7.0, 0.9, 4.0), (18.0, 1.2, 1.5)),
        weekdays=(1.35, 1.15, 1.1, 1.1, 1.2, 0.6, 0.5),
        pace_s=11,
        pace_spread=0.6,
        moves={
            "start": {"page_viewed": 4, "product_viewed": 4, "product_clicked": 2},
            "page_viewed": {"product_clicked": 5, "page_viewed": 2.5, "product_viewed": 1, "end": 2},
            "products_searched": {"product_clicked": 6, "end": 2},
            "product_list_viewed": {"product_clicked": 6, "page_viewed": 2, "end": 2},
            "product_clicked": {"product_viewed": 5, "product_added": 0.7, "page_viewed": 3, "end": 1},
            "product_viewed": {"page_viewed": 5, "product_clicked": 2.5, "product_added": 0.9, "end": 2},
            "scrolled": {"page_viewed": 5, "end": 2},
            "video_played": {"page_viewed": 5, "end": 2},
            "product_reviewed": {"page_viewed": 5, "end": 2},
            "product_added_to_wishlist": {"page_viewed": 5, "end": 2},
            **FUNNEL,
            "product_added": {"checkout_started": 4, "page_viewed": 2, "product_clicked": 2, "end": 2},
        },
    ),
)
NAMES = tuple(each.name for each in TYPES)


def chain(kind: BehaviourType, level: int, *, buying: float = 1.0) -> NDArray[np.float64]:
    """The transition matrix of a session at a level of interest.

    Returns:
        Shape (END + 1, END + 1): rows are actions then START, columns actions then END; every row sums to 1.
    """
    places = {**{name: place for place, name in enumerate(ACTIONS)}, "start": START, "end": END}
    matrix = np.zeros((END + 1, END + 1))
    for action, weights in kind.moves.items():
        for following, weight in weights.items():
            matrix[places[action], places[following]] = weight
    matrix[:, places["product_added"]] *= TILT[level] * buying
    return np.asarray(matrix / matrix.sum(axis=1, keepdims=True))


def outcome_chances(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """How a session ends: chances of (an order, something in the cart but no order, neither), exact for MAX_STEPS."""
    ordered, added = ACTIONS.index("order_completed"), ACTIONS.index("product_added")
    return np.array(
        [(order := _reach(matrix, {ordered})), (any_ := _reach(matrix, {ordered, added})) - order, 1 - any_]
    )


def _reach(matrix: NDArray[np.float64], targets: set[int]) -> float:
    at = matrix[START, :].copy()
    reached = 0.0
    for _ in range(MAX_STEPS):
        reached += float(at[list(targets)].sum())
        at[list(targets)] = 0
        at[END] = 0
        at = at @ matrix
    return reached


def hour_chances(kind: BehaviourType) -> NDArray[np.float64]:
    """Chance of each hour of the day for the start of a session, shape (24,)."""
    hours = np.arange(24) + 0.5
    total = np.full(24, 0.01)
    for centre, width, weight in kind.hours:
        distance = np.abs(hours - centre)
        total += weight / width * np.exp(-0.5 * (np.minimum(distance, 24 - distance) / width) ** 2)
    return np.asarray(total / total.sum())
