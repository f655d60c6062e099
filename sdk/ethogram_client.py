"""Ethogram's client for applications: which segments is this user in. One file; it needs httpx.

    with Client("http://localhost:3000", key="ek_...") as ethogram:
        ethogram.track("ann", "Order Completed", {"revenue": 12.5})
        if "likely_buyers" in ethogram.segments("ann"):
            ...
        offer = ethogram.assign("ann", "offer", otherwise="none")
        show(offer.show)
        ethogram.exposed("ann", offer)

A question that is not answered in time, or by an error that may pass, is asked once more; then what was last said of
the user is said again, from here, else `otherwise`. So a page never waits for long and never fails.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Lock
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx

LOGGER = logging.getLogger("ethogram.client")
PASSING = frozenset({429, 502, 503, 504})
"""Statuses after which a second attempt may succeed."""
HELD = 10_000
"""Users whose last answer is kept."""


class ServiceError(Exception):
    """The service refused a request, or could not be reached."""


@dataclass(frozen=True)
class Answer:
    """Which segments a user is in.

    Attributes:
        user: The id asked for.
        segments: What they are in.
        scores: Per study, the figures behind it.
        source: `live`, `stale`, `default`; `local` where the service did not answer and this is what it said last.
        degraded: It was not told from all that is known.
        said: The whole answer of the service.
    """

    user: str
    segments: frozenset[str]
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: str = "local"
    degraded: bool = True
    said: Mapping[str, Any] = field(default_factory=dict)

    def __contains__(self, segment: str) -> bool:
        return segment in self.segments

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.segments))


@dataclass(frozen=True)
class Assignment:
    """What a user sees in an A/B test.

    Attributes:
        test: Its name.
        show: The arm to show.
        arm: The arm that counts; None where the user is not in the test, or the service did not answer.
        content: What `ab.yaml` says of the arm.
        segment: The user's stratum.
    """

    test: str
    show: str
    arm: str | None = None
    content: Any = None
    segment: str | None = None


class _Conversation:
    """What both clients share: what is asked, how it is read, what stands in for an answer."""

    def __init__(self, key: str | None, otherwise: Sequence[str] | None) -> None:
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._otherwise = otherwise
        self._held: dict[str, Answer] = {}
        self._turn = Lock()

    def _question(self, user: str, context: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
        return "/v1/segments", {"user_id": user, **({"context": dict(context)} if context else {})}

    def _answer(self, user: str, document: Mapping[str, Any]) -> Answer:
        try:
            about = document.get("scores", {}), document["source"], document["degraded"]
            told = Answer(user, frozenset(document["segments"]), *about, document)
        except (KeyError, TypeError):
            raise ServiceError(f"this is no answer of the service: {str(document)[:500]}") from None
        with self._turn:  # a client is shared by threads
            self._held.pop(user, None)
            self._held[user] = told
            if len(self._held) > HELD:
                self._held.pop(next(iter(self._held)))
        return told

    def _instead(self, user: str, error: ServiceError) -> Answer:
        held = self._held.get(user)
        if held is not None:
            return replace(held, source="local", degraded=True)
        if self._otherwise is None:
            raise error
        return Answer(user, frozenset(self._otherwise))

    @staticmethod
    def _which(user: str, test: str, context: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
        return "/v1/assign", {"user_id": user, "tests": [test], **({"context": dict(context)} if context else {})}

    @staticmethod
    def _arm(test: str, document: Mapping[str, Any]) -> Assignment:
        try:
            told = document["tests"][test]
            return Assignment(test, *(told[name] for name in ("show", "arm", "content", "segment")))
        except (KeyError, TypeError):
            raise ServiceError(f"this is no answer of the service: {str(document)[:500]}") from None

    @staticmethod
    def _shown(user: str, seen: Assignment) -> tuple[str, dict[str, Any]]:
        """Named and dated here, so that a second attempt, or a late one, tells the same exposure."""
        at = datetime.now(UTC).isoformat()
        one = {"user_id": user, "test": seen.test, "arm": seen.arm, "segment": seen.segment}
        return "/v1/exposures", {"exposures": [{**one, "at": at, "message_id": uuid4().hex}]}

    @staticmethod
    def _message(user: str, event: str, properties: Mapping[str, Any] | None) -> dict[str, Any]:
        """Named here, so that a second attempt sends the same event."""
        return {"userId": user, "event": event, "properties": dict(properties or {}), "messageId": uuid4().hex}


def _read(reply: httpx.Response) -> dict[str, Any]:
    said = f"{reply.status_code}: {reply.text[:500]}"
    if reply.is_success:
        try:
            document = reply.json()
        except ValueError:
            raise ServiceError(f"the answer is no JSON: {said}") from None
        if not isinstance(document, dict):
            raise ServiceError(f"this is no answer of the service: {said}")
        return document
    if reply.status_code not in PASSING:  # a key that is not known would else never be noticed
        LOGGER.error("the service refuses what is asked; what was last said is said again: %s", said)
    raise ServiceError(said)


class Client(_Conversation):
    """Asks and tells, and waits for it.

    Args:
        url: Of the service.
        key: With the scopes `read`, `write` or both.
        timeout_s: What one attempt may take.
        otherwise: Segments of a user of whom nothing was said yet while the service does not answer; None: an error.
    """

    def __init__(
        self, url: str, *, key: str | None = None, timeout_s: float = 0.5, otherwise: Sequence[str] | None = ()
    ) -> None:
        super().__init__(key, otherwise)
        self._http = httpx.Client(base_url=url, headers=self._headers, timeout=timeout_s)

    def segments(self, user: str, *, context: Mapping[str, Any] | None = None) -> Answer:
        """Which segments a user is in."""
        try:
            return self._answer(user, self._post(*self._question(user, context)))
        except ServiceError as error:
            return self._instead(user, error)

    def track(self, user: str, event: str, properties: Mapping[str, Any] | None = None) -> None:
        """Tell what a user did; a ServiceError where it cannot be told."""
        self._post("/v1/track", self._message(user, event, properties))

    def assign(self, user: str, test: str, *, otherwise: str, context: Mapping[str, Any] | None = None) -> Assignment:
        """Which arm of a test a user sees; `otherwise`, and not in the test, while the service does not answer."""
        try:
            return self._arm(test, self._post(*self._which(user, test, context)))
        except ServiceError:
            return Assignment(test, otherwise)

    def exposed(self, user: str, seen: Assignment) -> None:
        """Tell that a user was shown it, where they are in the test; a ServiceError where it cannot be told."""
        if seen.arm is not None:
            self._post(*self._shown(user, seen))

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        for last in (False, True):
            try:
                reply = self._http.post(path, json=body)
            except httpx.TransportError as error:
                if last:
                    raise ServiceError(f"{type(error).__name__}: {error}") from None
            else:
                if last or reply.status_code not in PASSING:
                    return _read(reply)
        raise AssertionError

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class AsyncClient(_Conversation):
    """The same, awaited."""

    def __init__(
        self, url: str, *, key: str | None = None, timeout_s: float = 0.5, otherwise: Sequence[str] | None = ()
    ) -> None:
        super().__init__(key, otherwise)
        self._http = httpx.AsyncClient(base_url=url, headers=self._headers, timeout=timeout_s)

    async def segments(self, user: str, *, context: Mapping[str, Any] | None = None) -> Answer:
        """Which segments a user is in."""
        try:
            return self._answer(user, await self._post(*self._question(user, context)))
        except ServiceError as error:
            return self._instead(user, error)

    async def track(self, user: str, event: str, properties: Mapping[str, Any] | None = None) -> None:
        """Tell what a user did; a ServiceError where it cannot be told."""
        await self._post("/v1/track", self._message(user, event, properties))

    async def assign(
        self, user: str, test: str, *, otherwise: str, context: Mapping[str, Any] | None = None
    ) -> Assignment:
        """Which arm of a test a user sees; `otherwise`, and not in the test, while the service does not answer."""
        try:
            return self._arm(test, await self._post(*self._which(user, test, context)))
        except ServiceError:
            return Assignment(test, otherwise)

    async def exposed(self, user: str, seen: Assignment) -> None:
        """Tell that a user was shown it, where they are in the test; a ServiceError where it cannot be told."""
        if seen.arm is not None:
            await self._post(*self._shown(user, seen))

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        for last in (False, True):
            try:
                reply = await self._http.post(path, json=body)
            except httpx.TransportError as error:
                if last:
                    raise ServiceError(f"{type(error).__name__}: {error}") from None
            else:
                if last or reply.status_code not in PASSING:
                    return _read(reply)
        raise AssertionError

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()
