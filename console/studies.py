"""Commands about studies: `features`, `study run | resume | join | ...`, `promote`, `rollback`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from console.terminal import DATA_SCIENCE, OPERATIONS, EngineOption, JsonOption, ProjectOption, answer, table, working
from features.errors import ProjectError

if TYPE_CHECKING:
    from features.behaviour.feature_set import FeatureSet
    from features.project import Project
    from training.scoring import Scored

WorkersOption = Annotated[int, typer.Option(min=1, max=64, help="Processes that try parameters at the same time.")]
TABLE = "A file instead of a project"

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
    as_json: JsonOption = False,
) -> None:
    """List the features of the project: what is computed of every user, in training and in a request."""
    from features.project import Project

    if context.invoked_subcommand:
        return
    if mine is not None:
        _mine(Project.find(project), mine, of, support=support, engine=engine, as_json=as_json)
        return
    if out is not None:
        scored = _scored(Project.find(project), out, at=at, scores=scores, engine=engine)
        answer(scored.to_dict(), str(scored), as_json=as_json)
        return
    found = _feature_set(Project.find(project))
    rows = [(each.name, each.meaning()) for each in found.features if not each.hidden]
    told = [{"name": name, "meaning": meaning} for name, meaning in rows]
    text = f"{table(rows, ('feature', 'meaning'))}\n{len(rows)} features, fingerprint {found.fingerprint}"
    answer({"features": told, "fingerprint": found.fingerprint}, text, as_json=as_json)


@listed.command("check")
def check(
    *,
    logs: Annotated[int, typer.Option(min=1, help="Random users, each at four instants.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of the random logs.")] = 0,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put the functions of definitions.py through the laws of features, on random logs of the plan."""
    from features.behaviour.proof import prove
    from features.events.plan import TrackingPlan
    from features.project import Project

    found = Project.find(project)
    plan = TrackingPlan.read(found.file("plan.yaml"))
    proof = prove(_feature_set(found, proven=True), plan, n_logs=logs, seed=seed)
    answer(proof.to_dict(), str(proof), as_json=as_json)
    if proof.broken:
        raise typer.Exit(1)


def _mine(project: "Project", name: str, of: str, *, support: float, engine: str, as_json: bool) -> None:
    from experiments.study import Study
    from features.spark import session

    events = [each.strip() for each in of.split(",")] if of else []
    with working(f"mine {name}") as say:
        say("sessions")
        spark = session() if engine == "spark" else None
        found = Study.from_yaml(project, name).mine(project, of=events, support=support, spark=spark)
    answer(found.to_dict(), str(found), as_json=as_json)


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


@study.callback()
def _study() -> None:
    """Ask a question of the log: search, judge, record, keep."""


