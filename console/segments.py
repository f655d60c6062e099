"""Commands about definitions of segments: `segments check`, `schema`, `format`; `memberships` has the others."""

from pathlib import Path
from typing import Annotated

import typer

from console import memberships
from console.options import DATA_SCIENCE, JsonOption, ProjectOption
from console.terminal import answer, show, table


def register(app: typer.Typer) -> None:
    """Add the commands about segments."""
    commands = typer.Typer(help="Segments: define them, see who enters and leaves, hand them on.", no_args_is_help=True)
    for command in (check, schema, layout):
        commands.command("format" if command is layout else None)(command)
    memberships.register(commands)
    app.add_typer(commands, name="segments", rich_help_panel=DATA_SCIENCE)


def check(*, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Check segments.yaml; list its segments with their class and version."""
    from experiments import studies
    from features.behaviour.feature_set import FeatureSet
    from features.errors import DefinitionError
    from features.events.plan import Codes, TrackingPlan
    from features.project import Project
    from features.segments.segment_set import FILE, SegmentSet

    found = Project.find(project)
    plan = TrackingPlan.read(found.file("plan.yaml"))
    codes = Codes.of(plan, found.file("plan.lock"))
    features = FeatureSet.of(found, plan, codes)
    declared, kinds = found.file("studies.yaml"), {}
    if declared.exists():
        kinds = {name: spec.kind for name, spec in studies.read(declared, plan, features.names).items()}
    segments = SegmentSet.of(found, plan, codes, features, studies=kinds)
    if segments is None:
        raise DefinitionError(f"{found.file(FILE)}: no such file. Hint: docs/segments.md shows what it may say.")
    rows = [(each.name, each.kind, each.status, each.version, each.description or "-") for each in segments.segments]
    header = ("segment", "class", "status", "version", "description")
    document = {"segments": [dict(zip(header, row, strict=True)) for row in rows], "fingerprint": segments.fingerprint}
    answer(document, table(rows, header), as_json=as_json)


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
