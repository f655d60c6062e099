"""Commands about events: `ingest`, `quality`, `identity`, `plan`, `erase`."""

import os
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.terminal import (
    DATA_SCIENCE,
    OPERATIONS,
    JsonOption,
    ProjectOption,
    Told,
    answer,
    answered,
    note,
    progress,
    table,
)

if TYPE_CHECKING:
    from features.events.log import EventLog
    from features.events.plan import PropertySpec
    from features.project import Project


def register(app: typer.Typer) -> None:
    """Add the commands about events."""
    for command in (answered(plan), ingest, answered(quality), answered(identity)):
        app.command(rich_help_panel=DATA_SCIENCE)(command)
    app.command(rich_help_panel=OPERATIONS)(answered(erase))


def _log(project: "Project") -> "EventLog":
    from features.events.log import EventLog

    return EventLog.of(project)


def plan(*, project: "Project") -> Told:
    """Check the tracking plan; show its events, their codes and what is personal."""
    from features.events.plan import Codes, TrackingPlan

    read = TrackingPlan.read(project.file("plan.yaml"))
    codes = Codes.of(read, project.file("plan.lock")).codes
    rows: list[tuple[object, ...]] = []
    for event, spec in sorted(read.specs.items(), key=lambda each: codes[each[0]]):
        properties = [(name, *_facts(prop)) for name, prop in spec.properties.items()]
        rows += [(codes[event], event, *each) for each in properties or [("-",) * 5]]
    header = ("code", "event", "property", "type", "unit", "personal", "missing")
    listed = [dict(zip(header, row, strict=True)) for row in rows]
    return Told({"version": read.version, "codes": codes, "properties": listed}, table(rows, header))


def _facts(prop: "PropertySpec") -> tuple[str, ...]:
    return prop.type, prop.unit or "-", prop.personal, prop.missing


def ingest(
    files: Annotated[
        list[Path], typer.Argument(help="CSV, TSV, Parquet, NDJSON or Segment-shaped JSON, also gzipped.")
    ],
    *,
    mapping: Annotated[Path | None, typer.Option("--mapping", "-m", help="YAML: what the columns mean.")] = None,
    source: Annotated[str | None, typer.Option(help="Where the events came from (default: the mapping's).")] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Clean files of events and add them to the log; a file that is there already changes nothing."""
    from features.events.report import CleaningReport
    from features.project import Project

    log = _log(Project.find(project))
    reports: dict[str, CleaningReport] = {}
    for file in progress(files, f"Ingesting {len(files)} file{'s' if len(files) != 1 else ''}"):
        reports[str(file)] = log.ingest(file, mapping=mapping, source=source)
        if not as_json:
            note(f"{file}: {reports[str(file)]}")
    total = sum(reports.values(), CleaningReport())
    document: dict[str, Any] = {"files": {name: report.to_dict() for name, report in reports.items()}}
    answer({**document, "total": total.to_dict()}, str(total), as_json=as_json)


def quality(*, project: "Project") -> Told:
    """What became of every row: duplicates, quarantine, bots, identities; and an inventory of the log."""
    found = _log(project).quality()
    header = ("source", "event", "property", "events", "coverage", "first seen", "last seen")
    rows = [(*row[:4], f"{row[4]:.1%}", *row[5:]) for row in found.inventory()]
    return Told(found.to_dict(), f"{found}\n\n{table(rows, header)}")


def identity(
    one: Annotated[str, typer.Argument(help="An id.")],
    other: Annotated[str | None, typer.Argument(help="Another id: why the two are one person, or not.")] = None,
    *,
    project: "Project",
) -> Told:
    """Whose id this is: the person's ids, since when they are one, and by which links."""
    from features.events.identity import path, persons
    from features.instants import iso

    log = _log(project)
    known, links = log.canonical(), log.links()
    canonical = known.get(one, (one, 0))[0]
    ids = sorted(persons(log.identity(), [one]))
    rows = [(name, iso(known[name][1]) if known.get(name, ("", 0))[1] else "from the start") for name in ids]
    way = [(iso(at), a, b) for at, a, b in path(links, one, other or canonical)]
    text = f"canonical id: {canonical}\n\n{table(rows, ('id', 'joined'))}"
    if other is not None and not way:
        text += f"\n\n{one} and {other} are not linked."
    if way:
        text += f"\n\n{table(way, ('arrived', 'id', 'is'))}"
    same = other is None or other == one or bool(way)
    document = {
        "canonical": canonical,
        "ids": [{"id": name, "joined": joined} for name, joined in rows],
        "same": same,
        "links": [{"arrived": at, "id": a, "is": b} for at, a, b in way],
    }
    return Told(document, text)


def erase(
    user: Annotated[str, typer.Argument(help="Any id of the person.")],
    *,
    project: "Project",
) -> Told:
    """Remove a person everywhere, and keep them out: log, quarantine, state, predictions; a tombstone stays."""
    from features.events.identity import persons

    log = _log(project)
    at = time.time_ns() // 1000
    ids = persons(log.identity(), [user])
    report = log.erase(user, at=at)
    served = _erase_served(project, ids)
    for name in sorted(served - ids):  # joined in the service, but not yet in the log
        report = report + log.erase(name, at=at)
    return Told(vars(report), str(report))


def _erase_served(project: "Project", ids: set[str]) -> set[str]:
    """Take the person out of the service's state, journal and logs of answers and exposures; all ids that it knew."""
    from features.segments.ledger import Ledger
    from serving import exposures
    from serving.predictions import forget
    from serving.settings import Settings
    from serving.store import store_of

    known = set(ids)
    settings = Settings.from_environment({**os.environ, "ETHOGRAM_PROJECT": str(project.root)})
    if settings.redis or settings.state.exists():
        with closing(store_of(settings)) as store:
            known |= {name for one in sorted(ids) for name in store.erase(one, key=project.key)}
    forget(settings.predictions, known, key=project.key)
    exposures.forget(settings.exposures, known)
    Ledger.read(settings.memberships or project.path("memberships")).forget(known)
    return known
