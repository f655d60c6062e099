"""Segment: messages as JSON lines in the shape of Segment's HTTP API, put together column by column."""

import polars as pl

from features.simulate.dirt import UNDECLARED_PROPERTY
from features.simulate.properties import PROPERTIES

PURPOSES = ("analytics", "personalisation", "model_training")
ANY_PROPERTIES = tuple(dict.fromkeys(name for names in PROPERTIES.values() for name in names))


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
        _lines(part, str(event), sent)
        for (event,), part in frame.with_row_index("place").group_by("event", maintain_order=True)
    ]
    return pl.concat(parts).sort("place").get_column("line") if parts else pl.Series("line", [], dtype=pl.String)


def _lines(part: pl.DataFrame, event: str, sent: bool) -> pl.DataFrame:
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
