"""Settings: where the service keeps things and how it behaves, from the environment, in one table."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from features.errors import ProjectError
from features.instants import parse_instant
from features.project import SETTINGS, Project, private_key
from serving.keys import Keys

SECRET_BYTES, KEY_BYTES = 32, 16
ORIGIN = re.compile(r"https?://[^/*\s]+")

VARIABLES: Mapping[str, tuple[str, str]] = {
    "ETHOGRAM_PROJECT": ("", "project folder; the paths below default to its `ethogram.yaml`"),
    "ETHOGRAM_HOME": ("~/.ethogram", "where the paths below start when there is no project, as in a container"),
    "ETHOGRAM_STATE": ("state.db", "state store and journal, one SQLite file"),
    "ETHOGRAM_REDIS": ("", "address of a Redis, `redis://...`, that keeps the states; the file keeps the journal then"),
    "ETHOGRAM_BUNDLES": ("bundles", "folder whose file CURRENT names the bundle to serve"),
    "ETHOGRAM_LOG": ("log", "event log that accepted events are rolled into"),
    "ETHOGRAM_PREDICTIONS": ("predictions", "prediction log, Parquet by hour"),
    "ETHOGRAM_MEMBERSHIPS": (
        "memberships",
        "what `segments apply` wrote; segments with a `membership` go on from there",
    ),
    "ETHOGRAM_AB": ("ab.yaml", "file of the A/B tests; looked at once a second"),
    "ETHOGRAM_EXPOSURES": ("exposures", "exposure log, Parquet"),
    "ETHOGRAM_PLACES": (
        "",
        "database of places in MaxMind's format; without it, and without a project's, none is known",
    ),
    "ETHOGRAM_KEY": ("", "secret behind pseudonyms and tombstones; without it a private file made on first use"),
    "ETHOGRAM_KEYS": (
        "keys.json",
        "file of `ethogram keys`; without any key only this machine is answered",
    ),
    "ETHOGRAM_API_KEY": ("", "one more key, of every scope"),
    "ETHOGRAM_JWT_KEY": ("", "secret of 32 bytes or more that signs browsers' tokens (HS256)"),
    "ETHOGRAM_JWT_KEY_BEFORE": ("", "the secret before, whose tokens are let in too while it is changed"),
    "ETHOGRAM_RATE": ("0", "requests a second that a key may make, twice as many at once; 0: as many as it likes"),
    "ETHOGRAM_ORIGINS": ("", "web origins, separated by commas, whose pages may read answers"),
    "ETHOGRAM_DRAIN_S": ("1", "seconds between reporting not ready and the end of new connections"),
    "ETHOGRAM_ROLL_S": ("5", "seconds between two moves of accepted events into the event log"),
    "ETHOGRAM_FLUSH_S": ("10", "seconds between two writes of the prediction log; 8,192 answers are written at once"),
    "ETHOGRAM_KEEP_DAYS": ("90", "days that the prediction log is kept; 0: for ever"),
    "ETHOGRAM_CLOCK": (
        "",
        "ISO instant at which the service's clock starts, to replay the past; without it the time of day",
    ),
}
"""Name: (default, meaning). `docs/serving.md` shows the same table; a test compares them."""


@dataclass(frozen=True)
class Settings:
    """What the service needs to know of its surroundings."""

    state: Path
    bundles: Path
    log: Path
    predictions: Path
    key: bytes
    places: Path | None = None
    project: Project | None = None
    keys: Path = Path("keys.json")
    api_key: str | None = None
    jwt_keys: tuple[str, ...] = ()
    rate: float = 0.0
    origins: frozenset[str] = frozenset()
    drain_s: float = 1.0
    roll_s: float = 5.0
    flush_s: float = 10.0
    keep_days: float = 90.0
    clock: int | None = None
    memberships: Path | None = None
    redis: str = ""
    ab: Path = Path("ab.yaml")
    exposures: Path = Path("exposures")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """The settings that the environment gives; a project found here, or named, gives the paths.

        Raises:
            ProjectError: a variable is not a number where one is needed, or the named project does not exist.
            DefinitionError: the clock is no instant.
        """
        given = os.environ if environment is None else environment
        project = _project(given)
        home = Path(given.get("ETHOGRAM_HOME") or VARIABLES["ETHOGRAM_HOME"][0]).expanduser()

        def path(name: str) -> Path:
            variable = f"ETHOGRAM_{name.upper()}"
            if given.get(variable):
                return Path(given[variable]).expanduser().resolve()
            return project.path(name) if project else (home / VARIABLES[variable][0]).resolve()

        return cls(
            state=path("state"),
            bundles=path("bundles"),
            log=path("log"),
            predictions=path("predictions"),
            key=_key(given, project, home),
            places=path("places") if given.get("ETHOGRAM_PLACES") or (project and project.places) else None,
            project=project,
            keys=path("keys"),
            api_key=_long(given, "ETHOGRAM_API_KEY"),
            jwt_keys=_secrets(given, "ETHOGRAM_JWT_KEY", "ETHOGRAM_JWT_KEY_BEFORE"),
            rate=_number(given, "ETHOGRAM_RATE", "requests a second", 1_000_000),
            origins=_origins(given.get("ETHOGRAM_ORIGINS", "")),
            drain_s=_number(given, "ETHOGRAM_DRAIN_S"),
            roll_s=_number(given, "ETHOGRAM_ROLL_S", least=0.1),
            flush_s=_number(given, "ETHOGRAM_FLUSH_S", least=0.1),
            keep_days=_number(given, "ETHOGRAM_KEEP_DAYS", "days", 36_500),
            clock=parse_instant(given["ETHOGRAM_CLOCK"]) if given.get("ETHOGRAM_CLOCK") else None,
            memberships=path("memberships"),
            redis=_address(given.get("ETHOGRAM_REDIS", "")),
            ab=path("ab"),
            exposures=path("exposures"),
        )

    def ring(self) -> Keys:
        """Who may ask."""
        return Keys(self.keys, single=self.api_key, token_keys=self.jwt_keys)


def _secrets(given: Mapping[str, str], *names: str) -> tuple[str, ...]:
    found = {name: given[name] for name in names if given.get(name)}
    for name, text in found.items():
        if len(text.encode()) < SECRET_BYTES:
            raise ProjectError(f"{name} must have at least {SECRET_BYTES} bytes. Got {len(text.encode())}.")
    return tuple(found.values())


def _long(given: Mapping[str, str], name: str) -> str | None:
    """A secret that nobody guesses; None where there is none."""
    text = given.get(name) or None
    if text is not None and len(text.encode()) < KEY_BYTES:
        raise ProjectError(f"{name} must have at least {KEY_BYTES} bytes. Hint: `openssl rand -hex 32` makes one.")
    return text


def _address(text: str) -> str:
    """A Redis's; it is not told again, as it may hold a password."""
    try:
        whole = urlsplit(text)
        sound = not text or (whole.scheme in ("redis", "rediss", "unix") and whole.port != 0)
    except ValueError:  # a port that is no number
        sound = False
    if not sound:
        raise ProjectError("ETHOGRAM_REDIS is an address such as redis://host:6379/0, rediss:// or unix://.")
    return text


def _origins(text: str) -> frozenset[str]:
    found = frozenset(each.strip() for each in text.split(",") if each.strip())
    for each in found:
        if not ORIGIN.fullmatch(each):
            raise ProjectError(f"ETHOGRAM_ORIGINS names origins such as https://shop.example. Got {each!r}.")
    return found


def _project(given: Mapping[str, str]) -> Project | None:
    if given.get("ETHOGRAM_PROJECT"):
        return Project.find(given["ETHOGRAM_PROJECT"])
    here = Path.cwd()
    return Project.find(here) if any((folder / SETTINGS).is_file() for folder in (here, *here.parents)) else None


def _key(given: Mapping[str, str], project: Project | None, home: Path) -> bytes:
    if given.get("ETHOGRAM_KEY"):
        return given["ETHOGRAM_KEY"].encode()
    if project:
        return project.key
    return private_key(home / "key")


def _number(given: Mapping[str, str], name: str, unit: str = "seconds", most: int = 3600, *, least: float = 0) -> float:
    text = given.get(name) or VARIABLES[name][0]
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not least <= number <= most:
        raise ProjectError(f"{name} must be a number of {unit} from {least:g} to {most}. Got {text!r}.")
    return number
