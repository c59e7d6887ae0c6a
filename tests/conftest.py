"""What tests of all rooms share: a small labelled file, and a run that was really trained on it."""

import csv
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import EvaluateConfig, LinearConfig, ModelConfig, TrainConfig
from tagger.data.items import Item
from tagger.data.sources import load_labelled
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
PASSWORD = "open-sesame"


def pytest_configure() -> None:
    """Keep libraries off the network and other processes' cores; they read this at import."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["WANDB_MODE"] = "offline"
    if "PYTEST_XDIST_WORKER" in os.environ:  # several at once: each has a core of its own
        os.environ["OMP_NUM_THREADS"] = "1"
    settle_threads()
    # In the background of a shell Ctrl-C is ignored, which processes of tests would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a PostgreSQL server that runs for these tests alone."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(found) for found in [shutil.which("initdb")] if found
    ]
    if not found:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    programs = found[-1].parent
    # It refuses to run as root; Debian's package comes with a user for it.
    user = "postgres" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="tagger-db-"))
    if user:
        shutil.chown(folder, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    password = folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o644)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [str(programs / program), *arguments],
            user=user, group=user, extra_groups=[] if user else None,
            cwd=folder, check=True, capture_output=True, timeout=120,
        )  # fmt: skip

    run("initdb", "-D", f"{folder}/data", "-A", "md5", "-U", "us", f"--pwfile={password}", "-N")
    options = f"-p {port} -k {folder} -c fsync=off -c listen_addresses=127.0.0.1"
    # Its log must not be a pipe of ours, which would stay open as long as the server.
    run("pg_ctl", "-D", f"{folder}/data", "-w", "-l", f"{folder}/log", "-o", options, "start")
    try:
        yield f"postgresql://us:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")
        shutil.rmtree(folder)


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

    @cache  # composing takes hundredths of a second, and a config can't be changed
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


class Runs:
    """Trains runs on the toy file below one folder, and reads them."""

    def __init__(self, tiny_config: Callable[..., TrainConfig], folder: Path) -> None:
        self.tiny_config, self.folder = tiny_config, folder

    def config(self, name: str, *overrides: str) -> TrainConfig:
        own = (f"name={name}", f"runs_dir={self.folder}", "training.epochs=1")
        return self.tiny_config(*own, *overrides)

    def train(self, name: str, *overrides: str, model: ModelConfig | None = None) -> RunFolder:
        """Train the tiny transformer, or another model."""
        from tagger.training.train_run import train

        config = self.config(name, *overrides)
        return RunFolder(train(config.model_copy(update={"model": model} if model else {})))

    def open(self, name: str) -> RunFolder:
        return RunFolder(self.folder / name)

    def items(self, name: str, part: str) -> list[Item]:
        """Return the items of a part of a run's own source."""
        run = self.open(name)
        known = {item.id: item for item in load_labelled(run.config.data, run.tags).items}
        return [known[row.id] for row in run.split_rows() if row.split == part]


@pytest.fixture(scope="session")
def linear_model() -> LinearConfig:
    """The config of a linear model, which is trained in a fraction of a second."""
    return LinearConfig(
        approach="linear", name="linear", word_ngrams=1, char_ngrams=3, C=10.0, balanced=False
    )


@pytest.fixture(scope="session")
def strange_items() -> list[Item]:
    """Items unlike those of the toy file: mixed, half empty, in other scripts."""
    return [
        Item("s1", "apple and copper", "juice in a furnace"),
        Item("s2", "", "snow upon zinc"),
        Item("s3", 'Ünïcödé 深度学习, "quoted"', "a\nnew line"),
        Item("s4", "plum", ""),
    ]


@pytest.fixture(scope="session")
def shared_runs(
    tiny_config: Callable[..., TrainConfig],
    linear_model: LinearConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> Runs:
    """Linear runs of one split, to be read, never changed.

    `words` and `rough` have predictions out of folds. So has `told`, which was trained on two
    further rows, one with the id of a row of its own. `plain` has none.
    """
    runs = Runs(tiny_config, tmp_path_factory.mktemp("shared"))
    folds = "decision.folds=3"
    words = runs.train("words", folds, model=linear_model)
    runs.train("rough", folds, model=linear_model.model_copy(update={"C": 0.1}))
    runs.train("plain", model=linear_model)
    extra = tmp_path_factory.mktemp("extra") / "extra.csv"
    extra.write_text(
        "id,title,description,tag\n"
        f"{words.split_rows()[0].id},tungsten and bismuth mined abroad,,metal\n"
        "x,monsoon arrives in quito,,weather\n",
        encoding="utf-8",
    )
    runs.train("told", folds, f"data.extra=[{extra}]", model=linear_model)
    return runs


@pytest.fixture(scope="session")
def evaluated_runs(
    tiny_config: Callable[..., TrainConfig],
    linear_model: LinearConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> Runs:
    """Two evaluated runs of one split, to be read, never changed.

    `untaught` is a transformer that was hardly trained, so that it errs; its decision was fitted to
    predictions out of folds, and its report compares it with `words`, a linear run.
    """
    from tagger.evaluation.evaluate_run import evaluate_run

    runs = Runs(tiny_config, tmp_path_factory.mktemp("evaluated"))
    runs.train("words", model=linear_model)
    runs.train("untaught", "decision.folds=2", "training.head_init=random", "training.head_lr=1e-6")
    quick = ["latency.items=10", "resamples=100"]
    for name, more in (("words", []), ("untaught", [f"against={runs.folder / 'words'}"])):
        given = [f"run={runs.folder / name}", *quick, *more]
        config = load_config(EvaluateConfig, compose_config("evaluate", given))
        evaluate_run(config).report.write(runs.folder / name / "report.json")
    return runs


@pytest.fixture
def runs(shared_runs: Runs, tmp_path: Path) -> Runs:
    """A copy of the shared runs, to be changed and to train more beside them."""
    shutil.copytree(shared_runs.folder, tmp_path / "runs")
    return Runs(shared_runs.tiny_config, tmp_path / "runs")
