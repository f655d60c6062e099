"""Filling: a schema's states rebuilt from the event log and the journal, while events keep coming in."""

import logging
from typing import TYPE_CHECKING

from features.behaviour.carry import fold_carry
from features.behaviour.histories import Histories
from features.behaviour.lifetime import boundary_of
from features.behaviour.schema import StateSchema
from features.errors import LogError, ProjectError
from features.events.log import EventLog
from features.events.parts import locked
from features.events.plan import TrackingPlan
from serving import journal
from serving.identities import Aliases
from serving.settings import Settings
from serving.store import LiveSchema, SqliteStore, known_from, trimmed
from training.bundle import Bundle, current

if TYPE_CHECKING:
    import sqlite3

LOGGER = logging.getLogger("ethogram.filling")
USERS_AT_ONCE = 500


def fill(store: SqliteStore, log: EventLog, schema: StateSchema, *, now: int) -> int:
    """Make a generation of `schema` that holds what the log and the journal hold; the id to read it under.

    What lies behind the horizon as of `now` goes into the carry.
    From the first step on events are appended to it, so whatever the log lacks comes in meanwhile; what comes twice
    is one event when it is read. A generation of the same schema that was there before is dropped at the end.
    """
    with locked(store.path.with_name(store.path.name + ".filling")):
        return _fill(store, log, schema, boundary_of(now, schema.horizon))


def _fill(store: SqliteStore, log: EventLog, schema: StateSchema, boundary: int) -> int:
    before = [live.id for live in store.live() if live.schema.fingerprint == schema.fingerprint]
    _identities(store, log)
    with store.writing() as db:
        live = LiveSchema(store.declare(db, schema), schema, filled=False)
        waiting = journal.read(db, log.plan)
        if waiting is not None:
            store.record(db, waiting.frame, into=[live])
    n_users = _histories(store, log, live, boundary)
    with store.writing() as db:
        db.execute("UPDATE schemas SET filled = 1 WHERE id = ?", (live.id,))
    for place in before:
        store.drop(place)
    LOGGER.info("state %s is filled: %d users", schema.fingerprint, n_users)
    return live.id


def refill(settings: Settings, *, now: int) -> list[dict[str, object]]:
    """Fill the state of the published bundle, and of every schema that is live, again from the event log.

    Returns:
        Per schema, its fingerprint and how many users the store holds.

    Raises:
        ProjectError: no bundle has been published, so no schema is known.
    """
    folder = current(settings.bundles)
    if folder is None:
        raise ProjectError("no bundle has been published. Hint: `ethogram promote`.")
    bundle = Bundle.load(folder)
    log = EventLog(settings.log, TrackingPlan.read(folder / "plan.yaml"), key=settings.key)
    with SqliteStore(settings.state) as store:
        schemas = {live.schema.fingerprint: live.schema for live in store.live()}
        schemas[bundle.schema.fingerprint] = bundle.schema
        filled = {name: fill(store, log, schema, now=now) for name, schema in schemas.items()}
        return [{"schema": name, "users": len(store.users(place))} for name, place in filled.items()]


def _identities(store: SqliteStore, log: EventLog) -> None:
    """Take over the links of the log; what they join that the store holds apart is joined."""
    links = log.links()
    with store.writing() as db:
        aliases = Aliases(db)
        live = store.live(db)
        for move in aliases.adopt(links):
            for each in live:
                store.move(db, each, move)


def _histories(store: SqliteStore, log: EventLog, live: LiveSchema, boundary: int) -> int:
    n_users = 0
    try:
        for whole in log.histories_by_bucket(live.schema):
            histories = fold_carry(whole, boundary) if live.schema.lifetime else whole
            for start in range(0, len(histories), USERS_AT_ONCE):
                stop = min(start + USERS_AT_ONCE, len(histories))
                with store.writing() as db:
                    _write(store, db, live, histories, range(start, stop))
            n_users += len(histories)
    except LogError as error:
        LOGGER.info("nothing to fill from: %s", error)
    return n_users


def _write(store: SqliteStore, db: "sqlite3.Connection", live: LiveSchema, histories: Histories, rows: range) -> None:
    """Rows of the log's histories as bases; an id that was joined meanwhile goes to the person it joined."""
    found = Aliases(db).resolve([str(histories.users[row]) for row in rows])
    for row in rows:
        user, records = str(histories.users[row]), histories.state(row)
        carry = None if histories.carry is None else histories.carry[row].tobytes()
        canonical, joined = found.get(user, (user, 0))
        if joined:
            records = known_from(live.schema, records, joined)
        records = trimmed(live.schema, records)
        store.put(db, live, canonical, records, carry)
