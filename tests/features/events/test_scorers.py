"""Texts are scored once, by frozen models, wherever they come in; the part says by which version."""

import json

import polars as pl
import pytest

from features.errors import PlanError
from features.events.batch import EventBatch
from features.events.cleaning import clean
from features.events.log import EventLog
from features.events.plan import TrackingPlan
from features.events.scorers import sentiment, topic
from features.events.segment import segment_messages

TOPICS = {"delivery": {"late": 1, "parcel": 0.5}, "quality": {"broken": 1.5, "parcel": 0.1}}
REVIEW = {
    "rating": {"type": "number"},
    "review": {"type": "text", "personal": "drop"},
    "mood": {"type": "number", "scale": 1000, "scored": {"sentiment": "review"}},
    "about": {"type": "category", "scored": {"topic": "review"}},
}
PLAN = {"events": {"reviewed": {"properties": REVIEW}, "seen": {}}, "topics": TOPICS}


def messages(*reviews: str | None) -> EventBatch:
    said = [{"review": review, "mood": 0.123} if review else {"rating": 3} for review in reviews]
    each = [{"event": "reviewed", "userId": "u", "properties": properties} for properties in said]
    return segment_messages([*each, {"event": "seen", "userId": "u"}], TrackingPlan.from_dict(PLAN), received=10**15)


def test_the_scores_stay_when_the_text_goes() -> None:
    batch = messages("The parcel came late. Terrible!", "Broken parcel, I love it anyway, great!", None)
    frame = clean(batch, batch.plan, key=b"key").batch.frame
    assert "p_review" not in frame.columns
    assert frame["p_about"].to_list() == ["delivery", "quality", None, None]
    bad, good, *rest = frame["p_mood"].to_list()
    assert (bad < -0.3, good > 0.3, rest) == (True, True, [None, None])


@pytest.mark.parametrize(
    ("text", "score"),
    [  # as published in the package's own README, version 3.3.1
        ("VADER is smart, handsome, and funny.", 0.8316),
        ("VADER is VERY SMART, handsome, and FUNNY!!!", 0.9342),
        ("The book was good.", 0.4404),
        ("The plot was good, but the characters are uncompelling and the dialog is not great.", -0.7042),
        ("Today SUX!", -0.5461),
        ("Not bad at all", 0.431),
    ],
)
def test_sentiment_is_what_was_published(text: str, score: float) -> None:
    assert sentiment(text) == score


def test_a_text_without_any_of_the_words_has_no_topic() -> None:
    assert topic("Nothing of the kind", TOPICS) is None
    assert topic("PARCEL parcel, broken", TOPICS) == "quality"


def test_the_header_of_a_part_names_the_versions_and_another_model_reads_the_file_again(tmp_path) -> None:
    file = tmp_path / "reviews.ndjson"
    said = {"event": "reviewed", "userId": "u", "timestamp": "2026-01-01T00:00:00Z", "properties": {"review": "late"}}
    file.write_text(json.dumps(said))
    for topics in (TOPICS, {"speed": {"late": 1}}):
        log = EventLog(tmp_path / "log", TrackingPlan.from_dict({**PLAN, "topics": topics}), key=b"key")
        log.ingest(file)
        (part,) = log.parts
        said = part.header()["scorers"]
        assert said["sentiment"].startswith("vaderSentiment 3.")
        assert len(said["topic"]) == 16
        assert pl.read_parquet(part.blocks[0].events)["p_about"].to_list() == [next(iter(topics))]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"type": "number", "scale": 1000, "scored": {"sentiment": "rewiev"}},
            "scored from 'rewiev', which is no text",
        ),
        ({"type": "number", "scored": {"sentiment": "review"}}, "two decimals at least"),
        ({"type": "text", "scored": {"topic": "review"}}, "is a `category`"),
    ],
)
def test_a_mistake_in_the_plan_says_what_is_wanted(spec: dict, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        TrackingPlan.from_dict(
            {"events": {"reviewed": {"properties": {**REVIEW, "mood": spec}}}, "topics": TOPICS}, PlanError
        )
    with pytest.raises(PlanError, match=r"there are none\. Hint: `topics:`"):
        TrackingPlan.from_dict({"events": {"reviewed": {"properties": REVIEW}}}, PlanError)
