"""Everything that was planted is found by reading the files as any others, and counted exactly."""

import polars as pl
import pytest

from features.events.log import EventLog
from features.events.plan import TrackingPlan
from features.instants import HOUR
from features.simulate import Shop, Truth, simulate, write_shop
from features.simulate.dirt import BAD_ROWS, UNDECLARED_PROPERTY

TAKEN_BACK = pl.col("until").is_not_null()  # counted until the verdict over a too-fast visitor fell
SHOP = Shop(users=600, days=25, seed=915, dirt=10)


@pytest.fixture(scope="module")
def clean_frame():
    """What really happened, one row an event: person, user, event, ts, received."""
    frame, truth = next(iter(simulate(SHOP)))
    once = (
        frame.filter(pl.col("bad").is_null(), pl.col("person") >= 0).sort("received").unique("message_id", keep="first")
    )
    return once.join(truth.people.select("person", "user"), on="person")


@pytest.fixture(scope="module", params=["ndjson", "parquet"])
def ingested(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    truth = write_shop(SHOP, folder, format=request.param)
    log = EventLog(folder / "log", TrackingPlan.read("examples/shop/plan.yaml"), key=b"key")
    (file,) = (folder / "events").iterdir()
    return truth, log.ingest(file), log


def test_every_message_is_an_event_a_copy_or_in_the_quarantine(ingested):
    truth, report, _ = ingested
    planted = truth.planted
    assert report.rows == planted["messages"]
    assert report.accepted == planted["events"] + planted["crawler_events"] + planted["fast_events"]
    assert report.duplicates == planted["duplicates"] > 100


def test_every_bad_row_is_quarantined_for_the_reason_it_was_planted_for(ingested):
    truth, report, _ = ingested
    planted = {reason: truth.planted[f"quarantined_{reason}"] for reason in BAD_ROWS}
    assert report.quarantined == {reason: count for reason, count in planted.items() if count}
    assert len(report.quarantined) >= len(BAD_ROWS) - 1


def test_every_bot_is_marked_and_nobody_else(ingested):
    truth, report, log = ingested
    assert truth.planted["crawlers"] > 3
    assert truth.planted["fast_bots"] > 3
    read = log.frame(columns=["user", "mark", "until"])
    crawled, fast = read.filter(pl.col("mark") == "bot"), read.filter(TAKEN_BACK | (pl.col("mark") == "too_fast"))
    assert crawled.height == report.marked["bot"] == truth.planted["crawler_events"]
    assert fast.height == truth.planted["fast_events"]
    assert crawled["user"].n_unique() == truth.planted["crawlers"]
    assert fast["user"].n_unique() == log.quality().manifest.too_fast == truth.planted["fast_bots"]


def test_every_late_event_is_late(ingested):
    truth, _, log = ingested
    events = log.frame(columns=["ts", "received"])
    assert events.filter(pl.col("received") - pl.col("ts") > HOUR).height == truth.planted["late"] > 100


def test_every_sign_in_and_alias_joins_its_ids(ingested):
    truth, report, log = ingested
    seen = {event: sighting.events for (_, event), sighting in report.inventory.items()}
    for event in ("identify", "alias", "order_completed", "order_refunded"):
        assert seen[event] == truth.planted[event] > 0
    joined = {name: canonical for name, (canonical, _) in log.canonical().items()}
    pairs = truth.people.filter(pl.col("joined").is_not_null()).explode("ids").select("ids", "user")
    assert joined == dict(pairs.iter_rows())


def test_every_persons_history_is_what_they_did(ingested, clean_frame):
    _, _, log = ingested
    columns = ["user", "event", "ts"]
    read = log.frame(columns=[*columns, "mark", "until"]).filter(pl.col("mark").is_null() & ~TAKEN_BACK).select(columns)
    assert read.sort(columns).equals(clean_frame.select(columns).sort(columns))


def test_consent_and_missing_values_are_counted(ingested, clean_frame):
    truth, report, log = ingested
    assert log.frame(columns=["consent"])["consent"].is_not_null().sum() == truth.planted["consent_statements"]
    payments = clean_frame.filter(pl.col("event").is_in(["payment_info_entered", "order_completed"]))
    assert report.missing["payment_method: default"] == payments["p_payment_method"].null_count() > 0


def test_undeclared_properties_are_counted(ingested):
    truth, report, _ = ingested
    if report.undeclared:
        sent = truth.planted["undeclared"] + truth.planted["undeclared_copies"]
        assert report.undeclared == {UNDECLARED_PROPERTY: sent}
    assert truth.planted["undeclared"] > 0


def test_clean_data_has_nothing_wrong_with_it(tmp_path):
    truth = write_shop(Shop(users=100, days=10, seed=912, dirt=0), tmp_path)
    log = EventLog(tmp_path / "log", TrackingPlan.read("examples/shop/plan.yaml"), key=b"key")
    report = log.ingest(tmp_path / "events/shop-0000.ndjson")
    assert report.rows == report.accepted == truth.planted["events"] == truth.planted["messages"]
    assert not report.quarantined
    assert not report.marked


def test_the_truth_of_two_chunks_adds_up():
    truths = [truth for _, truth in simulate(Shop(users=40, days=5, seed=913))]
    assert Truth.concat([*truths, *truths]).planted["people"] == 80
