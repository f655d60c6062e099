"""Enrolment: who enters and who leaves which segment by now, with samples and reasons; nothing changes until apply."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from experiments import release
from experiments.audience import Audience
from experiments.declared import Declared
from experiments.reasons import Reasons
from features.behaviour.histories import Histories
from features.behaviour.schema import MISSING
from features.errors import AnalysisError
from features.events.plan import Purpose
from features.instants import iso
from features.project import Project
from features.segments.ledger import CHANGES, STATES, Applied, Ledger
from features.segments.membership import CAUSES, EDIT, REFIT, Changes, Ints, Moments, States, Terms, fold, step
from features.segments.nodes import below
from features.segments.segment_set import Segment, SegmentSet

SAMPLED = 3
"""Users shown a segment and direction."""


@dataclass(frozen=True)
class Line:
    """One segment in a plan.

    Attributes:
        name: Of the segment.
        before: Members as last applied.
        after: Members now.
        entered: How many come.
        left: How many go.
        causes: Changes by cause.
        note: Why it is not enrolled; empty where there is nothing to say.
        samples: Some who come or go, with the reason.
        hidden: It goes on with fewer than its minimum size: nothing else is told of it.
    """

    name: str
    before: int
    after: int
    entered: int
    left: int
    causes: Mapping[str, int]
    note: str
    samples: tuple[Mapping[str, str], ...] = ()
    hidden: bool = False


@dataclass
class Enrolment:
    """What applying the declared segments now would change.

    Attributes:
        project: Whose.
        audience: Its people.
        ledger: What was applied last.
        lines: One a segment.
        states: Columns of `ledger.STATES`, as of now.
        changes: Columns of `ledger.CHANGES`, since the ledger.
        erased: Who is, or once was, a member and was erased since, or of whom the log knows nothing any more.
    """

    project: Project
    audience: Audience
    ledger: Ledger
    lines: list[Line] = field(default_factory=list)
    states: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=STATES))
    changes: pl.DataFrame = field(default_factory=pl.DataFrame)
    erased: list[str] = field(default_factory=list)

    @classmethod
    def plan(
        cls,
        project: Project,
        *,
        at: int | None = None,
        told: Callable[[str], None] = lambda _: None,
    ) -> "Enrolment":
        """Who would enter and leave.

        Args:
            project: Whose segments and log.
            at: As of; by default the log's newest event.
            told: Hears of every step.

        Raises:
            AnalysisError: memberships were applied as of a later instant.
        """
        ledger = Ledger.read(project.path("memberships"))
        audience = Audience.of(project, at)
        if ledger.at is not None and audience.at < ledger.at:
            raise AnalysisError(
                f"memberships were applied as of {iso(ledger.at)}, and {iso(audience.at)} is before that."
            )
        made = cls(project, audience, ledger)
        made._work(told)
        return made

    def apply(self) -> Ledger:
        """Write who is in the declared segments, and serve them.

        The bundle is made first, which may fail, and answers last: killed at any moment, no segment is served by a
        definition whose members were not written, and done again it ends in the same.

        Raises:
            AnalysisError: somebody else applied meanwhile.
            BundleError: the segments cannot be served.
        """
        made, served, declared = None, self.audience.served, self.audience.segments
        if served is not None and served.fingerprint != declared.fingerprint:
            release.check_answers(self.project)
            made = release.prepare(self.project, release.served(self.project), declared.snapshots)
        ledger = self._written()
        if made is not None:
            release.crown(self.project, made)
        return ledger

    def _written(self) -> Ledger:
        ledger, declared = self.ledger.forget(self.erased), self.audience.segments
        sizes = {line.name: line.after for line in self.lines}
        newest = dict(self.changes.filter("entered").group_by("segment").agg(pl.col("at").max()).iter_rows())
        applied = {}
        for each in self._kept():
            before = ledger.segments.get(each.name)
            entered = newest.get(each.name, before.entered if before else None)
            since = before.since if before else self.audience.at
            fit = self.audience.fit(each)
            size = sizes[each.name]
            applied[each.name] = Applied(each.version, fit, size, entered, each.min_size, since, each.status)
        if ledger.at == self.audience.at and applied == ledger.segments and not self.changes.height:
            return ledger
        features = Declared.of(self.project).features.fingerprint
        return ledger.written(self.audience.at, applied, declared.snapshots, features, self.states, self.changes)

    def __str__(self) -> str:
        head = f"as of {iso(self.audience.at)}"
        head += f", applied last as of {iso(self.ledger.at)}" if self.ledger.at is not None else ", for the first time"
        told = [head]
        for line in self.lines:
            if line.hidden:
                told.append(f"  {line.name}: fewer than its min_size")
                continue
            causes = ", ".join(f"{count:,} by {cause}" for cause, count in line.causes.items())
            change = f" (+{line.entered:,} -{line.left:,}: {causes})" if line.entered or line.left else ""
            note = f" [{line.note}]" if line.note else ""
            told.append(f"  {line.name}: {line.before:,} -> {line.after:,}{change}{note}")
            told += [f"    {each['change']} {each['user']} at {each['at']}: {each['why']}" for each in line.samples]
        if not self.changes.height and not self.erased:
            told.append("nobody enters or leaves.")
        return "\n".join(told)

    def to_dict(self) -> dict[str, object]:
        """Plain values; of a segment below its minimum size, only that."""
        rows = [{"name": each.name, "hidden": True} if each.hidden else asdict(each) for each in self.lines]
        before = None if self.ledger.at is None else iso(self.ledger.at)
        return {"at": iso(self.audience.at), "before": before, "erased": len(self.erased), "segments": rows}

    def of(self, person: Histories) -> pl.DataFrame:
        """One person's states as of now, columns of `ledger.STATES`; of segments with options also once they left."""
        before = self.ledger.state_frame().filter(user=person.users[0])
        return _Part(self, _Course.of(self.ledger, self._asked(), self.audience), person, lambda _: before).states

    def looked(self, name: str) -> int:
        """Since when what happened may not have ended a membership that was applied; in a pause nothing ends any."""
        return 0 if self.ledger.segments[name].status == "paused" else self.ledger.at or 0

    # -- how

    def _asked(self) -> SegmentSet:
        segments = self.audience.segments
        return segments.only([each.name for each in segments.segments if self._enrolled(each)])

    def _kept(self) -> list[Segment]:
        """Segments with members: active ones, of which this can be said here, and paused ones."""
        said = self.audience.segments.segments
        return [each for each in said if each.status == "paused" or self._enrolled(each)]

    def _enrolled(self, segment: Segment) -> bool:
        return segment.status == "active" and not self.audience.unanswered(segment)

    def _work(self, told: Callable[[str], None]) -> None:
        audience, ledger, asked = self.audience, self.ledger, self._asked()
        written, self.erased = ledger.state_frame(), self._forgotten()
        before = written.filter(~pl.col("user").is_in(self.erased))
        states, changes, willing = [before.clear()], [], set[str]()
        known, course = audience.log.by_bucket(before), _Course.of(ledger, asked, audience)
        for part in audience.map(lambda people: _Part(self, course, people, known), Purpose.PERSONALISATION):
            states.append(part.states)
            changes.append(part.changes)
            willing.update(part.users["user"])
            told(f"{len(willing):,} users")
        paused = [each.name for each in audience.segments.segments if each.status == "paused"]
        changes.append(self._departures(before, [*asked.names, *paused], willing))
        states.append(before.filter(pl.col("segment").is_in(paused) & pl.col("user").is_in(list(willing))))
        self.states = pl.concat(states)
        self.changes = pl.concat(changes)
        self.lines = list(self._told(written))
        self.changes = self.changes.sort("at", maintain_order=True)

    def _forgotten(self) -> list[str]:
        """Who was erased after something was written of them; who came back since begins anew."""
        tombstones = self.audience.log.tombstones
        if not tombstones.erased:
            return []
        told = self.ledger.changes().select("user", pl.col("at").alias("ts")).collect()
        return sorted(set(told.filter(tombstones.cover(told, self.project.key, ["user"]))["user"]))

    def _departures(self, before: pl.DataFrame, kept: Sequence[str], willing: set[str]) -> pl.DataFrame:
        """Members who joined another id, were erased or agree no more, and members of segments that are no more."""
        log, at = self.audience.log, self.audience.at
        gone = set(before["user"].unique().to_list()) - willing
        known = set(log.frame(users=sorted(gone), columns=["user", "ts"])["user"]) if gone else set()
        canonical = log.canonical()
        joined = {name: canonical[name][1] for name in gone - known if name in canonical}
        self.erased = sorted({*self.erased, *(gone - known - set(joined))})
        rows = []
        looked_at = pl.col("user").is_in(sorted(gone)) | ~pl.col("segment").is_in(kept)
        for user, segment in before.filter("inside", looked_at).select("user", "segment").iter_rows():
            if user in joined:
                rows.append((user, segment, min(joined[user], at), False, "merge"))
            elif user in known or (segment not in kept and user in willing):
                rows.append((user, segment, at, False, "event" if user in known else "edit"))
        return pl.DataFrame(rows, schema=CHANGES, orient="row")

    def _told(self, before: pl.DataFrame) -> Iterator[Line]:
        """One line a segment; of one that ends with fewer than its minimum size, no person."""
        samples = self._samples(before)
        inside = before.filter("inside")
        was, now = (dict(_counted(frame, "segment")) for frame in (inside, self.states.filter("inside")))
        lost = dict(_counted(inside.filter(pl.col("user").is_in(self.erased)), "segment"))
        moved = list(_counted(self.changes, "segment", "entered", "cause"))
        kept = {segment.name for segment in self._kept()}
        for name, least, note in self._named():
            causes, entered = Counter[str](), 0
            for changed, comes, cause, count in moved:
                causes[cause] += count if changed == name else 0
                entered += count if changed == name and comes else 0
            forgotten = lost.get(name, 0) + self.ledger.erased.get(name, 0)
            left = causes.total() - entered + forgotten
            causes["erase"] += forgotten
            held, size = was.get(name, 0) + self.ledger.erased.get(name, 0), now.get(name, 0)
            small = (size if name in kept else held) < least
            shown = () if small else tuple(samples.get(name, ()))
            told = dict(sorted((+causes).items()))
            yield Line(name, held, size, entered, left, told, note, shown, hidden=small and name in kept)

    def _named(self) -> Iterator[tuple[str, int, str]]:
        """Per segment that is declared, or was applied last, its name, its minimum size and what there is to note."""
        for each in self.audience.segments.segments:
            yield each.name, each.min_size, self.audience.unanswered(each) if each.status == "active" else each.status
        for name, applied in self.ledger.segments.items():
            if name not in self.audience.segments.names:
                yield name, applied.min_size, "declared no more"

    def _samples(self, before: pl.DataFrame) -> dict[str, list[Mapping[str, str]]]:
        """Per segment some who enter and some who leave: the first, who are in few buckets; they are read once."""
        chosen = self.changes.group_by("segment", "entered", maintain_order=True).head(SAMPLED)
        people = chosen["user"].unique().to_list()
        histories = self.audience.log.histories(self.audience.schema, users=people) if people else None
        places = {} if histories is None else {user: row for row, user in enumerate(histories.users.tolist())}
        kept, came = {segment.name for segment in self._kept()}, self._came(before, people)
        reasons = Reasons(self.audience, self.looked)
        told: dict[str, list[Mapping[str, str]]] = {}
        for user, name, at, entered, cause in chosen.sort("entered", descending=True).select(*CHANGES).iter_rows():
            why = ""
            if histories is not None and user in places and name in kept:
                person = histories.take(np.array([places[user]]))
                since = 0 if entered else max(each for each in came[user, name] if each <= at)
                why = reasons.entry(person, name, at) if entered else reasons.exit(person, name, at, since)
            change, why = "enters" if entered else "leaves", "; ".join(filter(None, (cause, why)))
            told.setdefault(name, []).append({"change": change, "user": user, "at": iso(at), "why": why})
        return told

    def _came(self, before: pl.DataFrame, people: Sequence[str]) -> dict[tuple[str, str], list[int]]:
        """Per person and segment the instants of their entries, as far as they are known here."""
        entries = self.changes.filter("entered").select("user", "segment", pl.col("at").alias("entered"))
        known = pl.concat([before.filter("inside").select(entries.columns), entries])
        mine = known.filter(pl.col("user").is_in(people)).group_by("user", "segment").agg("entered")
        return {(user, name): instants for user, name, instants in mine.iter_rows()}


