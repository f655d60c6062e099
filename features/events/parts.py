"""Parts: one directory per ingested file, written under a temporary name and renamed when it is whole."""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import LogError
from features.events import identity
from features.events.batch import PERSON
from features.events.report import CleaningReport
from features.files import write_json, write_parquet

UNFINISHED = "."
"""Names of directories still being written start with it."""


@dataclass(frozen=True)
class Block:
    """Some events of a part, whose they are, and what they say about identity: three files side by side.

    Every row of `people` is an id that events go by (columns id and n, the number of its events); the events' column
    `person` is a place among these rows. So nobody who wants to know whose they are has to read the events. An erased
    id leaves its row behind, empty.
    """

    events: Path

    @property
    def people(self) -> Path:
        """The ids."""
        return self._beside("people")

    @property
    def links(self) -> Path:
        """What `identity.links` finds in the events; absent where that is nothing."""
        return self._beside("links")

    def _beside(self, what: str) -> Path:
        return self.events.with_name(what + self.events.name.removeprefix("events"))

    def write(self, events: pl.DataFrame) -> None:
        """A new block."""
        places, ids = numbered(events.select(PERSON).to_series())
        self._write(events.with_columns(person=places), ids)

    def keep(self, events: pl.DataFrame) -> None:
        """Replace the block by some of its own events; killed and done again, it ends in the same."""
        people = pl.read_parquet(self.people)
        if not np.array_equal(people["n"].to_numpy(), _sizes(events, people.height)):
            self._write(events, people["id"])

    def _write(self, events: pl.DataFrame, names: pl.Series) -> None:
        """The ids last: what they say is true of the events, or of the events as they were before."""
        links = identity.links(events)
        if links.height or self.links.exists():
            write_parquet(self.links, links)
        write_parquet(self.events, events)
        people = names.to_frame("id").with_columns(n=_sizes(events, len(names)))
        write_parquet(self.people, people.with_columns(pl.when(pl.col("n") > 0).then("id").alias("id")))


def numbered(texts: pl.Series) -> tuple[NDArray[np.uint32], pl.Series]:
    """Each text's place among the distinct ones (null has that of the first), and these, in order of appearance."""
    column = texts.cast(pl.Categorical(pl.Categories.random()))
    distinct = column.unique(maintain_order=True).drop_nulls()
    codes = column.to_physical().fill_null(distinct.to_physical().first() or 0).to_numpy()
    places = np.zeros(int(codes.max(initial=0)) + 1, np.uint32)
    places[distinct.to_physical().to_numpy()] = np.arange(len(distinct), dtype=np.uint32)
    return places[codes], distinct.cast(pl.String)


def _sizes(events: pl.DataFrame, n_people: int) -> NDArray[np.int64]:
    return np.bincount(events["person"].to_numpy(), minlength=n_people)


@dataclass(frozen=True)
class Part:
    """What one file gave: blocks of events, `quarantine.parquet` where there is one, and `part.json`."""

    path: Path

    @property
    def name(self) -> str:
        """Source, content hash and recipe hash; or the name that `append` was given."""
        return self.path.name

    @property
    def blocks(self) -> list[Block]:
        """The events, in order."""
        return [Block(path) for path in sorted(self.path.glob("events-*.parquet"))]

    @property
    def quarantine(self) -> Path:
        """The quarantined rows; absent where there are none."""
        return self.path / "quarantine.parquet"

    def header(self) -> dict[str, Any]:
        """`part.json`: report, digest of the events as they came, and whether the clock is coarse."""
        try:
            header = dict(json.loads((self.path / "part.json").read_text(encoding="utf-8")))
            return {"content": header["content"], **header}
        except (OSError, ValueError, KeyError):
            raise LogError(f"{self.path} is damaged. Hint: remove the folder and ingest its file again.") from None

    def report(self) -> CleaningReport:
        """What became of the file's rows."""
        return CleaningReport.from_dict(self.header()["report"])

    def stamp(self) -> str:
        """Changes whenever the part does."""
        return sha256((self.path / "part.json").read_bytes()).hexdigest()[:16]


class Parts:
    """The folder of all parts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __iter__(self) -> Iterator[Part]:
        if self.folder.is_dir():
            for path in sorted(self.folder.iterdir()):
                if path.is_dir() and not path.name.startswith(UNFINISHED):
                    yield Part(path)

    def get(self, name: str) -> Part | None:
        """The part of this name, if it is there."""
        path = self.folder / name
        return Part(path) if path.is_dir() else None

    def inputs(self) -> list[list[str]]:
        """Name and stamp of every part: what a compaction is made of."""
        return [[part.name, part.stamp()] for part in self]

    @contextmanager
    def writing(self, name: str, lock: str) -> Iterator["PartWriter"]:
        """A new part; it appears whole when the block ends well, and not at all otherwise.

        One writer at a time per `lock`; what a killed writer left is cleared away.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / f"{UNFINISHED}{lock}.lock"):
            temporary = self.folder / f"{UNFINISHED}{lock}.new"
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            try:
                writer = PartWriter(temporary)
                yield writer
                writer.close()
                target = self.folder / name
                if not target.exists():
                    temporary.rename(target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    @contextmanager
    def still(self) -> Iterator[None]:
        """Nobody writes parts meanwhile."""
        with locked(self.folder / f"{UNFINISHED}ingest.lock"), locked(self.folder / f"{UNFINISHED}append.lock"):
            yield

    def remove(self, part: Part) -> None:
        """Take a part away at one stroke."""
        doomed = self.folder / f"{UNFINISHED}{part.name}.gone"
        part.path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


class PartWriter:
    """Writes one part's files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.report = CleaningReport()
        self.header: dict[str, object] = {}
        self._held: list[pl.DataFrame] = []
        self._blocks = 0
        self._content = sha256()

    def write(self, events: pl.DataFrame, quarantine: pl.DataFrame, report: CleaningReport) -> None:
        """One cleaned block."""
        if events.height:
            block = Block(self.path / f"events-{self._blocks:05}.parquet")
            block.write(events)
            self._content.update(block.events.read_bytes())
            self._blocks += 1
        if quarantine.height:
            self._held.append(quarantine)
        self.report = self.report + report

    def close(self) -> None:
        """The quarantine and the header, last."""
        if self._held:
            pl.concat(self._held).write_parquet(self.path / "quarantine.parquet")
        content = self._content.hexdigest()[:16]
        write_json(self.path / "part.json", {**self.header, "content": content, "report": self.report.to_dict()})


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; the system frees it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
