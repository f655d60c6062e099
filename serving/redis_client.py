"""Redis client: how a server or a cluster is reached, which keys are used, many of them at a time."""

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

LOGGER = logging.getLogger("ethogram.redis")
Client = Any
"""redis.Redis or redis.RedisCluster: the same commands; redis-py types them for both of its worlds at once."""
PREFIX = b"ethogram:"
CHUNK = 500
"""Users of one round trip."""
Item = TypeVar("Item")


def connected(url: str, timeout_s: float) -> Client:
    """A client of a server or of a cluster, whichever answers; nothing is tried twice.

    redis-py by itself gives up on a refused connection after 3 s, on a silent one after 58 s.
    """
    options: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    options["retry"] = Retry(NoBackoff(), 0)
    client: Client = redis.Redis.from_url(url, **options)
    about = client.info()
    if about.get("maxmemory_policy", "noeviction") != "noeviction":
        LOGGER.error("Redis lets go of states when it is full. Hint: `maxmemory-policy noeviction`.")
    return redis.RedisCluster.from_url(url, **options) if about.get("cluster_enabled") else client


def key_of(kind: bytes, user: str) -> bytes:
    """A key of one user; the tag in braces, never empty, puts all keys of a user into one slot of a cluster."""
    return PREFIX + kind + b":{u:" + user.encode() + b"}"


def alias_key(one: str) -> bytes:
    """Where the canonical id of an id stands, behind twenty digits of when it was joined."""
    return key_of(b"alias", one)


def state_key(place: int, user: str) -> bytes:
    """Where a user's state of a generation stands."""
    return key_of(b"state-%d" % place, user)


def alias_of(found: bytes) -> tuple[str, int] | None:
    """(canonical id, instant of joining) that stand under an alias; None where it is damaged."""
    try:
        return found[20:].decode(), int(found[:20])
    except ValueError:
        LOGGER.error("the alias of a user is damaged. Hint: `ethogram rebuild --state`.")
        return None


class Reading:
    """Values by one connection of each thread's own: redis-py's pool, retries and measures take longer than reading."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._thread = threading.local()

    def __call__(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of keys, None for what is not there; a connection that was closed meanwhile is opened again."""
        if not keys or isinstance(self._client, redis.RedisCluster):
            return many(self._client, keys)
        if not hasattr(self._thread, "connection"):
            self._thread.connection = self._client.connection_pool.get_connection()
        try:
            return self._read(keys)
        except redis.ConnectionError:
            return self._read(keys)

    def _read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self._thread.connection.send_command(b"MGET", *keys)
        return list(self._thread.connection.read_response())


def many(client: Client, keys: Sequence[bytes]) -> list[bytes | None]:
    """The values of keys, None for what is not there."""
    if not keys:
        return []
    read = client.mget_nonatomic if isinstance(client, redis.RedisCluster) else client.mget
    return list(read(keys))


def piped(client: Client, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
    """What commands say, in one round trip per node; what is wrong with one of them is its own answer.

    Raises:
        redis.RedisError: the server does not take commands: it is not there, or full.
    """
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    told = list(pipe.execute(raise_on_error=False))
    for each in told:
        if isinstance(each, Exception) and "WRONGTYPE" not in str(each):
            raise each
    return told


def slices(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Lists of at most a round trip's items."""
    rest = iter(items)
    while part := list(islice(rest, CHUNK)):
        yield part
