"""Arms: the stated hash that puts a user into an arm of a simulated test."""

_OFFSET, _PRIME, _MASK = 2166136261, 16777619, 0xFFFFFFFF


def fnv1a(text: str) -> int:
    """The 32-bit FNV-1a hash of a text's UTF-8 bytes."""
    value = _OFFSET
    for byte in text.encode():
        value = (value ^ byte) * _PRIME & _MASK
    return value


def assign(salt: str, user: str) -> float:
    """A user's place in [0, 1), in steps of 0.0001: the hash of GrowthBook's version 2."""
    return fnv1a(str(fnv1a(salt + user))) % 10_000 / 10_000
