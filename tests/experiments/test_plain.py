"""What a result says to programs is what it holds, all the way down."""

from dataclasses import dataclass, field
from pathlib import Path

from experiments.plain import Plain, plain


@dataclass(frozen=True)
class Inner:
    ends: tuple[float, float]


@dataclass(frozen=True)
class Outer(Plain):
    MORE, INSTANTS = ("long",), ("at", "until")

    at: int
    until: int | None = None
    parts: tuple[Inner, ...] = ()
    files: dict[str, Path] = field(default_factory=dict)

    @property
    def long(self) -> bool:
        return len(self.parts) > 1


def test_a_result_says_its_fields_and_what_else_is_named_down_to_the_last_part() -> None:
    told = Outer(0, None, (Inner((0.5, float("nan"))),), {"page": Path("a.html")}).to_dict()
    parts = [{"ends": [0.5, None]}]
    assert told == {
        "at": "1970-01-01T00:00:00Z",
        "until": None,
        "parts": parts,
        "files": {"page": "a.html"},
        "long": False,
    }


def test_a_part_that_has_words_of_its_own_is_told_in_them() -> None:
    assert plain({"outer": [Outer(1)]}) == {"outer": [Outer(1).to_dict()]}
