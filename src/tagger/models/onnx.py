"""A model that onnxruntime computes: no torch, at import or later."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tagger.data.items import Item
from tagger.environment import available_cores
from tagger.models.base import SETTINGS, read_settings
from tagger.models.instructions import SAMPLES, check_instructions
from tagger.models.tokenization import TOKENIZER, load_tokenizer
from tagger.scores import softmax

GRAPH = "model.onnx"
INPUTS = ["attention_mask", "input_ids"]
ERRORS_ONLY = 3
"""onnxruntime's level of messages; what it warns of no user can mend."""


class OnnxClassifier:
    """A `Classifier` around a graph of ids and mask, (n, tokens), to logits, (n, n_tags).

    Args:
        folder: Where its files are, as `tagger.compression.export` wrote them.
        session: The loaded graph.
        tokenizer: Cuts at the model's maximal length.
        tags: The approved tags.
    """

    def __init__(
        self,
        folder: Path,
        session: onnxruntime.InferenceSession,
        tokenizer: Tokenizer,
        tags: Sequence[str],
    ) -> None:
        self.folder = folder
        self.session = session
        self.tokenizer = tokenizer
        self.tags = tuple(tags)

    def predict_proba(self, items: Sequence[Item]) -> NDArray[np.float64]:
        """Return softmax probabilities of shape (n_items, n_tags).

        Each text is computed by itself. On a CPU batches gain nothing here, and int8 takes its
        ranges from all that is computed together: an answer would depend on the texts beside it.
        """
        encodings = self.tokenizer.encode_batch_fast([item.text for item in items])
        logits = np.zeros((len(items), len(self.tags)))
        for position, encoding in enumerate(encodings):
            ids = np.array([encoding.ids], np.int64)
            inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
            logits[position] = self.session.run(["logits"], inputs)[0][0]
        return softmax(logits)

    def save(self, folder: Path) -> None:
        """Copy the files that it was loaded from."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in (GRAPH, TOKENIZER, SETTINGS, SAMPLES):
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder, and check that this machine computes it as the one that wrote it.

        Raises:
            UserError: when on this machine the model gives other answers.
        """
        settings = read_settings(folder)
        tags = settings["tags"]
        session = _start(folder / GRAPH, settings["threads"], len(tags))
        tokenizer = load_tokenizer(folder, settings["max_length"])
        classifier = cls(folder, session, tokenizer, tags)
        check_instructions(classifier, folder, settings["instructions"])
        return classifier


def _start(path: Path, threads: int | None, n_tags: int) -> onnxruntime.InferenceSession:
    """Load a graph.

    Raises:
        OSError: when there is no such file.
        ValueError: when it holds no graph of a classifier of so many tags.
    """
    graph = path.read_bytes()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = available_cores() if threads is None else threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds of error have no common ancestor but this
        raise ValueError(f"{path.name} cannot be loaded: {_first_line(error)}") from None
    inputs = sorted(one.name for one in session.get_inputs())
    outputs = {one.name: one.shape for one in session.get_outputs()}
    if inputs != INPUTS or outputs.get("logits", [None])[-1] != n_tags:
        raise ValueError(
            f"{path.name} maps {inputs} to {outputs}, expected {INPUTS} to {n_tags} logits"
        )
    return session


def _first_line(error: Any) -> str:
    return str(error).partition("\n")[0]
