"""The `ethogram` command: a thin list of what there is; every command's work is done by the packages to the left."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from features.errors import EthogramError

app = typer.Typer(
    name="ethogram",
    help="Turns what people do in a product into segments, and keeps judging whether they are still true.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DATA_SCIENCE = "Data science"
APPLICATIONS = "Applications"
OPERATIONS = "ML operations"
PROJECT = "Project"

ProjectOption = Annotated[
    Path | None, typer.Option("--project", "-C", help="Project folder (default: here, or a folder above).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def main() -> None:
    """Run the command line: a user's mistake prints one clear error and exits with code 2."""
    try:
        app()
    except EthogramError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    except BrokenPipeError:
        raise SystemExit(0) from None


if __name__ == "__main__":
    main()
