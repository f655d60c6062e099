"""Judgement: is it still true? Commands `drift`, `replay` and `loop`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.terminal import OPERATIONS, JsonOption, ProjectOption, Says, Told, answer, answered, note, show

if TYPE_CHECKING:
    from experiments.course import Word
    from features.project import Project

drift = typer.Typer(help="Is it still true?", no_args_is_help=True)
loop = typer.Typer(help="Keep what is served true.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(drift, name="drift", rich_help_panel=OPERATIONS)
    app.command("replay", rich_help_panel=OPERATIONS)(replay)
    app.add_typer(loop, name="loop", rich_help_panel=OPERATIONS)


@drift.command("run")
@answered
def drift_run(
    window: Annotated[
        str, typer.Option(help="Length of a window back from the newest answer; two of three agree.")
    ] = "1d",
    html: Annotated[Path | None, typer.Option(help="Write a copy of the page here.")] = None,
    *,
    project: "Project",
) -> Told:
    """Compare the users who are served with those the published models were trained on.

    The replay check comes first; then features, scores, outcomes that are known by now, and segments. Exits with 1 when
    there is drift or a pipeline fault. Pages and documents are kept in the project's `reports`; ETHOGRAM_DRIFT_WEBHOOK
    names an address that alarms are sent to.
    """
    from experiments.watch import watch
    from features.instants import parse_duration

    seen = watch(project, window=parse_duration(window), html=html)
    return Told.of(seen, failed=seen.report.alarms)


@drift.command("compare")
@answered
def drift_compare(
    reference: Annotated[Path, typer.Argument(help="CSV, TSV or Parquet, .gz too.")],
    current: Annotated[Path, typer.Argument(help="The same columns, later.")],
    label: Annotated[str | None, typer.Option(help="Column of outcomes, 0 and 1 or true and false.")] = None,
    prediction: Annotated[str | None, typer.Option(help="Column of predicted probabilities.")] = None,
    user: Annotated[str | None, typer.Option(help="Column of user ids: the last row of each counts.")] = None,
    leave_out: Annotated[list[str] | None, typer.Option(help="Column not to look at. Repeatable.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the page here.")] = None,
) -> Told:
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
    return Told({**report.to_dict(), "persistence": "not judged"}, f"{report}\n\n{once}", failed=report.alarms)


@drift.command("score")
@answered
def drift_score(
    windows: Annotated[int, typer.Option(min=4, help="Days back from the newest whose outcomes are known.")] = 14,
    repeats: Annotated[int, typer.Option(min=1, help="Changes planted of each kind.")] = 10,
    runs: Annotated[int, typer.Option(min=0, help="Of retraining, with a change of meaning in the middle.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn.")] = 0,
    *,
    project: "Project",
) -> Says:
    """Measure the detector on the project's own history: false alarms, power per kind of change, delay, regret.

    Windows of its last days are compared as they came, and with changes planted in them.
    """
    from experiments.detector import History, score

    return score(History.of(project, days=windows), repeats=repeats, runs=runs, seed=seed)


@answered
def replay(
    sample: Annotated[int, typer.Option(min=1, help="Answers to compute again.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    *,
    project: "Project",
) -> Told:
    """Compute answers that were served again from the event log, as known then, and compare every value.

    Exits with 1 when a value differs, or none could be compared.
    """
    from experiments.replay import replay as do

    done = do(project, sample=sample, seed=seed)
    return Told.of(done, failed=not done.holds)


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
@answered
def loop_status(project: "Project") -> Says:
    """Where the loop stands, what it is waiting for, and what it decided of late."""
    from experiments.course import Status

    return Status.of(project)


WORDS: "dict[Word, str]" = {
    "approve": "The challenger may be promoted, once it has shown what loop.yaml asks.",
    "veto": "The challenger is taken back; while a promotion is watched, it is rolled back.",
    "pause": "No turn does anything until `loop resume`.",
    "resume": "The loop goes on.",
}


def _saying(word: "Word") -> Callable[..., None]:
    def said(
        reason: Annotated[str, typer.Option("--reason", help="Kept with the decision.")] = "",
        project: ProjectOption = None,
    ) -> None:
        from experiments.course import say
        from features.project import Project

        show(say(Project.find(project), word, reason))

    return said


for _word, _help in WORDS.items():
    loop.command(_word, help=_help)(_saying(_word))
