"""Latency of single answers under an open load: requests come when they are due, whether or not others were answered.

Each caller has a connection and instants of its own, drawn from a Poisson process. What is measured begins when a
request was due, so that nobody who waits behind a slow answer is left out of the figures.
"""

import random
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Figure, at_most, note
from benchmarks.servers import Server, ask, running
from training.bundle import Bundle, publish

CALLERS = 16
OURS = "serving.service:application"
LOAD = 0.6
SWAP_S = 1.3
"""Between two swaps: the service looks once a second."""


def figures(home: Path, size: int, questions: Sequence[bytes], cpu_s: float, *, small: bool) -> list[Figure]:
    """Tails with and without garbage collection, with and without swaps, and how long a start takes.

    Args:
        home: What `prepared` made.
        size: Of the echo's answers.
        questions: To draw from.
        cpu_s: Processor time that an answer takes.
        small: Half a minute of everything.
    """
    rate, seconds, n_swaps = LOAD / cpu_s, 10.0 if small else 60.0, 20 if small else 100
    other = second(home)
    with running(OURS, home, size) as server:
        ready_s = server.ready_s
        opened(server, questions, rate, 3)
        tails = opened(server, questions, rate, seconds)
        note(f"{rate:,.0f} requests a second for {seconds:g} s; then {n_swaps} swaps")
        still = opened(server, questions, rate / 2, n_swaps * SWAP_S)
        swapping = threading.Thread(target=swap, args=(home, other, n_swaps))
        swapping.start()
        moved = opened(server, questions, rate / 2, n_swaps * SWAP_S)
        swapping.join()
    with running(OURS, home, size, collects=False) as server:
        opened(server, questions, rate, 3)
        kept = opened(server, questions, rate, seconds)
    p50, p99 = np.percentile(tails, [50, 99])
    return [
        Figure("open load of 60 %: p50", p50 * 1e3, "ms"),
        at_most("open load of 60 %: p99 by p50", p99 / p50, "times", 5),
        Figure("open load of 60 %: p99", p99 * 1e3, "ms"),
        Figure("the same without garbage collection", float(np.percentile(kept, 99)) * 1e3, "ms"),
        Figure(f"worst answer of {len(still):,}", float(still.max()) * 1e3, "ms"),
        at_most(f"{n_swaps} swaps of the bundle add to it", float(moved.max() - still.max()) * 1e3, "ms", 20),
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


def swap(home: Path, other: Path, n: int) -> None:
    """Publish one bundle and the other in turn, so many times."""
    for turn in range(n):
        publish(home / "bundle" if turn % 2 else other, home / "bundles")
        time.sleep(SWAP_S)


def opened(server: Server, questions: Sequence[bytes], rate: float, seconds: float) -> NDArray[np.float64]:
    """Seconds from when each request was due until it was answered."""
    told: list[float] = []
    begin = time.perf_counter() + 0.2

    def call(caller: int) -> None:
        draw, due = random.Random(caller), begin
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while (due := due + draw.expovariate(rate / CALLERS)) < begin + seconds:
                time.sleep(max(0.0, due - time.perf_counter()))
                ask(connection, draw.choice(questions))
                told.append(time.perf_counter() - due)

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.array(told)