class _Course(NamedTuple):
    """Which segments go on from the ledger, along all change points, and which are looked at once, now."""

    followed: SegmentSet
    anew: SegmentSet

    @classmethod
    def of(cls, ledger: Ledger, asked: SegmentSet, audience: Audience) -> "_Course":
        """What goes on: the same definition, status and bounds, of which it is known when time may change a truth."""
        names = []
        for segment in asked.segments:
            ticks = any(node.change == "tick" for node in below(asked.nodes, segment.root))
            same = _other(ledger, segment, audience) is None
            if same and (segment.membership is not None or not ticks):
                names.append(segment.name)
        return cls(asked.only(names), asked.only([name for name in asked.names if name not in names]))


def _other(ledger: Ledger, segment: Segment, audience: Audience) -> int | None:
    """The cause by which a segment is not what was last applied; None where it is."""
    before = ledger.segments.get(segment.name)
    if before is None or (before.version, before.status) != (segment.version, segment.status):
        return EDIT
    return None if before.fit == audience.fit(segment) else REFIT


class _Part:
    """The people of one bucket who were seen by then."""

    def __init__(
        self, whole: Enrolment, course: _Course, histories: Histories, before: Callable[[str], pl.DataFrame]
    ) -> None:
        histories = histories.take(np.flatnonzero(whole.audience.seen(histories, whole.audience.at)))
        self.whole, self.users = whole, pl.DataFrame({"user": pl.Series(histories.users.tolist(), dtype=pl.String)})
        self.states, self.changes = pl.DataFrame(schema=STATES), pl.DataFrame(schema=CHANGES)
        known = before(self.users["user"][0]) if len(histories) else pl.DataFrame(schema=STATES)
        moments = Moments.none(len(histories))
        if (since := whole.ledger.at) is not None:
            moments = Moments.of(histories, course.followed.segments, since, whole.audience.at, whole.audience.merges)
        for segments, work in ((course.followed, self._folded), (course.anew, self._stepped)):
            if len(segments) and len(histories):
                states, changes = work(histories, segments, self._taken(known, segments), moments)
                self.states = pl.concat([self.states, self._kept(segments, states)])
                self.changes = pl.concat([self.changes, self._frame(segments, changes)])

    def _taken(self, known: pl.DataFrame, segments: SegmentSet) -> States:
        """What the ledger says of these people."""
        held = States.new(len(self.users), len(segments))
        places = pl.DataFrame({"segment": segments.names, "place": np.arange(len(segments))})
        mine = known.join(self.users.with_row_index("row"), on="user").join(places, on="segment")
        part = (mine[name].to_numpy() for name in ("inside", "entered", "left", "ready"))
        held.put(States(*part), mine["row"].to_numpy(), mine["place"].to_numpy())
        return held

    def _folded(
        self, histories: Histories, segments: SegmentSet, held: States, moments: Moments
    ) -> tuple[States, Changes]:
        """Along all change points since the ledger; of who was not seen by then, since they were."""
        audience, begin, terms = self.whole.audience, self.whole.ledger.at or 0, Terms.of(segments.segments)
        since, fresh = np.full(len(histories), begin), np.flatnonzero(~audience.seen(histories, begin))
        since[fresh] = moments.at[moments.starts[fresh]]
        instants = since, np.full(len(histories), audience.at)
        states, changes, _ = fold(held, terms, audience.judge(histories, segments), moments, *instants)
        return states, changes

    def _stepped(
        self, histories: Histories, segments: SegmentSet, held: States, moments: Moments
    ) -> tuple[States, Changes]:
        """All others are looked at once, now."""
        audience, ledger, n = self.whole.audience, self.whole.ledger, len(histories)
        brought = np.zeros(n, np.int64)
        np.maximum.at(brought, np.repeat(np.arange(n), np.diff(moments.starts)), moments.cause)
        cause = np.repeat(brought[:, None], len(segments), axis=1)
        ended = np.full(cause.shape, MISSING)
        for k, segment in enumerate(segments.segments):
            if (other := _other(ledger, segment, audience)) is not None:
                cause[:, k] = other
            if segment.exits and segment.name in ledger.segments:
                found = Moments.of(histories, [segment], self.whole.looked(segment.name), audience.at, {})
                np.maximum.at(ended[:, k], np.repeat(np.arange(n), np.diff(found.starts)), found.ended[:, 0])
        truths = audience.truths(histories, audience.at, segments, threads=1)
        return step(held, Terms.of(segments.segments), truths, ended, cause)

    def _named(self, segments: SegmentSet, row: Ints, segment: Ints) -> tuple[pl.Series, pl.Series]:
        return self.users["user"].gather(row), pl.Series(segments.names, dtype=pl.String).gather(segment)

    def _frame(self, segments: SegmentSet, changes: Changes) -> pl.DataFrame:
        cause = pl.Series(list(CAUSES)).gather(changes.cause)
        columns = *self._named(segments, changes.row, changes.segment), changes.at, changes.entered, cause
        return pl.DataFrame(dict(zip(CHANGES, columns, strict=True)), schema=CHANGES)

    def _kept(self, segments: SegmentSet, states: States) -> pl.DataFrame:
        """Who is in; and of segments with options also who was: it matters when they left."""
        lasting = np.array([segment.membership is not None for segment in segments.segments], np.bool_)
        row, segment = np.nonzero(states.inside | (lasting & (~states.ready | (states.left != MISSING))))
        columns = (getattr(states, name)[row, segment] for name in ("inside", "entered", "left", "ready"))
        return pl.DataFrame(
            dict(zip(STATES, (*self._named(segments, row, segment), *columns), strict=True)), schema=STATES
        )


def _counted(frame: pl.DataFrame, *by: str) -> Iterator[tuple[Any, ...]]:
    return frame.group_by(*by).len().iter_rows()
