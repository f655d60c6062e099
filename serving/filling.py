"""Filling: a schema's states rebuilt from the event log and the journal, while events keep coming in."""

import logging
from typing import TYPE_CHECKING

from features.behaviour.histories import Histories
from features.behaviour.schema import StateSchema
from features.errors import LogError
from features.events.log import EventLog
from features.events.parts import locked
from serving import journal
from serving.identities import Aliases
from serving.store import LiveSchema, SqliteStore, known_from

if TYPE_CHECKING:
    import sqlite3

LOGGER = logging.getLogger("ethogram.filling")
USERS_AT_ONCE = 500


def fill(store: SqliteStore, log: EventLog, schema: StateSchema) -> int:
    """Make a generation of `schema` that holds what the log and the journal hold; the id to read it under.

    From the first step on events are appended to it, so whatever the log lacks comes in meanwhile; what comes twice
    is one event when it is read. A generation of the same schema that was there before is dropped at the end.
    """
    with locked(store.path.with_name(store.path.name + ".filling")):
        return _fill(store, log, schema)


def _fill(store: SqliteStore, log: EventLog, schema: StateSchema) -> int:
    before = [live.id for live in store.live() if live.schema.fingerprint == schema.fingerprint]
    _identities(store, log)
    with store.writing() as db:
        live = LiveSchema(store.declare(db, schema), schema, filled=False)
        waiting = journal.read(db, log.plan)
        if waiting is not None:
            store.record(db, waiting.frame, into=[live])
    n_users = _histories(store, log, live)
    with store.writing() as db:
        db.execute("UPDATE schemas SET filled = 1 WHERE id = ?", (live.id,))
    for place in before:
        store.drop(place)
    LOGGER.info("state %s is filled: %d users", schema.fingerprint, n_users)
    return live.id


def _identities(store: SqliteStore, log: EventLog) -> None:
    """Take over the links of the log; what they join that the store holds apart is joined."""
    links = log.links()
    with store.writing() as db:
        aliases = Aliases(db)
        live = store.live(db)
        for move in aliases.adopt(links):
            for each in live:
                store.move(db, each, move)


def _histories(store: SqliteStore, log: EventLog, live: LiveSchema) -> int:
    n_users = 0
    try:
        for histories in log.histories_by_bucket(live.schema):
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
        store.put(db, live, canonical, records, carry)
