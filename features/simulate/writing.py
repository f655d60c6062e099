"""Writing: a simulated shop as files, a chunk of people at a time; memory does not grow with the shop."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import polars as pl

from features.errors import EthogramError
from features.simulate.dirt import soil
from features.simulate.messages import message_frame, sign_ins
from features.simulate.people import draw_people
from features.simulate.segment import json_lines
from features.simulate.shop import Shop
from features.simulate.truth import Truth, truth_of
from features.simulate.visits import simulate_visits

Format = Literal["ndjson", "ndjson.gz", "parquet"]
SOURCE = "shop"
SLICE = 20_000  # rows that are text at once


def simulate(shop: Shop) -> Iterator[tuple[pl.DataFrame, Truth]]:
    """Messages and truth, chunk by chunk of people; messages in order of arrival, dirt and all."""
    for chunk, (first, last) in enumerate(shop.chunks):
        people = draw_people(shop, first, last)
        visits = simulate_visits(shop, people)
        signed = sign_ins(people, visits)
        clean = message_frame(shop, people, visits, signed)
        truth = truth_of(shop, people, visits, signed, clean)
        frame, planted = soil(shop, clean, chunk)
        truth.planted.update(planted, messages=frame.height)
        yield frame, truth


def write_shop(shop: Shop, folder: Path | str, *, format: Format = "ndjson") -> Truth:  # noqa: A002 - what it is
    """Events under `folder/events`, one file a chunk, and the truth under `folder/truth`.

    Args:
        shop: What to simulate.
        folder: Made when absent; the files of an earlier simulation in it are replaced.
        format: Segment-shaped JSON lines, plain or gzipped, or Parquet with the canonical columns.

    Returns:
        The truth that was written.

    Raises:
        EthogramError: the folder cannot be written.
    """
    events = _emptied(Path(folder) / "events")
    truths = []
    for chunk, (frame, truth) in enumerate(simulate(shop)):
        write_messages(frame, events / f"shop-{chunk:04d}.{format}")
        if format == "parquet":
            truth.planted["messages"] -= truth.planted.pop("quarantined_bad_json", 0)
        truths.append(truth)
    truth = Truth.concat(truths)
    truth.write(Path(folder) / "truth")
    return truth


def _emptied(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("shop-[0-9][0-9][0-9][0-9].*"):
            path.unlink()
    except OSError as problem:
        raise EthogramError(f"{folder}: cannot write here: {problem.strerror}. Hint: name another folder.") from None
    return folder


def write_messages(frame: pl.DataFrame, path: Path) -> None:
    """One file, in the format that its name says; a temporary name until it is whole."""
    temporary = path.with_name(path.name + ".part")
    if path.suffix == ".parquet":
        canonical(frame).write_parquet(temporary, compression="zstd")
    elif path.suffix == ".gz":
        with gzip.GzipFile(temporary, "wb", compresslevel=1, mtime=0) as file:
            file.writelines(_lines(frame))
    else:
        with temporary.open("wb") as file:
            file.writelines(_lines(frame))
    temporary.replace(path)


def _lines(frame: pl.DataFrame) -> Iterator[bytes]:
    for part in frame.iter_slices(SLICE):
        yield ("\n".join(json_lines(part)) + "\n").encode()


def canonical(frame: pl.DataFrame) -> pl.DataFrame:
    """The messages with the log's own column names; what a column cannot say (broken JSON) is left out."""
    if "bad" in frame.columns:
        frame = frame.filter(pl.col("bad").ne_missing("bad_json")).drop("bad", "undeclared")
    return frame.drop("person").with_columns(source=pl.lit(SOURCE))
