"""Scoring: everybody's features, and what models say of them, as of one instant; a file a bucket."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from features.behaviour.feature_set import FeatureSet
from features.errors import ProjectError
from features.events.log import EventLog
from features.events.plan import Purpose
from features.events.rows import Rows
from features.instants import iso
from training.model import Model


@dataclass(frozen=True)
class Scored:
    """What was written.

    Attributes:
        folder: Of the files: columns user, at, the features, capped, and per study score_<study>.
        at: As of.
        n_users: Rows: persons with an event who consent to the purpose.
        purpose: What they consent to.
        studies: Whose models were asked.
    """

    folder: Path
    at: int
    n_users: int
    purpose: Purpose
    studies: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        told = {"folder": str(self.folder), "at": iso(self.at), "n_users": self.n_users}
        return {**told, "purpose": str(self.purpose), "studies": list(self.studies)}

    def __str__(self) -> str:
        asked = f", scores of {', '.join(self.studies)}" if self.studies else ""
        return f"{self.folder}: {self.n_users:,} users as of {iso(self.at)} who consent to {self.purpose}{asked}"


@dataclass(frozen=True)
class _Work:
    features: FeatureSet
    models: Mapping[str, Model]
    at: int
    purpose: Purpose
    folder: Path

    def __call__(self, rows: Rows) -> int:
        matrix = rows.everybody(self.features, self.at, purpose=self.purpose)
        scores = [pl.Series(f"score_{study}", model.score(matrix).column()) for study, model in self.models.items()]
        frame = matrix.to_polars().with_columns(pl.Series("capped", matrix.capped), *scores)
        frame.write_parquet(self.folder / f"{rows.bucket.name}.parquet")
        return frame.height


def score(
    log: EventLog, features: FeatureSet, at: int, folder: Path, *, models: Mapping[str, Model] | None = None
) -> Scored:
    """Write everybody's rows into a folder that appears whole; where nothing changed, nothing is computed again.

    Args:
        log: Its engine does the work.
        features: What to compute.
        at: Microseconds UTC.
        folder: Must not be there yet.
        models: Trained on these features, by study; with them personalisation has to be consented to, as in the
            service, else analytics.

    Raises:
        ProjectError: the folder is there.
    """
    if folder.exists():
        raise ProjectError(f"{folder} exists. Hint: name another folder.")
    draft = folder.absolute().with_name(f".{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    purpose = Purpose.PERSONALISATION if models else Purpose.ANALYTICS
    n_users = sum(log.map(_Work(features, models or {}, at, purpose, draft)))
    draft.rename(folder)
    return Scored(folder, at, n_users, purpose, tuple(models or ()))
