"""Plain: what a result says to programs."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, ClassVar

from features.instants import iso


class Plain:
    """A dataclass that says itself as plain values: its fields, and what else is named.

    Attributes:
        MORE: Properties that are told beside the fields.
        INSTANTS: Fields of microseconds UTC; they are told as ISO 8601.
    """

    MORE: ClassVar[tuple[str, ...]] = ()
    INSTANTS: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        told = plain({**vars(self), **{name: getattr(self, name) for name in self.MORE}})
        return {**told, **{name: iso(told[name]) for name in self.INSTANTS if told[name] is not None}}


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever a result holds
    """A value as JSON can have it: results by their own words, NaN, which it does not have, as None.

    >>> plain({"ends": (0.5, float("nan")), "page": Path("a.html")})
    {'ends': [0.5, None], 'page': 'a.html'}
    """
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if is_dataclass(value):
        return plain(vars(value))
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and value != value else value
