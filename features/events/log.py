"""Event log: append-only, the truth; everything else can be rebuilt from it."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import polars as pl

from features.behaviour.histories import Histories
from features.behaviour.schema import StateSchema, column_of
from features.errors import LogError, SourceError
from features.events import compaction, quarantine, scorers
from features.events.batch import EventBatch, as_stored
from features.events.bucket import FIELDS_OF_STATE, Bucket
from features.events.cleaning import NO_PLACES, Cleaned, clean
from features.events.compaction import Manifest, bucket_of
from features.events.engine import Cores, Engine
from features.events.erasure import IDS, ErasureReport, Tombstones, erase_from
from features.events.identity import persons
from features.events.mapping import Mapping
from features.events.parts import Parts, PartWriter, locked
from features.events.places import Places
from features.events.plan import Codes, TrackingPlan
from features.events.quality import Quality
from features.events.report import CleaningReport, count
from features.events.rows import Rows
from features.events.sources import content_hash, read_source
from features.instants import MINUTE
from features.people import stable_hash
from features.project import Project

R = TypeVar("R")

IN_MEMORY_ONLY = ("user_agent", "ip", "row", "message_id")
"""Fields that no part keeps."""


class EventLog:
    """The event log in a folder.

    Attributes:
        path: The folder: `parts/`, `buckets/`, `tombstones.json`.
        plan: The tracking plan.
        codes: Event codes; new ones are written to `codes_path` before the first event is.
    """

    def __init__(
        self,
        path: Path | str,
        plan: TrackingPlan,
        *,
        key: bytes,
        codes_path: Path | None = None,
        places: Places = NO_PLACES,
        bucket_rows: int = compaction.BUCKET_ROWS,
        engine: Engine | None = None,
    ) -> None:
        self.path = Path(path).absolute() if engine else Path(path)  # a cluster has no folder of ours to start from
        self.plan = plan
        self.codes = Codes.of(plan, codes_path)
        self.parts = Parts(self.path / "parts")
        self._key = key
        self._codes_path = codes_path
        self._places = places
        self._bucket_rows = bucket_rows
        self._engine = engine or Cores()

    @classmethod
    def of(cls, project: Project, *, engine: Engine | None = None) -> Self:
        """The event log of a project, under its plan."""
        plan = TrackingPlan.read(project.file("plan.yaml"))
        codes, places = project.file("plan.lock"), Places(project.places)
        return cls(project.path("log"), plan, key=project.key, codes_path=codes, places=places, engine=engine)

    @property
    def tombstones(self) -> Tombstones:
        """The erased persons."""
        return Tombstones.read(self.path / "tombstones.json")

    def clean(self, batch: EventBatch, *, restated: bool = False) -> Cleaned:
        """A batch cleaned as this log's files are."""
        erased, places = self.tombstones, self._places
        return clean(batch, self.plan, key=self._key, tombstones=erased, restated=restated, places=places)

    def ingest(
        self, path: Path | str, *, mapping: Mapping | Path | str | None = None, source: str | None = None
    ) -> CleaningReport:
        """A file's events, cleaned, as one part: all of them or, when killed or unreadable, none.

        A file that is in the log already changes nothing; with another plan or mapping it replaces what it gave.

        Args:
            path: See `read_source`.
            mapping: What its columns mean, or the YAML file that says so.
            source: Overrides the mapping's name for where the events came from.

        Raises:
            SourceError: the file cannot be read as events at all.
        """
        rules = mapping if isinstance(mapping, Mapping | None) else Mapping.read(mapping)
        content = f"{_source(source, rules)}-{content_hash(path)}"
        name = f"{content}-{self._recipe(rules)}"
        part = self.parts.get(name)
        if part is not None:
            return replace(part.report(), repeated=True)
        restated = rules is not None and rules.restated
        with self.parts.writing(name, "ingest") as writer:
            self._lock_codes()
            writer.header |= {"file": Path(path).name, "restated": restated}
            if rules is not None and rules.received is None and rules.format != "segment":
                writer.header["assumed"] = rules.blind_spot
            for batch in read_source(path, self.plan, mapping=rules, source=source):
                cleaned = self.clean(batch, restated=restated)
                held = cleaned.quarantine.with_columns(file=pl.lit(Path(path).name))
                self._write(writer, replace(cleaned, quarantine=held))
            if not writer.report.rows:
                raise SourceError(f"{Path(path).name}: there is nothing in it.")
        for part in self.parts:
            if part.name.startswith(content) and part.name != name:
                self.parts.remove(part)
        return writer.report

    def assumed(self) -> Counter[int]:
        """Files that tell no arrivals, by how much later than they happened their events are taken to be known."""
        return Counter(header["assumed"] for part in self.parts if "assumed" in (header := part.header()))

    def _recipe(self, mapping: Mapping | None) -> str:
        said = self.plan.model_dump_json() + (mapping.model_dump_json() if mapping else "")
        said += "".join(scorers.versions(self.plan, self._places).values())
        return sha256(said.encode()).hexdigest()[:8]

    def append(self, batch: EventBatch, *, name: str, quarantine: pl.DataFrame | None = None) -> None:
        """A cleaned batch as one part; a name that is there already changes nothing.

        Args:
            batch: As `clean` gives it.
            name: Of the part: letters, digits, `-`, `_` and `.`, not starting with a dot.
            quarantine: What cleaning set aside.
        """
        if self.parts.get(name) is not None:
            return
        with self.parts.writing(name, "append") as writer:
            self._lock_codes()
            covered = self.tombstones.cover(batch.frame, self._key, IDS)
            kept = EventBatch(batch.frame.filter(~covered), self.plan)
            self._write(writer, Cleaned(kept, _held(quarantine), _report(kept, _held(quarantine), int(covered.sum()))))

    def _lock_codes(self) -> None:
        if self._codes_path is not None:
            self.codes.write(self._codes_path)

    def _write(self, writer: PartWriter, cleaned: Cleaned) -> None:
        frame = cleaned.batch.frame
        fine = bool((frame["ts"] % MINUTE != 0).any())
        writer.header["coarse_clock"] = not fine and bool(writer.header.get("coarse_clock", True))
        if used := scorers.versions(self.plan, self._places):
            writer.header["scorers"] = used
        writer.write(as_stored(frame.drop(IN_MEMORY_ONLY), self.plan), cleaned.quarantine, cleaned.report)

    def compact(self, *, purge: bool = False) -> Manifest:
        """Buckets as of all parts; a no-op when nothing changed.

        Args:
            purge: Leave nothing of what was there before.
        """
        folder = self.path / "buckets"
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock"):
            return compaction.compact(
                self.parts, folder, self.plan, engine=self._engine, bucket_rows=self._bucket_rows, purge=purge
            )

    def frame(self, *, users: Sequence[str] | None = None, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The log frame: sorted by (user, ts, seq, id); marked events included.

        Args:
            users: Only these canonical ids.
            columns: Only these columns; `p_*` columns that no event carries are absent.
        """
        folder, chosen = self._buckets(users)
        if users is None:
            return pl.concat([each.read(folder, columns) for each in chosen], how="diagonal")
        named = None if columns is None else list(dict.fromkeys(["user", *columns]))
        frame = pl.concat([each.read(folder, named) for each in chosen], how="diagonal")
        frame = frame.filter(pl.col("user").is_in(list(users)))
        return frame if columns is None else frame.select([name for name in columns if name in frame.columns])

    def histories(self, schema: StateSchema, *, users: Sequence[str] | None = None) -> Histories:
        """Histories of everybody, or of these canonical ids; compacts first when stale."""
        return Histories.from_frame(schema, self.frame(users=users, columns=_columns(schema)), settled=True)

    def histories_by_bucket(self, schema: StateSchema) -> Iterator[Histories]:
        """The same, a bucket at a time: the unit of memory and of parallel work."""
        folder, chosen = self._buckets()
        return Cores().map(lambda bucket: bucket.histories(folder, schema), chosen)

    def map(self, work: Callable[[Rows], R]) -> Iterator[R]:
        """What the work makes of every bucket, in order, wherever the engine does it."""
        folder, chosen = self._buckets()
        return self._engine.map(work, [Rows(folder, bucket) for bucket in chosen])

    def by_bucket(self, frame: pl.DataFrame) -> Callable[[str], pl.DataFrame]:
        """The rows of a frame whose `user`, a canonical id, is in the same bucket as the user that is asked for."""
        n_buckets, runs = self._current().n_buckets, frame["user"].rle().struct.unnest()
        number = np.repeat(stable_hash(runs["value"]).to_numpy(), runs["len"].to_numpy())
        parts = frame.with_columns(bucket=number & (n_buckets - 1)).partition_by("bucket", as_dict=True)
        return lambda user: parts.get((bucket_of(user, n_buckets),), frame.clear())

    def _buckets(self, users: Sequence[str] | None = None) -> tuple[Path, list[Bucket]]:
        """All buckets, or those that these canonical ids are in, and where they are."""
        manifest = self._current()
        chosen = manifest.buckets
        if users is not None:
            chosen = [chosen[place] for place in sorted({bucket_of(user, manifest.n_buckets) for user in users})]
        return self.path / "buckets", chosen

    def _current(self) -> Manifest:
        manifest = self.compact()
        if not manifest.rows:
            raise LogError(f"the event log {self.path} is empty. Hint: `ethogram ingest FILE` brings events in.")
        return manifest

    def texts(self, properties: Iterable[str]) -> dict[int, str]:
        """What these properties say anywhere in the log, by the hash that state keeps of it."""
        columns, found = [column_of(name) for name in properties], dict[int, str]()
        folder, chosen = self._buckets()
        for each in chosen if columns else ():
            for column in each.read(folder, columns).get_columns():
                distinct = column.unique().drop_nulls()
                found.update(zip(stable_hash(distinct).to_list(), distinct.to_list(), strict=True))
        return found

    def span(self) -> tuple[int, int]:
        """The first and the last ts."""
        manifest = self._current()
        return manifest.first, manifest.last

    def identity(self) -> pl.DataFrame:
        """Every linked id: columns id, canonical, joined."""
        manifest = self.compact()
        return pl.read_parquet(self.path / "buckets" / manifest.identity / "identity.parquet")

    def links(self) -> pl.DataFrame:
        """What identify and alias said: columns a, b, at."""
        manifest = self.compact()
        return pl.read_parquet(self.path / "buckets" / manifest.identity / "links.parquet")

    def canonical(self) -> dict[str, tuple[str, int]]:
        """Every linked id's canonical id, and the instant at which it joined it."""
        return {name: (canonical, joined) for name, canonical, joined in self.identity().iter_rows()}

    def quarantine(self) -> pl.DataFrame:
        """All quarantined rows."""
        return pl.concat(
            [quarantine.empty(), *[pl.read_parquet(part.quarantine) for part in self.parts if part.quarantine.exists()]]
        )

    def quality(self) -> Quality:
        """Counts of everything that cleaning and compaction did, and an inventory."""
        return Quality.of([part.report() for part in self.parts], self.compact(), len(self.tombstones.erased))

    def erase(self, user: str, *, at: int) -> ErasureReport:
        """Remove everything about a person: all ids joined to this one, in parts, buckets and quarantine.

        A tombstone stays, so that neither a late event nor an old file brings anything back from before `at`. Killed
        and done again, it ends in the same.

        Args:
            user: Any id of the person.
            at: The instant of erasure, microseconds UTC.
        """
        ids = persons(self.identity(), [user])
        with self.parts.still():
            tombstones = self.tombstones.adding(ids, self._key, at)
            tombstones.write(self.path / "tombstones.json")
            removed = [erase_from(part, ids, tombstones, self._key) for part in self.parts]
        self.compact(purge=True)
        return ErasureReport(len(ids), sum(each[0] for each in removed), sum(each[1] for each in removed), at)


def _source(source: str | None, mapping: Mapping | None) -> str:
    name = source or (mapping.source if mapping else "files")
    if not re.fullmatch(r"[A-Za-z0-9_]{1,64}", name):
        raise SourceError(f"a source is named with letters, digits and `_`. Got {name!r}.")
    return name


def _columns(schema: StateSchema) -> list[str]:
    return ["user", *FIELDS_OF_STATE, *schema.columns]


def _held(frame: pl.DataFrame | None) -> pl.DataFrame:
    return quarantine.empty() if frame is None else frame


def _report(batch: EventBatch, held: pl.DataFrame, erased: int) -> CleaningReport:
    report = CleaningReport(rows=len(batch) + held.height + erased, erased=erased)
    count(batch.frame, report)
    report.quarantined.update(dict(held["reason"].value_counts().iter_rows()))
    return report
