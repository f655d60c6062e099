"""What the door finds out about an event is what a file finds out."""

import json
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as some

from features.events.cleaning import clean
from features.events.erasure import Tombstones
from features.events.places import Places
from features.events.plan import TrackingPlan
from features.events.sources import read_source
from serving.collection import messages_of, preparation
from tests.features.events.test_places import NETWORKS, WHERE, mmdb
from tests.features.events.test_scorers import REVIEW, TOPICS

PLAN = TrackingPlan.from_dict({"events": {"reviewed": {"properties": {**REVIEW, **WHERE}}}, "topics": TOPICS})
FOUND = [f"p_{name}" for name, spec in PLAN.properties.items() if spec.scored or spec.place]
WORDS = ["late", "PARCEL", "broken", "great!", "not", "bad", "terrible :(", "love", "the", "é", "\u0130"]


@given(
    some.lists(
        some.tuples(
            some.one_of(some.lists(some.sampled_from(WORDS)).map(" ".join), some.text(max_size=50)),
            some.sampled_from(["192.0.2.9", "198.51.100.200", "2001:db8::9", "203.0.113.1", "x", ""]),
        ),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=40, deadline=None)
def test_a_batch_at_the_door_and_the_same_lines_in_a_file_are_found_out_alike(tmp_path_factory, said) -> None:
    folder: Path = tmp_path_factory.mktemp("both")
    places = Places(mmdb(folder / "cities.mmdb", NETWORKS))
    messages = [
        {
            "type": "track",
            "event": "reviewed",
            "userId": "u",
            "messageId": f"m{k}",
            "timestamp": "2026-01-01T00:00:00Z",
            "properties": {"review": text},
            "context": {"ip": address},
        }
        for k, (text, address) in enumerate(said)
    ]
    file = folder / "reviews.ndjson"
    file.write_text("".join(json.dumps(each) + "\n" for each in messages))
    batches = [clean(batch, PLAN, key=b"key", places=places).batch.frame for batch in read_source(file, PLAN)]
    prepare = preparation(PLAN, b"key", Tombstones, places)
    door = prepare(messages_of({"batch": messages}, "batch"), 1_767_225_600_000_000).batch.frame
    known = [name for name in FOUND if name in door.columns]
    assert known == [name for name in FOUND if name in batches[0].columns]
    assert door.select("message_id", *known).equals(pl.concat(batches).select("message_id", *known))
