"""Exposed: who was shown what in a test of `ab.yaml`, or nothing, and what they did, as rows to analyze."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.ab import ExperimentResult, analyze
from experiments.amendment import declared
from experiments.inference import Correction
from experiments.occurrences import Occurrences
from features.behaviour.schema import StateSchema
from features.draws import places
from features.errors import AnalysisError
from features.events.log import EventLog
from features.instants import DAY, NEVER, SECOND, format_duration
from features.project import Project
from serving import exposures
from serving.abtests import ANY, OTHER, Arm, Experiment, Holdout, Metric

DAYS = 14
"""Days since the exposure that are told one by one."""
BEFORE = 28 * DAY
"""How long before the exposure the success metric is counted, where it is not said how long after."""
SHOWN = "exposures"
TODAY = (
    "the sample ratio is judged by today's shares in ab.yaml: where they were changed on the way it cannot be judged."
)
HELD, OTHERS = "held_out", "everybody_else"

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Exposed:
    """A test's people.

    Attributes:
        test: As `ab.yaml` declares it.
        frame: One row a person and arm: user, arm, segment, day, exposures, before (the success metric before the
            exposure), and every metric; null where it is too early to say.
        daily: One row a person and day since the exposure, of days that are over, with what the metrics count.
        notes: What was left out or does not count yet.
    """

    test: Experiment
    frame: pl.DataFrame
    daily: pl.DataFrame
    notes: tuple[str, ...]

    @classmethod
    def of(cls, project: Project, name: str) -> Self:
        """What is known by the log's newest event.

        Raises:
            DefinitionError: ab.yaml is wrong, or has no such test.
            AnalysisError: nobody was exposed, or the test declares no metrics.
        """
        test, log = declared(project).test(name), EventLog.of(project)
        if not any(not metric.guardrail for metric in test.metrics.values()):
            raise AnalysisError(f"{name!r} declares no metric that may succeed. Hint: `metrics:` in ab.yaml.")
        shown, notes = _shown(project, log, name, test)
        if shown.is_empty():
            raise AnalysisError(f"nobody was exposed to {name!r} yet.")
        return cls._measured(project, log, test, shown, notes)

    @classmethod
    def held(cls, project: Project) -> Self:
        """Who is held out of all tests against everybody else, whether they were shown something or not.

        A person counts from the holdout's start on, or from their first event after it: nothing that a test does to
        people says who counts.

        Raises:
            DefinitionError: ab.yaml is wrong.
            AnalysisError: nobody is held out, or the holdout declares no metrics.
        """
        holdout, log = declared(project).holdout, EventLog.of(project)
        if not 0 < holdout.share < 1:
            raise AnalysisError("nobody, or everybody, is held out. Hint: `holdout: {share: 0.05}` in ab.yaml.")
        if not any(not metric.guardrail for metric in holdout.metrics.values()):
            raise AnalysisError(
                "the holdout declares no metric that may succeed. Hint: `holdout: {metrics: }`, ab.yaml."
            )
        weights = {HELD: holdout.share, OTHERS: 1 - holdout.share}
        arms = {name: Arm(weight=weight) for name, weight in weights.items()}
        told = {"start": holdout.start, "stop": holdout.stop, "metrics": holdout.metrics}
        people, notes = _divided(project, log, holdout)
        return cls._measured(project, log, Experiment(control=HELD, arms=arms, **told), people, notes)

    @classmethod
    def _measured(
        cls, project: Project, log: EventLog, test: Experiment, shown: pl.DataFrame, notes: list[str]
    ) -> Self:
        """What the people did from the first instant at which each was shown something, or counted."""
        people = shown.group_by("user").agg(pl.col("at").min().alias("first")).sort("user")
        measured = _Measured.of(project, log, people, test)
        rows = (
            shown.sort("at", maintain_order=True)
            .group_by("user", "arm", maintain_order=True)
            .agg(pl.col("segment").first(), pl.len().alias(SHOWN))
            .join(measured.frame(test), on="user")
        )
        notes += measured.notes(test)
        return cls(test, rows, measured.daily(test).join(rows.select("user", "arm"), on="user"), tuple(notes))

    def analyze(
        self, *, correction: Correction = "holm", cap: float | None = None, covariate: bool = False
    ) -> ExperimentResult:
        """The analysis that the test declares.

        Args:
            correction: Over all arms and metrics.
            cap: Values above this quantile count as it.
            covariate: Take out what the success metric of before the exposure told already.
        """
        test, metrics = self.test, {_column(name, each): each for name, each in self.test.metrics.items()}
        found = analyze(
            self.frame,
            variant="arm",
            control=test.control,
            metrics=[name for name, each in metrics.items() if not each.guardrail],
            user="user",
            weights={name: arm.weight for name, arm in test.arms.items()},
            covariate="before" if covariate else None,
            by="segment" if self.frame["segment"].n_unique() > 1 else None,
            day="day",
            daily=self.daily,
            guards={name: each.margin for name, each in metrics.items() if each.guardrail},
            less=[name for name, each in metrics.items() if each.less],
            correction=correction,
            cap=cap,
            nulls="drop",
            declared=test.arms,
        )
        return found.noting([*self.notes, *(() if found.sample_ratio.holds else (TODAY,))])


def _column(name: str, metric: Metric) -> str:
    return f"{name}/{SHOWN}" if metric.kind == "rate" else name


def _shown(project: Project, log: EventLog, name: str, test: Experiment) -> tuple[pl.DataFrame, list[str]]:
    """The exposures that count, of persons."""
    every = exposures.read(project.path("exposures"), name)
    once = every.filter(pl.col("message_id").is_null() | pl.struct("user", "message_id").is_first_distinct())
    timely = pl.col("at").is_between(test.start, test.stop, closed="left")
    inside = once.filter(timely, pl.col("arm").is_in([*test.arms]))
    persons = log.identity().select(pl.col("id").alias("user"), "canonical")
    owned = inside.join(persons, on="user", how="left").with_columns(user=pl.coalesce("canonical", "user"))
    counts = {
        "exposures came twice under one message_id and count once.": len(every) - len(once),
        "exposures were before the start, after the stop, or of arms that are no more, and do not count.": len(once)
        - len(inside),
    }
    return owned.drop("canonical"), [f"{count:,} {what}" for what, count in counts.items() if count]


def _divided(project: Project, log: EventLog, holdout: Holdout) -> tuple[pl.DataFrame, list[str]]:
    """Everybody by whether they are held out: columns user, arm, segment and at, since when they count."""
    events = log.frame(columns=["user", "ts", "mark"]).filter(pl.col("ts") < holdout.stop, pl.col("mark").is_null())
    people = events.group_by("user").agg(at=pl.max_horizontal(pl.col("ts").min(), pl.lit(holdout.start))).sort("user")
    held = places(holdout.seed, people["user"].to_list()) < holdout.share
    divided = people.with_columns(arm=pl.Series(np.where(held, HELD, OTHERS)), segment=pl.lit(OTHER))
    owners, shown = log.canonical(), exposures.read(project.path("exposures"))["user"].unique().to_list()
    crossed = {owners.get(user, (user, 0))[0] for user in shown} & set(people["user"].filter(held))
    told = f"{len(crossed):,} who are held out were exposed to a test all the same, as far as known under another id."
    return divided, [told] if crossed else []


@dataclass(frozen=True)
class _Measured:
    """The events of the people.

    Attributes:
        people: Columns user and first (exposure), sorted by user.
        end: The log's newest event: what happens later is not known.
        person: Shape (n_events,): a place in `people`.
        since: Shape (n_events,): microseconds since the person's first exposure; negative before.
        named: Per event of a metric, or `any`, which events are it.
        values: Per property.
        same: Shape (n_events,): the event is by the same person as the one before.
    """

    people: pl.DataFrame
    end: int
    person: Ints
    since: Ints
    named: Mapping[str, NDArray[np.bool_]]
    values: Mapping[str, Floats]
    same: NDArray[np.bool_]

    @classmethod
    def of(cls, project: Project, log: EventLog, people: pl.DataFrame, test: Experiment) -> Self:
        wanted = {each.sum.partition(".")[2] for each in test.metrics.values() if each.sum}
        schema = StateSchema.of(log.plan, log.codes.codes, wanted, **project.settings.rules)
        found = Occurrences.of(log.histories(schema, users=people["user"].to_list()), NEVER - 1, properties=[*wanted])
        users = pl.DataFrame({"user": pl.Series(found.users.tolist(), dtype=pl.String)})
        places = users.join(people.with_row_index("place"), on="user", how="left", maintain_order="left")["place"]
        person = places.to_numpy().astype(np.int64)[found.person]
        since = found.ts - people["first"].to_numpy()[person]
        same = np.zeros(len(found), np.bool_)
        same[1:] = person[1:] == person[:-1]
        events = {each.event for each in test.metrics.values()}
        named = {each: found.event == found.names.index(each) for each in events if each != ANY}
        named[ANY] = np.ones(len(found), np.bool_)
        return cls(people, log.span()[1], person, since, named, found.values, same)

    def frame(self, test: Experiment) -> pl.DataFrame:
        """Per person the metrics, null where it is too early to say, the day of exposure, and the time before."""
        success = next(each for each in test.metrics.values() if not each.guardrail)
        length = success.within or BEFORE
        columns = {name: self._value(each) for name, each in test.metrics.items()}
        early = {name: pl.Series(~self._known(each)) for name, each in test.metrics.items()}
        told = {name: pl.Series(values).set(early[name], None) for name, values in columns.items()}
        before = self._counted(success, np.full(len(self.people), -length), np.zeros(len(self.people), np.int64))
        day = pl.from_epoch(self.people["first"], time_unit="us").dt.date()
        return self.people.select("user").with_columns(day=day, before=pl.Series(before), **told)

    def notes(self, test: Experiment) -> list[str]:
        """How many people do not count yet."""
        late = {name: int((~self._known(each)).sum()) for name, each in test.metrics.items()}
        return [
            f"{name} is known {format_duration(test.metrics[name].after + (test.metrics[name].within or 0))} after the "
            f"exposure: {count:,} people do not count yet."
            for name, count in late.items()
            if count
        ]

    def daily(self, test: Experiment) -> pl.DataFrame:
        """One row a person and whole day since the exposure."""
        days = np.clip((self.end - self.people["first"].to_numpy()) // DAY, 0, DAYS)
        person = np.repeat(np.arange(len(days)), days)
        since = np.arange(len(person)) - np.repeat(np.cumsum(days) - days, days)
        found: dict[str, object] = {"user": self.people["user"].gather(person), "since": since}
        for name, metric in test.metrics.items():
            low = np.arange(DAYS)[:, None] * DAY + np.zeros(len(days), np.int64)
            table = np.array([self._counted(metric, each, each + DAY) for each in low])
            found[name] = table[since, person]
        return pl.DataFrame(found)

    def _known(self, metric: Metric) -> NDArray[np.bool_]:
        """Shape (n_people,): whether the metric's time is over; one without an end has none but a beginning."""
        return np.asarray(self.people["first"].to_numpy() + metric.after + (metric.within or 0) <= self.end)

    def _value(self, metric: Metric) -> Floats:
        low = np.full(len(self.people), metric.after)
        until = self.end + 1 - self.people["first"].to_numpy()
        return self._counted(metric, low, low + metric.within if metric.within else until)

    def _counted(self, metric: Metric, low: Ints, high: Ints) -> Floats:
        """What a metric counts of each person from `low` to before `high` after the exposure."""
        events = self.named[metric.event] & (self.since >= low[self.person]) & (self.since < high[self.person])
        weights = events.astype(np.float64)
        if metric.sum:
            weights = np.where(events, np.nan_to_num(self.values[metric.sum.partition(".")[2]]), 0.0)
        elif metric.time_on_site:
            gaps = np.diff(self.since, prepend=0)
            inside = events & np.roll(events, 1) & self.same & (gaps <= metric.time_on_site)
            weights = np.where(inside, gaps / SECOND, 0.0)
        found: Floats = np.bincount(self.person, weights, len(self.people)).astype(np.float64)
        return np.asarray(found > 0, np.float64) if metric.conversion or metric.retention else found
