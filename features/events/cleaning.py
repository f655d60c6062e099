"""Cleaning: a row becomes an event, a copy, or a quarantined row with its reason; the same for files and the door."""

from collections import Counter
from dataclasses import dataclass

import polars as pl

from features.events import bots, devices, quarantine, scorers
from features.events.batch import FIELDS, PERSON, PREFIX, EventBatch, property_type
from features.events.erasure import IDS, Tombstones
from features.events.identity import denied
from features.events.ids import RowIds, contents, of_source
from features.events.places import Places
from features.events.plan import TrackingPlan
from features.events.report import CleaningReport, count
from features.events.validation import declarations, reasons
from features.instants import MINUTE
from features.people import pseudonym, stable_hash

MAX_NAME, MAX_NAMES = 64, 200
NO_TOMBSTONES = Tombstones()
NO_PLACES = Places()


@dataclass(frozen=True)
class Cleaned:
    """What came of a batch.

    Attributes:
        batch: Events fit for the log: personal data gone, device, browser and mark set.
        quarantine: Rows of `quarantine.SCHEMA`, sealed.
        report: The counts.
    """

    batch: EventBatch
    quarantine: pl.DataFrame
    report: CleaningReport


def clean(
    batch: EventBatch,
    plan: TrackingPlan,
    *,
    key: bytes,
    tombstones: Tombstones = NO_TOMBSTONES,
    restated: bool = False,
    places: Places = NO_PLACES,
) -> Cleaned:
    """The batch as the log takes it.

    Args:
        batch: As a source gives it, with the rows it could not read in `batch.rejected`.
        plan: Types, ranges, policies, and what is personal.
        key: The project's secret, for pseudonyms.
        tombstones: Erased persons, whose old events are left out.
        restated: Rows of one id that were received at different instants are its versions, not copies.
        places: Where addresses are.
    """
    report = CleaningReport(rows=len(batch) + batch.rejected.height, undeclared=_names(batch, plan, key))
    frame = _without_erased(_completed(batch.frame), report, tombstones, key)
    frame = _without_denied(frame, report)
    why = reasons(frame, plan)
    bad = why["reason"].is_not_null()
    rejected = pl.concat([batch.rejected, _rejected(frame.filter(bad), why.filter(bad))])
    held = _held(rejected, plan, report, tombstones, key)
    frame = _distinct(frame.filter(~bad), report, ["received"] if restated else [])
    frame = _placed(_scored(frame, plan), plan, places)
    frame = _missing(_declared(frame, plan, report), plan, report)
    frame = _impersonal(_marked(frame, plan), plan, key)
    count(frame, report)
    return Cleaned(EventBatch(frame, plan), held, report)


def _names(batch: EventBatch, plan: TrackingPlan, key: bytes) -> Counter[str]:
    """Undeclared properties by name; names come from outside, so identifiers and endless variety are taken out."""
    scrub = quarantine.Scrubber(plan, key).text
    named = Counter({name: total for name, total in batch.undeclared.items() if len(name) <= MAX_NAME})
    kept: Counter[str] = Counter()
    for name, total in named.most_common(MAX_NAMES):
        kept[scrub(name)] += total
    kept["(other)"] += sum(batch.undeclared.values()) - kept.total()
    return +kept


def _completed(frame: pl.DataFrame) -> pl.DataFrame:
    frame = frame.with_columns(
        *[pl.col(name).str.strip_chars().replace("", None) for name in IDS],
        received=pl.coalesce("received", "ts"),
        source=pl.col("source").fill_null("unknown"),
    )
    if not frame["id"].null_count():
        return frame
    own = [name for name in frame.columns if name in (*IDS, "event", "ts", "extra") or name.startswith(PREFIX)]
    hashes = stable_hash(frame["message_id"])
    if hashes.null_count():
        hashes = hashes.zip_with(hashes.is_not_null(), RowIds().of(contents(frame.select(own))))
    return frame.with_columns(id=pl.coalesce("id", of_source(hashes, frame["source"])))


