"""Scorers: what a text says, as a number or a word; frozen models, so that the same text always says the same."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache, partial
from hashlib import sha256
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from features.events.places import Places
    from features.events.plan import TrackingPlan

MOST = 10_000
"""Letters of a text that are looked at."""

Topics = Mapping[str, Mapping[str, float]]
"""Per topic, how much each of its words weighs."""


def scored(texts: pl.Series, scorer: str, topics: Topics) -> pl.Series:
    """What each text says; each distinct one is asked once, null stays null.

    Args:
        texts: As they came.
        scorer: `sentiment` or `topic`.
        topics: The plan's.
    """
    ask: Callable[[str], object] = sentiment if scorer == "sentiment" else partial(topic, topics=topics)
    dtype = pl.Float64() if scorer == "sentiment" else pl.String()
    distinct = texts.cast(pl.String).unique().drop_nulls()
    said = pl.Series([ask(text[:MOST]) for text in distinct], dtype=dtype)
    return texts.cast(pl.String).replace_strict(distinct, said, default=None, return_dtype=dtype)


def sentiment(text: str) -> float:
    """From -1 (bad) to 1 (good): VADER's compound score of an English text (Hutto and Gilbert 2014)."""
    return float(_analyser().polarity_scores(text)["compound"])


@cache
def _analyser() -> Any:  # noqa: ANN401 - vaderSentiment ships no types
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


def topic(text: str, topics: Topics) -> str | None:
    """The topic whose words weigh most in the text, of equal ones the first; None where it has none of their words.

    >>> topic("The parcel came late, very late.", {"quality": {"broken": 2}, "delivery": {"late": 1, "parcel": 1}})
    'delivery'
    """
    counts = Counter(words(text))
    weights = {name: sum(weight * counts[word] for word, weight in said.items()) for name, said in topics.items()}
    best = max(weights, key=lambda name: weights[name])
    return best if weights[best] > 0 else None


def words(text: str) -> list[str]:
    """The words of a text, in small letters."""
    return re.findall(r"[^\W\d_]{2,}", text.lower())


def versions(plan: "TrackingPlan", places: "Places") -> dict[str, str]:
    """Of every scorer that the plan uses, which version of it; stands in the header of every part that it wrote."""
    used: set[str] = {scorer for spec in plan.properties.values() for scorer in spec.scored}
    if places.path is not None and any(spec.place for spec in plan.properties.values()):
        used.add("place")
    known: dict[str, Callable[[], str]] = {
        "place": lambda: places.version,
        "sentiment": lambda: f"vaderSentiment {version('vaderSentiment')}",
        "topic": lambda: sha256(json.dumps(plan.topics, sort_keys=True).encode()).hexdigest()[:16],
    }
    return {scorer: known[scorer]() for scorer in sorted(used)}
