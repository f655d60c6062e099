"""Loop: drift or schedule, recalibration, a study, a challenger in the shadow, a contest, promotion or not, a watch."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from uuid import uuid4

import polars as pl

from experiments import overview, pages, release
from experiments.contest import Contest
from experiments.course import Course, alone, words
from experiments.declared import Declared
from experiments.duel import Duel, between
from experiments.policy import Policy
from experiments.recalibration import recalibrated, registered
from experiments.studies import OfLog, PropensitySpec
from experiments.study import DIGEST, Study
from experiments.tracking import Tracking
from experiments.turn import Answer, Decision, Studied
from experiments.watch import watch
from features.errors import AnalysisError, BundleError, StudyError
from features.instants import format_duration, iso, parse_instant, to_datetime
from features.project import Project
from training.bundle import Bundle, current
from training.model import Model, digest_of
from training.reference import REFERENCE
from training.training_set import TrainingSet
from training.validation import Ranking

Progress = Callable[[str], None]


@dataclass(frozen=True)
class State:
    """What a turn starts from.

    Attributes:
        declared: What the project says now.
        champion: The published bundle; None before the first release.
        policy: What loop.yaml allows.
        course: Where the last turn left off.
    """

    declared: Declared
    champion: Bundle | None
    policy: Policy
    course: Course

    @classmethod
    def of(cls, project: Project) -> "State":
        """Read it."""
        folder = current(project.path("bundles"))
        champion = Bundle.load(folder) if folder else None
        return cls(Declared.of(project), champion, Policy.of(project), Course.of(project))

    @property
    def project(self) -> Project:
        """Whose turn it is."""
        return self.declared.project

    @property
    def specs(self) -> dict[str, OfLog]:
        """The declared studies of the log."""
        return self.declared.of_log

    @cached_property
    def now(self) -> int:
        """The log's newest event."""
        return self.declared.log.span()[1]

    @property
    def same_features(self) -> bool:
        """Whether the champion computes what the project declares."""
        return self.champion is not None and self.champion.features.fingerprint == self.declared.features.fingerprint

    @cached_property
    def definitions(self) -> str:
        """Fingerprint of features and studies as declared."""
        specs = {name: spec.model_dump(mode="json") for name, spec in self.specs.items()}
        return digest_of({"features": self.declared.features.fingerprint, "studies": specs})[:16]

    @property
    def known_until(self) -> int:
        """The newest event that the champion's propensities, or the studies after them, could know of; 0 if unsaid."""
        models = self.champion.models.values() if self.champion else ()
        details = [model.details.get("training_set") for model in models if model.kind == "propensity"]
        return max(
            min((parse_instant(each["log"][1]) for each in details if each), default=0),
            max(self.course.studied, default=0),
        )

    @property
    def wakes(self) -> bool:
        """Whether drift may start a study: the cool-down is over, or definitions changed, and no contest is on."""
        cool = self.now - self.known_until >= self.policy.cool_down or self.course.definitions != self.definitions
        return cool and self.course.phase == "resting"

    @property
    def left(self) -> int:
        """Studies that the budget still allows."""
        budget = self.policy.budget
        return budget.studies - sum(each > self.now - budget.within for each in self.course.studied)

    def to_study(self) -> list[str]:
        """Studies to run: the propensities that are served; all studies before a first release.

        What nobody has released yet is for a person to run and look at first. Clusters stay as they are while the
        features are the same: their names mean something to people.
        """
        if self.champion is None:
            return list(self.specs)
        held = [name for name in self.specs if name in self.champion.models]
        return [name for name in held if self.specs[name].kind == "propensity"] if self.same_features else held


def run_once(project: Project, *, force: bool = False, progress: Progress | None = None) -> Decision:
    """One turn: a contest goes on where there is one; else look, and study where there is a reason.

    Args:
        project: The project; its loop.yaml is the policy.
        force: Study in any case, where no contest is on.
        progress: Told of every step.

    Raises:
        EthogramError: the project cannot be read, a study cannot be run, or another turn is being taken.
    """
    with alone(project):
        state, say = State.of(project), progress or (lambda _line: None)
        if (paused := words(project).get("pause")) is not None:
            return _recorded(state, Decision("paused", reasons=(f"paused by {paused}",)))
        drift, notes = _drift(state, say)
        if state.course.phase == "resting" or state.champion is None:
            decision, course = _rested(state, drift, force=force, say=say)
        else:
            here = (project, state.declared.log, state.champion, state.specs, state.policy, state.course)
            decision, course = Contest(*here).turned(say)
        course.keep(project)
        return _recorded(state, replace(decision, drift=drift, notes=(*notes, *decision.notes)))


