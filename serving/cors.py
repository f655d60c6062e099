"""CORS: which web pages may read answers, errors among them; none unless their origin is named."""

from serving.problems import Problem
from serving.request import Reply, Request

EXPOSED = "etag, retry-after, x-model-version, x-request-id"
ALLOWED = {
    "access-control-allow-methods": "GET, POST",
    "access-control-allow-headers": "authorization, content-type, if-none-match, x-request-id, x-require-fresh",
    "access-control-max-age": "600",
}


def preflight(request: Request) -> Reply:
    """What a browser asks before it lets a page ask; 403 for a page of another origin."""
    if request.header(b"origin") not in request.runtime.settings.origins:
        raise Problem(403, "pages of this origin may not ask. Hint: name it in ETHOGRAM_ORIGINS.")
    return Reply(b"", 204, headers=ALLOWED)


def shared(request: Request) -> list[tuple[bytes, bytes]]:
    """The headers that let a page of a named origin read a reply, whatever its status."""
    origin = request.header(b"origin")
    vary = [(b"vary", b"origin")]
    if origin not in request.runtime.settings.origins:
        return vary
    allow = (b"access-control-allow-origin", origin.encode("latin-1"))
    return [allow, (b"access-control-expose-headers", EXPOSED.encode()), *vary]
