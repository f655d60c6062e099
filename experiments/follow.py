"""Follow: publishes whatever the registry's `champion` is, so that moving the alias is all that a release takes.

A process of its own beside the service, which knows nothing of registries: `python -m experiments.follow PROJECT`.
"""

import logging
import math
import os
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from experiments.release import published
from experiments.study import DIGEST
from experiments.tracking import CHALLENGER, CHAMPION, Registered, Tracking
from features.behaviour.histories import Histories
from features.behaviour.proof import AT, drawn
from features.errors import BundleError
from features.events.plan import TrackingPlan
from features.files import rewrite
from features.project import Project
from training import bundle

LOGGER = logging.getLogger("ethogram.follow")
EVERY_S = 4.0
AGAIN_S = 60.0
"""A version that was too slow, or could not be checked, is checked again so much later."""
LATENCY_S = 0.05
"""What the median answer of an accepted bundle may take here, features and all models."""


@dataclass(frozen=True)
class Step:
    """What one look at the registry found.

    Attributes:
        version: The champion's; None where there is none.
        changed: Whether it is published since.
        fault: Why it is not served; empty where it is.
    """

    version: int | None
    changed: bool = False
    fault: str = ""


@dataclass(frozen=True)
class Refusal:
    """Why a version is not published, and when it is tried again, on the monotonic clock."""

    version: int
    fault: str
    again: float


IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
"""For MLflow's client, unless the environment says otherwise: it would try again, ever more seldom, for minutes."""


class SlowError(BundleError):
    """A bundle that takes too long, as it seems: the machine may have been busy."""


class Follower:
    """One project's aliases and bundles; a version that is wrong is fetched again once the alias has moved."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.tracking = Tracking(project)
        self._refused: dict[str, Refusal] = {}

    def look(self, alias: str = CHAMPION, pointer: str = bundle.CURRENT) -> Step:
        """Resolve an alias once, and publish what it names if it is another bundle and a sound one."""
        named, folder = self.tracking.alias(self.project.name, alias), self.project.path("bundles")
        if named is None:
            if alias != CHAMPION:
                (folder / pointer).unlink(missing_ok=True)
            return Step(None)
        if self._there(pointer) == named.tags.get(DIGEST):
            return Step(named.version)
        refused = self._refused.get(alias)
        if refused is not None and refused.version == named.version and time.monotonic() < refused.again:
            return Step(named.version, fault=refused.fault)
        self._refused.pop(alias, None)
        try:
            published(self.project, self.tracking, named, partial(self._check, alias), pointer)
            return Step(named.version, changed=True)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, what is published stays
            return Step(named.version, fault=f"version {named.version} is refused: {error}")

    def _check(self, alias: str, folder: Path, registered: Registered) -> None:
        """`check`; what is wrong with a version is final, what may pass is looked at again."""
        try:
            check(folder, registered)
        except Exception as error:
            final = isinstance(error, BundleError) and not isinstance(error, SlowError)
            again = math.inf if final else time.monotonic() + AGAIN_S
            fault = f"version {registered.version} is refused: {error}"
            self._refused[alias] = Refusal(registered.version, fault, again)
            raise

    def _there(self, pointer: str) -> str | None:
        try:
            folder = bundle.current(self.project.path("bundles"), pointer)
        except BundleError:  # it names what is gone
            return None
        return folder.name if folder else None


def check(folder: Path, registered: Registered) -> None:
    """Everything that can be known of a bundle before it answers anybody.

    Raises:
        BundleError: a byte differs, a golden row comes out otherwise, a score of an empty history or of one of
            those that its plan allows is no number, or it is too slow.
    """
    found = bundle.Bundle.load(folder, verify=True)
    if found.digest != registered.tags.get(DIGEST):
        raise BundleError(f"its digest is {found.digest[:12]}, the registry names another.")
    if not (folder / "plan.yaml").exists():
        raise BundleError("it carries no plan.yaml, so no event could be taken in.")
    made = drawn(found.schema, TrackingPlan.read(folder / "plan.yaml"))
    nobody, longest = Histories.from_states(found.schema, ["nobody"], [b""]), np.argmax(made.ends - made.starts)
    for histories, what in ((nobody, "an empty history"), (made, "some made-up histories")):
        for study, each in found.score_matrix(found.computed.compute(histories, AT)).items():
            if not each.finite:
                raise BundleError(f"study {study!r} says what is no number of {what}.")
    taken, somebody = [], made.take(np.array([longest]))
    for _ in range(21):
        begun = time.perf_counter()
        found.score_matrix(found.computed.compute(somebody, AT))
        taken.append(time.perf_counter() - begun)
    if np.median(taken) > LATENCY_S:
        raise SlowError(f"an answer takes {np.median(taken) * 1000:.0f} ms, more than {LATENCY_S * 1000:.0f}.")


def follow(project: Project, *, parent: int | None = None) -> None:
    """Look again and again, with jitter so that many followers do not come at once; until `parent` is gone."""
    follower, folder = Follower(project), project.path("bundles")
    told: dict[str, Step] = {}
    while parent is None or os.getppid() == parent:
        for alias, pointer in ((CHAMPION, bundle.CURRENT), (CHALLENGER, bundle.CHALLENGER)):
            try:
                step = follower.look(alias, pointer)
            except Exception:
                LOGGER.exception("the registry cannot be read; what is published stays")
                told[alias] = Step(None, fault="the registry cannot be read")
                follower = Follower(project)  # with a connection of its own
                break
            if step.changed:
                LOGGER.info("%s: version %s is published", alias, step.version)
            elif step.fault and step != told.get(alias):
                LOGGER.error("%s: %s", alias, step.fault)
            told[alias] = step
        tell(folder, {alias: step.fault for alias, step in told.items() if step.fault})
        time.sleep(EVERY_S * random.uniform(0.75, 1.25))


def tell(folder: Path, faults: Mapping[str, str]) -> None:
    """Leave a word for the service, which shows it: what could not be published, and why."""
    file, text = folder / bundle.FAULTS, "; ".join(f"{alias}: {fault}" for alias, fault in faults.items())
    if text != (file.read_text(encoding="utf-8") if file.exists() else ""):
        rewrite(file, text)


def main() -> None:
    """Follow the project named on the command line, as long as the process that started this one lives."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    os.environ.update({name: value for name, value in IMPATIENT.items() if name not in os.environ})
    child = "--child" in sys.argv
    names = [each for each in sys.argv[1:] if each != "--child"]
    follow(Project.find(names[0] if names else None), parent=os.getppid() if child else None)


if __name__ == "__main__":
    main()
