"""Out-of-fold probabilities from simple models that look at the text in different ways.

They are cheap (seconds for a thousand items) and err differently, which is what finding wrong
labels needs: a fine-tuned model of the same accuracy learns the wrong labels by heart. Three vote:

* `meaning`: logistic regression on the vectors of a pretrained encoder;
* `neighbours`: the tags of the nearest items by those vectors, weighted by similarity;
* `words`: logistic regression on TF-IDF of words and of characters.

Without vectors only `words` and `words (Bayes)`, a complement naive Bayes on words, vote.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from tagger.models.embedding import unit_rows

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
# Takes (training indices, test indices), returns probabilities (tests, tags).
Voter = Callable[[IntArray, IntArray], FloatArray]

FOLDS = 10
NEIGHBOURS = 15
TOKENS = r"(?u)\w+|[^\w\s]"
SHARPNESS = 8.0
"""Weight of a neighbour is exp(SHARPNESS * cosine): one at 0.8 weighs 11 times one at 0.5."""


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
    from sklearn.model_selection import StratifiedGroupKFold

    given = np.asarray(labels, dtype=np.int64)
    if len(np.unique(given)) < 2 or len(set(groups)) < 2:
        raise ValueError("out-of-fold votes need at least two tags and two different items")
    voters = _voters(texts, given, n_tags, vectors)
    votes = {name: np.zeros((len(texts), n_tags)) for name in voters}
    n_folds = min(FOLDS, len(set(groups)))
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    for train, test in folds.split(np.zeros(len(texts)), _splittable(given, n_folds), groups):
        for name, vote in voters.items():
            if len(test):
                votes[name][test] = vote(train, test)
        after_fold()
    return votes


def mean_vote(votes: dict[str, FloatArray]) -> FloatArray:
    """Average the voters' probabilities, (n, n_tags)."""
    mean: FloatArray = np.stack(list(votes.values())).mean(axis=0)
    return mean


def _splittable(given: IntArray, n_folds: int) -> IntArray:
    """Count tags rarer than the number of folds as the most frequent one, for the division only.

    They cannot be in every fold anyway, and scikit-learn would warn of each.
    """
    counts = np.bincount(given)
    return np.where(counts[given] >= n_folds, given, counts.argmax())


def _voters(
    texts: Sequence[str],
    given: IntArray,
    n_tags: int,
    vectors: npt.NDArray[np.floating] | None,
) -> dict[str, Voter]:
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import ComplementNB

    # Signs count as words, so that a text of emoji alone has some.
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=TOKENS)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)

    def fitted(features: object, model: Callable[[], object]) -> Voter:
        def vote(train: IntArray, test: IntArray) -> FloatArray:
            rows = np.zeros((len(test), n_tags))
            if len(np.unique(given[train])) == 1:  # the other tags are all in the fold left out
                rows[:, given[train[0]]] = 1
                return rows
            one = model().fit(features[train], given[train])  # type: ignore[attr-defined, index]
            rows[:, one.classes_] = one.predict_proba(features[test])  # type: ignore[index]
            return rows

        return vote

    # Weights of words come from all items: they know nothing of tags.
    both = hstack([words.fit_transform(texts), characters.fit_transform(texts)], format="csr")
    # Newton steps: a tenth of the default solver's time on these features, the same solution.
    by_words = fitted(both, lambda: LogisticRegression(C=10, solver="newton-cg"))
    if vectors is None:
        counts = CountVectorizer(binary=True, token_pattern=TOKENS).fit_transform(texts)
        return {"words": by_words, "words (Bayes)": fitted(counts, ComplementNB)}
    units = unit_rows(vectors)
    return {
        "meaning": fitted(units, lambda: LogisticRegression(C=3, solver="newton-cg")),
        "neighbours": _neighbours(units, given, n_tags),
        "words": by_words,
    }


def _neighbours(units: npt.NDArray[np.floating], given: IntArray, n_tags: int) -> Voter:
    def vote(train: IntArray, test: IntArray) -> FloatArray:
        n = min(NEIGHBOURS, len(train))
        rows = np.empty((len(test), n_tags))
        # In blocks, so that the similarities of many items need not be in memory at once.
        for start in range(0, len(test), 256):
            block = test[start : start + 256]
            similarity = units[block] @ units[train].T
            nearest = np.argpartition(-similarity, n - 1, axis=1)[:, :n]
            weights = np.exp(SHARPNESS * np.take_along_axis(similarity, nearest, axis=1))
            one_hot = np.eye(n_tags)[given[train[nearest]]]
            sums = (weights[:, :, None] * one_hot).sum(axis=1)
            # A little doubt: no tag is impossible because none of a few neighbours has it.
            sums += 0.02 * sums.sum(axis=1, keepdims=True)
            rows[start : start + 256] = sums / sums.sum(axis=1, keepdims=True)
        return rows

    return vote
