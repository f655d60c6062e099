"""Bucket: some persons' events in a folder of their own, sorted and without copies; once there it never changes."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.behaviour.histories import Histories
from features.behaviour.schema import StateSchema
from features.events import slots
from features.events.batch import FEW, FIELDS, PREFIX
from features.events.ordering import order_of, repeated
from features.events.plan import Rates
from features.files import write_json
from features.instants import SECOND

EVENTS, USERS, FACTS = "events.parquet", "users.parquet", "bucket.json"
KEPT = ("source", "id", "event", "ts", "received", "seq", "offset", "consent", "device", "browser", "mark")
"""What a bucket keeps of a part's fields, beside properties."""

FIELDS_OF_STATE = ("event", "ts", "known", "until", "id", "seq", "offset", "consent", "mark")
"""What histories are made of, beside properties."""

COLUMNS: dict[str, pl.DataType] = {
    **{name: pl.Categorical() if name in FEW else FIELDS[name] for name in KEPT},
    "known": pl.Int64(),
    "until": pl.Int64(),
    "coarse": pl.Boolean(),
    "restated": pl.Boolean(),
}
OF_PARTS = ("coarse", "restated")
"""What is said of whole parts; buckets do without."""

ORDER = (
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
    "browser",
    "mark",
    "source",
)
"""The columns of a log frame, before properties."""

COPY = ["place", "source", "id"]
"""What copies have in common."""

SOMETIMES = ("source", "event", "seq", "offset", "consent", "device", "browser", "mark", "until", "coarse", "restated")
"""Columns that may say the same in every row."""


class Piece(NamedTuple):
    """Events as columns; one that says the same in every row is a value, and a `known` that is `received` is absent."""

    frame: pl.DataFrame
    same: Mapping[str, object]

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Self:
        """The events of a frame; properties that none of them carries are gone."""
        same = {name: frame[name].first() for name in SOMETIMES if name in frame.columns and _flat(frame[name])}
        silent = [each.name for each in frame if each.name.startswith(PREFIX) and each.null_count() == frame.height]
        return cls(frame.drop(*same, *silent), same)

    @classmethod
    def joined(cls, pieces: Sequence["Piece"]) -> Self:
        """Several, one below the other."""
        same = dict(pieces[0].same.items() & set.intersection(*(set(each.same.items()) for each in pieces)))
        known = ["known"] if any("known" in each.frame.columns for each in pieces) else []
        frames = [each.with_columns({*each.same, *known} - set(same)) for each in pieces]
        return cls(pl.concat(frames, how="diagonal", rechunk=True), same)

    def with_columns(self, names: Iterable[str]) -> pl.DataFrame:
        """The frame and these columns of COLUMNS, in full."""
        missing = [name for name in names if name not in self.frame.columns]
        values = [pl.lit(self.same.get(name), COLUMNS[name]).alias(name) for name in missing if name != "known"]
        return self.frame.with_columns(*values, *([pl.col("received").alias("known")] if "known" in missing else []))


NOTHING = Piece(
    pl.DataFrame(schema={**{name: COLUMNS[name] for name in ("ts", "received", "id")}, "place": pl.UInt32}), {}
)


def _flat(column: pl.Series) -> bool:
    if column.null_count():
        return column.null_count() == len(column)
    physical = column.to_physical()
    return bool(physical.first() == physical.last() and physical.min() == physical.max())


