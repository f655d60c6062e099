"""Study: a question asked of a project's log, searched, judged, recorded and kept; what MLflow calls an experiment."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self
from uuid import uuid4
from zlib import crc32

import numpy as np

from experiments import card, kinds, propensities, studies
from experiments.declared import Declared
from experiments.result import Fitted, Searcher, StudyResult
from experiments.search import Directions, Found, Objective, Range, Tried, search
from experiments.slices import segments_of, sliced
from experiments.studies import Business, ClustersSpec, PropensitySpec, Spec, TableSpec
from experiments.tables import rows_of
from experiments.tracking import NUMBER, PART, Tracking, scratch
from features.behaviour.feature_set import FeatureSet
from features.behaviour.learning import Lessons, freeze, latest, learnt
from features.behaviour.mining import Mined, mine
from features.behaviour.words import Words
from features.errors import DefinitionError, StudyError
from features.instants import iso
from features.project import Project
from training.anchors import Anchors
from training.cuts import Cuts
from training.model import Model, digest_of, write_json
from training.reference import golden_rows, write_reference
from training.training_set import Log, TrainingSet

DIGEST, VERSION, DATA, GATES = "ethogram.digest", "ethogram.version", "ethogram.data", "ethogram.gates"
"""Tags of a run."""
RECORD = "study.json"
"""The file of a run that says what was asked, of which rows."""

Progress = Callable[[str], None]
"""Told of every step and trial, in a line each."""


class Study:
    """A declared study.

    Attributes:
        name: Its name.
        spec: What studies.yaml says of it.
    """

    def __init__(self, name: str, spec: Spec) -> None:
        self.name = name
        self.spec = spec

    @classmethod
    def from_yaml(cls, project: Project, name: str) -> Self:
        """A study of a project.

        Raises:
            DefinitionError: studies.yaml says something it cannot.
            StudyError: it has no such study.
        """
        return cls(name, studies.named(Declared.of(project).studies, name))

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Self:
        """The same mapping as in studies.yaml, with its `name`."""
        return cls(*studies.one(data))

    def rows(self, project: Project, *, log: Log | None = None, cuts: Cuts | Anchors | None = None) -> TrainingSet:
        """The study's training set: of the log, or of a file of the project.

        Args:
            project: The project.
            log: Other histories than the project's own.
            cuts: Instants that were worked out before; else those that the log can answer now.

        Raises:
            DefinitionError: it names events or features that nobody declared.
            StudyError: the log is too short, or nobody is in the population.
        """
        file = studies.file_of(self.spec)
        if file is not None:
            return self._of_file(project.root / file)
        declared = Declared.of(project)
        features = declared.features
        faults = [fault for _, fault in studies.unknowns(self.spec, declared.log.plan, features.names)]
        if faults:
            raise DefinitionError(f"study {self.name!r}: {faults[0]}")
        build = partial(self._built, declared, log=log, cuts=cuts)
        if features.waiting:
            lessons = build(features=Lessons.of(features)).split_by_time()[0].matrix
            features = learnt(features, lessons, texts=declared.log.texts, population=str(self._of_log.population))
            freeze(features, project.file("features.lock"))
        rows = build(features=features)
        since, until = latest(features), int(rows.split_by_time()[0].matrix.at.max(initial=0))
        if since is not None and since > until:
            raise StudyError(
                f"features.lock, or what features.yaml has mined, was learnt as of {iso(since)}, after the rows that "
                f"train {self.name!r}, which end at {iso(until)}. Hint: remove it and run this study first."
            )
        return rows

    def _of_file(self, file: Path | str) -> TrainingSet:
        spec = self.spec
        if isinstance(spec, TableSpec):
            return rows_of(file, spec.label, split=spec.split, positive=spec.positive, leave_out=spec.leave_out)
        if isinstance(spec, ClustersSpec) and spec.file is not None:
            return rows_of(file, spec.label, split=None, leave_out=spec.leave_out)
        raise StudyError(f"the study {self.name!r} asks the log of a project. Hint: `Study.run`.")

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
        declared = Declared.of(project)
        log, schema = declared.log, declared.features.schema
        rows = self._built(declared, features=FeatureSet((), schema)).split_by_time()[0].matrix
        newest = dict(sorted(zip(rows.users.tolist(), rows.at.tolist(), strict=True)))
        kinds = {name: Words(log.plan).kind(name) for name in dict.fromkeys(of or log.plan.specs)}
        histories = log.histories(schema, users=list(newest))
        at = np.array([newest[user] for user in histories.users], np.int64)
        return mine(histories, at, kinds, population=str(self._of_log.population), **options)

    @property
    def _of_log(self) -> studies.OfLog:
        return studies.of_log(self.name, self.spec)

    def _built(
        self,
        declared: Declared,
        *,
        features: FeatureSet | None = None,
        log: Log | None = None,
        cuts: Cuts | Anchors | None = None,
    ) -> TrainingSet:
        spec = self._of_log
        label = spec.predicts if isinstance(spec, PropensitySpec) else None
        asked = label, cuts or spec.cuts, spec.population, spec.blind_spot
        return declared.rows(*asked, log=log, features=features)

    def run(
        self,
        project: Project | Path | str | None = None,
        *,
        rows: TrainingSet | None = None,
        progress: Progress | None = None,
        resume: bool = False,
        workers: int = 1,
    ) -> StudyResult:
        """Build the rows, search, judge, record in MLflow, and register the model.

        Args:
            project: The project, or its folder (default: the one here).
            rows: A training set made before.
            progress: Told of every step.
            resume: Only go on with what a killed process left.
            workers: Processes that try parameters at the same time.

        Raises:
            StudyError: there is nothing to go on with, the study cannot be run on this data, or refuses its own result.
        """
        _patient()
        project, started = project if isinstance(project, Project) else Project.find(project), time.monotonic()
        say = progress or (lambda _line: None)
        rows = rows or self.rows(project)
        say(str(rows))
        if isinstance(self.spec, PropensitySpec):  # what is read after the search too: a mistake there is told at once
            segments_of(Declared.of(project))
        tracking, question = Tracking(project), self._question(rows)
        if resume and tracking.left(self.name, question) is None:
            raise StudyError(
                f"no unfinished run of {self.name!r} asks this of this data. Hint: `ethogram study run {self.name}`."
            )
        run = tracking.start(self.name, search=question, tags=self._tags(rows))
        with tracking.ending(run), _told(say, self.name):
            storage = project.settings.trials or project.path("studies") / self.name / f"{question}.journal"
            name = f"{project.name}.{self.name}.{question}"
            searcher = self._searcher(storage, name, _Recorder(say, tracking, run), workers)
            fitted = self.fit(rows, searcher, before=self._before(project))
            if isinstance(self.spec, ClustersSpec) and self.spec.business is not None:
                fitted = self._worth(self.spec.business, project, rows, fitted)
            return self._keep(project, tracking, run, rows, fitted, started)

    def join(self, project: Project, *, progress: Progress | None = None, workers: int = 1) -> int:
        """Try parameters for a run of another machine on the same rows, and keep nothing; how many trials there were.

        Raises:
            StudyError: the trials are in a file of one machine.
        """
        _patient()
        if not project.settings.trials:
            raise StudyError(
                "the trials are kept in a file of one machine. "
                "Hint: `trials: postgresql+psycopg://...` in ethogram.yaml, on all of them."
            )
        say, rows, number = progress or (lambda _line: None), self.rows(project), 1 + crc32(uuid4().bytes) % 100_000
        say(str(rows))
        name = f"{project.name}.{self.name}.{self._question(rows)}"
        searcher = self._searcher(project.settings.trials, name, _Recorder(say), workers, number)
        return len(self.fit(rows, searcher).found.trials)

    def answer(self, file: Path | str, *, progress: Progress | None = None, workers: int = 1) -> StudyResult:
        """A table's study with no project around it: nothing is recorded, the figures are the answer.

        Args:
            file: The table.
            progress: Told of every step.
            workers: Processes that try parameters at the same time.
        """
        _patient()
        started, say, rows = time.monotonic(), progress or (lambda _line: None), self._of_file(file)
        say(str(rows))
        with scratch() as temporary:
            fitted = self.fit(rows, self._searcher(Path(temporary) / "journal", self.name, _Recorder(say), workers))
        return StudyResult.of(self.name, rows, fitted, sliced(None, fitted), time.monotonic() - started)

    def _worth(self, asked: Business, project: Project, rows: TrainingSet, fitted: Fitted) -> Fitted:
        declared = Declared.of(project)
        until, zone = int(rows.matrix.at.max()), declared.features.schema.zone
        return kinds.valued(fitted, asked, declared.log, until, zone, lambda cuts: self._built(declared, cuts=cuts))

    def _question(self, rows: TrainingSet) -> str:
        spec = self.spec.model_dump(
            mode="json", exclude={"search": {"trials", "timeout"}, "gates": True, "business": True}
        )
        space = {name: vars(each) for name, each in propensities.SPACE.items()}
        return digest_of({"spec": spec, "data": rows.fingerprint, "space": space})[:16]

    @property
    def said(self) -> dict[str, Any]:
        """What studies.yaml says of it, defaults included."""
        return self.spec.model_dump(mode="json", exclude_none=True)

    def _tags(self, rows: TrainingSet) -> dict[str, str]:
        plan = digest_of(self.spec.model_dump(mode="json"))[:16]
        return {
            "ethogram.kind": self.spec.kind,
            DATA: rows.fingerprint,
            "ethogram.features": rows.matrix.fingerprint,
            "ethogram.study": plan,
        }

    def searcher(self, storage: Path | str, name: str = "study", *, say: Progress | None = None) -> Searcher:
        """What finds parameters, and records nothing but its trials in that journal or database."""
        return self._searcher(storage, name, _Recorder(say or (lambda _line: None)), 1)

    def _searcher(
        self, storage: Path | str, name: str, recorder: "_Recorder", workers: int, number: int = 0
    ) -> Searcher:
        spec = self.spec.search

        def searcher(
            objective: Objective,
            space: Mapping[str, Range],
            *,
            direction: Directions,
            first: tuple[Mapping[str, float], ...] = (),
            most: int = spec.trials,
            part: int = 0,
        ) -> Found:
            recorder.begin(part, min(spec.trials, most), min if direction == "minimize" else max)
            return search(
                objective,
                space,
                storage=storage,
                name=f"{name}-{part}" if part else name,
                trials=recorder.total,
                seed=spec.seed + part,
                timeout_s=spec.timeout / 1e6 if spec.timeout else None,
                on_trial=recorder,
                direction=direction,
                first=first,
                workers=workers,
                number=number,
            )

        return searcher

    def _before(self, project: Project) -> Model | None:
        """The newest registered clusters of the study."""
        tracking = Tracking(project)
        versions = tracking.versions(tracking.name(self.name)) if isinstance(self.spec, ClustersSpec) else []
        return tracking.model(versions[0]) if versions else None

    def fit(self, rows: TrainingSet, searcher: Searcher, *, before: Model | None = None) -> Fitted:
        """The judged model of these rows, with the parameters that the searcher finds.

        Args:
            rows: The training set.
            searcher: Finds them.
            before: Clusters whose ids and names stay with their people.
        """
        if isinstance(self.spec, ClustersSpec):
            return kinds.clusters(self.name, self.spec, rows, searcher, before=before)
        return propensities.propensity(self.name, self.spec, rows, searcher)

    def _keep(
        self, project: Project, tracking: Tracking, run: str, rows: TrainingSet, fitted: Fitted, started: float
    ) -> StudyResult:
        pictures = tuple(fitted.draw(project.path("reports") / f"study-{self.name}"))
        said = {"ethogram.verdict": fitted.verdict, **({GATES: "; ".join(fitted.refused)} if fitted.refused else {})}
        tracking.log(run, params=_params(self, fitted), metrics=fitted.metrics, tags=said)
        report = pictures[0].parent
        slices = sliced(project, fitted)
        page = card.write(report, self.name, rows, fitted, slices, pictures)[0]
        write_json(report / RECORD, {"study": self.name, "spec": self.said, "training_set": dict(rows.provenance)})
        tracking.files(run, report, "report")
        kept, places = f"run {run}, no model was kept", {"run_id": run, "card": page, "pictures": pictures}
        if fitted.sound:
            folder = store(project.path("studies") / self.name / "models", fitted, rows, seed=self.spec.search.seed)
            digest = Model.load(folder, verify=True).digest
            tags = {**self._tags(rows), **said, DIGEST: digest}
            version = tracking.register(run, folder, tracking.name(self.name), tags=tags).version
            tracking.log(run, tags={DIGEST: digest, VERSION: str(version)})
            kept = f"run {run}, model version {version}: {folder}"
            places |= {"folder": folder, "digest": digest, "version": version}
        kept = f"{kept}\nmodel card: {page}"
        return StudyResult.of(self.name, rows, fitted, slices, time.monotonic() - started, kept, **places)


@contextmanager
def _told(say: Progress, name: str) -> Iterator[None]:
    """Who stops a study is told that nothing is lost, also where what was stopped failed for it."""
    try:
        yield
    except BaseException as problem:
        if not _stopped(problem):
            raise
        say(f"stopped; the trials that ended are kept. Hint: `ethogram study resume {name}` goes on.")
        raise KeyboardInterrupt from None


def _stopped(problem: BaseException | None) -> bool:
    """Whether an exception is an interruption, or came while one was on its way: Optuna's lock is let go of so."""
    return problem is not None and (isinstance(problem, KeyboardInterrupt) or _stopped(problem.__context__))


