"""Event batches: validated columns in any order; what sources produce and cleaning consumes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
import polars as pl

from features.errors import SourceError, nearest
from features.events import quarantine
from features.events.plan import TrackingPlan

if TYPE_CHECKING:
    import pandas as pd

PREFIX = "p_"
"""Property columns are `p_<property>`."""

PERSON = pl.coalesce("user_id", "anonymous_id")
"""The id that an event goes by."""

FEW = ("source", "event", "device", "browser", "mark")
"""Fields of few different texts."""

FIELDS: Mapping[str, pl.DataType] = {
    "source": pl.String(),  # where it came from; (source, id) is the key of an event within a person
    "message_id": pl.String(),  # the source's own id, null where it has none
    "id": pl.Int64(),  # 64-bit hash of source and message id, else of the row and its ordinal among identical rows
    "event": pl.String(),
    "user_id": pl.String(),
    "anonymous_id": pl.String(),
    "previous_id": pl.String(),  # alias only
    "ts": pl.Int64(),  # happened, microseconds UTC
    "received": pl.Int64(),  # arrived, microseconds UTC
    "seq": pl.Int64(),  # the source's own order: line number, offset
    "offset": pl.Int16(),  # minutes that local time is ahead of UTC
    "consent": pl.Int8(),  # mask of purposes; null: said nothing
    "user_agent": pl.String(),  # until cleaning
    "ip": pl.String(),  # until cleaning
    "device": pl.String(),  # from cleaning on: desktop, mobile, tablet, other
    "browser": pl.String(),  # from cleaning on: chrome, safari, firefox, edge, samsung, opera, other
    "mark": pl.String(),  # why cleaning keeps it out of histories (a bot's event), else null
    "flagged": pl.String(),  # properties whose `missing: flag` policy applied, joined by commas
    "extra": pl.String(),  # undeclared properties as JSON, where the plan keeps them
    "row": pl.Int64(),  # place in the source, for the quarantine
}


def property_type(plan: TrackingPlan, name: str) -> pl.DataType:
    """The column type of a property: float64 for numbers, Boolean for flags, text for the rest."""
    spec = plan.property(name)
    if spec.numeric:
        return pl.Float64()
    return pl.Boolean() if spec.type == "flag" else pl.String()


def as_stored(frame: pl.DataFrame, plan: TrackingPlan) -> pl.DataFrame:
    """The columns as the log's files hold them: fields of few texts and categories as places in a dictionary."""
    texts = [name for name, dtype in frame.schema.items() if dtype in (pl.String, pl.Categorical)]
    few = {name for name in texts if name in FEW or _is_category(plan, name)}
    return frame.cast({name: pl.Categorical() if name in few else pl.String() for name in texts})


def _is_category(plan: TrackingPlan, column: str) -> bool:
    spec = plan.properties.get(column.removeprefix(PREFIX)) if column.startswith(PREFIX) else None
    return spec is not None and spec.type == "category"


class EventBatch:
    """Events as columns, in any order.

    Attributes:
        frame: The columns of `FIELDS`, each present (null where unknown), then one `p_<property>` column per declared
            property that occurs.
        plan: The tracking plan that types them.
        rejected: Rows that the source could not read, columns of `quarantine.SCHEMA`; `clean` seals them.
        undeclared: Values per undeclared property that the source met.
    """

    def __init__(
        self,
        frame: pl.DataFrame,
        plan: TrackingPlan,
        *,
        rejected: pl.DataFrame | None = None,
        undeclared: Mapping[str, int] | None = None,
    ) -> None:
        declared = {PREFIX + name for name in plan.properties}
        unknown = [name for name in frame.columns if name not in FIELDS and name not in declared]
        if unknown:
            raise SourceError(f"unknown column {unknown[0]!r}. {nearest(unknown[0], [*FIELDS, *declared])}")
        fields = [
            (pl.col(name).cast(dtype) if name in frame.columns else pl.lit(None, dtype)).alias(name)
            for name, dtype in FIELDS.items()
        ]
        properties = [
            pl.col(name).cast(property_type(plan, name.removeprefix(PREFIX)))
            for name in frame.columns
            if name not in FIELDS
        ]
        self.frame = frame.select(*fields, *properties)
        self.plan = plan
        self.rejected = quarantine.empty() if rejected is None else rejected
        self.undeclared = dict(undeclared or {})

    @classmethod
    def from_pandas(
        cls,
        frame: "pd.DataFrame",
        plan: TrackingPlan,
        *,
        source: str = "pandas",
        user: str = "user_id",
        event: str = "event",
        ts: str = "ts",
        zone: str | None = None,
    ) -> Self:
        """A pandas frame as a batch; values that do not fit their type are rows of `rejected`.

        Args:
            frame: One row an event. Other columns are fields (`FIELDS`) or properties of the plan; further ones are
                counted as undeclared.
            plan: Types the properties.
            source: Where the events came from.
            user: The column of user ids; whole floats lose their `.0`.
            event: The column of event names.
            ts: The column of times: datetimes, ISO texts, or epochs.
            zone: Of times that name none; None: UTC.

        Raises:
            SourceError: one of the three columns is missing.
        """
        from features.events.tables import TableReader, own_names

        named = frame.rename(columns={user: "user_id", event: "event", ts: "ts"})
        named.columns = named.columns.astype(str)
        table = pl.from_pandas(named)
        mapping = own_names(table.columns, plan, zone=zone)
        reader = TableReader(table.columns, plan, mapping=mapping, own=True, source=source)
        read = reader.read(table, np.arange(table.height))
        return cls(read.frame, plan, rejected=read.rejected, undeclared=read.undeclared)

    @classmethod
    def empty(cls, plan: TrackingPlan) -> Self:
        """A batch of no events."""
        return cls(pl.DataFrame(schema=dict(FIELDS)), plan)

    @classmethod
    def concat(cls, batches: Sequence["EventBatch"]) -> Self:
        """Several batches of one plan as one."""
        frame = pl.concat([batch.frame for batch in batches], how="diagonal")
        undeclared: Counter[str] = Counter()
        for batch in batches:
            undeclared.update(batch.undeclared)
        rejected = pl.concat([batch.rejected for batch in batches])
        return cls(frame, batches[0].plan, rejected=rejected, undeclared=undeclared)

    def rejecting(self, rows: pl.DataFrame) -> "EventBatch":
        """The batch with further rows that could not be read."""
        rejected = pl.concat([self.rejected, rows])
        return EventBatch(self.frame, self.plan, rejected=rejected, undeclared=self.undeclared)

    def __len__(self) -> int:
        return self.frame.height

    @property
    def properties(self) -> list[str]:
        """The properties that have a column."""
        return [name.removeprefix(PREFIX) for name in self.frame.columns if name not in FIELDS]

    def to_pandas(self) -> "pd.DataFrame":
        """The columns as a pandas frame; instants become UTC datetimes."""
        times = [pl.from_epoch(name, time_unit="us").dt.replace_time_zone("UTC") for name in ("ts", "received")]
        return self.frame.with_columns(times).to_pandas()
