"""Judgement: is it still true, and did it help? Commands `drift`, `replay`, `ab` and `loop`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from console.options import DATA_SCIENCE, OPERATIONS, JsonOption, ProjectOption
from console.terminal import answer, note
from features.errors import AnalysisError

if TYPE_CHECKING:
    from experiments.amendment import Amendment

ApplyOption = Annotated[bool, typer.Option("--apply", help="Write ab.yaml.")]

drift = typer.Typer(help="Is it still true?", no_args_is_help=True)
ab = typer.Typer(help="Judge experiments.", no_args_is_help=True)
loop = typer.Typer(help="Keep what is served true.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(drift, name="drift", rich_help_panel=OPERATIONS)
    app.command("replay", rich_help_panel=OPERATIONS)(replay)
    app.add_typer(ab, name="ab", rich_help_panel=DATA_SCIENCE)
    app.add_typer(loop, name="loop", rich_help_panel=OPERATIONS)


@drift.callback()
def _drift() -> None:
    """Is it still true? Alarms are significant and material; each says what moved and what to do."""


@drift.command("run")
def drift_run(
    window: Annotated[
        str, typer.Option(help="Length of a window back from the newest answer; two of three agree.")
    ] = "1d",
    html: Annotated[Path | None, typer.Option(help="Write a copy of the page here.")] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Compare the users who are served with those the published models were trained on.

    The replay check comes first; then features, scores, outcomes that are known by now, and segments. Exits with 1 when
    there is drift or a pipeline fault. Pages and documents are kept in the project's `reports`; ETHOGRAM_DRIFT_WEBHOOK
    names an address that alarms are sent to.
    """
    from experiments.watch import watch
    from features.instants import parse_duration
    from features.project import Project

    seen = watch(Project.find(project), window=parse_duration(window), html=html)
    answer(seen.to_dict(), str(seen), as_json=json)
    if seen.report.alarms:
        raise typer.Exit(1)


@drift.command("compare")
def drift_compare(
    reference: Annotated[Path, typer.Argument(help="CSV, TSV or Parquet, .gz too.")],
    current: Annotated[Path, typer.Argument(help="The same columns, later.")],
    label: Annotated[str | None, typer.Option(help="Column of outcomes, 0 and 1 or true and false.")] = None,
    prediction: Annotated[str | None, typer.Option(help="Column of predicted probabilities.")] = None,
    user: Annotated[str | None, typer.Option(help="Column of user ids: the last row of each counts.")] = None,
    leave_out: Annotated[list[str] | None, typer.Option(help="Column not to look at. Repeatable.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the page here.")] = None,
    json: JsonOption = False,
) -> None:
    """Compare any two files, with no project around them: one verdict, whether it persists was not judged.

    With a label, performance is compared too; without a prediction a forest learns one from the reference. Exits with 1
    when there is drift.
    """
    from experiments import pages
    from experiments.outcomes import compare_files

    report = compare_files(reference, current, label=label, prediction=prediction, leave_out=leave_out or (), user=user)
    if html:
        note(f"page: {pages.write(html, report.to_html())}")
    once = "one comparison of two files: whether it persists was not judged"
    answer({**report.to_dict(), "persistence": "not judged"}, f"{report}\n\n{once}", as_json=json)
    if report.alarms:
        raise typer.Exit(1)