def _without_erased(frame: pl.DataFrame, report: CleaningReport, tombstones: Tombstones, key: bytes) -> pl.DataFrame:
    covered = tombstones.cover(frame, key, IDS)
    report.erased += int(covered.sum())
    return frame.filter(~covered) if report.erased else frame


def _without_denied(frame: pl.DataFrame, report: CleaningReport) -> pl.DataFrame:
    """Ids that stand for nobody are set aside where another id names the person; else validation rejects the row."""
    user, anonymous, previous = (denied(frame[name]) for name in IDS)
    set_aside = {
        "user_id": user & frame["anonymous_id"].is_not_null() & ~anonymous,
        "anonymous_id": anonymous & frame["user_id"].is_not_null() & ~user,
        "previous_id": previous,
    }
    report.denied += sum(int(rows.sum()) for rows in set_aside.values())
    clear = [
        pl.when(rows).then(None).otherwise(pl.col(name)).alias(name) for name, rows in set_aside.items() if rows.any()
    ]
    return frame.with_columns(clear)


def _rejected(frame: pl.DataFrame, why: pl.DataFrame) -> pl.DataFrame:
    """Quarantined rows; the payload is what the row held, property names without their prefix."""
    if frame.is_empty():
        return quarantine.empty()
    held = [name for name in frame.columns if name not in ("id", "source", "row", "mark", "flagged", "seq")]
    plain = {name: name.removeprefix(PREFIX) for name in held if name.removeprefix(PREFIX) not in FIELDS}
    rows = frame.select(held).rename(plain).to_dicts()
    payloads = [quarantine.payload({name: value for name, value in row.items() if value is not None}) for row in rows]
    known = frame.select("source", "row", "event", "message_id", "ts", user="user_id", anonymous="anonymous_id")
    placed = known.with_columns(
        why["reason"], why["detail"], pl.Series("payload", payloads), file=pl.lit(None, pl.String)
    )
    return placed.select(list(quarantine.SCHEMA))


def _held(
    rejected: pl.DataFrame, plan: TrackingPlan, report: CleaningReport, tombstones: Tombstones, key: bytes
) -> pl.DataFrame:
    held = quarantine.seal(rejected, plan, key)
    covered = tombstones.cover(held, key, ("user", "anonymous"), hashed=True)
    report.erased += int(covered.sum())
    held = held.filter(~covered)
    report.quarantined.update(dict(held["reason"].value_counts().iter_rows()))
    return held


def _distinct(frame: pl.DataFrame, report: CleaningReport, versions: list[str]) -> pl.DataFrame:
    """Of copies of one id of one visitor, the first known; those that these columns tell apart are no copies."""
    if frame["id"].n_unique() == frame.height:
        return frame
    numbered = frame.with_row_index("place").sort("received", "ts", "seq", "place", nulls_last=True)
    kept = numbered.with_columns(PERSON.alias("person")).unique(
        ["person", "source", "id", *versions], keep="first", maintain_order=True
    )
    report.duplicates += frame.height - kept.height
    return kept.sort("place").drop("place", "person")


def _scored(frame: pl.DataFrame, plan: TrackingPlan) -> pl.DataFrame:
    """What texts say, whatever the event claims they do; asked before they are hidden or dropped."""
    for name, spec in plan.properties.items():
        for scorer, text in spec.scored.items():
            frame = frame.drop(PREFIX + name, strict=False)
            if PREFIX + text in frame.columns:
                events = [event for event, each in plan.specs.items() if name in each.properties]
                mine = pl.when(pl.col("event").is_in(events)).then(pl.col(PREFIX + text))
                said = scorers.scored(frame.select(mine).to_series(), scorer, plan.topics)
                frame = frame.with_columns(said.alias(PREFIX + name))
    return frame


def _placed(frame: pl.DataFrame, plan: TrackingPlan, places: Places) -> pl.DataFrame:
    """Where the address is, in what the event does not say itself."""
    for name, spec, events in declarations(plan):
        if spec.place and places.path is not None:
            column = PREFIX + name
            said = pl.col(column) if column in frame.columns else pl.lit(None, pl.String)
            found = pl.when(pl.col("event").is_in(events)).then(places.of(frame["ip"], spec.place))
            frame = frame.with_columns(pl.coalesce(said, found).alias(column))
    return frame


