"""Documents: what is written in a file is read as people mean it, and every mistake is told with its place."""

import pytest

from features.document import Definition, Duration, Instant, load, validated
from features.errors import DefinitionError


class Span(Definition):
    last: Duration | None = None
    at: Instant | None = None
    kept: Duration = 7


def read(tmp_path, text):
    file = tmp_path / "span.yaml"
    file.write_text(text, encoding="utf-8")
    return Span.from_yaml(file)


def test_durations_and_instants_are_read(tmp_path):
    assert read(tmp_path, "last: 2m") == Span(last=120_000_000)
    assert read(tmp_path, "at: 1970-01-02").at == 86_400_000_000
    assert read(tmp_path, "at: 1970-01-01T00:00:01Z").at == 1_000_000


@pytest.mark.parametrize("text", ["last: 7", "last: -5", "last: 1.5", "last: 0d", "kept: true"])
def test_a_number_without_a_unit_is_no_duration_in_a_file(tmp_path, text):
    with pytest.raises(DefinitionError, match=r"span.yaml:1: .*a duration is a whole number and a unit"):
        read(tmp_path, text)


def test_python_says_microseconds():
    assert validated(Span, {"last": 7, "at": 9}, where="here") == Span(last=7, at=9)


@pytest.mark.parametrize("text", ["at: 2026-13-01", "last: 7d\nat: 2026-02-30", "at: 7"])
def test_a_day_that_there_is_not_is_told_with_its_line(tmp_path, text):
    with pytest.raises(DefinitionError, match=f"span.yaml:{len(text.splitlines())}"):
        read(tmp_path, text)


def test_what_is_nested_without_end_is_a_clear_error(tmp_path):
    file = tmp_path / "deep.yaml"
    file.write_text("a: " + "[" * 5_000 + "]" * 5_000, encoding="utf-8")
    with pytest.raises(DefinitionError, match="nested too deeply"):
        load(file)
