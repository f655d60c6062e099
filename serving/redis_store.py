"""Redis store: states and identity that many processes share; events wait in a journal of each process's own.

Every command names keys of one user, which share a slot through their hash tag: a cluster may hold them.
"""

import fcntl
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from json import dumps, loads
from typing import Any

import polars as pl
import redis

from features.behaviour.schema import StateSchema
from features.errors import ProjectError, StoreError
from features.events import identity
from features.events.batch import EventBatch
from features.events.plan import TrackingPlan
from serving import journal
from serving.assignment import Enrolled
from serving.identities import Joined
from serving.journal import ROLL_ROWS
from serving.redis_aliases import RedisAliases
from serving.redis_client import (
    PREFIX,
    Client,
    Reading,
    alias_key,
    alias_of,
    connected,
    key_of,
    piped,
    slices,
    state_key,
)
from serving.redis_states import append, merge, move, state_in
from serving.state import LOOK_S, LiveSchema, Row, State, routed, states_of
from serving.store import SqliteStore

LOGGER = logging.getLogger("ethogram.redis")
READ_S, WRITE_S = 0.03, 2.0
"""What reading for an answer, and writing, may take; `?socket_timeout=` in the address says otherwise."""
FILLER_S = 60
"""A filler that is not heard of for so long is taken for dead."""

SCHEMAS, ERASURES = PREFIX + b"schemas", PREFIX + b"erasures"
REGISTER = "if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end"


