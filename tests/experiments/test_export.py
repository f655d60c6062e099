"""Exports: to files and databases, once and again, and what is handed on of changes."""

import sqlite3
from shutil import copytree

import polars as pl
import pytest

from experiments.audience import Audience
from experiments.enrolment import Enrolment
from experiments.export import Export
from features.errors import AnalysisError, DefinitionError
from features.events.batch import EventBatch
from features.events.log import EventLog
from features.instants import DAY
from features.project import Project
from features.segments.ledger import Ledger
from tests.experiments import projects
from tests.serving.test_memberships import bundled
from training.bundle import publish

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


def test_ids_in_a_csv_file_stay_as_they_are(tmp_path):
    path, ids = tmp_path / "out.csv", [[f"{k:04}" for k in range(200)], ["u1"], ["1e3"]]
    for at, users in enumerate(ids):
        rows = pl.DataFrame({"segment": "all", "as_of": pl.Series([at] * len(users), dtype=pl.Datetime), "user": users})
        Export(rows, ("all",), (at,)).write(str(path))
    assert pl.read_csv(path, infer_schema=False)["user"].to_list() == [user for users in ids for user in users]


def edited(project, folder, before, after):
    """A copy of the project whose segments are others."""
    assert before in SEGMENTS
    copytree(project.root, folder)
    (folder / "segments.yaml").write_text(SEGMENTS.replace(before, after))
    return Project.find(folder)


def written(to):
    """The instants and segments of which there are rows."""
    path = to.removeprefix("sqlite:///")
    if path != to:
        rows = pl.read_database("SELECT * FROM memberships", sqlite3.connect(path))
    else:
        rows = pl.read_parquet(path) if path.endswith("parquet") else pl.read_csv(path)
    return {(str(as_of)[:10], segment) for as_of, segment in rows.select("as_of", "segment").rows()}


@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "crm.db"])
def test_what_was_written_of_a_segment_that_falls_away_goes(project, tmp_path, name):
    to = f"sqlite:///{tmp_path}/{name}" if name.endswith("db") else str(tmp_path / name)
    for at in (END - DAY, END):
        Export.of(project, at=at).write(to)
    both = {(day, segment) for day in ("2026-02-23", "2026-02-24") for segment in ("lately", "regulars")}
    assert written(to) == both
    small = edited(project, tmp_path / "small", "last: 7d}}", "last: 7d}}, min_size: 5000")
    assert Export.of(small, names=["regulars"]).write(to) == 0
    assert written(to) == both - {("2026-02-24", "regulars")}
    archived = edited(project, tmp_path / "archived", "emit: [entered]", "status: archived")
    Enrolment.plan(archived, at=END).apply()
    Export.of(archived, at=END).write(to)
    assert written(to) == both - {("2026-02-24", "lately")}


@pytest.mark.parametrize("name", ["out.parquet", "crm.db"])
def test_what_was_written_of_a_segment_that_is_declared_no_more_goes(project, tmp_path, name):
    to = f"sqlite:///{tmp_path}/{name}" if name.endswith("db") else str(tmp_path / name)
    line = next(each for each in SEGMENTS.splitlines() if "lately" in each)
    deleted = edited(project, tmp_path / "deleted", f"{line}\n", "")
    for step in ("before", "after"):
        Export.of(project, at=END).write(to)
        assert ("2026-02-24", "lately") in written(to)
        Export.of(deleted, names=["regulars"]).write(to)
        assert ("2026-02-24", "lately") in written(to)
        Export.of(deleted).write(to)
        assert written(to) == {("2026-02-24", "regulars")}
        if step == "before":
            Enrolment.plan(deleted, at=END).apply()


def test_min_size_counts_who_is_handed_on_as_of_the_instant(project, tmp_path):
    ledger = Ledger.read(project.path("memberships"))
    sizes = {at: ledger.members(at, segment="lately").height for at in (END - DAY, END)}
    least = max(sizes.values())
    assert min(sizes.values()) < least
    edit = "emit: [entered]", f"emit: [entered], min_size: {least}"
    limited = edited(project, tmp_path / "limited", *edit)
    for at, size in sizes.items():
        for changes in (False, True):
            found = Export.of(limited, at=at, changes=changes)
            assert ("lately" in found.segments, "lately" in found.rows["segment"]) == (size == least,) * 2
            assert ("lately" in found.hidden) == (size < least)
    full = max(sizes, key=lambda at: sizes[at])
    said = {"source": "made", "id": 10**6, "event": "viewed", "seq": 0, "offset": 0, "consent": 0}
    said |= {"user_id": min(ledger.members(full, segment="lately")["user"]), "ts": END + 1, "received": END + 1}
    log = EventLog.of(limited)
    log.append(EventBatch(pl.DataFrame([said]), log.plan), name="no")
    assert "lately" in Export.of(limited, at=full).hidden


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


def test_scores_are_what_every_model_says_of_each_alone(tmp_path):
    project = projects.make(tmp_path / "shop", n_users=40, segments_yaml=SEGMENTS)
    publish(bundled(project, tmp_path / "made").path, project.path("bundles"))
    Enrolment.plan(project, at=END).apply()
    rows, path = Export.of(project, names=["regulars"], scores=True), tmp_path / "out.csv"
    assert rows.write(str(path)) == rows.write(str(path)) == pl.read_csv(path).height > 10
    audience = Audience.of(project, END)
    for user, chance, kind in rows.rows.select("user", "purchase_7d", "behaviour").iter_rows():
        said = audience.scores(audience.matrix(audience.person(user), END))
        assert chance == pytest.approx(float(said["purchase_7d"].probability[0]))
        assert kind == said["behaviour"].names[int(said["behaviour"].column()[0])]
    assert rows.rows["purchase_7d"].n_unique() > 1


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
