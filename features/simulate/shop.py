"""Shop: what is simulated; its calendar, its catalogue and, when asked for, what changes from a day on."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from features.errors import DefinitionError, nearest
from features.instants import DAY, from_datetime, parse_instant, to_datetime
from features.simulate.types import LEVELS, NAMES, TYPES, chain, outcome_chances

CHUNK = 5_000
"""People simulated at once; part of what a seed means."""

N_PRODUCTS = 240
CATEGORIES = ("kitchen", "garden", "toys", "books", "sports", "beauty", "electronics", "clothing")


@dataclass(frozen=True)
class Shift:
    """What is different from a day on: drift, planted.

    Attributes:
        day: First day of the change, counted from 0.
        visits: Factor on how often people come.
        buying: Factor on how readily something goes into the cart.
        price: Factor on every price.
        of: Names of the types it concerns; none means all (prices are always everybody's).
        becomes: The type whose sessions they have from then on (chain and pace; their hours and pull stay).
    """

    day: int
    visits: float = 1.0
    buying: float = 1.0
    price: float = 1.0
    of: tuple[str, ...] = ()
    becomes: str | None = None

    def __post_init__(self) -> None:
        for name in (*self.of, *([self.becomes] if self.becomes else [])):
            if name not in NAMES:
                raise DefinitionError(f"unknown behavioural type {name!r}. {nearest(name, NAMES)}")
        for name in ("visits", "buying", "price"):
            if not getattr(self, name) > 0:
                raise DefinitionError(f"the factor `{name}` of a shift is more than 0. Got {getattr(self, name)!r}.")

    def concerns(self, name: str) -> bool:
        """Whether people of this type change."""
        return not self.of or name in self.of


@dataclass(frozen=True)
class Shop:
    """A shop to simulate: the same values give the same events, byte for byte.

    Attributes:
        users: People who come at least once.
        days: Simulated days.
        seed: Of every random draw.
        start: First midnight, microseconds UTC.
        shift: A planted change; None: the shop stays as it is.
        dirt: Factor on the rates of duplicates, late events, bots, bad rows and undeclared properties; 0: clean data.
        seasons: Whether the time of the year and the day of the week move how often people come.
    """

    users: int = 20_000
    days: int = 60
    seed: int = 7
    start: int = parse_instant("2026-09-01")
    shift: Shift | None = None
    dirt: float = 1.0
    seasons: bool = True

    def __post_init__(self) -> None:
        for name, low in (("users", 1), ("days", 1), ("seed", 0), ("dirt", 0)):
            if not getattr(self, name) >= low:
                raise DefinitionError(f"`{name}` of a simulated shop is at least {low}. Got {getattr(self, name)!r}.")
        if self.dirt > 10:
            raise DefinitionError(f"`dirt` of a simulated shop is at most 10. Got {self.dirt!r}.")
        if self.start % DAY:
            raise DefinitionError(f"a simulated shop starts at midnight UTC. Got {to_datetime(self.start)}.")

    @property
    def end(self) -> int:
        """The midnight after the last simulated day."""
        return self.start + self.days * DAY

    @property
    def chunks(self) -> list[tuple[int, int]]:
        """Ranges of people, first and one past the last."""
        return [(low, min(low + CHUNK, self.users)) for low in range(0, self.users, CHUNK)]

    def generator(self, *purpose: int) -> np.random.Generator:
        """The random generator of one purpose, independent of all others."""
        return np.random.default_rng([self.seed, *purpose])

    def phase(self, day: int) -> int:
        """0 before the shift, 1 from its day on."""
        return int(self.shift is not None and day >= self.shift.day)

    def price_factor(self, day: NDArray[np.int64]) -> NDArray[np.float64]:
        """Factor on prices, per event."""
        factor = 1.0 if self.shift is None else self.shift.price
        from_day = self.days + 10**6 if self.shift is None else self.shift.day
        return np.where(day >= from_day, factor, 1.0)

    @cached_property
    def chains(self) -> NDArray[np.float64]:
        """Sessions' transition matrices, shape (2 phases, n types, LEVELS, END + 1, END + 1)."""
        return np.array([[[self._chain(p, k, v) for v in range(LEVELS)] for k in range(len(TYPES))] for p in (0, 1)])

    def _chain(self, phase: int, place: int, level: int) -> NDArray[np.float64]:
        kind, shift = TYPES[place], self.shift
        if shift is None or not phase or not shift.concerns(kind.name):
            return chain(kind, level)
        kind = TYPES[NAMES.index(shift.becomes)] if shift.becomes else kind
        return chain(kind, level, buying=shift.buying)

    @cached_property
    def paces(self) -> NDArray[np.float64]:
        """Median seconds between actions and spread of the logarithm, shape (2 phases, n types, 2)."""
        before = [[kind.pace_s, kind.pace_spread] for kind in TYPES]
        after = [list(each) for each in before]
        if self.shift is not None and self.shift.becomes:
            for place, name in enumerate(NAMES):
                if self.shift.concerns(name):
                    after[place] = before[NAMES.index(self.shift.becomes)]
        return np.array([before, after])

    @cached_property
    def outcomes(self) -> NDArray[np.float64]:
        """Chances of (order, cart, neither) of a session, shape (2 phases, n types, LEVELS, 3)."""
        flat = self.chains.reshape(-1, *self.chains.shape[-2:])
        return np.array([outcome_chances(each) for each in flat]).reshape(*self.chains.shape[:3], 3)

    def traffic(self, day: int) -> NDArray[np.float64]:
        """Factor on a person's own rate of sessions on a day, shape (n types, LEVELS)."""
        weekday = to_datetime(self.start + day * DAY).weekday()
        pull = np.array([kind.pull for kind in TYPES])
        factor = pull * np.array([kind.weekdays[weekday] if self.seasons else 1.0 for kind in TYPES])[:, None]
        factor = factor * self.season(day)
        if self.shift is not None and self.phase(day):
            factor *= np.array([self.shift.visits if self.shift.concerns(name) else 1.0 for name in NAMES])[:, None]
        return np.asarray(factor)

    def season(self, day: int) -> float:
        """The season's factor on visits: highest in mid-December, lowest in mid-June."""
        if not self.seasons:
            return 1.0
        date = to_datetime(self.start + day * DAY)
        peak = from_datetime(date.replace(month=12, day=15))
        return float(1 + 0.12 * np.cos(2 * np.pi * (from_datetime(date) - peak) / (365.25 * DAY)))

    @cached_property
    def catalogue(self) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
        """Products: price, category (a place in CATEGORIES) and chance of being looked at, each (N_PRODUCTS,)."""
        rng = self.generator(0)
        price = np.asarray(np.round(np.exp(rng.normal(3.1, 0.7, N_PRODUCTS)), 2), np.float64)
        category = rng.integers(0, len(CATEGORIES), N_PRODUCTS)
        weight = 1 / (np.arange(N_PRODUCTS) + 5.0)
        return price, category, rng.permutation(weight / weight.sum())
