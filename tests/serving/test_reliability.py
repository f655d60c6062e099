"""What the page on reliability promises, under constant load, counted at the client."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import redis

from benchmarks.servers import ask, request
from serving.predictions import PredictionLog
from tests.serving.servers import loaded, redis_server
from tests.serving.test_service import free_port, running
from training.bundle import publish

PAGE = Path(__file__).parent.parent.parent / "docs" / "reliability.md"
TESTS = Path(__file__).parent.parent
ANSWERS = 1_000_000


def test_every_line_of_the_page_has_its_test():
    lines = re.findall(r"^\| .* \| `(\w+)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) > 20
    there = "\n".join(path.read_text(encoding="utf-8") for path in TESTS.glob("*/test_*.py"))
    assert [name for name in lines if f"def {name}(" not in there] == []


@contextmanager
def service(bundle, tmp_path, **more):
    """A service process with a published bundle: (http client, process, port)."""
    publish(bundle.path, tmp_path / "home" / "bundles")
    port = free_port()
    command = [sys.executable, "-m", "console.cli", "serve", "--port", str(port)]
    with running(command, port, tmp_path, **more) as (http, process):
        yield http, process, port


@pytest.mark.prove
def test_memory_is_flat_over_a_million_answers_and_a_hundred_bundles(bundle, stricter, tmp_path, record_property):
    with service(bundle, tmp_path, ETHOGRAM_ROLL_S="0.5") as (http, process, port):
        events = [{"type": "track", "userId": f"u{place % 500}", "event": "Page Viewed"} for place in range(1_000)]
        assert http.post("/v1/batch", json={"batch": events}).status_code == 200
        seen = []
        for turn in range(100):
            publish((bundle, stricter)[turn % 2].path, tmp_path / "home" / "bundles")
            with ThreadPoolExecutor(4) as callers:
                list(callers.map(asking, [port] * 4, [ANSWERS // 400] * 4))
            seen.append(resident(process.pid))
        metrics = http.get("/metrics").text
    assert float(re.search(r"^ethogram_bundle_swaps_total (\S+)", metrics, re.MULTILINE)[1]) > 90
    record_property("resident_mib", [round(each / 2**20) for each in seen])
    early, late = np.median(seen[10:30]), np.median(seen[-20:])
    assert late < 1.05 * early, f"{early / 2**20:.0f} MiB became {late / 2**20:.0f}"


def asking(port, n):
    """So many questions at one connection, each after the answer to the one before."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for place in range(n):
            ask(connection, request("/v1/segments", b'{"user_id": "u%d"}' % (place % 500)))


