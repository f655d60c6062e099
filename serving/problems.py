"""Problems: every error of the HTTP door in one shape, RFC 9457 `application/problem+json`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec

PAGE = ((b"x-content-type-options", b"nosniff"), (b"x-frame-options", b"DENY"), (b"referrer-policy", b"no-referrer"))
PLAIN = (*PAGE, (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"))
"""What browsers are told; pages, which are BentoML's, bring scripts of their own."""


@dataclass
class Problem(Exception):  # noqa: N818 - RFC 9457 calls it a problem
    """A request that cannot be answered, and why.

    Attributes:
        status: HTTP status code.
        detail: What happened, what there was, what to do.
        headers: Further response headers.
        members: Further members of the document.
    """

    status: int
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, object] = field(default_factory=dict)

    def members_of(self) -> dict[str, object]:
        """The document's members; BentoML's own clients read `error`, the rest is the RFC's."""
        title = HTTPStatus(self.status).phrase
        told = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}
        return {**told, "error": self.detail, **self.members}

    def document(self) -> bytes:
        """The response body."""
        return msgspec.json.encode(self.members_of())
