"""The documentation is true: commands exist, links lead somewhere, examples run and print what they say."""

import doctest
import importlib
import re
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from console.cli import app

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*/*.md")]
)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
COMMANDS = get_command(app)


def commands() -> dict[str, set[str]]:
    """Every command with its subcommands."""
    return {name: set(getattr(command, "commands", {})) for name, command in getattr(COMMANDS, "commands", {}).items()}


def with_examples(package: str) -> list[str]:
    """The modules of a package that show an example."""
    files = (path for path in (ROOT / package).rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    """`ethogram WORD` in code spans and blocks; a subcommand too where the command has some."""
    known = commands()
    text = page.read_text(encoding="utf-8")
    shown = re.findall(r"(?:^|[`$(]|\s)ethogram ([a-z]+)(?: ([a-z]+))?", "\n".join(_code(text)))
    wrong = [
        f"{name} {sub}" for name, sub in shown if name not in known or (known[name] and sub and sub not in known[name])
    ]
    assert wrong == []


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_has_a_help_text_and_a_line_in_the_readme(name: str) -> None:
    assert getattr(COMMANDS, "commands", {})[name].help
    assert f"`{name}`" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "module",
    [
        name
        for package in ("features", "training", "serving", "experiments", "console")
        for name in with_examples(package)
    ],
)
def test_the_examples_in_docstrings_are_true(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module), optionflags=OPTIONS)
    assert result.attempted
    assert result.failed == 0


def test_the_tutorial_does_what_it_says_in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(ROOT / "docs" / "tutorial.md"), module_relative=False, optionflags=OPTIONS)
    assert result.attempted > 30
    assert result.failed == 0


def test_the_way_from_a_csv_to_a_promoted_model_is_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs are run, files with a name in their first line are written, commands print what stands below them."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "from-a-csv.md").read_text(encoding="utf-8")
    asked = 0
    for kind, block in re.findall(r"```(python|yaml|console)\n(.*?)```", text, re.DOTALL):
        if kind == "python":
            exec(compile(block, "from-a-csv.md", "exec"), {})  # noqa: S102 - our own page
        elif kind == "yaml":
            Path(block.partition("\n")[0].removeprefix("# ")).write_text(block, encoding="utf-8")
        for words, wanted in re.findall(r"^\$ ethogram (.*?)\n(.*?)(?=^\$ |\Z)", block, re.DOTALL | re.MULTILINE):
            answer = CliRunner().invoke(app, words.split(), catch_exceptions=False)
            assert answer.exit_code == 0, answer.output
            assert doctest.OutputChecker().check_output(wanted, answer.stdout, OPTIONS), answer.stdout
            asked += 1
    assert asked == 5


def test_every_page_is_listed_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs") for page in PAGES if ROOT / "docs" in page.parents]
    assert [
        str(page)
        for page in pages
        if page.name != "README.md" and page.parts[0] != "decisions" and f"({page})" not in index
    ] == []


def _code(text: str) -> list[str]:
    return [
        *re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL),
        *re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)),
    ]