def _rested(state: State, drift: str | None, *, force: bool, say: Progress) -> tuple[Decision, Course]:
    """No contest is on: is there a reason to study, and what comes of it?"""
    notes, triggers = tuple(_unreleased(state)), tuple(_triggers(state, drift, force=force))
    idle = ""
    if drift == "pipeline fault":
        idle = "nothing is learned from a pipeline that is at fault. Hint: `ethogram replay`"
    elif not triggers:
        idle = "no drift that may start a study now, no newer data to speak of, and nobody asked"
    elif state.left < 1:
        budget = state.policy.budget
        idle = f"the budget is spent: {budget.studies} studies within {format_duration(budget.within)}"
    if idle:
        return Decision("nothing to do", triggers, notes, reasons=(idle,)), state.course
    studied, duels = _studied(state, say)
    course = replace(
        state.course,
        studied=(*state.course.studied, *[state.now] * len(studied))[-1000:],
        definitions=state.definitions,
    )
    held, same = (state.champion.models if state.champion else {}), state.champion is None or state.same_features
    answer, reasons = decide(duels, studied, held=held, same_features=same)
    made = Decision(answer, triggers, notes, studied, duels, reasons)
    if answer != "promoted":
        return made, course
    try:
        if state.champion is not None and state.policy.shadow is not None:
            return _in_shadow(state, made, course, say)
        failed = [
            fault for fought in duels for fault in state.policy.gates.failed(fought) if fought.verdict == "better"
        ]
        if failed:
            return replace(made, answer="kept", reasons=(*reasons, *failed)), course
        say("promoting")
        promotion = release.promote(state.project, versions=_versions(state, studied, duels))
        return replace(made, versions=promotion.models), course
    except BundleError as problem:
        return replace(made, answer="kept", reasons=(*reasons, str(problem))), course


def _in_shadow(state: State, made: Decision, course: Course, say: Progress) -> tuple[Decision, Course]:
    """The winners score beside the champion from now on."""
    say("publishing the challenger beside the champion")
    versions = _versions(state, made.studied, made.duels)
    beside, served = release.challenge(state.project, versions), release.served(state.project)
    fresh = tuple(name for name, version in versions.items() if served.get(name) != version)
    course = replace(
        course,
        phase="shadow",
        since=state.now,
        champion=state.champion.digest if state.champion else "",
        version=beside.version,
        digest=beside.tags[DIGEST],
        fresh=fresh,
    )
    reason = f"bundle version {beside.version} scores in the shadow until its outcomes are known"
    return replace(made, answer="in shadow", reasons=(*made.reasons, reason)), course


def _drift(state: State, say: Progress) -> tuple[str | None, tuple[str, ...]]:
    if state.champion is None:
        return None, ()
    say("comparing served with training features")
    try:
        seen = watch(state.project, drawn=lambda report: report.alarms and state.wakes)
    except AnalysisError as problem:
        return None, (f"drift could not be judged: {problem}",)
    notes = (seen.report.headline, f"drift page: {seen.files['page']}")
    if seen.report.unchecked:
        return None, (*notes, f"drift starts nothing while the replay check cannot be made: {seen.report.unchecked}")
    return seen.report.verdict, notes


def _unreleased(state: State) -> Iterator[str]:
    names = [name for name in state.specs if state.champion is not None and name not in state.champion.models]
    if names:
        yield f"not released yet, so left to a person (`ethogram study run`, `ethogram promote`): {', '.join(names)}"


def _triggers(state: State, drift: str | None, *, force: bool) -> list[str]:
    if state.champion is None:
        return ["nothing is published yet"]
    newest, known, every = state.now, state.known_until, state.policy.triggers.every
    triggers = ["asked for"] if force else []
    if every is not None and newest - known >= every:
        triggers.append(f"the log has grown by {format_duration(every)} or more, from {iso(known)} to {iso(newest)}")
    if not state.wakes:
        return triggers
    if drift == "drift" and state.policy.triggers.drift:
        triggers.append("the served users are not those of the training rows (drift)")
    if not state.same_features:
        triggers.append("features.yaml declares other features than the champion computes")
    return triggers


