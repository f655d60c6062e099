"""Properties: what each action carries, in the words of the shop's tracking plan; products, carts and orders."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.simulate.people import People
from features.simulate.shop import CATEGORIES, N_PRODUCTS, Shop
from features.simulate.types import ACTIONS
from features.simulate.visits import Visits, first_of_run

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


PROPERTIES: dict[str, tuple[str, ...]] = {
    "page_viewed": ("page",),
    "products_searched": ("query", "results"),
    "product_list_viewed": ("category",),
    "product_clicked": ("product_id", "category"),
    "product_viewed": ("product_id", "category", "price"),
    "video_played": ("product_id", "watched"),
    "scrolled": ("depth",),
    "product_added_to_wishlist": ("product_id", "category", "price"),
    "product_reviewed": ("product_id", "rating"),
    "product_added": ("product_id", "category", "price", "quantity"),
    "product_removed": ("product_id", "price", "quantity"),
    "cart_viewed": ("cart_value",),
    "coupon_applied": ("coupon",),
    "checkout_started": ("cart_value",),
    "payment_info_entered": ("payment_method",),
    "order_completed": ("order_id", "revenue", "payment_method", "couponed"),
    "order_refunded": ("order_id", "refund"),
    "experiment_viewed": ("experiment", "variant"),
    "identify": ("email", "country", "newsletter"),
    "alias": (),
}
"""The properties of each event, as in `examples/shop/plan.yaml`."""

PAGES = ("home", "offers", "account", "help")
QUERIES = ("gift", "sale", "new", "summer", "small", "blue", "wood", "for kids")
RESULTS = (24.0, 31.0, 18.0, 12.0, 9.0, 7.0, 5.0, 0.0)
"""How many products each query finds."""
PAYMENTS = ("card", "invoice", "wallet")
COUPONS = ("WELCOME10", "AUTUMN10", "CLUB10")
DEPTHS = (25.0, 50.0, 75.0, 90.0)
PRODUCT_IDS = tuple(f"p{place:03d}" for place in range(N_PRODUCTS))
NO_PAYMENT_METHOD = 0.02  # share that the shop's tracking forgets


def property_columns(
    shop: Shop, rng: np.random.Generator, action: NDArray[np.int64], basket: Basket, *, orders: Sequence[str]
) -> dict[str, pl.Series]:
    """One `p_<property>` column per property of an action, null where the action does not carry it.

    Args:
        shop: For its catalogue.
        rng: For what no other part of the simulation knows.
        action: Places in ACTIONS, shape (n,).
        basket: Of the same n actions.
        orders: Ids of the orders, as many as there are orders among the actions.
    """
    n = len(action)
    numbers = {
        "price": basket.price,
        "quantity": basket.quantity.astype(float),
        "cart_value": basket.cart,
        "revenue": basket.cart,
        "watched": np.round(rng.beta(2, 2, n), 2),
        "depth": np.array(DEPTHS)[rng.integers(0, 4, n)],
        "rating": rng.choice([1.0, 2.0, 3.0, 4.0, 5.0], n, p=[0.06, 0.06, 0.13, 0.35, 0.4]),
    }
    payment = np.where(rng.random(n) < NO_PAYMENT_METHOD, -1, rng.choice(3, n, p=[0.6, 0.25, 0.15]))
    order = np.cumsum(action == ACTIONS.index("order_completed")) - 1
    texts = {
        "page": (PAGES, rng.choice(4, n, p=[0.6, 0.2, 0.15, 0.05])),
        "query": (QUERIES, rng.integers(0, len(QUERIES), n)),
        "category": (CATEGORIES, shop.catalogue[1][basket.product]),
        "product_id": (PRODUCT_IDS, basket.product),
        "coupon": (COUPONS, rng.integers(0, 3, n)),
        "payment_method": (PAYMENTS, payment),
        "order_id": (orders, order),
    }
    numbers["results"] = np.array(RESULTS)[texts["query"][1]]
    columns = {f"p_{name}": number(values, carries(name, action)) for name, values in numbers.items()}
    columns |= {
        f"p_{name}": text(values, np.where(carries(name, action), places, -1))
        for name, (values, places) in texts.items()
    }
    couponed = pl.Series(basket.couponed)
    return {**columns, "p_couponed": couponed.set(pl.Series(~carries("couponed", action)), None)}


def carries(name: str, action: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each action has the property."""
    return np.array([name in PROPERTIES[event] for event in ACTIONS])[action]


def text(values: Sequence[str], places: NDArray[np.int64]) -> pl.Series:
    """`values[places]` as a text column; null where the place is negative."""
    chosen = pl.Series(places, dtype=pl.Int64)
    return pl.Series(list(values) or [""], dtype=pl.String).gather(chosen.set(chosen < 0, None))


def number(values: NDArray[np.float64], present: NDArray[np.bool_]) -> pl.Series:
    """The values as a column; null where not present."""
    return pl.Series(values).set(pl.Series(~present), None)
