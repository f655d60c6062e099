"""Loop: drift or schedule, then a study, then a duel on the newest outcomes, then promotion, or not."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from uuid import uuid4

from experiments import pages, release, studies
from experiments.asked import asked
from experiments.duel import Duel, duel
from experiments.studies import OfLog, PropensitySpec
from experiments.study import Study
from experiments.tracking import Tracking
from experiments.turn import Answer, Decision, Studied
from experiments.watch import watch
from features.behaviour.feature_set import FeatureSet
from features.errors import AnalysisError, BundleError, StudyError
from features.events.log import EventLog
from features.instants import DAY, format_duration, iso, parse_instant, to_datetime
from features.project import Project
from training.bundle import Bundle, current
from training.model import Model, digest_of
from training.training_set import TrainingSet

COOL_DOWN = DAY
"""Unless definitions changed, drift asks for studies only when the log has grown by so much since the last ones."""
Progress = Callable[[str], None]
Specs = Mapping[str, OfLog]


@dataclass(frozen=True)
class State:
    """What a turn starts from.

    Attributes:
        project: The project.
        log: Its event log.
        features: As declared now.
        specs: The declared studies.
        champion: The published bundle; None before the first release.
    """

    project: Project
    log: EventLog
    features: FeatureSet
    specs: Specs
    champion: Bundle | None

    @classmethod
    def of(cls, project: Project) -> "State":
        """Read it."""
        log = EventLog.of(project)
        features = FeatureSet.of(project, log.plan, log.codes)
        specs = studies.of_logs(studies.read(project.file("studies.yaml"), log.plan, features.names))
        folder = current(project.path("bundles"))
        return cls(project, log, features, specs, Bundle.load(folder) if folder else None)

    @property
    def same_features(self) -> bool:
        """Whether the champion computes what the project declares."""
        return self.champion is not None and self.champion.features.fingerprint == self.features.fingerprint

    @property
    def notebook(self) -> Path:
        """Where the last studies are remembered, so that a champion that stays does not start them anew each turn."""
        return self.project.path("studies") / "loop.json"

    @cached_property
    def memory(self) -> dict[str, str]:
        """What the last studies saw: `studied_until`, `definitions`; empty before the first."""
        return dict(json.loads(self.notebook.read_text(encoding="utf-8"))) if self.notebook.exists() else {}

    @cached_property
    def definitions(self) -> str:
        """Fingerprint of features and studies as declared."""
        specs = {name: spec.model_dump(mode="json") for name, spec in self.specs.items()}
        return digest_of({"features": self.features.fingerprint, "studies": specs})[:16]

    @property
    def known_until(self) -> int:
        """The newest event that the champion's propensities, or the studies after them, could know of; 0 if unsaid."""
        models = self.champion.models.values() if self.champion else ()
        details = [model.details.get("training_set") for model in models if model.kind == "propensity"]
        trained = min((parse_instant(each["log"][1]) for each in details if each), default=0)
        said = self.memory.get("studied_until")
        return max(trained, parse_instant(said)) if said else trained

    def remember(self) -> None:
        """Note that studies were run now."""
        noted = {"studied_until": iso(self.log.span()[1]), "definitions": self.definitions}
        pages.write(self.notebook, json.dumps(noted) + "\n")

    def to_study(self) -> list[str]:
        """Studies to run: the propensities that are served; all studies before a first release.

        What nobody has released yet is for a person to run and look at first. Clusters stay as they are while the
        features are the same: their names mean something to people.
        """
        if self.champion is None:
            return list(self.specs)
        held = [name for name in self.specs if name in self.champion.models]
        return [name for name in held if self.specs[name].kind == "propensity"] if self.same_features else held


def run_once(
    project: Project, *, every: int = 7 * DAY, force: bool = False, progress: Progress | None = None
) -> Decision:
    """One turn: look, study if there is a reason, compare, promote or not, and record it.

    Args:
        project: The project.
        every: Study again when the log has grown by so much (microseconds) since the champion was trained.
        force: Study in any case.
        progress: Told of every step.

    Raises:
        EthogramError: the project cannot be read, or a study cannot be run.
    """
    state, say = State.of(project), progress or (lambda _line: None)
    drift, notes = _drift(state, say)
    notes = (*notes, *_unreleased(state))
    triggers = tuple(_triggers(state, drift, every=every, force=force))
    if not triggers:
        idle = ("no drift, no newer data to speak of, and nobody asked",)
        return _recorded(state, Decision("nothing to do", (), notes, (), (), idle, drift, {}))
    studied, duels = _studied(state, say)
    held = state.champion.models if state.champion else {}
    same = state.champion is None or state.same_features
    answer, reasons = decide(duels, studied, held=held, same_features=same)
    versions: Mapping[str, int] = {}
    if answer == "promoted":
        say("promoting")
        try:
            versions = release.promote(project, versions=_versions(state, studied, duels)).models
        except BundleError as problem:
            answer, reasons = "kept", (*reasons, str(problem))
    return _recorded(state, Decision(answer, triggers, notes, studied, duels, reasons, drift, versions))


def _drift(state: State, say: Progress) -> tuple[str | None, tuple[str, ...]]:
    if state.champion is None:
        return None, ()
    say("comparing served with training features")
    try:
        seen = watch(state.project)
    except AnalysisError as problem:
        return None, (f"drift could not be judged: {problem}",)
    return seen.report.verdict, (seen.report.headline, f"drift page: {seen.files['page']}")


