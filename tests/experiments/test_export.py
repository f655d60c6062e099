"""Exports: to files and databases, once and again, and what is handed on of changes."""

import polars as pl
import pytest

from experiments.enrolment import Enrolment
from experiments.export import Export
from features.errors import AnalysisError, DefinitionError
from features.instants import DAY
from features.segments.ledger import Ledger
from tests.experiments import projects

SEGMENTS = """version: 1
segments:
  regulars: {when: {did: {event: viewed, count: {gte: 3}, last: 7d}}}
  lately: {when: {did: {event: viewed, last: 1d}}, emit: [entered]}
  nobody: {when: {did: {event: bought, count: {gte: 99}}}}
  few: {when: {did: {event: any}}, min_size: 5000}
"""
END = projects.START + 50 * DAY


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = projects.make(tmp_path_factory.mktemp("export") / "shop", n_users=40, segments_yaml=SEGMENTS)
    for at in (END - DAY, END):
        Enrolment.plan(project, at=at).apply()
    return project


@pytest.mark.parametrize("name", ["out.parquet", "out.csv"])
def test_a_file_holds_every_instant_once_however_often_it_is_written(project, tmp_path, name):
    path = tmp_path / name
    for at in (END - DAY, END, END - DAY, END):
        Export.of(project, at=at).write(str(path))
    rows = pl.read_parquet(path) if name.endswith("parquet") else pl.read_csv(path, try_parse_dates=True)
    ledger = Ledger.read(project.path("memberships"))
    for at in (END - DAY, END):
        mine = rows.filter(pl.col("as_of") == pl.lit(at).cast(pl.Datetime("us")))
        wanted = ledger.members(at).filter(pl.col("segment") != "few")
        assert set(mine.select("segment", "user").rows()) == set(wanted.select("segment", "user").rows())
        assert mine.height == wanted.height > 20
    assert rows["as_of"].n_unique() == 2
    assert "few" not in rows["segment"].to_list()


def test_features_come_along_and_another_layout_is_refused(project, tmp_path):
    found = Export.of(project, names=["regulars"], features=True)
    assert found.rows["count_viewed_7d"].min() >= 3
    path = tmp_path / "out.parquet"
    found.write(str(path))
    with pytest.raises(AnalysisError, match="other columns"):
        Export.of(project).write(str(path))
    with pytest.raises(DefinitionError, match=r"neither a .parquet or .csv"):
        found.write(str(tmp_path / "out.xls"))
    with pytest.raises(DefinitionError, match="did you mean 'regulars'"):
        Export.of(project, names=["regular"])
    with pytest.raises(AnalysisError, match="the last `apply` was as of"):
        Export.of(project, at=END + 1)


def test_changes_are_those_that_emit_names(project):
    rows = Export.of(project, changes=True).rows
    assert set(rows["segment"]) == {"lately"}
    assert set(rows["change"]) == {"entered"}
    assert set(rows["cause"]) == {"edit", "event"}


def assert_database_holds_one_copy(project, url):
    import sqlalchemy as sql

    for at in (END - DAY, END, END):
        Export.of(project, at=at, features=True).write(url, table="people")
    engine = sql.create_engine(url)
    with engine.connect() as connection:
        found = connection.execute(
            sql.text('SELECT as_of, segment, count(*), count(DISTINCT "user") FROM people GROUP BY as_of, segment')
        )
        counts = {(str(as_of)[:10], segment): (n, users) for as_of, segment, n, users in found}
    engine.dispose()
    ledger = Ledger.read(project.path("memberships"))
    assert len(counts) == 4
    for (day, segment), (n, users) in counts.items():
        at = END if day == "2026-02-24" else END - DAY
        assert n == users == ledger.members(at, segment=segment).height


def test_a_database_holds_one_copy_too(project, tmp_path):
    assert_database_holds_one_copy(project, f"sqlite:///{tmp_path}/crm.db")
    with pytest.raises(AnalysisError, match="cannot be written"):
        Export.of(project, changes=True).write(f"sqlite:///{tmp_path}/crm.db", table="people")
    with pytest.raises(DefinitionError, match="cannot be opened"):
        Export.of(project).write("nosuch://x/y")


@pytest.mark.integration
def test_postgresql_holds_one_copy(project, postgres):
    assert_database_holds_one_copy(project, postgres)
