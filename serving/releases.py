"""Releases: follows the file bundles/CURRENT; a new bundle is checked, warmed and filled before it answers anybody."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from features.errors import EthogramError
from serving.collection import Preparation
from serving.predictions import Ring
from serving.scorer import Scorer
from training.bundle import CURRENT, FAULTS, Bundle

LOGGER = logging.getLogger("ethogram.releases")
LOOK_S = 1.0
AGAIN_S = 10.0
"""After what may pass, such as a full disk, a bundle is tried again so much later."""


@dataclass(frozen=True)
class Release:
    """A bundle in service.

    Attributes:
        scorer: Answers from it.
        ring: Where its answers are logged.
        prepare: How messages become events under its plan.
        since: When it was taken into service, microseconds UTC.
    """

    scorer: Scorer
    ring: Ring
    prepare: Preparation
    since: int

    @property
    def bundle(self) -> Bundle:
        """The bundle itself."""
        return self.scorer.bundle

    @cached_property
    def about(self) -> Mapping[str, str]:
        """What every answer says of it."""
        bundle = self.bundle
        return {"name": bundle.name, "version": bundle.version, "digest": bundle.digest}


class Releases:
    """What is in service, and the thread that looks for something newer.

    Attributes:
        current: The release that answers; None until the first one stands. Swapped by one assignment.
        previous: The one before.
    """

    def __init__(
        self, folder: Path, packed: Path | None, open_release: Callable[[Bundle], Release], *, pointer: str = CURRENT
    ) -> None:
        self.folder = folder
        self.pointer = pointer
        self.packed = packed
        self.current: Release | None = None
        self.previous: Release | None = None
        self.fault = "no bundle has been published yet. Hint: `ethogram promote` publishes one."
        self.on_swap: Callable[[Release], None] = lambda _: None
        self.on_failure: Callable[[], None] = lambda: None
        self.stale: Callable[[], bool] = lambda: False
        self._open = open_release
        self._refused: dict[str, float] = {}
        self._turn = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ethogram-releases", daemon=True)

    def wanted(self) -> str | None:
        """The digest that the pointer names; None where there is no such file."""
        try:
            return (self.folder / self.pointer).read_text(encoding="utf-8").strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    @property
    def unpublished(self) -> str:
        """What the registry calls champion or challenger and could not be published, and why; empty where all could."""
        try:
            return (self.folder / FAULTS).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""

    def look(self) -> bool:
        """Take the wanted bundle into service; whether anything changed.

        A bundle that is wrong is reported once and not tried again until CURRENT names another; what may pass is.
        """
        with self._turn:
            return self._look()

    def _look(self) -> bool:
        digest = self.wanted()
        if digest is None:
            if self.pointer != CURRENT:  # a challenger is taken back; a champion answers until there is another
                self.current = None
            return self.current is None and self._first_of(self._fallbacks())
        if self.current is not None and self.current.bundle.digest == digest and not self.stale():
            self._refused.clear()
            return False
        if self._is_refused(digest):
            return False
        if self._take(self.folder / digest, digest):
            return True
        return self.current is None and self._first_of(self._fallbacks())

    def _fallbacks(self) -> Iterator[Path]:
        if self.packed is not None:
            yield self.packed

    def _first_of(self, folders: Iterator[Path]) -> bool:
        return any(self._take(folder, None) for folder in folders if not self._is_refused(str(folder)))

    def _is_refused(self, name: str) -> bool:
        return time.monotonic() < self._refused.get(name, 0.0)

    def _take(self, folder: Path, digest: str | None) -> bool:
        begun = time.perf_counter()
        if self.current is None:
            self.fault = f"bundle {folder.name[:12]} is being made ready."
        try:
            bundle = Bundle.load(folder, digest=digest)
            release = self._open(bundle)
        except Exception as error:  # whatever is wrong with it, the one before stays
            self.fault = f"bundle {folder.name[:12]} is refused: {error}"
            final = isinstance(error, EthogramError)
            LOGGER.error("%s", self.fault, exc_info=None if final else error)
            self._refused[digest or str(folder)] = math.inf if final else time.monotonic() + AGAIN_S
            self.on_failure()
            return False
        if self.current is None or self.current.bundle.digest != bundle.digest:  # the same may be opened again
            self.previous = self.current
        self.current = release
        self.fault = ""
        LOGGER.info("bundle %s is in service after %.2f s", bundle.digest[:12], time.perf_counter() - begun)
        self.on_swap(release)
        return True

    def start(self) -> None:
        """Look now and then once a second, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except Exception as error:  # the thread lives: what is published next is taken
                self.fault = f"looking for a bundle failed: {error}"
                LOGGER.exception("looking for a bundle failed")
                self.on_failure()
            if self._stop.wait(LOOK_S):
                return