def _unreleased(state: State) -> Iterator[str]:
    names = [name for name in state.specs if state.champion is not None and name not in state.champion.models]
    if names:
        yield f"not released yet, so left to a person (`ethogram study run`, `ethogram promote`): {', '.join(names)}"


def _triggers(state: State, drift: str | None, *, every: int, force: bool) -> list[str]:
    if state.champion is None:
        return ["nothing is published yet"]
    newest, known = state.log.span()[1], state.known_until
    triggers = ["asked for"] if force else []
    if newest - known >= every:
        triggers.append(f"the log has grown by {format_duration(every)} or more, from {iso(known)} to {iso(newest)}")
    if newest - known < COOL_DOWN and state.memory.get("definitions") == state.definitions:
        return triggers
    if drift == "drift":
        triggers.append("the served users are not those of the training rows (drift)")
    if not state.same_features:
        triggers.append("features.yaml declares other features than the champion computes")
    return triggers


def _studied(state: State, say: Progress) -> tuple[tuple[Studied, ...], tuple[Duel, ...]]:
    studied, duels = [], []
    for name in state.to_study():
        study = Study(name, state.specs[name])
        try:
            rows = study.rows(state.project, log=state.log)
            result = study.run(state.project, rows=rows, progress=say)
        except StudyError as problem:
            studied.append(Studied(name, None, f"it cannot be run: {problem}", ""))
            continue
        refused = f"; not to be promoted: {'; '.join(result.refused)}" if result.refused else ""
        version = None if result.refused else result.version
        studied.append(Studied(name, version, result.verdict + refused, result.run_id))
        if (
            result.folder is not None
            and version is not None
            and state.champion is not None
            and name in state.champion.models
        ):
            fought = _fought(state, study, rows, Model.load(result.folder))
            duels += [fought] if fought else []
    state.remember()
    return tuple(studied), tuple(duels)


def _fought(state: State, study: Study, rows: TrainingSet, challenger: Model) -> Duel | None:
    """On the newest cut whose outcomes are known: the challenger has not seen it, and the champion is no newer."""
    if not isinstance(study.spec, PropensitySpec) or state.champion is None:
        return None
    test = rows.split_by_time()[2]
    held = test if state.same_features else _as_champion_sees(state, state.champion, study.spec)
    champion = state.champion.models[study.name].score(held.matrix).probability
    fresh = challenger.score(test.matrix).probability
    if test.y is None or champion is None or fresh is None:
        return None
    if held.matrix.users.tolist() != test.matrix.users.tolist():
        raise StudyError(f"study {study.name!r}: champion and challenger were not shown the same users.")
    return duel(study.name, test.y, champion, fresh, test.matrix.users, at=int(test.matrix.at.max()))


def _as_champion_sees(state: State, champion: Bundle, spec: PropensitySpec) -> TrainingSet:
    rows = TrainingSet.build(
        state.log,
        champion.features,
        spec.predicts,
        spec.cuts,
        plan=state.log.plan,
        codes=state.log.codes,
        population=spec.population,
        blind_spot=spec.blind_spot,
        asked=asked(state.project, spec.predicts),
    )
    return rows.split_by_time()[2]


def decide(
    duels: Sequence[Duel], studied: Sequence[Studied], *, held: Collection[str], same_features: bool = True
) -> tuple[Answer, tuple[str, ...]]:
    """Promote what is better than what is served, and what was not served before; the rest stays as it is.

    Args:
        duels: One per propensity that champion and challenger both have.
        studied: The studies that were run.
        held: Studies of the champion; empty before the first release.
        same_features: A bundle has one feature set: where it is another, all change or none, and none may be worse.
    """
    refused = [f"{each.study} gives nothing to promote: {each.verdict}" for each in studied if each.version is None]
    reasons = (*map(str, duels), *refused)
    added = [each.study for each in studied if each.version is not None and each.study not in held]
    better = [fought.study for fought in duels if fought.verdict == "better"]
    if not same_features and any(fought.verdict == "worse" for fought in duels):
        return "kept", (*reasons, "with the other features a challenger is worse, so the champion stays")
    if not better and not added:
        return "kept", (*reasons, "no challenger is better, so the champion stays")
    new = ["it is the first release"] if not held else [f"{name} was not served before" for name in added]
    return "promoted", (*reasons, *new)


def _versions(state: State, studied: Sequence[Studied], duels: Sequence[Duel]) -> dict[str, int]:
    """The winners; every other study stays at the version that is served, as long as the features are the same."""
    fresh = {each.study: each.version for each in studied if each.version is not None}
    if not state.same_features:
        return fresh
    served = release.served(state.project)
    better = {fought.study for fought in duels if fought.verdict == "better"}
    return {**fresh, **{name: version for name, version in served.items() if name not in better}}


def _recorded(state: State, decision: Decision) -> Decision:
    """The decision as a run with its figures, and as a page and a document under the project's reports."""
    place = state.project.path("reports") / f"loop-{to_datetime(state.log.span()[1]):%Y%m%dT%H%M%SZ}"
    tracking = Tracking(state.project)
    tags = {"ethogram.decision": decision.answer, "ethogram.drift": decision.drift or "not judged"}
    run = tracking.start("loop", search=uuid4().hex[:16], tags=tags)
    with tracking.ending(run):
        files = {"page": place / "loop.html", "document": place / "loop.json"}
        made = replace(decision, run_id=run, files=files)
        pages.write(files["page"], made.to_html())
        pages.write(files["document"], json.dumps(made.to_dict(), indent=1) + "\n")
        tracking.log(run, params={"triggers": "; ".join(made.triggers)}, metrics=made.metrics())
        tracking.files(run, place, "decision")
    return made
