"""Caller: what an application does with the service, over one connection; and a Bento to do it with."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from features.errors import EthogramError

BATCH = 500
"""Messages of one request; the door takes 2,500 or 500 KB."""


class Caller:
    """A client of one running service.

    Raises:
        EthogramError: the service refuses, or is not there.
    """

    def __init__(self, url: str, *, timeout_s: float = 60.0) -> None:
        self.url = url
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def send(self, messages: Iterable[Mapping[str, object]]) -> int:
        """Segment-shaped messages, in batches; how many were sent."""
        count, rest = 0, iter(messages)
        while batch := list(islice(rest, BATCH)):
            self._ask("POST", "/v1/batch", {"batch": batch})
            count += len(batch)
        return count

    def segments(self, user: str) -> dict[str, Any]:
        """The answer about one user."""
        return self._ask("POST", "/v1/segments", {"user_id": user})

    def all_segments(self, users: Iterable[str]) -> Iterator[dict[str, Any]]:
        """One answer a user."""
        return (self.segments(user) for user in users)

    def is_ready(self) -> bool:
        """Whether it says so."""
        try:
            self._connection.request("GET", "/readyz")
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return False
        return answer.status == http.client.OK

    def wait(self, seconds: float, *, gone: Any = None) -> None:  # noqa: ANN401 - a process's poll
        """Until it is ready.

        Args:
            seconds: How long to wait at most.
            gone: Told to us: a callable whose answer other than None means that nobody will ever be ready.
        """
        end = time.monotonic() + seconds
        while not self.is_ready():
            if time.monotonic() > end or (gone is not None and gone() is not None):
                raise EthogramError(f"the service at {self.url} did not become ready.")
            time.sleep(0.1)

    def _ask(self, method: str, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        try:
            self._connection.request(method, path, json.dumps(body), {"content-type": "application/json"})
            answer = self._connection.getresponse()
            told = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise EthogramError(f"{self.url}{path} does not answer: {error}") from None
        if answer.status != http.client.OK:
            raise EthogramError(f"{self.url}{path} answered {answer.status}: {told.decode(errors='replace')[:300]}")
        return dict(json.loads(told))


@contextlib.contextmanager
def served(tag: str, *, log: Path, **settings: str) -> Iterator[Caller]:
    """A built Bento, answering on a free port of this machine; stopped at the end whatever happens.

    Args:
        tag: Of the Bento.
        log: File for what the process prints.
        settings: Environment variables of the service.

    Raises:
        EthogramError: it did not become ready; the end of its log is in the message.
    """
    port = free_port()
    environment = {**os.environ, "ETHOGRAM_FLUSH_S": "1", "ETHOGRAM_ROLL_S": "1", **settings}
    command = [str(program("bentoml")), "serve", tag, "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)  # noqa: S603 - our own command
        try:
            with Caller(f"http://127.0.0.1:{port}") as caller:
                try:
                    caller.wait(300, gone=process.poll)
                except EthogramError as error:
                    raise EthogramError(f"{error}\n{_tail(log)}") from None
                yield caller
        finally:
            stop(process)


def program(name: str) -> Path:
    """A program of this environment."""
    return Path(sys.executable).parent / name


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all it started: asked first, made to after 20 seconds."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