def resident(pid):
    """Bytes of memory that a process has now."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def kept(home):
    """What the events that the log holds are about."""
    parts = [pl.read_parquet(path) for path in (home / "log").rglob("*.parquet")]
    return {name for part in parts if "p_product_id" in part.columns for name in part["p_product_id"].to_list()}


@pytest.mark.integration
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "SIGTERM"])
def test_no_accepted_event_is_lost_when_the_process_ends_under_load(bundle, tmp_path, how):
    with ExitStack() as stack:
        with service(bundle, tmp_path, ETHOGRAM_ROLL_S="0.5") as (_, process, port):
            load = stack.enter_context(loaded(port, writes=True, patience_s=30))
            others = [stack.enter_context(loaded(port, patience_s=30)) for _ in range(3)]
            for _ in range(600):
                if len(load.accepted) > 20:
                    break
                time.sleep(0.1)
            process.send_signal(how)
            process.wait(30)
            if how == signal.SIGKILL:
                process.returncode = 0  # killed on purpose
        accepted = set(load.accepted)
        assert len(accepted) > 20
        failed = [failure for each in (load, *others) for failure in each.failed]
        assert not any(failure[0].isdigit() for failure in failed), failed[:3]  # no answer says no
        if how == signal.SIGTERM:  # whoever is let in is answered, who comes too late cannot connect
            assert [each for each in failed if "refused" not in each] == []
    with service(bundle, tmp_path, ETHOGRAM_ROLL_S="0.2") as (http, _, _):
        assert http.get("/v1/segments?user_id=ann").json()["source"] == "live"
    assert accepted <= kept(tmp_path / "home")


@pytest.mark.integration
def test_hostile_callers_cost_other_callers_nothing(bundle, tmp_path):
    """Idle connections, headers and bodies that do not come, 64 MB, deep JSON, numbers that are none, many ids."""
    with service(bundle, tmp_path) as (http, _, port), loaded(port) as load, ThreadPoolExecutor(1) as beside:
        let_go = beside.submit(check_idle, http, port)
        check_large(port)
        check_odd(http)
        check_poisoned(http)
        check_series(http)
        let_go.result()
    assert load.failed == []
    assert load.answered > 50


@pytest.mark.integration
def test_under_load_no_request_fails_whatever_redis_does(bundle, tmp_path):
    """Stopped, slow, full, a broken state, one of another type, killed, and back without anything."""
    with ExitStack() as stack:
        url, process = stack.enter_context(redis_server())
        place = int(url.rpartition(":")[2])
        http, _, port = stack.enter_context(service(bundle, tmp_path, ETHOGRAM_REDIS=url, ETHOGRAM_ROLL_S="0.5"))
        asks, sends = stack.enter_context(loaded(port)), stack.enter_context(loaded(port, writes=True))
        until(http, degraded=False, source="live")
        for fail, mend in redis_faults(redis.Redis(port=place), process):
            fail()
            until(http, degraded=True)
            mend()
            until(http, degraded=False, source="live")
        check_broken(http, redis.Redis(port=place))
        process.kill()
        process.wait()
        until(http, degraded=True, source="stale")
        with redis_server(port=place):
            until(http, degraded=False, source="live")
            stack.close()
    assert (asks.failed, sends.failed) == ([], [])
    assert min(asks.answered, sends.answered) > 20
    assert set(sends.accepted) <= kept(tmp_path / "home")


def redis_faults(client, process):
    """(break it, mend it), one after the other."""
    yield lambda: process.send_signal(signal.SIGSTOP), lambda: process.send_signal(signal.SIGCONT)
    yield lambda: client.execute_command("CLIENT", "PAUSE", 2_000), lambda: None
    yield lambda: client.config_set("maxmemory", "1"), lambda: client.config_set("maxmemory", "0")


def check_broken(http, client):
    """States that are none, or of another type, cost their users the last events, and nobody else anything."""
    (anns,) = (key for key in client.keys("*state-*ann*"))
    client.set(anns.replace(b"ann", b"cid"), b"no state")
    client.lpush(anns.replace(b"ann", b"dan"), "no string")
    for user, degraded in (("cid", True), ("dan", False)):  # for MGET a key of another type is none
        told = http.post("/v1/segments", json={"user_id": user}).json()
        assert (told["source"], told["degraded"]) == ("default", degraded)


def until(http, **wanted):
    """The answer about ann, as soon as it says this."""
    for _ in range(600):
        told = http.post("/v1/segments", json={"user_id": "ann"}).json()
        if wanted.items() <= told.items():
            return told
        time.sleep(0.05)
    raise AssertionError(f"{wanted} in {told}")


def check_idle(http, port):
    """A thousand connections that say nothing, and some that say a little or not the whole body, are let go of."""
    with ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(1_000)]
        for each in idle[:50]:
            each.sendall(b"POST /v1/track HTTP/1.1\r\nhost: x\r\n")
        for each in idle[50:100]:
            each.sendall(b"POST /v1/track HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{")
        assert http.get("/readyz").status_code == 200
        time.sleep(12)
        for place, each in enumerate(idle):
            each.settimeout(5)
            if 50 <= place < 100:
                assert b" 408 " in each.recv(4096)
            else:
                assert each.recv(1) == b"", "still open after twelve seconds"


def check_large(port):
    """64 MB are refused before they are sent, and headers without an end before they are held."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as each:
        each.sendall(b"POST /v1/batch HTTP/1.1\r\nhost: x\r\ncontent-length: 67108864\r\n\r\n")
        assert b" 413 " in each.recv(4096)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as each, suppress(ConnectionError):
        each.sendall(b"GET /livez HTTP/1.1\r\nx-a: ")
        for _ in range(1_000):
            each.sendall(b"a" * 10_000)
            time.sleep(0.002)
        pytest.fail("ten million bytes of a header were taken")


def check_odd(http):
    """Deep JSON, NaN and huge numbers are told that they are wrong, or kept as what cannot be used."""
    for path in ("/v1/segments", "/v1/score", "/v1/track", "/v1/batch"):
        for depth in (b"[" * 30_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000):
            assert http.post(path, content=depth).status_code in (200, 400), path
    for number in (b"NaN", b"Infinity"):
        body = b'{"userId": "ann", "event": "Order Completed", "properties": {"revenue": %s}}' % number
        assert http.post("/v1/track", content=body).status_code == 400
    for number in (b"1e400", b"1e300", b"-1e300", b"9" * 400):
        body = b'{"userId": "ann", "event": "Order Completed", "properties": {"revenue": %s}}' % number
        assert http.post("/v1/track?strict=1", content=body).status_code in (400, 422)
        assert http.post("/v1/score", content=b'{"features": {"count_any_1d": %s}}' % number).status_code in (200, 400)


