"""Search for the best config within a budget: `python optimize.py --help`."""

from tagger.scripts import run_hydra_script


def main() -> None:
    """Compose the config, run the sweep and report it."""
    run_hydra_script("optimize", _optimize)


def _optimize(config):  # type: ignore[no-untyped-def]  # its type would import torch for --help
    from tagger.reporting.sweep import report_sweep
    from tagger.search.run_sweep import run_sweep

    run_sweep(config, report_sweep)


if __name__ == "__main__":  # workers import this file too
    main()
