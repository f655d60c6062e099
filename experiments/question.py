"""Question: what an exploration looks at: which outcome, of whom, as of when."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments import studies
from experiments.declared import Declared
from experiments.studies import PropensitySpec
from features.behaviour.feature_set import FeatureSet
from features.behaviour.learning import Lessons, learnt
from features.behaviour.matrix import FeatureMatrix
from features.errors import AnalysisError, nearest
from features.events.log import EventLog
from features.instants import DAY, format_duration, iso
from training.anchors import Anchors
from training.cuts import Cuts
from training.label import Condition, Label
from training.training_set import Log

Array = NDArray[np.float64]
PURCHASES = ("order", "purchase", "sale", "paid", "bought")
"""How events are called that are purchases."""


@dataclass(frozen=True)
class Question:
    """What is looked at.

    Attributes:
        label: What happens after `at`; None without one.
        feature: The declared feature that is the outcome instead, such as a life-time value.
        population: Who.
        at: Instant of the rows, microseconds UTC.
        blind_spot: How late an outcome may become known.
        study: Whose question this is.
    """

    label: Label | None
    feature: str | None
    population: Condition
    at: int
    blind_spot: int = 0
    study: str | None = None

    @classmethod
    def of(
        cls,
        declared: Declared,
        *,
        study: str | None = None,
        label: Label | None = None,
        feature: str | None = None,
        at: int | None = None,
    ) -> "Question":
        """A study's question as of its newest training cut, so that nothing is seen of what will judge it; or another.

        Without any, it is that of the project's first propensity; without one, nothing but what people do.

        Raises:
            StudyError: an unknown study, or a log too short for it.
            AnalysisError: an unknown feature, or an instant whose outcome is not complete.
        """
        log, features = declared.log, declared.features
        own = study is None and (label is not None or feature is not None)
        known = declared.studies if declared.project.file("studies.yaml").exists() and not own else {}
        if study is None and not own:
            study = next((name for name, spec in known.items() if isinstance(spec, PropensitySpec)), None)
        if feature is not None and feature not in features.names:
            raise AnalysisError(f"unknown feature {feature!r}. {nearest(feature, features.names)}")
        if study is None:
            return cls(label, feature, Condition(did="any"), _instant(log, label, 0, at))
        spec = studies.of_log(study, studies.named(known, study))
        label = spec.predicts if isinstance(spec, PropensitySpec) else None
        if at is None:
            horizon = label.horizon if label else 0
            resolved = spec.cuts.resolve(log.span(), horizon=horizon, blind_spot=spec.blind_spot)
            at = resolved.train[1] if isinstance(resolved, Anchors) else max(resolved.train)
        at = _instant(log, label, spec.blind_spot, at)
        return cls(label, None, spec.population, at, spec.blind_spot, study)

    @property
    def outcome(self) -> str | None:
        """In words; None without one."""
        return str(self.label) if self.label else self.feature

    def rows(self, declared: Declared, sample: Log) -> tuple[FeatureMatrix, Array | None, dict[str, tuple[str, ...]]]:
        """One row a person, the outcome, and of categories what the values are called.

        Lists and cuts that are still to be learnt are learnt from these rows, and not kept.

        Raises:
            StudyError: nobody is in the population.
            AnalysisError: the feature that is the outcome is missing for everybody.
        """
        features, who = declared.features, (Cuts((self.at,), (), ()), self.population, self.blind_spot)
        if features.waiting:
            lessons = declared.rows(None, *who, log=sample, features=Lessons.of(features)).matrix
            features = learnt(features, lessons, texts=declared.log.texts, population=str(self.population))
        rows = declared.rows(self.label, *who, log=sample, features=features)
        words = {each.name: (*map(str, each.values), "other") for each in features.features if each.top}
        if self.feature is None:
            return rows.matrix, rows.y, words
        matrix = rows.matrix.take(~np.isnan(rows.matrix.column(self.feature)))
        if not len(matrix):
            raise AnalysisError(f"the feature {self.feature!r} is missing for everybody. Hint: another `--outcome`.")
        return matrix.select(self._others(features)), matrix.column(self.feature), words

    def _others(self, features: FeatureSet) -> tuple[str, ...]:
        """Every feature but those that read the property which the outcome reads."""
        mine = next(each for each in features.features if each.name == self.feature)
        same = {each.name for each in features.features if mine.property and each.property == mine.property}
        return tuple(name for name in features.names if name not in {*same, mine.name})

    def goal(self, log: EventLog, names: tuple[str, ...]) -> str | None:
        """The event that is a purchase: the outcome's, else one that carries money and is called like a purchase."""
        label = self.label
        named = (label.did or label.did_not or (label.value or "").partition(".")[0]) if label else ""
        specs = log.plan.specs.items()
        money = [name for name, spec in specs if any(each.type == "money" for each in spec.properties.values())]
        likely = [name for name in money if any(word in name for word in PURCHASES)]
        return next((name for name in (named, *likely) if name in names), None)


def _instant(log: EventLog, label: Label | None, blind_spot: int, at: int | None) -> int:
    """`at`, or the newest midnight whose outcome is complete; in a log of hours the newest instant."""
    first, last = log.span()
    wait = label.horizon + blind_spot if label else 0
    latest = (last - wait) // DAY * DAY if label else -(-last // DAY) * DAY
    latest = latest if latest > first else last - wait
    hint = "Hint: a later `--at`, or a longer log." if at is not None else "Hint: a shorter `--within`."
    at = latest if at is None else at
    if label is not None and at + wait > last:
        raise AnalysisError(
            f"what follows {iso(at)} within {format_duration(wait)} is not complete: the log ends at {iso(last)}. "
            f"Hint: `--at` up to {iso(latest)}."
        )
    if at <= first:
        raise AnalysisError(f"nothing is known by {iso(at)}: the log begins at {iso(first)}. {hint}")
    return at
