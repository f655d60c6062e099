"""Parts: one directory per ingested file, written under a temporary name and renamed when it is whole."""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl

from features.errors import LogError
from features.events.report import CleaningReport

UNFINISHED = "."
"""Names of directories still being written start with it."""


@dataclass(frozen=True)
class Part:
    """What one file gave: `events-*.parquet`, `quarantine.parquet` where there is one, and `part.json`."""

    path: Path

    @property
    def name(self) -> str:
        """Source, content hash and recipe hash; or the name that `append` was given."""
        return self.path.name

    @property
    def events(self) -> list[Path]:
        """The event files, in order."""
        return sorted(self.path.glob("events-*.parquet"))

    @property
    def quarantine(self) -> Path:
        """The quarantined rows; absent where there are none."""
        return self.path / "quarantine.parquet"

    def header(self) -> dict[str, Any]:
        """`part.json`: report, and whether the clock is coarse."""
        try:
            return dict(json.loads((self.path / "part.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
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

    def write(self, events: pl.DataFrame, quarantine: pl.DataFrame, report: CleaningReport) -> None:
        """One cleaned block."""
        if events.height:
            events.write_parquet(self.path / f"events-{self._blocks:05}.parquet", compression="lz4")
            self._blocks += 1
        if quarantine.height:
            self._held.append(quarantine)
        self.report = self.report + report

    def close(self) -> None:
        """The quarantine and the header, last."""
        if self._held:
            pl.concat(self._held).write_parquet(self.path / "quarantine.parquet")
        write_json(self.path / "part.json", {**self.header, "report": self.report.to_dict()})


def rewrite(path: Path, frame: pl.DataFrame) -> None:
    """Replace a Parquet file whole."""
    temporary = path.with_name(f"{UNFINISHED}{path.name}.new")
    frame.write_parquet(temporary, compression="lz4")
    temporary.replace(path)


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Replace a small file whole."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; the system frees it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
