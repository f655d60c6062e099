"""Writing: answers as files of the prediction log, made here or in a process of lowest priority beside this one.

A file of ten seconds keeps polars busy on every core for a fifth of a second. Beside a service that is answers late by
tens of milliseconds: the interpreter and the processors are asked for while they are taken.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from re import compile as pattern
from typing import IO, NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.instants import HOUR, to_datetime
from features.people import pseudonym

HOURS = "%Y-%m-%dT%H"
FOLDER = pattern(r"\d{4}-\d\d-\d\dT\d\d")
"""Of an hour."""
PAUSE_S = 0.002
"""Between two parts that are handed over: what waited meanwhile is answered."""
END_S = 60.0
"""How long the other process may take to end."""


class Head(msgspec.Struct, array_like=True):
    """Of some answers of one bundle all that is text, and how many there are.

    Attributes:
        bundle: Its digest.
        schema: Fingerprint of the states'.
        names: The features'.
        studies: The scores'.
        request_id: As everything behind it, one an answer.
        user: Canonical ids.
    """

    bundle: str
    schema: str
    names: tuple[str, ...]
    studies: tuple[str, ...]
    request_id: list[str]
    user: list[str]
    source: list[str]
    segments: list[tuple[str, ...]]
    arm: list[str]


class Part(NamedTuple):
    """Some answers.

    Attributes:
        head: Their texts.
        whole: at, n_events, sum_ids and last_ts, shape (n,) each.
        scores: One figure a study, shape (n,) each.
        features: Shape (n, n_features).
    """

    head: Head
    whole: Sequence[NDArray[np.int64]]
    scores: Sequence[NDArray[np.float64]]
    features: NDArray[np.float64]


def frame_of(part: Part, key: bytes) -> pl.DataFrame:
    """The rows of the log, users as pseudonyms."""
    head, n = part.head, len(part.features)
    told: dict[str, object] = {
        "request_id": head.request_id,
        "user": [pseudonym(key, each) for each in head.user],
        "at": part.whole[0],
        "bundle": pl.Series([head.bundle], dtype=pl.String).new_from_index(0, n),
        "source": head.source,
        "n_events": part.whole[1],
        "sum_ids": part.whole[2],
        "last_ts": part.whole[3],
        "schema": pl.Series([head.schema], dtype=pl.String).new_from_index(0, n),
        "segments": _lists(head.segments),
        "arm": head.arm,
    }
    scores = {f"score_{study}": column for study, column in zip(head.studies, part.scores, strict=True)}
    # One column of named fields: Parquet writes two hundred columns of their own at a third of the speed.
    features = pl.Series(part.features).arr.to_struct(list(head.names))
    return pl.DataFrame({**told, **scores, "features": features})


def _lists(rows: Sequence[tuple[str, ...]]) -> pl.Series:
    """A column of lists of texts; each different one is made once, of which polars takes ten microseconds."""
    places = {row: place for place, row in enumerate(dict.fromkeys(rows))}
    made = pl.Series([list(row) for row in places], dtype=pl.List(pl.String))
    return made.gather([places[row] for row in rows])


class Writer:
    """Writes into `<day>T<hour>/*.parquet` of a folder, here and now; hours are kept for a while.

    Attributes:
        kept: How long an hour is kept, microseconds; 0: for ever.
    """

    def __init__(self, folder: Path, key: bytes, kept: int) -> None:
        self.folder = folder
        self.key = key
        self.kept = kept
        self._newest = -1

    def begin(self) -> None:
        """Nothing is needed."""

    def write(self, parts: Iterable[Part], name: str) -> None:
        """Write parts of one bundle; under the same name the same rows are the same files.

        Raises:
            OSError: nothing, or not all, could be written.
        """
        frame = pl.concat([frame_of(part, self.key) for part in parts])
        hours = frame["at"] // HOUR
        for hour in hours.unique().to_list():
            rows = frame.filter(hours == hour)
            folder = self.folder / to_datetime(hour * HOUR).strftime(HOURS)
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"{rows['at'][0]}-{name}.parquet"
            temporary = file.with_name(file.name + ".new")
            try:
                rows.write_parquet(temporary, compression="lz4")
                temporary.replace(file)
            finally:
                temporary.unlink(missing_ok=True)
            self._let_go(hour)

    def _let_go(self, hour: int) -> None:
        """Of the hours that are older than what is kept, when a new hour begins."""
        if not self.kept or hour <= self._newest:
            return
        self._newest = hour
        last = to_datetime(hour * HOUR - self.kept).strftime(HOURS)
        for folder in self.folder.iterdir():
            if FOLDER.fullmatch(folder.name) and folder.name < last:
                shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Nothing is held."""


