"""KPIs, against what a few lines of polars count in the log; and where they are written."""

import json
import re

import polars as pl
import pytest
import sqlalchemy as sql
from typer.testing import CliRunner

from console.cli import app
from experiments.backtest import Asked
from experiments.kpis import EVERYBODY, Kpis
from experiments.overview import overview
from features.errors import AnalysisError, DefinitionError
from features.events.batch import EventBatch
from features.events.log import EventLog
from features.instants import DAY
from tests.experiments import projects

SEGMENTS = """version: 1
segments:
  eager: {when: {did: {event: viewed, count: {gte: 8}, last: 7d}}}
  few: {when: {did: {event: any}}, min_size: 5000}
"""
WEEK = 7 * DAY


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Eight weeks and some days of eighty people, whose orders have a value."""
    found = projects.make(tmp_path_factory.mktemp("kpis") / "shop", n_users=1, segments_yaml=SEGMENTS)
    log = EventLog.of(found)
    events = projects.events(80, 60, 4).with_columns(id=pl.int_range(pl.len()) + 10**6)
    priced = pl.when(pl.col("event") == "bought").then(5.0 + pl.col("seq") % 40)
    log.append(EventBatch(events.with_columns(p_revenue=priced), log.plan), name="priced")
    return found


def counted(events, begin, age):
    """What the log itself says of a cohort of each segment in one of its weeks."""
    before = events.filter(pl.col("ts") <= begin)
    looked = before.filter(pl.col("event") == "viewed", pl.col("ts") > begin - WEEK)["user"].value_counts()
    members = {EVERYBODY: set(before["user"]), "eager": set(looked.filter(pl.col("count") >= 8)["user"])}
    week = events.filter(pl.col("ts") > begin + age * WEEK, pl.col("ts") <= begin + (age + 1) * WEEK)
    until = events.filter(pl.col("ts") > begin, pl.col("ts") <= begin + (age + 1) * WEEK)
    for name, mine in members.items():
        theirs, so_far = (each.filter(pl.col("user").is_in(list(mine))) for each in (week, until))
        orders = theirs.filter(pl.col("event") == "bought")
        yield (
            (name, begin, age),
            {
                "users": len(mine),
                "retention": theirs["user"].n_unique() / len(mine),
                "conversion": orders["user"].n_unique() / len(mine),
                "orders": orders.height,
                "order_value": orders["p_revenue"].mean(),
                "life_time_value": so_far["p_revenue"].sum() / len(mine),
            },
        )


def test_every_cohort_of_every_segment_is_what_the_log_says(project):
    found = Kpis.of(project, Asked("bought", "bought.revenue", WEEK), last=5)
    events = EventLog.of(project).frame(columns=["user", "event", "ts", "p_revenue"])
    rows = {(row["segment"], row["as_of"], row["age"]): row for row in _instants(found.rows)}
    end = projects.START + 8 * WEEK
    assert found.starts == tuple(end - k * WEEK for k in (5, 4, 3, 2, 1))  # Mondays: the log ends on a Thursday
    wanted = [
        each for start in found.starts for age in range((end - start) // WEEK) for each in counted(events, start, age)
    ]
    assert rows.keys() == {key for key, _ in wanted}
    assert len(wanted) == 30
    for key, figures in wanted:
        assert {name: rows[key][name] for name in figures} == pytest.approx(figures), key
        assert rows[key]["period"] == key[1] + key[2] * WEEK
    pooled = {(row["segment"], row["age"]): row for row in found.pooled().to_dicts()}
    mine = [figures for (name, _, age), figures in wanted if (name, age) == ("eager", 3)]
    n = sum(each["users"] for each in mine)
    for figure in ("retention", "conversion", "life_time_value"):
        assert pooled["eager", 3][figure] == pytest.approx(sum(each[figure] * each["users"] for each in mine) / n)
    assert f"  retention        {pooled[EVERYBODY, 0]['retention']:.1%}  " in str(found)


def _instants(frame):
    return frame.with_columns(pl.col("as_of", "period").dt.epoch("us")).to_dicts()


@pytest.mark.parametrize("to", ["kpis.parquet", "kpis.csv", "sqlite"])
def test_a_later_run_replaces_its_cohorts_and_leaves_older_ones(project, tmp_path, to):
    place = f"sqlite:///{tmp_path}/bi.db" if to == "sqlite" else str(tmp_path / to)
    asked = Asked("bought", "bought.revenue", WEEK)
    first, later = Kpis.of(project, asked, last=4), Kpis.of(project, asked, last=2, names=["eager"])
    assert first.write(place) == first.rows.height
    for _ in range(2):
        later.write(place)
    if to == "sqlite":
        with sql.create_engine(place).connect() as connection:
            rows = pl.DataFrame(connection.execute(sql.text("SELECT * FROM kpis")).mappings().all())
    else:
        rows = pl.read_parquet(place) if to.endswith("parquet") else pl.read_csv(place)
    key = ["segment", "as_of", "age"]
    assert rows.select(key).is_unique().all()
    assert rows.height == first.rows.height
    assert rows["life_time_value"].sum() == pytest.approx(first.rows["life_time_value"].sum())


def test_the_command_prints_and_writes_them_and_mistakes_are_named(project, tmp_path):
    words = ["segments", "kpis", "bought", "-C", str(project.root), "--last", "3"]
    done = CliRunner().invoke(app, [*words, "--to", str(tmp_path / "out.parquet")])
    assert done.exit_code == 0, done.output
    assert "eager: " in done.stdout
    assert "order value" not in done.stdout  # no value was named
    assert f"{pl.read_parquet(tmp_path / 'out.parquet').height} rows written to" in done.stdout
    told = json.loads(CliRunner().invoke(app, [*words, "--value", "bought.revenue", "--json"]).stdout)
    assert {row["segment"] for row in told["rows"]} == {EVERYBODY, "eager"}
    assert told["rows"][0]["as_of"] == "2026-02-09T00:00:00Z"
    index = overview(project).read_text()
    assert index[index.index("Figures of the business") :].count('href="kpis-bought.html"') == 1
    page = (project.path("reports") / "kpis-bought.html").read_text()
    assert all(f"<td>{figure}</td>" in page for figure in re.findall(r"\S+%", done.stdout))  # as it is printed
    assert "order value" in page  # of the newest run
    assert "unknown property 'price'" in str(CliRunner().invoke(app, [*words, "--value", "bought.price"]).exception)
    with pytest.raises(DefinitionError, match="did you mean 'eager'"):
        Kpis.of(project, Asked("bought", "", WEEK), names=["eagr"])
    with pytest.raises(AnalysisError, match="no complete period of 100d"):
        Kpis.of(project, Asked("bought", "", 100 * DAY))
