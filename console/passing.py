"""Passing: days of a simulated shop go by in seconds, through a running service, with a turn of the loop after each."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import polars as pl

from console.caller import Caller
from features.errors import EthogramError
from features.instants import DAY, iso

if TYPE_CHECKING:
    from experiments.turn import Decision
    from features.project import Project
    from features.simulate import Shop, Truth
    from serving.runtime import Runtime

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
        from serving.protocol import Protocol
        from serving.runtime import Runtime
        from serving.settings import Settings

        given = {"ETHOGRAM_PROJECT": str(self.project.root), "ETHOGRAM_ROLL_S": "3600", "ETHOGRAM_FLUSH_S": "3600"}
        given["ETHOGRAM_CLOCK"] = iso(self.begin)
        self.runtime = Runtime(Settings.from_environment(given))
        door = Door(nothing, make=lambda: self.runtime)
        config = uvicorn.Config(door, http=Protocol, log_config=None, access_log=False, timeout_keep_alive=600)
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
        """One day's messages through the door, and everybody asked about at its end; then all logs are written."""
        from features.simulate.segment import json_lines

        start = self.shop.start + day * DAY
        mine = self.frame.filter(pl.col("ts").is_between(start, start + DAY, closed="left")).sort("ts", "message_id")
        self.runtime.turn_clock(start + DAY)
        with Caller(self.url) as caller:
            caller.send(json.loads(line) for line in json_lines(mine, sent=False))
            for _ in caller.all_segments(self.people(day)):
                self.asked += 1
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
