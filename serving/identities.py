"""Identities: which person an id belongs to, kept up to date link by link, equal to resolving all links at once."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from features.events import identity


@dataclass(frozen=True)
class Move:
    """All records of one canonical id become another's; none is known to it before `joined`."""

    loser: str
    winner: str
    joined: int


class Aliases:
    """The tables `links` and `aliases` within one transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def resolve(self, ids: Iterable[str]) -> dict[str, tuple[str, int]]:
        """Canonical id and instant of joining of those of `ids` that are joined to another."""
        found = {}
        for one in ids:
            row = self.db.execute("SELECT user, joined FROM aliases WHERE id = ?", (one,)).fetchone()
            if row:
                found[one] = (row[0], row[1])
        return found

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

    def link(self, frame: pl.DataFrame) -> list[Move]:
        """Take in the links of a cleaned frame; the moves that follow, in order."""
        return self.adopt(identity.links(frame))

    def adopt(self, links: pl.DataFrame) -> list[Move]:
        """Take in links (columns a, b, at); the moves that follow.

        All of them are resolved at once with those they touch. Ids never move in a chain: a winner is the canonical id
        of its whole component, so its own records stay.
        """
        if links.is_empty():
            return []
        if self.db.execute("SELECT 1 FROM links LIMIT 1").fetchone() is None:
            return self._begin(links)
        fresh = [link for link in links.select("a", "b", "at").iter_rows() if self._is_news(*link)]
        if not fresh:
            return []
        members = {each for a, b, _ in fresh for one in (a, b) for each in self.ids(one)}
        before = {one: self.user(one) for one in members}
        moves: dict[str, Move] = {}
        after = identity.resolve(self._links(members))
        for one, canonical, joined in after.select("id", "canonical", "joined").iter_rows():
            self.db.execute("INSERT OR REPLACE INTO aliases VALUES (?, ?, ?)", (one, canonical, joined))
            if before[one] != canonical:
                moves[before[one]] = Move(before[one], canonical, joined)
        return list(moves.values())

    def _begin(self, links: pl.DataFrame) -> list[Move]:
        """The first links of a store: a log's million at once."""
        self.db.executemany("INSERT INTO links VALUES (?, ?, ?)", links.select("a", "b", "at").iter_rows())
        rows = identity.resolve(links).select("id", "canonical", "joined").rows()
        self.db.executemany("INSERT INTO aliases VALUES (?, ?, ?)", rows)
        return [Move(one, canonical, joined) for one, canonical, joined in rows if one != canonical]

    def _is_news(self, a: str, b: str, at: int) -> bool:
        sql = "INSERT INTO links VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET at = excluded.at WHERE excluded.at < at"
        return self.db.execute(sql, (a, b, at)).rowcount > 0

    def user(self, one: str) -> str:
        """The canonical id of an id."""
        row = self.db.execute("SELECT user FROM aliases WHERE id = ?", (one,)).fetchone()
        return str(row[0]) if row else one

    def _members(self, canonical: str) -> list[str]:
        rows = self.db.execute("SELECT id FROM aliases WHERE user = ?", (canonical,)).fetchall()
        return sorted({canonical, *(row[0] for row in rows)})

    def ids(self, one: str) -> list[str]:
        """Every id of the person behind an id."""
        return self._members(self.user(one))

    def _links(self, ids: Iterable[str]) -> pl.DataFrame:
        rows = {row for one in ids for row in self.db.execute("SELECT a, b, at FROM links WHERE ?1 IN (a, b)", (one,))}
        return pl.DataFrame(sorted(rows), schema={"a": pl.String, "b": pl.String, "at": pl.Int64}, orient="row")

    def forget(self, ids: Sequence[str]) -> None:
        """Remove ids and every link that names one."""
        for one in ids:
            self.db.execute("DELETE FROM aliases WHERE id = ?1 OR user = ?1", (one,))
            self.db.execute("DELETE FROM links WHERE a = ?1 OR b = ?1", (one,))
