"""Membership: how long one stays in a segment and when one may come back: a fold of truths along time.

A membership begins with the first `segments apply`. From then on it changes at the instants at which something became
known of a user, or at which time alone changed a truth or ran out; a membership without options is its truth.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from features.behaviour.histories import Histories
from features.behaviour.kinds import Kind
from features.behaviour.schema import (
    CODE_MASK,
    FLAG_SHIFT,
    HEAD,
    KNOWN,
    MISSING,
    REMOVED,
    TS,
    StateSchema,
)
from features.instants import NEVER, iso
from features.segments.program import TRUE
from features.segments.segment_set import Segment, Truths

CAUSES = ("time", "event", "merge", "refit", "edit", "erase")
TIME, EVENT, MERGE, REFIT, EDIT, ERASE = range(len(CAUSES))

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Judge = Callable[[Ints, Ints], Truths]
"""What segments say of these rows as of an instant each."""


@dataclass(frozen=True)
class Terms:
    """How long one stays and when one may come back, shape (n_segments,) each; microseconds, 0 where nothing is said.

    Attributes:
        min_dwell: Nobody leaves earlier for want of the condition, but for who is excluded.
        ttl: Everybody leaves then.
        after: Nobody comes back earlier.
        never: Nobody comes back.
    """

    min_dwell: Ints
    ttl: Ints
    after: Ints
    never: Bools

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> Self:
        """What these segments say."""
        said = [dict(segment.membership or {}) for segment in segments]
        again = [dict(each.get("reentry", {})) for each in said]
        return cls(
            np.array([each.get("min_dwell", 0) for each in said], np.int64),
            np.array([each.get("ttl", 0) for each in said], np.int64),
            np.array([each.get("after", 0) for each in again], np.int64),
            np.array([each.get("never", False) for each in again], np.bool_),
        )


@dataclass(frozen=True)
class States:
    """Who is in what, shape (n_rows, n_segments) each.

    Attributes:
        inside: Now.
        entered: Since when; MISSING before the first time.
        left: When they last left; MISSING before the first time.
        ready: Whether the condition has failed since then: who was put out comes back when it becomes true anew.
    """

    inside: Bools
    entered: Ints
    left: Ints
    ready: Bools

    @classmethod
    def new(cls, n_rows: int, n_segments: int) -> Self:
        """Nobody was ever in."""
        shape = (n_rows, n_segments)
        missing = np.full(shape, MISSING)
        return cls(np.zeros(shape, np.bool_), missing, missing.copy(), np.ones(shape, np.bool_))

    def at(self, *places: NDArray[np.intp] | Ints) -> "States":
        """A part, copied."""
        return States(*(getattr(self, field.name)[places] for field in fields(self)))

    def put(self, part: "States", *places: NDArray[np.intp] | Ints) -> None:
        """Take a part back."""
        for field in fields(self):
            getattr(self, field.name)[places] = getattr(part, field.name)


def dates(segment: Segment, *, inside: bool, entered: int, left: int) -> dict[str, str | None]:
    """When somebody came, left, and by when the time of the membership brings them out, or lets them in again.

    Args:
        segment: With a `membership`.
        inside: Now.
        entered: As in `States`.
        left: The same.
    """
    said = segment.membership or {}
    leaves = entered + said["ttl"] if inside and "ttl" in said else MISSING
    again = said.get("reentry", {}).get("after")
    back = left + again if not inside and left != MISSING and again else MISSING
    told = {"since": entered if inside else MISSING, "left": left, "leaves": leaves, "back_from": back}
    return {name: None if instant == MISSING else iso(instant) for name, instant in told.items()}


class Changes(NamedTuple):
    """Who came and went; one place a change."""

    row: Ints
    segment: Ints
    at: Ints
    entered: Bools
    cause: Ints

    @classmethod
    def joined(cls, parts: Sequence["Changes"]) -> "Changes":
        """All of them; at least one part."""
        return cls(*(np.concatenate(each) for each in zip(*parts, strict=True)))

    @classmethod
    def none(cls) -> "Changes":
        """Nobody."""
        nothing = np.empty(0, np.int64)
        return cls(nothing, nothing, nothing, nothing.astype(np.bool_), nothing)


def step(states: States, terms: Terms, truths: Truths, ended: Ints, cause: Ints) -> tuple[States, Changes]:
    """The states an instant later.

    Args:
        states: Before.
        terms: Of the segments.
        truths: As of the instant, of the same rows and segments.
        ended: Shape (n_rows, n_segments), or (n_rows, 1) where no event ends any: ts of an event that ends a membership
            and became known now; MISSING.
        cause: Per row or per (row, segment), what brought the instant.
    """
    now, enters, stays = truths.at[:, None], truths.values == TRUE, truths.stays == TRUE
    put_out, failing, comes = states.inside & (ended > states.entered), states.inside & ~stays, ~states.inside & enters
    over = np.zeros((1, 1), np.bool_)
    if terms.ttl.any():
        over = states.inside & (terms.ttl > 0) & (now - states.entered >= terms.ttl)
    if terms.min_dwell.any():
        failing &= (now - states.entered >= terms.min_dwell) | truths.barred
    if terms.after.any() or terms.never.any():
        comes &= now >= _back(states, terms)
    comes &= states.ready
    goes = over | put_out | failing
    later = States(
        (states.inside | comes) & ~goes,
        np.where(comes, now, states.entered),
        np.where(goes, now, states.left),
        (states.ready & ~goes) | ~enters,
    )
    row, segment = np.nonzero(comes | goes)
    causes = np.where(over & ~put_out, TIME, cause.reshape(len(cause), -1))
    return later, Changes(row, segment, truths.at[row], comes[row, segment], causes[row, segment])


def due(states: States, terms: Terms, truths: Truths) -> Ints:
    """Per row the next instant at which time alone may change a truth or a membership; NEVER."""
    now, enters = truths.at[:, None], truths.values == TRUE
    timers = [truths.changes]
    if terms.ttl.any():
        timers.append(np.where(states.inside & (terms.ttl > 0), states.entered + terms.ttl, NEVER))
    if terms.min_dwell.any():
        timers.append(np.where(states.inside & (truths.stays != TRUE), states.entered + terms.min_dwell, NEVER))
    if terms.after.any():
        timers.append(np.where(~states.inside & enters & states.ready, _back(states, terms), NEVER))
    soonest: Ints = np.min([np.where(each > now, each, NEVER).min(axis=1, initial=NEVER) for each in timers], axis=0)
    return soonest


def _back(states: States, terms: Terms) -> Ints:
    """The instant from which somebody may come back."""
    was_in = states.left != MISSING
    return np.where(was_in, np.where(terms.never, NEVER, np.where(was_in, states.left, 0) + terms.after), MISSING)


class Moments(NamedTuple):
    """When something became known of each row, in order: those of row i are starts[i]:starts[i + 1]."""

    starts: Ints
    at: Ints
    cause: Ints
    ended: Ints  # shape (n_moments, n_segments): ts of the newest event that ends a membership; MISSING. One column
    # where no event ends any.

    @classmethod
    def none(cls, n: int) -> "Moments":
        """Of n rows of whom nothing became known."""
        nothing = np.empty(0, np.int64)
        return cls(np.zeros(n + 1, np.int64), nothing, nothing, nothing.reshape(0, 1))

    @classmethod
    def of(
        cls,
        histories: Histories,
        segments: Sequence[Segment],
        since: int | Ints,
        at: int | Ints,
        joined: Mapping[str, Sequence[int]],
    ) -> "Moments":
        """Those after `since`, up to `at`.

        Args:
            histories: Rows.
            segments: Whose `exits` count.
            since: Microseconds UTC, one for all rows or one per row.
            at: The same.
            joined: Per user the instants at which another id joined.
        """
        n, lengths = len(histories), histories.ends - histories.starts
        row = np.repeat(np.arange(n), lengths)
        place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths - histories.starts, lengths)
        known = np.maximum(histories.slots[place, TS], histories.slots[place, KNOWN])
        from_, to = np.broadcast_to(since, n)[row], np.broadcast_to(at, n)[row]
        kept = np.flatnonzero((known > from_) & (known <= to))
        kept = kept[np.lexsort((known[kept], row[kept]))]
        row, known, slots = row[kept], known[kept], histories.slots[place[kept]]
        first = np.flatnonzero(np.diff(row, prepend=-1).astype(bool) | np.diff(known, prepend=MISSING).astype(bool))
        ended = np.full((len(first), len(segments) if any(each.exits for each in segments) else 1), MISSING)
        for k, segment in enumerate(segments):
            if segment.exits and len(first):
                meant = np.any([means(kind, histories.schema, slots) for kind in segment.exits], axis=0)
                ended[:, k] = np.maximum.reduceat(np.where(meant, slots[:, TS], MISSING), first)
        merges = {(user, instant) for user, instants in joined.items() for instant in instants}
        users = histories.users[row[first]] if merges else ()
        cause = np.full(len(first), EVENT)
        cause[[k for k, each in enumerate(zip(users, known[first].tolist(), strict=False)) if each in merges]] = MERGE
        starts = np.searchsorted(row[first], np.arange(n + 1))
        return cls(starts, known[first], cause, ended)


def means(kind: Kind, schema: StateSchema, slots: Ints) -> Bools:
    """Per record, whether it is an event of the kind."""
    heads = slots[:, HEAD]
    found: Bools = (heads >> FLAG_SHIFT) & REMOVED == 0
    if kind.events:
        found &= np.isin(heads & CODE_MASK, kind.codes(schema))
    for name, intervals in kind.where:
        values = slots[:, schema.slot(name)]
        found &= np.any([(low <= values) & (values <= high) for low, high in intervals], axis=0)
    return found


def fold(
    states: States, terms: Terms, judge: Judge, moments: Moments, since: Ints, at: Ints
) -> tuple[States, Changes, Ints]:
    """The states as of `at`, all changes on the way, and per row when time alone may bring the next one.

    Args:
        states: As of `since`.
        terms: Of the segments.
        judge: What the segments say.
        moments: After `since`, up to `at`.
        since: Per row, microseconds UTC.
        at: Per row.
    """
    states, found = states.at(np.arange(len(since))), list[Changes]()
    place, upcoming = moments.starts[:-1].copy(), since.copy()
    while len(rows := np.flatnonzero(upcoming <= at)):
        now = upcoming[rows]
        told = place[rows] < moments.starts[rows + 1]
        told[told] = moments.at[place[rows[told]]] == now[told]
        cause, ended = np.full(len(rows), TIME), np.full((len(rows), moments.ended.shape[1]), MISSING)
        cause[told], ended[told] = moments.cause[place[rows[told]]], moments.ended[place[rows[told]]]
        place[rows] += told
        truths = judge(rows, now)
        part, changes = step(states.at(rows), terms, truths, ended, cause)
        states.put(part, rows)
        found.append(changes._replace(row=rows[changes.row]))
        more = place[rows] < moments.starts[rows + 1]
        following = np.full(len(rows), NEVER)
        following[more] = moments.at[place[rows[more]]]
        upcoming[rows] = np.minimum(following, due(part, terms, truths))
    return states, Changes.joined([Changes.none(), *found]), upcoming
