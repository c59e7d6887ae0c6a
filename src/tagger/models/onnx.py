"""A classifier that onnxruntime computes: no torch, at import or later."""

import shutil
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from tagger.data.items import Item
from tagger.errors import first_line
from tagger.models.base import read_settings
from tagger.models.cpu_features import check_cpu_features
from tagger.models.tokenization import load_tokenizer
from tagger.scores import softmax
from tagger.threads import cores_are_taken, usable_threads

GRAPH = "model.onnx"
INPUTS = ["attention_mask", "input_ids"]
ERRORS_ONLY = 3
"""onnxruntime's level of messages; what it warns of no user can mend."""

SLOWER = ["SkipLayerNormFusion"]
"""What onnxruntime would do to a graph: join an addition to the normalization after it, in a node
that takes five times as long as the two do (1.32, AVX-512)."""

MANY = 32
"""Texts from which on it is faster to compute several at a time, each on one core."""


class OnnxClassifier:
    """A `Classifier` around a graph of ids and mask, (n, tokens), to logits, (n, n_tags).

    The graph gives the encoder's vectors, (n, hidden), too, unless an older version exported it.

    Args:
        folder: Where its files are, as `tagger.compression.export` wrote them.
        threads: How many to compute with; None: one on each core.
        tokenizer: Cuts at the model's maximal length.
        tags: The approved tags.

    Raises:
        OSError: when there is no graph.
        ValueError: when it is not that of a classifier with these tags.
    """

    def __init__(
        self, folder: Path, threads: int | None, tokenizer: Tokenizer, tags: Sequence[str]
    ) -> None:
        self.folder = folder
        self.threads = usable_threads() if threads is None else threads
        self.tokenizer = tokenizer
        self.tags = tuple(tags)
        # Kept, because the file may be another when `one_core` is made of it.
        self.graph = (folder / GRAPH).read_bytes()
        self.session = _start(self.graph, self.threads, len(tags))
        widths = [one.shape[-1] for one in self.session.get_outputs() if one.name == "vectors"]
        self.vector_width = int(widths[0]) if widths else 0

    @cached_property
    def one_core(self) -> onnxruntime.InferenceSession:
        """The graph, computed by whatever thread asks for it; made when it is first needed."""
        return _start(self.graph, 1, len(self.tags))

    def predict_proba(self, items: Sequence[Item]) -> NDArray[np.float64]:
        """Return softmax probabilities of shape (n_items, n_tags).

        Each text is computed by itself. On a CPU batches gain nothing here, and int8 takes its
        ranges from all that is computed together: an answer would depend on the texts beside it.
        The cores share the work on a few texts, and share out many.
        """
        return softmax(self._compute(["logits"], items))

    def embed(self, items: Sequence[Item]) -> NDArray[np.float64]:
        """Return the encoder's pooled vectors, (n_items, vector_width)."""
        return self._compute(["vectors"], items)

    def predict_and_embed(
        self, items: Sequence[Item]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return softmax probabilities (n_items, n_tags) and vectors (n_items, vector_width)."""
        both = self._compute(["logits", "vectors"], items)
        n_tags = len(self.tags)
        return softmax(both[:, :n_tags]), both[:, n_tags:]

    def _compute(self, outputs: list[str], items: Sequence[Item]) -> NDArray[np.float64]:
        """Return outputs of the graph beside each other, (n_items, their widths)."""
        encodings = self.tokenizer.encode_batch_fast([item.text for item in items])
        if len(items) < MANY or self.threads == 1:
            rows = [_compute(self.session, outputs, encoding) for encoding in encodings]
        else:
            from concurrent.futures import ThreadPoolExecutor  # 10 ms that a text need not wait for

            with ThreadPoolExecutor(self.threads) as pool:
                rows = list(pool.map(partial(_compute, self.one_core, outputs), encodings))
        widths = {"logits": len(self.tags), "vectors": self.vector_width}
        return np.array(rows, np.float64).reshape(len(items), sum(widths[n] for n in outputs))

    def save(self, folder: Path) -> None:
        """Copy the files that it was loaded from."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder, and check that this machine computes it as the one that wrote it.

        Raises:
            UserError: when on this machine the model gives other answers.
        """
        settings = read_settings(folder)
        tokenizer = load_tokenizer(folder, settings["max_length"])
        classifier = cls(folder, settings["threads"], tokenizer, settings["tags"])
        check_cpu_features(classifier, folder, settings["instructions"])
        return classifier


def _compute(
    session: onnxruntime.InferenceSession, outputs: list[str], encoding: Encoding
) -> NDArray[np.float32]:
    """Return outputs of the graph for one text, beside each other."""
    ids = np.array([encoding.ids], np.int64)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return np.concatenate([output[0] for output in session.run(outputs, inputs)])


def _start(graph: bytes, threads: int, n_tags: int) -> onnxruntime.InferenceSession:
    """Load a graph.

    Raises:
        ValueError: when it is not that of a classifier of so many tags.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if threads > 1 and cores_are_taken(threads):
        # They would spin on cores that others compute on: on two cores at a load of 8 an item's
        # median was 20 to 25 ms so, and 3 to 18 ms without.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOWER
        )
    except Exception as error:  # its own kinds of error have no common ancestor but this
        raise ValueError(f"{GRAPH} cannot be loaded: {first_line(error)}") from None
    inputs = sorted(one.name for one in session.get_inputs())
    outputs = {one.name: one.shape for one in session.get_outputs()}
    if inputs != INPUTS or outputs.get("logits", [None])[-1] != n_tags:
        raise ValueError(
            f"{GRAPH} maps {inputs} to {outputs}, expected {INPUTS} to {n_tags} logits"
        )
    return session
