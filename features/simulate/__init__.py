"""What would a shop's data look like if we knew who everybody is? A simulated one, with planted truth."""

from features.simulate.shop import Shift, Shop
from features.simulate.truth import Difficulty, Truth
from features.simulate.writing import simulate, write_shop

__all__ = ["Difficulty", "Shift", "Shop", "Truth", "simulate", "write_shop"]
