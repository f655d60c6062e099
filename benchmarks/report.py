"""Figures of a benchmark: printed for people, or as the one JSON document that tools read."""

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One measured number; `holds` is None where nothing was promised."""

    name: str
    value: float
    unit: str
    target: float | None = None
    holds: bool | None = None


def at_least(name: str, value: float, unit: str, target: float) -> Figure:
    """A figure that must not be smaller than its target."""
    return Figure(name, value, unit, target, value >= target)


def at_most(name: str, value: float, unit: str, target: float) -> Figure:
    """A figure that must not be larger than its target."""
    return Figure(name, value, unit, target, value <= target)


def arguments(description: str, *, folder: bool = False) -> argparse.Namespace:
    """`--small` and `--json`, which every benchmark takes, and perhaps `--folder`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--small", action="store_true", help="a minute's worth")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    if folder:
        parser.add_argument("--folder", type=Path, help="where data is made, and found again")
    return parser.parse_args()


def note(text: str) -> None:
    """Progress and versions, beside the document."""
    print(text, file=sys.stderr, flush=True)


def best(work: Callable[[], object], *, runs: int = 5, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of the fastest of `runs` runs, after one that warms up; garbage is collected between them.

    With `time.process_time` as the clock they are of all cores together, which says most on a busy machine.
    """
    work()
    seconds = []
    for _ in range(runs):
        gc.collect()
        started = clock()
        work()
        seconds.append(clock() - started)
    return min(seconds)


def report(figures: list[Figure], *, as_json: bool) -> int:
    """Print the figures; 1 where a target is missed."""
    if as_json:
        print(json.dumps({"figures": [asdict(each) for each in figures]}, indent=1))
    else:
        width = max(len(each.name) for each in figures)
        for each in figures:
            verdict = "" if each.holds is None else f"   target {each.target:g}: {'holds' if each.holds else 'MISSED'}"
            print(f"{each.name:<{width}}  {each.value:>12,.4g} {each.unit}{verdict}")
    return int(any(each.holds is False for each in figures))
