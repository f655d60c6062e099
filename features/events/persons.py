"""Persons: whose the events of every block are, since when, and in which bucket; no event is read to know it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.events import identity
from features.events.parts import Block, numbered
from features.people import hash_text, stable_hash

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Share:
    """The ids of one block; every array has shape (n_ids,).

    Attributes:
        bucket: Of the person; -1 for an id that was erased.
        place: Of the person among the bucket's persons.
        joined: Instant from which the id's events are the person's.
        digest: Of the id, the person, `joined` and the number of the id's events, as uint64.
    """

    bucket: NDArray[np.int32]
    place: NDArray[np.uint32]
    joined: Ints
    digest: NDArray[np.uint64]


@dataclass(frozen=True)
class Persons:
    """Everybody in some blocks.

    Attributes:
        links: What identify and alias said: columns a, b, at.
        identity: Every linked id, as `identity.resolve` gives it.
        users: Per bucket its persons' canonical ids, in order.
        sizes: Per bucket its events, copies included.
        shares: Per block.
    """

    links: pl.DataFrame
    identity: pl.DataFrame
    users: list[pl.Series]
    sizes: Ints
    shares: list[Share]

    @classmethod
    def of(cls, blocks: Sequence[Block], *, bucket_rows: int) -> Self:
        """The persons of blocks, in as many buckets (a power of two) as hold about `bucket_rows` events each."""
        links = identity.merged(pl.read_parquet(block.links) for block in blocks if block.links.exists())
        resolved = identity.resolve(links)
        read = [pl.read_parquet(block.people) for block in blocks]
        places, ids = numbered(pl.concat([pl.Series("id", dtype=pl.String), *(frame["id"] for frame in read)]))
        counts = [frame.select("n", erased=pl.col("id").is_null()) for frame in read]
        del read  # the texts of all ids are most of what there is
        total = sum(int(frame["n"].sum()) for frame in counts)
        n_buckets = 1 << max(0, (max(total, 1) - 1) // bucket_rows).bit_length()
        table = _table(ids, resolved, n_buckets)
        everybody = table.select("bucket", "user", "place").unique().sort("bucket", "place")
        ends = np.searchsorted(everybody["bucket"].to_numpy(), np.arange(n_buckets), "right")
        users = [everybody["user"][int(low) : int(high)] for low, high in pairwise([0, *ends])]
        shares, sizes = _shares(counts, table.drop("user"), places, n_buckets)
        return cls(links, resolved, users, sizes, shares)

    @property
    def merged(self) -> int:
        """Ids that belong to another, canonical id."""
        return int((self.identity["id"] != self.identity["canonical"]).sum())

    def digests(self, salts: Sequence[str]) -> list[NDArray[np.uint64]]:
        """Per bucket and person what the person's events come from, whatever the order of the blocks.

        Args:
            salts: Per block, what tells its content from that of others.
        """
        starts = np.cumsum([0, *(len(users) for users in self.users)])
        total = np.zeros(starts[-1], np.uint64)
        for share, salt in zip(self.shares, salts, strict=True):
            held = share.bucket >= 0
            salted = _mixed(share.digest + np.int64(hash_text(salt)).view(np.uint64))
            np.add.at(total, starts[share.bucket[held]] + share.place[held], salted[held])
        return [total[low:high] for low, high in pairwise(starts.tolist())]


def _table(ids: pl.Series, resolved: pl.DataFrame, n_buckets: int) -> pl.DataFrame:
    """Per id: user, joined, bucket, place and the hashes of id and user."""
    table = ids.to_frame("id").join(resolved, on="id", how="left", maintain_order="left")
    table = table.select("id", user=pl.coalesce("canonical", "id"), joined=pl.col("joined").fill_null(identity.ALWAYS))
    hashes = stable_hash(table["user"]).alias("hash")
    table = table.with_columns(hashes, id_hash=stable_hash(table["id"])).drop("id")
    table = table.with_columns(bucket=pl.col("hash") & (n_buckets - 1))
    return table.with_columns(place=pl.col("user").rank("dense").over("bucket").cast(pl.Int64) - 1)


def _shares(
    counts: Sequence[pl.DataFrame], numbers: pl.DataFrame, places: NDArray[np.uint32], n_buckets: int
) -> tuple[list[Share], Ints]:
    """Per block, one after the other, and the buckets' numbers of events."""
    shares, sizes, low = [], np.zeros(n_buckets, np.int64), 0
    for frame in counts:
        share = _share(frame, numbers, places[low : low + frame.height])
        held = share.bucket >= 0
        np.add.at(sizes, share.bucket[held], frame["n"].to_numpy()[held])
        shares.append(share)
        low += frame.height
    return shares, sizes


def _share(counts: pl.DataFrame, numbers: pl.DataFrame, places: NDArray[np.uint32]) -> Share:
    """Of one block's ids: their numbers of events, and where they stand in the table."""
    rows = numbers[places] if numbers.height else numbers.clear(len(places)).fill_null(0)  # all ids were erased
    bucket = np.where(counts["erased"].to_numpy(), -1, rows["bucket"].to_numpy()).astype(np.int32)
    digest = np.zeros(len(bucket), np.uint64)
    for each in (rows["id_hash"], rows["hash"], rows["joined"], counts["n"]):
        digest = _mixed(digest + each.to_numpy().view(np.uint64))
    return Share(bucket, rows["place"].to_numpy().astype(np.uint32), rows["joined"].to_numpy(), digest)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: sums of what it gives do not cancel."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
