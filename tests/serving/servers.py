"""Real Redis servers on loopback, and callers that never stop asking, for tests."""

import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import redis

from tests.serving.test_service import free_port

BUS = 10_000  # a node of a cluster listens on a second port, that far above its first


@contextmanager
def redis_server(*options, port=None):
    """A server of its own that keeps nothing: (address, process)."""
    port = port or free_port()
    folder = tempfile.mkdtemp()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder, *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait(port)
        yield f"redis://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait(10)
        shutil.rmtree(folder)


@contextmanager
def redis_cluster():
    """A cluster of one node that has every slot: it refuses commands over several slots as a large one does."""
    port = next(port for port in iter(free_port, None) if port <= 65535 - BUS)
    with redis_server("--cluster-enabled", "yes", port=port) as (url, process):
        client = redis.Redis.from_url(url)
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO", NEVER_DECODE=[]):
            time.sleep(0.05)
        yield url, process


def wait(port):
    """Until the server answers."""
    client = redis.Redis(port=port)
    for _ in range(1200):
        try:
            client.ping()
        except redis.ConnectionError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("redis-server does not start")


@dataclass
class Load:
    """What came of questions asked all the time."""

    answered: int = 0
    slowest: float = 0.0
    failed: list = field(default_factory=list)
    accepted: list = field(default_factory=list)


@contextmanager
def loaded(port, *, patience_s=5.0, writes=False, headers=None):
    """A caller that asks, or sends events, all the time; connection errors count as failures."""
    load, stop = Load(), threading.Event()

    def ask():
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=patience_s, headers=headers) as http:
            while not stop.is_set():
                begun, name = time.monotonic(), f"m-{load.answered + len(load.failed)}"
                try:
                    if writes:
                        event = {"userId": "ann", "event": "Product Viewed", "properties": {"product_id": name}}
                        reply = http.post("/v1/track", json=event)
                    else:
                        reply = http.post("/v1/segments", json={"user_id": "ann"})
                except httpx.TransportError as error:
                    load.failed.append(repr(error))
                    time.sleep(0.05)
                    continue
                load.slowest = max(load.slowest, time.monotonic() - begun)
                if reply.status_code == 200:
                    load.answered += 1
                    load.accepted.append(name)
                else:
                    load.failed.append(f"{reply.status_code} {reply.text[:200]}")
                time.sleep(0.005)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield load
    finally:
        stop.set()
        thread.join()
