"""Basket: which product an action is about, what lies in the cart, what an order is worth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.simulate.people import People
from features.simulate.shop import N_PRODUCTS, Shop
from features.simulate.timing import first_of_run
from features.simulate.types import ACTIONS
from features.simulate.visits import Visits

PLACE = {name: place for place, name in enumerate(ACTIONS)}


@dataclass(frozen=True)
class Basket:
    """What an action is about, one row per action.

    Attributes:
        product: Place in the catalogue.
        price: Of that product.
        quantity: 1 to 3.
        cart: Value of the cart after the action; never less than the product's price.
        couponed: Whether a coupon was applied earlier in the session.
    """

    product: NDArray[np.int64]
    price: NDArray[np.float64]
    quantity: NDArray[np.int64]
    cart: NDArray[np.float64]
    couponed: NDArray[np.bool_]


def fill_baskets(shop: Shop, people: People, visits: Visits) -> Basket:
    """Products, prices and carts of all actions of a chunk of people."""
    rng = shop.generator(4, people.stream)
    price, _, popular = shop.catalogue
    first = first_of_run(visits.session)
    product = _current(rng.choice(N_PRODUCTS, len(first), p=popular), visits.action, first)
    each = np.round(price[product] * shop.price_factor(visits.day[visits.session]), 2)
    quantity = rng.choice([1, 2, 3], len(first), p=[0.8, 0.15, 0.05])
    signs = (visits.action == PLACE["product_added"]) * 1.0 - (visits.action == PLACE["product_removed"])
    cart = np.maximum(_within(signs * each * quantity, first), each)
    couponed = _within((visits.action == PLACE["coupon_applied"]) * 1.0, first) > 0
    return Basket(product, each, quantity, np.round(np.where(couponed, 0.9, 1.0) * cart, 2), couponed)


def _current(drawn: NDArray[np.int64], action: NDArray[np.int64], first: NDArray[np.bool_]) -> NDArray[np.int64]:
    clicked = action == PLACE["product_clicked"]
    after_click = np.concatenate([[False], clicked[:-1]]) if len(clicked) else clicked
    chosen = first | clicked | ((action == PLACE["product_viewed"]) & ~after_click)
    return drawn[np.maximum.accumulate(np.where(chosen, np.arange(len(drawn)), 0))]


def _within(values: NDArray[np.float64], first: NDArray[np.bool_]) -> NDArray[np.float64]:
    total = np.cumsum(values)
    return np.asarray(total - (total - values)[first][np.cumsum(first) - 1])
