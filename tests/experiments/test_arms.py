"""Arms: what is read, what is left out and counted, what is refused."""

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from experiments.arms import numbers_of, read, sort
from experiments.inference import Summary
from features.errors import AnalysisError

ROWS = pl.DataFrame(
    {
        "who": ["a", "b", "c", "d", "e", "e", "f", "f", "g"],
        "arm": ["new", "new", "old", "old", "new", "old", "new", "new", "old"],
        "orders": ["1", "0", "2", "", "1", "1", "3", "4", "0"],
        "visited": ["true", "False", "TRUE", "false", "true", "true", "true", "true", "false"],
        "note": ["x", "1", "", "y", "", "", "", "", ""],
    }
)


def test_users_in_two_arms_and_further_rows_are_left_out_and_counted() -> None:
    arms = sort(ROWS, variant="arm", control="old", metrics=["visited"], user="who")
    assert arms.sizes == {"old": 3, "new": 3}
    assert (arms.rows, arms.crossed, arms.repeated) == (9, 1, 1)
    assert (arms.of("visited", "new").n, arms.of("visited", "new").summary().mean) == (3, 2 / 3)
    assert arms.notes() == [
        "1 users were seen in two arms and left out.",
        "1 further rows of a user already counted were left out (the first one counts).",
    ]


def test_nulls_are_refused_or_dropped_from_their_metric_and_counted() -> None:
    with pytest.raises(AnalysisError, match=r"'orders' is missing in 1 of 9 rows. Hint: `--nulls drop`"):
        sort(ROWS, variant="arm", control="old", metrics=["orders"])
    arms = sort(ROWS, variant="arm", control="old", metrics=["orders", "visited"], nulls="drop")
    assert arms.nulls == {"orders": 1, "visited": 0}
    assert (arms.of("orders", "old").n, arms.of("visited", "old").n) == (3, 4)


def test_rows_without_a_variant_are_refused_or_dropped() -> None:
    frame = ROWS.with_columns(pl.when(pl.col("who") == "a").then(None).otherwise(pl.col("arm")).alias("arm"))
    with pytest.raises(AnalysisError, match="1 of 9 rows have no arm"):
        sort(frame, variant="arm", control="old", metrics=["visited"])
    assert sort(frame, variant="arm", control="old", metrics=["visited"], nulls="drop").unassigned == 1


def test_nan_written_as_text_is_missing_like_an_empty_field() -> None:
    rows = ROWS.with_columns(
        pl.Series("orders", ["1", "nan", "2", "3", "4", "4", "5", "5", " NaN "]),
        before=pl.Series(["1", "nan"] + ["2"] * 7),
    )
    with pytest.raises(AnalysisError, match="'orders' is missing in 2 of 9 rows"):
        sort(rows, variant="arm", control="old", metrics=["orders"])
    arms = sort(rows, variant="arm", control="old", metrics=["orders"], covariate="before", nulls="drop")
    assert arms.nulls == {"orders": 2}
    assert np.isfinite(arms.totals).all()
    assert numbers_of(rows, "orders").tolist() == [1, 2, 3, 4, 4, 5, 5]


def test_spaces_around_an_arm_are_no_other_arm_and_spaces_alone_are_none() -> None:
    spaced = ROWS.with_columns(pl.Series("arm", [" new", "new ", "old", " ", "new", "old", "new", "new", "old"]))
    with pytest.raises(AnalysisError, match="1 of 9 rows have no arm"):
        sort(spaced, variant="arm", control="old", metrics=["visited"])
    arms = sort(spaced, variant="arm", control="old", metrics=["visited"], nulls="drop")
    assert (arms.sizes, arms.unassigned) == ({"old": 3, "new": 5}, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"variant": "arn"}, "no column 'arn'. Hint: did you mean 'arm'?"),
        ({"metrics": ["order"]}, "no column 'order'. Hint: did you mean 'orders'?"),
        ({"control": "odl"}, "no row has the control 'odl'; the arms are 'new', 'old'."),
        ({"metrics": ["note"]}, "'note' is not a number in 2 of 9 rows, such as 'x'."),
        ({"user": "id"}, "no column 'id'"),
        ({"user": ""}, "no column ''"),
        ({"day": ""}, "no column ''"),
        ({"by": ""}, "no column ''"),
        ({"covariate": ""}, "no column ''"),
    ],
)
def test_each_mistake_is_one_clear_error(wrong: dict[str, object], message: str) -> None:
    asked = {"variant": "arm", "control": "old", "metrics": ["visited"], **wrong}
    with pytest.raises(AnalysisError) as error:
        sort(ROWS, **asked)
    assert message in str(error.value)


def test_an_arm_of_one_row_and_a_declared_one_of_none_are_arms() -> None:
    rows = ROWS.filter((pl.col("arm") == "old") | (pl.col("who") == "a"))
    arms = sort(rows, variant="arm", control="old", metrics=["visited"], declared=["old", "new", "newest"])
    assert arms.sizes == {"old": 4, "new": 1, "newest": 0}
    assert arms.of("visited", "newest").summary() == Summary(0, 0.0, 0.0)


def test_one_arm_alone_and_a_column_of_identifiers_are_refused() -> None:
    with pytest.raises(AnalysisError, match="nothing to compare it with"):
        sort(ROWS.filter(arm="old"), variant="arm", control="old", metrics=["visited"])
    many = pl.DataFrame({"id": [str(i) for i in range(60)], "x": [1.0] * 60})
    with pytest.raises(AnalysisError, match="60 values"):
        sort(many, variant="id", control="1", metrics=["x"])


def test_infinite_values_and_dates_are_refused() -> None:
    frame = pl.DataFrame({"arm": ["a", "a", "b", "b"], "x": [1.0, float("inf"), 0.0, 0.0]})
    with pytest.raises(AnalysisError, match="1 infinite"):
        sort(frame, variant="arm", control="a", metrics=["x"])
    with pytest.raises(AnalysisError, match="not a number but Date"):
        sort(frame.with_columns(pl.date(2026, 1, 1).alias("x")), variant="arm", control="a", metrics=["x"])


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.parquet", "t.parquet.gz"])
def test_every_file_format_gives_the_same_arms(name: str, tmp_path: Path) -> None:
    plain = tmp_path / name.removesuffix(".gz")
    if ".parquet" in name:
        ROWS.write_parquet(plain)
    else:
        ROWS.write_csv(plain, separator="\t" if "tsv" in name else ";")
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes()))
    arms = sort(read(tmp_path / name), variant="arm", control="old", metrics=["visited"], user="who")
    assert arms.sizes == {"old": 3, "new": 3}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gone.csv", None),
        ("empty.csv", b""),
        ("header.csv", b"arm,x\n"),
        ("cut.csv.gz", gzip.compress(b"arm,x\na,1\nb,2\n" * 500, mtime=0)[:-30]),
        ("no.csv.gz", b"arm,x\na,1\n"),
        ("no.parquet", b"arm,x\na,1\n"),
        ("ragged.csv", b"arm,x\na,1\nb,2,3,4\n"),
        ("folder.csv", "folder"),
    ],
)
def test_unreadable_files_are_one_clear_error(name: str, content: bytes | str | None, tmp_path: Path) -> None:
    if content == "folder":
        (tmp_path / name).mkdir()
    elif isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AnalysisError, match=name) as error:
        read(tmp_path / name)
    assert "\n" not in str(error.value)
