"""Pairs: what champion and challenger said to the same requests, with the outcomes that are known by now."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.asked import asked
from experiments.replay import names
from experiments.studies import PropensitySpec
from features.events.log import EventLog
from features.instants import DAY, HOUR, to_datetime
from features.project import Project
from training.bundle import Bundle
from training.training_set import wide

Array = NDArray[np.float64]
BESIDE = "challenger"
"""The folder of the prediction log where a challenger's answers stand."""
ANSWER = ["request_id", "user"]
"""What names an answer: a request may ask about many."""


@dataclass(frozen=True)
class Pairs:
    """Answers of one study; the last one a person and day.

    Attributes:
        answers: Live answers of the champion since the challenger's first, matured or not.
        covered: How many of them the challenger gave too.
        users: Shape (n_rows,), of the matured ones, canonical ids.
        at: Shape (n_rows,), microseconds UTC.
        y: Shape (n_rows,), 0 or 1.
        champion: Shape (n_rows,), the probabilities that were answered.
        challenger: Shape (n_rows,), those of the challenger.
    """

    answers: int
    covered: int
    users: NDArray[np.object_]
    at: NDArray[np.int64]
    y: Array
    champion: Array
    challenger: Array

    @property
    def coverage(self) -> float:
        """Share of the answers that the challenger gave too; 1 where there are none."""
        return self.covered / self.answers if self.answers else 1.0

    @property
    def outcomes(self) -> int:
        """Rows of the rarer kind."""
        return int(min(self.y.sum(), len(self.y) - self.y.sum()))


def pairs(
    project: Project, log: EventLog, champion: Bundle, study: str, spec: PropensitySpec, *, beside: str, since: int
) -> Pairs:
    """The answers of champion and challenger to the same requests, with the outcomes that are complete.

    Args:
        project: Whose prediction log.
        log: Its event log.
        champion: The bundle that answered.
        study: A propensity of both.
        spec: As declared.
        beside: Digest of the bundle that scored in the shadow.
        since: From this instant on.
    """
    folder, score = project.path("predictions"), f"score_{study}"
    given = _answers(folder, champion.digest, score, since)
    other = _answers(folder / BESIDE, beside, score, since).select(*ANSWER, "at", other=score)
    first = other["at"].min() if other.height else since  # until it is in service nobody can say anything
    given, other = given.filter(pl.col("at") >= first), other.drop("at")
    rows = given.join(other, on=ANSWER, how="left", maintain_order="left")
    both = rows.drop_nulls("other")
    complete = log.span()[1] - spec.predicts.horizon - spec.blind_spot
    last = (
        both.filter(pl.col("at") <= complete)
        .sort("at")
        .unique(["user", pl.col("at") // DAY], keep="last", maintain_order=True)
    )
    known = labelled(project, log, champion, study, spec, last)
    users, columns = np.array(known["person"].to_list(), object), ("at", "label", score, "other")
    return Pairs(rows.height, both.height, users, *(known[name].to_numpy() for name in columns))


def labelled(
    project: Project, log: EventLog, bundle: Bundle, study: str, spec: PropensitySpec, answers: pl.DataFrame
) -> pl.DataFrame:
    """The answers about people whom the log knows, in the study's population, with the columns `person` and `label`.

    Args:
        project: Whose pseudonyms stand in the column user.
        log: What happened.
        bundle: That answered.
        study: One of its studies.
        spec: Which says what is asked, and of whom.
        answers: Columns user and at; so long ago that every outcome is known.
    """
    called, _ = names(log, project.key, answers["user"].unique().to_list())
    known = answers.filter(pl.col("user").is_in(list(called)))
    users = [called[user] for user in known["user"].to_list()]
    inside, y = outcomes(project, log, bundle, study, spec, np.array(users, object), known["at"].to_numpy())
    person = pl.Series("person", users, pl.String)
    return known.with_columns(person, pl.Series("label", y, pl.Float64)).filter(pl.Series(inside))


def _answers(folder: Path, bundle: str, score: str, since: int) -> pl.DataFrame:
    """Live answers of one bundle since: request_id, user, at, score; of an answer given twice the last."""
    columns, first = [*ANSWER, "at", score], to_datetime(since // HOUR * HOUR).strftime("%Y-%m-%dT%H")
    empty = pl.DataFrame(schema=dict(zip(columns, (pl.String, pl.String, pl.Int64, pl.Float64), strict=True)))
    mine = (pl.col("bundle") == bundle) & (pl.col("source") == "live") & (pl.col("at") >= since)
    parts = [empty]
    for file in sorted(folder.glob("2*/*.parquet")):
        if file.parent.name >= first and score in pl.read_parquet_schema(file):
            part = pl.read_parquet(file, columns=[*columns, "bundle", "source"])
            parts.append(part.filter(mine).select(columns).with_columns(pl.col(score).cast(pl.Float64)))
    return pl.concat(parts).unique(ANSWER, keep="last", maintain_order=True)


def outcomes(
    project: Project,
    log: EventLog,
    bundle: Bundle,
    study: str,
    spec: PropensitySpec,
    users: NDArray[np.object_],
    at: NDArray[np.int64],
) -> tuple[NDArray[np.bool_], Array]:
    """Who was in the population, and what came, as a training set would have it.

    Args:
        project: Its models and segments answer labels that ask for them.
        log: What happened.
        bundle: That answered.
        study: One of its studies.
        spec: Which says what is asked, and of whom.
        users: Shape (n_rows,), canonical ids.
        at: Shape (n_rows,), microseconds UTC, so long ago that every outcome is known.
    """
    if not len(users):
        return np.zeros(0, np.bool_), np.zeros(0)
    zone, label = bundle.features.schema.zone, spec.predicts
    source = label.source(log.plan, log.codes, zone=zone, asked=asked(project, label))
    who = spec.population.source(log.plan, log.codes, zone=zone)
    histories = log.histories(wide(bundle.features.schema, who.schema, source.schema), users=sorted(set(users)))
    places = {user: place for place, user in enumerate(histories.users)}
    mine = histories.take(np.array([places[user] for user in users]))
    numbers = source.numbers(mine, at + label.horizon, blind_spot=spec.blind_spot)
    limit = bundle.models[study].details.get("training_set", {}).get("limit")
    return who.numbers(mine, at) > 0, label.outcome(numbers, limit)
