"""Writing: a simulated shop as files, a chunk of people at a time; messages in the shape of Segment's HTTP API."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import polars as pl

from features.errors import EthogramError
from features.files import replacing
from features.simulate.dirt import UNDECLARED_PROPERTY, soil
from features.simulate.messages import message_frame, sign_ins
from features.simulate.people import draw_people
from features.simulate.properties import PROPERTIES
from features.simulate.shop import Shop
from features.simulate.truth import Truth, truth_of
from features.simulate.visits import simulate_visits

PURPOSES = ("analytics", "personalisation", "model_training")


def json_lines(frame: pl.DataFrame, *, sent: bool = True) -> pl.Series:
    """One JSON text per message, in the frame's order.

    `timestamp` is the corrected instant; `sentAt` and `receivedAt` are equal, so a reader that corrects the clock once
    more (`receivedAt - (sentAt - timestamp)`) finds the same. Nothing in a simulated message needs escaping.

    Args:
        frame: As `dirt.soil` or `messages.message_frame` gives it.
        sent: False leaves out `sentAt` and `receivedAt`: for a door that says itself when a message arrived, and would
            take the difference for a client's slow clock.
    """
    if "bad" not in frame.columns:
        frame = frame.with_columns(bad=pl.lit(None, pl.String), undeclared=pl.lit(value=False))
    parts = [
        _texts(part, str(event), sent)
        for (event,), part in frame.with_row_index("place").group_by("event", maintain_order=True)
    ]
    return pl.concat(parts).sort("place").get_column("line") if parts else pl.Series("line", [], dtype=pl.String)


def _texts(part: pl.DataFrame, event: str, sent: bool) -> pl.DataFrame:
    kind = event if event in ("identify", "alias") else "track"
    names = PROPERTIES.get(event, ("product_id", "category", "price"))
    names = tuple(name for name in names if f"p_{name}" in part.columns)
    extra = pl.when("undeclared").then(pl.lit(f'"{UNDECLARED_PROPERTY}":"7c1",')).otherwise(pl.lit(""))
    values = pl.concat_str([*[_value(name, part.schema[f"p_{name}"]) for name in names], extra])
    fields = [
        pl.lit(f'{{"type":"{kind}",'),
        _text("event", "event") if kind == "track" else pl.lit(""),
        _text("messageId", "message_id"),
        *[_text(key, name) for key, name in _IDS if name in part.columns],
        _time("timestamp", "ts"),
        *([_time("sentAt", "received"), _time("receivedAt", "received")] if sent else []),
        pl.lit('"traits":{' if kind == "identify" else '"properties":{'),
        values.str.strip_suffix(","),
        pl.lit("},"),
        pl.lit('"context":{'),
        pl.concat_str([_text("userAgent", "user_agent"), _campaign(part), _consent()]).str.strip_suffix(","),
        pl.lit("}}"),
    ]
    line = pl.concat_str(fields)
    cut = pl.when(pl.col("bad") == "bad_json").then(line.str.head(90)).otherwise(line)
    return part.select("place", cut.alias("line"))


_IDS = (("userId", "user_id"), ("anonymousId", "anonymous_id"), ("previousId", "previous_id"))


def _text(key: str, column: str) -> pl.Expr:
    return pl.format(f'"{key}":"{{}}",', pl.col(column)).fill_null("")


def _value(name: str, dtype: pl.DataType) -> pl.Expr:
    quote = '"' if dtype == pl.String else ""
    return pl.format(f'"{name}":{quote}{{}}{quote},', pl.col(f"p_{name}")).fill_null("")


def _time(key: str, column: str) -> pl.Expr:
    iso = pl.from_epoch(column, time_unit="us").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
    return pl.format(f'"{key}":"{{}}",', iso).fill_null(f'"{key}":"half past eleven",')


def _campaign(part: pl.DataFrame) -> pl.Expr:
    if "p_campaign" not in part.columns:
        return pl.lit("")
    said = '"campaign":{{"source":"{}","name":"{}"}},'
    return pl.format(said, pl.col("p_traffic_source"), pl.col("p_campaign")).fill_null("")


def _consent() -> pl.Expr:
    texts = {}
    for mask in range(8):
        said = ",".join(f'"{name}":{str(bool(mask >> bit & 1)).lower()}' for bit, name in enumerate(PURPOSES))
        texts[mask] = f'"consent":{{"categoryPreferences":{{{said}}}}},'
    return pl.col("consent").cast(pl.Int64).replace_strict(texts, default="", return_dtype=pl.String)


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
    """One file, in the format that its name says."""
    with replacing(path, alone=True) as draft:
        if path.suffix == ".parquet":
            canonical(frame).write_parquet(draft, compression="zstd")
        elif path.suffix == ".gz":
            with gzip.GzipFile(draft, "wb", compresslevel=1, mtime=0) as file:
                file.writelines(_lines(frame))
        else:
            with draft.open("wb") as file:
                file.writelines(_lines(frame))


def _lines(frame: pl.DataFrame) -> Iterator[bytes]:
    for part in frame.iter_slices(SLICE):
        yield ("\n".join(json_lines(part)) + "\n").encode()


def canonical(frame: pl.DataFrame) -> pl.DataFrame:
    """The messages with the log's own column names; what a column cannot say (broken JSON) is left out."""
    if "bad" in frame.columns:
        frame = frame.filter(pl.col("bad").ne_missing("bad_json")).drop("bad", "undeclared")
    return frame.drop("person").with_columns(source=pl.lit(SOURCE))
