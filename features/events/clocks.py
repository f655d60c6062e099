"""Clocks: columns of times, however they are written, as microseconds UTC with the local offset in minutes."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.instants import MINUTE, SECOND, zone_offsets

UNITS = {"s": SECOND, "ms": 1_000, "us": 1}
_ZONE = r"(?i)\s*(Z|UTC|GMT|[+-]\d\d:?\d\d)\s*$"
_ISO = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")


def to_utc(local: NDArray[np.int64], zone: str) -> NDArray[np.int64]:
    """Local times of a zone as UTC.

    A time that the clock showed twice is the first of the two; a time that it skipped is read on the clock as it stood
    before the change, that is, as much later as the clock was put forward.

    Args:
        local: Microseconds since 1970 as the local clock shows them.
        zone: An IANA name.
    """
    starts, offsets = zone_offsets(zone)
    changes = starts[1:] + np.maximum(offsets[1:], offsets[:-1])
    return local - offsets[np.searchsorted(changes, local, "right")]


def offset_minutes(utc: NDArray[np.int64], zone: str) -> NDArray[np.int16]:
    """Minutes that the zone's clock is ahead of UTC."""
    starts, offsets = zone_offsets(zone)
    return (offsets[np.searchsorted(starts, utc, "right") - 1] // MINUTE).astype(np.int16)


class Clock:
    """Reads one source's times, block by block.

    Where no zone is declared, the file's first time decides: either all name their zone, or none does (and all are
    UTC); times of the other kind are `mixed_zones`.
    """

    def __init__(self, *, format: str | None = None, unit: str | None = None, zone: str | None = None) -> None:  # noqa: A002 - the mapping's word
        self._format = format
        self._unit = unit
        self._zone = zone
        self._aware: bool | None = None

    def read(self, column: pl.Series) -> pl.DataFrame:
        """Columns ts, offset and reason (`bad_timestamp`, `mixed_zones`; null where the time is good)."""
        dtype = column.dtype
        if dtype == pl.Date:
            column = column.cast(pl.Datetime("us"))
        if isinstance(column.dtype, pl.Datetime):
            return self._datetimes(column)
        if dtype.is_numeric():
            return self._epochs(column)
        texts = column.cast(pl.String, strict=False).str.strip_chars()
        if self._unit is not None or (self._format is None and _all_numbers(texts)):
            return self._epochs(
                texts.cast(pl.Int64, strict=False)
                if not texts.str.contains(".", literal=True).any()
                else texts.cast(pl.Float64, strict=False)
            )
        return self._texts(texts)

    def _epochs(self, column: pl.Series) -> pl.DataFrame:
        value = pl.col("value")
        if self._unit is not None:
            scaled = value * UNITS[self._unit]
        else:
            scaled = (
                pl.when(value.abs() < 1e11)
                .then(value * SECOND)
                .when(value.abs() < 1e14)
                .then(value * 1_000)
                .otherwise(value)
            )
        frame = column.rename("value").to_frame().with_columns(pl.when(value.abs() < 1e17).then(value))
        if column.dtype.is_float():
            scaled = scaled.round()
        ts = frame.select(scaled.cast(pl.Int64, strict=False).alias("ts")).to_series()
        return self._result(ts, zone=self._zone)

    def _datetimes(self, column: pl.Series) -> pl.DataFrame:
        zone = getattr(column.dtype, "time_zone", None)
        values = column.dt.cast_time_unit("us").to_physical().rename("ts")
        if zone is None and self._zone is not None:
            return self._result(_local_to_utc(values, self._zone), zone=self._zone)
        return self._result(values, zone=self._zone or (zone if zone not in (None, "UTC") else None))

    def _texts(self, texts: pl.Series) -> pl.DataFrame:
        suffix = texts.str.extract(_ZONE)
        local = self._local(texts.str.replace(_ZONE, "")).dt.cast_time_unit("us").to_physical()
        minutes, aware = _suffix_minutes(suffix), suffix.is_not_null()
        naive = _local_to_utc(local, self._zone) if self._zone is not None else local
        ts = (local - minutes.cast(pl.Int64) * MINUTE).zip_with(aware, naive).rename("ts")
        result = self._result(ts, zone=self._zone)
        named = minutes.zip_with(
            suffix.str.contains(r"^[+-]").fill_null(value=False),
            pl.Series([None], dtype=pl.Int16).new_from_index(0, len(ts)),
        )
        result = result.with_columns(
            offset=pl.coalesce(named.rename("named"), "offset") if self._zone is None else pl.col("offset")
        )
        return self._unmixed(result, aware)

    def _local(self, plain: pl.Series) -> pl.Series:
        if self._format is not None:
            form = self._format.removesuffix("%z").removesuffix("%Z").rstrip()
            return plain.str.to_datetime(form, time_unit="us", strict=False)
        column = plain.str.replace(" ", "T", literal=True)
        read = column.str.to_datetime(_ISO[0], time_unit="us", strict=False)
        for form in _ISO[1:]:
            if read.null_count() > column.null_count():
                read = read.zip_with(read.is_not_null(), column.str.to_datetime(form, time_unit="us", strict=False))
        return read

    def _unmixed(self, result: pl.DataFrame, aware: pl.Series) -> pl.DataFrame:
        good = result["ts"].is_not_null()
        if self._zone is not None or not good.any():
            return result
        if self._aware is None:
            self._aware = bool(aware.filter(good)[0])
        other = good & (aware if not self._aware else ~aware)
        return result.with_columns(reason=pl.when(other).then(pl.lit("mixed_zones")).otherwise("reason"))

    @staticmethod
    def _result(ts: pl.Series, *, zone: str | None) -> pl.DataFrame:
        offset = pl.Series("offset", [None], dtype=pl.Int16).new_from_index(0, len(ts))
        if zone is not None and len(ts):
            minutes = pl.Series(offset_minutes(ts.fill_null(0).to_numpy(), zone))
            offset = minutes.zip_with(ts.is_not_null(), offset).rename("offset")
        bad = pl.when(ts.is_null()).then(pl.lit("bad_timestamp"))
        return pl.DataFrame([ts.rename("ts"), offset]).with_columns(bad.alias("reason"))


def _all_numbers(texts: pl.Series) -> bool:
    given = texts.drop_nulls()
    return bool(len(given)) and bool(given.head(100).str.contains(r"^-?\d{9,}(\.\d+)?$").all())


def _local_to_utc(local: pl.Series, zone: str) -> pl.Series:
    utc = pl.Series(to_utc(local.fill_null(0).to_numpy(), zone))
    return utc.zip_with(local.is_not_null(), local)


def _suffix_minutes(suffix: pl.Series) -> pl.Series:
    sign = pl.when(pl.col("s").str.starts_with("-")).then(-1).otherwise(1)
    hours = pl.col("s").str.extract(r"^[+-](\d\d)").cast(pl.Int16)
    minutes = pl.col("s").str.extract(r"^[+-]\d\d:?(\d\d)$").cast(pl.Int16)
    return suffix.rename("s").to_frame().select((sign * (hours * 60 + minutes)).fill_null(0).cast(pl.Int16)).to_series()
