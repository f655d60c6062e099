"""Latency of single answers under an open load: requests come when they are due, whether or not others were answered.

They are due at instants drawn from a Poisson process, and go out on the first free connection. What is measured begins
when a request was due, so that nobody who waits behind a slow answer is left out of the figures.

On a machine that is shared, a host takes the processors away, and everything waits. Requests that met such a moment,
or came shortly behind one, say nothing about the server: they are counted, and left out of what has a target.
Callers and server have a processor each, as on two machines (`servers.apart`), but while bundles are swapped.
"""

import random
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Figure, at_most, note
from benchmarks.servers import Server, answered, apart, running
from training.bundle import Bundle, publish

CALLERS = 32
OURS = "serving.service:application"
LOAD = 0.6
SWAP_S = 1.3
"""Between two swaps: the service looks once a second."""
SLICE_S, FEWEST = 0.05, 1_000
"""How often it is looked whether the host took processors away; how many requests say something."""


def figures(
    home: Path, size: int, questions: Sequence[bytes], cpu_s: float, echo: Server, bare: Sequence[bytes], *, small: bool
) -> list[Figure]:
    """Tails with and without garbage collection, with and without swaps, the echo's, and how long a start takes.

    Args:
        home: What `prepared` made.
        size: Of the echo's answers.
        questions: To draw from.
        cpu_s: Processor time that an answer takes.
        echo: Under the same load: what is late there is the machine, or the caller.
        bare: What it is asked.
        small: Half a minute of everything.
    """
    rate, seconds, n_swaps = LOAD / cpu_s, 10.0 if small else 60.0, 20 if small else 100
    other = second(home)
    with running(OURS, home, size) as server:
        ready_s = server.ready_s
        opened(server, questions, rate, 3)
        with apart(echo):
            floor = opened(echo, bare, rate, seconds)
        with apart(server):
            tails = opened(server, questions, rate, seconds)
        note(f"{rate:,.0f} requests a second for {seconds:g} s; then {n_swaps} swaps")
        still = opened(server, questions, rate / 2, n_swaps * SWAP_S)
        command = [sys.executable, "-m", "benchmarks.latency", str(home), str(other), str(n_swaps)]
        with subprocess.Popen(command):  # a process of its own: what it does must not delay the callers
            moved = opened(server, questions, rate / 2, n_swaps * SWAP_S)
    with running(OURS, home, size, collects=False) as server:
        opened(server, questions, rate, 3)
        with apart(server):
            kept = opened(server, questions, rate, seconds)
    p50, p99 = np.percentile(tails.undisturbed, [50, 99])
    least50, least99 = np.percentile(floor.undisturbed, [50, 99])
    worst = still.undisturbed.max()
    return [
        Figure("open load of 60 %: requests while the host left us the processors", float(tails.calm.mean()), ""),
        Figure("open load of 60 %: p50", p50 * 1e3, "ms"),
        at_most("open load of 60 %: p99 by p50", p99 / p50, "times", 5),
        Figure("the echo's p99 by its p50 at that rate", least99 / least50, "times"),
        Figure("open load of 60 %: p99", p99 * 1e3, "ms"),
        Figure("the echo's p99 at that rate", least99 * 1e3, "ms"),
        Figure("the same of all requests", float(np.percentile(tails.waits, 99)) * 1e3, "ms"),
        Figure("the same without garbage collection", float(np.percentile(kept.undisturbed, 99)) * 1e3, "ms"),
        Figure(f"worst answer of {len(still.undisturbed):,}", worst * 1e3, "ms"),
        at_most(f"{n_swaps} swaps of the bundle add to it", (moved.undisturbed.max() - worst) * 1e3, "ms", 20),
        at_most("start to ready", ready_s, "s", 5),
    ]


def second(home: Path) -> Path:
    """The bundle again, as another version: another digest."""
    first = Bundle.load(home / "bundle")
    models = {study: home / study for study in first.models}
    made = Bundle.write(
        home / "second", name="shop", version="2", features=first.features, models=models,
        plan=home / "plan.yaml", lock=home / "plan.lock",
    )  # fmt: skip
    return made.path


def publish_in_turn(home: Path, other: Path, n: int) -> None:
    """Publish one bundle and the other in turn, so many times."""
    for turn in range(n):
        publish(home / "bundle" if turn % 2 else other, home / "bundles")
        time.sleep(SWAP_S)


class Waits(NamedTuple):
    """How long requests waited.

    Attributes:
        waits: Seconds each.
        calm: Whether the host left us the processors meanwhile, and for a slice of time before.
    """

    waits: NDArray[np.float64]
    calm: NDArray[np.bool_]

    @property
    def undisturbed(self) -> NDArray[np.float64]:
        """Of those that nothing but the server delayed; of all where there are too few."""
        return self.waits[self.calm] if self.calm.sum() >= FEWEST else self.waits


def taken() -> int:
    """Ticks that the host has given to others while something here wanted to run; 0 where nobody counts them."""
    counted = Path("/proc/stat")
    return int(counted.read_text(encoding="utf-8").split(maxsplit=9)[8]) if counted.exists() else 0


def opened(server: Server, questions: Sequence[bytes], rate: float, seconds: float) -> Waits:
    """Seconds from when each request was due until it was answered; one thread, so that no caller delays another."""
    draw, told, waiting = random.Random(1), list[tuple[float, float]](), deque[float]()
    looked, ticks = list[float](), list[int]()
    # In turn: the server lets go of a connection that has said nothing for ten seconds.
    idle, busy = deque(_connected(server) for _ in range(CALLERS)), dict[socket.socket, float]()
    now = time.perf_counter()
    due, end = now + draw.expovariate(rate), now + seconds
    while due < end or waiting or busy:
        now = time.perf_counter()
        if not looked or now - looked[-1] >= SLICE_S:
            looked.append(now)
            ticks.append(taken())
        while due <= min(now, end):
            waiting.append(due)
            due += draw.expovariate(rate)
        while waiting and idle:
            connection = idle.popleft()
            busy[connection] = waiting.popleft()
            connection.sendall(draw.choice(questions))
        for connection in select.select(list(busy), [], [], max(0.0, due - time.perf_counter()))[0]:
            answered(connection)
            told.append((busy.pop(connection), time.perf_counter()))
            idle.append(connection)
    for connection in idle:
        connection.close()
    begun, done = np.array(told).T
    before = np.maximum(np.searchsorted(looked, begun, side="right") - 2, 0)  # the look before the last one
    behind = np.searchsorted(looked, done, side="right")
    counted = np.array([*ticks, taken()])
    return Waits(done - begun, counted[behind] == counted[before])


def _connected(server: Server) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


if __name__ == "__main__":  # the other process of `swap`
    publish_in_turn(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
