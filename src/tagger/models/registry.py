"""Which class reads which model folder."""

from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from tagger.errors import UserError
from tagger.models.base import Classifier, read_settings


def load_classifier(folder: Path) -> Classifier:
    """Read a model folder, whatever approach wrote it.

    Raises:
        UserError: when a file is missing or does not hold what it should.
    """
    try:
        approach = read_settings(folder)["approach"]
        if approach not in LOADERS:
            raise ValueError(f"approach {approach!r} is none of {', '.join(LOADERS)}")
        return LOADERS[approach](folder)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{folder} does not hold a whole model: {reason}") from None


# Each imports its own class: torch takes seconds, and rules do without it.
def _transformer(folder: Path) -> Classifier:
    from tagger.models.transformer import TransformerClassifier

    return TransformerClassifier.load(folder)


def _linear(folder: Path) -> Classifier:
    from tagger.models.linear import LinearClassifier

    return LinearClassifier.load(folder)


def _rules(folder: Path) -> Classifier:
    from tagger.models.rules import RulesClassifier

    return RulesClassifier.load(folder)


def _ensemble(folder: Path) -> Classifier:
    from tagger.models.ensemble import EnsembleClassifier

    return EnsembleClassifier.load(folder)


def _onnx(folder: Path) -> Classifier:
    from tagger.models.onnx import OnnxClassifier

    return OnnxClassifier.load(folder)


def _static(folder: Path) -> Classifier:
    from tagger.models.static import StaticClassifier

    return StaticClassifier.load(folder)


LOADERS: dict[str, Callable[[Path], Classifier]] = {
    "transformer": _transformer,
    "linear": _linear,
    "rules": _rules,
    "ensemble": _ensemble,
    "onnx": _onnx,
    "static": _static,
}
