"""Commands about definitions of segments: check, schema, format, diff, suggest, review, retire, merge."""

from pathlib import Path
from typing import Annotated

import typer

from console import memberships
from console.terminal import DATA_SCIENCE, JsonOption, ProjectOption, answer, show, table


def register(app: typer.Typer) -> None:
    """Add the commands about segments."""
    commands = typer.Typer(help="Segments: define them, see who enters and leaves, hand them on.", no_args_is_help=True)
    for command in (check, schema, layout, diff, suggest, review, retire, merge):
        commands.command("format" if command is layout else None)(command)
    memberships.register(commands)
    app.add_typer(commands, name="segments", rich_help_panel=DATA_SCIENCE)


def check(*, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Check segments.yaml; list its segments with their class, version and what they rest on."""
    from experiments.declared import Declared
    from experiments.lists import astray
    from features.errors import DefinitionError
    from features.project import Project
    from features.segments.segment_set import FILE

    found = Declared.of(Project.find(project))
    segments = found.segments()
    if segments is None:
        file = found.project.file(FILE)
        raise DefinitionError(f"{file}: no such file. Hint: docs/segments.md shows what it may say.")
    rows = [(each.name, each.kind, each.status, each.version, each.description or "-") for each in segments.segments]
    uses = [segments.uses(each) for each in segments.segments]
    header = ("segment", "class", "status", "version", "description")
    told = [dict(zip(header, row, strict=True)) | {"uses": each} for row, each in zip(rows, uses, strict=True)]
    text = table([(*row, ", ".join(each) or "-") for row, each in zip(rows, uses, strict=True)], (*header, "uses"))
    notes = astray(found.log, segments)
    document = {"segments": told, "fingerprint": segments.fingerprint, "lists": notes}
    answer(document, "\n".join([text, *notes]), as_json=as_json)


def schema() -> None:
    """Print the JSON Schema of segments.yaml, for editors."""
    import json

    from features.segments import format as layouts

    show(json.dumps(layouts.schema(), indent=1))


def layout(
    *,
    project: ProjectOption = None,
    verify: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 where it would.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Lay segments.yaml out one way, comments kept."""
    from features.project import Project
    from features.segments.format import formatted
    from features.segments.segment_set import FILE

    path: Path = Project.find(project).file(FILE)
    text = formatted(path)
    changed = text != path.read_text(encoding="utf-8")
    if changed and not verify:
        path.write_text(text, encoding="utf-8")
    told = "would change" if verify else "is laid out anew"
    answer(
        {"file": str(path), "changed": changed}, f"{FILE} {told if changed else 'is as it should be'}", as_json=as_json
    )
    if changed and verify:
        raise typer.Exit(1)


def diff(
    other: Annotated[Path | None, typer.Argument(help="Another segments.yaml (default: what is served).")] = None,
    *,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which segments are added, removed or edited, and whom that concerns."""
    from console.terminal import working
    from experiments.difference import Difference
    from features.project import Project

    with working("diff") as told:
        found = Difference.of(Project.find(project), other, told=told)
    answer(found.to_dict(), str(found), as_json=as_json)


def suggest(
    study: Annotated[
        str | None, typer.Argument(help="Of which a model is served (default: what `explore` finds).")
    ] = None,
    depth: Annotated[int, typer.Option(min=1, max=6, help="Bounds a rule's part has at most.")] = 3,
    *,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say in rules to paste what a model says, and how often they err; without a study, what `explore` proposes."""
    from console.terminal import working
    from experiments.exploration import explore
    from experiments.proposals import text
    from experiments.suggestion import Suggestion
    from features.project import Project

    if study is None:
        with working("suggest") as told:
            proposals = explore(Project.find(project), progress=told).proposals
        documents = [f"# {file}: to paste into it\n{document}" for file, document in text(proposals).items()]
        shown = "\n".join(documents) or "nothing in the log is worth a threshold yet."
        answer({"proposals": [each.to_dict() for each in proposals]}, shown, as_json=as_json)
        return
    with working("suggest") as told:
        found = Suggestion.of(Project.find(project), study, depth=depth, told=told)
    answer(found.to_dict(), str(found), as_json=as_json)


def review(
    days: Annotated[int, typer.Option(min=1, help="Without an entry.")] = 90,
    share: Annotated[float, typer.Option(min=0.5, max=1, help="From which two segments are alike.")] = 0.95,
    *,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Name segments that nobody enters and segments that are the same people."""
    from console.terminal import working
    from experiments.curation import Review
    from features.project import Project

    with working("review") as told:
        found = Review.of(Project.find(project), days=days, share=share, told=told)
    answer(found.to_dict(), str(found), as_json=as_json)


def retire(
    name: Annotated[str, typer.Argument(help="The segment.")],
    *,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Archive a segment in segments.yaml; the next `apply` lets everybody leave it."""
    from experiments import curation
    from features.project import Project

    path = curation.retire(Project.find(project), name)
    answer({"archived": name, "file": str(path)}, f"{name} is archived in {path}", as_json=as_json)


def merge(
    name: Annotated[str, typer.Argument(help="The segment that goes.")],
    into: Annotated[str, typer.Argument(help="The one that takes its place.")],
    *,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let every reference to one segment mean another, and archive it."""
    from experiments import curation
    from features.project import Project

    path = curation.merge(Project.find(project), name, into)
    answer({"archived": name, "into": into, "file": str(path)}, f"{name} became {into} in {path}", as_json=as_json)
