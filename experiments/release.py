"""Release: the newest model of every study becomes a bundle, the registry's champion, and what the service follows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from experiments import studies
from experiments.declared import Declared
from experiments.plain import Plain
from experiments.replay import replay
from experiments.study import DIGEST, GATES
from experiments.tracking import CHALLENGER, CHAMPION, PREVIOUS, Registered, Tracking, scratch
from features.behaviour.feature_set import FeatureSet
from features.behaviour.matrix import FeatureMatrix
from features.errors import AnalysisError, BundleError, LogError, StudyError, nearest
from features.events.log import EventLog
from features.events.rows import Rows
from features.project import Project
from features.segments.program import Snapshot
from features.segments.segment_set import SegmentSet
from features.segments.snapshots import Columns, Work
from features.segments.snapshots import taken as bounds_taken
from training.bundle import CHALLENGER as PUBLISHED_BESIDE
from training.bundle import CURRENT, Bundle, current, publish
from training.model import Model, Scores

SEGMENTS = "ethogram.segments"
FORCED = "ethogram.forced"
REPLAYED = 2_000
"""Answers that are computed again before a promotion."""


@dataclass(frozen=True)
class Promotion(Plain):
    """A bundle that is served from now on.

    Attributes:
        name: The registered bundle: the project's name.
        version: Its version in the registry.
        digest: Its digest.
        folder: Where it is published.
        models: Per study, the version of its registered model.
        previous: The version that was champion before, if any.
        changed: False where this very bundle was champion already.
        forced: The gates that were passed over.
    """

    name: str
    version: int
    digest: str
    folder: Path
    models: Mapping[str, int]
    previous: int | None
    changed: bool
    forced: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.changed:
            return f"{self.name} version {self.version} ({self.digest[:12]}) is champion already; nothing changed."
        inside = ", ".join(f"{study} version {version}" for study, version in self.models.items())
        before = f"; version {self.previous} is `previous`" if self.previous else ""
        head = f"{self.name} version {self.version} ({self.digest[:12]}) is champion{before}"
        return "\n".join([head, f"  {inside}", f"  {self.folder}", *(f"  forced: {each}" for each in self.forced)])


def promote(
    project: Project,
    *,
    versions: Mapping[str, int] | None = None,
    force: bool = False,
    bounds: Mapping[str, Snapshot] | None = None,
) -> Promotion:
    """Make a bundle of one model per study, register it, and publish it.

    Args:
        project: Whose studies.
        versions: Per study, the version to take; the newest where a study is not named.
        force: Promote models that fail their gates; what they fail is kept with the version.
        bounds: Of percentiles, as they are to be served; what is not given is taken anew, of everybody.

    Raises:
        BundleError: a model fails its gates, or was trained on other features than the project's; no study has one.
        DefinitionError: segments.yaml is wrong, or names clusters that the models do not have.
        StudyError: an unknown study or version.
    """
    check_answers(project)
    tracking = Tracking(project)
    chosen = _chosen(project, tracking, versions or {})
    champion = tracking.alias(project.name, CHAMPION)
    taken = {study: each.version for study, each in chosen.items()}
    segments = Declared.of(project).segments({})
    same = (
        bounds is None
        and champion is not None
        and champion.tags.get(SEGMENTS, "") == (segments.fingerprint if segments else "")
    )
    if champion is not None and same and champion.tags.get("ethogram.models") == _listed(taken):
        folder = published(project, tracking, champion)
        return Promotion(project.name, champion.version, champion.tags[DIGEST], folder, taken, None, changed=False)
    failed = _failed(chosen, champion)
    if failed and not force:
        raise BundleError(
            f"{'; '.join(failed)}. Hint: `ethogram study show STUDY` lists older versions for `--model`; `--force` "
            "promotes it all the same, and the registry keeps what it failed."
        )
    return crown(project, _register(project, tracking, chosen, bounds or {}, failed), forced=failed)


def crown(project: Project, made: Registered, *, forced: tuple[str, ...] = ()) -> Promotion:
    """Call a registered bundle the champion, the one before `previous`, and publish it.

    `check_answers` goes before.
    """
    tracking = Tracking(project)
    champion = tracking.alias(project.name, CHAMPION)
    if champion is not None:
        tracking.set_alias(project.name, PREVIOUS, champion.version)
    tracking.set_alias(project.name, CHAMPION, made.version)
    folder, before = published(project, tracking, made), champion.version if champion else None
    digest, models = made.tags[DIGEST], models_of(made)
    return Promotion(project.name, made.version, digest, folder, models, before, changed=True, forced=forced)


def challenge(project: Project, versions: Mapping[str, int]) -> Registered:
    """Register a bundle of these models and publish it beside the champion, where it scores in the shadow.

    Raises what `prepare` does.
    """
    made = prepare(project, versions)
    beside(project, made)
    return made


def prepare(project: Project, versions: Mapping[str, int], bounds: Mapping[str, Snapshot] | None = None) -> Registered:
    """Register a bundle of these models; `crown` has it answer.

    Args:
        project: Whose.
        versions: Per study, the version to take.
        bounds: As for `promote`.

    Raises:
        BundleError: a model fails its gates, or was trained on other features than the project's.
    """
    tracking = Tracking(project)
    chosen = _chosen(project, tracking, versions)
    failed = _failed(chosen, tracking.alias(project.name, CHAMPION))
    if failed:
        raise BundleError("; ".join(failed))
    return _register(project, tracking, chosen, bounds or {}, ())


def beside(project: Project, made: Registered | None) -> None:
    """Let a registered bundle score in the shadow of the champion; None: no more."""
    tracking = Tracking(project)
    if made is not None:
        tracking.set_alias(project.name, CHALLENGER, made.version)
        published(project, tracking, made, pointer=PUBLISHED_BESIDE)
    elif tracking.alias(project.name, CHALLENGER) is not None:
        tracking.drop_alias(project.name, CHALLENGER)
        (project.path("bundles") / PUBLISHED_BESIDE).unlink(missing_ok=True)


def _failed(chosen: Mapping[str, Registered], champion: Registered | None) -> tuple[str, ...]:
    """What the models fail that the champion does not hold already."""
    held = models_of(champion) if champion else {}
    fresh = {study: each for study, each in chosen.items() if held.get(study) != each.version}
    return tuple(
        f"{study} version {each.version} fails its gates: {each.tags[GATES]}"
        for study, each in fresh.items()
        if each.tags.get(GATES)
    )


def check_answers(project: Project) -> None:
    """Answers that were served come out the same from the event log; before the first live answer nothing has to.

    Raises:
        BundleError: a value differs, or not one answer can be compared, so that nothing is known.
    """
    if not any(project.path("predictions").glob("*/*.parquet")):
        return
    try:
        found = replay(project, sample=REPLAYED)
    except AnalysisError:  # nothing live was served
        return
    except LogError as error:
        raise BundleError(f"served answers cannot be computed again: {error}") from None
    if not found.values:
        raise BundleError(
            "not one served answer can be compared with the event log. Hint: promote once people whom the log knows "
            f"have been answered again; where the log was replaced, move {project.path('predictions')} away.\n{found}"
        )
    if not found.holds:
        raise BundleError(f"served answers do not come out of the event log again. Hint: `ethogram replay`.\n{found}")


def rollback(project: Project) -> Promotion:
    """Serve the previous bundle again; it and the champion change places.

    Raises:
        BundleError: there is no previous bundle.
    """
    tracking = Tracking(project)
    champion, previous = tracking.alias(project.name, CHAMPION), tracking.alias(project.name, PREVIOUS)
    if champion is None or previous is None:
        raise BundleError("there is no previous bundle. Hint: a second `ethogram promote` makes one.")
    published(project, tracking, previous)  # before any alias moves: what it was made of may be gone
    return crown(project, previous)


@dataclass(frozen=True)
class Version(Plain):
    """A registered model of a study."""

    version: int
    digest: str
    features: str
    verdict: str


@dataclass(frozen=True)
class Standing(Plain):
    """A declared study and its newest model."""

    name: str
    kind: str
    question: str
    version: int | None
    verdict: str


def served(project: Project) -> dict[str, int]:
    """Per study, the version of its model in the champion; empty before the first release."""
    champion = Tracking(project).alias(project.name, CHAMPION)
    return models_of(champion) if champion else {}


def history(project: Project, study: str) -> list[Version]:
    """The versions of a study's model, the newest first.

    Raises:
        StudyError: an unknown study.
    """
    studies.named(Declared.of(project).studies, study)
    tracking = Tracking(project)
    return [_version(each) for each in tracking.versions(tracking.name(study))]


def _version(each: Registered) -> Version:
    tags = each.tags
    return Version(
        each.version, tags.get(DIGEST, ""), tags.get("ethogram.features", ""), tags.get("ethogram.verdict", "")
    )


def standing(project: Project) -> list[Standing]:
    """Every declared study, in the order of studies.yaml."""
    tracking, rows = Tracking(project), []
    for name, spec in Declared.of(project).studies.items():
        newest = next((_version(each) for each in tracking.versions(tracking.name(name))), None)
        question = studies.question(spec)
        version, verdict = (newest.version, newest.verdict) if newest else (None, "")
        rows.append(Standing(name, spec.kind, question, version, verdict))
    return rows


def _chosen(project: Project, tracking: Tracking, versions: Mapping[str, int]) -> dict[str, Registered]:
    declared = Declared.of(project).of_log
    for study in versions:
        if study not in declared:
            raise StudyError(f"unknown study {study!r}. {nearest(study, declared)}")
    chosen = {}
    for study in declared:
        registered = tracking.versions(tracking.name(study))
        wanted = [each for each in registered if each.version == versions.get(study, each.version)]
        if study in versions and not wanted:
            raise StudyError(f"study {study!r} has no version {versions[study]}. Hint: `ethogram study show {study}`.")
        if wanted:
            chosen[study] = wanted[0]
    if not chosen:
        raise BundleError("no study has a model yet. Hint: `ethogram study run NAME`.")
    return chosen


def scored(models: Mapping[str, Model], matrix: FeatureMatrix) -> dict[str, Scores]:
    """What every model says of the rows of a matrix that holds its features."""
    return {study: each.score_values(matrix.select(each.preparation.names).values) for study, each in models.items()}


def bounded(
    segments: SegmentSet,
    log: EventLog,
    features: FeatureSet,
    models: Mapping[str, Model],
    known: Mapping[str, Snapshot],
) -> SegmentSet:
    """The segments with the bounds of their percentiles.

    Args:
        segments: Without any.
        log: Of whom they are taken: everybody, as of its last event.
        features: What the segments ask.
        models: The same.
        known: Bounds that stay as they are.
    """
    if all(node.cut is None or node.cut.key in known for node in segments.nodes):
        return segments.fitted(known)
    schema, at = features.schema.union(segments.schema), log.span()[1]
    features = features.on(schema)

    def part(work: Work, rows: Rows) -> Columns:
        histories = rows.histories(schema)
        matrix = features.compute(histories, at, threads=1)
        return work(histories, matrix, scored(models, matrix))

    return segments.fitted(bounds_taken(segments.on(schema), lambda w: log.map(partial(part, w)), at, known=known))


def _register(
    project: Project,
    tracking: Tracking,
    chosen: Mapping[str, Registered],
    bounds: Mapping[str, Snapshot],
    forced: tuple[str, ...],
) -> Registered:
    declared = Declared.of(project)
    log, features = declared.log, declared.features
    log.codes.write(project.file("plan.lock"))
    version = max((each.version for each in tracking.versions(project.name)), default=0) + 1
    with scratch() as temporary:
        models = {study: tracking.fetch(each, Path(temporary) / study) for study, each in chosen.items()}
        for study, folder in models.items():
            _check(study, folder, chosen[study])
        loaded = {study: Model.load(folder) for study, folder in models.items()}
        segments = declared.segments({study: model.names for study, model in loaded.items()})
        bundle = Bundle.write(
            Path(temporary) / "bundle",
            name=project.name,
            version=str(version),
            features=features,
            models=models,
            segments=bounded(segments, log, features, loaded, bounds) if segments else None,
            plan=project.file("plan.yaml"),
            lock=project.file("plan.lock"),
        )
        listed = _listed({study: each.version for study, each in chosen.items()})
        run = tracking.start("bundle", search=bundle.digest[:16], tags={DIGEST: bundle.digest})
        with tracking.ending(run):
            tags = {
                DIGEST: bundle.digest,
                "ethogram.models": listed,
                SEGMENTS: segments.fingerprint if segments else "",
                **({FORCED: "; ".join(forced)} if forced else {}),
            }
            return tracking.register(run, bundle.path, project.name, tags=tags)


def _check(study: str, folder: Path, registered: Registered) -> None:
    found = Model.load(folder, verify=True).digest
    if found != registered.tags.get(DIGEST, found):
        raise BundleError(
            f"{registered.name} version {registered.version} was altered. Hint: `ethogram study run {study}`."
        )


def published(
    project: Project,
    tracking: Tracking,
    registered: Registered,
    check: Callable[[Path, Registered], None] = lambda _folder, _registered: None,
    pointer: str = CURRENT,
) -> Path:
    """The bundle of a version, published: from the folder that has it already, else from the registry.

    Args:
        project: Whose.
        tracking: Its registry.
        registered: The version.
        check: Raises where the bundle that was found must not be published.
        pointer: The file of the bundles folder that names it.
    """
    digest, bundles = registered.tags[DIGEST], project.path("bundles")
    there = current(bundles, pointer)
    if there is not None and there.name == digest:
        return there
    if (bundles / digest).exists():
        check(bundles / digest, registered)
        return publish(bundles / digest, bundles, pointer=pointer)
    with scratch() as temporary:
        found = tracking.fetch(registered, Path(temporary))
        check(found, registered)
        return publish(found, bundles, pointer=pointer)


def _listed(models: Mapping[str, int]) -> str:
    return ", ".join(f"{study}={version}" for study, version in sorted(models.items()))


def models_of(bundle: Registered) -> dict[str, int]:
    """Per study the version of its model in a registered bundle."""
    pairs = (each.partition("=") for each in bundle.tags["ethogram.models"].split(", "))
    return {study: int(version) for study, _, version in pairs}
