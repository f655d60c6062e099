"""Topics: what people write about, found in their texts once and frozen as the words that weigh in each topic."""

from collections.abc import Sequence

import numpy as np

from features.errors import StudyError
from features.events.scorers import words

N_WORDS = 30
"""Words that a topic keeps."""


def fitted(texts: Sequence[str], *, n_topics: int) -> dict[str, dict[str, float]]:
    """Topics by non-negative factors of TF-IDF (Lee and Seung 1999), to be pasted under `topics:` in plan.yaml.

    A word weighs what its factor says, times its inverse document frequency; a topic's weights have length 1, so that
    `features.events.scorers.topic` may compare topics by a plain sum over a text.

    Args:
        texts: Such as reviews.
        n_topics: How many.

    Raises:
        StudyError: the texts have too few words in common.
    """
    from sklearn.decomposition import NMF
    from sklearn.feature_extraction.text import TfidfVectorizer

    counts = TfidfVectorizer(tokenizer=words, token_pattern=None, stop_words="english", min_df=2, max_df=0.5)
    try:
        table = counts.fit_transform(texts)
    except ValueError:
        table = np.empty((0, 0))
    if table.shape[1] < 2 * n_topics:
        raise StudyError(f"{len(texts):,} texts share too few words for {n_topics} topics. Hint: more texts.")
    model = NMF(n_topics, init="nndsvd", random_state=0, max_iter=1000).fit(table)
    names = counts.get_feature_names_out()
    found: dict[str, dict[str, float]] = {}
    for factor in model.components_ * counts.idf_:
        heaviest = np.argsort(-factor, kind="stable")[:N_WORDS]
        weights = factor[heaviest] / np.linalg.norm(factor[heaviest])
        said = {str(names[k]): round(float(w), 4) for k, w in zip(heaviest, weights, strict=True) if w >= 0.0001}
        found["_".join(list(said)[:2])] = said
    return found
