"""The client for applications: it never waits for long, and never leaves a page without an answer."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from serving.door import Door, nothing
from serving.runtime import Runtime

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "sdk"))
import ethogram_client
from ethogram_client import AsyncClient, Client, ServiceError

pytestmark = pytest.mark.anyio
ANSWER = {"segments": ["buyers"], "scores": {}, "source": "live", "degraded": False, "user_id": "ann"}


class Service:
    """Says what it is told to say, one thing an attempt."""

    def __init__(self, *says):
        self.says, self.asked = list(says), []

    def __call__(self, request):
        self.asked.append(request)
        said = self.says.pop(0)
        if isinstance(said, Exception):
            raise said
        return httpx.Response(said, json=ANSWER if said == 200 else {"detail": "no"})


def client_of(service, **options):
    made = Client("http://local", key="ek_1", **options)
    made._http = httpx.Client(base_url="http://local", transport=httpx.MockTransport(service), headers=made._headers)
    return made


def test_what_may_pass_is_tried_once_more():
    for first in (httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), 503, 429):
        service = Service(first, 200)
        with client_of(service) as client:
            told = client.segments("ann")
        assert ("buyers" in told, list(told), told.source, told.degraded) == (True, ["buyers"], "live", False)
        assert service.asked[-1].headers["authorization"] == "Bearer ek_1"


def test_without_the_service_what_it_said_last_is_said_again_and_nothing_of_others():
    service = Service(200, 503, 503, 503, 503)
    with client_of(service, otherwise=["everybody"]) as client:
        client.segments("ann")
        told = client.segments("ann")
        assert (list(told), told.source, told.degraded) == (["buyers"], "local", True)
        assert list(client.segments("bob")) == ["everybody"]
    with client_of(Service(503, 503), otherwise=None) as client, pytest.raises(ServiceError, match="503"):
        client.segments("ann")


def test_a_client_that_threads_share_forgets_the_oldest_and_never_fails(monkeypatch):
    monkeypatch.setattr(ethogram_client, "HELD", 2)
    before, client = sys.getswitchinterval(), client_of(Service())

    def ask(first):
        for place in range(first, first + 20_000):
            client._answer(f"u{place}", ANSWER)

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(ask, range(0, 80_000, 20_000)))
    finally:
        sys.setswitchinterval(before)
    assert len(client._held) == 2


@pytest.mark.parametrize("said", [httpx.Response(200, text="<html>"), httpx.Response(200, json=[1]), 401])
def test_what_is_no_answer_fails_no_page_and_is_told_in_the_log(said, caplog):
    service = lambda _: httpx.Response(said, json={}) if said == 401 else said  # noqa: E731
    with client_of(service, otherwise=["everybody"]) as client:
        assert list(client.segments("ann")) == ["everybody"]
        assert client.assign("ann", "offer", otherwise="none").show == "none"
    odd = client_of(lambda _: httpx.Response(200, json={"segments": None}), otherwise=None)
    with odd as client, pytest.raises(ServiceError, match="no answer of the service"):
        client.segments("ann")
    assert ("refuses what is asked" in caplog.text) == (said == 401)


def test_a_mistake_is_not_tried_again():
    service = Service(400)
    with client_of(service) as client, pytest.raises(ServiceError, match="400"):
        client.track("ann", "Order Completed")
    assert len(service.asked) == 1


def test_a_second_attempt_sends_the_same_event():
    service = Service(httpx.ReadTimeout("slow"), 200)
    with client_of(service) as client:
        client.track("ann", "Order Completed", {"revenue": 1})
    assert service.asked[0].content == service.asked[1].content


def test_what_is_kept_has_a_bound(monkeypatch):
    monkeypatch.setattr(ethogram_client, "HELD", 2)
    with client_of(Service(200, 200, 200, 503, 503)) as client:
        for user in ("ann", "bob", "cid"):
            client.segments(user)
        assert list(client.segments("ann")) == []


def test_a_test_shows_its_control_without_the_service_and_tells_no_exposure():
    service = Service(503, 503)
    with client_of(service) as client:
        seen = client.assign("ann", "offer", otherwise="none")
        assert (seen.show, seen.arm) == ("none", None)
        client.exposed("ann", seen)
    assert len(service.asked) == 2


async def test_the_awaited_client_talks_to_the_service(published):
    published.ab.write_text(
        "tests:\n  offer:\n    control: none\n    arms: {none: {weight: 0.000001}, voucher: {content: 5 off}}\n"
    )
    runtime = Runtime(published)
    runtime.open()
    try:
        runtime.releases.look()
        async with AsyncClient("http://local") as client:
            transport = httpx.ASGITransport(app=Door(nothing, make=lambda: runtime), client=("127.0.0.1", 1))
            client._http = httpx.AsyncClient(base_url="http://local", transport=transport)
            await client.track("ann", "Order Completed", {"revenue": 12.5})
            told = await client.segments("ann", context={"device": "phone"})
            assert (told.source, told.degraded, told.said["user_id"]) == ("live", False, "ann")
            assert told.scores["behaviour"]["kind"] == "clusters"
            seen = await client.assign("ann", "offer", otherwise="none")
            assert (seen.show, seen.arm, seen.content) == ("voucher", "voucher", "5 off")
            assert runtime.store.enrolled(["ann"]) == []
            await client.exposed("ann", seen)
            ((test, kept),) = runtime.store.enrolled(["ann"])
            assert (test, kept.arm) == ("offer", "voucher")
    finally:
        runtime.close()
    async with AsyncClient("http://127.0.0.1:9", timeout_s=0.2) as client:
        assert (await client.segments("ann")).source == "local"
