"""Passing: days of a simulated shop go by in seconds, through a running service, with a turn of the loop after each.

And what an application does with the service, over one connection, and a Bento to do it with.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import polars as pl

from features.errors import EthogramError
from features.instants import DAY, iso

if TYPE_CHECKING:
    from experiments.turn import Decision
    from features.project import Project
    from features.simulate import Shop, Truth
    from serving.runtime import Runtime

BATCH, ASKED = 500, 1_000
"""Messages of one request, of which the door takes 2,500 or 500 KB; and users of one."""


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

    def batches(self, users: Iterable[str]) -> Iterator[dict[str, Any]]:
        """One answer a user, a thousand in a request.

        Raises:
            EthogramError: one of them is not answered.
        """
        rest = iter(users)
        while batch := list(islice(rest, ASKED)):
            for answer in self._ask("POST", "/v1/segments:batch", {"users": batch})["answers"]:
                if answer["status"] != http.client.OK:
                    raise EthogramError(f"{self.url} answered about {answer['user_id']}: {answer}")
                yield answer

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


ACTIVE_DAYS = 30


class Passing:
    """A shop whose first days are history, and whose other days are lived.

    Attributes:
        project: The shop's.
        shop: As simulated, the lived days included.
        truth: What was planted.
        frame: All messages.
        begin: The midnight at which the lived days begin.
        runtime: The service's parts; its clock is turned.
        failed: Requests that failed, by what they said; nobody may ever see one.
        asked: Requests that were answered.
    """

    def __init__(self, project: "Project", shop: "Shop", truth: "Truth", frame: pl.DataFrame, begin: int) -> None:
        self.begin = begin
        self.project = project
        self.shop = shop
        self.truth = truth
        self.frame = frame
        self.runtime: Runtime
        self.failed: list[str] = []
        self.asked = 0

    @classmethod
    def begun(cls, project: "Project", shop: "Shop", *, history: int) -> "Passing":
        """Simulate, and ingest the first `history` days."""
        from features.events.log import EventLog
        from features.simulate import Truth, simulate
        from features.simulate.writing import write_messages

        frames, truths = zip(*simulate(shop), strict=True)
        frame, truth = pl.concat(frames, how="diagonal"), Truth.concat(truths)
        file = project.root / "raw" / "history.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        begin = shop.start + history * DAY
        write_messages(frame.filter(pl.col("ts") < begin), file)
        EventLog.of(project).ingest(file)
        return cls(project, shop, truth, frame, begin)

    @contextmanager
    def served(self) -> Iterator["Passing"]:
        """The service runs on a free port of this machine, in a thread, within the block."""
        import uvicorn

        from serving.door import Door, nothing
        from serving.protocol import OPTIONS
        from serving.runtime import Runtime
        from serving.settings import Settings

        given = {"ETHOGRAM_PROJECT": str(self.project.root), "ETHOGRAM_ROLL_S": "3600", "ETHOGRAM_FLUSH_S": "3600"}
        given["ETHOGRAM_CLOCK"] = iso(self.begin)
        self.runtime = Runtime(Settings.from_environment(given))
        door = Door(nothing, make=lambda: self.runtime)
        config = uvicorn.Config(door, **{**OPTIONS, "timeout_keep_alive": 600})
        server, listening = uvicorn.Server(config), socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="service")
        thread.start()
        try:
            with Caller(self.url) as caller:
                caller.wait(300)
            yield self
        finally:
            server.should_exit = True
            thread.join()

    def people(self, day: int) -> list[str]:
        """Who has signed in, does not refuse, and came within the 30 days before the end of a day."""
        end = self.shop.start + (day + 1) * DAY
        came = self.frame.filter(pl.col("ts").is_between(end - ACTIVE_DAYS * DAY, end, closed="left"))
        seen = came.filter(pl.col("user_id").is_not_null())["user_id"].unique()
        return sorted(self.truth.people.filter(pl.col("user").is_in(seen.implode()))["user"].to_list())

    def live(self, day: int) -> None:
        """One day's messages through the door, and a nightly batch about everybody; then all logs are written."""
        from features.simulate.writing import json_lines

        start = self.shop.start + day * DAY
        mine = self.frame.filter(pl.col("ts").is_between(start, start + DAY, closed="left")).sort("ts", "message_id")
        self.runtime.turn_clock(start + DAY)
        with Caller(self.url) as caller:
            caller.send(json.loads(line) for line in json_lines(mine, sent=False))
            self.asked += sum(1 for _ in caller.batches(self.people(day)))
        self.settle()

    def settle(self) -> None:
        """What the service would do within seconds is done."""
        self.runtime.shadow.work()
        for log in (self.runtime.predictions, self.runtime.shadowed):
            log.flush()
        self.runtime.roller.roll()

    def turn(self, *, force: bool = False) -> "Decision":
        """A turn of the loop, while somebody asks all the time; the service follows what it decides."""
        from experiments.follow import Follower
        from experiments.loop import run_once
        from training.bundle import CHALLENGER

        with self._pestered():
            decision = run_once(self.project, force=force)
            follower = Follower(self.project)
            follower.look()
            follower.look("challenger", CHALLENGER)
            self.runtime.releases.look()
            self.runtime.challengers.look()
            self.settle()
        return decision

    @contextmanager
    def _pestered(self) -> Iterator[None]:
        """Somebody asks again and again; every failure is kept."""
        stop = threading.Event()
        someone = self.truth.people["user"][0]

        def ask() -> None:
            with Caller(self.url) as caller:
                while not stop.is_set():
                    try:
                        caller.segments(someone)
                        self.asked += 1
                    except EthogramError as error:
                        self.failed.append(str(error))
                    time.sleep(0.05)

        thread = threading.Thread(target=ask, name="pestering")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
