"""The `ethogram` command: a thin list of what there is; every command's work is done by the packages to the left."""

import os
import sys

import typer

from console import ab, answers, demo, events, explore, judgement, keys, project, segments, simulate, studies
from features.errors import EthogramError

app = typer.Typer(
    name="ethogram",
    help="Turns what people do in a product into segments, and keeps judging whether they are still true.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for commands in (project, demo, events, explore, segments, studies, answers, keys, ab, judgement, simulate):
    commands.register(app)


def main() -> None:
    """Run the command line: a user's mistake prints one clear error and exits with code 2."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when XGBoost is loaded; `experiments.study` says why
    try:
        app()
    except EthogramError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    except BrokenPipeError:
        raise SystemExit(0) from None
    except OSError as error:
        if error.filename is None:
            raise
        sys.stderr.write(f"error: {error.filename}: {error.strerror}.\n")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
