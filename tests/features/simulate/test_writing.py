import gzip
import json

import polars as pl

from features.events.batch import EventBatch
from features.events.plan import TrackingPlan
from features.simulate import Shop, write_shop
from features.simulate.properties import PROPERTIES
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
    for event, names in PROPERTIES.items():
        assert set(plan.event(event).properties) == set(names), event


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
