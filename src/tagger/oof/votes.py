"""Out-of-fold probabilities of simple classifiers that look at the text in different ways.

They are cheap (seconds for a thousand items) and err differently, which is what finding wrong
labels needs: a fine-tuned model of the same accuracy learns the wrong labels by heart. Three vote:

* `meaning`: logistic regression on the vectors of a pretrained encoder;
* `knn`: the tags of the nearest items by those vectors, weighted by similarity;
* `words`: logistic regression on TF-IDF of words and of characters.

Without vectors only `words` and `words (Bayes)`, a complement naive Bayes on words, vote.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tagger.models.embedding import unit_rows
from tagger.models.linear import TOKENS
from tagger.scores import FloatArray, IntArray

FOLDS = 10
NEIGHBOURS = 15
SHARPNESS = 8.0
"""Weight of a neighbour is exp(SHARPNESS * cosine): one at 0.8 weighs 11 times one at 0.5."""

DOUBT = 0.02
"""Share that `knn` gives every tag: none is impossible because a few items lack it."""


def out_of_fold_votes(
    texts: Sequence[str],
    labels: Sequence[int],
    n_tags: int,
    *,
    groups: Sequence[int],
    vectors: npt.NDArray[np.floating] | None,
    seed: int = 0,
    after_fold: Callable[[], object] = lambda: None,
) -> dict[str, FloatArray]:
    """Let each voter judge each item without having seen it or its near-duplicates.

    What scikit-learn's `cross_val_predict` does, but for folds without which only one tag is left
    to train on: there that tag gets all votes.

    Args:
        texts: n texts.
        labels: Their tags, as positions.
        n_tags: Number of approved tags; a tag that no item has gets probability 0.
        groups: Near-duplicate group of each item: its members share a fold.
        vectors: (n, width), an encoder's; None to do without.
        seed: Of the division into folds.
        after_fold: Called after each of `FOLDS` folds, for a progress bar.

    Returns:
        Probabilities (n, n_tags) of each voter by name; rows sum to 1.

    Raises:
        ValueError: when fewer than two tags or two groups occur.
    """
    from sklearn.base import clone
    from sklearn.model_selection import StratifiedGroupKFold

    given = np.asarray(labels, dtype=np.int64)
    if len(np.unique(given)) < 2 or len(set(groups)) < 2:
        raise ValueError("out-of-fold votes need at least two tags and two different items")
    voters = _voters(texts, vectors)
    votes = {name: np.zeros((len(texts), n_tags)) for name in voters}
    n_folds = min(FOLDS, len(set(groups)))
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    for train, test in folds.split(np.zeros(len(texts)), _splittable(given, n_folds), groups):
        known = np.unique(given[train])
        for name, (features, model) in voters.items() if len(test) else ():
            if len(known) == 1:
                votes[name][test, known[0]] = 1
                continue
            if name == "knn":
                model.set_params(n_neighbors=min(NEIGHBOURS, len(train)))
            fitted = clone(model).fit(features[train], given[train])
            votes[name][np.ix_(test, known)] = fitted.predict_proba(features[test])
        after_fold()
    if "knn" in votes:
        votes["knn"] = (votes["knn"] + DOUBT) / (1 + DOUBT * n_tags)
    return votes


def _splittable(given: IntArray, n_folds: int) -> IntArray:
    """Count tags rarer than the number of folds as the most frequent one, for the division only.

    They cannot be in every fold anyway, and scikit-learn would warn of each.
    """
    counts = np.bincount(given)
    return np.where(counts[given] >= n_folds, given, counts.argmax())


def _voters(
    texts: Sequence[str], vectors: npt.NDArray[np.floating] | None
) -> dict[str, tuple[Any, Any]]:
    """Return the features of all items and the classifier of each voter, by its name."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import ComplementNB
    from sklearn.neighbors import KNeighborsClassifier

    # Weights of words come from all items: they know nothing of tags.
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=TOKENS)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
    both = hstack([words.fit_transform(texts), characters.fit_transform(texts)], format="csr")
    # Newton steps: a tenth of the default solver's time on these features, the same solution.
    by_words = both, LogisticRegression(C=10, solver="newton-cg")
    if vectors is None:
        counts = CountVectorizer(binary=True, token_pattern=TOKENS).fit_transform(texts)
        return {"words": by_words, "words (Bayes)": (counts, ComplementNB())}
    units = unit_rows(vectors)
    nearest = KNeighborsClassifier(
        metric="cosine", weights=lambda distances: np.exp(SHARPNESS * (1 - distances))
    )
    return {
        "meaning": (units, LogisticRegression(C=3, solver="newton-cg")),
        "knn": (units, nearest),
        "words": by_words,
    }
