"""Commands about who is in which segment, and what they do: `plan`, `apply`, `preview`, ... `kpis`, `export`."""

from typing import TYPE_CHECKING, Annotated

import typer

from console.terminal import Says, Told, answered, note, table, working

if TYPE_CHECKING:
    from experiments.enrolment import Enrolment
    from features.project import Project

SegmentsOption = Annotated[list[str] | None, typer.Option("--segment", help="Only these (default: all).")]
AtOption = Annotated[str | None, typer.Option("--at", help="ISO instant (default: the log's newest event).")]


def register(commands: typer.Typer) -> None:
    """Add the commands to `ethogram segments`."""
    for command in (plan, apply, preview, explain, history, backtest, kpis, export):
        commands.command()(answered(command))


def _instant(text: str | None) -> int | None:
    from features.instants import parse_instant

    return None if text is None else parse_instant(text)


def _planned(project: "Project", at: str | None) -> "Enrolment":
    from experiments.enrolment import Enrolment

    with working("plan") as told:
        return Enrolment.plan(project, at=_instant(at), told=told)


def plan(*, at: AtOption = None, project: "Project") -> Told:
    """Show who would enter and leave which segment, with reasons; nothing changes."""
    found = _planned(project, at)
    notes = _astray(found)
    return Told({**found.to_dict(), "lists": notes}, "\n".join([str(found), *notes]))


def _astray(found: "Enrolment") -> list[str]:
    from experiments.lists import astray

    return astray(found.audience.log, found.audience.segments)


def apply(*, at: AtOption = None, project: "Project") -> Told:
    """Do what `plan` shows: write the memberships, and serve the segments where a bundle is in service."""
    found = _planned(project, at)
    ledger, notes = found.apply(), _astray(found)
    text = "\n".join([str(found), *notes, f"written to {ledger.folder}"])
    return Told({**found.to_dict(), "lists": notes}, text)


def explain(
    user: Annotated[str, typer.Argument(help="Any id of the person.")],
    segment: SegmentsOption = None,
    *,
    at: AtOption = None,
    project: "Project",
) -> Says:
    """Why a person is in a segment or not: conditions, the events behind them, what is pending, since when."""
    from experiments.standing import Standing

    return Standing.of(project, user, at=_instant(at), names=segment or ())


def history(
    segment: Annotated[str | None, typer.Option("--segment", help="Only this one.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Only this canonical id.")] = None,
    *,
    at: AtOption = None,
    project: "Project",
) -> Told:
    """Who was in what as of any instant, since when and by which cause, as it was applied."""
    from experiments.lists import strangers
    from features.errors import AnalysisError
    from features.events.log import EventLog
    from features.instants import NEVER, iso, parse_instant
    from features.segments.ledger import Ledger

    until = NEVER if at is None else parse_instant(at)
    members = Ledger.read(project.path("memberships")).told(until, segment=segment, user=user)
    if user is not None and not members.height and (told_of := strangers(EventLog.of(project), {user})):
        raise AnalysisError(told_of[user])
    rows = [(name, who, iso(since), cause) for who, name, since, cause in members.iter_rows()]
    header = ("segment", "user", "since", "cause")
    told = [dict(zip(header, row, strict=True)) for row in rows]
    text = table(rows, header) if rows else f"{user or 'nobody'} is in none that is told of."
    return Told({"members": told}, text)


