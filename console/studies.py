"""Commands about studies: `features`, `study run | resume | join | ...`, `promote`, `rollback`."""

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from console.terminal import (
    DATA_SCIENCE,
    OPERATIONS,
    EngineOption,
    ProjectOption,
    Says,
    Told,
    answered,
    table,
    working,
)
from features.errors import ProjectError

if TYPE_CHECKING:
    from features.behaviour.feature_set import FeatureSet
    from features.project import Project
    from training.scoring import Scored

WorkersOption = Annotated[int, typer.Option(min=1, max=64, help="Processes that try parameters at the same time.")]
NameArgument = Annotated[str, typer.Argument(help="A study of studies.yaml.")]
of_table = partial(typer.Option, rich_help_panel="A file instead of a project")

listed = typer.Typer(help="List the features of the project, and prove those of definitions.py.")
study = typer.Typer(help="Ask a question of the log: search, judge, record, keep.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands about studies."""
    app.add_typer(listed, name="features", rich_help_panel=DATA_SCIENCE)
    app.add_typer(study, name="study", rich_help_panel=DATA_SCIENCE)
    app.command("promote", rich_help_panel=OPERATIONS)(promote)
    app.command("rollback", rich_help_panel=OPERATIONS)(rollback)


def _feature_set(project: "Project", *, proven: bool = False) -> "FeatureSet":
    from features.behaviour.feature_set import FeatureSet
    from features.events.plan import Codes, TrackingPlan

    plan = TrackingPlan.read(project.file("plan.yaml"))
    return FeatureSet.of(project, plan, Codes.of(plan, project.file("plan.lock")), proven=proven)


@listed.callback(invoke_without_command=True)
@answered
def features(
    context: typer.Context,
    *,
    mine: Annotated[
        str | None, typer.Option(metavar="STUDY", help="Instead: frequent orders of events, to paste, from its rows.")
    ] = None,
    of: Annotated[str, typer.Option(help="With --mine: these events, with commas between.")] = "",
    support: Annotated[float, typer.Option(min=0, max=1, help="With --mine: least share of the sessions.")] = 0.05,
    out: Annotated[
        Path | None, typer.Option(help="Instead: a folder for everybody's rows, computed; a Parquet file a bucket.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="With --out: as of this ISO 8601 instant (default: now).")] = None,
    scores: Annotated[
        bool, typer.Option("--scores", help="With --out: the published bundle's features, and what its models say.")
    ] = False,
    engine: EngineOption = "local",
    project: ProjectOption = None,
) -> Says | Told | None:
    """List the features of the project: what is computed of every user, in training and in a request."""
    from features.project import Project

    if context.invoked_subcommand:
        return None
    here = Project.find(project)
    if mine is not None:
        return _mined(here, mine, of, support=support, engine=engine)
    if out is not None:
        return _scored(here, out, at=at, scores=scores, engine=engine)
    found = _feature_set(here)
    rows = [(each.name, each.meaning()) for each in found.features if not each.hidden]
    told = [{"name": name, "meaning": meaning} for name, meaning in rows]
    text = f"{table(rows, ('feature', 'meaning'))}\n{len(rows)} features, fingerprint {found.fingerprint}"
    return Told({"features": told, "fingerprint": found.fingerprint}, text)


@listed.command("check")
@answered
def check(
    *,
    logs: Annotated[int, typer.Option(min=1, help="Random users, each at four instants.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of the random logs.")] = 0,
    project: "Project",
) -> Told:
    """Put the functions of definitions.py through the laws of features, on random logs of the plan."""
    from features.behaviour.proof import prove
    from features.events.plan import TrackingPlan

    plan = TrackingPlan.read(project.file("plan.yaml"))
    proof = prove(_feature_set(project, proven=True), plan, n_logs=logs, seed=seed)
    return Told.of(proof, failed=bool(proof.broken))


def _mined(project: "Project", name: str, of: str, *, support: float, engine: str) -> Says:
    from experiments.study import Study
    from features.spark import session

    events = [each.strip() for each in of.split(",")] if of else []
    with working(f"mine {name}") as say:
        say("sessions")
        spark = session() if engine == "spark" else None
        return Study.from_yaml(project, name).mine(project, of=events, support=support, spark=spark)


def _scored(project: "Project", out: Path, *, at: str | None, scores: bool, engine: str) -> "Scored":
    from features.events.engine import engine_named
    from features.events.log import EventLog
    from features.instants import parse_instant
    from training.bundle import Bundle, current
    from training.scoring import score

    instant = parse_instant(at) if at else time.time_ns() // 1000
    folder = current(project.path("bundles")) if scores else None
    if scores and folder is None:
        raise ProjectError("no bundle has been published. Hint: `ethogram promote`.")
    bundle = Bundle.load(folder) if folder else None
    log = EventLog.of(project, engine=engine_named(engine))
    wanted = bundle.features if bundle else _feature_set(project)
    return score(log, wanted, instant, out, models=bundle.models if bundle else None)


@study.command("run")
@answered
def run(
    name: Annotated[str | None, typer.Argument(help="A study of studies.yaml.")] = None,
    *,
    file: Annotated[Path | None, of_table("--table", help="A CSV, TSV or Parquet file instead of a project.")] = None,
    label: Annotated[str, of_table(help="The column that is predicted; with --algorithm compared with.")] = "",
    algorithm: Annotated[
        str | None, of_table(help="Look for clusters instead: kmeans, ward, dbscan, hdbscan, gaussian.")
    ] = None,
    k: Annotated[str, of_table(help="Of clusters: how many, LEAST-MOST or one number.")] = "2-8",
    prepare: Annotated[str, of_table(help="Of clusters: steps, with commas between, or none.")] = "log,standardise",
    positive: Annotated[str | None, of_table(help="Its positive value (default: true, 1, yes or the rarer).")] = None,
    split: Annotated[Literal["folds", "time", "column"], of_table(help="Which rows are judged.")] = "folds",
    column: Annotated[str | None, of_table(help="Of time or column: the column's name.")] = None,
    test: Annotated[list[str] | None, of_table(help="Of column: a value whose rows are judged. Repeatable.")] = None,
    user: Annotated[str | None, of_table(help="Rows with the same value stay together.")] = None,
    known_later: Annotated[
        list[str] | None, of_table(help="A column that is not known when predicting. Repeatable.")
    ] = None,
    trusted: Annotated[list[str] | None, of_table(help="A column that may tell the label alone. Repeatable.")] = None,
    sensitive: Annotated[list[str] | None, of_table(help="Judged by, not learned from. Repeatable.")] = None,
    leave_out: Annotated[list[str] | None, of_table(help="No feature. Repeatable.")] = None,
    copies_allowed: Annotated[bool, of_table("--copies-allowed", help="Many equal positive rows are real.")] = False,
    trials: Annotated[int, of_table(min=1, help="Of each search.")] = 10,
    seeds: Annotated[int, of_table(min=1, help="Times it is all done again.")] = 1,
    seed: Annotated[int, of_table(min=0, help="The first.")] = 7,
    workers: WorkersOption = 1,
    engine: EngineOption = "local",
    project: ProjectOption = None,
) -> Says:
    """Build the rows, search, judge on the newest cut, record in MLflow, and register the model.

    A run that was killed goes on where it stopped when it is started again. With --table FILE --label COLUMN the rows
    are a file's, nothing is recorded, and the figures are the answer; with --algorithm they are clustered.
    """
    from experiments.study import Study

    if file is not None:
        if project is not None or engine != "local":
            raise typer.BadParameter("--table has no project and no log: leave --project and --engine out.")
        if not label and algorithm is None:
            raise typer.BadParameter("--table needs --label COLUMN to predict, or --algorithm to look for clusters.")
        table: dict[str, object] = {"file": file.name, "search": {"trials": trials, "seed": seed}}
        table |= {"label": label or None, "leave_out": leave_out or []}
        special: dict[str, object] = {"positive": positive, "copies_allowed": copies_allowed, "seeds": seeds}
        special |= {"split": {"by": split, "column": column, "test": test or [], "user": user}}
        special |= {"known_later": known_later or [], "trusted": trusted or [], "sensitive": sensitive or []}
        if algorithm is None:
            table |= {"kind": "table", **special}
        elif any((positive, column, test, user, known_later, trusted, sensitive, copies_allowed, seeds > 1)):
            raise typer.BadParameter("--algorithm looks for clusters in all rows: nothing is predicted or kept apart.")
        else:
            steps = [step.strip() for step in prepare.split(",") if step.strip() not in ("", "none")]
            table |= {"kind": "clusters", "algorithm": algorithm, "k": _ends(k)}
            table |= {} if algorithm == "markov" else {"preparation": steps}
        with working(file.name) as say:
            return Study.from_dict({"name": "table", **table}).answer(file, progress=say, workers=workers)
    if name is None:
        raise typer.BadParameter("name a study of studies.yaml, or a file with --table.")
    from features.events.engine import engine_named
    from features.events.log import EventLog
    from features.project import Project

    found = Project.find(project)
    asked = Study.from_yaml(found, name)
    with working(name) as say:
        log = EventLog.of(found, engine=engine_named(engine))
        return asked.run(found, rows=asked.rows(found, log=log), progress=say, workers=workers)


def _ends(k: str) -> list[int]:
    least, _, most = k.partition("-")
    if not (least.isdigit() and (most or least).isdigit()):
        raise typer.BadParameter(f"--k is a number or LEAST-MOST. Got {k!r}.")
    return [int(least), int(most or least)]


@study.command("list")
@answered
def list_(*, project: "Project") -> Told:
    """The studies of the project and their newest models."""
    from experiments.release import standing

    rows = standing(project)
    cells = [(each.name, each.kind, each.question, each.version or "-", each.verdict or "not run yet") for each in rows]
    header = ("study", "kind", "question", "version", "verdict")
    return Told({"studies": [each.to_dict() for each in rows]}, table(cells, header))


@study.command("show")
@answered
def show(name: NameArgument, *, project: "Project") -> Told:
    """The versions of a study's model: when, how good, and which one is served."""
    from experiments.release import history

    rows = history(project, name)
    cells = [(each.version, each.digest[:12], each.features, each.verdict) for each in rows]
    text = table(cells, ("version", "digest", "features", "verdict")) if rows else f"{name} has not been run yet."
    return Told({"study": name, "versions": [each.to_dict() for each in rows]}, text)


@study.command("resume")
@answered
def resume(name: NameArgument, *, workers: WorkersOption = 1, project: "Project") -> Says:
    """Go on with the run that was killed; what it tried counts. `run` does the same, or begins anew."""
    from experiments.study import Study

    with working(name) as say:
        return Study.from_yaml(project, name).run(project, progress=say, resume=True, workers=workers)


@study.command("join")
@answered
def join(name: NameArgument, *, workers: WorkersOption = 1, project: "Project") -> Told:
    """Help a run of another machine, on the same log and the same database of trials; keep nothing."""
    from experiments.study import Study

    with working(name) as say:
        trials = Study.from_yaml(project, name).join(project, progress=say, workers=workers)
    return Told({"study": name, "trials": trials}, f"{name}: {trials} trials have ended")


@study.command("compare")
@answered
def compare(
    name: NameArgument,
    runs: Annotated[list[str] | None, typer.Argument(help="Run ids, their beginnings, or model versions.")] = None,
    *,
    project: "Project",
) -> Says:
    """Runs of a study beside each other; of two, what was declared differently, and who ranks the same users better."""
    from experiments.runs import compare as do

    return do(project, name, runs or ())


@study.command("rerun")
@answered
def rerun(
    run: Annotated[str, typer.Argument(metavar="RUN_ID", help="MLflow's id of a finished run.")],
    *,
    project: "Project",
) -> Told:
    """Fit a recorded run again on the recorded data: exit code 1 unless the same model comes out."""
    from experiments.runs import rerun as do

    with working(run) as say:
        found = do(project, run, progress=say)
    return Told.of(found, failed=not found.holds)


@answered
def promote(
    model: Annotated[
        list[str] | None, typer.Option(help="STUDY=VERSION, instead of the study's newest. Repeatable.")
    ] = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Even models that fail their gates; it is recorded.")] = False,
    project: "Project",
) -> Says:
    """Make a bundle of every study's newest model, call it champion, and publish it to the service."""
    from experiments.release import promote as do

    return do(project, versions=_versions(model or []), force=force)


def _versions(given: list[str]) -> dict[str, int]:
    from features.errors import StudyError

    versions = {}
    for text in given:
        name, _, version = text.partition("=")
        if not version.isdigit():
            raise StudyError(f"--model is STUDY=VERSION. Got {text!r}.")
        versions[name] = int(version)
    return versions


@answered
def rollback(*, project: "Project") -> Says:
    """Serve the previous bundle again; it and the champion change places."""
    from experiments.release import rollback as do

    return do(project)
