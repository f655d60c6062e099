"""Gate: who may ask, and how much they may send."""

import hmac
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Awaitable, Callable, MutableMapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from serving.problems import Problem

if TYPE_CHECKING:
    from serving.routes import Request

CHALLENGE = {"www-authenticate": 'Bearer realm="ethogram"'}


def admit(request: "Request", written: str | None = None) -> None:
    """Let a caller in, or raise a Problem: with a key set it must be shown; without one only this machine is let in.

    Args:
        request: Who asks.
        written: The key in the body, as Segment's libraries may send it.
    """
    key = request.runtime.settings.api_key
    if key is None:
        if not _is_local(request.scope.get("client")):
            raise Problem(
                401, "no key is set, so only callers on this machine are answered. Hint: set ETHOGRAM_API_KEY."
            )
        return
    shown = _shown(request) or written
    if shown is None:
        raise Problem(401, "a key is needed. Hint: send `Authorization: Bearer KEY`.", CHALLENGE)
    if not hmac.compare_digest(shown.encode(), key.encode()):
        raise Problem(401, "the key is not known.", CHALLENGE)


def _is_local(client: tuple[str, int] | None) -> bool:
    if client is None:  # a Unix socket
        return True
    try:
        return ip_address(client[0]).is_loopback
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
        except (Base64Error, UnicodeDecodeError):
            return None
    return None


async def body_of(request: "Request", receive: Callable[[], Awaitable[MutableMapping[str, Any]]], limit: int) -> bytes:
    """The whole body.

    Raises:
        Problem: 413, it is larger than `limit` bytes; nothing beyond that is read.
    """
    told = request.header(b"content-length")
    if told.isdigit() and int(told) > limit:
        raise _too_large(limit)
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _too_large(limit: int) -> Problem:
    return Problem(413, f"the body is larger than {limit:,} bytes.", {"connection": "close"})