class RedisStore:
    """States in Redis, the journal in a file.

    What Redis does not take stays in the journal and is appended once it does; what is appended twice is one event
    when it is read. Records move to another id by being copied first and let go of second, so a process that dies
    leaves copies, never gaps.

    Attributes:
        journal: The file that accepted events wait in.
        behind: Arrival of the oldest accepted event that Redis has not taken; None where it has taken all.
    """

    remote = True

    def __init__(self, url: str, file: SqliteStore, *, owner: bool = False) -> None:
        self.url = url
        self.journal = file
        self.behind: int | None = None
        self.erasures = 0
        self._turn = threading.RLock()
        self._clients: dict[float, Client] = {}
        self._reading: Reading | None = None
        self._live: list[LiveSchema] = []
        self._looked = 0.0
        self._applied: dict[int, int] = {}
        self._filler: Any = None
        self._owned = self._own() if owner else None

    def _own(self) -> Any:  # noqa: ANN401 - a file
        lock = self.journal.path.with_name(self.journal.path.name + ".owner").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ProjectError(
                f"another process keeps its journal in {self.journal.path}. Hint: give each its own ETHOGRAM_STATE."
            ) from None
        return lock

    def close(self) -> None:
        """Let go; the store cannot be used afterwards."""
        for client in self._clients.values():
            client.close()
        if self._owned:
            self._owned.close()
        self.journal.close()

    @contextmanager
    def _asking(self, timeout_s: float = WRITE_S) -> Iterator[Client]:
        """A client; what goes wrong with Redis is a StoreError."""
        try:
            if timeout_s not in self._clients:
                self._clients[timeout_s] = connected(self.url, timeout_s)
            yield self._clients[timeout_s]
        except (redis.RedisError, OSError) as error:
            raise StoreError(f"Redis: {error}") from None

    # -- generations

    def live(self) -> list[LiveSchema]:
        """The generations that appends go to, oldest first."""
        with self._asking() as client:
            return self._look(client)

    def _look(self, client: Client) -> list[LiveSchema]:
        told: Mapping[bytes, bytes] = client.hgetall(SCHEMAS)
        rows = sorted((int(place), loads(text)) for place, text in told.items())
        self._live = [LiveSchema(place, StateSchema.from_dict(each["schema"]), each["filled"]) for place, each in rows]
        self.erasures = int(client.get(ERASURES) or 0)
        self._looked = time.monotonic()
        return self._live

    def filled(self, schema: StateSchema) -> int | None:
        """The newest filled generation of a schema; None: the state has to be filled first."""
        same = [each.id for each in self.live() if each.filled and each.schema.fingerprint == schema.fingerprint]
        return max(same, default=None)

    def _place(self, client: Client, schema: StateSchema) -> int:
        if time.monotonic() - self._looked > 2 * LOOK_S:  # seldom: the thread that catches up looks too
            self._look(client)
        for each in reversed(self._live):
            if each.filled and each.schema.fingerprint == schema.fingerprint:
                return each.id
        raise StoreError(f"the state of schema {schema.fingerprint} is not filled yet.")

    @contextmanager
    def filling(self) -> Iterator[None]:
        """One filler at a time, on whatever machine."""
        with self._asking() as client:
            lock = client.lock(PREFIX + b"filling", timeout=FILLER_S, thread_local=False)
            lock.acquire()
        self._filler = lock
        try:
            yield
        finally:
            self._filler = None
            with self._asking():
                lock.release()

    def begin(self, schema: StateSchema, plan: TrackingPlan) -> LiveSchema:
        """A new generation that every process appends to from now on, beginning with what waits in its journal."""
        with self._asking() as client, _joining(client):
            live = LiveSchema(int(client.incr(PREFIX + b"generation")), schema, filled=False)
            client.hset(SCHEMAS, str(live.id), _registered(live.schema, filled=False))
        if self._owned:
            self.catch_up(plan)
        return live

    def load(self, live: LiveSchema, rows: Iterable[Row]) -> None:
        """Add what the event log holds of users to what has been appended; aliases are followed."""
        given = list(rows)
        with self._asking() as client:
            if self._filler:
                self._filler.reacquire()
            found = RedisAliases(client).resolve([user for user, _, _ in given])
            ready = list(routed(given, found, live.schema))
            append(client, [live], _together((user, live.id, records) for user, records, _ in ready), trims=False)
            for user, _, carry in ready:
                if carry is not None:
                    merge(client, live, user, carry)

    def complete(self, live: LiveSchema) -> None:
        """Let readers have a generation, once every process has had time to append to it what waits."""
        time.sleep(3 * LOOK_S)
        with self._asking() as client:
            client.eval(REGISTER, 1, SCHEMAS, str(live.id), _registered(live.schema, filled=True))
            self._look(client)

    def drop(self, place: int) -> None:
        """Forget a generation, once every process reads another."""
        with self._asking() as client:
            client.hdel(SCHEMAS, str(place))
            time.sleep(3 * LOOK_S)
            for keys in slices(client.scan_iter(_pattern(place), count=1000)):
                piped(client, (("UNLINK", key) for key in keys))

    def users(self, place: int) -> list[str]:
        """Every canonical id with a state."""
        skipped = len(state_key(place, "")) - 1
        with self._asking() as client:
            return sorted(key[skipped:-1].decode() for key in client.scan_iter(_pattern(place), count=1000))

    # -- reading

    def read(self, schema: StateSchema, users: Sequence[str]) -> list[State]:
        """The states of these ids under the newest filled generation; aliases are followed.

        A state that cannot be one says that it is lost, and fails no other.
        """
        with self._asking(READ_S) as client:
            place = self._place(client, schema)
            if self._reading is None:
                self._reading = Reading(client)
            found = self._reading([key for user in users for key in (alias_key(user), state_key(place, user))])
            told = [alias_of(alias) if alias else (user, 0) for user, alias in zip(users, found[::2], strict=True)]
            names = [user if alias is None else alias[0] for user, alias in zip(users, told, strict=True)]
            moved = [row for row, name in enumerate(names) if name != users[row]]
            blobs = found[1::2]
            if moved:
                elsewhere = self._reading([state_key(place, names[row]) for row in moved])
                for row, blob in zip(moved, elsewhere, strict=True):
                    blobs[row] = blob
        states = [state_in(schema, name, blob) for name, blob in zip(names, blobs, strict=True)]
        for row, alias in enumerate(told):
            if alias is None:
                states[row] = State(users[row], source="lost")
        return states

    def ids(self, user: str) -> list[str]:
        """Every id of the person behind an id."""
        with self._asking(READ_S) as client:
            return RedisAliases(client).ids(user)

    def enrolled(self, ids: Sequence[str]) -> list[tuple[str, Enrolled]]:
        """Test and first exposure of each of these ids, in no order."""
        with self._asking(READ_S) as client:
            told = piped(client, (("HGETALL", _enrolments_key(one)) for one in ids))
        if damaged := [each for each in told if isinstance(each, Exception)]:
            raise StoreError(f"Redis: {damaged[0]}")
        return [(test.decode(), Enrolled(*loads(first))) for each in told for test, first in each.items()]

    # -- writing

    def enrol(self, rows: Sequence[tuple[str, str, Enrolled]]) -> None:
        """Keep test, id and first exposure; one that is kept already stays."""
        with self._asking() as client:
            for part in slices(rows):
                kept = (("HSETNX", _enrolments_key(user), test, dumps(astuple(first))) for test, user, first in part)
                piped(client, kept)

    def take(self, batch: EventBatch, held: pl.DataFrame) -> None:
        """Keep cleaned events in the journal, then in every live generation; what Redis does not take is owed."""
        with self.journal.writing() as db:
            journal.refuse(db, held)
            journal.write(db, batch.frame)
        if not batch.frame.height:
            return
        with self._turn:
            try:
                if self.behind is None:
                    self._apply(batch)
            except StoreError as error:
                self.behind = int(batch.frame["received"].min())  # type: ignore[arg-type] # int64
                LOGGER.error("%s; events wait in the journal", error)

    def _apply(self, batch: EventBatch) -> None:
        top = self._top()
        live = self.live()
        self._fill_in([each for each in live if each.id not in self._applied], batch.plan, top)
        self.record(batch.frame, [each for each in live if self._applied[each.id] < top])
        self._applied = {each.id: top for each in live}

    def catch_up(self, plan: TrackingPlan) -> None:
        """Append what the journal holds and a generation lacks; a new generation lacks everything."""
        with self._turn:
            live, top = self.live(), self._top()
            self._fill_in(live, plan, top)
            self._applied = {each.id: top for each in live}
            if self.behind is not None:
                LOGGER.info("Redis has taken what waited")
            self.behind = None

    def _top(self) -> int:
        return int(self.journal.reader.execute("SELECT ifnull(max(id), 0) FROM arrivals").fetchone()[0])

    def _fill_in(self, live: Sequence[LiveSchema], plan: TrackingPlan, top: int) -> None:
        for each in live:
            done = self._applied.get(each.id, 0)
            while done < top:
                last = min(done + ROLL_ROWS, top)
                waiting = journal.read(self.journal.reader, plan, first=done + 1, last=last)
                if waiting is not None:
                    self.record(waiting.frame, [each])
                done = self._applied[each.id] = last
            self._applied[each.id] = done

    def record(self, frame: pl.DataFrame, into: Sequence[LiveSchema]) -> None:
        """Append a cleaned batch's events to these generations, then join what its links join."""
        with self._asking() as client:
            owned = RedisAliases(client).own(frame)
            rows = {(user, each.id): records for each in into for user, records in states_of(each.schema, owned)}
            append(client, into, rows)
            self._adopt(client, identity.links(frame))

    def adopt(self, links: pl.DataFrame) -> None:
        """Take in links (columns a, b, at), and give the records of ids to the person they turn out to be."""
        with self._asking() as client:
            self._adopt(client, links)

    def _adopt(self, client: Client, links: pl.DataFrame) -> None:
        aliases = RedisAliases(client, lambda rows: self._move(client, rows))
        if aliases.tells(links):
            with _joining(client):
                aliases.adopt(links)

    def _move(self, client: Client, rows: Sequence[Joined]) -> None:
        live = self.live()
        for chunk in slices(rows):
            while chunk:
                chunk = move(client, live, chunk)

    def erase(self, user: str, *, key: bytes) -> list[str]:
        """Remove every record, link and waiting row of the person behind an id; all ids that were theirs."""
        with self._asking() as client:
            aliases = RedisAliases(client)
            ids = aliases.ids(user)
            for each in self.live():
                for one in ids:
                    client.unlink(state_key(each.id, one))
            for one in ids:
                client.unlink(_enrolments_key(one))
            aliases.forget(ids)
            client.incr(ERASURES)
        with self.journal.writing() as db:
            journal.erase(db, ids, key=key)
        return ids


def _enrolments_key(user: str) -> bytes:
    return key_of(b"enrolments", user)


def _joining(client: Client) -> Any:  # noqa: ANN401 - a lock
    """Ids are joined, and generations begun, by one process at a time."""
    return client.lock(PREFIX + b"joining", timeout=FILLER_S, blocking_timeout=WRITE_S, thread_local=False)


def _together(rows: Iterable[tuple[str, int, bytes]]) -> dict[tuple[str, int], bytes]:
    """Records by user and generation; a person may come under several ids."""
    found: dict[tuple[str, int], bytes] = {}
    for user, place, records in rows:
        found[user, place] = found.get((user, place), b"") + records
    return found


def _registered(schema: StateSchema, *, filled: bool) -> str:
    return dumps({"schema": schema.to_dict(), "filled": filled})


def _pattern(place: int) -> bytes:
    return state_key(place, "")[:-1] + b"*"
