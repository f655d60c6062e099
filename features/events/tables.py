"""Tables: rows of somebody's columns as events, by a mapping."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import SourceError, nearest
from features.events import quarantine
from features.events.batch import FIELDS, PREFIX, EventBatch, property_type
from features.events.clocks import Clock
from features.events.ids import RowIds, of_source
from features.events.mapping import Condition, Consent, Mapping, Measure, Naming, Value
from features.events.plan import TrackingPlan
from features.events.values import FALSE, TRUE
from features.instants import SECOND
from features.people import stable_hash

_WHOLE = r"^\s*([+-]?\d+)\.0*\s*$"
_TEXTS = ("user_id", "anonymous_id", "previous_id", "message_id", "user_agent", "ip")
_PASSED = ("id", "seq", "offset", "consent", "device", "browser")


def own_names(columns: list[str], plan: TrackingPlan, *, zone: str | None = None) -> Mapping:
    """The mapping of a table whose columns have our own names already.

    Raises:
        SourceError: event, ts or the person is missing.
    """
    for name in ("event", "ts"):
        if name not in columns:
            raise SourceError(f"there is no column {name!r}. Hint: a mapping says which column is what.")
    if "user_id" not in columns and "anonymous_id" not in columns:
        raise SourceError("there is no column 'user_id'. Hint: a mapping says which column is what.")
    names = {name: PREFIX + name if PREFIX + name in columns else name for name in plan.properties}
    properties = {name: column for name, column in names.items() if column in columns and column not in FIELDS}
    fields = {name: name for name in (*_TEXTS, "received") if name in columns}
    ts = {"column": "ts", "zone": zone}
    return Mapping.from_dict({"event": "event", "ts": ts, **fields, "properties": properties})


class TableReader:
    """Reads the blocks of one table, in order.

    Args:
        columns: The table's columns.
        plan: Types the properties.
        mapping: What the columns mean; None: they have our own names.
        own: The columns have our own names although there is a mapping.
        source: Overrides the mapping's.

    Raises:
        SourceError: a column is missing, or the mapping names what the plan does not declare.
    """

    def __init__(
        self,
        columns: list[str],
        plan: TrackingPlan,
        *,
        mapping: Mapping | None = None,
        own: bool = False,
        source: str | None = None,
    ) -> None:
        self._own = own or mapping is None
        self._mapping = mapping or own_names(columns, plan)
        self._mapping.check(plan)
        missing = sorted(self._mapping.needs - set(columns))
        if missing:
            raise SourceError(f"there is no column {missing[0]!r}. {nearest(missing[0], columns)}")
        self._plan = plan
        self.source = source or self._mapping.source
        self._columns = columns
        self._ids = RowIds()
        times = {"ts": self._mapping.ts, "received": self._mapping.received}
        self._clocks = {
            name: Clock(format=time.format, unit=time.unit, zone=time.zone) for name, time in times.items() if time
        }

    def read(self, table: pl.DataFrame, places: NDArray[np.int64], rows: pl.Series | None = None) -> EventBatch:
        """A block as a batch.

        Args:
            table: The columns, and perhaps further ones.
            places: Of its rows in the source.
            rows: Each row as one text, for its hash; None: its columns.
        """
        undeclared = self._undeclared(table)
        times, problem = self._times(table)
        properties, misfits = self._properties(table)
        frame = pl.DataFrame([*times, *self._fields(table, places, rows), *properties])
        if self._own:
            frame = frame.with_columns(table[name] for name in _PASSED if name in table.columns)
        if undeclared and self._plan.undeclared == "keep":
            frame = frame.with_columns(_extra(table.select(sorted(undeclared))))
        why = _why(problem, misfits)
        bad = why["reason"].is_not_null()
        rejected = self._rejected(table.filter(bad), frame.filter(bad), why.filter(bad))
        return EventBatch(frame.filter(~bad), self._plan, rejected=rejected, undeclared=undeclared)

    def _times(self, table: pl.DataFrame) -> tuple[list[pl.Series], pl.DataFrame]:
        ts = self._clocks["ts"].read(table[self._mapping.ts.column])
        why = ts.select("reason", detail=table[self._mapping.ts.column].cast(pl.String, strict=False).str.slice(0, 64))
        if self._mapping.received is None:
            received = ts["ts"] + self._mapping.blind_spot
        else:
            received = self._clocks["received"].read(table[self._mapping.received.column])["ts"]
        return [ts["ts"], ts["offset"], received.rename("received")], why

    def _fields(self, table: pl.DataFrame, places: NDArray[np.int64], rows: pl.Series | None) -> list[pl.Series]:
        texts = {name: value_of(table, value).cast(pl.String) for name, value in self._mapping.identities.items()}
        message_ids = texts.get("message_id", _nulls(table.height))
        origin = self._origin(table)
        columns = {
            **texts,
            "message_id": message_ids,
            "event": _events(table, self._mapping.event),
            "source": origin,
            "id": of_source(self._id(table, message_ids, rows), origin),
            "seq": pl.Series(places),
            "row": pl.Series(places),
        }
        if self._mapping.consent is not None:
            columns["consent"] = _consent(table, self._mapping.consent)
        return [column.rename(name) for name, column in columns.items()]

    def _origin(self, table: pl.DataFrame) -> pl.Series:
        if self._own and "source" in table.columns:
            return table["source"].cast(pl.String).fill_null(self.source)
        return pl.repeat(self.source, table.height, dtype=pl.String, eager=True)

    def _id(self, table: pl.DataFrame, message_ids: pl.Series, rows: pl.Series | None) -> pl.Series:
        hashes = stable_hash(message_ids)
        if not hashes.null_count():
            return hashes
        if rows is None:
            texts = [pl.col(name).cast(pl.String, strict=False).fill_null("\0") for name in self._columns]
            rows = table.select(pl.concat_str(texts, separator="\x1f").alias("row")).to_series()
        own = stable_hash(rows) if self._mapping.duplicates else self._ids.of(rows)
        return hashes.zip_with(hashes.is_not_null(), own)

    def _properties(self, table: pl.DataFrame) -> tuple[list[pl.Series], list[tuple[str, pl.Series]]]:
        columns, misfits = [], []
        for name, measure in self._mapping.properties.items():
            value, misfit = _typed(table, measure, property_type(self._plan, name), self._plan.properties[name].type)
            columns.append(value.rename(PREFIX + name))
            misfits.append((name, misfit))
        return columns, misfits

    def _undeclared(self, table: pl.DataFrame) -> dict[str, int]:
        known = self._mapping.needs | (frozenset(FIELDS) if self._own else frozenset())
        counts = {name: table.height - table[name].null_count() for name in table.columns if name not in known}
        return {name: count for name, count in counts.items() if count}

    def names(self, table: pl.DataFrame) -> dict[str, str]:
        """The plan's names of mapped columns, so that sealing knows what is personal."""
        origins: list[tuple[str, Value | Measure]] = [
            *self._mapping.identities.items(),
            *self._mapping.properties.items(),
        ]
        pairs = [(origin.column, name) for name, origin in origins if origin.column in table.columns]
        return {column: name for column, name in pairs if column and name not in table.columns}

    def _rejected(self, table: pl.DataFrame, frame: pl.DataFrame, why: pl.DataFrame) -> pl.DataFrame:
        if table.is_empty():
            return quarantine.empty()
        rows = table.rename(self.names(table)).to_dicts()
        known = frame.select("source", "row", "event", "message_id", user=_or_null(frame, "user_id"))
        return known.with_columns(
            why["reason"],
            why["detail"],
            pl.Series("payload", [quarantine.payload(row) for row in rows]),
            anonymous=frame.select(_or_null(frame, "anonymous_id")).to_series(),
            file=pl.lit(None, pl.String),
            ts=pl.lit(None, pl.Int64),
        ).select(list(quarantine.SCHEMA))


