"""Replay: answers that were served, computed again from the event log, as known then; every value to the bit."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.plain import Plain
from features.behaviour.histories import Histories
from features.errors import AnalysisError
from features.events.log import EventLog
from features.events.plan import TrackingPlan
from features.people import pseudonym
from features.project import Project
from serving import predictions
from serving.fingerprint import seen
from serving.predictions import FINGERPRINT
from training.bundle import Bundle

SCORE_TOLERANCE = 1e-6
SHOWN = 5


@dataclass(frozen=True)
class Replay(Plain):
    """What came of it.

    Attributes:
        answers: Live answers in the sample.
        values: Features and scores compared, of the answers whose state the log still gives.
        mismatches: Values that differ.
        freshness: Answers whose state then is not what the log says now: events that had come late or were not in yet.
        erased: Answers about ids that have been erased since.
        gone: Answers about ids that the log no longer has under this name: joined to another since.
        unavailable: Answers of bundles that are not in the bundles folder any more.
        examples: The first mismatches: request, column, what was served, what comes out now.
    """

    MORE = ("holds",)

    answers: int
    values: int = 0
    mismatches: int = 0
    freshness: int = 0
    erased: int = 0
    gone: int = 0
    unavailable: int = 0
    examples: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Values were compared, where the state is the same, and none differs."""
        return self.values > 0 and self.mismatches == 0

    def __add__(self, other: "Replay") -> "Replay":
        one, two = asdict(self), asdict(other)
        return Replay(**{name: one[name] + two[name] for name in one})

    def __str__(self) -> str:
        rest = f"{self.freshness:,} by freshness, {self.erased:,} erased, {self.gone:,} joined since"
        head = f"{self.answers:,} answers, {self.values:,} values compared: {self.mismatches:,} mismatches"
        return "\n  ".join([f"{head} ({rest}, {self.unavailable:,} of bundles that are gone)", *self.examples[:SHOWN]])


def replay(project: Project, *, sample: int = 10_000, seed: int = 0) -> Replay:
    """Compute a sample of the logged answers again.

    Args:
        project: Whose prediction log, event log and bundles.
        sample: At most so many answers, drawn evenly.
        seed: Of the draw.

    Raises:
        AnalysisError: nothing has been served.
    """
    logged = _logged(project.path("predictions"))
    rows = logged.sample(min(sample, logged.height), seed=seed)
    total = Replay(0)
    for (digest,), mine in rows.group_by("bundle", maintain_order=True):
        folder = project.path("bundles") / str(digest)
        if not folder.exists():
            total += Replay(mine.height, unavailable=mine.height)
            continue
        total += _again(project, Bundle.load(folder, digest=str(digest)), mine)
    return total


def _logged(folder: Path) -> pl.DataFrame:
    parts = [predictions.read(file) for file in sorted(folder.glob("*/*.parquet"))]
    live = [rows for part in parts if (rows := part.filter(pl.col("source") == "live")).height]
    if not live:
        raise AnalysisError(f"no live answer in {folder}. Hint: `ethogram serve` writes one row an answer.")
    return pl.concat(live, how="diagonal")


def _again(project: Project, bundle: Bundle, rows: pl.DataFrame) -> Replay:
    """One bundle's answers."""
    plan = TrackingPlan.read(bundle.path / "plan.yaml")
    log = EventLog(project.path("log"), plan, key=project.key, codes_path=project.file("plan.lock"))
    called, erased = names(log, project.key, rows["user"].unique().to_list())
    lost = [user for user in rows["user"].to_list() if user not in called]
    found = rows.filter(pl.col("user").is_in(list(called)))
    report = Replay(rows.height, erased=sum(user in erased for user in lost))
    report += Replay(0, gone=len(lost) - report.erased)
    if found.is_empty():
        return report
    histories = log.histories(bundle.schema, users=sorted(set(called.values())))
    places = {user: place for place, user in enumerate(histories.users)}
    order = np.array([places[called[user]] for user in found["user"].to_list()])
    return report + _compared(bundle, histories.take(order), found)


def names(log: EventLog, key: bytes, hidden: list[str]) -> tuple[dict[str, str], set[str]]:
    """Per pseudonym the id in the log, and the pseudonyms that were erased."""
    wanted = set(hidden)
    users = log.frame(columns=["user", "ts"])["user"].unique().to_list()
    named = {secret: user for user in users if (secret := pseudonym(key, user)) in wanted}
    return named, wanted & set(log.tombstones.erased)


def _compared(bundle: Bundle, histories: Histories, rows: pl.DataFrame) -> Replay:
    """Values as of each answer's instant against what was served; `rows` and `histories` go together."""
    at = rows["at"].to_numpy()
    told = seen(histories, at)
    same = (told[:, : len(FINGERPRINT)] == rows.select(FINGERPRINT).to_numpy()).all(axis=1)
    matrix = bundle.computed.compute(histories, at)
    wrong, served, fresh = {}, {}, {}
    for place, name in enumerate(matrix.names):
        served[f"f_{name}"], fresh[f"f_{name}"] = rows[f"f_{name}"].to_numpy(), matrix.values[:, place]
        wrong[f"f_{name}"] = served[f"f_{name}"].view(np.int64) != fresh[f"f_{name}"].view(np.int64)
    for study, scores in bundle.score_matrix(matrix).items():
        name = f"score_{study}"
        served[name], fresh[name] = rows[name].to_numpy(), scores.column().astype(np.float64)
        limit = SCORE_TOLERANCE if scores.cluster is None else 0.0
        wrong[name] = ~np.isclose(served[name], fresh[name], rtol=0, atol=limit, equal_nan=True)
    table = np.stack([wrong[name] & same for name in wrong])
    examples = _examples(rows, table, served, fresh)
    return Replay(0, int(same.sum()) * len(wrong), int(table.sum()), int((~same).sum()), examples=examples)


def _examples(
    rows: pl.DataFrame,
    table: NDArray[np.bool_],
    served: Mapping[str, NDArray[np.float64]],
    fresh: Mapping[str, NDArray[np.float64]],
) -> tuple[str, ...]:
    names, told = list(served), []
    for column, row in np.argwhere(table)[:SHOWN]:
        name = names[column]
        told.append(f"{rows['request_id'][int(row)]} {name}: served {served[name][row]!r}, now {fresh[name][row]!r}")
    return tuple(told)
