"""Commands about who is in which segment: `segments plan`, `apply`, `explain`, `history`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.options import JsonOption, ProjectOption
from console.terminal import answer, table, working

if TYPE_CHECKING:
    from experiments.enrolment import Enrolment
    from features.project import Project

AtOption = Annotated[str | None, typer.Option("--at", help="ISO instant (default: the log's newest event).")]


def register(commands: typer.Typer) -> None:
    """Add the commands to `ethogram segments`."""
    for command in (plan, apply, explain, history):
        commands.command()(command)


def _instant(text: str | None) -> int | None:
    from features.instants import parse_instant

    return None if text is None else parse_instant(text)


def _found(project: Path | None) -> "Project":
    from features.project import Project

    return Project.find(project)


def _planned(project: Path | None, at: str | None) -> "Enrolment":
    from experiments.enrolment import Enrolment

    with working("plan") as told:
        return Enrolment.plan(_found(project), at=_instant(at), told=told)


def plan(*, at: AtOption = None, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Show who would enter and leave which segment, with reasons; nothing changes."""
    found = _planned(project, at)
    answer(found.to_dict(), str(found), as_json=as_json)


def apply(*, at: AtOption = None, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Do what `plan` shows: write the memberships, and serve the segments where a bundle is in service."""
    found = _planned(project, at)
    ledger = found.apply()
    answer(found.to_dict(), f"{found}\nwritten to {ledger.folder}", as_json=as_json)


def explain(
    user: Annotated[str, typer.Argument(help="Any id of the person.")],
    segment: Annotated[list[str] | None, typer.Option("--segment", help="Only these (default: all).")] = None,
    *,
    at: AtOption = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Why a person is in a segment or not: conditions, the events behind them, what is pending, since when."""
    from experiments.portrait import Portrait

    found = Portrait.of(_found(project), user, at=_instant(at), names=segment or ())
    answer(found.to_dict(), str(found), as_json=as_json)


def history(
    segment: Annotated[str | None, typer.Option("--segment", help="Only this one.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Only this canonical id.")] = None,
    *,
    at: AtOption = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Who was in what as of any instant, since when and by which cause, as it was applied."""
    from features.instants import NEVER, iso
    from features.segments.ledger import Ledger

    ledger = Ledger.read(_found(project).path("memberships"))
    instant = _instant(at)
    members = ledger.members(NEVER if instant is None else instant, segment=segment, user=user)
    rows = [(name, who, iso(since), cause) for who, name, since, cause in members.iter_rows()]
    header = ("segment", "user", "since", "cause")
    told = [dict(zip(header, row, strict=True)) for row in rows]
    text = table(rows, header) if rows else "nobody is in any of them."
    answer({"members": told}, text, as_json=as_json)
