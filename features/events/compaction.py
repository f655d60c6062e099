"""Compaction: from parts to user-hash buckets of sorted, de-duplicated runs; identity is resolved on the way."""

import shutil
from collections import defaultdict
from dataclasses import dataclass
from hashlib import sha256
from json import dumps, loads
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.errors import LogError
from features.events import identity
from features.events.batch import PREFIX
from features.events.parts import Parts, write_json
from features.events.plan import Rates, TrackingPlan
from features.instants import SECOND
from features.people import hash_text

MANIFEST = "manifest.json"
BUCKET_ROWS = 1 << 20
PERSON = pl.coalesce("user_id", "anonymous_id")
KEPT = ("source", "id", "event", "ts", "received", "seq", "offset", "consent", "device", "mark")
ORDER = ("user", "ts", "seq", "id")


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
        ids, users, n_buckets = self._ids(people)
        pieces = self._split(ids, n_buckets)
        totals = [self._bucket(bucket, pieces.pop(bucket, []), users) for bucket in range(n_buckets)]
        rows, firsts, lasts, duplicates, fast = zip(*totals, strict=True)
        return {
            "n_buckets": n_buckets,
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
        files = [file for file, _ in self._files]
        said = (
            pl.scan_parquet(files, missing_columns="insert", extra_columns="ignore").select(columns) if files else None
        )
        links = identity.links(said if said is not None else pl.DataFrame(schema=dict.fromkeys(columns, pl.String)))
        links = links.cast({"at": pl.Int64})
        return links, identity.resolve(links)

    def _ids(self, people: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series, int]:
        """Every id as columns raw, code (place of its canonical id in `users`), bucket, joined."""
        raws = [
            pl.read_parquet(file, columns=["user_id", "anonymous_id"]).select(PERSON.unique().alias("raw"))
            for file, _ in self._files
        ]
        raw = pl.concat([pl.DataFrame(schema={"raw": pl.String}), *raws]).unique()
        table = raw.join(people, left_on="raw", right_on="id", how="left").with_columns(
            user=pl.coalesce("canonical", "raw")
        )
        users = table["user"].unique().sort()
        total = sum(pl.scan_parquet(file).select(pl.len()).collect().item() for file, _ in self._files)
        n_buckets = 1 << max(0, (max(total, 1) - 1) // self._bucket_rows).bit_length()
        buckets = pl.Series("bucket", [bucket_of(user, n_buckets) for user in users], dtype=pl.UInt16)
        codes = pl.DataFrame(
            {"user": users, "code": pl.int_range(len(users), dtype=pl.UInt32, eager=True), "bucket": buckets}
        )
        ids = table.join(codes, on="user", how="left").select(
            "raw", "code", "bucket", pl.col("joined").fill_null(identity.ALWAYS)
        )
        return ids, users, n_buckets

    def _split(self, ids: pl.DataFrame, n_buckets: int) -> dict[int, list[pl.DataFrame]]:
        pieces: dict[int, list[pl.DataFrame]] = defaultdict(list)
        for file, coarse in self._files:
            frame = pl.read_parquet(file)
            held = [name for name in frame.columns if name in KEPT or name.startswith(PREFIX)]
            frame = frame.select(*held, PERSON.alias("raw")).join(ids, on="raw", how="left", maintain_order="left")
            frame = frame.with_columns(
                known=pl.max_horizontal("received", "joined"), seq=pl.col("seq").fill_null(0), coarse=pl.lit(coarse)
            ).drop("raw", "joined")
            for (bucket,), piece in frame.partition_by("bucket", as_dict=True, include_key=False).items():
                pieces[int(bucket)].append(piece)
        return pieces

    def _bucket(self, bucket: int, pieces: list[pl.DataFrame], users: pl.Series) -> tuple[int, int, int, int, int]:
        if not pieces:
            pieces = [pl.DataFrame(schema=_EMPTY)]
        frame = pl.concat(pieces, how="diagonal")
        height = frame.height
        if frame["id"].n_unique() < height:
            frame = frame.sort("known", "received", "ts", "seq", *_tie(frame)).unique(
                ["code", "source", "id"], keep="first"
            )
        frame = frame.sort("code", "ts", "seq", "id", *_tie(frame)).with_columns(until=pl.lit(None, pl.Int64))
        frame, fast = too_fast(frame, self._rates)
        properties = sorted(name for name in frame.columns if name.startswith(PREFIX))
        out = frame.select(
            users.gather(frame["code"]).alias("user") if frame.height else pl.lit(None, pl.String).alias("user"),
            *[
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
            ],
            *properties,
        )
        out.write_parquet(self._folder / f"bucket-{bucket:04}.parquet", compression="lz4")
        first, last = out.select(pl.col("ts").min().fill_null(0), last=pl.col("ts").max().fill_null(0)).row(0)
        return frame.height, first, last, height - frame.height, fast


_EMPTY = {
    "source": pl.String, "id": pl.Int64, "event": pl.String, "ts": pl.Int64, "received": pl.Int64, "seq": pl.Int64,
    "offset": pl.Int16, "consent": pl.Int8, "device": pl.String, "mark": pl.String, "code": pl.UInt32,
    "known": pl.Int64, "coarse": pl.Boolean,
}  # fmt: skip


def _tie(frame: pl.DataFrame) -> list[str]:
    """Columns that settle what is left, so that the order of files never shows."""
    return ["source", "event"] if "source" in frame.columns else []


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
