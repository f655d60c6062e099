"""A project looked at: what is found, what is proposed, and what is said where something is missing."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.axes import Axes
from ruamel.yaml import YAML

from console.cli import main
from experiments import album, portraits, scenes
from experiments.exploration import explore
from experiments.proposals import text
from features.behaviour.feature_set import FeatureSet
from features.errors import AnalysisError, StudyError
from features.events.batch import EventBatch
from features.events.log import EventLog
from features.instants import DAY, HOUR, iso
from features.project import Project
from features.segments.segment_set import SegmentSet
from tests.experiments import projects
from training.label import Label

PLAN = """version: 1
events:
  viewed: {properties: {page: {type: category}}}
  clicked: {properties: {x: {type: number}, y: {type: number}}}
  bought: {properties: {revenue: {type: money}}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return projects.make(tmp_path_factory.mktemp("seen") / "shop", n_users=400)


@pytest.fixture(scope="module")
def seen(project):
    """The question of the project's first propensity."""
    return explore(project)


def test_it_takes_the_newest_training_cut_of_the_study_so_that_the_judging_rows_stay_unseen(seen):
    # The log ends within day 60: cuts on days 52, 45, 38 and 31, of which the first tests and the second validates.
    assert seen.question.study == "buys_7d"
    assert seen.question.at == projects.START + 38 * DAY
    assert len(seen.matrix) == len(seen.y) == len(set(seen.matrix.users))
    assert "did bought within 7d" in seen.title
    assert seen.sampling == "all 400 persons of the log"


def test_it_finds_what_is_planted(seen):
    """Who comes nearly every day buys more often, and looking is what tells."""
    assert seen.telling[0].feature.split("_")[1] in ("any", "viewed", "days")
    assert next(each.lift for each in seen.telling if each.lift).low > 0
    assert 0.6 < max(each.rank for each in seen.signals) < 0.95
    assert seen.asked.steps == ("viewed", "bought")
    assert seen.journeys.passed[0] > seen.journeys.passed[1] > 0
    assert seen.cut is not None
    assert 3 < seen.cut.days < 60
    assert seen.journeys.due[:, 1].sum() > 300


def test_proposals_can_be_pasted(project, seen):
    documents = {file: YAML(typ="safe").load(document) for file, document in text(seen.proposals).items()}
    segments = documents["segments.yaml"]["segments"]
    assert {"active_bought", "dormant_bought"} < set(segments)
    assert segments["active_bought"] == {"when": {"did": {"event": "bought", "last": f"{seen.cut.days}d"}}}
    cuts = [each["when"]["feature"] for name, each in segments.items() if name.startswith(("high", "low"))]
    first = next(each for each in seen.telling if each.lift)
    assert cuts[0] == {first.feature: {"gte" if first.split.above else "lt": first.split.threshold}}
    log = EventLog.of(project)
    features = FeatureSet.of(project, log.plan, log.codes)
    parsed = SegmentSet.from_dict(documents["segments.yaml"], log.plan, log.codes, features)
    assert set(parsed.names) == set(segments)
    schema = features.schema.union(parsed.schema)
    held = log.histories(schema)
    held = held.take(np.flatnonzero(np.isin(held.users.astype(str), seen.matrix.users.astype(str))))
    matrix = features.on(schema).compute(held, seen.question.at)
    truths = parsed.on(schema).evaluate(held, seen.question.at, features=matrix)
    name = f"{'high' if first.split.above else 'low'}_{first.feature}"
    assert truths.column(name).mean() == pytest.approx(first.share)  # who is in it is who the page speaks of
    added = FeatureSet.from_dict(documents["features.yaml"], log.plan, log.codes)
    assert f"count_bought_{seen.cut.days}d" in added.names


@pytest.fixture
def ethogram(project, monkeypatch, capsys):
    """The command in this process: (exit code, standard output, standard error)."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["ethogram", "explore", *words, "-C", str(project.root)])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code or 0, *capsys.readouterr()

    return call


def test_page_pictures_and_document_are_kept_in_the_reports(project, seen, ethogram):
    code, shown, told = ethogram("--json")
    assert code == 0
    assert "explore: pictures" in told
    document = json.loads(shown)
    folder = project.path("reports") / "explore-buys-7d"
    assert document == json.loads((folder / "explore.json").read_text())
    assert {"features", "proposals", "sequences", "retention"} <= set(document)
    assert document["features"][0]["feature"] == seen.signals[0].feature
    files = {name: Path(path) for name, path in document["files"].items()}
    assert {path.name for path in folder.iterdir()} == {path.name for path in files.values()}
    wanted = {"thresholds", "distributions", "association", "correlations", "funnel", "returns", "retention", "hours"}
    assert wanted <= set(files)
    assert all(path.stat().st_size > 5_000 for path in files.values() if path.suffix == ".png")
    page = files["page"].read_text()
    assert page.count("<img") == page.count("data:image/png;base64,") == len(files) - 2
    assert "http" not in page
    for words in ("counts as long as they were watched", "Proposed for segments.yaml", "active_bought", "Retention"):
        assert words in page


def test_a_feature_may_be_the_outcome(project):
    feature = explore(project, feature="count_bought_30d")
    assert feature.question.outcome == "count_bought_30d"
    assert "count_bought_30d" not in feature.matrix.names
    assert not feature.binary
    assert feature.y.max() > 3
    assert feature.question.at == -(-EventLog.of(project).span()[1] // DAY) * DAY


def test_categories_are_learnt_from_the_rows_and_shown_by_name(tmp_path):
    features = (
        "version: 1\nfeatures:\n  - {count: [any], windows: [7d]}\n  - {last: viewed.page, top: 3, windows: [30d]}\n"
    )
    folder = tmp_path / "shop"
    project = projects.make(folder, n_users=3, features_yaml=features)
    log, frame = EventLog.of(project), projects.events(200, 60, 4)
    often = frame["user_id"].str.slice(1).cast(pl.Int64) % 2 == 1  # those who come nearly every day
    pages = pl.select(pl.when(often).then(pl.lit("news")).otherwise(pl.lit("home"))).to_series()
    frame = frame.with_columns(id=frame["id"] + 10_000, user_id="v" + frame["user_id"], p_page=pages)
    log.append(EventBatch(frame, log.plan), name="paged")
    found = explore(project, label=Label.from_dict({"did": "bought", "within": "7d"}))
    assert sorted(found.words["last_viewed_page_30d"]) == ["home", "news", "other"]
    page = next(each for each in found.signals if each.feature == "last_viewed_page_30d")
    assert page.told in ("is news", "is home")
    assert not (folder / "features.lock").exists()
    assert portraits.thresholds(portraits.Album(tmp_path), found)


def test_a_sample_is_the_same_persons_every_time_and_says_so(project):
    one, two = (explore(project, most=100) for _ in range(2))
    assert one.matrix.users.tolist() == two.matrix.users.tolist()
    assert 60 < one.looked_at < 140
    assert one.sampling == f"a sample: {one.looked_at} of 400 persons, drawn by a hash of their ids"
    assert one.journeys.persons == one.looked_at


def test_without_an_outcome_there_is_still_what_people_do(tmp_path):
    studies = "version: 1\nstudies:\n  kinds: {kind: clusters, k: [2, 3]}\n"
    found = explore(projects.make(tmp_path / "shop", n_users=60, studies_yaml=studies))
    assert found.y is None
    assert found.trails == ()
    assert "no outcome: `ethogram explore STUDY`" in found.notes[0]
    pictures = portraits.Album(tmp_path)
    assert scenes.hours(pictures, found).startswith("<img")
    assert portraits.association(pictures, found) == ""
    assert "no outcome" in str(found)


def test_nothing_to_tell_apart_is_a_note_and_not_a_failure(tmp_path):
    found = explore(
        projects.make(tmp_path / "shop", n_users=30, days=25),
        label=Label.from_dict({"did": "identify", "within": "20d"}),
    )
    assert any("the outcome is 0 for everybody" in note for note in found.notes)
    assert any("too few for an active/dormant cut" in note for note in found.notes)
    assert portraits.association(portraits.Album(tmp_path), found) == ""
    assert "says anything" in album.headline(found)


def test_a_log_of_hours_is_looked_at_as_of_the_newest_instant_whose_outcome_is_complete(tmp_path):
    project = projects.make(tmp_path / "shop", n_users=300, days=1)
    found = explore(project, label=Label.from_dict({"did": "viewed", "within": "1h"}))
    assert found.question.at + HOUR == EventLog.of(project).span()[1]


def test_boxes_are_drawn_before_cleaning_and_after_without_missing_values(seen, tmp_path, monkeypatch):
    made, draw = [], Axes.boxplot
    monkeypatch.setattr(Axes, "boxplot", lambda *given, **options: made.append(draw(*given, **options)) or made[-1])
    portraits.distributions(portraits.Album(tmp_path), seen)
    medians = np.array([[line.get_ydata()[0] for line in each["medians"]] for each in made]).reshape(-1, 2, 2)
    name = "recency_bought_s"  # missing for whoever never bought
    place = [each.feature for each in seen.telling].index(name)
    values = seen.matrix.column(name)
    by_outcome = [np.nanmedian(values[seen.y == each]) for each in (0, 1)]
    assert medians[place, 0].tolist() == by_outcome
    assert not np.isnan(medians).any()


def test_clicks_with_places_are_drawn_where_they_are(tmp_path):
    project = projects.make(tmp_path / "shop", n_users=40, plan_yaml=PLAN)
    log = EventLog.of(project)
    random = np.random.default_rng(1)
    frame = projects.events(40, 60, 1).head(500).with_columns(event=np.array(["clicked"] * 500))
    frame = frame.with_columns(
        id=frame["id"] + 10_000, p_x=random.normal(300, 50, 500).round(), p_y=random.gamma(2, 200, 500).round()
    )
    log.append(EventBatch(frame, log.plan), name="clicks")
    found = explore(project)
    assert found.asked.place == ("x", "y")
    assert len(found.journeys.points) == 500
    assert found.journeys.points[:, 0].mean() == pytest.approx(300, abs=15)
    assert scenes.places(portraits.Album(tmp_path), found).startswith("<img")
    assert (tmp_path / "places.png").stat().st_size > 5_000
    assert found.journeys.hours[found.asked.names.index("clicked")].sum() == 500


def test_mistakes_are_named(project):
    with pytest.raises(StudyError, match="did you mean 'buys_7d'"):
        explore(project, study="buy_7d")
    with pytest.raises(AnalysisError, match="did you mean 'count_bought_30d'"):
        explore(project, feature="count_bougt_30d")
    told: list[str] = []
    with pytest.raises(AnalysisError, match="did you mean 'bought'"):
        explore(project, steps=("viewed", "bougt"), progress=told.append)
    assert len(told) == 1, "a misspelt step is named before anything is computed"
    with pytest.raises(AnalysisError, match=r"nothing is known by .* Hint: a later `--at`"):
        explore(project, at=projects.START - DAY)
    late = projects.START + 58 * DAY
    with pytest.raises(
        AnalysisError, match=f"within 7d is not complete.*`--at` up to {iso(projects.START + 52 * DAY)}"
    ):
        explore(project, study="buys_7d", at=late)
    with pytest.raises(AnalysisError, match="Hint: a shorter `--within`"):
        explore(project, label=Label.from_dict({"did": "bought", "within": "70d"}))


def test_mistakes_of_the_command_end_with_2(ethogram):
    code, shown, told = ethogram("buys_7d", "--did", "bought")
    assert (code, shown) == (2, "")
    assert "one outcome" in told
    code, shown, told = ethogram("--did", "bougth")
    assert (code, shown) == (2, "")
    assert "did you mean 'bought'" in told
    assert "a duration is" in ethogram("--did", "bought", "--within", "soon")[2]


SHOP = Path(__file__).parent.parent.parent / "examples"


@pytest.mark.integration
def test_the_simulated_shop_shows_what_is_planted(tmp_path):
    """Carts lead to orders: what was added lately tells most, and the funnel is the shop's own."""
    import shutil

    from features.simulate import Shop, write_shop

    shutil.copytree(SHOP / "shop", tmp_path / "shop")
    write_shop(Shop(users=3_000, seed=5), tmp_path / "raw", format="parquet")
    project = Project.find(tmp_path / "shop")
    log = EventLog.of(project)
    for file in sorted((tmp_path / "raw" / "events").iterdir()):
        log.ingest(file)
    found = explore(project)
    assert any("product_added" in each.feature or "cart" in each.feature for each in found.telling[:3])
    assert found.asked.steps[-1] == "order_completed"
    assert {"product_added", "cart_viewed"} & set(found.asked.steps)
    assert (np.diff(found.journeys.passed) < 0).all()
    assert any("product_added" in each.steps for each in found.trails[:5])
    features = FeatureSet.of(project, log.plan, log.codes)
    segments = YAML(typ="safe").load(text(found.proposals)["segments.yaml"])
    parsed = SegmentSet.from_dict(segments, log.plan, log.codes, features)
    assert any("_then_" in name for name in parsed.names)


DATA = Path(os.environ.get("ETHOGRAM_DATA", "data")) / "online_retail" / "online_retail.csv.gz"


@pytest.mark.integration
@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not here; set ETHOGRAM_DATA to the folder of real data sets")
def test_online_retail_gives_the_known_figures_of_single_features(tmp_path):
    """Buys in the next three months, as of 2011-09-10: recency 0.683, frequency 0.722, money 0.711 ROC-AUC."""
    import shutil

    from features.events.mapping import Mapping

    shutil.copytree(SHOP / "online_retail", tmp_path / "retail", ignore=shutil.ignore_patterns(".ethogram", "reports"))
    project = Project.find(tmp_path / "retail")
    EventLog.of(project).ingest(DATA, mapping=Mapping.from_yaml(tmp_path / "retail" / "mapping.yaml"))
    found = explore(
        project, study="buys_again", at=int(np.datetime64("2011-09-10").astype("datetime64[us]").astype(int))
    )
    assert len(found.matrix) == 3_370
    assert found.y.mean() == pytest.approx(0.570, abs=0.005)
    ranks = {each.feature: each.rank for each in found.signals}
    assert 1 - ranks["recency_sale_s"] == pytest.approx(0.683, abs=0.01)
    assert ranks["distinct_sale_invoice_400d"] == pytest.approx(0.722, abs=0.01)
    assert ranks["sum_sale_revenue_400d"] == pytest.approx(0.711, abs=0.01)
    assert 90 < found.cut.days < 250
    assert not found.cut.rising
