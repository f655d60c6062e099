"""Engine: where buckets are made and worked on: the cores of this machine, or what else keeps the protocol."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_AS, RLIMIT_DATA, getrlimit
from typing import Protocol, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.events.batch import PREFIX, as_stored
from features.events.bucket import KEPT, Bucket, Piece
from features.events.ordering import dealt
from features.events.parts import Block
from features.events.persons import Share
from features.events.plan import TrackingPlan

CONTAINER = Path("/sys/fs/cgroup/memory.max")
"""Where Linux says what a container may take."""

T = TypeVar("T")
R = TypeVar("R")

MOST = 1 << 24
"""Events that are sorted at once where memory is plenty; more at once are not faster."""

EVENT_BYTES = 130
"""What an event takes while it is dealt out and sorted."""


@dataclass(frozen=True)
class Source:
    """A block of events, and whose they are.

    Attributes:
        block: Its files.
        coarse: Whether its clock tells only minutes.
        restated: Whether a row replaces what was said under its id before.
        share: Its ids.
    """

    block: Block
    coarse: bool
    restated: bool
    share: Share

    def deal(self, plan: TrackingPlan, piles: NDArray[np.int64], n_piles: int) -> tuple[Piece, NDArray[np.int64]]:
        """The events pile by pile.

        Args:
            plan: Which properties are categories.
            piles: Per bucket; -1 where the events are left out. A last one stands for bucket -1.
            n_piles: Number of piles.

        Returns:
            What `Bucket.write` takes, and where each pile begins, n_piles + 1 places.
        """
        held = pl.read_parquet_schema(self.block.events)
        columns = [name for name in held if name in (*KEPT, "person") or name.startswith(PREFIX)]
        frame = as_stored(pl.read_parquet(self.block.events, columns=columns), plan)
        person = frame["person"].to_numpy()
        order, starts = dealt(person, piles[self.share.bucket], n_piles)
        told = {"coarse": pl.lit(self.coarse), "restated": pl.lit(self.restated)}
        piece = Piece.of(frame.drop("person").with_columns(pl.col("seq").fill_null(0), **told))
        person, frame = person[order], piece.frame[order]
        frame = frame.with_columns(place=self.share.place[person])
        if self.share.joined.any():
            frame = frame.with_columns(known=np.maximum(frame["received"].to_numpy(), self.share.joined[person]))
        return Piece(frame, piece.same), starts


@dataclass(frozen=True)
class Job:
    """Buckets to be made.

    Attributes:
        folder: Of all buckets.
        plan: Its too-fast rule, and which properties are categories.
        sources: All blocks.
        names: Of all buckets, in order of their place.
        users: What `Bucket.write` takes, of all buckets.
        sizes: Events of all buckets.
    """

    folder: Path
    plan: TrackingPlan
    sources: Sequence[Source]
    names: Sequence[str]
    users: Sequence[pl.DataFrame]
    sizes: Sequence[int]

    def piles(self, group: Sequence[int]) -> NDArray[np.int64]:
        """What `Source.deal` takes, to deal to these buckets."""
        piles = np.full(len(self.names) + 1, -1, np.int64)
        piles[group] = np.arange(len(group))
        return piles

    def settle(self, place: int, pieces: Sequence[Piece]) -> Bucket:
        """Make one bucket of what was dealt to it."""
        return Bucket.write(self.folder / self.names[place], pieces, self.users[place], self.plan.too_fast)


class Engine(Protocol):
    """Does the same work on many things."""

    def map(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """What the work makes of each, in order."""

    def make(self, job: Job, places: Sequence[int]) -> Iterator[Bucket]:
        """The buckets of these places."""


def engine_named(name: str) -> Engine:
    """The engine that a command asks for: `local` or `spark`.

    Raises:
        EngineError: Spark is not installed, or does not start.
    """
    if name == "local":
        return Cores()
    from features.spark import Cluster, session

    return Cluster(session())


def memory() -> int:
    """Bytes that this process may take: what the machine has, or what a container or a limit leaves of it."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    limits += [limit for kind in (RLIMIT_AS, RLIMIT_DATA) if (limit := getrlimit(kind)[0]) != RLIM_INFINITY]
    if CONTAINER.exists() and (told := CONTAINER.read_text(encoding="ascii").strip()).isdigit():
        limits.append(int(told))
    return min(limits)


class Cores:
    """All cores of this machine, and half of its memory."""

    def map(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """What the work makes of each, in order, at most a few ahead of who takes it."""
        n_cores = os.cpu_count() or 1
        with ThreadPoolExecutor(n_cores) as pool:
            running = deque(pool.submit(work, item) for item in items[:n_cores])
            for item in items[n_cores:]:
                yield running.popleft().result()
                running.append(pool.submit(work, item))
            while running:
                yield running.popleft().result()

    def make(self, job: Job, places: Sequence[int]) -> Iterator[Bucket]:
        """The buckets of these places, as many at once as are to be held in memory."""
        most = min(MOST, memory() // 2 // EVENT_BYTES)
        group: list[int] = []
        for place in places:
            if group and sum(job.sizes[each] for each in [*group, place]) > most:
                yield from self._made(job, group)
                group = []
            group.append(place)
        if group:
            yield from self._made(job, group)

    def _made(self, job: Job, group: Sequence[int]) -> Iterator[Bucket]:
        """Each block is dealt out to its buckets first: a bucket then fits the processor's cache when it is sorted."""
        piles = job.piles(group)
        touching = [source for source in job.sources if (piles[source.share.bucket] >= 0).any()]
        dealt_out = list(self.map(lambda source: source.deal(job.plan, piles, len(group)), touching))

        def settle(pile: int) -> Bucket:
            pieces = [Piece(frame[starts[pile] : starts[pile + 1]], same) for (frame, same), starts in dealt_out]
            return job.settle(group[pile], pieces)

        yield from self.map(settle, range(len(group)))
