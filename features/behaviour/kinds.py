"""Kinds: which events a definition means: one name, several, any; or those of them whose properties pass tests."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from features.behaviour.schema import StateSchema

Intervals = tuple[tuple[int, int], ...]
"""Closed, ascending, disjoint."""
Test = tuple[str, Intervals]
"""A property, or a flag derived from one, and where its integer has to lie."""

TEXT_TESTS = ("contains", "starts_with", "ends_with", "regex")
"""What is asked of a text itself, not of its hash; the answers are flags, made where events are encoded."""


def derived(name: str, test: str, value: str) -> str:
    """The name of such a flag among a schema's properties."""
    return f"{name}|{test}|{value}"


@dataclass(frozen=True, order=True)
class Kind:
    """Which events are meant.

    Attributes:
        events: Names; none stands for any event.
        where: Tests on properties, all of which have to hold.
    """

    events: tuple[str, ...] = ()
    where: tuple[Test, ...] = ()

    def codes(self, schema: "StateSchema") -> list[int]:
        """The codes of its events; 0 alone for any."""
        return [schema.codes[event] for event in self.events] or [0]

    @property
    def properties(self) -> set[str]:
        """What its tests read."""
        return {name for name, _ in self.where}


ANYTHING = Kind()
