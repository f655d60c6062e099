"""Names: what definitions may name, and the words of events and windows resolved; each fault knows its place."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from features.behaviour.feature import Feature
from features.behaviour.kinds import Kind
from features.behaviour.where import conditions
from features.behaviour.words import Words
from features.errors import DefinitionError
from features.instants import DAY, HOUR, format_duration
from features.segments.definitions import Condition, Windowed
from features.segments.nodes import PERIODS, Window

PERIOD_SPANS = {"day": DAY + HOUR, "week": 7 * DAY + HOUR, "month": 31 * DAY + HOUR}

BOUNDS = ("gt", "gte", "lt", "lte")

Path = tuple[str | int, ...]
"""The keys and places that lead to a value of the document."""


@dataclass(frozen=True)
class Names:
    """What definitions may name.

    Attributes:
        words: Events and kinds.
        features: By name.
        studies: By name their kind; None where nobody knows them yet.
        clusters: Per study the names of its clusters, or classes, where they are known.
        horizon: Microseconds.
    """

    words: Words
    features: Mapping[str, Feature]
    studies: Mapping[str, str] | None
    clusters: Mapping[str, Sequence[str]]
    horizon: int


class Fault(Exception):  # noqa: N818 - becomes a DefinitionError once its line is known
    """What is wrong, and where."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """A mistake found within is one of what stands at `path`."""
    try:
        yield
    except DefinitionError as error:
        raise Fault(path, str(error)) from None


def kind_of(words: Words, event: tuple[str, ...], where: Mapping[str, object], path: Path) -> Kind:
    """The kind of events that a definition names; faults at the key that is to blame."""
    with blaming((*path, "event")):
        bare = words.kind(event)
    for name, predicate in where.items():
        with blaming((*path, "where", name)):
            conditions({name: predicate}, lambda each: words.spec(each, bare))
    return words.kind(event, where)


def window_of(given: Windowed, path: Path, horizon: int) -> Window:
    """The window, no longer than the horizon."""
    if given.last is not None:
        within(given.last, (*path, "last"), horizon)
        return Window("ago", given.last)
    if given.ago is not None:
        within(given.ago.from_, (*path, "ago", "from"), horizon)
        return Window("ago", given.ago.from_, given.ago.to)
    if given.between is not None:
        within(given.between.to - given.between.from_, (*path, "between"), horizon)
        return Window("between", given.between.from_, given.between.to)
    if given.since_first_seen is not None:
        within(given.since_first_seen, (*path, "since_first_seen"), horizon)
        return Window("since_first_seen", given.since_first_seen)
    if given.session is not None:
        return Window("session")
    if given.calendar is not None:
        within(PERIOD_SPANS[given.calendar], (*path, "calendar"), horizon)
        return Window("calendar", PERIODS.index(given.calendar))
    return Window()


def within(span: int, path: Path, horizon: int) -> None:
    """Refuse what looks back further than histories are kept."""
    if span > horizon:
        needed, kept = format_duration(span), format_duration(horizon)
        whole = format_duration(-(-span // DAY) * DAY)
        raise Fault(
            path, f"this looks back {needed}, and the horizon is {kept}. Hint: set `horizon: {whole}` in ethogram.yaml."
        )


def relaxed(when: Condition, to: float, path: Path) -> Condition:
    """The condition with its one threshold moved to where one leaves."""
    tests = {(name, ""): each.model_dump() for name in ("model", "percentile") if (each := getattr(when, name))}
    tests |= {("feature", name): test for name, test in (when.feature or {}).items() if isinstance(test, Mapping)}
    found = [(*place, key, test[key]) for place, test in tests.items() for key in BOUNDS if test.get(key) is not None]
    if len(found) != 1:
        raise Fault(path, "hysteresis needs one threshold of a `model`, a `percentile` or a `feature` right in `when`.")
    field, name, key, value = found[0]
    if not (to < value if key in ("gt", "gte") else to > value):
        raise Fault(path, f"one would leave at {to:g} before one enters: {{{key}: {value:g}}}.")
    given = getattr(when, field)
    moved = {**given, name: {**given[name], key: to}} if name else given.model_copy(update={key: to})
    return when.model_copy(update={field: moved})
