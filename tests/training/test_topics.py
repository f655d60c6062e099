"""Topics that were planted in texts are found again, and the frozen words tell them as the factors do."""

import numpy as np
import pytest

from features.errors import StudyError
from features.events.scorers import topic
from training.topics import fitted

PLANTED = {
    "delivery": ["parcel", "late", "courier", "delivery", "shipping", "days", "waiting", "arrived"],
    "quality": ["broken", "cheap", "plastic", "quality", "material", "stitching", "solid", "fell"],
    "size": ["small", "large", "fits", "size", "sleeve", "waist", "length", "tight"],
}


def texts(n: int) -> tuple[list[str], list[str]]:
    random = np.random.default_rng(5)
    about = random.choice(list(PLANTED), n).tolist()
    filler = ["it", "was", "the", "shop", "product", "again", "bought", "nice", "thing"]
    said = [" ".join([*random.choice(PLANTED[name], 4), *random.choice(filler, 3)]) for name in about]
    return said, about


def test_planted_topics_are_found_again() -> None:
    said, about = texts(400)
    topics = fitted(said, n_topics=3)
    told = [topic(text, topics) for text in said]
    names = {name: _mostly(told, about, name) for name in topics}
    assert sorted(names.values()) == sorted(PLANTED)
    assert sum(names.get(t or "") == a for t, a in zip(told, about, strict=True)) > 0.97 * len(said)
    assert fitted(said, n_topics=3) == topics


def _mostly(told: list[str | None], about: list[str], name: str) -> str:
    mine = [a for t, a in zip(told, about, strict=True) if t == name]
    return max(set(mine), key=mine.count)


def test_texts_that_share_nothing_have_no_topics() -> None:
    with pytest.raises(StudyError, match="share too few words"):
        fitted(["one thing", "another matter"], n_topics=2)
