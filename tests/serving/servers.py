"""Real Redis servers on loopback, for tests."""

import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager

import redis

from tests.serving.test_service import free_port


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
    with redis_server("--cluster-enabled", "yes") as (url, process):
        client = redis.Redis.from_url(url)
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO", NEVER_DECODE=[]):
            time.sleep(0.05)
        yield url, process


def wait(port):
    """Until the server answers."""
    client = redis.Redis(port=port)
    for _ in range(200):
        try:
            client.ping()
        except redis.ConnectionError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("redis-server does not start")
