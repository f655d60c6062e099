"""People: who comes to the simulated shop; type, rate, ids, sign-in, device and consent."""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from features.simulate.shop import Shop
from features.simulate.types import LEVELS, TYPES

_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0"
_SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5"
AGENTS = (
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_CHROME} Safari/537.36",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_SAFARI} Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) {_SAFARI} Mobile/15E148 Safari/604.1",
    f"Mozilla/5.0 (Linux; Android 15; Pixel 9) {_CHROME} Mobile Safari/537.36",
    f"Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) {_SAFARI} Mobile/15E148 Safari/604.1",
)
COUNTRIES = ("DE", "FR", "GB", "NL", "NO", "PL", "SE")

NEVER, JOINS, KNOWN = range(3)
"""Sign-in: never; on a later visit; on the first one."""
SIGN_IN = (0.15, 0.25, 0.60)
SECOND_ID = 0.04  # share of people with a second anonymous id, joined by an alias
SAY_CONSENT = 0.10
DENY_TRAINING = 0.4  # of those who say something
DENY_ALL = 0.15
NEW = 0.15  # share of people who are new to the shop; of the others the log sees a first visit soon after it begins
FIRST_VISIT = 6.0  # mean days until it
FIRST_LEVEL = (0.5, 0.25, 0.15, 0.1)
SPREAD = 4.0  # shape of the gamma distribution of own rates


@dataclass(frozen=True)
class People:
    """A chunk of people, one row each.

    Attributes:
        stream: Which random numbers are theirs, and the prefix of their messages' ids.
        number: Who it is, counted over the whole shop.
        kind: Place in TYPES.
        rate: Own sessions a day, before season, weekday and level.
        arrival: Day of the first visit.
        level: Of interest on that morning.
        sign_in: NEVER, JOINS or KNOWN.
        joins: Day from which JOINS people sign in, at their next visit.
        aliases: Day from which a second id is aliased, at the next visit; -1: has none.
        consent: Mask of purposes, stated at the start of every visit; -1: says nothing.
        agents: Places in AGENTS of their two devices, shape (n, 2).
        tokens: Random texts behind anonymous ids, shape (n, 2).
    """

    stream: int
    number: NDArray[np.int64]
    kind: NDArray[np.int64]
    rate: NDArray[np.float64]
    arrival: NDArray[np.int64]
    level: NDArray[np.int64]
    sign_in: NDArray[np.int64]
    joins: NDArray[np.int64]
    aliases: NDArray[np.int64]
    consent: NDArray[np.int64]
    agents: NDArray[np.int64]
    country: NDArray[np.int64]
    tokens: NDArray[np.object_]

    def take(self, rows: NDArray[np.int64]) -> "People":
        """These of them."""
        arrays = {each.name: getattr(self, each.name)[rows] for each in fields(self) if each.name != "stream"}
        return People(stream=self.stream, **arrays)

    def __len__(self) -> int:
        return len(self.kind)

    @cached_property
    def user_ids(self) -> list[str]:
        """The ids that people have once they sign in."""
        return [f"u{number:07d}" for number in self.number]


def draw_people(shop: Shop, first: int, last: int) -> People:
    """The people numbered `first` up to, not including, `last`."""
    n, rng = last - first, shop.generator(1, first)
    kind = rng.choice(len(TYPES), n, p=[each.share for each in TYPES])
    visits = np.array([each.visits for each in TYPES])[kind]
    first_visit = np.minimum(rng.exponential(min(FIRST_VISIT, shop.days / 6), n), shop.days - 1)
    arrival = np.where(rng.random(n) < NEW, rng.uniform(0, shop.days, n), first_visit).astype(np.int64)
    return People(
        stream=first,
        number=np.arange(first, last),
        kind=kind,
        rate=visits * (0.15 + 0.85 * rng.gamma(SPREAD, 1 / SPREAD, n)),
        arrival=arrival,
        level=rng.choice(LEVELS, n, p=FIRST_LEVEL),
        sign_in=rng.choice(3, n, p=SIGN_IN),
        joins=arrival + rng.integers(1, max(2, shop.days // 2), n),
        aliases=np.where(rng.random(n) < SECOND_ID, arrival + rng.integers(1, max(2, shop.days // 2), n), -1),
        consent=_consent(rng, n),
        agents=rng.integers(0, len(AGENTS), (n, 2)),
        country=rng.integers(0, len(COUNTRIES), n),
        tokens=_tokens(rng, n),
    )


def _consent(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    said, what = rng.random(n), rng.random(n)
    mask = np.where(what < DENY_ALL, 0, np.where(what < DENY_ALL + DENY_TRAINING, 0b011, 0b111))
    return np.where(said < SAY_CONSENT, mask, -1)


def _tokens(rng: np.random.Generator, n: int) -> NDArray[np.object_]:
    raw = rng.bytes(32 * n).hex()
    texts = [raw[start : start + 32] for start in range(0, 64 * n, 32)]
    uuids = [f"{t[:8]}-{t[8:12]}-4{t[13:16]}-a{t[17:20]}-{t[20:]}" for t in texts]
    return np.array(uuids, dtype=object).reshape(n, 2)
