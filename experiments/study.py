"""Study: a question asked of a project's log, searched, judged, recorded and kept; what MLflow calls an experiment."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from experiments import card, fitting, kinds, studies, worth
from experiments.asked import asked
from experiments.fitting import Fitted, Searcher
from experiments.search import Directions, Found, Objective, Range, Tried, search
from experiments.slices import Parts, Slice, parts_of, slices
from experiments.studies import Business, ClustersSpec, PropensitySpec
from experiments.tracking import NUMBER, Tracking, scratch
from features.behaviour.feature_set import FeatureSet
from features.behaviour.learning import Lessons, freeze, latest, learnt
from features.behaviour.mining import Mined, mine
from features.behaviour.words import Words
from features.errors import DefinitionError, StudyError
from features.events.log import EventLog
from features.instants import iso
from features.project import Project
from training.anchors import Anchors
from training.cuts import Cuts
from training.model import Model, digest_of, write_json
from training.outcome import Source
from training.reference import golden_rows, write_reference
from training.training_set import Log, TrainingSet
from training.validation import METRICS, TITLES

DIGEST, VERSION, DATA, GATES = "ethogram.digest", "ethogram.version", "ethogram.data", "ethogram.gates"
"""Tags of a run."""
RECORD = "study.json"
"""The file of a run that says what was asked, of which rows."""

Progress = Callable[[str], None]
"""Told of every step and trial, in a line each."""


@dataclass(frozen=True)
class StudyResult:
    """What a study found.

    Attributes:
        study: Its name.
        kind: `propensity` or `clusters`.
        verdict: One sentence against the baselines, or against rows without structure.
        refused: Why it must not be promoted.
        metrics: Every figure that the run records.
        figures: Of a propensity: per model and metric, value and 95 per cent interval over users, on the test cut.
        differences: Of a propensity: ours minus each baseline's, from the same resamples.
        training_set: Where the rows come from.
        params: The best trial's.
        trials: How many there were.
        pruned: How many of them were ended early.
        resumed: How many of them an earlier, killed process had finished.
        run_id: MLflow's.
        version: Of the registered model; None where the study refuses its own result.
        folder: The model's plain files; None likewise.
        digest: The model's.
        card: The model card, a page.
        pictures: PNG files.
        seconds: How long it took.
        text: What it prints.
    """

    study: str
    kind: str
    verdict: str
    refused: tuple[str, ...]
    metrics: Mapping[str, float]
    figures: Mapping[str, Mapping[str, Any]]
    differences: Mapping[str, Mapping[str, Any]]
    training_set: Mapping[str, object]
    params: Mapping[str, float]
    trials: int
    pruned: int
    resumed: int
    run_id: str
    version: int | None
    folder: Path | None
    digest: str
    card: Path
    pictures: tuple[Path, ...]
    seconds: float
    text: str

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        values = {name: value for name, value in vars(self).items() if name != "text"}
        folder = str(self.folder) if self.folder else None
        return {**values, "folder": folder, "card": str(self.card), "pictures": [str(path) for path in self.pictures]}


class Study:
    """A declared study.

    Attributes:
        name: Its name.
        spec: What studies.yaml says of it.
    """

    def __init__(self, name: str, spec: PropensitySpec | ClustersSpec) -> None:
        self.name = name
        self.spec = spec

    @classmethod
    def from_yaml(cls, project: Project, name: str) -> Self:
        """A study of a project.

        Raises:
            DefinitionError: studies.yaml says something it cannot.
            StudyError: it has no such study.
        """
        log = EventLog.of(project)
        features = FeatureSet.of(project, log.plan, log.codes)
        return cls(name, studies.named(studies.read(project.file("studies.yaml"), log.plan, features.names), name))

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Self:
        """The same mapping as in studies.yaml, with its `name`."""
        return cls(*studies.one(data))

    def rows(self, project: Project, *, log: Log | None = None, cuts: Cuts | Anchors | None = None) -> TrainingSet:
        """The study's training set.

        Args:
            project: The project.
            log: Other histories than the project's own.
            cuts: Instants that were worked out before; else those that the log can answer now.

        Raises:
            DefinitionError: it names events or features that nobody declared.
            StudyError: the log is too short, or nobody is in the population.
        """
        held = EventLog.of(project)
        features = FeatureSet.of(project, held.plan, held.codes)
        faults = [fault for _, fault in studies.unknowns(self.spec, held.plan, features.names)]
        if faults:
            raise DefinitionError(f"study {self.name!r}: {faults[0]}")
        build = partial(self._built, log or held, held=held, told=self._asked(project), cuts=cuts)
        if features.waiting:
            lessons = build(Lessons.of(features)).split_by_time()[0].matrix
            features = learnt(features, lessons, texts=held.texts, population=str(self.spec.population))
            freeze(features, project.file("features.lock"))
        rows = build(features)
        since, until = latest(features), int(rows.split_by_time()[0].matrix.at.max(initial=0))
        if since is not None and since > until:
            raise StudyError(
                f"features.lock, or what features.yaml has mined, was learnt as of {iso(since)}, after the rows that "
                f"train {self.name!r}, which end at {iso(until)}. Hint: remove it and run this study first."
            )
        return rows

    def mine(self, project: Project, *, of: Sequence[str] = (), **options: Any) -> Mined:  # noqa: ANN401 - of `mine`
        """Patterns in the sessions of those whose rows train it, each as of the newest of these rows.

        Args:
            project: The project.
            of: Events of the plan; all of them where none is given.
            options: `gap`, `support`, `longest`, `most` and `spark` of `features.behaviour.mining.mine`.

        Raises:
            DefinitionError: an unknown event.
            StudyError: as `rows`, or no pattern is frequent enough.
        """
        held = EventLog.of(project)
        features = FeatureSet.of(project, held.plan, held.codes)
        nothing = FeatureSet((), features.schema)
        built = self._built(held, nothing, held=held, told=self._asked(project))
        rows = built.split_by_time()[0].matrix
        newest = dict(sorted(zip(rows.users.tolist(), rows.at.tolist(), strict=True)))
        kinds = {name: Words(held.plan).kind(name) for name in dict.fromkeys(of or held.plan.specs)}
        histories = held.histories(features.schema, users=list(newest))
        at = np.array([newest[user] for user in histories.users], np.int64)
        return mine(histories, at, kinds, population=str(self.spec.population), **options)

    def _asked(self, project: Project) -> Source | None:
        return asked(project, self.spec.predicts if isinstance(self.spec, PropensitySpec) else None)

    def _built(
        self,
        log: Log,
        features: FeatureSet,
        *,
        held: EventLog,
        told: Source | None,
        cuts: Cuts | Anchors | None = None,
    ) -> TrainingSet:
        return TrainingSet.build(
            log,
            features,
            self.spec.predicts if isinstance(self.spec, PropensitySpec) else None,
            cuts or self.spec.cuts,
            plan=held.plan,
            codes=held.codes,
            population=self.spec.population,
            blind_spot=self.spec.blind_spot,
            asked=told,
        )

    def run(
        self,
        project: Project | Path | str | None = None,
        *,
        rows: TrainingSet | None = None,
        progress: Progress | None = None,
        resume: bool = False,
    ) -> StudyResult:
        """Build the rows, search, judge, record in MLflow, and register the model.

        Args:
            project: The project, or its folder (default: the one here).
            rows: A training set made before.
            progress: Told of every step.
            resume: Only go on with what a killed process left.

        Raises:
            StudyError: there is nothing to go on with, the study cannot be run on this data, or refuses its own result.
        """
        # Threads that wait by spinning take five times as long on a machine that has something else to do.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        project, started = project if isinstance(project, Project) else Project.find(project), time.monotonic()
        say = progress or (lambda _line: None)
        rows = rows or self.rows(project)
        say(str(rows))
        parts = parts_of(project, rows.split_by_time()[2]) if isinstance(self.spec, PropensitySpec) else {}
        tracking, question = Tracking(project), self._question(rows)
        if resume and tracking.left(self.name, question) is None:
            raise StudyError(
                f"no unfinished run of {self.name!r} asks this of this data. Hint: `ethogram study run {self.name}`."
            )
        run = tracking.start(self.name, search=question, tags=self._tags(rows))
        with tracking.ending(run):
            fitted = self._fit(project, rows, _Recorder(tracking, run, say), question)
            if isinstance(self.spec, ClustersSpec) and self.spec.business is not None:
                fitted = self._worth(self.spec.business, project, rows, fitted)
            return self._keep(project, tracking, run, rows, parts, fitted, started)

    def _worth(self, asked: Business, project: Project, rows: TrainingSet, fitted: Fitted) -> Fitted:
        held = EventLog.of(project)
        features = FeatureSet.of(project, held.plan, held.codes)
        built = partial(self._built, held, features, held=held, told=None)
        until, zone = int(rows.matrix.at.max()), features.schema.zone
        return worth.added(fitted, asked, held, until, zone, lambda cuts: built(cuts=cuts))

    def _question(self, rows: TrainingSet) -> str:
        spec = self.spec.model_dump(
            mode="json", exclude={"search": {"trials", "timeout"}, "gates": True, "business": True}
        )
        space = {name: vars(each) for name, each in fitting.SPACE.items()}
        return digest_of({"spec": spec, "data": rows.fingerprint, "space": space})[:16]

    def _said(self) -> dict[str, object]:
        return self.spec.model_dump(mode="json", exclude_none=True)

    def _tags(self, rows: TrainingSet) -> dict[str, str]:
        plan = digest_of(self.spec.model_dump(mode="json"))[:16]
        return {
            "ethogram.kind": self.spec.kind,
            DATA: rows.fingerprint,
            "ethogram.features": rows.matrix.fingerprint,
            "ethogram.study": plan,
        }

    def _fit(self, project: Project, rows: TrainingSet, recorder: "_Recorder", question: str) -> Fitted:
        spec = self.spec.search

        def searcher(
            objective: Objective,
            space: Mapping[str, Range],
            *,
            direction: Directions,
            first: tuple[Mapping[str, float], ...] = (),
            most: int = spec.trials,
        ) -> Found:
            recorder.total = min(spec.trials, most)
            return search(
                objective,
                space,
                storage=project.path("studies") / self.name / f"{question}.journal",
                name=self.name,
                trials=recorder.total,
                seed=spec.seed,
                timeout_s=spec.timeout / 1e6 if spec.timeout else None,
                on_trial=recorder,
                direction=direction,
                first=first,
            )

        return self.fit(rows, searcher, before=self._before(project))

    def _before(self, project: Project) -> Model | None:
        """The newest registered clusters of the study."""
        tracking = Tracking(project)
        versions = tracking.versions(tracking.name(self.name)) if isinstance(self.spec, ClustersSpec) else []
        if not versions:
            return None
        with scratch() as temporary:
            return Model.load(tracking.fetch(versions[0], Path(temporary)))

    def fit(self, rows: TrainingSet, searcher: Searcher, *, before: Model | None = None) -> Fitted:
        """The judged model of these rows, with the parameters that the searcher finds.

        Args:
            rows: The training set.
            searcher: Finds them.
            before: Clusters whose ids and names stay with their people.
        """
        if isinstance(self.spec, PropensitySpec):
            return fitting.propensity(self.name, self.spec, rows, searcher)
        return kinds.clusters(self.name, self.spec, rows, searcher, before=before)

    def _card(self, report: Path, rows: TrainingSet, parts: Parts, fitted: Fitted, pictures: Sequence[Path]) -> Path:
        sliced: tuple[Slice, ...] = ()
        if fitted.figures:
            test = rows.split_by_time()[2]
            sliced = slices(test, np.asarray(fitted.model.score(test.matrix).probability), parts)
        return card.write(report, self.name, rows, fitted, sliced, pictures)[0]

    def _keep(
        self,
        project: Project,
        tracking: Tracking,
        run: str,
        rows: TrainingSet,
        parts: Parts,
        fitted: Fitted,
        started: float,
    ) -> StudyResult:
        pictures = tuple(fitted.draw(project.path("reports") / f"study-{self.name}"))
        tracking.log(
            run, params=_params(self, fitted), metrics=fitted.metrics, tags={"ethogram.verdict": fitted.verdict}
        )
        report = pictures[0].parent
        page = self._card(report, rows, parts, fitted, pictures)
        write_json(report / RECORD, {"study": self.name, "spec": self._said(), "training_set": dict(rows.provenance)})
        tracking.files(run, report, "report")
        folder, digest, version = None, "", None
        if fitted.sound:
            folder = store(project.path("studies") / self.name / "models", fitted, rows, seed=self.spec.search.seed)
            digest = Model.load(folder, verify=True).digest
            tags = {
                **self._tags(rows),
                **({GATES: "; ".join(fitted.refused)} if fitted.refused else {}),
                DIGEST: digest,
                "ethogram.verdict": fitted.verdict,
            }
            version = tracking.register(run, folder, tracking.name(self.name), tags=tags).version
            tracking.log(run, tags={DIGEST: digest, VERSION: str(version)})
        return _result(self, rows, fitted, run, version, folder, digest, page, pictures, time.monotonic() - started)


class _Recorder:
    """Every ended trial: a child run, and a line of progress."""

    def __init__(self, tracking: Tracking, run: str, say: Progress) -> None:
        self.tracking, self.run, self.say = tracking, run, say
        self.total = 0
        self._logged = {int(each.tags[NUMBER]) for each in tracking.trials(run)}

    def __call__(self, tried: Tried) -> None:
        if tried.number not in self._logged:
            metrics = {**tried.figures, "seconds": tried.seconds}
            self.tracking.child(self.run, tried.number, params=tried.params, metrics=metrics, state=tried.state)
        self.say(f"trial {tried.number + 1}/{self.total} {tried.state} {tried.figures['value']:.5f}")


def store(models: Path, fitted: Fitted, rows: TrainingSet, *, seed: int) -> Path:
    """The model's folder below `models`, named by its digest; there in one step."""
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models, prefix=".draft-") as temporary:
        draft = Path(temporary) / "model"
        fitted.model.save(draft, trees=fitted.trees)
        values = rows.matrix.select(fitted.model.preparation.names).values
        fitted.model.write_golden(draft, golden_rows(values, seed=seed))
        write_reference(draft, fitted.model, rows, seed=seed)
        target = models / Model.load(draft, verify=True).digest[:16]
        if not target.exists():
            shutil.move(draft, target)
    return target


