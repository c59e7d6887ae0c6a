"""Loads a model folder with the class of the approach that wrote it."""

from importlib import import_module
from pathlib import Path

from safetensors import SafetensorError

from tagger.errors import UserError, first_line
from tagger.models.base import Classifier, read_settings

CLASSES = {
    "transformer": "TransformerClassifier",
    "linear": "LinearClassifier",
    "rules": "RulesClassifier",
    "ensemble": "EnsembleClassifier",
    "onnx": "OnnxClassifier",
    "static": "StaticClassifier",
}
"""The class of each approach, in the module `tagger.models.<approach>`."""


def load_classifier(folder: Path) -> Classifier:
    """Read a model folder, whatever approach wrote it.

    Raises:
        UserError: when a file is missing or does not hold what it should.
    """
    try:
        approach = read_settings(folder)["approach"]
        if approach not in CLASSES:
            raise ValueError(f"approach {approach!r} is none of {', '.join(CLASSES)}")
        # Imported when it is needed: torch takes seconds, and rules do without it.
        kind: type[Classifier] = getattr(
            import_module(f"tagger.models.{approach}"), CLASSES[approach]
        )
        return kind.load(folder)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder} does not hold a whole model: {first_line(error)}") from None
