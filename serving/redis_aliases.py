"""Redis aliases: identity in Redis; an id is given to another person only once its records are there."""

from collections.abc import Callable, Iterable, Sequence

from serving.identities import Aliases, Joined, Link
from serving.redis_client import PREFIX, Client, alias_key, alias_of, key_of, many, piped, slices

LINKED = PREFIX + b"linked"
"""Exists once any link is known."""


class RedisAliases(Aliases):
    """Per id its alias and its links, per canonical id its members.

    Attributes:
        move: Sets aliases, after it has moved the records of ids that were canonical.
    """

    def __init__(self, client: Client, move: Callable[[Sequence[Joined]], None] = lambda _: None) -> None:
        self.client = client
        self.move = move

    def resolve(self, ids: Iterable[str]) -> dict[str, tuple[str, int]]:
        """Canonical id and instant of joining of those of `ids` that are linked to another."""
        names = list(ids)
        found = many(self.client, [alias_key(name) for name in names])
        told = {name: alias_of(alias) for name, alias in zip(names, found, strict=True) if alias}
        return {name: alias for name, alias in told.items() if alias is not None}

    def _empty(self) -> bool:
        return not self.client.exists(LINKED)

    def _fresh(self, links: Sequence[Link]) -> list[Link]:
        fresh: list[Link] = []
        for part in slices(links):
            known = piped(self.client, (("HGET", _links_key(a), b">" + b.encode()) for a, b, _ in part))
            fresh += [link for link, at in zip(part, known, strict=True) if at is None or link[2] < int(at)]
        return fresh

    def _links(self, ids: Iterable[str]) -> set[Link]:
        names = list(ids)
        found: set[Link] = set()
        for one, told in zip(names, piped(self.client, (("HGETALL", _links_key(one)) for one in names)), strict=True):
            for field, at in told.items():
                other = field[1:].decode()
                found.add((one, other, int(at)) if field[:1] == b">" else (other, one, int(at)))
        return found

    def _members(self, canonical: Iterable[str]) -> set[str]:
        told = piped(self.client, (("SMEMBERS", _members_key(one)) for one in canonical))
        return {member.decode() for members in told for member in members}

    def _keep(self, links: Sequence[Link], joined: Sequence[Joined], before: dict[str, str]) -> None:
        self.move(sorted(joined, key=lambda each: each[0] != each[1]))
        members = [("SADD", _members_key(canonical), one) for one, canonical, _ in joined]
        members += [
            ("SREM", _members_key(before[one]), one)
            for one, canonical, _ in joined
            if before.get(one, canonical) != canonical
        ]
        said = [("HSET", _links_key(a), b">" + b.encode(), at) for a, b, at in links]
        said += [("HSET", _links_key(b), b"<" + a.encode(), at) for a, b, at in links]
        for part in slices([*members, *said, ("SET", LINKED, 1)]):
            piped(self.client, part)

    def forget(self, ids: Sequence[str]) -> None:
        """Remove ids and every link that names one."""
        for a, b, _ in self._links(ids):
            piped(
                self.client,
                [("HDEL", _links_key(a), b">" + b.encode()), ("HDEL", _links_key(b), b"<" + a.encode())],
            )
        for one in ids:
            piped(self.client, [("UNLINK", key) for key in (alias_key(one), _links_key(one), _members_key(one))])


def _links_key(one: str) -> bytes:
    return key_of(b"links", one)


def _members_key(one: str) -> bytes:
    return key_of(b"members", one)
