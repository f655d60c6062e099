"""Declared: what a project's files say, read together with its log: features, studies, segments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from experiments import studies
from experiments.asked import asked
from experiments.studies import OfLog, Spec
from features.behaviour.feature_set import FeatureSet
from features.events.log import EventLog
from features.project import Project
from features.segments.segment_set import SegmentSet
from training.anchors import Anchors
from training.bundle import current
from training.cuts import Cuts, CutsSpec
from training.label import Condition, Label
from training.model import read_json
from training.training_set import Log, TrainingSet


@dataclass(frozen=True)
class Declared:
    """A project's definitions.

    Attributes:
        project: Whose.
        log: Its event log.
        features: Over the log's plan.
    """

    project: Project
    log: EventLog
    features: FeatureSet

    @classmethod
    def of(cls, project: Project) -> Self:
        """Read the plan and the features; what else there is, when it is asked for.

        Raises:
            DefinitionError: a file says what it cannot.
        """
        log = EventLog.of(project)
        return cls(project, log, FeatureSet.of(project, log.plan, log.codes))

    @cached_property
    def studies(self) -> dict[str, Spec]:
        """Those of studies.yaml.

        Raises:
            DefinitionError: the file is absent or says what it cannot.
        """
        return studies.read(self.project.file("studies.yaml"), self.log.plan, self.features.names)

    @property
    def of_log(self) -> dict[str, OfLog]:
        """The studies that ask the log."""
        return studies.of_logs(self.studies)

    def segments(self, clusters: Mapping[str, Sequence[str]] | None = None) -> SegmentSet | None:
        """The segments; None where the project declares none.

        Args:
            clusters: Per study the names that its model tells; by default those of the bundle in service.
        """
        named = clusters if clusters is not None else clusters_served(self.project)
        parts = self.log.plan, self.log.codes, self.features
        return SegmentSet.of(self.project, *parts, studies=self.kinds, clusters=named)

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Per study of the log the kind of its model; none where there are no studies."""
        there = self.project.file("studies.yaml").exists()
        return {name: studies.answers(spec) for name, spec in self.of_log.items()} if there else {}

    def rows(
        self,
        label: Label | None,
        cuts: CutsSpec | Cuts | Anchors,
        population: Condition,
        blind_spot: int,
        *,
        log: Log | None = None,
        features: FeatureSet | None = None,
    ) -> TrainingSet:
        """A training set of the log; by default of this one, with the declared features."""
        return TrainingSet.build(
            self.log if log is None else log,
            self.features if features is None else features,
            label,
            cuts,
            plan=self.log.plan,
            codes=self.log.codes,
            population=population,
            blind_spot=blind_spot,
            asked=asked(self.project, label),
        )


def clusters_served(project: Project) -> dict[str, tuple[str, ...]]:
    """Per study of the bundle in service the names of its clusters or classes."""
    folder = current(project.path("bundles"))
    models = map(read_json, (folder / "models").glob("*/model.json")) if folder is not None else ()
    return {each["study"]: tuple(each["names"]) for each in models}
