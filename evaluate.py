"""Evaluate a finished run: `python evaluate.py run=NAME`; see `python evaluate.py --help`."""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path


def import_the_library() -> None:
    """Put the `evaluate` library in the place of this file, which hides it from the repo's root."""
    this = Path(__file__).resolve()
    elsewhere = [path for path in sys.path if Path(path or ".", this.name).resolve() != this]
    spec = PathFinder.find_spec(__name__, elsewhere)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("the `evaluate` library is not installed", name=__name__)
    library = sys.modules[__name__] = module_from_spec(spec)
    spec.loader.exec_module(library)


def main() -> None:
    """Run the command line."""
    from tagger.scripts import evaluate

    evaluate()


if __name__ == "__main__":
    main()
elif __name__ == "evaluate":
    import_the_library()
