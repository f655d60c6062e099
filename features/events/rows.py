"""Rows: feature rows kept beside the bucket they come from; a person's are made again when the person changed."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.behaviour.feature_set import FeatureSet
from features.behaviour.histories import Histories
from features.behaviour.matrix import FeatureMatrix
from features.behaviour.schema import StateSchema
from features.events.bucket import Bucket
from features.events.plan import Purpose
from features.files import replacing

BEFORE = "before-"
"""Files that were taken over from the bucket before: some of their persons have changed."""

MOST = 8
"""Sets of rows that a bucket keeps: the newest."""

KEY = ("user", "at", "digest")


@dataclass(frozen=True)
class Rows:
    """A bucket, and the feature rows that are kept of its persons.

    Attributes:
        folder: Of all buckets.
        bucket: The bucket.
    """

    folder: Path
    bucket: Bucket

    def histories(self, schema: StateSchema) -> Histories:
        """The histories of its persons, in order of their ids."""
        return self.bucket.histories(self.folder, schema)

    def everybody(self, features: FeatureSet, at: int, *, purpose: Purpose) -> FeatureMatrix:
        """Features as of one instant of all persons who consent to a purpose; an unchanged bucket is not even read."""
        keep = f"everybody, for {purpose}"
        file = self._file(features, keep)
        kept = pl.read_ipc(file) if file.exists() else None
        if kept is not None and (kept["at"] == at).all():
            return _matrix(features, kept)
        histories = self.histories(features.schema)
        willing = histories.take(np.flatnonzero(histories.consent() & purpose.bit))
        return self.compute(features, willing, at, keep=keep)

    def compute(
        self, features: FeatureSet, histories: Histories, at: int | NDArray[np.int64], *, keep: str
    ) -> FeatureMatrix:
        """`FeatureSet.compute` on one core; kept rows of persons who have not changed since are not made again.

        Args:
            features: What to compute.
            histories: Rows of this bucket's persons.
            at: Microseconds UTC, one for all rows or shape (n_rows,).
            keep: The rows take the place of those that were kept under this name.
        """
        file = self._file(features, keep)
        asked = self._asked(histories, at)
        kept = _read(file, features)
        places = kept.select(KEY).with_row_index("place").unique(KEY)
        place = asked.join(places, on=KEY, how="left", maintain_order="left")["place"]
        missing = place.is_null().arg_true().to_numpy().astype(np.int64)
        fresh = features.compute(histories.take(missing), asked["at"].to_numpy()[missing], threads=1)
        rows = place.fill_null(0).to_numpy().astype(np.int64)
        rows[missing] = kept.height + np.arange(len(missing))
        made = pl.concat([kept, _frame(fresh, asked[missing])])[rows]
        if len(missing) or len(rows) < kept.height or not file.exists():
            _write(file, made)
        return _matrix(features, made)

    def _asked(self, histories: Histories, at: int | NDArray[np.int64]) -> pl.DataFrame:
        users = pl.Series("user", histories.users.tolist(), pl.String)
        asked = pl.DataFrame([users, pl.Series("at", np.full(len(users), at, np.int64))])
        digests = self.bucket.users(self.folder).select("user", "digest")
        return asked.join(digests, on="user", how="left", maintain_order="left")

    def _file(self, features: FeatureSet, keep: str) -> Path:
        name = sha256(f"{keep} {features.fingerprint}".encode()).hexdigest()[:16]
        return self.folder / self.bucket.name / f"rows-{name}.ipc"

    def take_over(self, before: Bucket) -> None:
        """Move the rows that are kept of the bucket that was in this place here."""
        for file in (self.folder / before.name).glob("*rows-*.ipc"):
            target = self.folder / self.bucket.name / f"{BEFORE}{file.name.removeprefix(BEFORE)}"
            if not (file.name.startswith(BEFORE) and target.exists()):
                file.rename(target)


def _read(file: Path, features: FeatureSet) -> pl.DataFrame:
    """What is kept: of this bucket, of the one before, or nothing."""
    for path in (file, file.with_name(BEFORE + file.name)):
        if path.exists():
            return pl.read_ipc(path)
    types = {"user": pl.String, "at": pl.Int64, "digest": pl.Int64, "capped": pl.Boolean}
    return pl.DataFrame(schema={**types, **{str(column): pl.Float64 for column in range(len(features.names))}})


def _write(file: Path, frame: pl.DataFrame) -> None:
    with replacing(file) as draft:
        frame.write_ipc(draft, compression="lz4")
    file.with_name(BEFORE + file.name).unlink(missing_ok=True)
    kept = sorted(file.parent.glob("*rows-*.ipc"), key=lambda path: path.stat().st_mtime_ns)
    for path in kept[:-MOST]:
        path.unlink(missing_ok=True)


def _frame(matrix: FeatureMatrix, asked: pl.DataFrame) -> pl.DataFrame:
    columns = [str(column) for column in range(len(matrix.names))]
    values = pl.DataFrame(matrix.values, schema=columns, orient="row")
    return asked.with_columns(capped=matrix.capped).hstack(values)


def _matrix(features: FeatureSet, frame: pl.DataFrame) -> FeatureMatrix:
    users, at, capped = (frame[name].to_numpy() for name in ("user", "at", "capped"))
    values = frame.drop(*KEY, "capped").to_numpy(order="c")
    return FeatureMatrix(values, users.astype(object), at, features.names, features.fingerprint, capped)