class Aside:
    """The same, by a process that ends with this one."""

    def __init__(self, folder: Path, key: bytes, kept: int) -> None:
        self.given = (str(folder), key, kept)
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Start the process, so that no answer waits for its imports; if it cannot be now, at the first file."""
        with suppress(OSError):
            self._pipes()

    def write(self, parts: Iterable[Part], name: str) -> None:
        """Hand parts over and wait until they are written.

        Raises:
            OSError: nothing, or not all, could be written; or the process has ended, and another will be started.
        """
        to, said = self._pipes()
        try:
            for part in parts:
                _send(to, part.head)
                for array in (*part.whole, *part.scores, part.features):
                    to.write(array.data)
                time.sleep(PAUSE_S)
            _send(to, name)
            to.flush()
            fault = msgspec.json.decode(said.readline(), type=str)
        except (OSError, msgspec.DecodeError) as error:
            self.close()
            raise OSError(f"the process that writes the prediction log has ended: {error}") from None
        if fault:
            raise OSError(fault)

    def close(self) -> None:
        """Let it end."""
        process, self._process = self._process, None
        if process is not None:
            try:
                process.communicate(timeout=END_S)
            except (OSError, subprocess.TimeoutExpired):
                process.kill()
                process.wait()

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        if self._process is None:
            home = str(Path(__file__).parent.parent)
            paths = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
            self._process = subprocess.Popen(
                [sys.executable, "-m", "serving.writing"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": paths, "POLARS_MAX_THREADS": "1"},
                process_group=0,  # not asked to end with the service; of its session, within which priorities count
            )
            _send(self._process.stdin, self.given)  # type: ignore[arg-type] # a pipe
        return self._process.stdin, self._process.stdout  # type: ignore[return-value] # pipes


def _send(to: IO[bytes], told: object) -> None:
    packed = msgspec.msgpack.encode(told)
    to.write(len(packed).to_bytes(4, "big") + packed)


def _received(source: IO[bytes]) -> bytes:
    """One message; empty where there will be none any more."""
    return source.read(int.from_bytes(source.read(4), "big"))


def _parts(source: IO[bytes]) -> Iterator[Part | str]:
    """Parts, and behind those of one file its name."""
    decoder = msgspec.msgpack.Decoder(Head | str)
    while message := _received(source):
        told = decoder.decode(message)
        yield _part(source, told) if isinstance(told, Head) else told


def _part(source: IO[bytes], head: Head) -> Part:
    n, width = len(head.user), len(head.names)

    whole = [np.frombuffer(source.read(8 * n), np.int64) for _ in range(4)]
    scores = [np.frombuffer(source.read(8 * n), np.float64) for _ in head.studies]
    return Part(head, whole, scores, np.frombuffer(source.read(8 * n * width), np.float64).reshape(n, width))


def main() -> None:
    """Write what the service hands over, until it lets go or has ended."""
    os.nice(19)
    if hasattr(os, "SCHED_IDLE"):  # Linux: gives way at once; a nice process first uses up its three milliseconds
        for thread in Path("/proc/self/task").iterdir():  # polars has started some; what they start is as they are
            os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the service, which still has something to write
        signal.signal(number, signal.SIG_IGN)
    source, told = sys.stdin.buffer, sys.stdout
    folder, key, kept = msgspec.msgpack.decode(_received(source), type=tuple[str, bytes, int])
    writer, parts = Writer(Path(folder), key, kept), list[Part]()
    for each in _parts(source):
        if isinstance(each, Part):
            parts.append(each)
            continue
        try:
            writer.write(parts, each)
            fault = ""
        except Exception as error:  # noqa: BLE001 - the service logs it and tries again
            fault = f"{type(error).__name__}: {error}"
        parts.clear()
        told.write(msgspec.json.encode(fault).decode() + "\n")
        told.flush()


if __name__ == "__main__":
    main()
