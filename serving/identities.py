"""Identities: which person an id belongs to, kept up to date link by link, equal to resolving all links at once."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from features.events import identity

Link = tuple[str, str, int]
"""Two ids, and when the link arrived."""
Joined = tuple[str, str, int]
"""An id, its canonical id, when it was joined."""


@dataclass(frozen=True)
class Move:
    """All records of one canonical id become another's; none is known to it before `joined`."""

    loser: str
    winner: str
    joined: int


class Aliases(ABC):
    """What is known of ids; where it is kept is a subclass's."""

    @abstractmethod
    def resolve(self, ids: Iterable[str]) -> dict[str, tuple[str, int]]:
        """Canonical id and instant of joining of those of `ids` that are linked to another."""

    @abstractmethod
    def forget(self, ids: Sequence[str]) -> None:
        """Remove ids and every link that names one."""

    @abstractmethod
    def _empty(self) -> bool:
        """No link is known."""

    @abstractmethod
    def _fresh(self, links: Sequence[Link]) -> list[Link]:
        """Those that say something new: another pair, or an earlier instant."""

    @abstractmethod
    def _links(self, ids: Iterable[str]) -> set[Link]:
        """All links that name one of the ids."""

    @abstractmethod
    def _members(self, canonical: Iterable[str]) -> set[str]:
        """All ids that have one of these canonical ids."""

    @abstractmethod
    def _keep(self, links: Sequence[Link], joined: Sequence[Joined], before: dict[str, str]) -> None:
        """Write links, and what they make of ids; `before` has the canonical ids until now."""

    def own(self, frame: pl.DataFrame) -> pl.DataFrame:
        """A cleaned frame with `user` (canonical) and `known`, as the event log would give it."""
        owned = frame.with_columns(owner=pl.coalesce("user_id", "anonymous_id"))
        found = self.resolve(owned["owner"].unique())
        if not found:
            return owned.with_columns(user="owner", known="received")
        users = {one: canonical for one, (canonical, _) in found.items()}
        joins = {one: joined for one, (_, joined) in found.items()}
        return owned.with_columns(
            user=pl.col("owner").replace(users),
            known=pl.max_horizontal(
                "received", pl.col("owner").replace_strict(joins, default=None, return_dtype=pl.Int64)
            ),
        )

    def adopt(self, links: pl.DataFrame) -> list[Move]:
        """Take in links (columns a, b, at); the moves that follow.

        All of them are resolved at once with those they touch. Ids never move in a chain: a winner is the canonical id
        of its whole component, so its own records stay.
        """
        empty = self._empty()  # the first links of a store are a log's million: nothing has to be looked up
        given = links.select("a", "b", "at").rows()
        fresh = given if empty else self._fresh(given)
        if not fresh:
            return []
        members = {one for a, b, _ in fresh for one in (a, b)}
        if not empty:
            members |= self._members({canonical for canonical, _ in self.resolve(members).values()})
        before = {} if empty else {one: canonical for one, (canonical, _) in self.resolve(members).items()}
        rows = fresh if empty else [*fresh, *self._links(members)]
        known = pl.DataFrame(rows, schema={"a": pl.String, "b": pl.String, "at": pl.Int64}, orient="row")
        after = identity.resolve(identity.merged([known])).select("id", "canonical", "joined").rows()
        moves = {was: Move(was, new, at) for one, new, at in after if (was := before.get(one, one)) != new}
        self._keep(fresh, after, before)
        return list(moves.values())

    def tells(self, links: pl.DataFrame) -> bool:
        """Whether any of these links says something new."""
        return not links.is_empty() and bool(self._fresh(links.select("a", "b", "at").rows()))

    def ids(self, one: str) -> list[str]:
        """Every id of the person behind an id."""
        canonical = self.resolve([one]).get(one, (one, 0))[0]
        return sorted({canonical, *self._members([canonical])})


class SqliteAliases(Aliases):
    """The tables `links` and `aliases` within one transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def resolve(self, ids: Iterable[str]) -> dict[str, tuple[str, int]]:
        """Canonical id and instant of joining of those of `ids` that are linked to another."""
        found = {}
        for one in ids:
            row = self.db.execute("SELECT user, joined FROM aliases WHERE id = ?", (one,)).fetchone()
            if row:
                found[one] = (row[0], row[1])
        return found

    def _empty(self) -> bool:
        return self.db.execute("SELECT 1 FROM links LIMIT 1").fetchone() is None

    def _fresh(self, links: Sequence[Link]) -> list[Link]:
        known = "SELECT 1 FROM links WHERE a = ? AND b = ? AND at <= ?"
        return [link for link in links if self.db.execute(known, link).fetchone() is None]

    def _links(self, ids: Iterable[str]) -> set[Link]:
        return {row for one in ids for row in self.db.execute("SELECT a, b, at FROM links WHERE ?1 IN (a, b)", (one,))}

    def _members(self, canonical: Iterable[str]) -> set[str]:
        query = "SELECT id FROM aliases WHERE user = ?"
        return {row[0] for one in canonical for row in self.db.execute(query, (one,))}

    def _keep(self, links: Sequence[Link], joined: Sequence[Joined], before: dict[str, str]) -> None:
        self.db.executemany("INSERT OR REPLACE INTO links VALUES (?, ?, ?)", links)
        self.db.executemany("INSERT OR REPLACE INTO aliases VALUES (?, ?, ?)", joined)

    def forget(self, ids: Sequence[str]) -> None:
        """Remove ids and every link that names one."""
        for one in ids:
            self.db.execute("DELETE FROM aliases WHERE id = ?1 OR user = ?1", (one,))
            self.db.execute("DELETE FROM links WHERE a = ?1 OR b = ?1", (one,))
