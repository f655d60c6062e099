"""State store: what each user did, as records of every live state schema, in one SQLite file."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from json import dumps, loads
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import polars as pl

from features.behaviour.schema import StateSchema
from features.errors import ProjectError
from features.events import identity
from features.events.batch import EventBatch
from features.events.parts import locked
from features.events.plan import TrackingPlan
from serving import journal
from serving.assignment import Enrolled
from serving.identities import Move, SqliteAliases
from serving.settings import Settings
from serving.state import LiveSchema, Row, State, StateStore, known_from, merged, routed, states_of, trimmed

TAIL_ROWS = 16
"""Rows that a user's tail may have before it is folded into the base."""

AT_ONCE = 64
"""Users that one statement reads."""

MAPPED = 1 << 34
"""Bytes of the file that are read as memory, without a copy through the kernel."""

VERSION = 1
"""Of the tables; a file of another version is not opened."""

TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS schemas (id INTEGER PRIMARY KEY, fingerprint TEXT, document TEXT, filled INTEGER);
CREATE INDEX IF NOT EXISTS schemas_by_fingerprint ON schemas (fingerprint, filled);
CREATE TABLE IF NOT EXISTS bases (schema INTEGER, user TEXT, records BLOB, carry BLOB, PRIMARY KEY (schema, user));
CREATE TABLE IF NOT EXISTS tails (id INTEGER PRIMARY KEY, schema INTEGER, user TEXT, records BLOB);
CREATE INDEX IF NOT EXISTS tails_by_user ON tails (schema, user);
CREATE TABLE IF NOT EXISTS aliases (id TEXT PRIMARY KEY, user TEXT, joined INTEGER) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS aliases_by_user ON aliases (user);
CREATE TABLE IF NOT EXISTS links (a TEXT, b TEXT, at INTEGER, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS links_by_b ON links (b);
CREATE TABLE IF NOT EXISTS arrivals (id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT, event BLOB);
CREATE TABLE IF NOT EXISTS refusals (id INTEGER PRIMARY KEY AUTOINCREMENT, row BLOB);
CREATE TABLE IF NOT EXISTS enrolments (
  id TEXT, test TEXT, arm TEXT, segment TEXT, at INTEGER, PRIMARY KEY (id, test)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS exposures (id INTEGER PRIMARY KEY AUTOINCREMENT, person TEXT, row BLOB);
CREATE TABLE IF NOT EXISTS rolls (name TEXT PRIMARY KEY, first INTEGER, last INTEGER, held INTEGER) WITHOUT ROWID;
"""

WHO = """
WHERE schema = (SELECT max(id) FROM schemas WHERE fingerprint = ?1 AND filled = 1)
  AND user = COALESCE((SELECT user FROM aliases WHERE id = ?2), ?2)
"""
READ = f"SELECT user, records, carry FROM bases {WHO} UNION ALL SELECT user, records, NULL FROM tails {WHO}"  # noqa: S608 - literals
"""Said twice, as SQLite would make a table of what is said once."""

READ_MANY = """
WITH given (place, id) AS (VALUES {}),
asked (place, user) AS MATERIALIZED (
  SELECT place, COALESCE((SELECT user FROM aliases WHERE aliases.id = given.id), given.id) FROM given
), live (schema) AS MATERIALIZED (SELECT max(id) FROM schemas WHERE fingerprint = ? AND filled = 1)
SELECT place, bases.user, records, carry FROM asked CROSS JOIN live CROSS JOIN bases USING (schema, user)
UNION ALL
SELECT place, tails.user, records, NULL FROM asked CROSS JOIN live CROSS JOIN tails USING (schema, user)
"""


class SqliteStore:
    """States, identity and journal behind one writer at a time and any number of readers.

    Several processes may share the file: a write begins with BEGIN IMMEDIATE and waits for its turn.
    """

    behind: int | None = None
    remote = False
    erasures = 0

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.journal = self
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._local = threading.local()
        self._turn = threading.Lock()
        self._opened: list[sqlite3.Connection] = []
        self._writer = self._connect()
        self._check_version()
        self._writer.executescript(TABLES)
        self._writer.execute("INSERT OR IGNORE INTO facts VALUES ('name', ?)", (uuid4().hex[:12],))
        self.name = str(self._writer.execute("SELECT value FROM facts WHERE name = 'name'").fetchone()[0])

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=10, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA mmap_size = {MAPPED}")
        db.execute("PRAGMA synchronous = FULL")  # an answer of 200 means the event survives a power cut
        self._opened.append(db)
        return db

    def _check_version(self) -> None:
        (found,) = self._writer.execute("PRAGMA user_version").fetchone()
        used = self._writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if used and found != VERSION:
            raise ProjectError(
                f"{self.path} is a state store of version {found}, this program writes version {VERSION}. "
                "Hint: stop the service that used it, so that its journal is moved to the log; then remove the file."
            )
        self._writer.execute(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        """Close every connection; the store cannot be used afterwards."""
        with self._turn:
            for db in self._opened:
                db.close()
            self._opened.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def reader(self) -> sqlite3.Connection:
        """This thread's own connection for reading."""
        if not hasattr(self._local, "db"):
            self._local.db = self._connect()
        return self._local.db  # type: ignore[no-any-return] # a thread-local attribute

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: everything in it happens, or nothing."""
        with self._turn:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")

    # -- schemas

    def live(self, db: sqlite3.Connection | None = None) -> list[LiveSchema]:
        """The schemas that appends go to, oldest first."""
        rows = (db or self.reader).execute("SELECT id, document, filled FROM schemas ORDER BY id").fetchall()
        return [LiveSchema(row[0], StateSchema.from_dict(loads(row[1])), bool(row[2])) for row in rows]

    def declare(self, db: sqlite3.Connection, schema: StateSchema) -> int:
        """Make a new, unfilled generation of a schema live; appends go to it from this transaction on."""
        cursor = db.execute(
            "INSERT INTO schemas (fingerprint, document, filled) VALUES (?, ?, 0)",
            (schema.fingerprint, dumps(schema.to_dict())),
        )
        return int(cursor.lastrowid or 0)

    def filled(self, schema: StateSchema) -> int | None:
        """The id of the newest filled generation of a schema; None: the state has to be filled first."""
        row = self.reader.execute(
            "SELECT max(id) FROM schemas WHERE fingerprint = ? AND filled = 1", (schema.fingerprint,)
        ).fetchone()
        return None if row[0] is None else int(row[0])

    def drop(self, place: int) -> None:
        """Forget a generation of a schema, a slice at a time so that appends are not kept waiting."""
        with self.writing() as db:
            db.execute("DELETE FROM schemas WHERE id = ?", (place,))
        for table in ("bases", "tails"):
            gone = 1
            while gone:
                with self.writing() as db:
                    gone = db.execute(
                        f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE schema = ? LIMIT 2000)",  # noqa: S608 - two literals
                        (place,),
                    ).rowcount

    def filling(self) -> AbstractContextManager[None]:
        """One filler at a time."""
        return locked(self.path.with_name(self.path.name + ".filling"))

    def begin(self, schema: StateSchema, plan: TrackingPlan) -> LiveSchema:
        """A new generation that is appended to from now on, and holds what waits in the journal."""
        with self.writing() as db:
            live = LiveSchema(self.declare(db, schema), schema, filled=False)
            waiting = journal.read(db, plan)
            if waiting is not None:
                self.record(db, waiting.frame, into=[live])
        return live

    def load(self, live: LiveSchema, rows: Iterable[Row]) -> None:
        """Add what the event log holds of users, before what has been appended; aliases are followed."""
        given = list(rows)
        with self.writing() as db:
            found = SqliteAliases(db).resolve([user for user, _, _ in given])
            for row in routed(given, found, live.schema):
                self.put(db, live, *row)

    def complete(self, live: LiveSchema) -> None:
        """Let readers have a generation."""
        with self.writing() as db:
            db.execute("UPDATE schemas SET filled = 1 WHERE id = ?", (live.id,))

    # -- reading

    def read(self, schema: StateSchema, users: Sequence[str]) -> list[State]:
        """The states of these ids under the newest filled generation of a schema; aliases are followed.

        Each is read by one statement, so in one snapshot: an id that is being joined is never seen half moved.
        """
        if len(users) == 1:
            return [_state(users[0], self.reader.execute(READ, (schema.fingerprint, users[0])).fetchall())]
        found: list[list[Any]] = [[] for _ in users]
        for first in range(0, len(users), AT_ONCE):
            given = users[first : first + AT_ONCE]
            query = READ_MANY.format(", ".join(f"({place}, ?)" for place in range(len(given))))
            for place, *row in self.reader.execute(query, (*given, schema.fingerprint)):
                found[first + place].append(row)
        return list(map(_state, users, found))

    def ids(self, user: str) -> list[str]:
        """Every id of the person behind an id."""
        return SqliteAliases(self.reader).ids(user)

    def enrolled(self, ids: Sequence[str]) -> list[tuple[str, Enrolled]]:
        """Test and first exposure of each of these ids, in no order."""
        query = "SELECT test, arm, segment, at FROM enrolments WHERE id = ?"
        rows = (row for one in ids for row in self.reader.execute(query, (one,)))
        return [(test, Enrolled(*first)) for test, *first in rows]

    def users(self, place: int) -> list[str]:
        """Every canonical id with a state."""
        query = "SELECT user FROM bases WHERE schema = ?1 UNION SELECT user FROM tails WHERE schema = ?1 ORDER BY 1"
        return [row[0] for row in self.reader.execute(query, (place,))]

    # -- writing

    def take(self, batch: EventBatch, held: pl.DataFrame) -> None:
        """Keep cleaned events, and rows that could not be used: in the journal, and in every live generation."""
        with self.writing() as db:
            journal.refuse(db, held)
            if batch.frame.height:
                journal.write(db, batch.frame)
                self.record(db, batch.frame)

    def catch_up(self, plan: TrackingPlan) -> None:
        """Nothing: journal and state share their transactions."""

    def adopt(self, links: pl.DataFrame) -> None:
        """Take in links (columns a, b, at), and give the records of ids to the person they turn out to be."""
        with self.writing() as db:
            self._join(db, links, self.live(db))

    def _join(self, db: sqlite3.Connection, links: pl.DataFrame, live: Sequence[LiveSchema]) -> None:
        for move in SqliteAliases(db).adopt(links):
            for each in live:
                self.move(db, each, move)

    def record(self, db: sqlite3.Connection, frame: pl.DataFrame, *, into: Sequence[LiveSchema] | None = None) -> None:
        """Append a cleaned batch's events to every live schema (or to `into`), then join what its links join.

        Args:
            db: The transaction.
            frame: A cleaned batch's frame.
            into: The generations to write to.
        """
        owned = SqliteAliases(db).own(frame)
        live = self.live(db) if into is None else into
        for each in live:
            for user, records in states_of(each.schema, owned):
                self._extend(db, each, user, records)
        self._join(db, identity.links(frame), live)

    def _extend(self, db: sqlite3.Connection, live: LiveSchema, user: str, records: bytes) -> None:
        db.execute("INSERT INTO tails (schema, user, records) VALUES (?, ?, ?)", (live.id, user, records))
        count = db.execute("SELECT count(*) FROM tails WHERE schema = ? AND user = ?", (live.id, user)).fetchone()[0]
        if count > TAIL_ROWS:
            self._fold(db, live, user)

    def _take(self, db: sqlite3.Connection, place: int, user: str) -> tuple[bytes, bytes | None]:
        base = db.execute("SELECT records, carry FROM bases WHERE schema = ? AND user = ?", (place, user)).fetchone()
        query = "SELECT records FROM tails WHERE schema = ? AND user = ? ORDER BY id"
        tail = [row[0] for row in db.execute(query, (place, user))]
        db.execute("DELETE FROM bases WHERE schema = ? AND user = ?", (place, user))
        db.execute("DELETE FROM tails WHERE schema = ? AND user = ?", (place, user))
        return b"".join([base[0] if base else b"", *tail]), base[1] if base else None

    def _fold(self, db: sqlite3.Connection, live: LiveSchema, user: str) -> None:
        records, carry = self._take(db, live.id, user)
        self.put(db, live, user, trimmed(live.schema, records), carry)

    def put(self, db: sqlite3.Connection, live: LiveSchema, user: str, records: bytes, carry: bytes | None) -> None:
        """Store a user's base, with what it already has before it."""
        old = db.execute("SELECT records, carry FROM bases WHERE schema = ? AND user = ?", (live.id, user)).fetchone()
        if old:
            records, carry = old[0] + records, merged(live.schema, old[1], carry)
        db.execute("INSERT OR REPLACE INTO bases VALUES (?, ?, ?, ?)", (live.id, user, records, carry))

    def move(self, db: sqlite3.Connection, live: LiveSchema, move: Move) -> None:
        """Give all records of one id to another, none of them known before they were joined."""
        records, carry = self._take(db, live.id, move.loser)
        if records or carry:
            self.put(db, live, move.winner, known_from(live.schema, records, move.joined), carry)

    def enrol(self, rows: Sequence[tuple[str, str, Enrolled]]) -> None:
        """Keep test, id and first exposure; one that is kept already stays."""
        with self.writing() as db:
            for test, user, first in rows:
                values = (user, test, first.arm, first.segment, first.at)
                db.execute("INSERT OR IGNORE INTO enrolments VALUES (?, ?, ?, ?, ?)", values)

    def erase(self, user: str, *, key: bytes) -> list[str]:
        """Remove every record, link and waiting row of the person behind an id.

        Args:
            user: Any of the person's ids.
            key: The project's; rows that could not be used name people by pseudonym.

        Returns:
            All ids that were the person's.
        """
        with self.writing() as db:
            aliases = SqliteAliases(db)
            ids = aliases.ids(user)
            for one in ids:
                db.execute("DELETE FROM bases WHERE user = ?", (one,))
                db.execute("DELETE FROM tails WHERE user = ?", (one,))
                db.execute("DELETE FROM enrolments WHERE id = ?", (one,))
            journal.erase(db, ids, key=key)
            aliases.forget(ids)
        return ids


def _state(user: str, rows: Sequence[Any]) -> State:
    """What was read of an id: its base, then its tails."""
    if not rows:
        return State(user)
    canonical, records, carry = rows[0]
    if len(rows) > 1:
        carry = next((row[2] for row in rows if row[2] is not None), None)
        records = b"".join([row[1] for row in rows])
    return State(canonical, records, carry)


def store_of(settings: Settings, *, owner: bool = False) -> StateStore:
    """The store that the settings name; `owner`: this process takes events, into a journal of its own."""
    file = SqliteStore(settings.state)
    if not settings.redis:
        return file
    from serving.redis_store import RedisStore

    return RedisStore(settings.redis, file, owner=owner)