def check_poisoned(http):
    """One item that cannot be answered fails no other of a hundred."""
    users: list[object] = [f"u{place}" for place in range(100)]
    users[37] = {"no": "id"}
    answers = http.post("/v1/segments:batch", json={"users": users}).json()["answers"]
    assert [each["status"] for each in answers] == [400 if place == 37 else 200 for place in range(100)]
    batch = [{"type": "track", "userId": f"u{place}", "event": "Page Viewed"} for place in range(100)]
    batch[37] = {"type": "track", "userId": 5, "event": ["no"]}
    reply = http.post("/v1/batch?strict=1", json={"batch": batch})
    assert (reply.status_code, reply.json()["accepted"]) == (422, 99)


def check_series(http):
    """A hundred thousand ids make no series of their own."""
    http.get("/v1/segments?user_id=first")
    before = http.get("/metrics").text.count("\n")
    for part in range(100):
        users = [f"id-{part}-{place}" for place in range(1_000)]
        assert http.post("/v1/segments:batch", json={"users": users}, timeout=30).status_code == 200
    for place in range(100):
        http.get(f"/v1/segments/{place}")
    assert http.get("/metrics").text.count("\n") < before + 50


def counted(text, name):
    """A counter's value in the exposition."""
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


DEVICE = """
import polars
write = polars.DataFrame.write_parquet
polars.DataFrame.write_parquet = lambda frame, path, **more: write(
    frame, "/dev/full" if "/full/" in str(path) else path, **more
)
"""
"""Run by every Python below: the prediction log is written to the device on which there is never room."""


def full_disks(full):
    """Ways to start `ethogram` with a full disk under a folder: the device, and a real one where it may be mounted."""
    patch = full.parent / "patch"
    patch.mkdir()
    (patch / "sitecustomize.py").write_text(DEVICE)
    yield ["env", f"PYTHONPATH={patch}{os.pathsep}{TESTS.parent}", sys.executable, "-m", "console.cli"]
    mounted = f'mount -t tmpfs -o size=64k none "{full}"'
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*alone, mounted], capture_output=True).returncode == 0:
        yield [*alone, f'{mounted} && exec "$@"', "sh", sys.executable, "-m", "console.cli"]


@pytest.mark.integration
def test_under_load_a_full_disk_under_the_prediction_log_fails_no_request(bundle, tmp_path):
    """What cannot be written is counted."""
    full = tmp_path / "full"
    full.mkdir()
    publish(bundle.path, tmp_path / "home" / "bundles")
    for command in full_disks(full):
        check_full(command, full, tmp_path)


def check_full(ethogram, full, tmp_path):
    port = free_port()
    command = [*ethogram, "serve", "--port", str(port)]
    more = {"ETHOGRAM_PREDICTIONS": str(full), "ETHOGRAM_FLUSH_S": "0.2"}
    with (
        running(command, port, tmp_path, **more) as (http, _),
        loaded(port) as asks,
        loaded(port, writes=True) as sends,
    ):
        for _ in range(600):
            if counted(http.get("/metrics").text, "ethogram_prediction_failures_total") > 0:
                break
            time.sleep(0.1)
        else:
            pytest.fail("no writing failed")
        answered = asks.answered
        time.sleep(3)
        assert http.get("/readyz").status_code == 200
    assert (asks.failed, sends.failed) == ([], [])
    assert asks.answered > answered + 50
    assert "No space left on device" in (tmp_path / "server.log").read_text(encoding="utf-8")


def test_a_full_disk_under_the_prediction_log_loses_rows_and_no_answer(tmp_path, bundle, monkeypatch):
    """What cannot be written stays in the ring; what the ring has no room for is dropped and counted."""
    from serving.scorer import Scorer
    from serving.store import SqliteStore

    with SqliteStore(tmp_path / "state.db") as store:
        scorer, told = Scorer(bundle, store), []
        log = PredictionLog(tmp_path / "predictions", b"key")
        log.on_failure = lambda: told.append("failed")
        ring = log.follow(scorer)
        answer = scorer.answer("ann", 1)

        def full(_, path, **__):
            path.write_bytes(b"what still found room")
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(pl.DataFrame, "write_parquet", full)
            for place in range(ring.capacity + 5):
                assert ring.put(f"r{place}", answer) == (place < ring.capacity)
            log.thread._attempt()
            log.thread._attempt()
        assert told == ["failed", "failed"]
        assert not list(log.writer.folder.rglob("*.new"))
        assert log.flush() == ring.capacity
        assert ring.put("after", answer)