def preview(
    segment: SegmentsOption = None,
    days: Annotated[int, typer.Option(min=0, help="How far back the trend goes.")] = 28,
    *,
    at: AtOption = None,
    project: "Project",
) -> Told:
    """Size, share, trend and overlap of segments as they are declared; nothing changes."""
    from experiments.preview import Preview
    from features.instants import iso

    with working("preview") as told:
        found = Preview.of(project, at=_instant(at), days=days, names=segment or (), told=told)
    shown, sizes = found.shown(), found.sizes
    trend = {k: " ".join(f"{size:,}" for size in sizes[:, k].tolist()) for k in shown}
    rows = [(found.names[k], int(sizes[-1, k]), _share(sizes[-1, k], found.n_users), trend[k]) for k in shown]
    matrix = [(found.names[k], *(_share(found.overlap[k, j], sizes[-1, k]) for j in shown)) for k in shown]
    header = ("of these, also in", *(found.names[k] for k in shown))
    begin, end = (iso(int(found.instants[place])) for place in (0, -1))
    told_of = f"as of {end}, {found.n_users:,} people, trend from {begin}"
    hidden = len(found.names) - len(shown)
    text = [told_of, table(rows, ("segment", "size", "share", "trend")), "", table(matrix, header)]
    text += [f"{hidden} below their min_size"] if hidden else []
    return Told(found.to_dict(), "\n".join(text))


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def backtest(
    goal: Annotated[str, typer.Argument(help="Event that counts as conversion.")],
    since: Annotated[str, typer.Option("--from", help="ISO instant of the first date.")],
    until: Annotated[str | None, typer.Option("--to", help="None after this one.")] = None,
    every: Annotated[str, typer.Option(help="Between dates.")] = "7d",
    within: Annotated[str, typer.Option(help="How long after each date is looked at.")] = "7d",
    value: Annotated[str, typer.Option(help="EVENT.property that is summed.")] = "",
    segment: SegmentsOption = None,
    *,
    project: "Project",
) -> Says:
    """Who would have been in on past dates, and what they did next, against everybody else."""
    from experiments.backtest import Asked, Backtest
    from features.instants import parse_duration, parse_instant

    asked = Asked(goal, value, parse_duration(within))
    dates = {"begin": parse_instant(since), "every": parse_duration(every)}
    with working("backtest") as told:
        return Backtest.of(project, asked, end=_instant(until), **dates, names=segment or (), told=told)


def kpis(
    goal: Annotated[str, typer.Argument(help="Event that counts as conversion, and as an order.")],
    value: Annotated[str, typer.Option(help="EVENT.property that is summed.")] = "",
    every: Annotated[str, typer.Option(help="Length of a period.")] = "7d",
    last: Annotated[int, typer.Option(min=1, help="How many periods, the newest complete ones.")] = 12,
    segment: SegmentsOption = None,
    to: Annotated[str | None, typer.Option(help="A .parquet or .csv file, or a database's URL, to write to.")] = None,
    tabled: Annotated[str, typer.Option("--table", help="Of the database.")] = "kpis",
    *,
    project: "Project",
) -> Told:
    """Conversion, order value, retention and life-time value of all segments' cohorts, as a table and a page."""
    from experiments import pages
    from experiments.backtest import Asked
    from experiments.kpis import Kpis
    from features.instants import parse_duration

    asked = Asked(goal, value, parse_duration(every))
    with working("kpis") as told:
        found = Kpis.of(project, asked, last=last, names=segment or (), told=told)
    note(f"page: {pages.write(project.path('reports') / f'kpis-{goal}.html', found.to_html())}")
    text = f"{found}\n{found.write(to, table=tabled):,} rows written to {to}" if to else str(found)
    return Told(found.to_dict(), text)


def export(
    to: Annotated[str, typer.Argument(help="A .parquet or .csv file, or a database's URL, such as sqlite:///crm.db.")],
    segment: SegmentsOption = None,
    tabled: Annotated[str, typer.Option("--table", help="Of the database.")] = "memberships",
    *,
    scores: Annotated[bool, typer.Option("--scores", help="With what every model says.")] = False,
    features: Annotated[bool, typer.Option("--features", help="With their features.")] = False,
    changes: Annotated[bool, typer.Option("--changes", help="The changes that `emit` names instead.")] = False,
    at: AtOption = None,
    project: "Project",
) -> Told:
    """Hand on who is in which segment as applied; a run that is repeated leaves one copy."""
    from experiments.export import Export
    from features.instants import iso

    with working("export") as told:
        kinds = {"scores": scores, "features": features, "changes": changes}
        found = Export.of(project, at=_instant(at), names=segment or (), **kinds)
        told(f"{found.rows.height:,} rows")
        written = found.write(to, table=tabled)
    document = {"rows": written, "segments": list(found.segments), "as_of": iso(found.instants[0])}
    return Told(document, f"{written:,} rows of {len(found.segments)} segments as of {iso(found.instants[0])}")