def _declared(frame: pl.DataFrame, plan: TrackingPlan, report: CleaningReport) -> pl.DataFrame:
    """Properties that their event does not declare are dropped and counted; NaN is missing."""
    changed = []
    for column in [name for name in frame.columns if name.startswith(PREFIX)]:
        name = column.removeprefix(PREFIX)
        value = pl.col(column).fill_nan(None) if plan.properties[name].numeric else pl.col(column)
        events = [event for event, spec in plan.specs.items() if name in spec.properties]
        stray = frame.select((pl.col(column).is_not_null() & ~pl.col("event").is_in(events)).sum()).item()
        if stray:
            report.undeclared[name] += int(stray)
            value = pl.when(pl.col("event").is_in(events)).then(value)
        changed.append(value.alias(column))
    return frame.with_columns(changed)


def _missing(frame: pl.DataFrame, plan: TrackingPlan, report: CleaningReport) -> pl.DataFrame:
    occurring = set(frame["event"].unique())
    for name, spec, events in declarations(plan):
        if spec.missing not in ("default", "flag") or not occurring.intersection(events):
            continue
        column = PREFIX + name
        if column not in frame.columns:
            dtype = property_type(plan, name)
            frame = frame.with_columns(pl.lit(None, dtype).alias(column))
        gap = frame.select(pl.col("event").is_in(events) & pl.col(column).is_null()).to_series()
        report.missing[f"{name}: {spec.missing}"] += int(gap.sum())
        if spec.missing == "default":
            value = pl.lit(spec.default, frame.schema[column])
            frame = frame.with_columns(pl.when(gap).then(value).otherwise(pl.col(column)).alias(column))
        else:
            flag = pl.concat_str(["flagged", pl.lit(name)], separator=",", ignore_nulls=True)
            frame = frame.with_columns(flagged=pl.when(gap).then(flag).otherwise("flagged"))
    report.missing = +report.missing
    return frame


def _marked(frame: pl.DataFrame, plan: TrackingPlan) -> pl.DataFrame:
    agents = frame["user_agent"]
    verdicts = [("bot", bots.declared(agents)), ("address", bots.listed(frame["ip"], plan.addresses))]
    if plan.too_fast is not None and (frame["ts"] % MINUTE != 0).any():
        visitors, rate = frame.select(PERSON).to_series(), plan.too_fast
        fast = bots.too_fast(visitors, frame["ts"], events=rate.events, seconds=rate.seconds)
        verdicts.append(("too_fast", fast))
    marks = [pl.when(rows).then(pl.lit(mark)) for mark, rows in verdicts]
    device, browser = devices.labels(agents)
    return frame.with_columns(
        mark=pl.coalesce("mark", *marks), device=pl.coalesce("device", device), browser=pl.coalesce("browser", browser)
    )


def _impersonal(frame: pl.DataFrame, plan: TrackingPlan, key: bytes) -> pl.DataFrame:
    """No direct identifier is left: address and user agent go, personal properties as the plan says."""
    frame = frame.with_columns(pl.lit(None, FIELDS[name]).alias(name) for name in ("user_agent", "ip"))
    for column in [name for name in frame.columns if name.startswith(PREFIX)]:
        personal = plan.properties[column.removeprefix(PREFIX)].personal
        if personal == "drop":
            frame = frame.drop(column)
        elif personal == "pseudonymise":
            frame = frame.with_columns(_pseudonyms(frame[column], key))
    if plan.undeclared == "drop":
        return frame.with_columns(extra=pl.lit(None, pl.String))
    scrub = quarantine.Scrubber(plan, key).payload
    return frame.with_columns(pl.col("extra").map_elements(scrub, return_dtype=pl.String))


def _pseudonyms(column: pl.Series, key: bytes) -> pl.Series:
    distinct = column.unique().drop_nulls()
    hidden = pl.Series([pseudonym(key, value) for value in distinct], dtype=pl.String)
    return column.replace_strict(distinct, hidden, default=None, return_dtype=pl.String)