def value_of(table: pl.DataFrame, value: Value | Measure) -> pl.Series:
    """A mapped column, still untyped: text unless the table has typed columns."""
    if value.constant is not None:
        return pl.repeat(value.constant, table.height, eager=True)
    if isinstance(value, Measure) and value.product is not None:
        one, other = (_numbers(table[name]) for name in value.product)
        return one * other
    if isinstance(value, Value) and value.columns is not None:
        return table.select(pl.concat_str([_plain(table[name]) for name in value.columns], separator=":")).to_series()
    column = table[str(value.column)]
    if value.as_ is None and value.values is None:
        return _plain(column) if column.dtype.is_float() and isinstance(value, Value) else column
    column = _plain(column)
    if value.as_ == "whole":
        column = column.str.replace(_WHOLE, "$1")
    if value.as_ == "lower":
        column = column.str.to_lowercase()
    return column if value.values is None else column.replace(value.values)


def _plain(column: pl.Series) -> pl.Series:
    """As text; whole floats without `.0`."""
    if column.dtype.is_float():
        whole = (column == column.round()) & (column.abs() < 2**53)
        return (
            column.cast(pl.Int64, strict=False)
            .cast(pl.String)
            .zip_with(whole.fill_null(value=False), column.cast(pl.String))
        )
    return column.cast(pl.String, strict=False)


