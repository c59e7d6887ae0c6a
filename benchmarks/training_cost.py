"""Wall time and memory of `train.py` beside `transformers.Trainer`, whole commands, in turn.

    python benchmarks/training_cost.py --data DATASET.csv [--epochs 4] [--seeds 3]

Imports, tokenization, training, a validation each epoch, saving and predicting the test rows are
in both. The same rows are in the same split; encoder, epochs, batch size and learning rate are the
same. Each round runs all of them one after another, so that a drift of the machine's speed touches
all alike.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import TrainConfig
from tagger.data.sources import load_labelled
from tagger.data.splits import split_items
from tagger.environment import describe_environment
from tagger.errors import exit_on_user_error
from tagger.files import REPO_ROOT, write_json
from tagger.models.encoders import locate_encoder
from tagger.runs import RunFolder, read_predictions
from tagger.scores import confusion_matrix, scores_from_confusion

OURS = {"ours": "experiment=mwml", "ours, experiment=token-dropout": "experiment=token-dropout"}


@exit_on_user_error
def main() -> None:
    """Run all rounds, print medians and ratios, save them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/training_cost"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    overrides = [
        "data=file",
        "data.name=mwml",
        f"data.path={options.data}",
        f"training.epochs={options.epochs}",
        f"runs_dir={options.out}",
        "if_exists=replace",
    ]
    config = load_config(TrainConfig, compose_config("train", [OURS["ours"], *overrides]))
    rows = write_rows(config, options.out / "rows.csv")
    rounds: list[dict[str, dict[str, Any]]] = []
    for seed in range(options.seeds):
        trainer = [
            *(sys.executable, str(REPO_ROOT / "benchmarks" / "hf_trainer.py")),
            *("--rows", str(rows), "--encoder", str(locate_encoder(config.model))),
            *("--epochs", str(options.epochs), "--lr", str(config.training.lr)),
            *("--batch-size", str(config.training.batch_size), "--seed", str(seed)),
        ]
        measured = {}
        for label, experiment in OURS.items():
            name = f"{experiment.partition('=')[2]}-{seed}"
            script = [sys.executable, str(REPO_ROOT / "train.py"), experiment, *overrides]
            result = measure([*script, f"seed={seed}", f"name={name}"])
            measured[label] = result | our_scores(options.out / name, rows)
        for precision in ("fp32", "bf16"):
            folder = options.out / f"trainer-{precision}"
            flag = ["--bf16"] if precision == "bf16" else []
            result = measure([*trainer, *flag, "--out", str(folder)])
            scores = json.loads((folder / "scores.json").read_text())
            result |= {name: scores[f"test_{name}"] for name in ("macro_f1", "weighted_f1")}
            measured[f"Trainer {precision}"] = result
            shutil.rmtree(folder)
        rounds.append(measured)
        print(f"round {seed}: " + json.dumps(measured), flush=True)

    startup = {
        "ours": measure([sys.executable, "-c", "import tagger.training.train_run"])["seconds"],
        "Trainer": measure(
            [sys.executable, "-c", "from transformers import Trainer, AutoTokenizer; "
             "import transformers.models.bert.modeling_bert"]
        )["seconds"],
    }  # fmt: skip
    print_table(rounds, startup)
    write_json(
        options.out / f"epochs-{options.epochs}.json",
        {
            "rounds": rounds,
            "import_seconds": startup,
            "environment": describe_environment().model_dump(),
        },
    )


def write_rows(config: TrainConfig, path: Path) -> Path:
    """Write the split that train.py makes, for the other script to use."""
    items = load_labelled(config.data).items
    split = split_items(items, config.data.split)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split", "text", "tag"])
        for name in ("train", "validation", "test"):
            for index in getattr(split, name):
                writer.writerow([items[index].id, name, items[index].text, items[index].tag])
    return path


def measure(command: list[str]) -> dict[str, Any]:
    """Run a command to its end: wall seconds, CPU seconds and peak resident MiB of it."""
    environment = {**os.environ, "PYTHONPATH": str(REPO_ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=REPO_ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{errors[-2000:]}")
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mib": round(usage.ru_maxrss / 1024),
    }


def our_scores(folder: Path, rows: Path) -> dict[str, float]:
    """Score the test rows' predictions of a run folder."""
    run = RunFolder(folder)
    predictions = read_predictions(folder / "predictions.csv", run.tags)
    with rows.open(encoding="utf-8", newline="") as file:
        tag_of = {row["id"]: row["tag"] for row in csv.DictReader(file) if row["split"] == "test"}
    truth = [run.tags.index(tag) for tag in tag_of.values()]
    predicted = [int(predictions[row_id].argmax()) for row_id in tag_of]
    scores = scores_from_confusion(confusion_matrix(truth, predicted, len(run.tags)))
    return {name: float(scores[name]) for name in ("macro_f1", "weighted_f1")}


def print_table(rounds: list[dict[str, dict[str, Any]]], startup: dict[str, float]) -> None:
    """Print medians over rounds, and ratios of wall time paired by round."""
    columns = ("seconds", "cpu_seconds", "peak_mib", "macro_f1", "weighted_f1")
    print("\n| command | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name in rounds[0]:
        medians = [statistics.median(measured[name][c] for measured in rounds) for c in columns]
        print(f"| {name} | " + " | ".join(f"{median:.4g}" for median in medians) + " |")
    print("\n| wall time | of Trainer fp32 (min, median, max) | of Trainer bf16 |")
    print("|---|---|---|")
    for name in OURS:
        cells = []
        for other in ("Trainer fp32", "Trainer bf16"):
            ratios = [measured[name]["seconds"] / measured[other]["seconds"] for measured in rounds]
            cells.append(f"{min(ratios):.3f}, {statistics.median(ratios):.3f}, {max(ratios):.3f}")
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(f"\nimports alone: ours {startup['ours']} s, Trainer {startup['Trainer']} s")


if __name__ == "__main__":
    main()
