"""Compaction: from parts to user-hash buckets of sorted, de-duplicated runs; identity is resolved on the way."""

import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from json import dumps, loads
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.errors import LogError
from features.events import identity
from features.events.batch import FIELDS, PREFIX
from features.events.ordering import order_of
from features.events.parts import Parts, write_json
from features.events.plan import Rates, TrackingPlan
from features.instants import SECOND
from features.people import hash_text, stable_hash

MANIFEST = "manifest.json"
BUCKET_ROWS = 1 << 20
MEMORY_ROWS = 1 << 25
"""Events that are sorted in memory at once, some 130 bytes each."""

IDS = ("user_id", "anonymous_id")
PERSON = pl.coalesce(*IDS)
KEPT = ("source", "id", "event", "ts", "received", "seq", "offset", "consent", "device", "mark")
OUT = (
    "user",
    "event",
    "ts",
    "received",
    "known",
    "until",
    "id",
    "seq",
    "offset",
    "consent",
    "device",
    "mark",
    "source",
)


@dataclass(frozen=True)
class Manifest:
    """What a compaction made, of what.

    Attributes:
        inputs: Name and stamp of every part.
        generation: The folder of its buckets.
        n_buckets: A power of two.
        rows: Events in the buckets.
        users: Distinct persons.
        first: Earliest ts; 0 without events.
        last: Latest ts.
        duplicates: Copies that were left out.
        merged: Ids that belong to another, canonical id.
        too_fast: Persons whom the too-fast rule found.
    """

    inputs: list[list[str]]
    generation: str
    n_buckets: int
    rows: int
    users: int
    first: int
    last: int
    duplicates: int
    merged: int
    too_fast: int

    @classmethod
    def read(cls, folder: Path) -> "Manifest | None":
        """The manifest in a folder, if there is one."""
        try:
            return cls(**loads((folder / MANIFEST).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            raise LogError(f"{folder / MANIFEST} is damaged. Hint: remove it and run again.") from None


def bucket_of(user: str, n_buckets: int) -> int:
    """The bucket of a canonical id: the low bits of its xxh64."""
    return hash_text(user) & (n_buckets - 1)


def bucket_path(folder: Path, manifest: Manifest, bucket: int) -> Path:
    """The file of a bucket."""
    return folder / manifest.generation / f"bucket-{bucket:04}.parquet"


def compact(parts: Parts, folder: Path, plan: TrackingPlan, *, bucket_rows: int = BUCKET_ROWS) -> Manifest:
    """Bring the buckets up to date; nothing happens where the parts have not changed.

    Args:
        parts: Everything ingested.
        folder: Where generations of buckets and the manifest live; the manifest is replaced last, at one stroke.
        plan: Its too-fast rule.
        bucket_rows: Aim at this many events a bucket.
    """
    inputs = [*parts.inputs(), ["plan", _digest([plan.too_fast.model_dump() if plan.too_fast else None, bucket_rows])]]
    current = Manifest.read(folder)
    if current is not None and current.inputs == inputs:
        return current
    generation = _digest(inputs)
    made = _Generation(parts, folder / generation, plan.too_fast, bucket_rows).write()
    manifest = Manifest(inputs=inputs, generation=generation, **made)
    write_json(folder / MANIFEST, manifest.__dict__)
    for stale in folder.iterdir():
        if stale.is_dir() and stale.name not in (generation, current.generation if current else generation):
            shutil.rmtree(stale, ignore_errors=True)
    return manifest


def _digest(value: object) -> str:
    return sha256(dumps(value).encode()).hexdigest()[:16]


class _Generation:
    """One run of compaction."""

    def __init__(self, parts: Parts, folder: Path, rates: Rates | None, bucket_rows: int) -> None:
        self._files = [(file, bool(part.header().get("coarse_clock"))) for part in parts for file in part.events]
        self._folder = folder
        self._rates = rates
        self._bucket_rows = bucket_rows

    def write(self) -> dict[str, Any]:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        links, people = self._people()
        links.write_parquet(self._folder / "links.parquet")
        people.write_parquet(self._folder / "identity.parquet")
        ids, users, ends = self._ids(people)
        totals = [total for group in self._groups(len(ends)) for total in self._group(group, ids, users, ends)]
        rows, firsts, lasts, duplicates, fast = zip(*totals, strict=True)
        return {
            "n_buckets": len(ends),
            "rows": sum(rows),
            "users": len(users),
            "first": min((first for first in firsts if first), default=0),
            "last": max(lasts),
            "duplicates": sum(duplicates),
            "merged": int((people["id"] != people["canonical"]).sum()),
            "too_fast": sum(fast),
        }

    def _people(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        columns = ["event", "user_id", "anonymous_id", "previous_id", "received"]
        schema = {name: FIELDS[name] for name in columns}
        said = [pl.scan_parquet(file).select(columns) for file, _ in self._files]
        links = identity.links(pl.concat([pl.LazyFrame(schema=schema), *said]))
        return links, identity.resolve(links)

    def _ids(self, people: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series, list[int]]:
        """Every id as columns raw, code, joined; the users by code; per bucket, where its codes end."""
        files = [file for file, _ in self._files]
        read = [pl.read_parquet(file, columns=list(IDS)) for file in files]
        total = sum(frame.height for frame in read)
        raw = pl.concat(
            [pl.DataFrame(schema={"raw": pl.String}), *[f.select(PERSON.unique().alias("raw")) for f in read]]
        )
        table = raw.unique().join(people, left_on="raw", right_on="id", how="left")
        table = table.with_columns(user=pl.coalesce("canonical", "raw"))
        users = table.select(pl.col("user").unique())
        n_buckets = 1 << max(0, (max(total, 1) - 1) // self._bucket_rows).bit_length()
        bucket = (stable_hash(users["user"]) & (n_buckets - 1)).alias("bucket")
        users = users.with_columns(bucket).sort("bucket", "user").with_row_index("code")
        ends = np.searchsorted(users["bucket"].to_numpy(), np.arange(n_buckets), "right")
        ids = table.join(users, on="user", how="left").select(
            "raw", "code", "bucket", pl.col("joined").fill_null(identity.ALWAYS)
        )
        return ids, users["user"], [int(end) for end in ends]

    def _groups(self, n_buckets: int) -> Iterator[range]:
        """Buckets that are sorted together: as many as are to be held in memory."""
        size = max(1, MEMORY_ROWS // self._bucket_rows)
        for start in range(0, n_buckets, size):
            yield range(start, min(n_buckets, start + size))

    def _group(
        self, group: range, ids: pl.DataFrame, users: pl.Series, ends: list[int]
    ) -> Iterator[tuple[int, int, int, int, int]]:
        """Each file is dealt out to its buckets first: a bucket then fits the processor's cache when it is sorted."""
        pieces: dict[int, list[pl.DataFrame]] = defaultdict(list)
        own = ids.filter(pl.col("bucket").is_between(group.start, group.stop, closed="left"))
        for file, coarse in self._files:
            dealt = self._read(file, coarse, own).partition_by("bucket", as_dict=True, include_key=False)
            for (bucket,), piece in dealt.items():
                pieces[int(bucket)].append(piece)
        for bucket in group:
            frame = pl.concat([pl.DataFrame(schema=_EMPTY), *pieces.pop(bucket, [])], how="diagonal", rechunk=True)
            low = ends[bucket - 1] if bucket else 0
            code = frame["code"].to_numpy() - np.uint32(low)
            ts, seq, identifier = (frame[name].to_numpy() for name in ("ts", "seq", "id"))
            order, _ = order_of(code, ts, seq, identifier, ends[bucket] - low)
            yield self._bucket(bucket, frame[order], users)

    def _read(self, file: Path, coarse: bool, own: pl.DataFrame) -> pl.DataFrame:
        held = [name for name in pl.read_parquet_schema(file) if name in KEPT or name.startswith(PREFIX)]
        frame = pl.read_parquet(file, columns=[*held, *IDS]).with_columns(PERSON.alias("raw")).drop(IDS)
        joined = frame.join(own, on="raw", how="inner", maintain_order="left").drop("raw")
        known = pl.max_horizontal("received", "joined")
        joined = joined.with_columns(known=known, seq=pl.col("seq").fill_null(0), coarse=pl.lit(coarse))
        return joined.drop("joined")

    def _bucket(self, bucket: int, frame: pl.DataFrame, users: pl.Series) -> tuple[int, int, int, int, int]:
        height = frame.height
        frame, fast = too_fast(_first_known(frame).with_columns(until=pl.lit(None, pl.Int64)), self._rates)
        properties = sorted(name for name in frame.columns if name.startswith(PREFIX))
        frame = frame.with_columns(
            users.gather(frame["code"]).alias("user") if frame.height else pl.lit("").alias("user")
        )
        out = frame.select(*OUT, *properties)
        path = self._folder / f"bucket-{bucket:04}.parquet"
        out.write_parquet(path, compression="lz4", statistics=False)
        first, last = out.select(pl.col("ts").min().fill_null(0), last=pl.col("ts").max().fill_null(0)).row(0)
        return frame.height, first, last, height - frame.height, fast


_EMPTY: dict[str, pl.DataType] = {
    **{name: FIELDS[name] for name in KEPT},
    "code": pl.UInt32(),
    "known": pl.Int64(),
    "coarse": pl.Boolean(),
}


def _first_known(frame: pl.DataFrame) -> pl.DataFrame:
    """A sorted bucket without copies: of one person's events of one source and id, the first known stays."""
    if frame["id"].n_unique() == frame.height:
        return frame
    copies = frame.select("code", "source", "id", "known", "received", "ts", "seq", "event").with_row_index("place")
    copies = copies.filter(pl.col("id").is_duplicated()).sort("known", "received", "ts", "seq", "event", "place")
    kept = copies.unique(["code", "source", "id"], keep="first")
    dropped = np.setdiff1d(copies["place"].to_numpy(), kept["place"].to_numpy())
    return frame.filter(pl.Series(~np.isin(np.arange(frame.height), dropped)))


def too_fast(frame: pl.DataFrame, rates: Rates | None) -> tuple[pl.DataFrame, int]:
    """The too-fast rule over a sorted bucket, whatever file or request brought each event.

    The verdict over a person falls when the last event of the first such burst is known: what was known before counts
    until then, what comes after is marked. Files whose clock tells only minutes are left out: a minute is no burst.

    Returns:
        The bucket with `mark` and `until` set, and the number of persons found.
    """
    frame = frame.with_columns(mark=pl.when(pl.col("mark") != "too_fast").then("mark"))
    if rates is None or frame.height <= rates.events:
        return frame, 0
    usable = np.flatnonzero((frame["mark"].is_null() & ~frame["coarse"]).to_numpy())
    code, ts, known = (frame[name].to_numpy()[usable].astype(np.int64) for name in ("code", "ts", "known"))
    n = rates.events
    bursts = np.flatnonzero((code[n:] == code[:-n]) & (ts[n:] - ts[:-n] < rates.seconds * SECOND))
    if not len(bursts):
        return frame, 0
    verdicts = np.array([known[start : start + n + 1].max() for start in bursts])
    table = (
        pl.DataFrame({"code": code[bursts].astype(np.uint32), "verdict": verdicts})
        .group_by("code")
        .agg(pl.col("verdict").min())
    )
    judged = frame.join(table, on="code", how="left", maintain_order="left")
    late = pl.col("verdict").is_not_null() & (pl.col("known") >= pl.col("verdict"))
    early = pl.col("verdict").is_not_null() & (pl.col("known") < pl.col("verdict"))
    judged = judged.with_columns(
        mark=pl.coalesce("mark", pl.when(late).then(pl.lit("too_fast"))),
        until=pl.min_horizontal("until", pl.when(early).then("verdict")),
    )
    return judged.drop("verdict"), table.height