def _patient() -> None:
    # Threads that wait by spinning take five times as long on a machine that has something else to do.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class _Recorder:
    """Every ended trial: a line of progress, and a child run where runs are recorded."""

    def __init__(self, say: Progress, tracking: Tracking | None = None, run: str = "") -> None:
        self.say, self.tracking, self.run = say, tracking, run
        self._logged = (
            {(each.tags.get(PART, "0"), each.tags[NUMBER]) for each in tracking.trials(run)} if tracking else set()
        )
        self.begin(0, 0)

    def begin(self, part: int, total: int, better: Callable[[list[float]], float] = min) -> None:
        """A search of so many trials begins: the n-th of the study, and which of its values is best."""
        self.part, self.total, self.better = part, total, better
        self.values: list[float] = []
        self.started = time.monotonic()

    def __call__(self, tried: Tried) -> None:
        if self.tracking is not None and (str(self.part), str(tried.number)) not in self._logged:
            metrics = {**tried.figures, "seconds": tried.seconds}
            self.tracking.child(
                self.run, tried.number, params=tried.params, metrics=metrics, state=tried.state, part=self.part
            )
        self.say(self._line(tried))

    def _line(self, tried: Tried) -> str:
        head, value = f"search {self.part + 1}, " if self.part else "", tried.figures["value"]
        self.values.append(value if tried.state == "complete" else float("nan"))
        left = (time.monotonic() - self.started) / len(self.values) * (self.total - len(self.values))
        known = [each for each in self.values if each == each]
        best = f", best {self.better(known):.5f}" if known else ""
        return f"{head}trial {len(self.values)}/{self.total} {tried.state} {value:.5f}{best}, about {left:.0f} s left"


def store(models: Path, fitted: Fitted, rows: TrainingSet, *, seed: int) -> Path:
    """The model's folder below `models`, named by its digest; there in one step."""
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models, prefix=".draft-") as temporary:
        draft = Path(temporary) / "model"
        fitted.model.save(draft, trees=fitted.trees)
        values = rows.matrix.select(fitted.model.preparation.names).values
        fitted.model.write_golden(draft, golden_rows(fitted.model, values, seed=seed))
        write_reference(draft, fitted.model, rows, seed=seed)
        target = models / Model.load(draft, verify=True).digest[:16]
        if not target.exists():
            shutil.move(draft, target)
    return target


def _params(study: Study, fitted: Fitted) -> dict[str, object]:
    declared = {f"study.{name}": value for name, value in study.said.items()}
    return {**declared, **{f"best.{name}": value for name, value in fitted.found.best.params.items()}}
