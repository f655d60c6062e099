import gzip
import json

import polars as pl

from features.events.batch import EventBatch
from features.events.plan import TrackingPlan
from features.events.sources import read_source
from features.simulate import Shop, write_shop
from features.simulate.properties import PROPERTIES
from features.simulate.types import TYPES
from features.simulate.writing import canonical, simulate

PLAN = "examples/shop/plan.yaml"
SMALL = Shop(users=300, days=20, seed=101, dirt=5)


def messages(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}}")]


def test_the_same_shop_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_shop(SMALL, tmp_path / name)
    first, second = (tmp_path / name / "events" / "shop-0000.ndjson" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_another_seed_gives_other_events(tmp_path):
    write_shop(SMALL, tmp_path / "a")
    write_shop(Shop(users=300, days=20, seed=102, dirt=5), tmp_path / "b")
    assert (tmp_path / "a/events/shop-0000.ndjson").read_bytes() != (
        tmp_path / "b/events/shop-0000.ndjson"
    ).read_bytes()


def test_all_formats_hold_the_same_messages(tmp_path):
    truths = {name: write_shop(SMALL, tmp_path / name, format=name) for name in ("ndjson", "ndjson.gz", "parquet")}
    plain = (tmp_path / "ndjson/events/shop-0000.ndjson").read_bytes()
    assert gzip.decompress((tmp_path / "ndjson.gz/events/shop-0000.ndjson.gz").read_bytes()) == plain
    frame = pl.read_parquet(tmp_path / "parquet/events/shop-0000.parquet")
    by_id = {each["messageId"]: each for each in messages(tmp_path / "ndjson/events/shop-0000.ndjson")}
    assert set(frame["message_id"]) == set(by_id)
    assert frame.height == truths["parquet"].planted["messages"]
    assert truths["ndjson"].planted["messages"] == len(plain.splitlines())


def test_the_plan_of_the_example_declares_exactly_what_is_sent():
    plan = TrackingPlan.read(PLAN)
    begins = {event for kind in TYPES for event in kind.moves["start"]}
    for event, names in PROPERTIES.items():
        beside = {"traffic_source", "campaign"} if event in begins else set()
        assert set(plan.event(event).properties) == {*names, *beside}, event


def test_a_session_that_a_campaign_brought_says_so_once_in_a_message_s_context_or_in_a_column(tmp_path):
    plan = TrackingPlan.read(PLAN)
    shares = []
    for name in ("ndjson", "parquet"):
        write_shop(SMALL, tmp_path / name, format=name)
        batches = list(read_source(tmp_path / f"{name}/events/shop-0000.{name}", plan))
        told = EventBatch.concat(batches).frame.filter(pl.col("p_campaign").is_not_null())
        shares.append(told.select("message_id", "p_traffic_source", "p_campaign").sort(pl.all()))
    assert shares[0].height > 100
    assert shares[0].equals(shares[1])
    assert shares[0]["p_campaign"].n_unique() == 2 * shares[0]["p_traffic_source"].n_unique() == 6


def test_canonical_columns_make_an_event_batch():
    frame, _ = next(iter(simulate(SMALL)))
    batch = EventBatch(canonical(frame), TrackingPlan.read(PLAN))
    assert len(batch) == canonical(frame).height


def test_nothing_of_the_truth_is_written_with_the_events(tmp_path):
    write_shop(SMALL, tmp_path, format="parquet")
    columns = pl.read_parquet_schema(tmp_path / "events/shop-0000.parquet")
    assert not {"person", "bad", "undeclared", "type", "level"} & set(columns)


def test_the_truth_reads_back(tmp_path):
    from features.simulate import Truth

    written = write_shop(SMALL, tmp_path)
    read = Truth.read(tmp_path / "truth")
    assert read.people.equals(written.people)
    assert read.propensity.equals(written.propensity)
    assert read.planted == written.planted
