"""Memberships: those with options, taken along from where `segments apply` left them to the instant of an answer."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.behaviour.histories import Histories
from features.behaviour.schema import KNOWN, MISSING, TS
from features.instants import SECOND
from features.people import hash_text, stable_hash
from features.segments.ledger import Ledger
from features.segments.membership import Moments, States, Terms, dates, fold
from features.segments.program import FIRST_SEEN
from features.segments.segment_set import SegmentSet, Truths

KEPT = 100_000
"""Users whose states are kept; whoever was not asked for longest is taken along from the ledger again."""
UNSETTLED = 10 * SECOND
"""What became known so shortly before an answer may still be on its way into the state."""

Judge = Callable[[SegmentSet, Histories, NDArray[np.int64]], Truths]


@dataclass(frozen=True)
class Standing:
    """One user as of an instant.

    Attributes:
        at: Microseconds UTC.
        states: Shape (1, n_segments).
        due: When time alone may change them.
        n_records: Of the history that it was told from.
        settled: The states some seconds earlier, and that instant: where the next fold begins.
    """

    at: int
    states: States
    due: int
    n_records: int
    settled: tuple[States, int]


class Memberships:
    """The segments with options that were applied under the definition that is served.

    Attributes:
        names: Theirs.
        sizes: How many members each segment of the bundle, as it is defined there, had when it was last applied.
        at: When that was, microseconds UTC; None for never.
        small: Segments that had fewer members than their minimum when they were last applied, or were never applied.
    """

    def __init__(self, segments: SegmentSet, folder: Path | None) -> None:
        ledger = Ledger.read(folder) if folder is not None else Ledger(Path())
        known = {name: (each.version, each.status) for name, each in ledger.segments.items()}
        declared = [each for each in segments.segments if each.membership]
        wanted = [each.name for each in declared if known.get(each.name) == (each.version, each.status)]
        self._segments = segments.only(wanted)
        self.names = self._segments.names
        self.at = ledger.at
        sizes = {name: each.size for name, each in ledger.segments.items()}
        self.small = {each.name for each in segments.segments if sizes.get(each.name, 0) < each.min_size}
        same = [each.name for each in segments.segments if known.get(each.name) == (each.version, each.status)]
        self.sizes = {name: sizes[name] for name in same if name not in self.small}
        self._terms = Terms.of(self._segments.segments)
        self._begin = ledger.at or 0
        self._frame = _by_user(ledger.state_frame(), self.names) if wanted else pl.DataFrame()
        self._kept: OrderedDict[str, Standing] = OrderedDict()
        self._lock = Lock()

    def of(self, histories: Histories, at: NDArray[np.int64], judge: Judge) -> list[Mapping[str, tuple[bool, int]]]:
        """Per row and segment whether the person is in, and when time alone may change that."""
        if not self.names:
            return [{}] * len(histories)
        found = [self._standing(histories.take(np.array([row])), int(at[row]), judge) for row in range(len(histories))]
        return [
            {name: (inside, each.due) for name, inside in zip(self.names, each.states.inside[0].tolist(), strict=True)}
            for each in found
        ]

    def explain(self, one: Histories, at: int, judge: Judge) -> dict[str, tuple[bool, dict[str, str | None]]]:
        """Per segment whether the person of the only row is in, and the times of that."""
        if not self.names:
            return {}
        states, told = self._standing(one, at, judge).states, {}
        for k, segment in enumerate(self._segments.segments):
            inside, entered, left = (each[0, k].item() for each in (states.inside, states.entered, states.left))
            told[segment.name] = inside, dates(segment, inside=inside, entered=entered, left=left)
        return told

    def _standing(self, one: Histories, at: int, judge: Judge) -> Standing:
        user, n_records = str(one.users[0]), int(one.ends[0] - one.starts[0])
        with self._lock:
            held = self._kept.get(user)
        if held is not None and held.n_records == n_records and held.at <= at < held.due:
            return held
        states, since = (
            held.settled if held is not None and held.settled[1] <= at else (self._applied(user), self._since(one, at))
        )
        middle = max(since, at - UNSETTLED)
        settled, _ = self._folded(one, states, since, middle, judge)
        now, due = self._folded(one, settled, middle, at, judge)
        made = Standing(at, now, due, n_records, (settled, middle))
        with self._lock:
            self._kept[user] = made
            self._kept.move_to_end(user)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return made

    def _since(self, one: Histories, at: int) -> int:
        """Where the fold begins: when the ledger was written, or when the first was known of who was not seen then."""
        if one.carry is not None and one.carry[0, 1 + one.schema.lifetime.index(FIRST_SEEN)] != MISSING:
            return self._begin  # what is folded was known long before
        slots = one.slots[one.starts[0] : one.ends[0]]
        known = np.maximum(slots[:, TS], slots[:, KNOWN])
        return max(self._begin, int(known.min(initial=at)))

    def _folded(self, one: Histories, states: States, since: int, at: int, judge: Judge) -> tuple[States, int]:
        moments = Moments.of(one, self._segments.segments, since, at, {})
        instants = np.array([since], np.int64), np.array([at], np.int64)
        later, _, due = fold(states, self._terms, lambda _, now: judge(self._segments, one, now), moments, *instants)
        return later, int(due[0])

    def _applied(self, user: str) -> States:
        """What the ledger says of a user."""
        states, keys = States.new(1, len(self.names)), self._frame["key"]
        low, high = (keys.search_sorted(hash_text(user), side) for side in ("left", "right"))
        mine = self._frame[low:high].filter(pl.col("user") == user)
        part = States(*(mine[name].to_numpy() for name in ("inside", "entered", "left", "ready")))
        states.put(part, np.zeros(mine.height, np.int64), mine["place"].to_numpy())
        return states


def _by_user(frame: pl.DataFrame, names: tuple[str, ...]) -> pl.DataFrame:
    """The states of these segments, in order of the users' hashes."""
    places = pl.DataFrame({"segment": names, "place": np.arange(len(names))})
    mine = frame.join(places, on="segment")
    return mine.with_columns(stable_hash(mine["user"]).alias("key")).sort("key")