def _studied(state: State, say: Progress) -> tuple[tuple[Studied, ...], tuple[Duel, ...]]:
    studied, duels = [], []
    for name in state.to_study()[: max(state.left, 0)]:
        study = Study(name, state.specs[name])
        try:
            rows = study.rows(state.project, log=state.declared.log)
            mended = _mended(state, study, rows, say)
            if mended is None:
                result = study.run(state.project, rows=rows, progress=say)
        except StudyError as problem:
            studied.append(Studied(name, None, f"it cannot be run: {problem}", ""))
            continue
        if mended is not None:
            studied.append(mended[0])
            duels.append(mended[1])
            continue
        refused = f"; not to be promoted: {'; '.join(result.refused)}" if result.refused else ""
        version = None if result.refused else result.version
        studied.append(Studied(name, version, result.verdict + refused, result.run_id))
        held = state.champion is not None and name in state.champion.models
        if result.folder is not None and version is not None and held:
            fought = _fought(state, study, rows, Model.load(result.folder))
            duels += [fought] if fought else []
    return tuple(studied), tuple(duels)


def _mended(state: State, study: Study, rows: TrainingSet, say: Progress) -> tuple[Studied, Duel] | None:
    """The champion recalibrated, where that is better and it ranks as well as when it was judged; else None."""
    if not (
        state.policy.recalibrate and state.same_features and state.champion and study.name in state.champion.models
    ):
        return None
    model, spec = state.champion.models[study.name], study.spec
    tried = recalibrated(model, spec, rows) if isinstance(spec, PropensitySpec) else None
    if tried is None or tried[1].verdict != "better" or list(state.policy.gates.failed(tried[1])):
        return None
    ranked, before = tried[1].champion["roc_auc"], _ranked(state.champion, study.name)
    if before is not None and ranked.high < before:
        return None
    say(f"{study.name}: recalibration is enough")
    made = registered(state.project, state.champion, tried[0], rows, tried[1])
    return Studied(study.name, made.version, "recalibrated, no study is needed", ""), tried[1]


def _ranked(champion: Bundle, study: str) -> float | None:
    """ROC-AUC of the rows that the champion's model was judged on; None where it keeps no outcomes."""
    file = champion.path / "models" / study / REFERENCE
    rows = pl.read_parquet(file) if file.exists() else pl.DataFrame()
    if "label" not in rows.columns or rows["label"].n_unique() < 2:
        return None
    return Ranking.of(rows["label"].to_numpy(), rows["score"].to_numpy()).roc_auc


def _fought(state: State, study: Study, rows: TrainingSet, challenger: Model) -> Duel | None:
    """On the newest cut whose outcomes are known: the challenger has not seen it, and the champion is no newer."""
    if not isinstance(study.spec, PropensitySpec) or state.champion is None:
        return None
    test = rows.split_by_time()[2]
    held = test if state.same_features else _as_seen(state.declared, state.champion, study.spec)
    if held.matrix.users.tolist() != test.matrix.users.tolist():
        raise StudyError(f"study {study.name!r}: champion and challenger were not shown the same users.")
    champion = state.champion.models[study.name]
    return between(study.name, test, champion.score(held.matrix), challenger.score(test.matrix))


def _as_seen(declared: Declared, champion: Bundle, spec: PropensitySpec) -> TrainingSet:
    asked = spec.predicts, spec.cuts, spec.population, spec.blind_spot
    return declared.rows(*asked, features=champion.features).split_by_time()[2]


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
    end, answer = f"{to_datetime(state.now):%Y%m%dT%H%M%SZ}", decision.answer.replace(" ", "-")
    place = state.project.path("reports") / f"loop-{end}-{answer}"
    tracking = Tracking(state.project)
    index = (state.project.path("reports") / overview.PAGE).as_uri()
    tags = {
        "ethogram.decision": decision.answer,
        "ethogram.drift": decision.drift or "not judged",
        "ethogram.overview": index,
    }
    run = tracking.start("loop", search=uuid4().hex[:16], tags=tags)
    with tracking.ending(run):
        files = {"page": place / "loop.html", "document": place / "loop.json"}
        made = replace(decision, run_id=run, files=files, at=state.now)
        pages.write(files["page"], made.to_html())
        pages.write(files["document"], json.dumps(made.to_dict(), indent=1) + "\n")
        tracking.log(run, params={"triggers": "; ".join(made.triggers)}, metrics=made.metrics())
        tracking.files(run, place, "decision")
    overview.overview(state.project)
    return made
