"""What would a shop's data look like if we knew who everybody is? A simulated one, with planted truth."""

from features.simulate.live import LiveDay, live_day
from features.simulate.recovery import most_likely, type_posterior
from features.simulate.shop import Shift, Shop
from features.simulate.truth import Difficulty, Truth
from features.simulate.writing import simulate, write_shop

__all__ = [
    "Difficulty",
    "LiveDay",
    "Shift",
    "Shop",
    "Truth",
    "live_day",
    "most_likely",
    "simulate",
    "type_posterior",
    "write_shop",
]
