"""The command `explore`: look before anything is modelled."""

from typing import TYPE_CHECKING, Annotated

import typer

from console.terminal import DATA_SCIENCE, Says, answered, working
from features.errors import AnalysisError

if TYPE_CHECKING:
    from features.project import Project
    from training.label import Label


def register(app: typer.Typer) -> None:
    """Add `explore`."""
    app.command("explore", rich_help_panel=DATA_SCIENCE)(answered(explore))


def explore(
    study: Annotated[str | None, typer.Argument(help="Take this study's question (default: the first one's).")] = None,
    *,
    did: Annotated[str | None, typer.Option(help="Instead: who does this event within --within?")] = None,
    did_not: Annotated[str | None, typer.Option(help="Instead: who does not do it?")] = None,
    value: Annotated[str | None, typer.Option(help="Instead: how much is EVENT.PROPERTY in all?")] = None,
    within: Annotated[str, typer.Option(help="After the instant of the rows.")] = "30d",
    outcome: Annotated[str | None, typer.Option(help="Instead: a feature, such as a life-time value.")] = None,
    at: Annotated[str | None, typer.Option(help="Instant of the rows, an ISO date or time.")] = None,
    purchase: Annotated[str | None, typer.Option(help="The event that is a purchase.")] = None,
    funnel: Annotated[str | None, typer.Option(help="Its events in order, with commas between.")] = None,
    users: Annotated[int, typer.Option(min=100, help="At most so many persons, drawn by a hash.")] = 1_000_000,
    project: "Project",
) -> Says:
    """Look at features, an outcome and what people do; propose thresholds as definitions that can be pasted.

    The page, its pictures and a document are kept in the project's `reports`.
    """
    from experiments import album
    from experiments.exploration import explore as do
    from features.instants import parse_instant

    label = _label(did, did_not, value, within)
    if sum(each is not None for each in (study, label, outcome)) > 1:
        raise AnalysisError(
            "an exploration has one outcome: a study's, `--did`, `--did-not`, `--value` or `--outcome`."
        )
    with working("explore") as say:
        made = do(
            project,
            study=study,
            label=label,
            feature=outcome,
            at=parse_instant(at) if at else None,
            goal=purchase,
            steps=tuple(step.strip() for step in funnel.split(",")) if funnel else (),
            most=users,
            progress=say,
        )
        say("pictures")
        return album.write(made, project.path("reports"))


def _label(did: str | None, did_not: str | None, value: str | None, within: str) -> "Label | None":
    from training.label import Label

    given = {name: each for name, each in (("did", did), ("did_not", did_not), ("value", value)) if each}
    return Label.from_dict({**given, "within": within}) if given else None
