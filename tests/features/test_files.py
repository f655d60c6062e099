"""Files are replaced whole."""

from pathlib import Path

import polars as pl
import pytest

from features.files import replacing, rewrite, write_json, write_parquet


def test_a_file_says_what_it_said_before_until_all_is_written(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "told.txt"
    rewrite(file, "before\n")
    with replacing(file) as draft:
        draft.write_text("after\n")
        assert file.read_text() == "before\n"
    assert file.read_text() == "after\n"
    assert list(file.parent.iterdir()) == [file]


def interrupted(file: Path, *, alone: bool) -> None:
    with replacing(file, alone=alone) as draft:
        draft.write_text("half")
        raise KeyboardInterrupt


@pytest.mark.parametrize("alone", [False, True])
def test_a_writer_that_fails_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path, alone: bool) -> None:
    file = tmp_path / "told.json"
    write_json(file, {"said": 1})
    with pytest.raises(KeyboardInterrupt):
        interrupted(file, alone=alone)
    assert file.read_text() == '{\n "said": 1\n}\n'
    assert list(tmp_path.iterdir()) == [file]


def test_writers_of_one_file_do_not_write_into_each_others_drafts(tmp_path: Path) -> None:
    file = tmp_path / "told.txt"
    with replacing(file) as mine:
        assert mine != file.with_name(".told.txt.new")
        mine.write_text("mine")
        write_parquet(file, pl.DataFrame({"theirs": [1]}))
        assert pl.read_parquet(file)["theirs"].to_list() == [1]
    assert file.read_text() == "mine"


def test_what_a_killed_writer_left_is_written_over_where_nobody_else_writes(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    (tmp_path / ".rows.parquet.new").write_text("half of somebody")
    write_parquet(file, pl.DataFrame({"user": ["ann"]}))
    assert list(tmp_path.iterdir()) == [file]
