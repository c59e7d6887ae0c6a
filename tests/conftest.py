"""What tests of all rooms share: a small labelled file, and a run that was really trained on it."""

import csv
import os
import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig
from tagger.runs import RunFolder
from tagger.threads import settle_threads

if TYPE_CHECKING:
    from tagger.models.transformer import TransformerClassifier

WORDS = {
    "fruit": "apple pear plum cherry grape melon orchard harvest juice sweet ripe peel seed basket",
    "metal": "iron copper zinc nickel silver alloy furnace forge solder rust wire bolt ingot steel",
    "weather": "rain storm cloud wind frost snow fog thunder drizzle breeze hail sunny cold humid",
}
ROWS = 60


def pytest_configure() -> None:
    """Keep libraries off the network and other processes' cores; they read this at import."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["WANDB_MODE"] = "offline"
    if "PYTEST_XDIST_WORKER" in os.environ:  # several at once: each has a core of its own
        os.environ["OMP_NUM_THREADS"] = "1"
    settle_threads()


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `items.csv` (60 rows, 3 tags, a third of each) and `tags.yaml`."""
    folder = tmp_path_factory.mktemp("toy")
    rng = random.Random(0)
    tags = list(WORDS)
    with (folder / "items.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "created_on", "title", "description", "tag"])
        for number in range(ROWS):
            tag = tags[number % len(tags)]
            # The made-up words keep rows from being near-duplicates of each other.
            own = ["".join(rng.choices("bdfgklmnprstvz", k=7)) for _ in range(8)]
            title = f"{' '.join(rng.sample(WORDS[tag].split(), 3))} {own[0]}"
            words = [*rng.sample(WORDS[tag].split(), 5), *own[1:]]
            rng.shuffle(words)
            created_on = f"20{10 + number % 10}-03-{1 + number % 28:02} 12:00:00"
            writer.writerow([f"t{number:02}", created_on, title, " ".join(words), tag])
    entries = "".join(f"  - name: {tag}\n    definition: About {tag}.\n" for tag in tags)
    (folder / "tags.yaml").write_text(f"tags:\n{entries}", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_config(toy_folder: Path) -> Callable[..., TrainConfig]:
    """Makes configs of a tiny model on the toy file; overrides as on the command line."""

    @cache  # composing takes a tenth of a second, and a config can't be changed
    def make(*overrides: str) -> TrainConfig:
        given = [
            "data=file",
            "data.name=toy",
            f"data.path={toy_folder / 'items.csv'}",
            f"data.tags={toy_folder / 'tags.yaml'}",
            "data.split.validation=0.2",
            "data.split.test=0.2",
            "model=tiny",
            "model.freeze_embeddings=false",
            "training.mixed_precision=fp32",
            "training.threads=1",
            "training.epochs=6",
            "training.lr=0.005",
            "training.head_lr=0.01",
            *overrides,
        ]
        return load_config(TrainConfig, compose_config("train", given))

    return make


@pytest.fixture(scope="session")
def tiny_run(
    tiny_config: Callable[..., TrainConfig], tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    """A finished run named `tiny`. It is shared: copy it (`copy_run`) before damaging it."""
    from tagger.training.train_run import train

    runs_dir = tmp_path_factory.mktemp("runs")
    return RunFolder(train(tiny_config("name=tiny", f"runs_dir={runs_dir}")))


@pytest.fixture
def copy_run(tiny_run: RunFolder, tmp_path: Path) -> Callable[..., RunFolder]:
    """Makes a copy of `tiny_run` below `tmp_path / "runs"` that a test may damage."""

    def copy(name: str = "copy") -> RunFolder:
        return RunFolder(Path(shutil.copytree(tiny_run.path, tmp_path / "runs" / name)))

    return copy


@pytest.fixture
def tiny_classifier(tiny_config: Callable[..., TrainConfig]) -> "TransformerClassifier":
    """An untrained tiny model for the toy file's tags, with frozen token embeddings."""
    import torch

    from tagger.models.transformer import TransformerClassifier

    torch.manual_seed(0)
    config = tiny_config("model.freeze_embeddings=true").model
    return TransformerClassifier.build(config, list(WORDS))
