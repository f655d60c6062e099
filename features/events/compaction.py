"""Compaction: from parts to user-hash buckets of sorted, de-duplicated runs; identity is resolved on the way.

A bucket's folder is named by a digest of what its events come from. A bucket that is there already is not made again:
new parts, links, erasures and parts that are gone cost the buckets of the persons whom they touch.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from json import dumps, loads
from pathlib import Path

import numpy as np
import polars as pl

from features.errors import LogError
from features.events.bucket import Bucket
from features.events.engine import Engine, Job, Source
from features.events.parts import UNFINISHED, Parts
from features.events.persons import Persons
from features.events.plan import TrackingPlan
from features.events.rows import BEFORE, Rows
from features.files import write_json
from features.people import hash_text

MANIFEST = "manifest.json"
BUCKET_ROWS = 1 << 18
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
        return sum(each.n_users for each in self.buckets)

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
    parts: Parts,
    folder: Path,
    plan: TrackingPlan,
    *,
    engine: Engine,
    bucket_rows: int = BUCKET_ROWS,
    purge: bool = False,
) -> Manifest:
    """Bring the buckets up to date; nothing happens where the parts have not changed.

    Args:
        parts: Everything ingested.
        folder: Where buckets and the manifest live; the manifest is replaced last, at one stroke.
        plan: Its too-fast rule, and which properties are categories.
        engine: Makes the buckets.
        bucket_rows: Aim at this many events a bucket.
        purge: Leave nothing of what was there before, not even for those who are reading it.
    """
    categories = sorted(name for name, spec in plan.properties.items() if spec.type == "category")
    rules = _digest([FORMAT, plan.too_fast.model_dump() if plan.too_fast else None, categories])
    inputs = [*parts.inputs(), ["rules", f"{rules}-{bucket_rows}"]]
    before = Manifest.read(folder)
    if before is not None and before.inputs == inputs and not purge:
        return before
    job, persons = _job(parts, folder, plan, rules, bucket_rows)
    after = Manifest(inputs, _write_identity(folder, persons), _made(job, engine), persons.merged)
    if before is not None and not purge:
        _take_over(folder, before, after)
    write_json(folder / MANIFEST, asdict(after))
    _clear(folder, [after] if purge or before is None else [after, before], purge=purge)
    return after


def _digest(value: object) -> str:
    return sha256(dumps(value).encode()).hexdigest()[:16]


def _job(parts: Parts, folder: Path, plan: TrackingPlan, rules: str, bucket_rows: int) -> tuple[Job, Persons]:
    """What is to be made, and everybody."""
    headers = [(part, part.header()) for part in parts]
    listed = [(block, header, place) for part, header in headers for place, block in enumerate(part.blocks)]
    persons = Persons.of([block for block, _, _ in listed], bucket_rows=bucket_rows)
    digests = persons.digests([f"{rules}-{header['content']}-{place}" for _, header, place in listed])
    names = [
        f"{place:04}-{_digest([len(digests), sha256(digest.tobytes()).hexdigest()])}"
        for place, digest in enumerate(digests)
    ]
    sources = [
        Source(block, bool(header.get("coarse_clock")), bool(header.get("restated")), share)
        for (block, header, _), share in zip(listed, persons.shares, strict=True)
    ]
    users = [
        pl.DataFrame({"user": users, "digest": digest.view(np.int64)})
        for users, digest in zip(persons.users, digests, strict=True)
    ]
    return Job(folder, plan, sources, names, users, persons.sizes.tolist()), persons


def _made(job: Job, engine: Engine) -> list[Bucket]:
    """All buckets; those that are there already are not made again."""
    there = {name: found for name in job.names if (found := Bucket.found(job.folder / name)) is not None}
    missing = [place for place, name in enumerate(job.names) if name not in there]
    there |= {made.name: made for made in engine.make(job, missing)}
    return [there[name] for name in job.names]


def _write_identity(folder: Path, persons: Persons) -> str:
    path = folder / f"identity-{_digest(persons.links.rows())}"
    path.mkdir(exist_ok=True)
    persons.links.write_parquet(path / "links.parquet")
    persons.identity.write_parquet(path / "identity.parquet")
    return path.name


def _take_over(folder: Path, before: Manifest, after: Manifest) -> None:
    """Rows that are kept beside buckets go with their place."""
    if before.n_buckets == after.n_buckets:
        for old, new in zip(before.buckets, after.buckets, strict=True):
            if old.name != new.name:
                Rows(folder, new).take_over(old)


def _clear(folder: Path, manifests: Sequence[Manifest], *, purge: bool) -> None:
    named = {each.name for manifest in manifests for each in manifest.buckets}
    named.update(manifest.identity for manifest in manifests)
    for path in folder.iterdir():
        if path.is_dir() and path.name not in named:
            _remove(path)
    for path in folder.glob(f"*/{BEFORE}*") if purge else ():
        path.unlink()


def _remove(path: Path) -> None:
    """Take a folder away at one stroke: whoever is still reading it keeps nothing in it any more."""
    doomed = path.with_name(f"{UNFINISHED}{path.name}.gone")
    shutil.rmtree(doomed, ignore_errors=True)
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
