"""Commands about definitions of segments: check, schema, format, diff, suggest, review, retire, merge."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console import memberships
from console.terminal import DATA_SCIENCE, Says, Told, answered, show, table, working

if TYPE_CHECKING:
    from features.project import Project


def register(app: typer.Typer) -> None:
    """Add the commands about segments."""
    commands = typer.Typer(help="Segments: define them, see who enters and leaves, hand them on.", no_args_is_help=True)
    commands.command()(answered(check))
    commands.command()(schema)
    for command in (layout, diff, suggest, review, retire, merge):
        commands.command("format" if command is layout else None)(answered(command))
    memberships.register(commands)
    app.add_typer(commands, name="segments", rich_help_panel=DATA_SCIENCE)


def check(*, project: "Project") -> Told:
    """Check segments.yaml; list its segments with their class, version and what they rest on."""
    from experiments.declared import Declared
    from experiments.lists import astray
    from features.errors import DefinitionError
    from features.segments.segment_set import FILE

    found = Declared.of(project)
    segments = found.segments()
    if segments is None:
        raise DefinitionError(
            f"{found.project.file(FILE)}: no such file. Hint: docs/segments.md shows what it may say."
        )
    rows = [(each.name, each.kind, each.status, each.version, each.description or "-") for each in segments.segments]
    uses = [segments.uses(each) for each in segments.segments]
    header = ("segment", "class", "status", "version", "description")
    told = [dict(zip(header, row, strict=True)) | {"uses": each} for row, each in zip(rows, uses, strict=True)]
    text = table([(*row, ", ".join(each) or "-") for row, each in zip(rows, uses, strict=True)], (*header, "uses"))
    notes = astray(found.log, segments)
    return Told({"segments": told, "fingerprint": segments.fingerprint, "lists": notes}, "\n".join([text, *notes]))


def schema() -> None:
    """Print the JSON Schema of segments.yaml, for editors."""
    import json

    from features.segments import format as layouts

    show(json.dumps(layouts.schema(), indent=1))


def layout(
    *,
    project: "Project",
    verify: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 where it would.")] = False,
) -> Told:
    """Lay segments.yaml out one way, comments kept."""
    from features.segments.format import formatted
    from features.segments.segment_set import FILE

    path = project.file(FILE)
    text = formatted(path)
    changed = text != path.read_text(encoding="utf-8")
    if changed and not verify:
        path.write_text(text, encoding="utf-8")
    told = f"{FILE} {('would change' if verify else 'is laid out anew') if changed else 'is as it should be'}"
    return Told({"file": str(path), "changed": changed}, told, failed=changed and verify)


def diff(
    other: Annotated[Path | None, typer.Argument(help="Another segments.yaml (default: what is served).")] = None,
    *,
    project: "Project",
) -> Says:
    """Show which segments are added, removed or edited, and whom that concerns."""
    from experiments.difference import Difference

    with working("diff") as told:
        return Difference.of(project, other, told=told)


def suggest(
    study: Annotated[
        str | None, typer.Argument(help="Of which a model is served (default: what `explore` finds).")
    ] = None,
    depth: Annotated[int, typer.Option(min=1, max=6, help="Bounds a rule's part has at most.")] = 3,
    *,
    project: "Project",
) -> Says | Told:
    """Say in rules to paste what a model says, and how often they err; without a study, what `explore` proposes."""
    from experiments.exploration import explore
    from experiments.proposals import text
    from experiments.suggestion import Suggestion

    if study is None:
        with working("suggest") as told:
            proposals = explore(project, progress=told).proposals
        documents = [f"# {file}: to paste into it\n{document}" for file, document in text(proposals).items()]
        shown = "\n".join(documents) or "nothing in the log is worth a threshold yet."
        return Told({"proposals": [each.to_dict() for each in proposals]}, shown)
    with working("suggest") as told:
        return Suggestion.of(project, study, depth=depth, told=told)


def review(
    days: Annotated[int, typer.Option(min=1, help="Without an entry.")] = 90,
    share: Annotated[float, typer.Option(min=0.5, max=1, help="From which two segments are alike.")] = 0.95,
    *,
    project: "Project",
) -> Says:
    """Name segments that nobody enters and segments that are the same people."""
    from experiments.curation import Review

    with working("review") as told:
        return Review.of(project, days=days, share=share, told=told)


def retire(
    name: Annotated[str, typer.Argument(help="The segment.")],
    *,
    project: "Project",
) -> Told:
    """Archive a segment in segments.yaml; the next `apply` lets everybody leave it."""
    from experiments import curation

    path = curation.retire(project, name)
    return Told({"archived": name, "file": str(path)}, f"{name} is archived in {path}")


def merge(
    name: Annotated[str, typer.Argument(help="The segment that goes.")],
    into: Annotated[str, typer.Argument(help="The one that takes its place.")],
    *,
    project: "Project",
) -> Told:
    """Let every reference to one segment mean another, and archive it."""
    from experiments import curation

    path = curation.merge(project, name, into)
    return Told({"archived": name, "into": into, "file": str(path)}, f"{name} became {into} in {path}")
