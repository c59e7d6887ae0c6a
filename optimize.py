"""Search for the best config within a budget: `python optimize.py --help`."""

from tagger.scripts import run_hydra_script


def main() -> None:
    """Compose the config and search."""
    run_hydra_script("optimize", _optimize)


def _optimize(config):  # type: ignore[no-untyped-def]  # its type would import torch for --help
    from tagger.search.run_search import search

    search(config)


if __name__ == "__main__":  # workers import this file too
    main()
