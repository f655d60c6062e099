"""Servers of the benchmarks: ours, the bare echo and what others serve models with, each in a process of its own."""

import gc
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks import shop
from features.behaviour.feature_set import FeatureSet
from serving.redis_store import RedisStore
from serving.store import SqliteStore

ROOT = Path(__file__).parent.parent
SCHEDULED = 2
"""CPUCLOCK_SCHED: with a process's number it makes the clock of what that process was given of the processors."""


class Server(NamedTuple):
    """A server that answers.

    Attributes:
        port: Where.
        pid: The process that all of it is below.
        ready_s: How long it took, from its start on.
    """

    port: int
    pid: int
    ready_s: float


@contextmanager
def running(application: str, home: Path, size: int, redis: str = "", *, collects: bool = True) -> Iterator[Server]:
    """A server, stopped at the end; `collects`: with Python's garbage collection."""
    port = _free_port()
    ours = {name: value for name, value in os.environ.items() if not name.startswith("ETHOGRAM_")}
    ours |= {
        "ETHOGRAM_HOME": str(home),
        "ECHO_BYTES": str(size),
        "ETHOGRAM_DRAIN_S": "0",
        "COLLECTS": str(int(collects)),
    }
    ours |= {"ETHOGRAM_REDIS": redis, "MLFLOW_DISABLE_TELEMETRY": "true", "BENTOML_DO_NOT_TRACK": "True"}
    ours |= {"ETHOGRAM_CLOCK": "2026-06-01T12:00:00", "BENTOML_HOME": str(home / "bentoml")}
    ours["PATH"] = f"{Path(sys.executable).parent}:{ours.get('PATH', '')}"  # MLflow calls uvicorn by its name
    (home / "bentoml").mkdir(exist_ok=True)
    begun = time.monotonic()
    said = home / f"{application.partition(':')[0]}.txt"  # some write a line a request
    with said.open("w", encoding="utf-8") as output:
        streams = {"stdout": output, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(
            _command(application, home, port), env=ours, start_new_session=True, cwd=ROOT, **streams
        )
    try:
        _wait(port, said, process)
        yield Server(port, process.pid, time.monotonic() - begun)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _command(application: str, home: Path, port: int) -> list[str]:
    kind, _, name = application.partition(":")
    programs, at = Path(sys.executable).parent, ["--host", "127.0.0.1", "--port", str(port)]
    if kind == "bentoml":
        return [str(programs / "bentoml"), "serve", name, *at]
    if kind == "mlflow":
        model = str(home / name)
        return [str(programs / "mlflow"), "models", "serve", "-m", model, "--env-manager", "local", "-w", "1", *at]
    return [sys.executable, "-m", "benchmarks.servers", application, str(port)]


@contextmanager
def redis_of(home: Path, features: FeatureSet, n_users: int) -> Iterator[str]:
    """A Redis of its own that holds the states of the file."""
    port = _free_port()
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--daemonize", "no"], stdout=subprocess.DEVNULL
    )
    url = f"redis://127.0.0.1:{port}?socket_timeout=5"
    try:
        file = SqliteStore(home / "state.db")
        _answers(port)
        store = RedisStore(url, file, owner=True)
        live = store.begin(features.schema, shop.PLAN)
        for first in range(0, n_users, 1_000):
            users = [f"user-{user:08d}" for user in range(first, min(first + 1_000, n_users))]
            states = file.read(features.schema, users)
            store.load(live, [(state.user, state.records, state.carry) for state in states])
        store.complete(live)
        store.close()
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def _answers(port: int) -> None:
    for _ in range(300):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise RuntimeError("redis-server does not start")


def _wait(port: int, said: Path, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(15_000):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            for path in ("/readyz", "/ping"):  # MLflow's says pong
                connection.request("GET", path)
                with connection.getresponse() as told:
                    told.read()
                    if told.status == 200:
                        return
        except OSError:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"the server does not get ready: {said.read_text(encoding='utf-8')[-2000:]}")


def spent(pid: int) -> float:
    """Seconds of processor time that a process and all below it have used, by the kernel's own clock of each."""
    used = 0.0
    for each in below(pid):
        with suppress(OSError):
            used += time.clock_gettime((~each << 3) | SCHEDULED)
    return used


def below(pid: int) -> set[int]:
    """A process and all that it has started, and those have."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    found = {pid}
    while more := {each for each, parent in parents.items() if parent in found} - found:
        found |= more
    return found


@contextmanager
def apart(server: Server) -> Iterator[None]:
    """A server with all below it on one processor, the caller on the others; nothing where there is only one.

    The kernel likes to wake who is called beside who calls: then an answer waits for the next question to be sent.
    """
    free = os.sched_getaffinity(0)
    if len(free) == 1:
        yield
        return
    own = {max(free)}
    _keep(server.pid, own)
    os.sched_setaffinity(0, free - own)
    try:
        yield
    finally:
        os.sched_setaffinity(0, free)
        _keep(server.pid, free)


def _keep(pid: int, processors: set[int]) -> None:
    for process in below(pid):
        for thread in Path(f"/proc/{process}/task").iterdir():
            with suppress(OSError):
                os.sched_setaffinity(int(thread.name), processors)


def request(path: str, body: bytes) -> bytes:
    """A POST as it goes over the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: local\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def ask(connection: socket.socket, request: bytes) -> bytes:
    """The body of the answer, which is 200."""
    connection.sendall(request)
    return answered(connection)


def answered(connection: socket.socket) -> bytes:
    """The body of the answer that is due on a connection, which is 200."""
    reply = connection.recv(65_536)
    head, _, body = reply.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(reply.decode(errors="replace"))
    left = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]) - len(body)
    while left > 0:
        part = connection.recv(1 << 20)
        body, left = body + part, left - len(part)
    return body


def serve(application: str, port: int) -> None:
    """Answer until stopped: ours with the protocol that `ethogram serve` uses, the echo with uvicorn's own."""
    import uvicorn

    if os.environ.get("COLLECTS") == "0":
        gc.disable()
    from serving.protocol import OPTIONS

    options = {**OPTIONS, "factory": True, "port": port}
    if application.startswith("benchmarks."):
        options |= {"http": "httptools", "lifespan": "off"}  # the echo has nothing to open or close
    uvicorn.run(application, **options)


def echo() -> object:
    """The bare application: reads the body and sends as many bytes as an answer has."""
    size = int(os.environ["ECHO_BYTES"])

    async def application(_: dict[str, object], receive: object, send: object) -> None:
        body = (await receive())["body"]
        headers = [(b"content-type", b"application/json"), (b"content-length", str(size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body.ljust(size)[:size]})

    return application


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
