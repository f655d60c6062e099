"""Steps: a sequence's steps made explicit: how many events, from where on, until when."""

from features.behaviour.words import Words
from features.errors import DefinitionError
from features.segments import definitions as d
from features.segments.names import Fault, Path, blaming, kind_of, window_of, within
from features.segments.nodes import Move
from features.segments.predicates import counts

UNLIMITED = 1 << 62


def moves(said: d.Sequence, path: Path, words: Words, *, horizon: int) -> tuple[Move, ...]:
    """The steps of a sequence; a count with an upper limit is two: the events that come, and those that do not."""
    made: list[Move] = []
    last = max((k for k, step in enumerate(said.steps) if _least(step, (*path, "steps", k))[0] > 0), default=-1)
    for k, step in enumerate(said.steps):
        at = (*path, "steps", k)
        if step.within is not None:
            within(step.within, (*at, "within"), horizon)
        before = sum(not move.absent for move in made) - 1
        least, most = _least(step, at)
        if before < 0 and not least:
            raise Fault(at, "a sequence begins with what happens. Hint: put a step with an `event` first.")
        if step.until_next and k > last:
            raise Fault((*at, "until_next"), "no step with an `event` follows. Hint: say `within: 24h` instead.")
        body, where = (step.not_, (*at, "not")) if step.not_ is not None else (step, at)
        kind, window = kind_of(words, body.event, body.where, where), window_of(body, where, horizon)
        _carries(said.same, kind.events, words, where)
        since = -1 if step.of == "first" else before
        if least:
            made.append(Move(kind, False, least, step.within or 0, since, before, step.immediately, window=window))
        if most < UNLIMITED:
            after = -1 if step.not_ is not None and step.of == "first" else before
            n = most if step.not_ is None and before < 0 else most + 1  # the anchor itself is the first of a count
            span, ref = _span(said, step, since, at)
            made.append(Move(kind, True, n, span, ref, after, until_next=step.until_next, window=window))
    return tuple(made)


def _least(step: d.Step, path: Path) -> tuple[int, int]:
    """The fewest and the most events of a step; the fewest is 0 where it is about absence."""
    body, where = (step.not_, (*path, "not")) if step.not_ is not None else (step, path)
    with blaming((*where, "count")):
        intervals = counts(body.count)
    if len(intervals) != 1:
        raise Fault((*where, "count"), "the count of a step is one range, such as {gte: 2} or {between: [2, 4]}.")
    least, most = intervals[0]
    if step.not_ is None:
        return least, min(most, UNLIMITED)
    if most < UNLIMITED or not least:
        raise Fault((*where, "count"), "what must stay away is counted by `gte` or `gt`.")
    return 0, least - 1


def _span(said: d.Sequence, step: d.Step, since: int, path: Path) -> tuple[int, int]:
    """How long events have to stay away, and from which step on."""
    if step.within is not None:
        return step.within, since
    if step.until_next or said.scope == "session":
        return 0, since
    if said.max_duration is not None:
        return said.max_duration, -1
    raise Fault(path, "nothing says how long the events have to stay away. Hint: add `within: 24h`.")


def _carries(same: tuple[str, ...], events: tuple[str, ...], words: Words, path: Path) -> None:
    for name in same:
        for event in events or ("any",):
            try:
                words.plan.property(name, event)
            except DefinitionError as error:
                raise Fault((*path, "event"), f"`same` needs {name!r} on every step: {error}") from None
