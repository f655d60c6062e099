"""Commands about keys: `create` one, `list` them, `rotate` or `revoke` one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.terminal import OPERATIONS, ProjectOption, Told, answered, table
from features.instants import SECOND, iso, parse_duration

if TYPE_CHECKING:
    from serving.keys import Keys


def register(app: typer.Typer) -> None:
    """Add `keys`."""
    commands = typer.Typer(help="Who may ask the service, and for what.", no_args_is_help=True)
    commands.command("create")(answered(create))
    commands.command("list")(answered(list_keys))
    commands.command("rotate")(answered(rotate))
    commands.command("revoke")(answered(revoke))
    app.add_typer(commands, name="keys", rich_help_panel=OPERATIONS)


def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, for people.")],
    *,
    scope: Annotated[list[str] | None, typer.Option(help="read, write or admin; more than once for more.")] = None,
    project: ProjectOption = None,
) -> Told:
    """Make a key; it is shown now and never again. With the first one, callers on this machine need one too."""
    shown, key = _keys(project).create(name, scope or ["read"])
    document = {"key": shown, "id": key.id, "scopes": key.scopes}
    return Told(document, f"{shown}\n  {', '.join(key.scopes)}; shown once")


def list_keys(*, project: ProjectOption = None) -> Told:
    """Every key by its public id; the keys themselves are kept nowhere."""
    header = ("id", "name", "scopes", "created", "until")
    rows = [
        (key.id, key.name, ", ".join(key.scopes), key.created, iso(round(key.until * SECOND)) if key.until else "")
        for key in _keys(project).all()
    ]
    return Told({"keys": [dict(zip(header, row, strict=True)) for row in rows]}, table(rows, header))


def rotate(
    key: Annotated[str, typer.Argument(help="Its id.")],
    *,
    grace: Annotated[str, typer.Option(help="For how long the one before is let in as well.")] = "1d",
    project: ProjectOption = None,
) -> Told:
    """Make a new key of the same name and scopes in the place of one; it is shown now and never again."""
    shown, new = _keys(project).rotate(key, grace_s=parse_duration(grace) / SECOND)
    document = {"key": shown, "id": new.id, "scopes": new.scopes, "before": key}
    return Told(document, f"{shown}\n  {', '.join(new.scopes)}; shown once; {key} is let in for {grace} more")


def revoke(
    key: Annotated[str, typer.Argument(help="Its id.")],
    *,
    project: ProjectOption = None,
) -> Told:
    """Refuse a key from the next second on."""
    found = _keys(project).revoke(key)
    return Told({"revoked": found.id}, f"{found.id} ({found.name}) is revoked")


def _keys(project: Path | None) -> "Keys":
    from console.answers import settings_of
    from serving.keys import Keys

    return Keys(settings_of(project).keys)