def replay(
    sample: Annotated[int, typer.Option(min=1, help="Answers to compute again.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Compute answers that were served again from the event log, as known then, and compare every value.

    Exits with 1 when a value differs.
    """
    from experiments.replay import replay as do
    from features.project import Project

    done = do(Project.find(project), sample=sample, seed=seed)
    answer(done.to_dict(), str(done), as_json=json)
    if not done.holds:
        raise typer.Exit(1)


@ab.callback()
def _ab() -> None:
    """Judge experiments: did the variant help, by how much, may it be shipped?"""


@ab.command("analyze")
def ab_analyze(
    file: Annotated[Path | None, typer.Argument(help="CSV, TSV or Parquet, .gz too; one row a user.")] = None,
    test: Annotated[str | None, typer.Option(help="A test of ab.yaml, by our own exposure log, instead.")] = None,
    variant: Annotated[str, typer.Option(help="Column that names the arm.")] = "",
    control: Annotated[str, typer.Option(help="The arm the others are compared with.")] = "",
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Numeric column, or a/b for a ratio; more is better; the first decides. Repeatable."),
    ] = None,
    user: Annotated[str | None, typer.Option(help="Column of user ids: who is in two arms is left out.")] = None,
    weights: Annotated[list[str] | None, typer.Option(help="Intended share, ARM=NUMBER. Once an arm.")] = None,
    covariate: Annotated[
        str | None,
        typer.Option(help="Numeric column from before the exposure (CUPED); with --test: `before`."),
    ] = None,
    by: Annotated[str | None, typer.Option(help="Column known before the exposure: effects per value.")] = None,
    day: Annotated[str | None, typer.Option(help="Column of the first exposure: the difference over days.")] = None,
    since: Annotated[str | None, typer.Option(help="Column of days since it; the rows are a user and day.")] = None,
    guardrail: Annotated[
        list[str] | None, typer.Option(help="Metric that must not get worse; NAME=0.02 tolerates 2 %. Repeatable.")
    ] = None,
    less: Annotated[list[str] | None, typer.Option(help="Metric of which less is better. Repeatable.")] = None,
    correction: Annotated[Literal["holm", "bh"], typer.Option(help="Of p over arms and metrics.")] = "holm",
    cap: Annotated[float | None, typer.Option(min=0.5, max=1, help="Larger values count as this quantile.")] = None,
    nulls: Annotated[Literal["reject", "drop"], typer.Option(help="What to do with missing values.")] = "reject",
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures here.")] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Compare every arm of an experiment with its control: in a file with no project around it, or a test of ab.yaml.

    Exits with 1 when the sample ratio is broken.
    """
    from experiments import pages
    from experiments.ab import analyze
    from experiments.arms import parts_of, read
    from experiments.exposed import Exposed
    from features.project import Project

    if test is not None:
        asked = (file, variant, control, metric, user, weights, by, day, since, guardrail, less)
        if any(asked) or covariate not in (None, "before"):
            raise AnalysisError("ab.yaml says what a test compares. Hint: --test goes with --covariate before alone.")
        found = Project.find(project)
        people = Exposed.of(found, test)
        result = people.analyze(correction=correction, cap=cap, covariate=covariate is not None)
        html = html or found.path("reports") / f"ab-{test}.html"
    elif file is None or not (variant and control and metric):
        raise AnalysisError("what is compared? Hint: FILE --variant COLUMN --control NAME --metric COLUMN, or --test.")
    else:
        guards = {name: share or 0.0 for name, share in (_pair(text, "a guardrail") for text in guardrail or ())}
        sides = [part for one in (*metric, *guards) for part in (one, *parts_of(one))]
        columns = [variant, *sides, *(each for each in (user, covariate, by, day, since) if each)]
        result = analyze(
            read(file, columns),
            variant=variant,
            control=control,
            metrics=metric,
            user=user,
            weights=_weights(weights) if weights else None,
            covariate=covariate,
            by=by,
            day=day,
            since=since,
            guards=guards,
            less=less or (),
            correction=correction,
            cap=cap,
            nulls=nulls,
        )
    if html:
        note(f"page: {pages.write(html, result.to_html())}")
    answer(result.to_dict(), str(result), as_json=json)
    if not result.sample_ratio.holds:
        raise typer.Exit(1)


@ab.command("design")
def ab_design(
    baseline: Annotated[float, typer.Option(help="Mean of the metric now; a share without --sd.")],
    effect: Annotated[float | None, typer.Option(help="Smallest true difference that must be found.")] = None,
    users: Annotated[int | None, typer.Option(help="In each arm: what do so many find?")] = None,
    told: Annotated[float, typer.Option(help="Share of the variance that a covariate or strata tell.")] = 0.0,
    sd: Annotated[float | None, typer.Option(help="Standard deviation of the metric.")] = None,
    arms: Annotated[int, typer.Option(min=2, help="Control included.")] = 2,
    power: Annotated[float, typer.Option(help="How often it is to be found.")] = 0.8,
    per_day: Annotated[float | None, typer.Option(help="Users a day, all arms together.")] = None,
    json: JsonOption = False,
) -> None:
    """How many users, and days, an experiment needs before it starts; or the effect that so many users find."""
    from experiments.design import design

    made = design(baseline, effect, rows=users, sd=sd, told=told, arms=arms, power=power, per_day=per_day)
    answer(made.to_dict(), str(made), as_json=json)


@ab.command("simulate")
def ab_simulate(
    file: Annotated[Path, typer.Argument(help="CSV, TSV or Parquet, .gz too; one row a user.")],
    metric: Annotated[str, typer.Option(help="Numeric column.")],
    times: Annotated[int, typer.Option(min=1, help="Experiments to draw.")] = 2000,
    effect: Annotated[float, typer.Option(help="Added to the second arm; 0: every difference called is false.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    json: JsonOption = False,
) -> None:
    """Draw two arms at random among the file's rows, again and again: how often is a difference called?"""
    from experiments.arms import numbers_of, read
    from experiments.design import simulate

    simulated = simulate(numbers_of(read(file), metric), metric, times=times, effect=effect, seed=seed)
    answer(simulated.to_dict(), str(simulated), as_json=json)


@ab.command("rollout")
def ab_rollout(
    test: Annotated[str, typer.Argument(help="A test of ab.yaml.")],
    arm: Annotated[str | None, typer.Argument(help="What everybody is to see; else what the analysis ships.")] = None,
    apply: ApplyOption = False,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Show an arm to everybody from now on: the change to ab.yaml, made with --apply."""
    from experiments.amendment import rollout
    from features.project import Project

    _amended(rollout(Project.find(project), test, arm), apply=apply, json=json)


@ab.command("balance")
def ab_balance(
    test: Annotated[str, typer.Argument(help="A test of ab.yaml that nobody was exposed to yet.")],
    seeds: Annotated[int, typer.Option(min=1, help="Of so many the best is taken.")] = 200,
    apply: ApplyOption = False,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Find the seed whose arms divide the test's segments most evenly: the change to ab.yaml, made with --apply."""
    from experiments.amendment import balance
    from features.project import Project

    _amended(balance(Project.find(project), test, seeds=seeds), apply=apply, json=json)


def _amended(change: "Amendment", *, apply: bool, json: bool) -> None:
    told, hint = str(change), "nothing is changed yet. Hint: --apply writes it."
    answer({**change.to_dict(), "applied": apply}, told if apply else f"{told}\n\n{hint}", as_json=json)
    if apply:
        change.apply()


def _weights(given: list[str]) -> dict[str, float]:
    pairs = [_pair(text, "a weight") for text in given]
    for text, (_, number) in zip(given, pairs, strict=True):
        if number is None:
            raise AnalysisError(f"a weight is written ARM=NUMBER. Got {text!r}.")
    return {name: number for name, number in pairs if number is not None}


def _pair(text: str, what: str) -> tuple[str, float | None]:
    """`NAME=NUMBER`; None where there is a name alone."""
    name, equals, number = text.rpartition("=")
    if not equals:
        return text, None
    try:
        return name, float(number)
    except ValueError:
        raise AnalysisError(f"{what} is written NAME=NUMBER. Got {text!r}.") from None


@loop.callback()
def _loop() -> None:
    """Keep what is served true: look, study, compare, promote, watch; people approve, veto and pause."""


@loop.command("run")
def loop_run(
    once: Annotated[bool, typer.Option("--once", help="One turn, then end (for cron and the like).")] = False,
    force: Annotated[bool, typer.Option("--force", help="Study whether there is a reason or not.")] = False,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Drift or schedule, recalibration or studies, a challenger in the shadow, a contest, promotion or not, a watch.

    Every turn takes one step that loop.yaml allows, and is recorded in MLflow with its figures and reasons. Without
    `--once` turns follow each other after its `pause`. Exits with 0 whatever was decided.
    """
    import time

    from experiments.loop import run_once
    from experiments.policy import Policy
    from features.instants import SECOND
    from features.project import Project

    found = Project.find(project)
    while True:
        decision = run_once(found, force=force, progress=note)
        answer(decision.to_dict(), str(decision), as_json=json)
        if once:
            return
        time.sleep(Policy.of(found).pause / SECOND)


@loop.command("status")
def loop_status(project: ProjectOption = None, json: JsonOption = False) -> None:
    """Where the loop stands, what it is waiting for, and what it decided of late."""
    from experiments.status import Status
    from features.project import Project

    status = Status.of(Project.find(project))
    answer(status.to_dict(), str(status), as_json=json)


ReasonOption = Annotated[str, typer.Option("--reason", help="Kept with the decision.")]


@loop.command("approve")
def loop_approve(reason: ReasonOption = "", project: ProjectOption = None) -> None:
    """The challenger may be promoted, once it has shown what loop.yaml asks."""
    _say("approve", reason, project)


@loop.command("veto")
def loop_veto(reason: ReasonOption = "", project: ProjectOption = None) -> None:
    """The challenger is taken back; while a promotion is watched, it is rolled back."""
    _say("veto", reason, project)


@loop.command("pause")
def loop_pause(reason: ReasonOption = "", project: ProjectOption = None) -> None:
    """No turn does anything until `loop resume`."""
    _say("pause", reason, project)


@loop.command("resume")
def loop_resume(reason: ReasonOption = "", project: ProjectOption = None) -> None:
    """The loop goes on."""
    _say("resume", reason, project)


def _say(word: Literal["approve", "veto", "pause", "resume"], reason: str, project: Path | None) -> None:
    from experiments.course import say
    from features.project import Project

    told = say(Project.find(project), word, reason)
    answer({"word": word, "told": told}, told, as_json=False)