@study.command("run")
def run(
    name: Annotated[str | None, typer.Argument(help="A study of studies.yaml.")] = None,
    *,
    file: Annotated[
        Path | None,
        typer.Option("--table", help="A CSV, TSV or Parquet file instead of a project.", rich_help_panel=TABLE),
    ] = None,
    label: Annotated[
        str, typer.Option(help="The column that is predicted; with --algorithm compared with.", rich_help_panel=TABLE)
    ] = "",
    algorithm: Annotated[
        str | None,
        typer.Option(help="Look for clusters instead: kmeans, ward, dbscan, hdbscan, gaussian.", rich_help_panel=TABLE),
    ] = None,
    k: Annotated[
        str, typer.Option(help="Of clusters: how many, LEAST-MOST or one number.", rich_help_panel=TABLE)
    ] = "2-8",
    prepare: Annotated[
        str, typer.Option(help="Of clusters: steps, with commas between, or none.", rich_help_panel=TABLE)
    ] = "log,standardise",
    positive: Annotated[
        str | None, typer.Option(help="Its positive value (default: true, 1, yes or the rarer).", rich_help_panel=TABLE)
    ] = None,
    split: Annotated[
        Literal["folds", "time", "column"], typer.Option(help="Which rows are judged.", rich_help_panel=TABLE)
    ] = "folds",
    column: Annotated[
        str | None, typer.Option(help="Of time or column: the column's name.", rich_help_panel=TABLE)
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option(help="Of column: a value whose rows are judged. Repeatable.", rich_help_panel=TABLE),
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Rows with the same value stay together.", rich_help_panel=TABLE)
    ] = None,
    known_later: Annotated[
        list[str] | None,
        typer.Option(help="A column that is not known when predicting. Repeatable.", rich_help_panel=TABLE),
    ] = None,
    trusted: Annotated[
        list[str] | None,
        typer.Option(help="A column that may tell the label alone. Repeatable.", rich_help_panel=TABLE),
    ] = None,
    sensitive: Annotated[
        list[str] | None, typer.Option(help="Judged by, not learned from. Repeatable.", rich_help_panel=TABLE)
    ] = None,
    leave_out: Annotated[list[str] | None, typer.Option(help="No feature. Repeatable.", rich_help_panel=TABLE)] = None,
    copies_allowed: Annotated[
        bool, typer.Option("--copies-allowed", help="Many equal positive rows are real.", rich_help_panel=TABLE)
    ] = False,
    trials: Annotated[int, typer.Option(min=1, help="Of each search.", rich_help_panel=TABLE)] = 10,
    seeds: Annotated[int, typer.Option(min=1, help="Times it is all done again.", rich_help_panel=TABLE)] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The first.", rich_help_panel=TABLE)] = 7,
    workers: WorkersOption = 1,
    engine: EngineOption = "local",
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
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
            figures = Study.from_dict({"name": "table", **table}).answer(file, progress=say, workers=workers)
        answer(figures.to_dict(), str(figures), as_json=as_json)
        return
    if name is None:
        raise typer.BadParameter("name a study of studies.yaml, or a file with --table.")
    from features.events.engine import engine_named
    from features.events.log import EventLog
    from features.project import Project

    found = Project.find(project)
    asked = Study.from_yaml(found, name)
    with working(name) as say:
        log = EventLog.of(found, engine=engine_named(engine))
        result = asked.run(found, rows=asked.rows(found, log=log), progress=say, workers=workers)
    answer(result.to_dict(), str(result), as_json=as_json)


def _ends(k: str) -> list[int]:
    least, _, most = k.partition("-")
    if not (least.isdigit() and (most or least).isdigit()):
        raise typer.BadParameter(f"--k is a number or LEAST-MOST. Got {k!r}.")
    return [int(least), int(most or least)]


@study.command("list")
def list_(*, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """The studies of the project and their newest models."""
    from experiments.release import standing
    from features.project import Project

    rows = standing(Project.find(project))
    cells = [(each.name, each.kind, each.question, each.version or "-", each.verdict or "not run yet") for each in rows]
    header = ("study", "kind", "question", "version", "verdict")
    answer({"studies": [each.to_dict() for each in rows]}, table(cells, header), as_json=as_json)


@study.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A study of studies.yaml.")],
    *,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """The versions of a study's model: when, how good, and which one is served."""
    from experiments.release import history
    from features.project import Project

    rows = history(Project.find(project), name)
    cells = [(each.version, each.digest[:12], each.features, each.verdict) for each in rows]
    text = table(cells, ("version", "digest", "features", "verdict")) if rows else f"{name} has not been run yet."
    answer({"study": name, "versions": [each.to_dict() for each in rows]}, text, as_json=as_json)


@study.command("resume")
def resume(
    name: Annotated[str, typer.Argument(help="A study of studies.yaml.")],
    *,
    workers: WorkersOption = 1,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with the run that was killed; what it tried counts. `run` does the same, or begins anew."""
    from experiments.study import Study
    from features.project import Project

    found = Project.find(project)
    with working(name) as say:
        result = Study.from_yaml(found, name).run(found, progress=say, resume=True, workers=workers)
    answer(result.to_dict(), str(result), as_json=as_json)


@study.command("join")
def join(
    name: Annotated[str, typer.Argument(help="A study of studies.yaml.")],
    *,
    workers: WorkersOption = 1,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Help a run of another machine, on the same log and the same database of trials; keep nothing."""
    from experiments.study import Study
    from features.project import Project

    found = Project.find(project)
    with working(name) as say:
        trials = Study.from_yaml(found, name).join(found, progress=say, workers=workers)
    answer({"study": name, "trials": trials}, f"{name}: {trials} trials have ended", as_json=as_json)


@study.command("compare")
def compare(
    name: Annotated[str, typer.Argument(help="A study of studies.yaml.")],
    runs: Annotated[list[str] | None, typer.Argument(help="Run ids, their beginnings, or model versions.")] = None,
    *,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Runs of a study beside each other; of two, what was declared differently, and who ranks the same users better."""
    from experiments.runs import compare as do
    from features.project import Project

    found = do(Project.find(project), name, runs or ())
    answer(found.to_dict(), str(found), as_json=as_json)


@study.command("rerun")
def rerun(
    run: Annotated[str, typer.Argument(metavar="RUN_ID", help="MLflow's id of a finished run.")],
    *,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit a recorded run again on the recorded data: exit code 1 unless the same model comes out."""
    from experiments.runs import rerun as do
    from features.project import Project

    with working(run) as say:
        found = do(Project.find(project), run, progress=say)
    answer(found.to_dict(), str(found), as_json=as_json)
    if not found.holds:
        raise typer.Exit(1)


def promote(
    model: Annotated[
        list[str] | None, typer.Option(help="STUDY=VERSION, instead of the study's newest. Repeatable.")
    ] = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Even models that fail their gates; it is recorded.")] = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a bundle of every study's newest model, call it champion, and publish it to the service."""
    from experiments.release import promote as do
    from features.project import Project

    done = do(Project.find(project), versions=_versions(model or []), force=force)
    answer(done.to_dict(), str(done), as_json=as_json)


def _versions(given: list[str]) -> dict[str, int]:
    from features.errors import StudyError

    versions = {}
    for text in given:
        name, _, version = text.partition("=")
        if not version.isdigit():
            raise StudyError(f"--model is STUDY=VERSION. Got {text!r}.")
        versions[name] = int(version)
    return versions


def rollback(*, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Serve the previous bundle again; it and the champion change places."""
    from experiments.release import rollback as do
    from features.project import Project

    done = do(Project.find(project))
    answer(done.to_dict(), str(done), as_json=as_json)
