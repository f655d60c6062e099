"""Identity: which ids are one person, and since when; a pure function of the links, in whatever order they came."""

from collections.abc import Iterable

import polars as pl

ALWAYS = 0
"""`joined` of a canonical id: its own events wait for no link."""

MAX_ID = 256
_WORDS = ("anon", "anonymous", "guest", "n/a", "na", "nan", "nil", "<nil>", "none", "null", "undefined", "unknown")
DENIED = frozenset([*_WORDS, "", "0", "-1", "true", "false", "[]", "{}", "[object object]"])


def is_denied(name: str) -> bool:
    """Whether an id stands for nobody: placeholders that programs send, and all-zero ids."""
    plain = name.strip().strip("\"'").lower()
    return plain in DENIED or not plain.strip("0-")


def denied(ids: pl.Series) -> pl.Series:
    """Per row, whether the id stands for nobody; null does not."""
    short = ids.filter(ids.str.len_bytes() <= 40).unique().drop_nulls()
    return ids.is_in([name for name in short if is_denied(name)]).fill_null(value=False)


def links(frame: pl.DataFrame) -> pl.DataFrame:
    """What identify and alias events say: columns a (an id), b (the known id it belongs to), at (when it arrived)."""
    other = pl.coalesce("previous_id", "anonymous_id")
    said = frame.filter(pl.col("event").is_in(["identify", "alias"]))
    pairs = said.select(other.alias("a"), pl.col("user_id").alias("b"), pl.col("received").alias("at"))
    return merged([pairs.drop_nulls().filter(pl.col("a") != pl.col("b"))])


def merged(links: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Links from several places: of each the earliest, in order of time."""
    empty = pl.DataFrame(schema={"a": pl.String, "b": pl.String, "at": pl.Int64})
    return pl.concat([empty, *links]).group_by("a", "b").agg(pl.col("at").min()).sort("at", "a", "b")


def resolve(links: pl.DataFrame) -> pl.DataFrame:
    """The person behind every linked id.

    Kruskal's algorithm over the links in order of time: the instant at which two ids became one person is the latest
    link on the path between them whose latest link is earliest. Order and repetition of links change nothing.

    Args:
        links: Columns a, b (b is a known id), at (int64 microseconds).

    Returns:
        Columns id, canonical (the id that a link made known first, ties by name), joined (when the id's component met
        the canonical id's; ALWAYS for the canonical id), sorted by id.
    """
    ordered = _usable(links)
    people = _People(ordered)
    canonical = people.canonical(ordered)
    joined = people.joined(ordered, canonical)
    names = people.names
    return pl.DataFrame(
        {
            "id": names,
            "canonical": [names[canonical[place]] for place in range(len(names))],
            "joined": joined,
        },
        schema={"id": pl.String, "canonical": pl.String, "joined": pl.Int64},
    ).sort("id")


def _usable(links: pl.DataFrame) -> list[tuple[int, str, str]]:
    keep = ~denied(links["a"]) & ~denied(links["b"]) & (links["a"] != links["b"])
    rows = links.filter(keep).select("at", "a", "b").sort("at", "a", "b")
    return list(rows.iter_rows())


class _People:
    """Union-find over the ids of the links."""

    def __init__(self, ordered: list[tuple[int, str, str]]) -> None:
        self.names = sorted({name for _, a, b in ordered for name in (a, b)})
        self.place = {name: place for place, name in enumerate(self.names)}
        self._parent = list(range(len(self.names)))

    def _root(self, place: int) -> int:
        parent = self._parent
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    def canonical(self, ordered: list[tuple[int, str, str]]) -> list[int]:
        """Per id, the place of its canonical id."""
        earliest: dict[int, int] = {}
        for at, a, b in ordered:
            one, other = self.place[a], self.place[b]
            earliest.setdefault(other, at)  # since when it is known: so a later link never takes a person from it
            self._parent[self._root(one)] = self._root(other)
        best: dict[int, tuple[int, int]] = {}
        for place in sorted(earliest):  # places follow names, so ties fall to the first name
            root = self._root(place)
            best[root] = min(best.get(root, (earliest[place], place)), (earliest[place], place))
        return [best[self._root(place)][1] for place in range(len(self.names))]

    def joined(self, ordered: list[tuple[int, str, str]], canonical: list[int]) -> list[int]:
        """Per id, the instant at which its component met its canonical id's."""
        self._parent = list(range(len(self.names)))
        members = [[place] for place in range(len(self.names))]
        joined = [ALWAYS] * len(self.names)
        for at, a, b in ordered:
            one, other = self._root(self.place[a]), self._root(self.place[b])
            if one == other:
                continue
            home = self._root(canonical[one])
            if other == home or (one != home and len(members[one]) > len(members[other])):
                one, other = other, one
            # `one` now holds the canonical id, where either does; else it is the smaller of two still apart
            if one == home:
                for place in members[other]:
                    joined[place] = at
                one, other = other, one
            self._parent[one] = other
            members[other] += members[one]
            members[one] = []
        return joined


def path(links: pl.DataFrame, one: str, other: str) -> list[tuple[int, str, str]]:
    """The links (at, a, b) that make two ids one person, along the way; empty where nothing does.

    They are the tree edges that Kruskal kept, so the latest of them is the instant at which the two were joined.
    """
    ordered = _usable(links)
    people = _People(ordered)
    neighbours: dict[str, list[tuple[int, str, str]]] = {}
    for link in ordered:
        a, b = people._root(people.place[link[1]]), people._root(people.place[link[2]])
        if a != b:
            people._parent[a] = b
            neighbours.setdefault(link[1], []).append(link)
            neighbours.setdefault(link[2], []).append(link)
    return _walk(neighbours, one, other)


def _walk(neighbours: dict[str, list[tuple[int, str, str]]], one: str, other: str) -> list[tuple[int, str, str]]:
    came: dict[str, tuple[int, str, str] | None] = {one: None}
    queue = [one]
    for name in queue:
        for link in neighbours.get(name, ()):
            far = link[2] if link[1] == name else link[1]
            if far not in came:
                came[far] = link
                queue.append(far)
    way = []
    step = came.get(other)
    while step is not None:
        way.append(step)
        other = step[1] if step[2] == other else step[2]
        step = came[other]
    return way[::-1]


def persons(table: pl.DataFrame, ids: Iterable[str]) -> set[str]:
    """All ids of the persons behind these ids, these included (`table` as `resolve` gives it)."""
    given = set(ids)
    canonical = set(table.filter(pl.col("id").is_in(list(given)))["canonical"])
    return given | set(table.filter(pl.col("canonical").is_in(list(canonical)))["id"])
