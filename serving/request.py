"""Request and reply: what the handlers are given and what they give back."""

import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from inspect import iscoroutinefunction
from typing import Any
from urllib.parse import parse_qs

import msgspec

from serving.problems import Problem
from serving.runtime import Runtime

JSON = b"application/json"
ENCODER = msgspec.json.Encoder()


@dataclass(slots=True)
class Reply:
    """A response."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


class Request:
    """A request with what the handlers need of it."""

    __slots__ = ("body", "headers", "id", "method", "path", "runtime", "scope", "subject")

    def __init__(self, scope: MutableMapping[str, Any], runtime: Runtime) -> None:
        self.scope = scope
        self.runtime = runtime
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.body = b""
        self.subject: str | None = None
        given = self.header(b"x-request-id")
        self.id = given if 0 < len(given) <= 64 and given.isascii() and given.isprintable() else os.urandom(16).hex()

    def header(self, name: bytes) -> str:
        """A header's value, empty where it is not sent."""
        return self.headers.get(name, b"").decode("latin-1")

    def query(self) -> dict[str, str]:
        """The query string's fields, or a Problem: 400 where one is given twice."""
        text = self.scope.get("query_string", b"").decode("latin-1")
        try:
            found = parse_qs(text, keep_blank_values=True, max_num_fields=100)
        except ValueError as error:
            raise Problem(400, f"the query cannot be read: {error}.") from None
        for name, values in found.items():
            if len(values) > 1:
                raise Problem(400, f"{name[:100]!r} is given {len(values)} times.")
        return {name: values[0] for name, values in found.items()}

    def flag(self, name: str, *, default: bool) -> bool:
        """A query field that is true or false, or a Problem: 400."""
        text = self.query().get(name)
        if text is None:
            return default
        if text not in ("true", "false", "1", "0"):
            raise Problem(400, f"{name} is true or false. Got {text[:40]!r}.")
        return text in ("true", "1")


@dataclass(frozen=True)
class Route:
    """How one path is answered.

    Attributes:
        template: Its name in the metrics.
        answer: The handler.
        limit: Bytes of body it takes; 0: the body is not read.
        open: Nobody is asked for a key.
        scope: What a key must be for.
        own: Whether a browser's token is enough, for the person whom it names.
        written: Whether the key may stand in the body.
    """

    template: str
    answer: Callable[[Request], Reply | Awaitable[Reply]]
    limit: int = 0
    open: bool = False
    scope: str = "read"
    own: bool = False
    written: bool = False

    @cached_property
    def at_once(self) -> bool:
        """Whether the handler waits for nothing."""
        return not iscoroutinefunction(self.answer)


def revalidated(request: Request, reply: Reply, *meaning: object) -> Reply:
    """The reply under a weak ETag over what it means, or 304 where the caller holds that already.

    Args:
        request: Who asks.
        reply: What would be said.
        meaning: What two replies share that mean the same; without one, the body.
    """
    digest = blake2b(ENCODER.encode(meaning) if meaning else reply.body, digest_size=12).hexdigest()
    tag = f'W/"{digest}"'
    headers = {**reply.headers, "etag": tag, "cache-control": "private, no-cache"}
    held = [each.strip().removeprefix("W/") for each in request.header(b"if-none-match").split(",")]
    if tag.removeprefix("W/") in held or held == ["*"]:
        return Reply(b"", 304, reply.content_type, headers)
    return Reply(reply.body, reply.status, reply.content_type, headers)
