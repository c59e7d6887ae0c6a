"""Fine-tune a classifier as configs/ says: `python train.py --help`."""

from tagger.scripts import run_hydra_script


def main() -> None:
    """Compose the config and train."""
    run_hydra_script("train", _train)


def _train(config):  # type: ignore[no-untyped-def]  # its type would import torch for --help
    from tagger.training.train_run import train

    train(config)


if __name__ == "__main__":
    main()
