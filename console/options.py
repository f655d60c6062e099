"""Options and help panels that commands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

DATA_SCIENCE = "Data science"
APPLICATIONS = "Applications"
OPERATIONS = "ML operations"
PROJECT = "Project"

ProjectOption = Annotated[
    Path | None, typer.Option("--project", "-C", help="Project folder (default: here, or a folder above).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
EngineOption = Annotated[
    Literal["local", "spark"],
    typer.Option(help="Where buckets are worked on: this machine's cores, or a Spark cluster."),
]
