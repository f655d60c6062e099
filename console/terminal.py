"""Terminal: the options that commands share, and how they print results, progress and errors."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import Console

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

T = TypeVar("T")


class Says(Protocol):
    """A result that says itself to programs, and with `str` to people."""

    def to_dict(self) -> Mapping[str, object]:
        """Plain values."""


class Told(NamedTuple):
    """What a command answers.

    Attributes:
        document: For programs.
        text: For people.
        failed: Whether the command exits with 1.
    """

    document: Mapping[str, object]
    text: str
    failed: bool = False

    @classmethod
    def of(cls, result: Says, *, failed: bool = False) -> "Told":
        """A result, and whether it is a bad one."""
        return cls(result.to_dict(), str(result), failed)


def answered(work: Callable[..., Says | Told | None]) -> Callable[..., None]:
    """The command around a function that hands back its result: with `--json`, and `--project` where it needs one.

    It needs one where its parameter `project` has no default.
    """
    given = dict(signature(work).parameters)
    needs = "project" in given and given["project"].default is Parameter.empty

    @wraps(work)
    def command(*, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - what the function takes
        if needs:
            from features.project import Project

            options["project"] = Project.find(options["project"])
        result = work(**options)
        if result is None:
            return
        told = result if isinstance(result, Told) else Told.of(result)
        answer(told.document, told.text, as_json=as_json)
        if told.failed:
            raise typer.Exit(1)

    if needs:
        given["project"] = given["project"].replace(annotation=ProjectOption, default=None)
    given["as_json"] = Parameter("as_json", Parameter.KEYWORD_ONLY, annotation=JsonOption, default=False)
    vars(command)["__signature__"] = Signature(list(given.values()))  # Typer reads this, and the annotations
    command.__annotations__ = {name: each.annotation for name, each in given.items()}
    return command


def show(text: str) -> None:
    """A result for people, on standard output."""
    sys.stdout.write(text.rstrip("\n") + "\n")


def document(value: Mapping[str, object]) -> None:
    """A result for programs: one JSON document on standard output."""
    json.dump(value, sys.stdout, indent=1, default=str)
    sys.stdout.write("\n")


def answer(value: Mapping[str, object], text: str, *, as_json: bool) -> None:
    """The same result, for a program or for a person."""
    if as_json:
        document(value)
    else:
        show(text)


def note(text: str) -> None:
    """A line about the work under way, on standard error."""
    sys.stderr.write(text.rstrip("\n") + "\n")


def console() -> "Console":
    """A Rich console on standard error."""
    from rich.console import Console

    return Console(stderr=True)


def progress(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """The items, with a bar on a terminal and one plain line elsewhere."""
    if not sys.stderr.isatty():
        note(label)
        yield from items
        return
    from rich.progress import track

    yield from track(items, description=label, total=total, console=console())


@contextmanager
def working(name: str) -> Iterator[Callable[[str], None]]:
    """Where long work tells its steps: the newest one on a terminal, plain lines elsewhere."""
    screen = console()
    if not screen.is_terminal:
        yield lambda line: note(f"{name}: {line.splitlines()[0]}")
        return
    with screen.status(f"{name}: reading the log") as status:
        yield lambda line: status.update(f"{name}: {line.splitlines()[0]}")


def table(rows: Iterable[Iterable[object]], header: Iterable[str]) -> str:
    """Rows as aligned plain text; numbers to the right."""
    cells = [[str(cell) for cell in header], *[[_cell(cell) for cell in row] for row in rows]]
    widths = [max(len(row[place]) for row in cells) for place in range(len(cells[0]))]
    numeric = [all(_is_number(row[place]) for row in cells[1:]) for place in range(len(widths))]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _cell(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(",", "").replace(".", "").replace("-", "").replace("%", "").isdigit()
