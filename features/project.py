"""Project: finds and reads a project folder; everything a team declares lives there, in git."""

import os
import secrets
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator

from features.document import Definition, Duration
from features.errors import ProjectError
from features.instants import DAY, zone_offsets

SETTINGS = "ethogram.yaml"


class Settings(Definition):
    """`ethogram.yaml`: where things are. Relative paths start at the project folder."""

    version: int = Field(1, ge=1, le=1)
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")
    zone: str = "UTC"
    horizon: Duration = 90 * DAY
    bound: int = Field(500, ge=1)
    bounds: dict[str, Annotated[int, Field(ge=1)]] = {}
    log: str = ".ethogram/log"
    state: str = ".ethogram/state.db"
    bundles: str = ".ethogram/bundles"
    reports: str = "reports"
    predictions: str = ".ethogram/predictions"
    studies: str = ".ethogram/studies"
    memberships: str = ".ethogram/memberships"
    mlflow: str = ".ethogram/mlflow.db"
    keys: str = ".ethogram/keys.json"
    exposures: str = ".ethogram/exposures"
    ab: str = "ab.yaml"
    trials: str = ""
    places: str = ""

    @field_validator("zone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        try:
            zone_offsets(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"unknown time zone {value!r}. Hint: use an IANA name such as Europe/London.") from None
        return value

    @property
    def rules(self) -> dict[str, Any]:
        """What of a history counts, as `StateSchema` takes it."""
        return self.model_dump(include={"horizon", "bound", "bounds", "zone"})


class Project:
    """A project folder and its settings."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root = root
        self.settings = settings

    @classmethod
    def find(cls, start: Path | str | None = None) -> Self:
        """The project at `start` (default: ETHOGRAM_PROJECT, else here) or in a folder above it.

        Raises:
            ProjectError: no `ethogram.yaml` on the way up.
        """
        folder = Path(start or os.environ.get("ETHOGRAM_PROJECT") or Path.cwd()).resolve()
        for candidate in (folder, *folder.parents):
            if (candidate / SETTINGS).is_file():
                return cls(candidate, Settings.from_yaml(candidate / SETTINGS))
        raise ProjectError(f"no {SETTINGS} in {folder} or above it. Hint: `ethogram init` makes a project here.")

    @property
    def name(self) -> str:
        """The project's name: prefix of its registered models."""
        return self.settings.name

    def path(self, setting: str) -> Path:
        """The absolute path behind a setting such as `log` or `state`."""
        return self.root / str(getattr(self.settings, setting))

    def file(self, name: str) -> Path:
        """A definition file of the project, such as `plan.yaml`."""
        return self.root / name

    @cached_property
    def definitions(self) -> str:
        """The text of definitions.py; empty where there is none."""
        file = self.file("definitions.py")
        return file.read_text(encoding="utf-8") if file.exists() else ""

    @property
    def places(self) -> Path | None:
        """The database of places, where the project names one."""
        return self.path("places") if self.settings.places else None

    @property
    def tracking_uri(self) -> str:
        """MLflow's address: a URI as given, or SQLite in the project folder."""
        setting = os.environ.get("MLFLOW_TRACKING_URI") or self.settings.mlflow
        return setting if "://" in setting else f"sqlite:///{self.root / setting}"

    @cached_property
    def key(self) -> bytes:
        """The secret behind pseudonyms and tombstones: ETHOGRAM_KEY, else a private file made on first use."""
        given = os.environ.get("ETHOGRAM_KEY")
        if given:
            return given.encode()
        return private_key(self.root / ".ethogram" / "key")


def private_key(path: Path) -> bytes:
    """The secret in a file that only its owner may read, made on first use."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_hex(32).encode())
    return path.read_bytes()
