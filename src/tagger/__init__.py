"""Fine-tunes, evaluates and serves small text classifiers that file items under approved tags.

Public are the names below, and nothing else: what they need is imported when they are asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tagger.api.estimator import TextTagger
    from tagger.api.run import Decision, Run, load
    from tagger.errors import UserError

__all__ = ["Decision", "Run", "TextTagger", "UserError", "load"]

_PLACES = {
    "Decision": "tagger.api.run",
    "Run": "tagger.api.run",
    "TextTagger": "tagger.api.estimator",
    "UserError": "tagger.errors",
    "load": "tagger.api.run",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_PLACES[name]), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"tagger.{name} needs {error.name}: install tag-or-ask[train]") from error


def __dir__() -> list[str]:
    return __all__
