"""Gate: who may ask, how often, and how much they may send."""

import asyncio
import math
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import msgspec

from serving.problems import Problem

if TYPE_CHECKING:
    from serving.request import Request, Route

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

BODY_S = 10.0
"""How long the whole of a body may take to arrive."""

REMEMBERED = 100_000
"""Callers whose rate is counted; whoever has not asked for longest may begin anew."""

CHALLENGE = {"www-authenticate": 'Bearer realm="ethogram"'}


class Limiter:
    """A bucket of tokens per key: filled at `rate` a second, it holds what two seconds bring; 0: no limit."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self.most = max(1.0, 2 * rate)
        self.clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, key: str) -> None:
        """One request of a key that is known, or a Problem: 429 with the seconds until there is a token."""
        if not self.rate:
            return
        now = self.clock()
        held, since = self._buckets.get(key, (self.most, now))
        held = min(self.most, held + (now - since) * self.rate)
        if held < 1:
            wait = math.ceil((1 - held) / self.rate)
            raise Problem(429, f"more than {self.rate:g} requests a second.", {"retry-after": str(wait)})
        self._buckets.pop(key, None)
        self._buckets[key] = held - 1, now
        if len(self._buckets) > REMEMBERED:  # browsers' tokens name people
            self._buckets.pop(next(iter(self._buckets)))


class Written(msgspec.Struct):
    """The key that a body of events may carry, in Segment's spelling."""

    writeKey: Any = None  # noqa: N815 - Segment's spelling


WRITTEN = msgspec.json.Decoder(Written)


async def enter(request: "Request", receive: Receive, route: "Route") -> None:
    """Let a caller in and read the body; whoever is not let in is told so, whatever else is wrong with the request."""
    if not route.written or not request.runtime.keys.needed or _shown(request):
        if not route.open:
            admit(request, route.scope, own=route.own)
        if route.limit:
            request.body = await body_of(request, receive, route.limit)
        return
    written = None
    with suppress(Problem, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        request.body = await body_of(request, receive, route.limit)
        written = WRITTEN.decode(request.body).writeKey
    admit(request, route.scope, written=written if isinstance(written, str) else None)


def admit(request: "Request", scope: str | None, *, own: bool = False, written: str | None = None) -> None:
    """Let a caller in, or raise a Problem: where there are keys one must be shown; else only this machine is let in.

    Args:
        request: Who asks.
        scope: What the key must be for; None: it need only be known.
        own: Whether a browser's token is enough: the answer is about the person whom it names.
        written: The key in the body, as Segment's libraries may send it.
    """
    keys = request.runtime.keys
    if not keys.needed:
        if not _is_local(request.scope.get("client")) or request.header(b"x-forwarded-for"):
            raise Problem(
                401, "there is no key, so only this machine is answered. Hint: `ethogram keys create`.", CHALLENGE
            )
        request.runtime.limiter.take("")
        return
    shown = _shown(request) or written
    if shown is None:
        raise Problem(401, "a key is needed. Hint: send `Authorization: Bearer KEY`.", CHALLENGE)
    caller = keys.caller(shown)
    if caller is None:
        raise Problem(401, "the key is not known, or the token is not valid any more.", CHALLENGE)
    if scope is not None and not caller.may(scope) and not (own and caller.subject is not None):
        raise Problem(403, f"this key is not for {scope!r}. Hint: `ethogram keys create --scope {scope}`.")
    request.subject = caller.subject
    request.runtime.limiter.take(caller.name)


def _is_local(client: tuple[str, int] | None) -> bool:
    return client is None or _is_loopback(client[0])  # None: a Unix socket


@lru_cache(1024)
def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(request: "Request") -> str | None:
    """The key as a bearer token, or as the user name that Segment's libraries send."""
    scheme, _, value = request.header(b"authorization").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return b64decode(value, validate=True).decode().partition(":")[0]
        except ValueError:  # no base64, or no text
            return None
    return None


async def body_of(request: "Request", receive: Receive, limit: int) -> bytes:
    """The whole body.

    Raises:
        Problem: 413, it is larger than `limit` bytes, and nothing beyond that is read; 408, it took too long.
    """
    told = request.header(b"content-length")
    if told.isdigit() and int(told) > limit:
        raise _too_large(limit)
    task, late = asyncio.current_task(), False

    def give_up() -> None:
        nonlocal late
        late = True
        if task is not None:
            task.cancel()

    timer = asyncio.get_running_loop().call_later(BODY_S, give_up)  # asyncio.timeout takes five times as long
    try:
        return await _read(receive, limit)
    except asyncio.CancelledError:
        if not late or task is None or task.uncancel():
            raise
        raise Problem(408, f"the body took longer than {BODY_S:g} s.", {"connection": "close"}) from None
    finally:
        timer.cancel()


async def _read(receive: Receive, limit: int) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "the caller left before the body was whole.")
        parts.append(message.get("body", b""))
        size, more = size + len(parts[-1]), message.get("more_body", False)
        if size > limit:
            raise _too_large(limit)
    return b"".join(parts)


def _too_large(limit: int) -> Problem:
    return Problem(413, f"the body is larger than {limit:,} bytes.", {"connection": "close"})
