"""What a GPU changes: training in bf16, its scores beside the CPU's, and a stream predicted there.

    python benchmarks/gpu.py --data DATASET.csv --stream STREAM.csv

One round of at most ten minutes, whole commands one after another. What fails is noted, and the
rest goes on. It has not been run on a GPU yet.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tagger.config.composition import compose_config, load_config
from tagger.config.schema import EncoderConfig, TrainConfig
from tagger.environment import describe_environment
from tagger.errors import exit_on_user_error
from tagger.files import REPO_ROOT, write_json
from tagger.models.encoders import locate_encoder
from training_cost import write_rows

SECONDS = 600


@exit_on_user_error
def main() -> None:
    """Run all steps, print and save how long each took and what it scored."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a labelled file")
    parser.add_argument("--stream", required=True, help="a file to predict")
    parser.add_argument("--device", default="cuda", help="default: %(default)s")
    parser.add_argument("--models", nargs="+", default=["minilm", "mpnet"])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/gpu"))
    options = parser.parse_args()
    out, python, ends = options.out, sys.executable, time.monotonic() + SECONDS
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"environment": describe_environment().model_dump()}
    for model in options.models:
        chosen = [f"model={model}", "data=file", f"data.path={options.data}"]
        given = [*chosen, f"training.epochs={options.epochs}", f"name={model}", f"runs_dir={out}"]
        config = load_config(TrainConfig, compose_config("train", given))
        assert isinstance(config.model, EncoderConfig)
        write_rows(config, out / f"{model}.csv")
        launch = [python, "-m", "accelerate.commands.launch", "--mixed_precision", "bf16"]
        launch += ["--num_processes", "1", "--num_machines", "1", "--dynamo_backend", "no"]
        evaluate = [python, "evaluate.py", f"run={out / model}", "explore=off", "behaviour=off"]
        evaluate += ["latency.items=10", "latency_budget_ms=null"]
        reports = {device: out / f"{model}-{device}" for device in ("cpu", options.device)}
        trainer = [python, "benchmarks/hf_trainer.py", "--rows", str(out / f"{model}.csv")]
        trainer += ["--encoder", str(locate_encoder(config.model)), "--bf16", "--seed", "0"]
        trainer += ["--epochs", str(options.epochs), "--lr", str(config.training.lr)]
        trainer += ["--batch-size", str(config.training.batch_size)]
        predict = [python, "-c", "from tagger.cli import main; main()", "predict"]
        predict += [
            "--run",
            str(out / model),
            "--input",
            options.stream,
            "--device",
            options.device,
        ]
        steps = {
            "train.py, bf16": [*launch, "train.py", *given, "if_exists=replace"],
            "transformers.Trainer, bf16": [*trainer, "--out", str(out / f"{model}-trainer")],
            **{
                f"evaluate, {device}": [*evaluate, f"device={device}", f"out={folder}"]
                for device, folder in reports.items()
            },
            "predict the stream": [
                *(*predict, "--input", options.stream),
                *("--output", str(out / f"{model}-stream.csv")),
            ],
        }
        results[model] = {name: run_step(step, ends) for name, step in steps.items()}
        for device, folder in reports.items():
            if (folder / "report.json").is_file():
                overall = json.loads((folder / "report.json").read_text())["overall"]
                results[model][f"macro F1, {device}"] = overall["macro_f1"]
        scores = out / f"{model}-trainer" / "scores.json"
        if scores.is_file():
            results[model]["macro F1, Trainer"] = json.loads(scores.read_text())["test_macro_f1"]
        write_json(out / "results.json", results)
    print(json.dumps(results, indent=2, default=str))


def run_step(command: list[str], ends: float) -> float | str:
    """Return the seconds that a command takes, or why it has none."""
    begun = time.monotonic()
    left = ends - begun
    if left <= 0:
        return f"left out: {SECONDS} s are over"
    try:
        done = subprocess.run(
            command, cwd=REPO_ROOT, capture_output=True, text=True, timeout=left, check=False
        )
    except subprocess.TimeoutExpired:
        return f"stopped: {SECONDS} s are over"
    if done.returncode:
        return f"exit code {done.returncode}: {done.stderr.strip()[-500:]}"
    return round(time.monotonic() - begun, 1)


if __name__ == "__main__":
    main()
