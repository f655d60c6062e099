"""Filling: a schema's states rebuilt from the event log and the journal, while events keep coming in."""

import logging
from contextlib import closing

from features.behaviour.carry import fold_carry
from features.behaviour.histories import Histories
from features.behaviour.lifetime import boundary_of
from features.behaviour.schema import StateSchema
from features.errors import LogError, ProjectError
from features.events.log import EventLog
from features.events.plan import TrackingPlan
from serving.settings import Settings
from serving.state import LiveSchema, Row, StateStore
from serving.store import store_of
from training.bundle import Bundle, current

LOGGER = logging.getLogger("ethogram.filling")
USERS_AT_ONCE = 500


def fill(store: StateStore, log: EventLog, schema: StateSchema, *, now: int, again: bool = True) -> int:
    """Make a generation of `schema` that holds what the log and the journal hold; the id to read it under.

    What lies behind the horizon as of `now` goes into the carry.
    From the first step on events are appended to it, so whatever the log lacks comes in meanwhile; what comes twice
    is one event when it is read. A generation of the same schema that was there before is dropped at the end.
    Where another process has filled one meanwhile, that one does, unless `again` is asked for.
    """
    with store.filling():
        there = None if again else store.filled(schema)
        return there if there is not None else _fill(store, log, schema, boundary_of(now, schema.horizon))


def _fill(store: StateStore, log: EventLog, schema: StateSchema, boundary: int) -> int:
    before = [live.id for live in store.live() if live.schema.fingerprint == schema.fingerprint]
    store.adopt(log.links())
    live = store.begin(schema, log.plan)
    n_users = _histories(store, log, live, boundary)
    store.complete(live)
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
    with closing(store_of(settings)) as store:
        schemas = {live.schema.fingerprint: live.schema for live in store.live()}
        schemas[bundle.schema.fingerprint] = bundle.schema
        filled = {name: fill(store, log, schema, now=now) for name, schema in schemas.items()}
        return [{"schema": name, "users": len(store.users(place))} for name, place in filled.items()]


def _histories(store: StateStore, log: EventLog, live: LiveSchema, boundary: int) -> int:
    n_users = 0
    try:
        for whole in log.histories_by_bucket(live.schema):
            histories = fold_carry(whole, boundary) if live.schema.lifetime else whole
            for start in range(0, len(histories), USERS_AT_ONCE):
                store.load(live, _rows(histories, range(start, min(start + USERS_AT_ONCE, len(histories)))))
            n_users += len(histories)
    except LogError as error:
        LOGGER.info("nothing to fill from: %s", error)
    return n_users


def _rows(histories: Histories, rows: range) -> list[Row]:
    carries = histories.carry
    return [
        (str(histories.users[row]), histories.state(row), None if carries is None else carries[row].tobytes())
        for row in rows
    ]