@dataclass(frozen=True)
class Bucket:
    """A bucket and what is known of it.

    Attributes:
        name: Of its folder: its place, and a digest of what it was made from.
        rows: Events.
        n_users: Persons.
        first: Earliest ts; 0 without events.
        last: Latest ts.
        duplicates: Copies that were left out.
        too_fast: Persons whom the too-fast rule found.
        same: Columns that say the same in every row.
    """

    name: str
    rows: int
    n_users: int
    first: int
    last: int
    duplicates: int
    too_fast: int
    same: Mapping[str, Any]

    @classmethod
    def write(cls, path: Path, pieces: Sequence[Piece], users: pl.DataFrame, rates: Rates | None) -> Self:
        """Sort and judge the events of some persons, and write them.

        Args:
            path: Its folder; what a killed compaction left there goes.
            pieces: Their events from every block, with `place`: the person's among `users`.
            users: Columns user (canonical ids, in order) and digest (of what the person's events come from).
            rates: The too-fast rule.
        """
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        piece = Piece.joined([each for each in pieces if each.frame.height] or [NOTHING])
        keys = piece.with_columns(("seq",))
        place, ts, seq, ids = (keys[name].to_numpy() for name in ("place", "ts", "seq", "id"))
        order, starts = order_of(place, ts, seq, ids, users.height)
        kept = first_known(Piece(piece.frame[order], piece.same), starts)
        judged, n_fast = too_fast(kept, rates)
        sizes = np.bincount(judged.frame["place"].to_numpy(), minlength=users.height)
        users.with_columns(n=sizes).write_parquet(path / USERS, statistics=False)
        events = _lean(judged.frame.drop("place"))
        whole = max(events.height, 1)  # it is read whole: one group spares joining several
        events.write_parquet(path / EVENTS, compression="lz4", statistics=False, row_group_size=whole)
        first, last = events.select(pl.col("ts").min().fill_null(0), last=pl.col("ts").max().fill_null(0)).row(0)
        left_out = len(order) - events.height
        made = cls(path.name, events.height, users.height, first, last, left_out, n_fast, dict(judged.same))
        write_json(path / FACTS, asdict(made))
        return made

    @classmethod
    def found(cls, path: Path) -> "Bucket | None":
        """The bucket in a folder, if a whole one is there."""
        return cls(**json.loads((path / FACTS).read_text(encoding="utf-8"))) if (path / FACTS).exists() else None

    def read(self, folder: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The events as a log frame, texts as texts.

        Args:
            folder: Where the bucket's own folder is.
            columns: Only these; properties that no event carries are absent.
        """
        users, frame = self.users(folder), self._events(folder, columns).cast({pl.Categorical: pl.String})
        if columns is None or "user" in columns:
            frame = frame.with_columns(user=users["user"].gather(_places(users)))
        names = columns if columns is not None else [*ORDER, *sorted(set(frame.columns) - set(ORDER))]
        return frame.select([name for name in names if name in frame.columns])

    def histories(self, folder: Path, schema: StateSchema) -> Histories:
        """The histories of its persons, in order of their ids; made of the events once, and mapped from then on."""
        users = self.users(folder)
        found = slots.mapped(folder / self.name, schema, users["user"])
        if found is None:
            found = self._histories(folder, schema, users)
            slots.keep(folder / self.name, found, users["user"])
        return found

    def _histories(self, folder: Path, schema: StateSchema, users: pl.DataFrame) -> Histories:
        whole = self._events(folder, [*FIELDS_OF_STATE, *schema.columns])
        frame = schema.counting(whole)
        if frame.height == whole.height:
            present = users.filter(pl.col("n") > 0)
            return Histories.of(schema, present["user"], present["n"], frame, settled=True)
        found = Histories.from_frame(schema, whole.with_columns(user=_places(users)), settled=True)
        return replace(found, users=users["user"].to_numpy().astype(object)[found.users.astype(np.int64)])

    def users(self, folder: Path) -> pl.DataFrame:
        """Its persons, in order: columns user, digest (of what their events come from), n (events)."""
        return pl.read_parquet(folder / self.name / USERS)

    def _events(self, folder: Path, columns: Sequence[str] | None) -> pl.DataFrame:
        file = folder / self.name / EVENTS
        held = list(pl.read_parquet_schema(file))
        if columns is None:
            return Piece(pl.read_parquet(file), self.same).with_columns(set(COLUMNS) - {*OF_PARTS})
        fields = [name for name in columns if name in COLUMNS]
        needed = {*columns, *(["received"] if "known" in fields and "known" not in held else [])}
        frame = pl.read_parquet(file, columns=[name for name in held if name in needed])
        return Piece(frame, self.same).with_columns(fields)


def _lean(events: pl.DataFrame) -> pl.DataFrame:
    """The columns in order of their names, `known` where it is not `received`."""
    columns = sorted(events.columns)
    if "known" in columns and events["known"].equals(events["received"]):
        columns.remove("known")
    return events.select(columns)


def _places(users: pl.DataFrame) -> pl.Series:
    return pl.Series("user", np.repeat(np.arange(users.height, dtype=np.uint32), users["n"].to_numpy()))


def first_known(piece: Piece, starts: NDArray[np.int64]) -> Piece:
    """A sorted bucket without copies: of one person's events of one source and id, the first known stays.

    Copies known, received and ordered alike are told apart by all they hold, never by where they lie. Versions of a
    restated row all stay, each until the next is known; one that says the same as the version before is a copy.
    """
    found = repeated(piece.frame["id"].to_numpy(), starts)
    if not found.any():
        return piece
    copies = Piece(piece.frame.with_row_index("row").filter(pl.Series(found)), piece.same)
    ranked = copies.with_columns(("known", "source", "restated"))
    first = [name for name in ("known", "received", "ts", "seq") if name in ranked.columns]
    ranked = ranked.sort(*first, *sorted(set(ranked.columns) - {*first, "row"}))
    kept = _versions(ranked) if ranked["restated"].any() else ranked.unique(COPY, keep="first")
    stays = ~found
    stays[kept["row"].to_numpy()] = True
    frame = piece.frame
    if "until" in kept.columns:
        untils = pl.Series("until", np.zeros(frame.height, np.int64))
        frame = frame.with_columns(until=untils.scatter(kept["row"], kept["until"].fill_null(0)).replace(0, None))
    return Piece(frame.filter(pl.Series(stays)), piece.same)


def _versions(ranked: pl.DataFrame) -> pl.DataFrame:
    """Of rows in the order in which they were known, the first of each id and what replaced it, with `until`."""
    first = pl.int_range(pl.len()).over(COPY) == 0
    said = sorted(set(ranked.columns) - {"row", "known", "received", "restated"})
    changed = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift(1).over(COPY)) for name in said)
    ranked = ranked.filter(first | pl.col("restated"))
    ranked = ranked.filter(pl.col("known").ne_missing(pl.col("known").shift(-1).over(COPY)))
    ranked = ranked.filter(first | changed)
    return ranked.with_columns(until=pl.col("known").shift(-1).over(COPY))


def too_fast(piece: Piece, rates: Rates | None) -> tuple[Piece, int]:
    """The too-fast rule over a sorted bucket, whatever file or request brought each event.

    The verdict over a person falls when the last event of the first such burst is known: what was known before counts
    until then, what comes after is marked. Files whose clock tells only minutes are left out: a minute is no burst.

    Returns:
        The bucket with `mark` and `until` set, and the number of persons found.
    """
    frame = piece.with_columns(("mark", "coarse", "known", "until"))
    frame = frame.with_columns(mark=pl.when(pl.col("mark") != "too_fast").then("mark"))
    table = _verdicts(frame, rates) if rates and frame.height > rates.events else None
    if table is not None:
        late, early = pl.col("known") >= pl.col("verdict"), pl.col("known") < pl.col("verdict")
        frame = frame.join(table, on="place", how="left", maintain_order="left").with_columns(
            mark=pl.coalesce("mark", pl.when(late).then(pl.lit("too_fast"))),
            until=pl.when(early).then(pl.min_horizontal("until", "verdict")).otherwise("until"),
        )
    left = {"verdict", *OF_PARTS, *({"known"} - set(piece.frame.columns))}
    found = Piece.of(frame.drop(left, strict=False))
    same = {name: value for name, value in {**piece.same, **found.same}.items() if name not in OF_PARTS}
    return Piece(found.frame, same), 0 if table is None else table.height


def _verdicts(frame: pl.DataFrame, rates: Rates) -> pl.DataFrame | None:
    """Per person who made a burst (column place) the instant at which it was known; None where nobody did."""
    usable = np.flatnonzero((frame["mark"].is_null() & frame["until"].is_null() & ~frame["coarse"]).to_numpy())
    place, ts, known = (frame[name].to_numpy()[usable].astype(np.int64) for name in ("place", "ts", "known"))
    n = rates.events
    bursts = np.flatnonzero((place[n:] == place[:-n]) & (ts[n:] - ts[:-n] < rates.seconds * SECOND))
    if not len(bursts):
        return None
    verdicts = np.array([known[start : start + n + 1].max() for start in bursts])
    table = pl.DataFrame({"place": place[bursts].astype(np.uint32), "verdict": verdicts})
    return table.group_by("place").agg(pl.col("verdict").min())
