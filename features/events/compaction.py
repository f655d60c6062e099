"""Compaction: from parts to user-hash buckets of sorted, de-duplicated runs; identity is resolved on the way.

A bucket's folder is named by a digest of what its events come from. A bucket that is there already is not made again:
new parts, links, erasures and parts that are gone cost the buckets of the persons whom they touch.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import sha256
from json import dumps, loads
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import LogError
from features.events.batch import PREFIX, as_stored
from features.events.bucket import KEPT, Bucket, Piece
from features.events.ordering import dealt
from features.events.parts import Block, Parts, write_json
from features.events.persons import Persons, Share
from features.events.plan import TrackingPlan
from features.people import hash_text

MANIFEST = "manifest.json"
BUCKET_ROWS = 1 << 18
MEMORY_ROWS = 1 << 24
"""Events that are sorted in memory at once, some 130 bytes each."""

FORMAT = 1
"""To be raised where the same parts give other buckets than before."""


@dataclass(frozen=True)
class Manifest:
    """What a compaction made, of what.

    Attributes:
        inputs: Name and stamp of every part, and the rules.
        identity: The folder of links and identity.
        buckets: A power of two, in order of their place.
        merged: Ids that belong to another, canonical id.
    """

    inputs: list[list[str]]
    identity: str
    buckets: list[Bucket]
    merged: int

    @classmethod
    def read(cls, folder: Path) -> "Manifest | None":
        """The manifest in a folder, if there is one."""
        try:
            data = loads((folder / MANIFEST).read_text(encoding="utf-8"))
            return cls(**{**data, "buckets": [Bucket(**each) for each in data["buckets"]]})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            raise LogError(f"{folder / MANIFEST} is damaged. Hint: remove it and run again.") from None

    @property
    def n_buckets(self) -> int:
        """How many there are."""
        return len(self.buckets)

    @property
    def rows(self) -> int:
        """Events."""
        return sum(each.rows for each in self.buckets)

    @property
    def users(self) -> int:
        """Persons."""
        return sum(each.users for each in self.buckets)

    @property
    def first(self) -> int:
        """Earliest ts; 0 without events."""
        return min((each.first for each in self.buckets if each.rows), default=0)

    @property
    def last(self) -> int:
        """Latest ts; 0 without events."""
        return max((each.last for each in self.buckets if each.rows), default=0)

    @property
    def duplicates(self) -> int:
        """Copies that were left out."""
        return sum(each.duplicates for each in self.buckets)

    @property
    def too_fast(self) -> int:
        """Persons whom the too-fast rule found."""
        return sum(each.too_fast for each in self.buckets)


def bucket_of(user: str, n_buckets: int) -> int:
    """The bucket of a canonical id: the low bits of its xxh64."""
    return hash_text(user) & (n_buckets - 1)


def compact(
    parts: Parts, folder: Path, plan: TrackingPlan, *, bucket_rows: int = BUCKET_ROWS, purge: bool = False
) -> Manifest:
    """Bring the buckets up to date; nothing happens where the parts have not changed.

    Args:
        parts: Everything ingested.
        folder: Where buckets and the manifest live; the manifest is replaced last, at one stroke.
        plan: Its too-fast rule, and which properties are categories.
        bucket_rows: Aim at this many events a bucket.
        purge: Leave nothing of what was there before, not even for those who are reading it.
    """
    categories = sorted(name for name, spec in plan.properties.items() if spec.type == "category")
    rules = _digest([FORMAT, plan.too_fast.model_dump() if plan.too_fast else None, categories])
    inputs = [*parts.inputs(), ["rules", f"{rules}-{bucket_rows}"]]
    before = Manifest.read(folder)
    if before is not None and before.inputs == inputs and not purge:
        return before
    after = _Compaction(parts, folder, plan, rules, bucket_rows).run(inputs)
    write_json(folder / MANIFEST, asdict(after))
    _clear(folder, [after] if purge or before is None else [after, before])
    return after


def _digest(value: object) -> str:
    return sha256(dumps(value).encode()).hexdigest()[:16]


def _clear(folder: Path, manifests: Sequence[Manifest]) -> None:
    named = {each.name for manifest in manifests for each in manifest.buckets}
    named.update(manifest.identity for manifest in manifests)
    for path in folder.iterdir():
        if path.is_dir() and path.name not in named:
            shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True)
class Source:
    """A block, and how its events are dealt to buckets."""

    block: Block
    coarse: bool
    share: Share


class _Compaction:
    """One run."""

    def __init__(self, parts: Parts, folder: Path, plan: TrackingPlan, rules: str, bucket_rows: int) -> None:
        headers = [(part, part.header()) for part in parts]
        listed = [(block, header, place) for part, header in headers for place, block in enumerate(part.blocks)]
        self._folder = folder
        self._plan = plan
        self._persons = Persons.of([block for block, _, _ in listed], bucket_rows=bucket_rows)
        salts = [f"{header['content']}-{place}" for _, header, place in listed]
        self._names = [
            f"{place:04}-{_digest([rules, len(self._persons.users), int(digest)])}"
            for place, digest in enumerate(self._persons.digests(salts))
        ]
        coarse = [bool(header.get("coarse_clock")) for _, header, _ in listed]
        blocks = [block for block, _, _ in listed]
        self._sources = [Source(*each) for each in zip(blocks, coarse, self._persons.shares, strict=True)]

    def run(self, inputs: list[list[str]]) -> Manifest:
        """Make what is not there."""
        there = {name: found for name in self._names if (found := Bucket.found(self._folder / name)) is not None}
        wanted = [place for place, name in enumerate(self._names) if name not in there]
        for group in self._groups(wanted):
            there |= {each.name: each for each in self._made(group)}
        merged = int((self._persons.identity["id"] != self._persons.identity["canonical"]).sum())
        return Manifest(inputs, self._identity(), [there[name] for name in self._names], merged)

    def _identity(self) -> str:
        links, identity = self._persons.links, self._persons.identity
        path = self._folder / f"identity-{_digest(links.rows())}"
        path.mkdir(exist_ok=True)
        links.write_parquet(path / "links.parquet")
        identity.write_parquet(path / "identity.parquet")
        return path.name

    def _groups(self, wanted: Sequence[int]) -> Iterator[list[int]]:
        """Buckets that are sorted together: as many as are to be held in memory."""
        group: list[int] = []
        rows = 0
        for place in wanted:
            size = int(self._persons.sizes[place])
            if group and rows + size > MEMORY_ROWS:
                yield group
                group, rows = [], 0
            group, rows = [*group, place], rows + size
        if group:
            yield group

    def _made(self, group: Sequence[int]) -> Iterator[Bucket]:
        """Each block is dealt out to its buckets first: a bucket then fits the processor's cache when it is sorted."""
        piles = np.full(len(self._names) + 1, -1, np.int64)  # the last is that of erased ids
        piles[group] = np.arange(len(group))
        touching = [source for source in self._sources if (piles[source.share.bucket] >= 0).any()]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            dealt_out = list(pool.map(lambda source: deal(source, self._plan, piles, len(group)), touching))

            def settle(pile: int) -> Bucket:
                pieces = [Piece(frame[starts[pile] : starts[pile + 1]], same) for (frame, same), starts in dealt_out]
                place = group[pile]
                path = self._folder / self._names[place]
                return Bucket.write(path, pieces, self._persons.users[place], self._plan.too_fast)

            yield from pool.map(settle, range(len(group)))


def deal(source: Source, plan: TrackingPlan, piles: NDArray[np.int64], n_piles: int) -> tuple[Piece, list[int]]:
    """A block's events pile by pile.

    Args:
        source: The block.
        plan: Which properties are categories.
        piles: Per bucket; -1 where the events are left out. The last one stands for bucket -1.
        n_piles: Number of piles.

    Returns:
        What `Bucket.write` takes, and where each pile begins, n_piles + 1 places.
    """
    file, share = source.block.events, source.share
    held = [name for name in pl.read_parquet_schema(file) if name in (*KEPT, "person") or name.startswith(PREFIX)]
    frame = as_stored(pl.read_parquet(file, columns=held), plan)
    person = frame["person"].to_numpy()
    order, starts = dealt(person, piles[share.bucket], n_piles)
    piece = Piece.of(frame.drop("person").with_columns(pl.col("seq").fill_null(0), coarse=pl.lit(source.coarse)))
    person, frame = person[order], piece.frame[order]
    frame = frame.with_columns(place=share.place[person].astype(np.uint32))
    if share.joined.any():
        frame = frame.with_columns(known=np.maximum(frame["received"].to_numpy(), share.joined[person]))
    return Piece(frame, piece.same), starts.tolist()