def _numbers(column: pl.Series) -> pl.Series:
    text = column.dtype == pl.String
    return (column.str.strip_chars() if text else column).cast(pl.Float64, strict=False)


def _typed(table: pl.DataFrame, measure: Measure, dtype: pl.DataType, kind: str) -> tuple[pl.Series, pl.Series]:
    """A property's values, and the rows whose value does not fit the type."""
    raw = value_of(table, measure)
    if measure.product is not None:
        given = table[measure.product[0]].is_not_null() & table[measure.product[1]].is_not_null()
        return raw * measure.times, given & raw.is_null()
    if raw.dtype == pl.String:
        raw = raw.replace("", None)
    if kind == "time" and not raw.dtype.is_numeric():
        value = Clock().read(raw)["ts"] / SECOND
    elif dtype == pl.Float64:
        value = _numbers(raw) * measure.times
    elif dtype == pl.Boolean:
        value = raw if raw.dtype == pl.Boolean else _flags(raw)
    else:
        value = _plain(raw)
    return value.cast(dtype), raw.is_not_null() & value.is_null()


def _flags(column: pl.Series) -> pl.Series:
    words = {**dict.fromkeys(TRUE, True), **dict.fromkeys(FALSE, False)}
    return (
        _plain(column).str.strip_chars().str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)
    )


def _events(table: pl.DataFrame, naming: Naming) -> pl.Series:
    name = _plain(table[naming.column]) if naming.column else _nulls(table.height)
    if naming.values is not None:
        name = name.replace(naming.values)
    chosen: pl.Expr = pl.lit(name) if naming.otherwise is None else pl.lit(name).fill_null(naming.otherwise)
    for rule in reversed(naming.rules):
        held = pl.all_horizontal([pl.lit(_holds(table[each.column], each)) for each in rule.when])
        chosen = pl.when(held).then(pl.lit(rule.event)).otherwise(chosen)
    return table.select(chosen.alias("event")).to_series()


def _holds(column: pl.Series, condition: Condition) -> pl.Series:
    text = _plain(column)
    held = [text.is_not_null()] if condition.missing is None else []
    if condition.missing is not None:
        held.append(text.is_null() == condition.missing)
    if condition.starts_with is not None:
        held.append(text.str.starts_with(condition.starts_with))
    if condition.equals is not None:
        held.append(text == condition.equals)
    if condition.one_of is not None:
        held.append(text.is_in(list(condition.one_of)))
    if condition.below is not None:
        held.append(_numbers(column) < condition.below)
    if condition.above is not None:
        held.append(_numbers(column) > condition.above)
    return pl.select(pl.all_horizontal([each.fill_null(value=False) for each in held])).to_series()


def _consent(table: pl.DataFrame, consent: Consent) -> pl.Series:
    masks = {value: sum({each.bit for each in purposes}) for value, purposes in consent.values.items()}
    return _plain(table[consent.column]).replace_strict(masks, default=None, return_dtype=pl.Int8)


def _why(times: pl.DataFrame, misfits: list[tuple[str, pl.Series]]) -> pl.DataFrame:
    """Columns reason and detail; a time that cannot be read comes first."""
    reason: pl.Expr = pl.col("reason")
    detail: pl.Expr = pl.when(reason.is_not_null()).then("detail")
    for name, misfit in misfits:
        if misfit.any():
            here = reason.is_null() & pl.lit(misfit)
            detail = pl.when(here).then(pl.lit(f"{name}: not of its type")).otherwise(detail)
            reason = pl.when(here).then(pl.lit("bad_value")).otherwise(reason)
    return times.select(reason.alias("reason"), detail.alias("detail"))


def _extra(table: pl.DataFrame) -> pl.Series:
    """Undeclared columns as JSON, the missing ones left out."""
    rows = [{name: value for name, value in row.items() if value is not None} for row in table.to_dicts()]
    return pl.Series("extra", [quarantine.payload(row) if row else None for row in rows], dtype=pl.String)


def _nulls(height: int) -> pl.Series:
    return pl.repeat(None, height, dtype=pl.String, eager=True)


def _or_null(frame: pl.DataFrame, name: str) -> pl.Expr:
    return pl.col(name) if name in frame.columns else pl.lit(None, pl.String)
