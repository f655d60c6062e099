import pytest

from tests.serving import shop

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_an_event_changes_the_next_answer(published):
    async with shop.serving(published) as (http, _):
        cold = (await http.post("/v1/segments", json={"user_id": "ann"})).json()
        assert (cold["source"], cold["segments"]) == ("default", [])
        sent = await http.post("/v1/track", json=shop.message("ann", "order_completed", properties={"revenue": 12.5}))
        assert (sent.status_code, sent.json()) == (200, {"success": True})
        told = (await http.get("/v1/segments", params={"user_id": "ann"})).json()
        assert told["source"] == "live"
        assert set(told["scores"]) == {"purchase_7d", "behaviour"}
