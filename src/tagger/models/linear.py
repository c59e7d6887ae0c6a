"""A linear classifier on TF-IDF features of words and characters."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from tagger.config.schema import LinearConfig
from tagger.data.items import Item
from tagger.files import write_json
from tagger.models.base import SETTINGS, read_settings
from tagger.scores import softmax

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

TOKENS = r"(?u)\w+|[^\w\s]"
WEIGHTS, VOCABULARY = "linear.safetensors", "vocabulary.json"
IMPOSSIBLE = -1e9
"""Bias of a tag that no training item had."""


SHARPNESS = 2.0
"""Margins are logits once they are taken twice: about as sure, then, as they are right."""


class LinearClassifier:
    """A `Classifier`: TF-IDF of words and of characters, and one linear machine a tag.

    Support vector machines (squared hinge, one tag against the rest) rank texts better here than a
    logistic regression does. The softmax of their margins is no probability yet; the correction
    that any run fits (`decision.calibration`) makes it one.

    Args:
        tags: The approved tags.
        ngrams: Longest sequence of words, and of characters within a word, that is a feature; the
            shortest of characters has two.
        vocabularies: Terms of words and of characters, each in the order of its columns.
        idf: Inverse document frequencies, of words and of characters.
        weight: (n_tags, n_words + n_chars).
        bias: (n_tags,).
    """

    def __init__(
        self,
        tags: Sequence[str],
        *,
        ngrams: tuple[int, int],
        vocabularies: tuple[list[str], list[str]],
        idf: tuple[NDArray[np.float32], NDArray[np.float32]],
        weight: NDArray[np.float32],
        bias: NDArray[np.float32],
    ) -> None:
        self.tags = tuple(tags)
        self.ngrams = ngrams
        self.vocabularies, self.idf = vocabularies, idf
        self.weight, self.bias = weight, bias
        # Made once: there is a row for each of some hundred thousand terms, and a text has few.
        self._coefficients = np.ascontiguousarray(weight.T, dtype=np.float64)
        self._idf = np.concatenate(idf).astype(np.float64)
        if len(vocabularies[0]) + len(vocabularies[1]) != len(self._coefficients):
            raise ValueError("there are more terms than weights, or fewer")
        self._column_of = [
            {term: column for column, term in enumerate(terms, start)}
            for terms, start in zip(vocabularies, (0, len(vocabularies[0])), strict=True)
        ]

    @classmethod
    def fit(
        cls,
        items: Sequence[Item],
        weights: Sequence[float],
        config: LinearConfig,
        tags: Sequence[str],
    ) -> Self:
        """Fit to labelled items of at least two tags, each of which counts its weight."""
        from sklearn.svm import LinearSVC

        texts = [item.text for item in items]
        targets = [tags.index(item.tag or "") for item in items]
        vectorizers = build_vectorizers((config.word_ngrams, config.char_ngrams))
        features = _stack([vectorizer.fit_transform(texts) for vectorizer in vectorizers])
        model = LinearSVC(
            C=config.C,
            class_weight="balanced" if config.balanced else None,
            random_state=0,  # of the order in which its solver takes rows
        ).fit(features, targets, sample_weight=np.asarray(weights))
        coefficients, intercepts = SHARPNESS * model.coef_, SHARPNESS * model.intercept_
        if len(model.classes_) == 2:  # scikit-learn keeps one row for two tags
            coefficients = np.vstack([-coefficients, coefficients])
            intercepts = np.array([-intercepts[0], intercepts[0]])
        weight = np.zeros((len(tags), features.shape[1]), dtype=np.float32)
        bias = np.full(len(tags), IMPOSSIBLE, dtype=np.float32)
        weight[model.classes_], bias[model.classes_] = coefficients, intercepts
        words, characters = (list(one.get_feature_names_out()) for one in vectorizers)
        word_idf, char_idf = (one.idf_.astype(np.float32) for one in vectorizers)
        return cls(
            tags,
            ngrams=(config.word_ngrams, config.char_ngrams),
            vocabularies=(words, characters),
            idf=(word_idf, char_idf),
            weight=weight,
            bias=bias,
        )

    def predict_proba(self, items: Sequence[Item]) -> NDArray[np.float64]:
        """Return softmax probabilities of shape (n_items, n_tags)."""
        if not items:
            return np.zeros((0, len(self.tags)))
        return softmax(np.array([self._logits(item.text) for item in items]))

    def _logits(self, text: str) -> NDArray[np.float64]:
        """Return the logits of a text, (n_tags,).

        What the vectorizers of `build_vectorizers` would make of it, without scikit-learn: its
        checks of one text take ten times as long as this does, and its import a second.
        """
        logits = self.bias.astype(np.float64)
        words, characters = self.ngrams
        both = (word_terms(text, words), character_terms(text, characters))
        for terms, column_of in zip(both, self._column_of, strict=True):
            counts = Counter(column_of[term] for term in terms if term in column_of)
            if counts:
                columns = np.fromiter(counts, np.int64, len(counts))
                frequencies = np.fromiter(counts.values(), np.float64, len(counts))
                values = (1 + np.log(frequencies)) * self._idf[columns]
                logits += values @ self._coefficients[columns] / np.sqrt(values @ values)
        return logits

    def save(self, folder: Path) -> None:
        """Write a folder that `load` reads: numbers as safetensors, terms as JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            "weight": np.ascontiguousarray(self.weight),
            "bias": self.bias,
            "idf_words": self.idf[0],
            "idf_characters": self.idf[1],
        }
        save_file(tensors, folder / WEIGHTS)
        write_json(folder / VOCABULARY, list(self.vocabularies))
        write_json(
            folder / SETTINGS,
            {"approach": "linear", "tags": list(self.tags), "ngrams": list(self.ngrams)},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        settings = read_settings(folder)
        words, characters = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
        most_words, most_characters = settings["ngrams"]
        return cls(
            settings["tags"],
            ngrams=(most_words, most_characters),
            vocabularies=(words, characters),
            idf=(tensors["idf_words"], tensors["idf_characters"]),
            weight=tensors["weight"],
            bias=tensors["bias"],
        )


def word_terms(text: str, longest: int) -> Iterator[str]:
    """Yield the words of a text and their sequences of up to `longest`, as scikit-learn does."""
    words = re.findall(TOKENS, text.lower())
    for length in range(1, longest + 1):
        for start in range(len(words) - length + 1):
            yield " ".join(words[start : start + length])


def character_terms(text: str, longest: int) -> Iterator[str]:
    """Yield sequences of 2 to `longest` characters within each word and the spaces around it.

    As scikit-learn does for `char_wb`: a word that is shorter than a sequence counts once, whole.
    """
    for word in text.lower().split():
        padded = f" {word} "
        for length in range(2, longest + 1):
            for start in range(max(1, len(padded) - length + 1)):
                yield padded[start : start + length]
            if len(padded) <= length:
                break


def build_vectorizers(ngrams: tuple[int, int]) -> list["TfidfVectorizer"]:
    """Build the two that make features of words and of characters."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    # Signs count as words, so that a text of emoji alone has some.
    return [
        TfidfVectorizer(ngram_range=(1, ngrams[0]), sublinear_tf=True, token_pattern=TOKENS),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, ngrams[1]), sublinear_tf=True),
    ]


def _stack(blocks: Sequence["csr_matrix"]) -> "csr_matrix":
    from scipy.sparse import hstack

    return hstack(blocks, format="csr")
