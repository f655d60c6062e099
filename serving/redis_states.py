"""Redis states: one value per user and generation; what replaces or moves it loses no append that comes meanwhile."""

import logging
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from features.behaviour.schema import StateSchema
from serving.identities import Joined
from serving.redis_client import Client, alias_key, alias_of, many, piped, slices, state_key
from serving.state import LiveSchema, State, known_from, merged, trimmed

LOGGER = logging.getLogger("ethogram.redis")
TRIM_ROWS = 64
"""Records after which a user's state is looked at for what lies behind the horizon."""

HEADER = struct.Struct("<4sIq")
"""Mark, bytes of carry, epoch: how often the value was replaced; carry and records follow."""
MARK = b"ETH1"
EMPTY = HEADER.pack(MARK, 0, 0)

APPEND = """
local a = redis.call('GET', KEYS[1])
if a and ARGV[1] ~= '' and string.sub(a, 21) ~= ARGV[1] then return a end
local sizes = {}
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then redis.call('SET', KEYS[i], ARGV[2]) end
  sizes[i - 1] = redis.call('APPEND', KEYS[i], ARGV[i + 1])
end
return sizes
"""
"""Alias and states of a user; own id ('' appends whatever the alias says), header, records of each. An alias comes
back where the user was joined meanwhile, so that no record stays behind under an id that nobody reads any more."""

REPLACE = """
local v = redis.call('GET', KEYS[1])
if not v or string.sub(v, 9, 16) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[3] .. string.sub(v, tonumber(ARGV[2]) + 1))
return 1
"""
"""State; epoch that was read, its bytes, what stands for them now. What was appended meanwhile stays."""

LEAVE = """
for i = 2, #KEYS do
  if (redis.call('GET', KEYS[i]) or '') ~= ARGV[i] then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1])
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
return 1
"""
"""Alias and states of an id; the alias it gets, the states that were copied. Nothing happens where one has changed."""


def append(
    client: Client, live: Sequence[LiveSchema], rows: dict[tuple[str, int], bytes], *, trims: bool = True
) -> None:
    """Append records per user and generation; those of a user who is joined meanwhile follow the alias."""
    places = {each.id: each for each in live}
    while rows:
        users: dict[str, dict[int, bytes]] = {}
        for (user, place), records in rows.items():
            users.setdefault(user, {})[place] = records
        rows = {}
        for names in slices(users):
            told = piped(client, (appending(name, users[name]) for name in names))
            for name, sizes in zip(names, told, strict=True):
                if isinstance(sizes, bytes):
                    rerouted(rows, places, users[name], sizes)
                elif isinstance(sizes, Exception):
                    LOGGER.error("the state of a user is damaged: %s. Hint: `ethogram rebuild --state`.", sizes)
                elif trims:
                    for place, size in zip(users[name], sizes, strict=True):
                        trim(client, places[place], name, size, len(users[name][place]))


def trim(client: Client, live: LiveSchema, user: str, size: int, added: int) -> None:
    """Let go of what lies behind the horizon, now and then."""
    step = TRIM_ROWS * 8 * live.schema.n_slots
    if size // step != (size - added) // step:
        change(client, live, user, lambda state: (trimmed(live.schema, state.records), state.carry))


def merge(client: Client, live: LiveSchema, user: str, carry: bytes) -> None:
    """Fold a carry into the user's."""
    piped(client, [appending(user, {live.id: b""}, owner="")])
    change(client, live, user, lambda state: (state.records, merged(live.schema, state.carry, carry)))


def change(client: Client, live: LiveSchema, user: str, made_of: Callable[[State], tuple[bytes, bytes | None]]) -> None:
    """Replace a value by what `made_of` makes of it; tried again where somebody else replaced it first."""
    key = state_key(live.id, user)
    while (blob := client.get(key)) is not None:
        state = state_in(live.schema, user, blob)
        records, carry = made_of(state)
        if state.source != "live" or (records, carry) == (state.records, state.carry):
            return
        epoch = HEADER.unpack_from(blob)[2]
        made = HEADER.pack(MARK, len(carry or b""), epoch + 1) + (carry or b"") + records
        if client.eval(REPLACE, 1, key, blob[8:16], len(blob), made):
            return


def move(client: Client, live: Sequence[LiveSchema], rows: Sequence[Joined]) -> list[Joined]:
    """Copy the records of ids to their canonical ids, then set their aliases.

    Returns:
        The ids whose records changed meanwhile: nothing is set, they have to be moved again.
    """
    keys = [[state_key(each.id, one) for each in live] if one != canonical else [] for one, canonical, _ in rows]
    blobs = iter(many(client, [key for row in keys for key in row]))
    held = [[next(blobs) for _ in row] for row in keys]
    copies, carries = [], []
    for (one, canonical, joined), row in zip(rows, held, strict=True):
        for each, blob in zip(live, row, strict=bool(row)):
            state = state_in(each.schema, one, blob)
            if state.records:
                records = known_from(each.schema, state.records, joined)
                copies.append(appending(canonical, {each.id: records}, owner=""))
            if state.carry is not None:
                carries.append((one, canonical, each, state.carry))
    piped(client, copies)
    told = piped(client, (leaving(*each) for each in zip(rows, keys, held, strict=True)))
    for own, done in zip(keys, told, strict=True):
        if isinstance(done, Exception):  # what is no state cannot be copied
            piped(client, (("UNLINK", key) for key in own))
    left = [row for row, done in zip(rows, told, strict=True) if done != 1]
    staying = {one for one, _, _ in left}
    for one, canonical, each, carry in carries:
        if one not in staying:
            merge(client, each, canonical, carry)
    return left


def appending(user: str, records: Mapping[int, bytes], *, owner: str | None = None) -> tuple[Any, ...]:
    """The command that appends records to a user's states."""
    keys = [alias_key(user), *(state_key(place, user) for place in records)]
    return "EVAL", APPEND, len(keys), *keys, user if owner is None else owner, EMPTY, *records.values()


def leaving(row: Joined, keys: Sequence[bytes], held: Sequence[bytes | None]) -> tuple[Any, ...]:
    """The command that sets an id's alias and lets go of its states."""
    one, canonical, joined = row
    alias = b"%020d" % joined + canonical.encode()
    return "EVAL", LEAVE, 1 + len(keys), alias_key(one), *keys, alias, *(blob or b"" for blob in held)


def rerouted(
    rows: dict[tuple[str, int], bytes], places: Mapping[int, LiveSchema], records: Mapping[int, bytes], alias: bytes
) -> None:
    """Put the records of a user who was joined meanwhile under the id that they have now."""
    told = alias_of(alias)
    if told is None:  # nobody knows whose they are; the log does
        return
    canonical, joined = told
    for place, each in records.items():
        known = known_from(places[place].schema, each, joined)
        rows[canonical, place] = rows.get((canonical, place), b"") + known


def state_in(schema: StateSchema, user: str, blob: bytes | None) -> State:
    """What a value says; what cannot be a state of this schema is lost."""
    if blob is None:
        return State(user)
    size, n_folds = 8 * schema.n_slots, 8 * (1 + len(schema.lifetime))
    mark, carried, _ = HEADER.unpack_from(blob) if len(blob) >= HEADER.size else (b"", 0, 0)
    start = HEADER.size + carried
    if mark != MARK or carried not in (0, n_folds) or len(blob) < start or (len(blob) - start) % size:
        return State(user, source="lost")
    return State(user, blob[start:], blob[HEADER.size : start] or None)
