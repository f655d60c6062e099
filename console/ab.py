"""A/B tests: before the start, while they run, and after. Command `ab`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from console.terminal import DATA_SCIENCE, ProjectOption, Says, Told, answered, note
from features.errors import AnalysisError

if TYPE_CHECKING:
    from experiments.amendment import Amendment
    from features.project import Project

ApplyOption = Annotated[bool, typer.Option("--apply", help="Write ab.yaml.")]

ab = typer.Typer(help="Judge experiments.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(ab, name="ab", rich_help_panel=DATA_SCIENCE)


@ab.command("analyze")
@answered
def ab_analyze(
    file: Annotated[Path | None, typer.Argument(help="CSV, TSV or Parquet, .gz too; one row a user.")] = None,
    test: Annotated[str | None, typer.Option(help="A test of ab.yaml, by our own exposure log, instead.")] = None,
    holdout: Annotated[bool, typer.Option("--holdout", help="Who is held out of all tests, instead.")] = False,
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
) -> Told:
    """Compare every arm of an experiment with its control: a file's, a test's of ab.yaml, or the holdout's.

    Exits with 1 when the sample ratio is broken.
    """
    from experiments import pages
    from experiments.ab import analyze
    from experiments.arms import parts_of, read
    from experiments.exposed import Exposed
    from features.project import Project

    if test is not None or holdout:
        asked = (holdout and test, file, variant, control, metric, user, weights, by, day, since, guardrail, less)
        if any(asked) or covariate not in (None, "before"):
            raise AnalysisError(
                "ab.yaml says what is compared. Hint: --test, or --holdout, goes with --covariate before alone."
            )
        found = Project.find(project)
        people = Exposed.of(found, test) if test is not None else Exposed.held(found)
        result = people.analyze(correction=correction, cap=cap, covariate=covariate is not None)
        html = html or found.path("reports") / f"ab-{test or 'holdout'}.html"
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
    return Told.of(result, failed=not result.sample_ratio.holds)


@ab.command("design")
@answered
def ab_design(
    baseline: Annotated[float, typer.Option(help="Mean of the metric now; a share without --sd.")],
    effect: Annotated[float | None, typer.Option(help="Smallest true difference that must be found.")] = None,
    users: Annotated[int | None, typer.Option(help="In each arm: what do so many find?")] = None,
    told: Annotated[float, typer.Option(help="Share of the variance that a covariate or strata tell.")] = 0.0,
    sd: Annotated[float | None, typer.Option(help="Standard deviation of the metric.")] = None,
    arms: Annotated[int, typer.Option(min=2, help="Control included.")] = 2,
    power: Annotated[float, typer.Option(help="How often it is to be found.")] = 0.8,
    per_day: Annotated[float | None, typer.Option(help="Users a day, all arms together.")] = None,
) -> Says:
    """How many users, and days, an experiment needs before it starts; or the effect that so many users find."""
    from experiments.design import design

    return design(baseline, effect, rows=users, sd=sd, told=told, arms=arms, power=power, per_day=per_day)


@ab.command("simulate")
@answered
def ab_simulate(
    file: Annotated[Path, typer.Argument(help="CSV, TSV or Parquet, .gz too; one row a user.")],
    metric: Annotated[str, typer.Option(help="Numeric column.")],
    times: Annotated[int, typer.Option(min=1, help="Experiments to draw.")] = 2000,
    effect: Annotated[float, typer.Option(help="Added to the second arm; 0: every difference called is false.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
) -> Says:
    """Draw two arms at random among the file's rows, again and again: how often is a difference called?"""
    from experiments.arms import numbers_of, read
    from experiments.design import simulate

    return simulate(numbers_of(read(file), metric), metric, times=times, effect=effect, seed=seed)


@ab.command("status")
@answered
def ab_status(project: "Project") -> Told:
    """Check ab.yaml, and say how every test stands and how many were exposed to each arm."""
    import time

    from experiments.amendment import standing
    from experiments.pages import Table

    told = standing(project, time.time_ns() // 1000)
    rows = [
        [str(each["test"]), str(each["phase"]), f"{each['share']:.0%}", arm, f"{count:,}"]
        for each in told
        for arm, count in each["exposed"].items()  # type: ignore[attr-defined] # a mapping
    ]
    return Told({"tests": told}, Table(["test", "phase", "share", "arm", "exposed"], rows, texts=2).text())


@ab.command("rollout")
@answered
def ab_rollout(
    test: Annotated[str, typer.Argument(help="A test of ab.yaml.")],
    arm: Annotated[str | None, typer.Argument(help="What everybody is to see; else what the analysis ships.")] = None,
    apply: ApplyOption = False,
    *,
    project: "Project",
) -> Told:
    """Show an arm to everybody from now on: the change to ab.yaml, made with --apply."""
    from experiments.amendment import rollout

    return _amended(rollout(project, test, arm), apply=apply)


@ab.command("balance")
@answered
def ab_balance(
    test: Annotated[str, typer.Argument(help="A test of ab.yaml that nobody was exposed to yet.")],
    seeds: Annotated[int, typer.Option(min=1, help="Of so many the best is taken.")] = 200,
    apply: ApplyOption = False,
    *,
    project: "Project",
) -> Told:
    """Find the seed whose arms divide the test's segments most evenly: the change to ab.yaml, made with --apply."""
    from experiments.amendment import balance

    return _amended(balance(project, test, seeds=seeds), apply=apply)


def _amended(change: "Amendment", *, apply: bool) -> Told:
    told, hint = str(change), "nothing is changed yet. Hint: --apply writes it."
    if apply:
        change.apply()
    return Told({**change.to_dict(), "applied": apply}, told if apply else f"{told}\n\n{hint}")


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