def _params(study: Study, fitted: Fitted) -> dict[str, object]:
    spec = study.spec.model_dump(mode="json", exclude_none=True)
    declared = {f"study.{name}": value for name, value in spec.items()}
    return {**declared, **{f"best.{name}": value for name, value in fitted.found.best.params.items()}}


def _result(
    study: Study,
    rows: TrainingSet,
    fitted: Fitted,
    run: str,
    version: int | None,
    folder: Path | None,
    digest: str,
    page: Path,
    pictures: tuple[Path, ...],
    seconds: float,
) -> StudyResult:
    figures = {name: each.to_dict() for name, each in fitted.figures.items()}
    gaps = {name: {m: gap.to_dict() for m, gap in each.items()} for name, each in fitted.differences.items()}
    found = fitted.found
    lines = [f"study {study.name}: {fitted.verdict}", "", str(rows), "", *_table(fitted), *fitted.lines]
    lines += [f"not to be promoted: {each}" for each in fitted.refused]
    params = ", ".join(f"{name} {value:.4g}" for name, value in found.best.params.items())
    lines += [
        f"search: {len(found.trials)} trials, {found.n_pruned} pruned"
        + (f", {found.resumed} from an earlier process" if found.resumed else "")
        + f"; best: {params}",
        f"run {run}, model version {version}: {folder}" if version else f"run {run}, no model was kept",
        f"model card: {page}",
        f"{seconds:.1f} s",
    ]
    return StudyResult(
        study=study.name,
        kind=study.spec.kind,
        verdict=fitted.verdict,
        refused=fitted.refused,
        metrics=dict(fitted.metrics),
        figures=figures,
        differences=gaps,
        training_set=dict(rows.provenance),
        params=dict(found.best.params),
        trials=len(found.trials),
        pruned=found.n_pruned,
        resumed=found.resumed,
        run_id=run,
        version=version,
        folder=folder,
        digest=digest,
        card=page,
        pictures=pictures,
        seconds=seconds,
        text="\n".join(lines),
    )


def _table(fitted: Fitted) -> list[str]:
    if not fitted.figures:
        return []
    models = list(fitted.figures)
    cells = [["test cut, 95 % intervals", *models]]
    cells += [[TITLES[metric], *(str(fitted.figures[model][metric]) for model in models)] for metric in METRICS]
    widths = [max(len(row[place]) for row in cells) for place in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
