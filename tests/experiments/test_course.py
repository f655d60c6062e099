"""Course: one turn at a time, what is left for the next one, and people's words."""

import multiprocessing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from console.cli import app
from experiments.course import Course, alone, heard, say, words
from experiments.tracking import Tracking
from features.errors import StudyError
from features.project import Project

SHADOW = Course("shadow", 5, "c" * 64, 3, "d" * 64, ("buys_7d",), (1, 2), "f")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "ethogram.yaml").write_text("version: 1\nname: shop\n", encoding="utf-8")
    return Project.find(tmp_path)


def test_the_next_turn_begins_where_the_last_one_ended(project: Project) -> None:
    assert Course.of(project) == Course()
    SHADOW.keep(project)
    assert Course.of(project) == SHADOW
    assert SHADOW.rested() == Course("resting", 5, "c" * 64, None, "", (), (1, 2), "f")


def other(root: Path, told: "multiprocessing.Queue[str]") -> None:
    try:
        with alone(Project.find(root)):
            told.put("took one")
    except StudyError as problem:
        told.put(str(problem))


def test_two_turns_are_never_taken_at_once(project: Project) -> None:
    context = multiprocessing.get_context("spawn")
    told: multiprocessing.Queue[str] = context.Queue()
    for inside in (True, False):
        process = context.Process(target=other, args=(project.root, told))
        if inside:
            with alone(project):
                process.start()
                assert "another turn of the loop is running" in told.get(timeout=300)
        else:
            process.start()
            assert told.get(timeout=300) == "took one"
        process.join()


def test_what_people_say_is_kept_with_their_name_until_it_is_heard(project: Project) -> None:
    SHADOW.keep(project)
    assert "version 3 may be promoted" in say(project, "approve", "looks right")
    say(project, "pause", "")
    said = words(project)
    assert set(said) == {"approve 3", "pause"}
    assert said["approve 3"].endswith(": looks right")
    heard(project)
    assert set(words(project)) == {"pause"}
    say(project, "resume", "")
    assert words(project) == {}
    decisions = [run.tags["ethogram.decision"] for run in Tracking(project).runs("loop")]
    assert sorted(decisions) == ["approve", "pause", "resume"]


@pytest.mark.parametrize("word", ["approve", "veto"])
def test_where_there_is_no_challenger_there_is_nothing_to_say_about_it(project: Project, word: str) -> None:
    with pytest.raises(StudyError, match=f"no challenger to {word}"):
        say(project, word, "")  # type: ignore[arg-type] # one of them


def test_the_commands_say_where_the_loop_stands_and_take_a_persons_word(project: Project) -> None:
    SHADOW.keep(project)
    for words_typed, told in (
        (["approve", "--reason", "figures hold"], "version 3 may be promoted"),
        (["pause"], "until `ethogram loop resume`"),
        (["status"], "shadow since"),
        (["status"], "figures hold"),
        (["resume"], "goes on"),
    ):
        answer = CliRunner().invoke(app, ["loop", *words_typed, "-C", str(project.root)], catch_exceptions=False)
        assert answer.exit_code == 0, answer.output
        assert told in answer.stdout
