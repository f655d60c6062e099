"""Draws: the published hash that puts a person at a place between 0 and 1, the same everywhere."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_OFFSET, _PRIME, _MASK = 2166136261, 16777619, 0xFFFFFFFF
STEPS = 10_000


def fnv1a(text: str) -> int:
    """The 32-bit FNV-1a hash of a text's UTF-8 bytes."""
    value = _OFFSET
    for byte in text.encode():
        value = (value ^ byte) * _PRIME & _MASK
    return value


def place(seed: str, user: str) -> float:
    """A user's place in [0, 1), in steps of 0.0001: the hash of GrowthBook's version 2.

    >>> place("foo", "ab")
    0.2575
    """
    return fnv1a(str(fnv1a(seed + user))) % STEPS / STEPS


def places(seed: str, users: Sequence[str]) -> NDArray[np.float64]:
    """The same of many users, shape (n_users,)."""
    first = _hashed([user.encode() for user in users], fnv1a(seed))
    return _hashed([b"%d" % each for each in first.tolist()], _OFFSET) % STEPS / STEPS


def _hashed(texts: Sequence[bytes], begun: int) -> NDArray[np.uint32]:
    """FNV-1a of each text, from a hash that others have begun."""
    sizes = np.array([len(text) for text in texts])
    width = int(sizes.max(initial=0))
    letters = np.array(texts, f"S{max(width, 1)}").view(np.uint8).reshape(len(texts), max(width, 1)).T
    value = np.full(len(texts), begun, np.uint32)
    for step, column in enumerate(letters[:width]):
        value = np.where(step < sizes, (value ^ column) * np.uint32(_PRIME), value)
    return value
