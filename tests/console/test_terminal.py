"""A command hands back its result; what finds the project, prints and ends is the same for all."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.testing import CliRunner

from console.terminal import Told, answered
from features.errors import ProjectError

if TYPE_CHECKING:
    from features.project import Project

app = typer.Typer()


@app.command()
@answered
def ask(n: Annotated[int, typer.Argument(help="How many.")], *, project: "Project") -> Told | None:
    """Say how many there are, of nobody nothing; more than one is too many."""
    told = Told({"n": n, "project": project.name}, f"{n} in {project.name}", failed=n > 1)
    return told if n else None


def test_a_result_is_said_to_people_and_to_programs_and_a_bad_one_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "ethogram.yaml").write_text("version: 1\nname: shop\n")
    here = ["--project", str(tmp_path)]
    said = CliRunner().invoke(app, ["1", *here])
    assert (said.output, said.exit_code) == ("1 in shop\n", 0)
    bad = CliRunner().invoke(app, ["2", *here, "--json"])
    assert (json.loads(bad.output), bad.exit_code) == ({"n": 2, "project": "shop"}, 1)
    nothing = CliRunner().invoke(app, ["0", *here])
    assert (nothing.output, nothing.exit_code) == ("", 0)


def test_without_a_project_nothing_is_asked(tmp_path: Path) -> None:
    assert isinstance(CliRunner().invoke(app, ["1", "-C", str(tmp_path)]).exception, ProjectError)
